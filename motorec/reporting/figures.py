"""Figures of the report. Each function draws one and returns it; `save` writes it, the same bytes every time.

Colours are seaborn's colour-blind palette. Sizes are in inches of print: text stays readable at a page's width.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import Any, Literal, ParamSpec

import numpy as np
import pandas as pd
from cycler import cycler
from jaxtyping import Int
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from motorec import paths
from motorec.reporting.runs import ORACLE
from motorec.reporting.tables import label

Arguments = ParamSpec("Arguments")
Colour = tuple[float, float, float]
LineStyle = Literal["-"] | tuple[float, tuple[float, ...]]

DPI = 160
GROUP_TITLES = {"all": "all targets", "cold": "cold targets", "warm": "warm targets"}
MARKERS = "osD^vPX<>*"
STYLES: dict[str, LineStyle] = {
    "solid": "-",
    "dashed": (0.0, (4.0, 1.5)),
    "dotted": (0.0, (1.0, 1.2)),
    "dash-dot": (0.0, (5.0, 1.2, 1.0, 1.2)),
    "long": (0.0, (9.0, 2.0)),
}
# How each loss is drawn, in every figure: a place in the palette (None: black) and a style, no two the same. Losses of
# one model have different styles. The palette's pink and yellow are too faint for a line.
LOSSES: dict[str, tuple[int | None, str]] = {
    "loss": (None, "solid"),
    "bpr": (0, "dashed"),
    "l2": (2, "long"),
    "infonce": (1, "dash-dot"),
    "tokenizer": (3, "dotted"),
    "softmax": (5, "dashed"),
    "text": (4, "dash-dot"),
    "image": (9, "dotted"),
    "task": (4, "dotted"),
    "reconstruction": (7, "dashed"),
    "likelihood": (0, "dotted"),
    "divergence": (3, "dash-dot"),
    "diffusion": (1, "dashed"),
}
# What a loss is called where its key is no word of the field.
LOSS_NAMES = {"loss": "loss (sum)", "bpr": "BPR", "l2": "L2 penalty", "infonce": "InfoNCE"}
NEARLY_ALL = 0.01  # by how much a loss may differ from its one term before both are drawn


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, all or nothing; PNG or PDF by the file's ending, without dates and versions.

    Returns:
        The path.
    """
    without = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
    content = io.BytesIO()
    # TrueType letters, which journals ask for and readers can search; matplotlib's own choice is Type 3.
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(content, format=path.suffix[1:], dpi=DPI, metadata=without[path.suffix], bbox_inches="tight")
    paths.write_whole(path, content.getvalue())
    return path


