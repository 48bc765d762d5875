"""The numbers that the paper reports beside ours, on its own data sets (`params/paper.yaml`).

Theirs come from other features and another split: the two stand side by side and are not ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pydantic import Field

from motorec import paths
from motorec.config import Name, Settings, load_ablations, load_dataset, parse, read_yaml
from motorec.errors import ParamsError, nearest
from motorec.reporting import tables
from motorec.reporting.runs import ExpectedRun, load_metrics

FILE = "params/paper.yaml"


class PaperSettings(Settings):
    """`params/paper.yaml`.

    Attributes:
        source: The paper.
        titles: Of models that are not here.
        reported: By data set and model, test metrics as `<group>/<metric>@<k>`.
    """

    source: str
    titles: dict[Name, str] = Field(default_factory=dict)
    reported: dict[Name, dict[Name, dict[str, float]]]


def load_paper() -> PaperSettings:
    """Read `params/paper.yaml`.

    Raises:
        ParamsError: A key is wrong, a data set has no settings, or a model is unknown and has no title.
    """
    settings = parse(PaperSettings, read_yaml(paths.root() / "params" / "paper.yaml"), FILE)
    known = {file.stem for file in (paths.root() / "params" / "models").glob("*.yaml")} | set(load_ablations())
    for dataset, models in settings.reported.items():
        load_dataset(dataset)
        for name in models:
            if name not in known | set(settings.titles):
                raise ParamsError(
                    f"{FILE}: {dataset} names {name!r}, which is no model or ablation here and has no title under "
                    f"`titles`. {nearest(name, known)}"
                )
    return settings


def paper_table(
    runs: Sequence[ExpectedRun], reported: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]
) -> pd.DataFrame:
    """What the paper reports and what we found, side by side.

    Args:
        runs: Our runs on the data set; those of models that the paper does not report are passed over.
        reported: By model, metrics as `<group>/<metric>@<k>`.
        titles: What models are called, by name.

    Returns:
        A row per reported model, in the paper's order: `model`, `title`, `seeds` (of ours; 0 where it has no runs), and
        for each metric `<metric>` and `<metric>_sd` (ours, mean and standard deviation over seeds) and
        `<metric>_reported`.
    """
    metrics = load_metrics([run for run in runs if run.model in reported])
    test = metrics[metrics["split"] == "test"]
    test = test.assign(metric=test["group"] + "/" + test["metric"])
    ours = test.groupby(["model", "metric"])["value"]
    mean, sd = ours.mean(), ours.std(ddof=1)
    seeds = test.groupby("model")["seed"].nunique()
    rows = []
    for name, values in reported.items():
        row = {"model": name, "title": titles.get(name, name), "seeds": int(seeds.get(name, 0))}
        for metric in dict.fromkeys(metric for others in reported.values() for metric in others):
            row |= {
                metric: mean.get((name, metric), np.nan),
                f"{metric}_sd": sd.get((name, metric), np.nan),
                f"{metric}_reported": values.get(metric, np.nan),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def cells(table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    """The table as a reader sees it: nothing marked, a metric's two columns beside each other."""

    def texts(name: str) -> list[str]:
        spread = table.get(f"{name}_sd", pd.Series(np.nan, table.index))
        return [
            "–" if np.isnan(mean) else f"{mean:.4f}" if np.isnan(sd) else f"{mean:.4f} ± {sd:.4f}"
            for mean, sd in zip(table[name], spread, strict=True)
        ]

    shown = {
        "Model": list(table["title"]),
        "Seeds": [str(count) if count else "–" for count in table["seeds"]],
    }
    for column in table.columns:
        if column.endswith("_reported"):
            metric = column.removesuffix("_reported")
            shown[f"{tables.label(metric)}, ours"] = texts(metric)
            shown[f"{tables.label(metric)}, paper"] = texts(column)
    return pd.DataFrame(shown).map(style.escape).rename(columns=style.escape)


def caption(title: str, source: str) -> str:
    """The sentences above the table."""
    return (
        f"{title}, test: ours (mean ± standard deviation over seeds) beside what is reported in the paper ({source}), "
        "with other features: BEiT pictures, BGE texts, a split of its own. The two are not ranked against each other."
    )
