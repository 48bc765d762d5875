"""A finished run as an MLflow model: users go in, their best items come out.

What MLflow keeps is what the run left, its settings and its weights. Loading builds the model again through the same
classes as the training, from this project's catalogue and features: it works inside a checkout whose pipeline has run,
and refuses data or settings other than those of the run. A model in closed form is fitted again.

    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    model.predict(pd.DataFrame({"user_id": ["u0001", "u0002"], "k": 5}))

Nothing is pickled: MLflow is told to call `_load_pyfunc` of this module with the folder that `export` wrote.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from motorec import paths
from motorec.data import Dataset
from motorec.errors import DataError
from motorec.evaluation.evaluate import SEEN, rank
from motorec.experiment import Experiment
from motorec.models import Recommender, TrainedRecommender

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BATCH = 1024  # users scored at a time
COLUMNS = ("user_id", "k")
SETTINGS, WEIGHTS, INPUTS = "settings.json", "model.safetensors", "inputs.json"
TITLES = ("title",)  # what a thing is called decides no score


@dataclass(frozen=True)
class TopItems:
    """A model that answers in the data's own ids.

    Attributes:
        dataset: Whose users and items these are.
        model: Fitted or trained, and frozen.
    """

    dataset: Dataset
    model: Recommender

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Each user's best items among those not seen in training: the lists that validation judges.

        Args:
            table: A row per list: `user_id`, the data's own id as text, and `k`, how many items.

        Returns:
            A row per item, in the order of the table and best first: `user_id`, `rank` (from 1), `item_id`, `score`
            (larger is better; its scale is the model's own). A list is shorter where fewer than k items are left.

        Raises:
            DataError: A column is missing, a user is not in the data set, or a k is less than 1.
        """
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise DataError(
                f"The table has no column {' and '.join(missing)}: expected user_id (text) and k (a number), a row "
                "per list."
            )
        users, lengths = self._users(table["user_id"]), table["k"].to_numpy()
        if len(lengths) and lengths.min() < 1:
            raise DataError(f"The table asks for k = {lengths.min()} items: k must be at least 1.")
        lists = [
            self._lists(users[start : start + BATCH], lengths[start : start + BATCH])
            for start in range(0, len(users), BATCH)
        ]
        empty = pd.DataFrame(
            {"user_id": pd.Series(dtype=str), "rank": [], "item_id": pd.Series(dtype=str), "score": []}
        )
        return pd.concat(lists or [empty], ignore_index=True).astype({"rank": "int64", "score": "float64"})

    def _users(self, ids: Iterable[str]) -> np.ndarray:
        """Indices of users, (rows,), by their ids."""
        asked = list(ids)
        index = pd.Index(self.dataset.users).get_indexer(pd.Index(asked))
        unknown = list(dict.fromkeys(user for user, place in zip(asked, index, strict=True) if place < 0))
        if unknown:
            named = ", ".join(repr(user) for user in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            known = ", ".join(repr(user) for user in self.dataset.users[:3])
            raise DataError(
                f"{self.dataset.name} has no user {named}. Ids are text, such as {known}; all of them are in "
                f"{paths.shown(paths.catalogue(self.dataset.name))}/users.parquet."
            )
        return index.astype(np.int64)

    def _lists(self, users: np.ndarray, lengths: np.ndarray) -> pd.DataFrame:
        """The lists of some users, (b,), each of its own length."""
        with torch.no_grad():
            scores = self.model.score(users)
        top = rank(lambda _: scores, self.dataset, users, SEEN["valid"], int(lengths.max()), len(users))
        row, place = np.nonzero((top >= 0) & (np.arange(top.shape[1]) < lengths[:, None]))
        item = top[row, place]
        return pd.DataFrame(
            {
                "user_id": np.asarray(self.dataset.users, dtype=object)[users[row]],
                "rank": place + 1,
                "item_id": self.dataset.items["item_id"].to_numpy(dtype=object)[item],
                "score": scores.numpy()[row, item],
            }
        )


def export(dataset: str, model: str, seed: int, folder: Path) -> None:
    """Copy what `load` needs of a finished run into a folder.

    Raises:
        DataError: The run, the catalogue or the features are missing.
    """
    run = paths.run_data(dataset, model, seed)
    if not (run / SETTINGS).is_file():
        raise DataError(f"{paths.shown(run / SETTINGS)} is missing: run `dvc repro` first.")
    for name in (SETTINGS, WEIGHTS):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    (folder / INPUTS).write_text(json.dumps(_inputs(dataset, seed), indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> TopItems:
    """Build a run's model again from what `export` wrote, the catalogue and the features.

    Raises:
        DataError: The settings in `params/` or the data are not those of the run; the message says which.
    """
    about = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    dataset, name, seed = about["dataset"], about["model"], about["seed"]
    where = f"{name} on {dataset}, seed {seed}"
    mend = "Bring them back, or run `dvc repro` and take the model that it leaves."
    made, now = json.loads((folder / INPUTS).read_text(encoding="utf-8")), _inputs(dataset, seed)
    other = sorted(file for file in {*made, *now} if made.get(file) != now.get(file))
    if other:
        raise DataError(f"{where}: other files than the model was made from: {', '.join(other)}. {mend}")
    experiment = Experiment.load(dataset, name, seed)
    changed = sorted(_differing(about, json.loads(json.dumps(experiment.settings()))))
    if changed:
        raise DataError(
            f"{where}: other settings in params/ than the model was made with: {', '.join(changed)}. {mend}"
        )
    model = experiment.build()
    if isinstance(model, TrainedRecommender):
        from safetensors.torch import load_file

        model.load_state_dict(load_file(folder / WEIGHTS))
        model.freeze()
    return TopItems(experiment.dataset, model)


def signature() -> ModelSignature:
    """What goes in and comes out, as MLflow tells it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    asked = {"user_id": "string", "k": "long"}
    answered = {"user_id": "string", "rank": "long", "item_id": "string", "score": "double"}
    return ModelSignature(*(Schema([ColSpec(kind, name) for name, kind in one.items()]) for one in (asked, answered)))


def example(dataset: str) -> pd.DataFrame:
    """A table that can be asked: the first two users of the data set, five items each.

    Raises:
        DataError: The data stage has not run.
    """
    return pd.DataFrame({"user_id": Dataset.load(paths.catalogue(dataset)).users[:2], "k": 5})


def requirements() -> list[str]:
    """The packages that decide what a loaded model does, as they are here; the rest is in requirements.lock."""
    names = ("mlflow", "numpy", "pandas", "safetensors", "scipy", "torch")
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def _load_pyfunc(path: str) -> TopItems:
    """What `mlflow.pyfunc.load_model` calls."""
    return load(Path(path))


def _inputs(dataset: str, seed: int) -> dict[str, str]:
    """Hashes of the files that a model is built from, by their place in the project.

    Raises:
        DataError: An earlier stage has not run.
    """
    folders = (paths.catalogue(dataset), paths.features(dataset), paths.tokens(dataset, seed))
    for folder in folders[:2]:  # not every run has tokens
        if not folder.is_dir():
            raise DataError(f"{paths.shown(folder)} is missing: run `dvc repro` first.")
    files = [
        file
        for folder in folders
        for file in sorted(folder.glob("*"))
        if file.suffix in (".parquet", ".npz", ".safetensors")
    ]
    return {paths.shown(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _differing(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of settings that two runs do not share; titles do not count."""
    found = []
    for key in {*one, *other} - {*TITLES}:
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differing(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found
