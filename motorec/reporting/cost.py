"""The figure of accuracy against cost: what a model's training buys."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from motorec.reporting.figures import grid, palette, themed
from motorec.reporting.pointnames import write_names
from motorec.reporting.tables import label

METRIC = "recall@20"
SECONDS = "seconds_fit"
SIZES = (0.0, 1e5, 1e7)  # parameters of the models in the legend


@themed
def cost(table: pd.DataFrame, title: str) -> Figure:
    """Recall@20 against the seconds that fitting takes, one point a model, its area by the number of parameters.

    The line is the best that can be had for at most so many seconds. The axis is linear up to a second and logarithmic
    above: what takes no time needs no room.

    Args:
        table: What `efficiency.efficiency` gives, or its CSV file. Models without times are left out.
        title: The data set's title.
    """
    timed = table[table[SECONDS].notna() & (table[SECONDS] > 0)].sort_values(SECONDS, kind="stable")
    seconds, quality = timed[SECONDS].to_numpy(dtype=float), timed[METRIC].to_numpy(dtype=float)
    trained = timed["epochs"].notna().to_numpy()
    figure, axes = grid(1, 1, 7.6, 6.0, f"{title}: accuracy against cost")
    axis, colours = axes[0, 0], palette()
    best = frontier(quality)
    sizes = np.array([area(count) for count in timed["parameters"].fillna(0)])
    axis.plot(seconds[best], quality[best], color="0.6", linewidth=1.2, drawstyle="steps-post", zorder=1)
    for chosen, colour, marker in ((trained, colours[0], "o"), (~trained, colours[1], "s")):
        axis.scatter(
            seconds[chosen],
            quality[chosen],
            s=sizes[chosen],
            color=[colour],
            marker=marker,
            edgecolor="white",
            linewidth=0.8,
            alpha=0.85,
            zorder=3,
        )
    axis.set_xscale("symlog", linthresh=1.0, linscale=0.6)
    # Room for the names.
    axis.set_xlim(-0.15, max(1.0, seconds.max()) * 3)
    axis.set_ylim(quality.min() - 0.09 * np.ptp(quality) - 1e-3, quality.max() + 0.09 * np.ptp(quality) + 1e-3)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("seconds to fit, validation not counted (median over seeds);\nlinear up to 1, logarithmic above")
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
    corners = np.column_stack([np.repeat(seconds[best], 2)[1:], np.repeat(quality[best], 2)[:-1]])
    write_names(axis, np.column_stack([seconds, quality]), timed["title"].tolist(), sizes, corners)
    return figure


def area(parameters: float) -> float:
    """A point's area: it grows by the same with each power of ten, so that small models stay visible."""
    return 16.0 + 14.0 * max(0.0, np.log10(max(parameters, 1.0)) - 3.0)


def _parameters(count: float) -> str:
    if count == 0:
        return "no parameters"
    return f"{count / 1e6:g} million parameters" if count >= 1e6 else f"{count:,.0f} parameters"


def frontier(quality: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which models are better than every faster one; they come in the order of their cost, the fastest first."""
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(quality)[:-1]])
    return quality > best_before
