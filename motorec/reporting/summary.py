"""The joint tables and figure over all data sets, and the results section of the README.

Reads files that are in git alone, the runs' metrics and what each data set's report left at `results/joint`: the opt-in
data sets that `params/run.yaml` shows need no data here.
`python -m motorec.reporting.summary` writes everything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from motorec import paths
from motorec.config import (
    InterSettings,
    load_dataset,
    load_evaluation,
    load_features,
    load_report,
    load_run,
    load_run_for,
)
from motorec.errors import DataError
from motorec.features.encode import label
from motorec.reporting import ablations, datasets, tables
from motorec.reporting.report import MARKS, SEEDS, TESTED, TESTS, caption
from motorec.reporting.runs import ExpectedRun, expected_runs, load_metrics, notes

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def dataset_titles() -> dict[str, str]:
    """Titles of all data sets in the joint tables, by name, in order: the default ones, then those shown."""
    run = load_run()
    return {name: load_dataset(name).title for name in dict.fromkeys((*run.datasets, *run.shown))}


def joint_runs() -> dict[str, list[ExpectedRun]]:
    """The runs that the joint tables are made of, by data set: of the models that `params/run.yaml` names.

    A data set that is shown has the seeds of its own, full comparison, so that both say the same.
    """
    run = load_run()
    runs = {}
    for name in dataset_titles():
        expected = [
            one for one in expected_runs(load_run_for(name), name) if one.model in run.compared or one.role != "model"
        ]
        # An opt-in data set shows what is finished: a model that is new here has no runs there yet.
        unfinished = _unfinished(expected) if name not in run.datasets else {}
        runs[name] = [one for one in expected if one.model not in unfinished]
    return runs


def _unfinished(runs: list[ExpectedRun]) -> dict[str, str]:
    """Names and titles of the models that lack some of their runs."""
    return {one.model: one.title for one in runs if not one.metrics_file.is_file()}


def joint_metrics() -> pd.DataFrame:
    """The metrics of the joint tables' runs (see `runs.load_metrics`).

    Raises:
        DataError: A run is missing.
    """
    return load_metrics([run for runs in joint_runs().values() for run in runs])


def write_headlines(metrics: pd.DataFrame, headline: Sequence[str]) -> None:
    """A small file per data set and model, for `dvc metrics`: means over seeds of what the tables show first.

    Args:
        metrics: Runs in the form of `runs.load_metrics`.
        headline: Metrics, on test, for all and for cold targets.
    """
    chosen = metrics[
        (metrics["split"] == "test") & metrics["group"].isin(["all", "cold"]) & metrics["metric"].isin(headline)
    ]
    named = chosen.assign(name=chosen["group"] + " " + chosen["metric"])
    means = named.pivot_table(values="value", index=["dataset", "model"], columns="name", aggfunc="mean").round(6)
    with paths.whole_folder(paths.headlines()) as scratch:
        for row in means.reset_index().to_dict("records"):
            file = scratch / str(row.pop("dataset")) / f"{row.pop('model')}.json"
            file.parent.mkdir(exist_ok=True)
            there = {name: value for name, value in row.items() if pd.notna(value)}  # no cold item, no such figure
            file.write_text(json.dumps(there, indent=2) + "\n", encoding="utf-8")


def joint_numbers(name: str, titles: dict[str, str]) -> pd.DataFrame:
    """One of the tables that each data set's report left for the joint ones (`report.JOINT`), with its `dataset`.

    A data set that has no such table, since its models are not compared or it has no ablations, has no rows.

    Raises:
        DataError: The report of a data set that `params/run.yaml` runs has not been made.
    """
    frames = []
    for dataset in titles:
        folder = paths.joint(dataset)
        if dataset in load_run().datasets and not folder.is_dir():
            raise DataError(f"{paths.shown(folder)} is missing: run the report stage first (`dvc repro report`).")
        if (folder / f"{name}.csv").is_file():
            table = pd.read_csv(folder / f"{name}.csv")
            frames.append(table.assign(dataset=dataset))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def joint_marks(name: str, titles: dict[str, str]) -> dict[tuple[str, str, str], str]:
    """What is significant in a joint table: as found in the tables of tests of each data set."""
    tests = {mark: joint_numbers(source, titles) for mark, source in TESTS.items()}
    tests = {mark: table for mark, table in tests.items() if not table.empty}
    return tables.significance_marks(tests, TESTED.get(name))


def statistics_notes(titles: dict[str, str]) -> list[str]:
    """Which data sets are missing among the statistics."""
    missing = [title for name, title in titles.items() if not (paths.joint(name) / "statistics.csv").is_file()]
    return [f"{title}: not here yet; its report has not been made." for title in missing]


def joint_notes() -> list[str]:
    """Which models are left out of the joint tables, and why."""
    titles, run = dataset_titles(), load_run()
    told = [note for name, runs in joint_runs().items() for note in notes(runs, titles[name])]
    for name in run.shown:
        expected = [one for one in expected_runs(load_run_for(name), name) if one.model in run.compared]
        missing = _unfinished(expected).values()
        if missing:
            told.append(f"{titles[name]}: without {', '.join(missing)}, whose runs there are not finished.")
    return told


def joint_tables(metrics: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables `overall` and `cold` over all data sets."""
    settings = load_report()
    return {
        "overall": tables.group_table(metrics, "all", settings.headline),
        "cold": tables.group_table(metrics, "cold", settings.headline),
    }


