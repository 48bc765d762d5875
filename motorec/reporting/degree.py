"""Accuracy by how often the item to be found was taken in training: who serves the rare items, as numbers and a figure.

The intervals are over users: in the rarest buckets there are few, and which users these happen to be moves a mean more
than another seed does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from motorec.evaluation.evaluate import bucket_names
from motorec.evaluation.significance import interval
from motorec.reporting.figures import MARKERS, grid, palette, themed
from motorec.reporting.runs import ORACLE
from motorec.reporting.tables import label

# Round numbers that a square-root axis leaves room for.
TICKS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WIDTH = 0.78  # of a bucket, that its models take


def by_degree(
    runs: Mapping[str, Sequence[pd.DataFrame]],
    metrics: Sequence[str],
    edges: tuple[int, ...],
    alpha: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Each model's metrics in each bucket of training degree.

    Args:
        runs: By model, the per-user values of its seeds on one split (`runs.load_per_user`).
        metrics: Columns of the per-user values, such as "recall@20".
        edges: `EvaluationSettings.degree_edges`.
        alpha: The intervals cover 1 - alpha.
        resamples: Bootstrap draws of users.
        seed: Of the bootstrap.

    Returns:
        A row per bucket, metric and model: `group` (the bucket), `metric`, `model`, `users` (with a target in the
        bucket), `mean` (over users, each averaged over seeds), `low` and `high` (its percentile bootstrap interval).
        A bucket without a target has none.
    """
    rows = []
    for group in bucket_names(edges):
        values = [
            pd.concat([frame[frame["group"] == group] for frame in frames]).groupby("user")[list(metrics)].mean()
            for frames in runs.values()
        ]
        users = len(values[0])
        if users == 0:
            continue
        stacked = np.stack([one.to_numpy() for one in values], axis=1)
        low, high = interval(stacked, alpha, resamples, seed, f"degree/{group}")
        rows += [
            {
                "group": group,
                "metric": metric,
                "model": name,
                "users": users,
                "mean": stacked[:, m, j].mean(),
                "low": low[m, j],
                "high": high[m, j],
            }
            for j, metric in enumerate(metrics)
            for m, name in enumerate(runs)
        ]
    return pd.DataFrame(rows, columns=["group", "metric", "model", "users", "mean", "low", "high"])


@themed
def degree(table: pd.DataFrame, titles: Mapping[str, str], title: str, alpha: float) -> Figure:
    """The table drawn, a panel per metric: in each bucket the models side by side, in the order of the legend.

    The axis is of square roots, as the rare items' values are small and the point of it. The oracle would take most of
    its height: its values stand above the buckets.

    Args:
        table: From `by_degree`.
        titles: The models' titles by name.
        title: The data set's title.
        alpha: As in `by_degree`.
    """
    metrics, buckets = list(table["metric"].unique()), list(table["group"].unique())
    models = [name for name in table["model"].unique() if name != ORACLE]
    users = table.groupby("group")["users"].first()
    figure, axes = grid(1, len(metrics), 4.6, 3.4, f"{title}: accuracy by popularity of the target")
    places = np.arange(len(buckets))
    for axis, metric in zip(axes[0], metrics, strict=True):
        here = table[table["metric"] == metric].set_index("model")
        for place, name in enumerate(models):
            one = here.loc[[name]]
            shift = (place - (len(models) - 1) / 2) * WIDTH / len(models)
            axis.errorbar(
                places + shift,
                one["mean"],
                yerr=[one["mean"] - one["low"], one["high"] - one["mean"]],
                color=palette()[place % 10],
                marker=MARKERS[place % len(MARKERS)],
                markersize=6.5,
                linestyle="",  # lines would run through the buckets' other models
                elinewidth=1.8,
                clip_on=False,  # a model that finds nothing stands on the axis
                label=titles[name],
            )
        axis.vlines(places[1:] - 0.5, 0, 1, transform=axis.get_xaxis_transform(), color="0.8", linewidth=1)
        axis.set_xticks(places, [f"{_span(name)}\n({users[name]:,})" for name in buckets])
        axis.set_xlim(-0.5, len(buckets) - 0.5)
        axis.set_xlabel("target's training interactions (users)")
        axis.grid(visible=False, axis="x")
        axis.set_title(label(metric))
        _square_roots(axis, here.loc[models, "high"].max())
        if ORACLE in here.index:
            above = axis.secondary_xaxis("top")
            above.set_xticks(places, [f"{value:.2f}" for value in here.loc[[ORACLE], "mean"]], color="0.35")
            above.set_xlabel(f"{titles[ORACLE]}, not drawn:", color="0.35", fontsize=9)
            above.tick_params(length=0)
    axes[0, 0].set_ylabel("mean over users\n(square-root axis)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="0.3", linestyle="", marker="|", markersize=13, markeredgewidth=1.8))
    names.append(f"{100 * (1 - alpha):g}% interval over users")
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), frameon=False)
    return figure


def _square_roots(axis: Axes, highest: float) -> None:
    """Make the y-axis one of square roots, from 0 to a bit above the highest value."""
    top = 1.06 * max(highest, 0.01)
    axis.set_yscale("function", functions=(lambda value: np.sqrt(np.maximum(value, 0.0)), np.square))
    axis.set_ylim(0, top)
    shown = [tick for tick in TICKS if tick <= top]
    axis.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axis.set_yticks([], minor=True)


def _span(bucket: str) -> str:
    span = bucket.removeprefix("deg")
    return f"{span.removesuffix('plus')}+" if span.endswith("plus") else span.replace("-", "–")
