"""Where every artefact of the pipeline lives, relative to the project's root.

The same names stand in `dvc.yaml`; a test holds the two together. D is a data set, M a model or ablation, S a seed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from motorec.errors import MotorecError

PLACES = "test-places.npy"  # of a run's results: `Evaluation.places` of the test split


def root() -> Path:
    """Find the project's root: the nearest folder, from the working directory upward, that holds `params/run.yaml`.

    Notebooks run in `notebooks/` by hand and in the root by the pipeline; both find the same place.

    Raises:
        MotorecError: No such folder exists.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params" / "run.yaml").is_file():
            return folder
    raise MotorecError(f"No params/run.yaml in {here} or above it: run this inside a checkout of motorec.")


def shown(path: Path) -> str:
    """A path as a reader sees it: relative to the root where it lies inside, so that no machine's folder is printed."""
    try:
        # Not resolved: a link inside the root is shown as what it is called here.
        return Path(os.path.abspath(path)).relative_to(root()).as_posix()  # noqa: PTH100
    except ValueError:
        return path.as_posix()


def raw(dataset: str) -> Path:
    """The data set as it came: a dataset folder or a folder of `.inter` files."""
    return root() / "data" / "raw" / dataset


def catalogue(dataset: str) -> Path:
    """The checked and split data set (stage 01)."""
    return root() / "data" / "catalogue" / dataset


def encoders() -> Path:
    """The bundled encoders as sentence-transformers folders (stage `encoders`)."""
    return root() / "data" / "encoders"


def features(dataset: str) -> Path:
    """One `.npz` file per modality (stage 02)."""
    return root() / "data" / "features" / dataset


def tokens(dataset: str, seed: int) -> Path:
    """The pretrained tokenizers and the items' codes (stage 03)."""
    return root() / "data" / "tokens" / dataset / str(seed)


def run_data(dataset: str, model: str, seed: int) -> Path:
    """What a run leaves that is too large for git: weights, losses by epoch (stage 04)."""
    return root() / "data" / "runs" / dataset / model / str(seed)


def run_results(dataset: str, model: str, seed: int) -> Path:
    """What a run leaves in git: `metrics.json`, and where each test target stood, `test-places.npy` (stage 04)."""
    return root() / "results" / "runs" / dataset / model / str(seed)


def checkpoints(*names: str | int) -> Path:
    """Scratch for unfinished work, so that a killed stage continues; never an output, removed when the work is done."""
    return root().joinpath("data", "unfinished", *(str(name) for name in names))


def timings() -> Path:
    """Wall-clock seconds and memory: never hashed by DVC, read by MLflow and the progress display only."""
    return root() / "data" / "timings"


def studies(dataset: str, model: str) -> Path:
    """Every trial of a model's tuning, so that a killed study continues."""
    return root() / "data" / "tuning" / dataset / model


def tuned(dataset: str, model: str) -> Path:
    """The best settings that tuning found; the table of trials lies beside it."""
    return root() / "results" / "tuning" / dataset / f"{model}.yaml"


def sensitivity_runs(dataset: str) -> Path:
    """Every run of the sensitivity study, a file each, so that a killed study continues."""
    return root() / "data" / "sensitivity" / dataset


def sensitivity(dataset: str, parameter: str) -> Path:
    """What came of each value of a parameter, with each seed; the joint table and figures lie beside the folder."""
    return root() / "results" / "sensitivity" / dataset / f"{parameter}.csv"


def notebooks(dataset: str = "") -> Path:
    """Executed notebooks of one data set; none named: of all, a folder each."""
    return root() / "data" / "notebooks" / dataset


def pages(dataset: str = "") -> Path:
    """Executed notebooks of one data set as pages of HTML; none named: of all, and the page to open first."""
    return root() / "data" / "pages" / dataset


def failed() -> Path:
    """Executed notebooks of stages that failed, kept for reading."""
    return root() / "data" / "failed"


def tables() -> Path:
    """Tables of the report, a folder per data set, and the joint ones."""
    return root() / "results" / "tables"


def figures() -> Path:
    """Figures of the report."""
    return root() / "results" / "figures"


def readable(dataset: str) -> Path:
    """What the data set's tokens say of its items' attributes: tables and figures (stage 07)."""
    return root() / "results" / "readable" / dataset


def headlines() -> Path:
    """A few figures of each data set and model, for `dvc metrics`."""
    return root() / "results" / "metrics"


def joint(dataset: str) -> Path:
    """Numbers of one data set that the joint tables are made of; in git, so that they need no data."""
    return root() / "results" / "joint" / dataset


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Write a folder all or nothing: yields an empty scratch folder that becomes `target` if the block succeeds.

    A block that raises leaves what was at `target` before untouched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file all or nothing, making its folder where needed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.part")
    scratch.write_bytes(content.encode() if isinstance(content, str) else content)
    scratch.replace(target)
