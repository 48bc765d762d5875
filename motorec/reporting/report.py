"""The report of one data set: its tables and figures, piece by piece.

    results = report("garments")
    results.table("overall")           # all numbers, a data frame
    results.markdown("overall")        # what a reader compares
    results.figure("accuracy")         # a matplotlib figure
    results.write()                    # results/tables/garments/*.csv, .md, .tex, results/figures/garments/*.png, .pdf

A piece reads only what it shows: the ablations' pieces need no other model's runs, and the rest needs no ablation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from motorec import paths
from motorec.config import (
    EvaluationSettings,
    ReportSettings,
    RunSettings,
    load_ablations,
    load_dataset,
    load_evaluation,
    load_model,
    load_profile,
    load_report,
    load_run_for,
    load_tokenizer,
)
from motorec.data.dataset import Dataset
from motorec.errors import ParamsError, nearest
from motorec.evaluation.metrics import PER_USER
from motorec.evaluation.significance import compare
from motorec.reporting import datasets, paper, tables
from motorec.reporting.runs import (
    ExpectedRun,
    expected_runs,
    full_title,
    load_history,
    load_metrics,
    load_per_user,
    notes,
    with_results,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

Piece = TypeVar("Piece")
OURS = "-ours"  # ends the name of a piece that has our own model for reference
SEEDS = "mean ± standard deviation over seeds"
MARKS = "best bold, second underlined, the oracle not counted"
TESTS = {"†": "significance", "‡": f"significance{OURS}"}  # the mark of what each table of tests finds
JOINT = ("statistics", *TESTS.values())  # tables that the joint ones are made of, too


@dataclass(frozen=True)
class Report:
    """Everything the report of one data set can show.

    Attributes:
        dataset: The data set's name.
        title: Its title.
        run: What is run on it: `params/run.yaml`, or the profile `compare` for an opt-in data set.
        settings: `params/report.yaml`.
        evaluation: `params/evaluate.yaml`.
        below: What tables say below besides.
    """

    dataset: str
    title: str
    run: RunSettings
    settings: ReportSettings
    evaluation: EvaluationSettings
    below: tuple[str, ...] = ()

    @cached_property
    def ours(self) -> Report:
        """The same with our own model for reference."""
        return self.against(self.settings.ours)

    def against(self, reference: str) -> Report:
        """The same with another model for reference."""
        return replace(self, settings=self.settings.model_copy(update={"reference": reference}))

    @cached_property
    def runs(self) -> list[ExpectedRun]:
        """All runs that the data set should have."""
        return expected_runs(self.run, self.dataset)

    @property
    def models(self) -> list[ExpectedRun]:
        """The runs of models and the oracle."""
        return [run for run in self.runs if run.role != "ablation"]

    @property
    def main(self) -> set[str]:
        """The models of the figures that would be crowded by all: curves by degree and by epoch."""
        return {run.model for run in self.models if run.model in self.settings.main or run.role == "oracle"}

    @property
    def variants(self) -> list[ExpectedRun]:
        """The runs of the full model and its ablations.

        Raises:
            ParamsError: The data set has no ablations.
        """
        base = load_ablations()
        ablations = [
            run for run in self.runs if run.role == "ablation" and base[run.model].base == self.settings.reference
        ]
        if not ablations:
            raise ParamsError(
                f"{self.dataset!r} has no ablations: name it in `ablation_datasets` of params/run.yaml, and some in "
                "`ablations`."
            )
        seeds = {run.seed for run in ablations}  # like is compared with like
        full = [run for run in self.runs if run.model == self.settings.reference and run.seed in seeds]
        return full + ablations

    @property
    def parts(self) -> list[str]:
        """The full model and those of its ablations that the paper has."""
        theirs = {name for models in paper.load_paper().reported.values() for name in models}
        variants = dict.fromkeys(run.model for run in self.variants)
        return [name for name in variants if name == self.settings.reference or name in theirs]

    @property
    def attends(self) -> bool:
        """Whether a variant divides its attention between modalities, so that there is something to tell of it."""
        return not self.attention.empty

    @cached_property
    def mapped(self) -> list[ExpectedRun]:
        """The runs whose item embeddings are drawn: of the models of `mapped` that the data set has.

        Like is compared with like: only seeds that all of them have.
        """
        runs = with_results([run for name in self.settings.mapped for run in self.runs if run.model == name])
        seeds = [{run.seed for run in runs if run.model == name} for name in {run.model for run in runs}]
        return [run for run in runs if run.seed in set.intersection(*seeds)]

    @property
    def mapped_titles(self) -> dict[str, str]:
        """What the models drawn are called, by name: an ablation with its model before it."""
        return {run.model: full_title(run.model, self.dataset) for run in self.mapped}

    @property
    def unmapped(self) -> list[str]:
        """Titles of the models of `mapped` that the data set does not have."""
        return [full_title(name, self.dataset) for name in self.settings.mapped if name not in self.mapped_titles]

    @cached_property
    def tested(self) -> pd.DataFrame:
        """All models tested against the reference."""
        return self.compare([run for run in self.models if run.role == "model"])

    @property
    def tests(self) -> dict[str, pd.DataFrame]:
        """`tested` by its reference: MoToRec and our own model, where they have been run."""
        pairs = zip(TESTS.values(), (self, self.ours), strict=True)
        return {one.settings.reference: one.tested for test, one in pairs if self._has(test)}

    @cached_property
    def variants_tested(self) -> pd.DataFrame:
        """The ablations tested against the full model."""
        return self.compare(self.variants)

    @cached_property
    def attention(self) -> pd.DataFrame:
        """How the variants' attention is divided between modalities; no row where it is in none."""
        from motorec.reporting.attention import attention_table

        return attention_table(load_metrics(self.variants), self.settings.headline[0])

    @cached_property
    def data(self) -> Dataset:
        """The data set itself.

        Raises:
            DataError: The data stage has not run.
        """
        return Dataset.load(paths.catalogue(self.dataset))

    @cached_property
    def vectors(self) -> dict[str, dict[int, np.ndarray]]:
        """Item embeddings of the models drawn, by model and seed.

        Raises:
            DataError: A run's weights are missing, or do not go with its metrics.
        """
        from motorec.reporting import embeddings

        found: dict[str, dict[int, np.ndarray]] = {}
        for run in self.mapped:
            found.setdefault(run.model, {})[run.seed] = embeddings.item_vectors(run)
        return found

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """The maps of the first seed, by model."""
        from motorec.reporting import embeddings

        return {name: embeddings.flat(next(iter(by.values())), self.settings.seed) for name, by in self.vectors.items()}

    @property
    def table_names(self) -> list[str]:
        """Names of the tables this data set has."""
        return [name for name in TABLES if self._has(name)]

    @property
    def figure_names(self) -> list[str]:
        """Names of the figures this data set has."""
        without = () if self.main & set(self.run.trained) else ("training",)
        return [name for name in FIGURES if name not in without and self._has(name)]

    def _has(self, name: str) -> bool:
        """Whether the data set has what a piece compares: the reference may be left out, like any model."""
        if name.startswith("ablation"):
            return False  # written by `reporting.ablations`, from runs of their own
        if name in ("mixing", "embeddings"):
            return bool(self.mapped)
        if name == "codebooks":
            return bool(self.run.token_models) and load_tokenizer(self.dataset).get("quantize", True)
        if name == "paper":
            return self.dataset in paper.load_paper().reported
        if not name.startswith(("significance", "comparison")):
            return True
        reference = self.settings.ours if name.endswith(OURS) else self.settings.reference
        return any(run.model == reference for run in with_results(self.models))

    def table(self, name: str) -> pd.DataFrame:
        """All numbers of a table.

        Raises:
            ParamsError: No table has this name.
            DataError: A run that it needs is missing.
        """
        return _known(name, TABLES, "table")(self)

    def figure(self, name: str) -> Figure:
        """A figure, drawn.

        Raises:
            ParamsError: No figure has this name.
            DataError: Something that it needs is missing.
        """
        return _known(name, FIGURES, "figure")(self)

    def markdown(self, name: str) -> str:
        """A table as a reader sees it, with its caption: for a notebook's `Markdown(...)`."""
        cells = self._cells(name, self.table(name), tables.MARKDOWN)
        return tables.to_markdown(cells, self._caption(name), self._notes(name))

    def write_table(self, name: str, target: Path | None = None) -> Path:
        """Write a table as CSV, Markdown and LaTeX, and give the Markdown file.

        Args:
            name: The table's name.
            target: Where to, without a suffix; not given: with the data set's tables.
        """
        table = self.table(name)
        target = target or paths.tables() / self.dataset / name
        return tables.write(table, partial(self._cells, name, table), self._caption(name), target, self._notes(name))

    def write_figure(self, name: str, target: Path | None = None) -> Path:
        """Write a figure as PNG and PDF, and give the PNG; with the data set's figures if no other file is given."""
        from motorec.reporting.figures import save_both

        return save_both(self.figure(name), target or paths.figures() / self.dataset / f"{name}.png")

    def write(self) -> list[Path]:
        """Write every table and figure of the data set, and what the joint tables and `dvc plots` need of it."""
        self.write_joint()
        self.write_curves()
        return [self.write_table(name) for name in self.table_names] + [
            self.write_figure(name) for name in self.figure_names
        ]

    def write_joint(self) -> None:
        """Write the numbers that the joint tables take from here: from other data sets, only what is in git is read."""
        with paths.whole_folder(paths.joint(self.dataset)) as folder:
            for name in JOINT:
                if self._has(name):
                    table = self.table(name)
                    (folder / f"{name}.csv").write_text(tables.to_csv(table), encoding="utf-8")

    def write_curves(self) -> None:
        """Write validation by epoch, a file per model of the training figure, for `dvc plots`: git has no histories.

        A row is an epoch in which all seeds were validated, its values their means.
        """
        runs = [run for run in with_results(self.models) if run.model in self.main & set(self.run.trained)]
        with paths.whole_folder(paths.figures() / self.dataset / "training") as folder:
            for name in {run.model for run in runs}:
                history = load_history([run for run in runs if run.model == name])
                valid = list(history.filter(regex="^valid/"))
                epochs = history[["epoch", *valid]].dropna().groupby("epoch")
                means = epochs.mean()[epochs.size() == history["seed"].nunique()]
                means.reset_index().to_csv(folder / f"{name}.csv", index=False, float_format="%.6f")

    def _cells(self, name: str, table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
        titles = {run.model: run.title for run in self.runs}
        if name.removesuffix(OURS).endswith("significance"):
            return tables.significance_cells(table, titles, style)
        if name in OTHER_CELLS:
            return OTHER_CELLS[name](self, table, style)
        columns = tables.columns_shown(table, self.settings.headline)
        if name == "ablation":  # beside differences there is no room for what an oracle has
            columns = [column for column in columns if not column.endswith("_of_oracle")]
        return tables.readable(table, columns, {self.dataset: self.title}, style, self._marks(name))

    def _marks(self, name: str) -> dict[tuple[str, str, str], str]:
        """What is significant in a table."""
        if name == "ablation":
            return tables.significance_marks({"†": self.variants_tested.assign(dataset=self.dataset)})
        if name not in TESTED:
            return {}
        tests = {mark: self.table(test) for mark, test in TESTS.items() if self._has(test)}
        found = {mark: table.assign(dataset=self.dataset) for mark, table in tests.items()}
        return tables.significance_marks(found, TESTED[name])

    def compare(self, runs: list[ExpectedRun]) -> pd.DataFrame:
        """Test some models against the reference on the headline metrics."""
        settings = self.settings
        return compare(
            load_per_user(runs, self.data, self.evaluation),
            settings.reference,
            settings.headline,
            alpha=settings.alpha,
            resamples=settings.resamples,
            seed=settings.seed,
        )

    def _notes(self, name: str) -> list[str]:
        if name in ("statistics", "codebooks", "mixing"):
            return list(self.below)
        if name == "ablation_attention":
            from motorec.reporting import attention

            return [attention.told(self.table(name), self.parts), *self.below]
        empty = []
        if name in ("cold", "warm"):
            cold_below, titles = self.evaluation.cold_below, {self.dataset: self.title}
            empty = tables.without_targets(self.table(name), name, cold_below, titles)
        return empty + notes(self.variants if name.startswith("ablation") else self.models) + list(self.below)

    def _caption(self, name: str) -> str:
        settings = self.ours.settings if name.endswith(OURS) else self.settings
        marks = [mark for mark, test in TESTS.items() if self._has(test)]
        return caption(name.removesuffix(OURS), self.title, settings, self.evaluation, marks)


def report(dataset: str) -> Report:
    """The report of one data set, by name.

    Raises:
        ParamsError: There is no such data set, or a file in params/ is wrong.
    """
    run, settings, evaluation = load_run_for(dataset), load_report(), load_evaluation(dataset)
    known = [f"{name}@{k}" for name in PER_USER for k in evaluation.cutoffs]
    for metric in settings.headline:
        if metric not in known:
            raise ParamsError(f"params/report.yaml: headline names {metric!r}. {nearest(metric, known)}")
    models = run.compared
    if settings.reference not in models:
        raise ParamsError(
            f"params/report.yaml: reference is {settings.reference!r}, which params/run.yaml does not run. "
            f"{nearest(settings.reference, models)}"
        )
    for name in settings.mapped:
        load_model(name, dataset)
    paper.load_paper()
    return Report(dataset, load_dataset(dataset).title, run, settings, evaluation)


def caption(
    name: str, title: str, settings: ReportSettings, evaluation: EvaluationSettings, marks: Sequence[str] = ()
) -> str:
    """The sentence above a table; `marks` are those of the tests that it shows."""
    cold = evaluation.cold_below
    references = {"†": settings.reference, "‡": settings.ours}
    differs = ", ".join(f"{mark} differs from `{references[mark]}`" for mark in marks)
    holm = f"(paired t-test over users, p < {settings.alpha:g} after Holm's correction)."
    told = f" {differs} {holm}" if marks else ""
    tests = (
        f"paired over users (values averaged over seeds), difference to `{settings.reference}` with its "
        f"{100 * (1 - settings.alpha):g}% bootstrap interval, paired t-test's p after Holm's correction over this "
        "table, p over seeds (Welch's t-test between the seeds' means, uncorrected; – where a model has one seed), "
        "which the test over users takes as they fell, Cohen's d"
    )
    ranked = f"training interactions), ranked among all items: {SEEDS}; {MARKS}."
    captions = {
        "statistics": datasets.caption(title, cold),
        "overall": f"{title}, test, all targets: {SEEDS}; {MARKS}.{told}",
        "cold": f"{title}, test, cold targets (fewer than {cold} {ranked}{told}",
        "warm": f"{title}, test, warm targets ({cold} or more {ranked}",
        "ablation": f"{title}, test, `{settings.reference}` and its ablations, all and cold targets: {SEEDS}; "
        f"Δ is the difference to the full model; best bold, second underlined; † differs from the full model {holm}",
        "significance": f"{title}, test: models against the reference, {tests}.",
        "ablation_significance": f"{title}, test: ablations against the full model, {tests}.",
        "ablation_attention": f"{title}: where attention went. Mean over seeds of the share of an item's attention, "
        "with the least and the largest of a seed in brackets, and of the metric on test; variants whose attention is "
        "between modalities.",
        "codebooks": f"{title}: health of the pretrained codebooks by level, {SEEDS}. Perplexity is the effective "
        "number of codes of a level; collisions (items that share all codes so far with another), explained (share of "
        "the features' variance) and kept neighbours (share of the ten nearest) are of the levels up to this one.",
        "mixing": f"{title}: mixing of cold items (fewer than {cold} training interactions) and warm ones in the final "
        f"item embeddings. Of an item's {settings.neighbours} nearest neighbours by cosine, the share that is of the "
        "other kind, divided by that kind's share of all other items: 1 is chance, 0 is apart. "
        f"{SEEDS[0].upper()}{SEEDS[1:]}; {100 * (1 - settings.alpha):g}% bootstrap interval over items.",
        "paper": paper.caption(title, paper.load_paper().source),
    }
    return captions[name]


def _group(group: str, report: Report) -> pd.DataFrame:
    return tables.group_table(load_metrics(report.models), group, report.settings.headline)


def _statistics(report: Report) -> pd.DataFrame:
    from motorec.features import load_all

    return datasets.statistics(report.data, load_all(report.dataset), report.evaluation.cold_below)


def _codebooks(report: Report) -> pd.DataFrame:
    from motorec.reporting import codebooks

    return codebooks.codebook_table(codebooks.load_health(report.dataset, report.run.seeds))


def _mixing(report: Report) -> pd.DataFrame:
    from motorec.reporting import embeddings

    settings, cold = report.settings, report.data.cold(report.evaluation.cold_below)
    return embeddings.mixing_table(
        report.vectors, cold, settings.neighbours, settings.alpha, settings.resamples, settings.seed
    )


def _paper(report: Report) -> pd.DataFrame:
    settings, dataset = paper.load_paper(), report.dataset
    reported = settings.reported[dataset]
    # The paper's ablations are runs of another profile; one counts once it has all its seeds.
    others = [run for run in expected_runs(load_profile("ablations", dataset), dataset) if run.role == "ablation"]
    others = [run for run in others if run.model in reported and run.model not in {one.model for one in report.runs}]
    unfinished = {run.model for run in others if not run.metrics_file.is_file()}
    runs = report.runs + [run for run in others if run.model not in unfinished]
    titles = {run.model: full_title(run.model, dataset) for run in report.runs + others}
    return paper.paper_table(runs, reported, settings.titles | titles)


def _ablation(report: Report) -> pd.DataFrame:
    runs = report.variants + [run for run in report.models if run.role == "oracle"]
    return tables.ablation_table(load_metrics(runs), report.settings.reference, report.settings.headline)


TABLES: dict[str, Callable[[Report], pd.DataFrame]] = {
    "statistics": _statistics,
    "overall": partial(_group, "all"),
    "cold": partial(_group, "cold"),
    "warm": partial(_group, "warm"),
    "significance": lambda report: report.tested,
    f"significance{OURS}": lambda report: report.ours.tested,
    "ablation": _ablation,
    "ablation_significance": lambda report: report.variants_tested,
    "ablation_attention": lambda report: report.attention,
    "codebooks": _codebooks,
    "mixing": _mixing,
    "paper": _paper,
}
"""How each table is made. A new table is a line here and a caption."""

TESTED = {"overall": "all", "cold": "cold"}
"""The tables whose values carry the marks of the tests, and their target group."""


def _codebook_cells(_: Report, table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    from motorec.reporting import codebooks

    return codebooks.cells(table, style)


def _mixing_cells(report: Report, table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    from motorec.reporting import embeddings

    return embeddings.cells(table, report.mapped_titles, style)


def _attention_cells(_: Report, table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    from motorec.reporting import attention

    return attention.cells(table, style)


OTHER_CELLS: dict[str, Callable[[Report, pd.DataFrame, tables.Style], pd.DataFrame]] = {
    "statistics": lambda report, table, style: datasets.cells(table, {report.dataset: report.title}, style),
    "ablation_attention": _attention_cells,
    "codebooks": _codebook_cells,
    "mixing": _mixing_cells,
    "paper": lambda _, table, style: paper.cells(table, style),
}
"""What a reader sees of tables that are not of models and metrics."""


def _accuracy(report: Report) -> Figure:
    from motorec.reporting import figures

    return figures.accuracy(load_metrics(report.models), report.settings.headline, {report.dataset: report.title})


def _degree(report: Report) -> Figure:
    from motorec.reporting import degree

    runs = [run for run in report.models if run.model in report.main]
    settings, evaluation = report.settings, report.evaluation
    values = load_per_user(runs, report.data, evaluation)
    table = degree.by_degree(
        values, settings.headline, evaluation.degree_edges, settings.alpha, settings.resamples, settings.seed
    )
    return degree.degree(table, {run.model: run.title for run in runs}, report.title, settings.alpha)


def _training(report: Report) -> Figure:
    from motorec.reporting import figures

    return figures.training(
        load_history([run for run in report.models if run.model in report.main & set(report.run.trained)]), report.title
    )


def _popularity(report: Report) -> Figure:
    from motorec.reporting import figures

    return figures.popularity(report.data.item_degrees(), report.evaluation.cold_below, report.title)


def _ablation_figure(report: Report) -> Figure:
    from motorec.reporting import figures

    titles = {run.model: run.title for run in report.variants}
    full = titles.pop(report.settings.reference)
    name = f"{full.partition(' (')[0]}: "
    titles = {model: title.removeprefix(name) for model, title in titles.items()}  # the heading names it
    return figures.ablation(report.variants_tested, titles, full, report.title, report.settings.alpha)


def _attention_figure(report: Report) -> Figure:
    from motorec.reporting import attention

    titles = {run.model: run.title for run in report.variants if run.model in report.parts}
    return attention.attention(report.attention, titles, report.title)


def _comparison(report: Report) -> Figure:
    from motorec.reporting import figures

    runs = [run for run in report.models if run.role == "model"]
    titles = {run.model: run.title for run in runs}
    reference = titles[report.settings.reference]
    return figures.comparison(report.tested, titles, reference, report.title, report.settings.alpha)


def _codebook_figure(report: Report) -> Figure:
    from motorec.reporting import codebooks

    return codebooks.codebooks(codebooks.load_health(report.dataset, report.run.seeds), report.title)


def _embeddings(report: Report) -> Figure:
    from motorec.reporting import embeddings

    titles = report.mapped_titles
    table = _mixing(report)
    below = [embeddings.told(table, name) for name in report.places]
    seeds = [str(seed) for seed in next(iter(report.vectors.values()))]
    over = f"mean over seeds {', '.join(seeds)}" if len(seeds) > 1 else "of the same"
    notes = [f"maps: seed {seeds[0]}; mixing: {over}"]
    notes += [f"no map of {title}, which is not run here" for title in report.unmapped]
    return embeddings.maps(
        {titles[name]: where for name, where in report.places.items()},
        report.data.cold(report.evaluation.cold_below),
        below,
        f"{report.title}: item embeddings (t-SNE)",
        notes,
    )


FIGURES: dict[str, Callable[[Report], Figure]] = {
    "accuracy": _accuracy,
    "comparison": _comparison,
    f"comparison{OURS}": lambda report: _comparison(report.ours),
    "degree": _degree,
    "training": _training,
    "popularity": _popularity,
    "ablation": _ablation_figure,
    "ablation_attention": _attention_figure,
    "codebooks": _codebook_figure,
    "embeddings": _embeddings,
}
"""How each figure is made. A new figure is a line here and a function in `figures`."""


def _known(name: str, pieces: dict[str, Piece], what: str) -> Piece:
    if name not in pieces:
        raise ParamsError(f"No {what} is called {name!r}. {nearest(name, pieces)}")
    return pieces[name]
