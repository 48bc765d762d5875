"""A tiny planted data set: groups of users who take items of their own group, with features that tell the group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from motorec.config import EvaluationSettings, TrainingSettings
from motorec.data import Dataset
from motorec.evaluation import validate
from motorec.features import Features
from motorec.models import Inputs, TrainedRecommender
from motorec.training import train


def planted_dataset(users: int = 120, items: int = 60, groups: int = 4, taken: int = 8, seed: int = 0) -> Dataset:
    """Users of group g take items of group g only; the last item of each group is nobody's in training."""
    generator = np.random.default_rng(seed)
    item_group = np.arange(items) % groups
    new = np.arange(items) >= items - groups
    rows = []
    for user in range(users):
        mine = np.flatnonzero((item_group == user % groups) & ~new)
        chosen = generator.choice(mine, taken, replace=False)
        rows += [(user, item, "train") for item in chosen[: taken - 2]]
        rows += [(user, chosen[-2], "valid"), (user, chosen[-1], "test")]
        if user < 4 * groups:
            rows.append((user, int(np.flatnonzero(new & (item_group == user % groups))[0]), "test"))
    interactions = pd.DataFrame(rows, columns=["user", "item", "split"]).sort_values(
        ["user", "item"], ignore_index=True
    )
    interactions = interactions.astype({"user": "int32", "item": "int32"})
    table = pd.DataFrame({"item_id": [f"i{item}" for item in range(items)], "text": "", "image": ""})
    table["group"] = item_group.astype(str)
    return Dataset("planted", table, [f"u{user}" for user in range(users)], interactions)


def planted_features(dataset: Dataset, modalities: tuple[str, ...] = ("image", "text")) -> dict[str, Features]:
    """A direction per group, plus noise; each modality has its own."""
    found = {}
    for place, modality in enumerate(modalities):
        generator = np.random.default_rng(place)
        groups = dataset.items["group"].astype(int).to_numpy()
        centres = generator.normal(size=(groups.max() + 1, 12)) * 2
        matrix = (centres[groups] + generator.normal(size=(len(groups), 12)) * 0.2).astype(np.float32)
        found[modality] = Features(
            modality=modality, encoder="planted", matrix=matrix, present=np.ones(len(groups), dtype=bool)
        )
    return found


def planted_inputs(dataset: Dataset, modalities: tuple[str, ...] = ("image", "text"), seed: int = 1) -> Inputs:
    """What a model sees of the planted data."""
    return Inputs(
        dataset=dataset.name,
        seed=seed,
        train=dataset.matrix("train"),
        features=planted_features(dataset, modalities),
        cold_below=10,
    )


def train_on(
    dataset: Dataset, inputs: Inputs, model: TrainedRecommender, settings: TrainingSettings, scratch: Path
) -> None:
    """Train a model on planted data, its epoch chosen by `settings.metric` on validation."""
    evaluation = EvaluationSettings(cutoffs=(5,), cold_below=10)
    train(
        model,
        inputs.train,
        settings,
        lambda: validate(model.score, dataset, settings.metric, evaluation),
        seed=inputs.seed,
        label="planted",
        stream="planted",
        scratch=scratch,
        fingerprint="",
    )