def save_both(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG for screens and as PDF, beside it, for print.

    Args:
        figure: The figure.
        path: The PNG file.

    Returns:
        The PNG file.
    """
    save(figure, path)  # first: each writing moves the panels by a hair, and the PNG is to be what `save` alone writes
    save(figure, path.with_suffix(".pdf"))
    return path


def _theme() -> list[Any]:
    import seaborn as sns

    look = {**sns.axes_style("whitegrid"), **sns.plotting_context("paper", font_scale=1.15)}
    return ["default", look, {"axes.titlesize": 11, "axes.titlepad": 8, "axes.prop_cycle": cycler(color=palette())}]


def set_theme() -> None:
    """Give everything that is drawn from now on the look of the report: for the notebooks' own plots."""
    style.use(_theme())


def themed(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in the report's style, whatever the reader's own matplotlib settings are, and leave those as they were."""

    @wraps(draw)
    def themed(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with style.context(_theme()):
            return draw(*args, **kwargs)

    return themed


def palette() -> list[Colour]:
    """Ten colours that the colour-blind can tell apart."""
    import seaborn as sns

    return list(sns.color_palette("colorblind"))


def grid(
    rows: int, columns: int, width: float, height: float, title: str, share_y: bool = False
) -> tuple[Figure, np.ndarray]:
    """Panels of one size, in inches, under a title that never meets them."""
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure, axes


@themed
def accuracy(
    metrics: pd.DataFrame,
    headline: Sequence[str],
    titles: dict[str, str],
    groups: Sequence[str] = ("all", "cold"),
) -> Figure:
    """Bars of each model on all and on cold targets: a row of panels per metric, a column per data set.

    Whiskers are the standard deviation over seeds, where there are several; dashed lines are the oracle.

    Args:
        metrics: What `runs.load_metrics` gives. Ablations are left out.
        headline: The metrics.
        titles: The data sets' titles by name, in order.
        groups: The target groups.
    """
    test = metrics[(metrics["split"] == "test") & (metrics["role"] != "ablation")]
    models = test.loc[test["model"] != ORACLE, ["model", "title"]].drop_duplicates("model").set_index("model")["title"]
    # One data set: its metrics side by side. Several: a column each, so that models stay in line.
    panels = [(name, metric) for metric in headline for name in titles]
    rows = 1 if len(titles) == 1 else len(headline)
    columns = len(panels) // rows
    title = f"{next(iter(titles.values()))}: test accuracy" if len(titles) == 1 else "Test accuracy"
    figure, axes = grid(rows, columns, 3.6, 0.42 * len(models) + 0.6, title, share_y=True)
    colours = palette()
    thickness = 0.8 / len(groups)
    for axis, (name, metric) in zip(axes.flat, panels, strict=True):
        here = test[(test["dataset"] == name) & (test["metric"] == metric)]
        for place, group in enumerate(groups):
            by_model = here[here["group"] == group].groupby("model")["value"]
            mean, sd = by_model.mean(), by_model.std(ddof=1)
            height = np.arange(len(models)) + (place - (len(groups) - 1) / 2) * thickness
            axis.barh(
                height,
                mean.reindex(models.index),
                thickness,
                xerr=sd.reindex(models.index),
                color=colours[place],
                error_kw={"elinewidth": 1.2, "capsize": 2, "ecolor": "0.15"},
            )
            if ORACLE in mean:
                axis.axvline(mean[ORACLE], color=colours[place], linestyle="--", linewidth=1.5)
        axis.set_yticks(np.arange(len(models)), models)
        axis.set_xlabel(label(metric))
        axis.grid(visible=False, axis="y")
        axis.set_xlim(left=0)
        axis.set_ylim(len(models) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if len(titles) > 1 and metric == headline[0]:
            axis.set_title(titles[name])
    handles: list[Patch | Line2D] = [
        Patch(color=colours[place], label=GROUP_TITLES.get(group, group)) for place, group in enumerate(groups)
    ]
    if (test["model"] == ORACLE).any():
        handles.append(Line2D([], [], color="0.3", linestyle="--", label="oracle"))
    handles += whisker(test.groupby(["dataset", "model"])["seed"].nunique())
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def whisker(seeds: pd.Series) -> list[Line2D]:
    """The legend's entry for whiskers that are standard deviations over seeds; none where nothing has two seeds.

    Args:
        seeds: How many seeds each thing drawn has.
    """
    several = seeds[seeds > 1]
    if several.empty:
        return []
    text = f"± standard deviation over {_spans(several)} seeds"
    return [Line2D([], [], color="0.15", linewidth=1.2, marker="|", markersize=6, label=text)]


@themed
def training(history: pd.DataFrame, title: str) -> Figure:
    """Losses above and validation below, by epoch, a column per trained model.

    Thin lines are single seeds; the thick one is their mean, as far as every seed trained. A loss looks the same in
    every figure. The sum of a model's losses is left out where one of them is nearly all of it and would hide it.

    Args:
        history: What `runs.load_history` gives, of one data set.
        title: The data set's title.
    """
    models = history[["model", "title"]].drop_duplicates("model")
    curves = [c for c in history.columns if c not in ("model", "title", "seed", "epoch")]
    valid = [c for c in curves if c.startswith("valid")]
    losses = [c for c in curves if c not in valid]
    looks = loss_looks(losses)
    shades = np.linspace(0.15, 0.65, len(valid))
    looks |= {curve: ((shade,) * 3, STYLES["solid"]) for curve, shade in zip(valid, shades, strict=True)}
    drawn: set[str] = set(valid)
    figure, axes = grid(2, len(models), max(2.7, 6.0 / len(models)), 2.1, f"{title}: training")
    for column, (name, model_title) in enumerate(zip(models["model"], models["title"], strict=True)):
        here = history[history["model"] == name].dropna(axis="columns", how="all")
        top, bottom = axes[:, column]
        top.set_title(model_title)
        shown = _losses_shown(here, [loss for loss in losses if loss in here])
        drawn.update(shown)
        for axis, group in ((top, shown), (bottom, [one for one in valid if one in here])):
            for curve in group:
                _curve(axis, here, curve, *looks[curve])
        if all((here[loss].dropna() > 0).all() for loss in shown):
            top.set_yscale("log")
            low, high = top.get_ylim()
            top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
            top.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            top.yaxis.set_minor_formatter(NullFormatter())
        top.tick_params(labelbottom=False)
        bottom.sharex(top)
        bottom.sharey(axes[1, 0])  # the models' validation can be compared, their losses cannot
        bottom.tick_params(labelleft=column == 0)
        bottom.set_xlabel("epoch")
    axes[1, 0].set_ylim(0, 1.08 * history[valid].max().max())
    axes[0, 0].set_ylabel("loss")
    metrics = {curve: label(curve.removeprefix("valid/")) for curve in valid}
    axes[1, 0].set_ylabel("validation" if len(valid) > 1 else f"validation,\n{metrics[valid[0]]}")
    names = {loss: LOSS_NAMES.get(loss, loss) for loss in losses}
    names |= {curve: f"below: {metric}" for curve, metric in metrics.items() if len(valid) > 1}
    handles = [
        Line2D([], [], color=looks[curve][0], linestyle=looks[curve][1], label=name, linewidth=2)
        for curve, name in names.items()
        if curve in drawn
    ]
    seeds = history.groupby("model")["seed"].nunique()
    if seeds.max() > 1:
        text = f"thick: mean of {_spans(seeds[seeds > 1])} seeds, as long as all train"
        handles.append(Line2D([], [], color="0.3", linewidth=0.8, label="thin: one seed"))
        handles.append(Line2D([], [], color="0.3", linewidth=2, label=text))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False, handlelength=3
    )
    return figure


def loss_looks(losses: Sequence[str]) -> dict[str, tuple[Colour, LineStyle]]:
    """Colour and line style of each loss: those of `LOSSES`, and for others what these leave, no two alike."""
    colours = palette()
    free = [(colour, style) for style in STYLES for colour in (2, 0, 3, 1, 4, 5, 7, 9)]
    free = [look for look in free if look not in LOSSES.values()]
    unknown = sorted(set(losses) - set(LOSSES))
    chosen = LOSSES | dict(zip(unknown, free, strict=False))
    looks = {loss: chosen[loss] for loss in losses}
    return {
        loss: ((0.0, 0.0, 0.0) if place is None else colours[place], STYLES[style])
        for loss, (place, style) in looks.items()
    }


def _losses_shown(history: pd.DataFrame, losses: list[str]) -> list[str]:
    """A model's losses without their sum, where one of them is nearly all of it."""
    terms = [loss for loss in losses if loss != "loss"]
    if "loss" not in losses:
        return terms
    apart = [(history[term] - history["loss"]).abs().max() for term in terms]
    return terms if min(apart, default=np.inf) <= NEARLY_ALL * history["loss"].abs().max() else losses


def _spans(counts: pd.Series) -> str:
    """Counts, as a reader sees them: "3", or "3 to 5"."""
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _curve(axis: Axes, history: pd.DataFrame, column: str, colour: Colour, style: LineStyle) -> None:
    by_seed = history.pivot_table(index="epoch", columns="seed", values=column).dropna(how="all")
    if by_seed.empty:
        return
    if by_seed.shape[1] > 1:
        axis.plot(by_seed.index, by_seed.interpolate(limit_area="inside"), color=colour, linewidth=0.7, alpha=0.5)
    mean = by_seed.dropna().mean(axis=1)
    axis.plot(mean.index, mean, color=colour, linewidth=1.8, linestyle=style)


def _pale(colour: Colour) -> Colour:
    """A colour on its way to white."""
    red, green, blue = (0.35 * part + 0.65 for part in colour)
    return red, green, blue


@themed
def ablation(comparison: pd.DataFrame, titles: dict[str, str], reference: str, title: str, alpha: float) -> Figure:
    """What is lost or won without each part: differences to the full model with their intervals, a panel per group.

    A filled point differs from the full model over users, after Holm's correction, and over seeds too; a pale one over
    users alone: it may be the seeds' doing. A hollow one differs over neither, or over seeds alone.

    Args:
        comparison: `evaluation.compare` of the ablations with the full model.
        titles: The ablations' titles by name, in order.
        reference: The full model's title.
        title: The data set's title.
        alpha: Level of the tests.
    """
    groups, metrics = comparison["group"].unique(), comparison["metric"].unique()
    figure, axes = grid(
        1, len(groups), 3.9, 0.42 * len(titles) + 0.9, f"{title}: difference to {reference}", share_y=True
    )
    colours = palette()
    step = 0.5 / len(metrics)
    order = list(titles)
    for axis, group in zip(axes[0], groups, strict=True):
        axis.axvline(0.0, color="0.3", linewidth=1)
        for place, metric in enumerate(metrics):
            here = comparison[(comparison["group"] == group) & (comparison["metric"] == metric)]
            height = np.array([order.index(name) for name in here["model"]]) + (place - (len(metrics) - 1) / 2) * step
            axis.hlines(height, here["low"], here["high"], color=colours[place], linewidth=1.8)
            axis.scatter(
                here["difference"],
                height,
                s=34,
                zorder=3,
                marker=MARKERS[place],
                facecolor=[
                    "white" if not over_users else colours[place] if over_seeds < alpha else _pale(colours[place])
                    for over_users, over_seeds in zip(here["significant"], here["p_seeds"], strict=True)
                ],
                edgecolor=[colours[place]],
                linewidth=1.4,
            )
        axis.set_title(GROUP_TITLES.get(group, group))
        axis.set_xlabel("difference (left: worse)")
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axis.set_yticks(np.arange(len(order)), [fill(name, 40) for name in titles.values()])
        axis.grid(visible=False, axis="y")
    axes[0, 0].set_ylim(len(order) - 0.4, -0.6)
    handles = [
        Line2D([], [], color=colours[place], marker=MARKERS[place], linewidth=1.8, label=label(metric))
        for place, metric in enumerate(metrics)
    ]
    grey = (0.3, 0.3, 0.3)
    for face, what in (
        (grey, f"p < {alpha:g} over users (Holm) and over seeds"),
        (_pale(grey), f"p < {alpha:g} over users alone"),
        ("white", f"p ≥ {alpha:g} over users"),
    ):
        handles.append(Line2D([], [], color=grey, marker="o", markerfacecolor=face, linestyle="", label=what))
    handles.append(Line2D([], [], color="0.3", linewidth=1.8, label=f"{100 * (1 - alpha):g}% interval over users"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


@themed
def comparison(table: pd.DataFrame, titles: dict[str, str], reference: str, title: str, alpha: float) -> Figure:
    """Who is better than the reference and who is not: differences with their intervals, best on top.

    A row of panels per metric, a column per target group, all panels with the models in the order of the first one.
    The colour is the verdict: better, worse, or neither proven after Holm's correction. Intervals are of single
    differences, uncorrected.

    Args:
        table: `evaluation.compare` of the models with the reference.
        titles: The models' titles by name.
        reference: The reference's title.
        title: The data set's title.
        alpha: Level of the tests.
    """
    groups, metrics = list(table["group"].unique()), list(table["metric"].unique())
    lead = table[(table["group"] == groups[0]) & (table["metric"] == metrics[0])]
    order = lead.sort_values("difference", ascending=False, kind="stable")["model"].tolist()
    heading = f"{title}: every model against {reference}"
    height = 0.23 * len(order) + 0.8
    figure, axes = grid(len(metrics), len(groups), 4.1, height, heading, share_y=True)
    colours = palette()
    verdicts = {"better": (colours[0], "o"), "no proof": ((0.55, 0.55, 0.55), "D"), "worse": (colours[1], "s")}
    seen: set[str] = set()
    for row, metric in zip(axes, metrics, strict=True):
        for axis, group in zip(row, groups, strict=True):
            here = table[(table["group"] == group) & (table["metric"] == metric)].set_index("model").reindex(order)
            verdict = np.where(~here["significant"].astype(bool), "no proof", "worse")
            verdict[here["significant"].astype(bool) & (here["difference"] > 0)] = "better"
            axis.axvline(0.0, color="0.2", linewidth=1.2)
            for name, (colour, marker) in verdicts.items():
                rows = np.flatnonzero(verdict == name)
                part = here.iloc[rows]
                axis.hlines(rows, part["low"], part["high"], color=colour, linewidth=2.2)
                axis.scatter(part["difference"], rows, s=26, zorder=3, color=[colour], marker=marker)
            axis.set_title(f"{label(metric)}, {GROUP_TITLES.get(group, group)}")
            axis.set_yticks(np.arange(len(order)), [titles[name] for name in order])
            axis.set_ylim(len(order) - 0.5, -0.5)
            axis.grid(visible=False, axis="y")
            axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.set_xlabel("difference (left: worse)")
            seen.update(verdict)
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            linewidth=2.2,
            label=f"{name} (Holm's p {'≥' if name[0] == 'n' else '<'} {alpha:g})",
        )
        for name, (colour, marker) in verdicts.items()
        if name in seen
    ]
    interval = f"{100 * (1 - alpha):g}% interval over users, uncorrected"
    handles.append(Line2D([], [], color="0.3", linewidth=2.2, label=interval))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


@themed
def popularity(degrees: Int[np.ndarray, " items"], cold_below: int, title: str) -> Figure:
    """The long tail: training interactions of every item, the most popular first, and where cold begins.

    Args:
        degrees: Training interactions of each item.
        cold_below: An item with fewer is cold.
        title: The data set's title.
    """
    tail = np.sort(degrees)[::-1]
    n_warm = int((tail >= cold_below).sum())
    figure, axes = grid(1, 1, 5.6, 2.8, f"{title}: popularity of the items")
    axis, colours = axes[0, 0], palette()
    for start, end, colour, name in ((0, n_warm, colours[0], "warm"), (n_warm, len(tail), colours[1], "cold")):
        share = tail[start:end].sum() / max(1, tail.sum())
        text = f"{name}: {end - start:,} items, {100 * share:.0f}% of the training interactions"
        axis.stairs(tail[start:end], np.arange(start, end + 1), fill=True, color=colour, label=text)
    axis.axhline(cold_below, color="0.3", linestyle="--", linewidth=1, label=f"cold below {cold_below}")
    axis.set_yscale("symlog", linthresh=1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlim(0, len(tail))
    axis.set_ylim(bottom=0)
    axis.set_xlabel("items, the most popular first")
    axis.set_ylabel("training interactions")
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure
