"""Run one notebook for one stage, deterministically: `python -m motorec.nbrun 04_train dataset=garments model=bpr`.

Parameters are checked against the notebook's own before anything runs. The executed notebook is freed of what differs
between two runs and moved into place only when every cell has succeeded; a failed one is kept where the message says.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from traitlets import Enum, default

from motorec import config, paths
from motorec.errors import LeftOut, MotorecError, ParamsError, nearest

# Before this one, all settings of its data set are checked: later notebooks come after long work.
FIRST = "01_data"
SIGNPOST = "papermill-error-cell-tag"
KILLED = "the notebook's process was killed, perhaps for want of memory."


class Kernel(AsyncKernelManager):
    """A kernel spoken to through local sockets: nobody else on the machine can listen in, and none warns of it."""

    transport = Enum(["ipc"], default_value="ipc")

    @default("ip")
    def _folder_of_its_own(self) -> str:
        # By default sockets are numbered in the notebook's folder, where two kernels that start at once take the same.
        self._sockets = tempfile.TemporaryDirectory(prefix="kernel-")
        return f"{self._sockets.name}/socket"


def notebook_path(name: str) -> Path:
    """The source of a notebook.

    Raises:
        ParamsError: There is none of this name.
    """
    path = paths.root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        known = [other.stem for other in path.parent.glob("*.ipynb")]
        raise ParamsError(f"notebooks/{name}.ipynb: no such notebook. {nearest(name, known)}")
    return path


def defaults(notebook: Path) -> dict[str, Any]:
    """The parameters of a notebook and their defaults: the assignments in its cell tagged `parameters`.

    Raises:
        ParamsError: The notebook has no such cell, or a default is no plain value.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParamsError(f"{paths.shown(notebook)}: expected one cell tagged 'parameters', found {len(tagged)}.")
    found = {}
    for line in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            try:
                found[line.targets[0].id] = ast.literal_eval(line.value)
            except ValueError:
                raise ParamsError(
                    f"{paths.shown(notebook)}: the default of {line.targets[0].id!r} must be a plain value."
                ) from None
    return found


def check(notebook: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Give the parameters their type, or say which one is wrong before anything runs.

    Args:
        notebook: The source notebook.
        given: Parameters as words, as on a command line.

    Returns:
        All parameters of the notebook, those not given with their defaults.

    Raises:
        ParamsError: A name is unknown, or a value is not of the default's type.
    """
    known = defaults(notebook)
    values = dict(known)
    for name, text in given.items():
        if name not in known:
            raise ParamsError(f"{paths.shown(notebook)} has no parameter {name!r}. {nearest(name, known)}")
        kind = type(known[name])
        try:
            value: Any = text if kind is str else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = None
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ParamsError(
                f"{paths.shown(notebook)}: {name} is {text!r}, expected {kind.__name__} like {known[name]!r}."
            )
        values[name] = value
    _check_names(values)
    return values


def _check_names(values: Mapping[str, Any]) -> None:
    """Data sets and models must exist, and their settings be right: asking config for them raises."""
    dataset = values.get("dataset")
    if dataset is not None:
        config.load_dataset(dataset)
    if "model" in values:
        config.load_model(values["model"], dataset)


def normalise(notebook: dict[str, Any]) -> dict[str, Any]:
    """Take out of an executed notebook what differs between two runs of the same thing.

    That is: timestamps and paths that the runner notes, the random id of the injected cell, versions, and standard
    error, on which progress is shown. The signposts to an error go as well: a notebook that comes here ended well.
    """
    notebook["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    notebook["cells"] = [cell for cell in notebook["cells"] if SIGNPOST not in cell["metadata"].get("tags", [])]
    for index, cell in enumerate(notebook["cells"]):
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        if "injected-parameters" in tags:
            cell["id"] = f"parameters-{index}"
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    return notebook


def run(name: str, given: Mapping[str, str]) -> Path:
    """Run a notebook with parameters.

    Returns:
        Where the executed notebook lies.

    Raises:
        ParamsError: A parameter is wrong; nothing has run.
        MotorecError: A cell failed; the message has its error and says where the notebook is kept.
    """
    source = notebook_path(name)
    values = check(source, given)
    if name == FIRST:
        from motorec.preflight import check_dataset  # knows all models, and so brings torch

        check_dataset(config.load_run(), values["dataset"])
    title = "-".join([name, *(str(value) for value in values.values())])
    folder_of_data = paths.notebooks(str(values.get("dataset", "")))
    target, kept = folder_of_data / f"{title}.ipynb", paths.failed() / f"{title}.ipynb"

    # A grammar of web addresses that takes a second to build, for a check that no notebook needs.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        scratch = Path(folder) / "executed.ipynb"
        try:
            papermill.execute_notebook(
                source,
                scratch,
                parameters=values,
                kernel_name="python3",
                cwd=source.parent,
                progress_bar=False,
                stderr_file=sys.stderr,
                kernel_manager_class="motorec.nbrun.Kernel",
            )
        except (PapermillExecutionError, DeadKernelError) as error:
            name_of_error = getattr(error, "ename", None)
            if name_of_error != LeftOut.__name__:
                paths.write_whole(kept, scratch.read_bytes())
                what = KILLED if name_of_error is None else f"{name_of_error}: {getattr(error, 'evalue', '')}"
                raise MotorecError(
                    f"{title} failed: {what}\nThe notebook, up to the failing cell, is kept at {paths.shown(kept)}."
                ) from None
            # Its outputs are written, and say why there are no others.
            print(f"Left out: {getattr(error, 'evalue', '')}", flush=True)
        executed = normalise(json.loads(scratch.read_text(encoding="utf-8")))
    paths.write_whole(target, json.dumps(executed, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    kept.unlink(missing_ok=True)
    seconds = round(time.perf_counter() - started, 1)
    paths.write_whole(paths.timings() / "stages" / f"{title}.json", json.dumps({"seconds": seconds}) + "\n")
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: a notebook's name and its parameters as name=value."""
    parser = argparse.ArgumentParser(prog="python -m motorec.nbrun", description=__doc__.split("\n\n")[0])
    parser.add_argument("notebook", help="for instance 04_train")
    parser.add_argument("parameters", nargs="*", metavar="name=value")
    words = parser.parse_args(arguments)
    try:
        loose = [word for word in words.parameters if "=" not in word]
        if loose:
            raise ParamsError(f"{loose[0]!r} is no parameter: write it as name=value.")
        run(words.notebook, dict(word.split("=", 1) for word in words.parameters))
    except MotorecError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # whoever stopped it knows
    return 0


if __name__ == "__main__":
    sys.exit(main())
