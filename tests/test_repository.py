"""The repository's parts agree: lock and environment, dvc.yaml and paths, notebooks and git."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

from motorec import paths
from motorec.config import load_ablations, load_model, load_profile, load_report, load_run, load_run_for
from motorec.models import model_class
from motorec.reporting import ablations, figures, summary
from motorec.reporting.runs import expected_runs, load_metrics

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split(" ")[0].split("==") for line in lines if re.match(r"^[A-Za-z0-9]", line)]
    return {re.sub(r"[-_.]+", "-", name.lower()): version for name, version in pins}


def test_the_lock_satisfies_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    pins = locked()
    for text in asked:
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name.lower())
        assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{text}, but the lock has {pins[name]}: run `make lock`"


def test_all_that_is_locked_is_for_every_python_3_11() -> None:
    pins = locked()
    for package in distributions():
        name, pythons = re.sub(r"[-_.]+", "-", package.name.lower()), package.metadata.get("Requires-Python")
        if pythons and pins.get(name) == package.version:
            assert SpecifierSet(pythons).contains("3.11.0"), f"{name} {package.version} is for Python {pythons}"


def test_torch_is_pinned_and_no_accelerator_package_comes_with_it() -> None:
    pins = locked()
    assert pins["torch"] == "2.13.0"
    assert not [name for name in pins if name.startswith(("nvidia", "triton", "cuda"))]


def test_conda_environment_installs_the_same_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python, pip, packages = environment["dependencies"]
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.lock", "-e ."]}
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python.split("=")[1] + ".0")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_plain(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None
            source = "".join(cell["source"])
            assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE), "notebooks tell; motorec/ defines"
            assert len(source.splitlines()) <= 15
            assert all(len(line) <= 120 for line in source.splitlines())


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_start_with_their_question_and_end_with_their_finding(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert cells[0]["cell_type"] == "markdown"
    assert re.match(r"# \d\d · .+\n\n\*\*Question\.\*\* [^\n]+(\n[^\n]+)*\?\n\n", sources[0])
    assert sources[-2].startswith("## Finding\n")
    assert cells[-1]["cell_type"] == "code"
    assert re.search(r"^Markdown\((findings\.\w+\(.+\)|results\.finding\(\))\)$", sources[-1], re.MULTILINE)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_lead_to_the_next_and_back(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "markdown"]
    linked = [re.findall(r"\]\(([^)]+)\)", "".join(cell["source"])) for cell in cells]
    for link in (link for links in linked for link in links):
        assert (notebook.parent / link).is_file(), link
    place = NOTEBOOKS.index(notebook)
    if place > 0:
        assert NOTEBOOKS[place - 1].name in linked[0]
    if place < len(NOTEBOOKS) - 1:
        assert NOTEBOOKS[place + 1].name in linked[0]
        assert NOTEBOOKS[place + 1].name in linked[-1]


def test_there_is_a_notebook_per_stage() -> None:
    names = [path.stem for path in NOTEBOOKS]
    first = ["01_data", "02_features", "03_tokenize", "04_train", "05_ablations", "06_report"]
    assert names == [*first, "07_readable_tokens"]


def test_every_executed_notebook_lies_with_its_data_set() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    runs = {name: stage for name, stage in stages.items() if "motorec.nbrun" in stage["cmd"]}
    assert len(runs) >= 9
    for name, stage in runs.items():
        notebook = stage["cmd"].split()[3]
        start = f"data/notebooks/${{item.dataset}}/{notebook}-${{item.dataset}}"
        assert any(isinstance(out, str) and out.startswith(start) for out in stage["outs"]), name


def test_dvc_and_paths_speak_of_the_same_places() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outs = {
        (out if isinstance(out, str) else next(iter(out)))
        .replace("${item.dataset}", "D")
        .replace("${item.model}", "M")
        .replace("${item.seed}", "7")
        for stage in stages.values()
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]
    }
    for path in (
        paths.raw("D"),
        paths.catalogue("D"),
        paths.encoders(),
        paths.features("D"),
        paths.tokens("D", 7),
        paths.run_data("D", "M", 7),
        paths.run_results("D", "M", 7),
        paths.tables() / "D",
        paths.figures() / "D",
        paths.joint("D"),
        paths.pages("D"),
        paths.pages() / "index.html",
        paths.readable("D"),
        ablations.folder("D"),
    ):
        assert paths.shown(path) in outs


def test_every_dependency_in_dvc_yaml_is_a_file_of_the_project() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    run = load_run()
    models = {"fit": run.closed_form, "content": run.content_models, "train": run.models, "token": run.token_models}
    for name, stage in stages.items():
        for dependency in stage["deps"]:
            if dependency.startswith(("motorec/", "notebooks/")):
                for model in models.get(name, ("none",)):
                    assert (ROOT / dependency.replace("${item.model}", model)).exists(), f"{name}: {dependency}"


def imported(file: Path) -> set[Path]:
    """The files of the package that a file imports, directly or not; packages' __init__ are looked through.

    What is imported for type checkers alone is never run.
    """
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        tree = ast.parse(waiting.pop().read_text())
        typing = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ]
        unused = {inner for node in typing for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if node in unused:
                continue
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("motorec"):
                path = ROOT / node.module.replace(".", "/")
                for one in (path.with_suffix(".py"), path / "__init__.py"):
                    if one.is_file() and one not in found:
                        found.add(one)
                        waiting.append(one)
    return found


@pytest.mark.parametrize("group", ["fit", "content", "train", "token"])
def test_a_model_depends_on_all_that_it_is_made_of(group: str) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    run = load_run_for("hm")
    names = {"fit": run.closed_form, "content": run.content_models, "train": run.models, "token": run.token_models}
    for name in names[group]:
        model = Path(inspect.getfile(model_class(load_model(name).kind)))
        listed = {dependency.replace("${item.model}", name) for dependency in stages[group]["deps"]}
        # The rest says how things are read and told, and what a seed means: no model's arithmetic.
        parts = ("models/", "tokenizer/", "features/components", "graph", "itemgraph", "rarity")
        for file in {model, *imported(model)}:
            path = file.relative_to(ROOT).as_posix()
            if path.removeprefix("motorec/").startswith(parts) and file.name != "__init__.py":
                assert path in listed or f"{Path(path).parent}" in listed, f"{group}, {name}: {path}"


def test_the_readmes_results_are_those_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    written = tmp_path / "README.md"
    written.write_bytes((ROOT / "README.md").read_bytes())
    summary.update_readme(written)
    assert written.read_text() == (ROOT / "README.md").read_text(), "stale: `dvc repro summary` writes it anew"


def test_every_result_of_the_default_data_is_the_one_that_the_pipeline_noted() -> None:
    """No stage's result in `results/`, and nothing there that it was made of, has changed since `dvc.lock` was written.

    The README's figures of these data are among them: one that is older than the numbers it draws is found here. Code
    and settings are not looked at, nor what opt-in data sets left in git.
    """
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    changed = {
        f"{stage}: {file}"
        for stage, parts in json.loads(done.stdout).items()
        for part in parts
        if isinstance(part, dict)
        for files in part.values()
        if isinstance(files, dict)
        for file in files
        if file.startswith("results/")
    }
    assert not changed, "`make repro` makes them anew"


def test_the_readmes_summary_is_drawn_from_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    figure = figures.accuracy(summary.joint_metrics(), load_report().headline, summary.dataset_titles())
    drawn = figures.save(figure, tmp_path / "summary.png")
    pictures = [
        np.asarray(Image.open(file).convert("RGB"), dtype=float) for file in (drawn, paths.figures() / "summary.png")
    ]
    assert pictures[0].shape == pictures[1].shape
    # Another processor may round an edge otherwise; a bar of another length is some thousand pixels.
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 64).sum() < 50, "stale: `dvc repro summary` draws it anew"


@pytest.mark.parametrize("dataset", load_profile("ablations").datasets)
@pytest.mark.parametrize("model", load_profile("ablations").token_models)
def test_the_tables_of_ablations_are_those_of_the_runs(dataset: str, model: str) -> None:
    bases = load_ablations()
    runs = [run for run in expected_runs(load_profile("ablations", dataset), dataset) if run.role != "oracle"]
    mine = [run for run in runs if model in (run.model, bases[run.model].base if run.model in bases else "")]
    unfinished = {run.model for run in mine if not run.places_file.is_file()}
    mine = [run for run in mine if run.model not in unfinished]
    file = ablations.folder(dataset) / f"{model}.csv"
    if model in unfinished or {run.model for run in mine} == {model}:
        assert not file.exists()
        return
    table = pd.read_csv(file).set_index("model")
    assert list(table.index) == list(dict.fromkeys(run.model for run in mine))
    values = load_metrics(mine).query("split == 'test'")
    values = values.assign(metric=values["group"] + "/" + values["metric"])
    means = values.pivot_table(values="value", index="model", columns="metric", aggfunc="mean").loc[table.index]
    shown = [column for column in table if column in means]
    assert len(shown) == 4
    assert table["seeds"].tolist() == values.groupby("model")["seed"].nunique()[table.index].tolist()
    pd.testing.assert_frame_equal(table[shown], means[shown], check_names=False, atol=1e-6, rtol=0)


def test_every_file_that_dvc_plots_is_in_git_and_has_its_columns() -> None:
    plots = [values for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for values in plot.values()]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(plots) >= 7
    for plot in plots:
        for file, column in plot["y"].items():
            assert file in tracked
            assert {plot["x"], column} <= set(pd.read_csv(ROOT / file, nrows=1)), file


def test_reading_the_tokens_depends_on_what_makes_them() -> None:
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["readable"]["deps"]
    assert {"data/tokens/${item.dataset}", "data/runs/${item.dataset}"} <= set(listed)
    parts = ("readability", "reporting/", "tokenizer/", "tokenkinds", "features/components", "rarity", "seeding")
    assert {"motorec/experiment.py", "motorec/evaluation", "motorec/models/motorec.py"} <= set(listed)
    for file in imported(ROOT / "motorec" / "reporting" / "readable.py"):
        path = file.relative_to(ROOT).as_posix()
        if path.removeprefix("motorec/").startswith(parts):
            assert path in listed or Path(path).parent.as_posix() in listed, path


def test_no_machine_is_named_in_tracked_files() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split("\n"):
        path = ROOT / name
        if path.is_file() and path.suffix in {
            ".py",
            ".yaml",
            ".yml",
            ".md",
            ".ipynb",
            ".toml",
            ".json",
            ".csv",
            ".lock",
        }:
            found = re.search(r"(?<![\w.])/(?:home|root|Users|work)/", path.read_text(encoding="utf-8"))
            assert found is None, f"{name} names a folder of a machine"
