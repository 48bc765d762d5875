"""Which runs a report expects, and what they left behind.

The list comes from `params/run.yaml`, never from what lies on disk: a missing run is an error, and a run that is no
longer asked for is not looked at. A run whose model could not do without a modality that the data set lacks has a
reason in place of results; the loaders pass it over, and `left_out` tells it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from motorec import paths
from motorec.config import EvaluationSettings, RunSettings, load_ablations, load_model
from motorec.data.dataset import Dataset
from motorec.errors import DataError
from motorec.evaluation import judge

ORACLE = "oracle"
EXPECTED = 'expected one flat mapping such as {"test/all/recall@20": 0.1}; remove the file and make the run again.'
Role = Literal["model", "ablation", "oracle"]


@dataclass(frozen=True)
class ExpectedRun:
    """One run of one model on one data set: where it is, and how a reader calls it."""

    dataset: str
    model: str
    seed: int
    title: str
    role: Role

    @property
    def metrics_file(self) -> Path:
        """Where its metrics are, or should be."""
        return paths.run_results(self.dataset, self.model, self.seed) / "metrics.json"

    @property
    def places_file(self) -> Path:
        """Where the places of its test targets are, or should be."""
        return self.metrics_file.with_name(paths.PLACES)


def expected_runs(run: RunSettings, dataset: str) -> list[ExpectedRun]:
    """The runs of one data set, in the order of the tables.

    Models in closed form and the oracle run once, with the first seed; trained models once per seed, ablations once
    per ablation seed.

    Raises:
        ParamsError: A model or ablation that `params/run.yaml` names does not exist.
    """
    names: list[tuple[str, Role, Sequence[int]]] = [(name, "model", run.seeds[:1]) for name in run.fitted]
    names += [(name, "model", run.seeds) for name in run.trained]
    if dataset in run.ablation_datasets:
        names += [(name, "ablation", run.ablation_seeds or run.seeds) for name in run.ablations]
    runs = []
    for name, role, seeds in names:
        title = load_model(name, dataset).title
        runs += [ExpectedRun(dataset, name, seed, title, role) for seed in seeds]
    if dataset in run.with_truth:
        runs.append(ExpectedRun(dataset, ORACLE, run.seeds[0], load_model(ORACLE, dataset).title, "oracle"))
    return runs


def full_title(model: str, dataset: str | None = None) -> str:
    """What a model is called where it stands alone: an ablation with its model's title before it."""
    title, bases = load_model(model, dataset).title, load_ablations()
    if model not in bases:
        return title
    base = load_model(bases[model].base, dataset).title
    if base.startswith(title.partition(":")[0]):  # it names its model already
        return title
    return f"{base} {title}" if title.startswith("with") else f"{base}, {title}"


def left_out(runs: Sequence[ExpectedRun]) -> dict[str, str]:
    """Titles of the models that have no results because the data set lacks what they need, and why."""
    reasons = {run.title: _reason(run) for run in runs}
    return {title: reason for title, reason in reasons.items() if reason is not None}


def notes(runs: Sequence[ExpectedRun], where: str = "") -> list[str]:
    """What a table says below about the models left out of it.

    Args:
        runs: The runs that the table is made of.
        where: The data set's title, where a table has several.
    """
    on = f" on {where}" if where else ""
    # The reason's first sentence; how to mend it stands in the run's own files.
    return [f"Left out{on}: {title}: {reason.partition('. ')[0]}." for title, reason in left_out(runs).items()]


def _reason(run: ExpectedRun) -> str | None:
    """Why a run has no results; None for one that has, or that is missing."""
    return _read(run).get("left_out") if run.metrics_file.is_file() else None


def _read(run: ExpectedRun) -> dict[str, Any]:
    try:
        values = json.loads(run.metrics_file.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise DataError(f"{paths.shown(run.metrics_file)}: {EXPECTED}")
    return values


def load_metrics(runs: Sequence[ExpectedRun]) -> pd.DataFrame:
    """Read the metrics files of some runs, those of models left out passed over.

    Returns:
        One row per run and metric: `dataset`, `model`, `title`, `role`, `seed`, `split`, `group`, `metric`, `value`.

    Raises:
        DataError: A run has no metrics file, or one that cannot be read.
    """
    missing = [run for run in runs if not run.metrics_file.is_file()]
    if missing:
        raise DataError("\n".join(_how_to_make(run, run.metrics_file) for run in missing))
    rows = []
    for run in runs:
        values = _read(run)
        if "left_out" in values:
            continue
        try:
            for key, value in values.items():
                split, group, metric = key.split("/")
                rows.append((run.dataset, run.model, run.title, run.role, run.seed, split, group, metric, float(value)))
        except (ValueError, TypeError):
            raise DataError(f"{paths.shown(run.metrics_file)}: {EXPECTED}") from None
    columns = ["dataset", "model", "title", "role", "seed", "split", "group", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def load_per_user(
    runs: Sequence[ExpectedRun], data: Dataset, evaluation: EvaluationSettings
) -> dict[str, list[pd.DataFrame]]:
    """The per-user values of some runs on test, from the places that are in git: by model, one frame per seed.

    Models left out have none.

    Args:
        runs: Of one data set.
        data: The data set.
        evaluation: Cut-offs and groups.

    Raises:
        DataError: A run has no places, or places of other data.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for run in with_results(runs):
        file = run.places_file
        if not file.is_file():
            raise DataError(_how_to_make(run, file))
        try:
            frames.setdefault(run.model, []).append(judge(np.load(file), data, "test", evaluation))
        except (DataError, ValueError) as error:
            raise DataError(f"{paths.shown(file)}: {error}") from None
    return frames


def load_history(runs: Sequence[ExpectedRun]) -> pd.DataFrame:
    """Read losses and validation values by epoch, of trained models; models left out have none.

    Returns:
        The columns of `history.csv`, with `model`, `title` and `seed` before them.

    Raises:
        DataError: A run has none on this machine.
    """
    frames = []
    for run in with_results(runs):
        history = pd.read_csv(data_file(run, "history.csv"))
        frames.append(
            pd.DataFrame({"model": run.model, "title": run.title, "seed": run.seed}, history.index).join(history)
        )
    return pd.concat(frames, ignore_index=True)


def with_results(runs: Sequence[ExpectedRun]) -> list[ExpectedRun]:
    """The runs whose model was not left out."""
    return [run for run in runs if _reason(run) is None]


def data_file(run: ExpectedRun, name: str) -> Path:
    """A file of a run that is not in git.

    Raises:
        DataError: It is not on this machine.
    """
    file = paths.run_data(run.dataset, run.model, run.seed) / name
    if not file.is_file():
        raise DataError(_how_to_make(run, file))
    return file


def _how_to_make(run: ExpectedRun, file: Path) -> str:
    return (
        f"{paths.shown(file)} is missing: params/run.yaml asks for {run.model!r} on {run.dataset!r} with seed "
        f"{run.seed}. Make it with `dvc repro` (an opt-in data set: `make compare DATASET={run.dataset}`), or take it "
        "out of params/run.yaml."
    )
