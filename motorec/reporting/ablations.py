"""What each part of the token models is worth: `python -m motorec.reporting.ablations hm` writes results/ablations/hm/.

The runs are those of the profile `ablations` (`make ablations`). A model and its ablations make a table, a table of
tests and a figure of their own; some ablations are tested against each other besides. What is not run yet is left out,
and said to be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from motorec import paths
from motorec.config import load_ablations, load_dataset, load_profile
from motorec.errors import DataError, MotorecError, ParamsError, nearest
from motorec.evaluation.significance import corrected
from motorec.reporting import tables
from motorec.reporting.report import Report, report
from motorec.reporting.runs import expected_runs, full_title

PROFILE = "ablations"


def folder(dataset: str) -> Path:
    """Where a data set's tables and figures of ablations are."""
    return paths.root() / "results" / "ablations" / dataset


def ablation_report(dataset: str, model: str) -> Report:
    """The report of a model and its ablations: pieces `ablation`, `ablation_significance` and `ablation_attention`.

    An ablation is shown once all its seeds are there, with the places of their test targets; the others are named below
    the table. All of it is read from git, but for the data set itself.

    Raises:
        DataError: The model has not been run with all its seeds, or none of its ablations.
        ParamsError: There is no such data set, or a file in params/ is wrong.
    """
    run, bases = load_profile(PROFILE, dataset), load_ablations()
    missing = {one.model: one.title for one in expected_runs(run, dataset) if not one.places_file.is_file()}
    mine = [name for name in run.ablations if bases[name].base == model]
    done = tuple(name for name in mine if name not in missing)
    if model in missing or not done:
        raise DataError(f"No ablations of {model} on {dataset} are run: `make ablations DATASET={dataset}` does.")
    found = report(dataset)
    lacking = "; ".join(missing[name] for name in mine if name in missing)
    return replace(
        found.against(model),
        run=run.model_copy(update={"token_models": (model,), "ablations": done}),
        below=(f"Not run yet: {lacking}.",) if lacking else (),
    )


def reports(dataset: str) -> dict[str, Report]:
    """The reports of all models that have ablations, by name.

    Raises:
        DataError: No model has been run with all its seeds and an ablation.
        ParamsError: There is no such data set, or a file in params/ is wrong.
    """
    found: dict[str, Report] = {}
    for model in load_profile(PROFILE, dataset).token_models:
        try:
            found[model] = ablation_report(dataset, model)
        except DataError as error:
            lacking = error
    if not found:
        raise lacking
    return found


def pairs(dataset: str) -> pd.DataFrame:
    """The pairs of `params/report.yaml` that are run, each tested as `evaluation.compare` does, all in one family.

    Returns:
        A row per pair, group and metric: `model` (the first of the pair), `reference` (the other), and what `compare`
        has; empty where no pair is run with all its seeds.

    Raises:
        ParamsError: There is no such data set, or a pair names a run that the profile `ablations` does not have.
    """
    found, tables_found = report(dataset), []
    runs = expected_runs(load_profile(PROFILE, dataset), dataset)
    known = {run.model for run in runs}
    missing = {run.model for run in runs if not run.places_file.is_file()}
    for pair in found.settings.pairs:
        for name in pair:
            if name not in known:
                raise ParamsError(
                    f"params/report.yaml: pairs names {name!r}, which params/profiles/{PROFILE}.yaml does not run. "
                    f"{nearest(name, known)}"
                )
        if missing.isdisjoint(pair):
            table = found.against(pair[1]).compare([run for run in runs if run.model in pair])
            table.insert(1, "reference", pair[1])
            tables_found.append(table)
    if not tables_found:
        return pd.DataFrame()
    return corrected(pd.concat(tables_found, ignore_index=True), found.settings.alpha)


def pair_cells(table: pd.DataFrame, dataset: str, style: tables.Style) -> pd.DataFrame:
    """The table of pairs as a reader sees it."""
    names = table["model"] + " " + table["reference"]
    titles = {
        name: f"{full_title(one, dataset)} less {full_title(other, dataset)}"
        for name, one, other in zip(names, table["model"], table["reference"], strict=True)
    }
    return tables.significance_cells(table.assign(model=names), titles, style)


def pair_caption(dataset: str) -> str:
    """The sentence above the table of pairs."""
    return (
        f"{load_dataset(dataset).title}, test: ablations against each other, the difference being the first less the "
        "second; tested as in the tables of each model's ablations, with Holm's correction over this table."
    )


def write(dataset: str) -> list[Path]:
    """Write tables and figures of all models that have ablations, and give the files; errors as in `reports`."""
    written: list[Path] = []
    for model, found in reports(dataset).items():
        written += [
            found.write_table("ablation", folder(dataset) / model),
            found.write_table("ablation_significance", folder(dataset) / f"{model}-significance"),
            found.write_figure("ablation", folder(dataset) / f"{model}.png"),
        ]
        if found.attends:
            target = folder(dataset) / f"{model}-attention"
            written += [
                found.write_table("ablation_attention", target),
                found.write_figure("ablation_attention", target.with_suffix(".png")),
            ]
    table = pairs(dataset)
    if len(table):
        target = folder(dataset) / "pairs"
        written.append(
            tables.write(table, lambda style: pair_cells(table, dataset, style), pair_caption(dataset), target)
        )
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: the data set's name."""
    parser = argparse.ArgumentParser(prog="python -m motorec.reporting.ablations", description=main.__doc__)
    parser.add_argument("dataset", help="a data set whose ablations are run, or some of them")
    words = parser.parse_args(arguments)
    try:
        for file in write(words.dataset):
            print(f"Ablations: {paths.shown(file)}")
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
