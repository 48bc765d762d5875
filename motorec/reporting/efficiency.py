"""What accuracy costs: `python -m motorec.reporting.efficiency hm` writes results/efficiency/hm.csv, .md and .tex, and
a figure of them, hm.png and hm.pdf.

Seconds and memory come from `data/timings`, which every run leaves and DVC never hashes: this is the one table that
differs from run to run and from machine to machine. It is no stage of the pipeline for this reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from motorec import paths
from motorec.config import RunSettings, load_dataset, load_profile, load_run_for
from motorec.errors import MotorecError
from motorec.reporting import tables
from motorec.reporting.runs import expected_runs, load_metrics, notes

REFERENCE = "lightgcn"  # times are told as multiples of this model's
METRICS = ("recall@20", "ndcg@20")
COSTS = ("parameters", "seconds_build", "seconds_train", "seconds_per_epoch", "epochs", "seconds_evaluate")
MEMORY = "peak_memory_mb"
FIT = "seconds_fit"  # building and training together: what a model in closed form does at once
TIMES = (FIT, *(name for name in COSTS if name.startswith("seconds")))
# The costs shown beside the metrics, and how they are called and written.
SHOWN = {
    "parameters": ("Parameters", "{:,.0f}"),
    "epochs": ("Epochs", "{:.0f}"),
    "seconds_per_epoch": ("Epoch (s)", "{:.2f}"),
    FIT: ("Fitting (s)", "{:.2f}"),
    "seconds_evaluate": ("Evaluation (s)", "{:.2f}"),
    MEMORY: ("Peak memory (MB)", "{:.0f}"),
}


def efficiency(dataset: str, run: RunSettings) -> pd.DataFrame:
    """Accuracy and cost of every model of a data set.

    Args:
        dataset: The data set.
        run: Which models and seeds.

    Returns:
        A row per model: `model`, `title`, `seeds`, test Recall@20 and NDCG@20 over all targets (means over seeds), the
        costs (medians over seeds; `seconds_fit` is building and training together; missing where a model has none,
        such as epochs in closed form, and where DVC took its runs from the cache), and for each time `<time>_ratio`,
        its multiple of LightGCN's.

    Raises:
        DataError: A run is missing.
    """
    runs = [one for one in expected_runs(run, dataset) if one.role == "model"]
    metrics = load_metrics(runs)
    quality = tables.group_table(metrics, "all")[["model", "title", "seeds", *METRICS]]
    rows = []
    for one in metrics[["model", "seed"]].drop_duplicates().itertuples():
        file = paths.timings() / dataset / str(one.model) / f"{one.seed}.json"
        if file.is_file():
            rows.append({"model": one.model, **json.loads(file.read_text(encoding="utf-8"))})
    costs = pd.DataFrame(rows, columns=["model", *COSTS, MEMORY])
    # A run that was killed and went on has timed its last part alone.
    costs["seconds_train"] = costs["seconds_per_epoch"] * costs["epochs"]
    costs[FIT] = costs["seconds_build"] + costs["seconds_train"].fillna(0.0)
    table = quality.join(costs.groupby("model").median(), on="model")
    reference = table[table["model"] == REFERENCE]
    if not reference.empty:
        for name in TIMES:
            table[f"{name}_ratio"] = table[name] / reference[name].iloc[0]
    return table


def cells(table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    """The table as a reader sees it: each time with its multiple of LightGCN's behind it."""
    # One data set, whose name the caption has; the costs, of one machine and moment, are not ranked.
    shown = tables.readable(table.assign(dataset=""), METRICS, {}, style).iloc[:, 1:]
    for name, (heading, form) in SHOWN.items():
        texts = ["–" if pd.isna(value) else _number(value, form) for value in table[name]]
        if f"{name}_ratio" in table:
            texts = [
                text if pd.isna(ratio) else f"{text} ({_ratio(ratio)}×)"
                for text, ratio in zip(texts, table[f"{name}_ratio"], strict=True)
            ]
        shown[style.escape(heading)] = [style.escape(text) for text in texts]
    return shown


def _number(value: float, form: str) -> str:
    """A cost as written; what would be written as no seconds at all is less than the last digit."""
    return "<0.01" if form == "{:.2f}" and value < 0.005 else form.format(value)


def _ratio(value: float) -> str:
    """A multiple with two digits, without powers of ten."""
    return "<0.01" if value < 0.01 else f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def caption(title: str) -> str:
    """The sentences above the table."""
    return (
        f"{title}, test: accuracy (means over seeds; best bold, second underlined) and cost (medians over seeds; in "
        "brackets the multiple of LightGCN's), one thread per model, other models perhaps beside it; fitting is "
        "without validation, evaluation is of validation and test, memory is that of the whole process. Times and "
        "memory are those of the machine and the moment: this is the one table that differs from run to run."
    )


def write(dataset: str, profile: str | None = None) -> Path:
    """Write the table as CSV, Markdown and LaTeX, and its figure as PNG and PDF; give the Markdown file.

    Args:
        dataset: The data set.
        profile: Whose models and seeds; None: those of the data set's own tables (`config.load_run_for`).

    Raises:
        DataError: A run is missing.
        ParamsError: There is no such data set.
    """
    title = load_dataset(dataset).title
    run = load_run_for(dataset) if profile is None else load_profile(profile, dataset)
    runs = [one for one in expected_runs(run, dataset) if one.role == "model"]
    table = efficiency(dataset, run)
    below = notes(runs)
    untimed = table.loc[table["seconds_evaluate"].isna(), "title"]
    if len(untimed):
        below.append(f"No times here, since DVC's cache had the runs: {', '.join(untimed)}.")
    target = paths.root() / "results" / "efficiency" / dataset
    if table[FIT].notna().any():
        from motorec.reporting.cost import cost
        from motorec.reporting.figures import save_both

        save_both(cost(table, title), target.with_name(f"{dataset}.png"))
    return tables.write(table, lambda style: cells(table, style), caption(title), target, below)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: the data set's name."""
    parser = argparse.ArgumentParser(prog="python -m motorec.reporting.efficiency", description=main.__doc__)
    parser.add_argument("dataset", help="a data set whose runs are done")
    parser.add_argument("--profile", help="a file in params/profiles/: its models in place of those of params/run.yaml")
    words = parser.parse_args(arguments)
    try:
        print(f"Cost beside accuracy: {paths.shown(write(words.dataset, words.profile))}")
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
