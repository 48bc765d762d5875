"""The executed notebooks as pages to read in a browser, and the page to open first.

`python -m motorec.reporting.pages garments` writes data/pages/garments/: a page per notebook of the runs that are
asked for, and an `index.html` with the ways to them. Without a data set it writes data/pages/index.html, which has all
of them below the results. A notebook that is missing is an error; one that nobody asks for is not looked at.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

from motorec import paths
from motorec.config import RunSettings, load_dataset, load_model, load_profile, load_report, load_run, load_run_for
from motorec.errors import DataError, MotorecError
from motorec.reporting.runs import ExpectedRun, expected_runs, left_out, load_metrics
from motorec.reporting.summary import dataset_titles, headline_table, joint_numbers
from motorec.reporting.tables import escape_markdown, label
from motorec.reporting.webpage import Way, Writer

FIRST = "index.html"
TRAIN = "04_train"
CHECKOUT = "../.."  # from the first page to the files that are no pages
ABOUT = """# motorec

A reproducible reference implementation of MoToRec ([arXiv 2602.11062](https://arxiv.org/abs/2602.11062)): items'
pictures and texts become short tuples of discrete tokens, and a graph encoder fuses these with who took what, so that
an item nobody has taken yet can be recommended. One command makes everything below, from raw data to tables, with the
same bytes every time; each page is a notebook as the pipeline ran it."""


@dataclass(frozen=True)
class Page:
    """One executed notebook, and so one page.

    Attributes:
        step: The notebook's name, such as "04_train".
        name: What the executed one is called, without an ending.
        run: The model and seed that it trained; None for other steps.
        seed: Its seed, where it has one.
    """

    step: str
    name: str
    run: ExpectedRun | None = None
    seed: int | None = None

    @property
    def file(self) -> str:
        """The page's file, in the folder of its data set."""
        return f"{self.name}.html"

    @property
    def about(self) -> str:
        """What sets it apart from other pages of its step."""
        return ", ".join([*([self.run.title] if self.run else []), *([f"seed {self.seed}"] if self.seed else [])])


@dataclass(frozen=True)
class Step:
    """A notebook as it stands in git: its heading, and the question it asks."""

    name: str
    title: str
    question: str


def steps() -> dict[str, Step]:
    """The walkthrough in order, by the notebooks' names.

    Raises:
        DataError: A notebook does not start with a heading and a question.
    """
    found = {}
    for file in sorted((paths.root() / "notebooks").glob("*.ipynb")):
        source = nbformat.read(file, as_version=4).cells[0].source
        heading = re.match(r"# (.+)", source)
        question = re.search(r"^\*\*Question\.\*\* (.+?\?)$\n\n", f"{source}\n\n", re.DOTALL | re.MULTILINE)
        if heading is None or question is None:
            raise DataError(f"{paths.shown(file)}: expected a heading and `**Question.** …?` in its first cell.")
        found[file.stem] = Step(file.stem, heading[1], " ".join(question[1].split()))
    return found


@dataclass(frozen=True)
class Walk:
    """The pages of one data set.

    Attributes:
        dataset: Its name.
        run: What is run on it.
    """

    dataset: str
    run: RunSettings

    @cached_property
    def runs(self) -> list[ExpectedRun]:
        """The runs that the data set should have."""
        return expected_runs(self.run, self.dataset)

    @cached_property
    def pages(self) -> list[Page]:
        """All pages that it should have, in the order of the walkthrough."""

        def page(step: str, run: ExpectedRun | None = None, seed: int | None = None) -> Page:
            parts = [step, self.dataset, *([run.model] if run else []), *([seed] if seed is not None else [])]
            return Page(step, "-".join(map(str, parts)), run, seed)

        found = [page("01_data"), page("02_features")]
        found += [page("03_tokenize", seed=seed) for seed in self.run.seeds]
        found += [page(TRAIN, run, run.seed) for run in self.runs]
        found += [page("05_ablations")] if self.dataset in self.run.ablation_reports else []
        return [*found, page("06_report"), page("07_readable_tokens")]

    def target(self, step: str, seed: int | None = None) -> Page | None:
        """The page of a step that a link from a page with this seed leads to; None where the data set has none.

        Of the trainings, that is the model that the others are compared with.
        """
        found = [page for page in self.pages if page.step == step]
        reference = load_report().reference
        found = [page for page in found if page.run and page.run.model == reference] or found
        return next((page for page in found if page.seed == seed), found[0] if found else None)

    def follow(self, page: Page, url: str) -> str:
        """Where a link of a notebook leads on its page: to the page of the other notebook, of the same seed if it can.

        One that is not run on the data set has no page: its link leads to the data set's index.
        """
        step, ending, place = url.partition(".ipynb")
        if not ending:
            return url
        found = self.target(step, page.seed)
        return (found.file if found else FIRST) + place

    def ways(self, here: Page | None) -> Iterator[Way]:
        """The line above a page: the first page, the data set, each step."""
        yield Way("motorec", f"../{FIRST}")
        yield Way(load_dataset(self.dataset).title, FIRST, here is None)
        for step in steps():
            found = self.target(step, here.seed if here else None)
            if found is not None:
                yield Way(step.replace("_", " "), found.file, here is not None and here.step == step)

    def told(self, level: int, folder: str = "") -> str:
        """The ways to all pages, as Markdown: the walk, the trainings, the ablations.

        Args:
            level: Of the headings.
            folder: The way from the page to the data set's folder, with a slash at the end.
        """
        parts = [self._statistics(), self._walk(folder)]
        for title, roles in (("Trainings", ("model", "oracle")), ("Ablations", ("ablation",))):
            runs = [run for run in self.runs if run.role in roles]
            if runs:
                parts.append(f"{'#' * level} {title}\n\n{self._grid(runs, folder)}")
        return "\n\n".join(parts)

    def _statistics(self) -> str:
        row = joint_numbers("statistics", {self.dataset: ""}).iloc[0]
        return (
            f"{row['users']:,} users, {row['items']:,} items, {row['interactions']:,} interactions; "
            f"{row['cold_items_share']:.0%} of the items are cold in training."
        )

    def _walk(self, folder: str) -> str:
        lines = []
        for number, (name, step) in enumerate(steps().items(), start=1):
            found = self.target(name)
            if found is None:
                continue
            others = [page for page in self.pages if page.step == name and page is not found]
            if name == TRAIN:
                beside = f" ({found.about}; all others below)"
            elif others:
                seeds = ", ".join(f"[{page.seed}]({folder}{page.file})" for page in others)
                beside = f" ({found.about}; other seeds: {seeds})"
            else:
                beside = ""
            lines.append(f"{number}. [{step.title}]({folder}{found.file}){beside}: {step.question}")
        return "\n".join(lines)

    def _grid(self, runs: list[ExpectedRun], folder: str) -> str:
        """A row per model, a column per seed; a cell says how the run did and leads to its page."""
        metric, reasons = load_report().headline[0], left_out(runs)
        values = load_metrics(runs).query("split == 'test' and group == 'all' and metric == @metric")
        value = values.set_index(["model", "seed"])["value"].to_dict()
        pages = {(page.run.model, page.run.seed): page for page in self.pages if page.run}
        seeds = sorted({run.seed for run in runs})
        rows = [f"| {label(metric)}, test | {' | '.join(f'seed {seed}' for seed in seeds)} |"]
        rows.append(f"| --- |{' ---: |' * len(seeds)}")
        for model, title in {run.model: run.title for run in runs}.items():
            cells = []
            for seed in seeds:
                page = pages.get((model, seed))
                said = "left out" if title in reasons else f"{value.get((model, seed), float('nan')):.4f}"
                cells.append(f"[{said}]({folder}{page.file})" if page else "")
            rows.append(f"| {escape_markdown(title)} | {' | '.join(cells)} |")
        return "\n".join(rows)


def write_dataset(dataset: str) -> Path:
    """Write the pages of one data set, and give its index.

    Raises:
        DataError: A notebook that is asked for has not been run.
        MotorecError: A formula cannot be drawn.
    """
    walk, writer, names = Walk(dataset, load_run_for(dataset)), Writer(), steps()
    sources = {page: paths.notebooks(dataset) / f"{page.name}.ipynb" for page in walk.pages}
    missing = [f"{paths.shown(file)} is missing." for file in sources.values() if not file.is_file()]
    if missing:
        remedy = f"Make it with `dvc repro` (an opt-in data set: `make compare DATASET={dataset}`)."
        raise DataError("\n".join([*missing, remedy]))
    title = load_dataset(dataset).title
    with paths.whole_folder(paths.pages(dataset)) as folder:
        for page, file in sources.items():
            notebook = nbformat.read(file, as_version=4)
            about = " · ".join([title, *([page.about] if page.about else [])])
            headed = f"{names[page.step].title} · {about}"
            html = writer.page(notebook, headed, about, list(walk.ways(page)), partial(walk.follow, page))
            (folder / page.file).write_text(html, encoding="utf-8")
        text = f"# {title}\n\n{walk.told(2)}"
        html = writer.page(_notebook(text), f"motorec · {title}", ways=list(walk.ways(None)))
        (folder / FIRST).write_text(html, encoding="utf-8")
    return paths.pages(dataset) / FIRST


def write_first() -> Path:
    """Write the page that a visitor opens first, and give it.

    Raises:
        DataError: A run or a report is missing.
    """
    run, titles = load_run(), dataset_titles()
    parts = [ABOUT, _picture("Test accuracy of every model on every data set", paths.figures() / "summary.png")]
    parts.append(headline_table())
    parts += [f"## {titles[name]}\n\n{Walk(name, run).told(3, f'{name}/')}" for name in run.datasets]
    parts += [f"## {titles[name]}\n\n{_opted_in(name)}" for name in run.shown]
    parts.append(_elsewhere())
    ways = [Way("motorec", FIRST, True), *(Way(titles[name], f"{name}/{FIRST}") for name in run.datasets)]
    html = Writer().page(_notebook("\n\n".join(parts)), "motorec", ways=ways)
    paths.write_whole(paths.pages() / FIRST, html)
    return paths.pages() / FIRST


def _picture(text: str, file: Path) -> str:
    """A picture within the page, as Markdown."""
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return f"![{text}](data:image/png;base64,{content})"


def _opted_in(name: str) -> str:
    """What there is of a data set whose runs are in git and whose data are not."""
    results = paths.root() / "results"
    files = {
        "all targets": results / "tables" / name / "overall.md",
        "cold targets": results / "tables" / name / "cold.md",
        **{
            f"what each part of {load_model(model).title} is worth": results / "ablations" / name / f"{model}.md"
            for model in load_profile("ablations", name).token_models
        },
        "what each model costs": results / "efficiency" / f"{name}.md",
    }
    links = [f"[{text}]({CHECKOUT}/{paths.shown(file)})" for text, file in files.items() if file.is_file()]
    told = (
        f"An opt-in data set: its numbers are in git, the data are not. `make compare DATASET={name}` makes its "
        f"notebooks, and their pages in `{paths.shown(paths.pages(name))}`. All models: {', '.join(links)}."
    )
    cost = results / "efficiency" / f"{name}.png"
    return f"{told}\n\n{_picture('Accuracy and cost of every model', cost)}" if cost.is_file() else told


def _elsewhere() -> str:
    """Links to files of the checkout that are no pages."""
    files = {
        "README": "README.md",
        "the method, point by point": "docs/fidelity.md",
        "TokenBridge, our own model": "docs/tokenbridge.md",
        "beside others' code and the published order": "docs/comparison.md",
        "comparing runs in MLflow": "docs/mlflow.md",
        "what each part is worth, all runs": "results/ablations",
        "what MoToRec owes to its settings": "results/sensitivity",
        "what each model costs": "results/efficiency",
        "what tuning tried": "results/tuning",
        "what tokens say of the items": "results/readable",
        "all tables": "results/tables",
        "all figures": "results/figures",
    }
    return "## Elsewhere in this checkout\n\n" + "\n".join(
        f"- [{text}]({CHECKOUT}/{file}) (`{file}`)" for text, file in files.items()
    )


def _notebook(markdown: str) -> nbformat.NotebookNode:
    """A notebook of one cell of text."""
    return new_notebook(cells=[new_markdown_cell(markdown, id="text")])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: the data set's name; none: the page to open first."""
    parser = argparse.ArgumentParser(prog="python -m motorec.reporting.pages", description=main.__doc__)
    parser.add_argument("dataset", nargs="?", help="a data set whose notebooks have been run")
    words = parser.parse_args(arguments)
    try:
        written = write_dataset(words.dataset) if words.dataset else write_first()
        print(f"Pages: {paths.shown(written)}")
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
