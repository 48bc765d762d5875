"""Which runs a report expects, and what they left behind.

The list comes from `params/run.yaml`, never from what lies on disk: a missing run is an error, and a run that is no
longer asked for is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from motorec import paths
from motorec.config import RunSettings, load_model
from motorec.errors import DataError

ORACLE = "oracle"
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


def expected_runs(run: RunSettings, dataset: str) -> list[ExpectedRun]:
    """The runs of one data set, in the order of the tables.

    Closed-form models and the oracle run once, with the first seed; trained models once per seed, ablations once per
    ablation seed.

    Raises:
        ParamsError: A model or ablation that `params/run.yaml` names does not exist.
    """
    names: list[tuple[str, Role, Sequence[int]]] = [(name, "model", run.seeds[:1]) for name in run.closed_form]
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


def load_metrics(runs: Sequence[ExpectedRun]) -> pd.DataFrame:
    """Read the metrics files of some runs.

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
        file = run.metrics_file
        try:
            values = {tuple(key.split("/")): float(value) for key, value in json.loads(file.read_text()).items()}
            rows += [
                (run.dataset, run.model, run.title, run.role, run.seed, split, group, metric, value)
                for (split, group, metric), value in values.items()
            ]
        except (ValueError, TypeError, AttributeError):
            raise DataError(
                f"{paths.shown(file)}: expected one flat mapping such as "
                '{"test/all/recall@20": 0.1}; remove the file and make the run again.'
            ) from None
    columns = ["dataset", "model", "title", "role", "seed", "split", "group", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def load_per_user(runs: Sequence[ExpectedRun]) -> dict[str, list[pd.DataFrame]]:
    """Read the per-user values of some runs: by model, one frame per seed.

    Raises:
        DataError: A run has none on this machine.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        frames.setdefault(run.model, []).append(pd.read_parquet(_data_file(run, "per_user.parquet")))
    return frames


def load_history(runs: Sequence[ExpectedRun]) -> pd.DataFrame:
    """Read losses and validation values by epoch, of trained models.

    Returns:
        The columns of `history.csv`, with `model`, `title` and `seed` before them.

    Raises:
        DataError: A run has none on this machine.
    """
    frames = []
    for run in runs:
        history = pd.read_csv(_data_file(run, "history.csv"))
        frames.append(
            pd.DataFrame({"model": run.model, "title": run.title, "seed": run.seed}, history.index).join(history)
        )
    return pd.concat(frames, ignore_index=True)


def _data_file(run: ExpectedRun, name: str) -> Path:
    file = paths.run_data(run.dataset, run.model, run.seed) / name
    if not file.is_file():
        raise DataError(_how_to_make(run, file))
    return file


def _how_to_make(run: ExpectedRun, file: Path) -> str:
    return (
        f"{paths.shown(file)} is missing: params/run.yaml asks for {run.model!r} on {run.dataset!r} with seed "
        f"{run.seed}. Make it with `dvc repro` (an opt-in data set: `make {run.dataset}`), or take it out of "
        "params/run.yaml."
    )
