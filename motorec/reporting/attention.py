r"""Where attention went: how much a run's items listen to each modality, beside what the run is worth.

The hybrid fusion weighs an item's content channels by a softmax (`motorec.models.fusion.Attention`), which can end at
one of them. An ablation then changes two things at once: the part that it is named after, and what is listened to. The
share of modality m in a run is

.. math:: \bar a_m = \frac{1}{|I|} \sum_{i \in I} a_{im}

over the warm items I, or the cold ones; notebook 04 leaves it among the run's metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from motorec.reporting import tables
from motorec.reporting.codebooks import MODALITIES
from motorec.reporting.figures import GROUP_TITLES, MARKERS, grid, palette, themed

TARGETS = ("all", "cold")  # of test
RUN = ["model", "title", "seed"]


def attention_table(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The attention of each run that divides it between modalities, and between nothing else.

    Args:
        metrics: What `runs.load_metrics` gives, of one data set.
        metric: What a run is worth.

    Returns:
        A row per run, in the order of `metrics`: `model`, `title`, `seed`, `warm/<modality>` and `cold/<modality>` (the
        shares), `all/<metric>` and `cold/<metric>` (on test). Empty where no run has two modalities to choose from.
    """
    shares = metrics[metrics["split"] == "attention"]
    sources = {name: set(rows["metric"]) for name, rows in shares.groupby("model")}
    dividing = [name for name, between in sources.items() if len(between) > 1 and "id" not in between]
    test = metrics[(metrics["split"] == "test") & metrics["group"].isin(TARGETS) & (metrics["metric"] == metric)]
    found = pd.concat([shares, test.merge(shares[RUN].drop_duplicates())])
    found = found[found["model"].isin(dividing)]
    found = found.assign(column=found["group"] + "/" + found["metric"]).set_index([*RUN, "column"])
    wide = found["value"].unstack()  # noqa: PD010 - a value each
    modalities = sorted({modality for name in dividing for modality in sources[name]})
    columns = [f"{group}/{modality}" for modality in modalities for group in ("warm", "cold")]
    columns += [f"{group}/{metric}" for group in TARGETS]
    return metrics[RUN].drop_duplicates().merge(wide.reindex(columns=columns).reset_index(), on=RUN)


def modality_told(table: pd.DataFrame) -> str:
    """The modality whose share is shown: the first by name; with two of them, the other has the rest."""
    return next(column for column in table.columns if column.startswith("warm/")).removeprefix("warm/")


def cells(table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    """A row per model as a reader sees it: means over the runs, of shares with the least and the largest.

    Args:
        table: From `attention_table`.
        style: MARKDOWN or LATEX.
    """
    modality = modality_told(table)
    grouped = table.groupby("title", sort=False)
    shown = {"Model": list(grouped.groups), "Seeds": [str(count) for count in grouped.size()]}
    for group in ("warm", "cold"):
        shares = grouped[f"{group}/{modality}"]
        shown[f"Attention to {MODALITIES.get(modality, modality)}, {group} items"] = [
            f"{mean:.2f} ({low:.2f} to {high:.2f})"
            for mean, low, high in zip(shares.mean(), shares.min(), shares.max(), strict=True)
        ]
    for column in _worth(table):
        shown[tables.label(column)] = [f"{value:.4f}" for value in grouped[column].mean()]
    return pd.DataFrame(shown).map(style.escape).rename(columns=style.escape)


def correlations(table: pd.DataFrame, models: Sequence[str], within: bool = False) -> dict[str, float]:
    """How a warm item's attention to the modality told goes with what a run is worth, over the runs of some models.

    Args:
        table: From `attention_table`.
        models: Whose runs count.
        within: Take each model's means off first, so that nothing but its own seeds can make the correlation.

    Returns:
        Pearson's correlation by column, `all/<metric>` and `cold/<metric>`; not a number where either never varies, or
        there are fewer than three runs.
    """
    shares, worth = f"warm/{modality_told(table)}", _worth(table)
    runs = table[table["model"].isin(models)]
    values = runs[[shares, *worth]]
    if within:
        values = (values - values.groupby(runs["model"]).transform("mean")).round(12)  # what never varies is zero
    return {column: values[column].corr(values[shares], min_periods=3) for column in worth}


def told(table: pd.DataFrame, models: Sequence[str]) -> str:
    """What stands below the table: the correlations over the runs of some models, within them, and over all runs."""
    found = [correlations(table, models), correlations(table, models, within=True)]
    every = list(table["model"].unique())
    modality, runs = modality_told(table), int(table["model"].isin(models).sum())
    what = f"Over the {runs} runs of the full model and the ablations that the paper has, a warm item's attention to"
    what += f" {MODALITIES.get(modality, modality)}"
    if not _numbers(found[0]):
        return f"{what} does not vary."
    sentence = f"{what} correlates {_numbers(found[0])}"
    if _numbers(found[1]):
        sentence += f"; between the seeds of a variant, each variant's means taken off, {_numbers(found[1])}"
    if len(table) > runs:
        sentence += f"; over all {len(table)} runs, {_numbers(correlations(table, every))}"
    return f"{sentence}."


def _numbers(found: Mapping[str, float]) -> str:
    """Correlations in words; nothing where there is none."""
    return " and ".join(
        f"{value:+.2f}".replace("-", "−") + f" with {tables.label(column)}"
        for column, value in found.items()
        if not np.isnan(value)
    )


@themed
def attention(table: pd.DataFrame, titles: Mapping[str, str], title: str) -> Figure:
    """What runs are worth by how much their warm items listen to one modality: a point per run, a panel per group.

    Args:
        table: From `attention_table`.
        titles: Of the models that have a colour, by name; the others are grey. One without runs here is passed over.
        title: The data set's title.
    """
    modality, columns = modality_told(table), _worth(table)
    figure, axes = grid(1, len(columns), 3.9, 3.0, f"{title}: where attention went, and what the run is worth")
    others = table[~table["model"].isin(titles)]
    for axis, column in zip(axes[0], columns, strict=True):
        group, _, metric = column.partition("/")
        if len(others):
            axis.scatter(others[f"warm/{modality}"], others[column], s=14, color="0.7", label="other variants")
        for (name, label), colour, marker in zip(titles.items(), palette(), MARKERS, strict=False):
            runs = table[table["model"] == name]
            if runs.empty:
                continue
            axis.scatter(
                runs[f"warm/{modality}"],
                runs[column],
                s=34,
                color=[colour],
                marker=marker,
                edgecolor="white",
                linewidth=0.4,
                alpha=0.9,
                label=label,
            )
        axis.set_title(GROUP_TITLES[group])
        axis.set_xlabel(f"attention of warm items to {MODALITIES.get(modality, modality)}")
        axis.set_ylabel(tables.label(metric))
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, markerscale=1.2)
    return figure


def _worth(table: pd.DataFrame) -> list[str]:
    """The columns that say what a run is worth."""
    return [column for column in table.columns if "@" in column]
