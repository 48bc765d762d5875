"""What tests share: a scratch project with this repository's settings."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


# Before any test imports NumPy or torch; by its file, since the package itself must not be imported before the check of
# array shapes is in place.
runpy.run_path(str(ROOT / "motorec" / "processor.py"))["pin"]()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with a copy of `params/`, as the working directory."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a run: making one takes seconds."""
    from mlflow import MlflowClient  # takes seconds as well

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file