def headline_table() -> str:
    """All models on all data sets, on all and on cold targets, in the metrics shown first: a Markdown table."""
    settings, titles = load_report(), dataset_titles()
    joint = joint_tables(joint_metrics())
    overall, cold = joint["overall"], joint["cold"]
    columns = {}
    wide = overall[tables.KEYS].copy()
    for group, table in (("all", overall), ("cold", cold)):
        aligned = wide[["dataset", "model"]].merge(table, how="left", on=["dataset", "model"])
        for metric in settings.headline:
            for suffix in ("", "_sd", "_of_oracle"):
                columns[f"{group}/{metric}{suffix}"] = aligned.get(f"{metric}{suffix}", float("nan"))
    wide = wide.assign(**columns)
    # The oracle's share is told for the first metric; the tables have it for all.
    left_out = ("_sd", *(f"{metric}_of_oracle" for metric in settings.headline[1:]))
    shown = [column for column in columns if not column.endswith(left_out) and wide[column].notna().any()]
    cold_below = load_evaluation().cold_below
    text = (
        f"Test, full ranking: {SEEDS}; {MARKS}. "
        f"Cold targets are items with fewer than {cold_below} training interactions, ranked among all items."
    )
    empty = tables.without_targets(cold, "cold", cold_below, titles)
    return tables.to_markdown(tables.readable(wide, shown, titles, tables.MARKDOWN), text, empty + joint_notes())


def readme_section() -> str:
    """The results as the README shows them: one table, one figure, and what the numbers are of."""
    titles = dataset_titles()
    figure = paths.shown(paths.figures() / "summary.png")
    first = load_run().datasets[0]
    degree = paths.shown(paths.figures() / first / "degree.png")
    links = ", ".join(
        f"[{name}]({paths.shown(paths.tables() / name)}.md)" for name in ("overall", "cold", "statistics")
    )
    return "\n".join(
        [
            headline_table(),
            f"All metrics, significance and statistics of the data: {links}. {_all_models()}{_ablations(titles)}"
            f"{_encoders(titles)}",
            "",
            f"![Accuracy of every model on every data set, all and cold targets]({figure})",
            "",
            f"![{titles[first]}: accuracy by how often the item to be found was taken in training]({degree})",
        ]
    )


def _all_models() -> str:
    """Where the tables with every model are, of the data sets that have them."""
    found = {name: paths.tables() / name / "overall.md" for name in load_run().shown}
    links = [f"[{load_dataset(name).title}]({paths.shown(file)})" for name, file in found.items() if file.is_file()]
    return f"Every model, with tests: {', '.join(links)}. " if links else ""


def _ablations(titles: dict[str, str]) -> str:
    """Where the ablations are, of the data sets that have some."""
    found = {name: ablations.folder(name) / f"{load_report().reference}.md" for name in titles}
    links = [f"[{titles[name]}]({paths.shown(file)})" for name, file in found.items() if file.is_file()]
    return f"What each part is worth: {', '.join(links)}. " if links else ""


def _encoders(titles: dict[str, str]) -> str:
    """What made the features, so that nobody takes the bundled encoders for the paper's."""
    made: dict[str, list[str]] = {}
    for name, title in titles.items():
        features = load_features(name)
        text, image = label(features.text.encoder, "text"), label(features.image.encoder, "image")
        ready = isinstance(load_dataset(name), InterSettings)
        made.setdefault("as published" if ready else f"{text} (texts), {image} (pictures)", []).append(title)
    told = "; ".join(f"{', '.join(names)}: {by}" for by, names in made.items()) if len(made) > 1 else next(iter(made))
    return f"Features, where a data set has the modality: {told}; the paper used BGE and BEiT."


def update_readme(path: Path) -> None:
    """Put the results section between the markers of a README; the rest of the file stays as it is.

    Raises:
        DataError: The file has no such markers.
    """
    text = path.read_text(encoding="utf-8")
    before, found_begin, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end:
        raise DataError(f"{paths.shown(path)}: expected the lines {BEGIN} and {END}, in this order; add them.")
    paths.write_whole(path, f"{before}{BEGIN}\n\n{readme_section()}\n\n{END}{after}")


def main() -> None:
    """Write the joint tables, the joint figure, the headline metrics and the README's section."""
    from motorec.reporting import figures

    settings, titles, metrics = load_report(), dataset_titles(), joint_metrics()
    for name, table in joint_tables(metrics).items():
        columns = tables.columns_shown(table, settings.headline)
        marks = joint_marks(name, titles)
        cells = partial(tables.readable, table, columns, titles, marks=marks)
        shown = [mark for mark in TESTS if any(mark in found for found in marks.values())]
        above = caption(name, "All data sets", settings, load_evaluation(), shown)
        below = joint_notes()
        if name == "cold":
            below = tables.without_targets(table, "cold", load_evaluation().cold_below, titles) + below
        tables.write(table, cells, above, paths.tables() / name, below)
    statistics = datasets.whole_numbers(joint_numbers("statistics", titles))
    above = caption("statistics", "All data sets", settings, load_evaluation())
    cells = partial(datasets.cells, statistics, titles)
    tables.write(statistics, cells, above, paths.tables() / "statistics", statistics_notes(titles))
    figures.save_both(figures.accuracy(metrics, settings.headline, titles), paths.figures() / "summary.png")
    write_headlines(metrics[metrics["role"] != "ablation"], settings.headline)
    update_readme(paths.root() / "README.md")


if __name__ == "__main__":
    main()
