"""What the sensitivity study found, as a table and two figures; from the files in `results/sensitivity/` alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from motorec import config, paths
from motorec.config import Varied
from motorec.errors import DataError
from motorec.reporting import tables
from motorec.reporting.figures import GROUP_TITLES, grid, palette, save_both, themed

GROUPS = ("all", "cold")
DRAWN = ("recall@20", "ndcg@20")  # a figure each
METRICS = tuple(f"{group}/{metric}" for group in GROUPS for metric in DRAWN)
SEED = "0.6"  # the grey of single seeds
COLUMNS = 5  # panels beside each other: more would be too small in print


def load(dataset: str) -> pd.DataFrame:
    """A row per parameter, value and seed, in the order of `params/sensitivity.yaml`; what is not run is left out.

    Raises:
        DataError: No parameter has been varied on this data set.
    """
    settings = config.load_sensitivity(dataset)
    files = {name: paths.sensitivity(dataset, name) for name in settings.vary}
    numbers = dict.fromkeys((*METRICS, "cold/users"), "")  # a value that is written "null" is no missing one
    frames = [
        pd.read_csv(file, dtype={"value": str, "reason": str}, keep_default_na=False, na_values=numbers).assign(
            parameter=name
        )
        for name, file in files.items()
        if file.is_file()
    ]
    if not frames:
        folder = paths.shown(paths.sensitivity(dataset, "").parent)
        raise DataError(f"{folder} holds no parameter's runs: `make sensitivity DATASET={dataset}` makes them.")
    return pd.concat(frames, ignore_index=True)


def over_seeds(rows: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Mean and interval of every value.

    Args:
        rows: What `load` gives.
        alpha: Intervals cover 1 - alpha: Student's t over seeds, which says how little a few of them tell.

    Returns:
        A row per parameter and value: `parameter`, `value` (as written), `default`, `seeds` (those whose training
        came to an end), and for each metric its mean and `<metric>_sd`, `_low`, `_high`; missing where there are too
        few seeds.
    """
    keys = ["parameter", "value", "default"]
    found = []
    for (parameter, value, default), part in rows.groupby(keys, sort=False):
        row = {"parameter": parameter, "value": value, "default": default, "seeds": int(part[METRICS[0]].count())}
        for metric in METRICS:
            known = part[metric].dropna()
            mean, sd, count = known.mean(), known.std(ddof=1), len(known)
            half = stats.t.ppf(1 - alpha / 2, count - 1) * sd / np.sqrt(count) if count > 1 else np.nan
            row |= {metric: mean, f"{metric}_sd": sd, f"{metric}_low": mean - half, f"{metric}_high": mean + half}
        found.append(row)
    return pd.DataFrame(found)


def cells(table: pd.DataFrame, parameters: Mapping[str, Varied], style: tables.Style) -> pd.DataFrame:
    """The table as a reader sees it: mean ± standard deviation, each parameter named once."""
    first = ~table["parameter"].duplicated()
    named = [
        f"${parameters[name].symbol}$, {style.escape(parameters[name].title)}" if shown else ""
        for name, shown in zip(table["parameter"], first, strict=True)
    ]
    shown = {
        "parameter": named,
        "value": [
            style.escape(f"{value} (default)" if default else value)
            for value, default in zip(table["value"], table["default"], strict=True)
        ],
        "seeds": [str(count) for count in table["seeds"]],
    }
    for metric in METRICS:
        pairs = zip(table[metric], table[f"{metric}_sd"], strict=True)
        shown[metric] = [style.escape(_with_spread(mean, sd)) for mean, sd in pairs]
    return pd.DataFrame(shown).rename(columns=lambda column: style.escape(tables.label(column)))


def _with_spread(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.4f}" if np.isnan(sd) else f"{mean:.4f} ± {sd:.4f}"


