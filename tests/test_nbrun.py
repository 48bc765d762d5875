"""The notebook runner: wrong parameters before anything runs, failed cells, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from motorec import nbrun, paths
from motorec.errors import MotorecError, ParamsError


def write(project: Path, name: str, *cells: str, parameters: str = 'word = "a"\nnumber = 1\nshare = 0.5\n') -> None:
    def cell(place: int, source: str, tags: list[str]) -> dict[str, Any]:
        metadata = {"tags": tags} if tags else {}
        fixed = {"cell_type": "code", "execution_count": None, "outputs": []}
        return fixed | {"id": f"cell-{place}", "metadata": metadata, "source": source}

    sources = [(parameters, ["parameters"]), *((source, []) for source in cells)]
    notebook = {
        "cells": [cell(place, source, tags) for place, (source, tags) in enumerate(sources)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (project / "notebooks").mkdir(exist_ok=True)
    (project / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"numbr": "2"}, r"notebooks/toy\.ipynb has no parameter 'numbr'\. Did you mean 'number'\?"),
        ({"number": "two"}, r"number is 'two', expected int like 1"),
        ({"number": "2.5"}, r"number is '2\.5', expected int"),
        ({"share": "high"}, r"share is 'high', expected float"),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(given: dict[str, str], message: str, project: Path) -> None:
    write(project, "toy", "open('ran', 'w').close()")
    with pytest.raises(ParamsError, match=message):
        nbrun.run("toy", given)
    assert not (project / "notebooks" / "ran").exists()
    assert not paths.notebooks().exists()


def test_parameters_get_their_type(project: Path) -> None:
    write(project, "toy")
    found = nbrun.check(nbrun.notebook_path("toy"), {"word": "7", "share": "1"})
    assert found == {"word": "7", "number": 1, "share": 1.0}
    assert type(found["share"]) is float


def test_names_of_data_sets_and_models_are_checked(project: Path) -> None:
    write(project, "toy", parameters='dataset = "garments"\nmodel = "bpr"\n')
    with pytest.raises(ParamsError, match=r"params/data/garmnts\.yaml: no such file\. Did you mean 'garments'\?"):
        nbrun.run("toy", {"dataset": "garmnts"})
    with pytest.raises(ParamsError, match=r"No model or ablation is called 'motorec-no-arra'.*'motorec-no-ara'"):
        nbrun.run("toy", {"model": "motorec-no-arra"})


def test_unknown_notebook(project: Path) -> None:
    write(project, "toy")
    with pytest.raises(ParamsError, match=r"notebooks/toi\.ipynb: no such notebook\. Did you mean 'toy'\?"):
        nbrun.run("toi", {})


def test_a_notebook_needs_one_parameters_cell_of_plain_values(project: Path) -> None:
    write(project, "toy", parameters="word = open\n")
    with pytest.raises(ParamsError, match="default of 'word' must be a plain value"):
        nbrun.run("toy", {})


def test_command_line_says_what_is_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, "toy")
    assert nbrun.main(["toy", "word"]) == 1
    assert "'word' is no parameter: write it as name=value" in capsys.readouterr().err


@pytest.mark.slow
def test_two_runs_give_the_same_bytes_and_no_trace_of_the_machine(project: Path) -> None:
    write(project, "toy", "import sys\nprint('pro' + 'gress', file=sys.stderr)\nprint(word, number + 1)", "word * 2")
    first = nbrun.run("toy", {"word": "b"}).read_bytes()
    second = nbrun.run("toy", {"word": "b"})
    assert second.read_bytes() == first
    assert second.name == "toy-b-1-0.5.ipynb"
    text = first.decode()
    assert "b 2" in text
    assert "'bb'" in text
    for trace in (str(project), "progress", "duration", "papermill", "3.11"):
        assert trace not in text


@pytest.mark.slow
def test_a_failing_cell_is_told_and_the_notebook_kept(project: Path) -> None:
    write(project, "toy", "print('before')", "raise ValueError('the soup is cold')", "print('after')")
    with pytest.raises(MotorecError, match=r"ValueError: the soup is cold(.|\n)*data/failed/toy-a-1-0\.5\.ipynb"):
        nbrun.run("toy", {})
    assert not paths.notebooks().exists()
    kept = json.loads((paths.failed() / "toy-a-1-0.5.ipynb").read_text())
    outputs = [
        "".join(o.get("text", "")) for cell in kept["cells"] if cell["cell_type"] == "code" for o in cell["outputs"]
    ]
    assert any("before" in text for text in outputs)
    assert not any("after" in text for text in outputs)
    # The next success clears it away.
    write(project, "toy", "print('fine')")
    nbrun.run("toy", {})
    assert not list(paths.failed().glob("*.ipynb"))


def test_kernels_that_start_at_once_do_not_meet() -> None:
    assert nbrun.Kernel().ip != nbrun.Kernel().ip
