"""The figure of accuracy against cost: what a model's training buys."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from motorec.reporting.figures import grid, palette, themed
from motorec.reporting.tables import label

METRIC = "recall@20"
SECONDS = "seconds_fit"
SIZES = (1e4, 1e6, 1e8)  # parameters of the models in the legend
DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)]


@themed
def cost(table: pd.DataFrame, title: str) -> Figure:
    """Recall@20 against the seconds that fitting takes, one point a model, its area by the number of parameters.

    The line is the best that can be had for at most so many seconds.

    Args:
        table: What `efficiency.efficiency` gives, or its CSV file. Models without times are left out.
        title: The data set's title.
    """
    timed = table[table[SECONDS].notna() & (table[SECONDS] > 0)].sort_values(SECONDS, kind="stable")
    seconds, quality = timed[SECONDS].to_numpy(dtype=float), timed[METRIC].to_numpy(dtype=float)
    trained = timed["epochs"].notna().to_numpy()
    figure, axes = grid(1, 1, 6.8, 4.6, f"{title}: accuracy against cost")
    axis, colours = axes[0, 0], palette()
    best = frontier(quality)
    axis.plot(seconds[best], quality[best], color="0.6", linewidth=1.2, drawstyle="steps-post", zorder=1)
    for chosen, colour, marker in ((trained, colours[0], "o"), (~trained, colours[1], "s")):
        axis.scatter(
            seconds[chosen],
            quality[chosen],
            s=[area(count) for count in timed.loc[chosen, "parameters"].fillna(0)],
            color=[colour],
            marker=marker,
            edgecolor="white",
            linewidth=0.8,
            alpha=0.85,
            zorder=3,
        )
    axis.set_xscale("log")
    # Room for the names.
    axis.set_xlim(seconds.min() / 2.5, seconds.max() * 4)
    axis.set_ylim(quality.min() - 0.07 * np.ptp(quality) - 1e-3, quality.max() + 0.09 * np.ptp(quality) + 1e-3)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("seconds to fit, validation not counted (median over seeds)")
    axis.set_ylabel(f"{label(METRIC)}, test, all targets")
    handles = [
        Line2D([], [], color=colours[0], marker="o", linestyle="", markersize=7, label="trained"),
        Line2D([], [], color=colours[1], marker="s", linestyle="", markersize=7, label="in closed form"),
        Line2D([], [], color="0.6", linewidth=1.2, label="best for the time"),
        *(
            Line2D([], [], color="0.6", marker="o", linestyle="", markersize=area(n) ** 0.5, label=_parameters(n))
            for n in SIZES
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.draw_without_rendering()  # places the axes, so that names can be put where there is room
    _name(figure, seconds, quality, timed["title"].tolist(), [area(n) for n in timed["parameters"].fillna(0)])
    return figure


def area(parameters: float) -> float:
    """A point's area: it grows by the same with each power of ten, so that small models stay visible."""
    return 16.0 + 14.0 * max(0.0, np.log10(max(parameters, 1.0)) - 3.0)


def _parameters(count: float) -> str:
    return f"{count / 1e6:g} million parameters" if count >= 1e6 else f"{count:,.0f} parameters"


def frontier(quality: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which models are better than every faster one; they come in the order of their cost, the fastest first."""
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(quality)[:-1]])
    return quality > best_before


def _name(
    figure: Figure, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], names: list[str], areas: list[float]
) -> None:
    """Write each point's name where it covers no point and no other name, or else where it covers the least."""
    axis, scale = figure.axes[0], figure.dpi / 72  # pixels of a typographic point, in which text is placed
    points = axis.transData.transform(np.column_stack([x, y]))
    radii = np.sqrt(areas) / 2
    taken = [
        Bbox.from_extents(*(point - scale * radius), *(point + scale * radius))
        for point, radius in zip(points, radii, strict=True)
    ]
    frame = axis.get_window_extent().frozen()
    for at, radius, name in zip(zip(x, y, strict=True), radii, names, strict=True):
        tried: list[tuple[float, Annotation, Bbox]] = []
        for distance in (1.0, 2.5, 4.0, 6.0):
            for right, up in DIRECTIONS:
                text = axis.annotate(
                    name,
                    at,
                    (distance * (radius + 2) * right, distance * (radius + 2) * up),
                    textcoords="offset points",
                    fontsize=7.5,
                    ha=("center", "left", "right")[int(np.sign(right))],
                    va=("center", "bottom", "top")[int(np.sign(up))],
                    arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
                    zorder=4,
                    path_effects=[withStroke(linewidth=2.5, foreground="white")],
                )
                text.get_window_extent()  # puts it in its place; what it gives has the arrow in it
                box = Text.get_window_extent(text)
                outside = box.width * box.height - _overlap(box, frame)
                covered = sum(_overlap(box.padded(1), other) for other in taken)
                text.set_in_layout(False)  # the panel is to stay where it is
                tried.append((covered + 10 * outside + distance, text, box))
        # Ties go to the nearest place, and there to the right.
        chosen = min(range(len(tried)), key=lambda place: tried[place][0])
        taken.append(tried[chosen][2])
        for place, (_, text, _) in enumerate(tried):
            if place != chosen:
                text.remove()


def _overlap(one: Bbox, other: Bbox) -> float:
    common = Bbox.intersection(one, other)
    return 0.0 if common is None else common.width * common.height