@themed
def curves(
    rows: pd.DataFrame, table: pd.DataFrame, parameters: Mapping[str, Varied], metric: str, title: str, alpha: float
) -> Figure:
    """A metric by value, two panels per parameter: all targets above, cold ones below, each on one scale for all.

    Values are evenly spaced, in their order; the default has a filled point, and a dashed line marks its mean. Bars
    are t-intervals over seeds. Thin lines are single seeds: where they go the same way, a change is more than the bars
    of means that share their seeds can tell.

    Args:
        rows: What `load` gives.
        table: What `over_seeds` makes of it.
        parameters: Symbols and titles.
        metric: "recall@20", say.
        title: What stands above.
        alpha: Intervals cover 1 - alpha.
    """
    names = list(table["parameter"].unique())
    columns = min(COLUMNS, len(names))
    blocks = -(-len(names) // columns)
    figure, axes = grid(len(GROUPS) * blocks, columns, 1.7, 1.45, title)
    for place, group in enumerate(GROUPS):
        column = f"{group}/{metric}"
        drawn = table[[column, f"{column}_low", f"{column}_high"]]
        low, high = np.nanmin(drawn.to_numpy()), np.nanmax(drawn.to_numpy())
        room = 0.06 * max(high - low, 1e-3)
        for index, axis in enumerate(axes[place :: len(GROUPS)].flat):
            if index >= len(names):
                axis.set_axis_off()
                continue
            here = table[table["parameter"] == names[index]]
            _curve(axis, here, column, palette()[place], "os"[place])
            _seeds(axis, rows[rows["parameter"] == names[index]], list(here["value"]), column)
            axis.set_ylim(max(0.0, low - room), high + room)
            axis.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            axis.tick_params(labelleft=index % columns == 0, labelbottom=place == len(GROUPS) - 1)
            if index % columns == 0:
                axis.set_ylabel(GROUP_TITLES[group])
            if place == 0:
                about = parameters[names[index]]
                axis.set_title(f"${about.symbol}$\n{about.title}", fontsize=9, pad=4)
    seeds = int(table["seeds"].max())
    interval = f" and {100 * (1 - alpha):g}% t-interval over {seeds} seeds" if seeds > 1 else ", one seed"
    handles = [
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", label=f"mean{interval}"),
        Line2D([], [], marker="o", linestyle="", color="0.3", label="default"),
        Line2D([], [], color="0.3", linestyle="--", label="the default's mean"),
    ]
    if seeds > 1:
        handles.append(Line2D([], [], color=SEED, linewidth=0.8, label="one seed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, columnspacing=1.2)
    return figure


def _curve(axis: Axes, here: pd.DataFrame, column: str, colour: tuple[float, float, float], marker: str) -> None:
    """One parameter's line."""
    x, mean = np.arange(len(here)), here[column].to_numpy()
    default = here["default"].to_numpy(dtype=bool)
    ends = np.abs(here[[f"{column}_low", f"{column}_high"]].to_numpy().T - mean)
    axis.axhline(float(mean[default][0]), color="0.3", linestyle="--", linewidth=0.9)
    axis.errorbar(x, mean, yerr=ends, color=colour, linewidth=1.6, elinewidth=1.1, capsize=2.5, zorder=3)
    faces = [colour if yes else (1.0, 1.0, 1.0) for yes in default]
    axis.scatter(x, mean, s=26, color=faces, edgecolor=[colour], linewidth=1.3, marker=marker, zorder=4)
    # ".001": without the zero the labels have room in letters that can still be read in print.
    axis.set_xticks(x, [re.sub(r"^0\.", ".", value) for value in here["value"]], fontsize=8.5)
    axis.set_xlim(-0.4, len(here) - 0.6)
    axis.grid(visible=False, axis="x")


def _seeds(axis: Axes, here: pd.DataFrame, values: list[str], column: str) -> None:
    """One parameter's line for each seed, if there are several."""
    by_seed = here.pivot_table(index="value", columns="seed", values=column).reindex(values)
    if by_seed.shape[1] > 1:
        axis.plot(np.arange(len(values)), by_seed, color=SEED, linewidth=0.8, zorder=2)


def write(dataset: str) -> list[Path]:
    """Write the joint table and the figures, `results/sensitivity/<dataset>` with their endings, and give the files.

    Raises:
        DataError: No parameter has been varied on this data set.
    """
    settings, alpha = config.load_sensitivity(dataset), config.load_report().alpha
    rows = load(dataset)
    table = over_seeds(rows, alpha)
    title, model = config.load_dataset(dataset).title, config.load_model(settings.model, dataset)
    target = paths.sensitivity(dataset, "").parent
    failed = rows[rows["reason"] != ""]
    notes = [
        f"{named[0]} = {named[1]}, seed {named[2]}: {named[3]}."
        for named in failed[["parameter", "value", "seed", "reason"]].itertuples(index=False)
    ]
    missing = [name for name in settings.vary if name not in set(rows["parameter"])]
    if missing:
        notes.append(f"Not run yet: {', '.join(missing)}.")
    caption = (
        f"{title}, validation: {model.title} with one setting changed at a time; mean ± standard deviation over seeds. "
        f"Epochs were chosen on the same split, by {model.training.metric}; the test "
        f"split took no part. Users with a cold target: {rows['cold/users'].max():.0f}."
    )
    written = [tables.write(table, lambda style: cells(table, settings.parameters, style), caption, target, notes)]
    for place, metric in enumerate(DRAWN):
        heading = f"{title}: {tables.label(metric)} on validation, one setting of {model.title} changed"
        figure = curves(rows, table, settings.parameters, metric, heading, alpha)
        name = dataset if place == 0 else f"{dataset}-{metric.partition('@')[0]}"
        written.append(save_both(figure, target.with_name(f"{name}.png")))
    return written
