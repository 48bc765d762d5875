"""A tiny planted data set: groups of users who take items of their own group, with features that tell the group.

As it is, a model with a graph needs no training to find the groups: random vectors smoothed over such clean
interactions, or projected from such clean features, tell them already. `noisy_dataset` and `noisy_features` hide them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from motorec.config import EvaluationSettings, TrainingSettings
from motorec.data import Dataset
from motorec.evaluation import validate
from motorec.features import Features
from motorec.models import Inputs, Recommender, TrainedRecommender
from motorec.training import train

TRAINING = TrainingSettings(
    epochs=20,
    batch_size=512,
    learning_rate=0.02,
    evaluate_every=5,
    patience=8,
    metric="all/recall@5",
    checkpoint_every=100,
)
TINY_TOKENIZER = {"codebook_size": 4, "levels": 2, "latent": 16, "hidden": [16], "input_dim": None, "epochs": 30}


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


def noisy_dataset(noise: float = 0.3, seed: int = 0) -> Dataset:
    """The same, larger, with a share of the training interactions turned into some with any item."""
    dataset = planted_dataset(users=200, items=80, seed=seed)
    generator = np.random.default_rng(seed + 1)
    interactions = dataset.interactions.copy()
    training = np.flatnonzero(interactions["split"] == "train")
    other = training[generator.random(len(training)) < noise]
    interactions.loc[other, "item"] = generator.integers(80 - 4, size=len(other)).astype(np.int32)
    interactions = interactions.drop_duplicates(["user", "item"]).sort_values(["user", "item"], ignore_index=True)
    return dataclasses.replace(dataset, interactions=interactions)


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


def noisy_features(dataset: Dataset, loud: float = 0.7, seed: int = 0) -> dict[str, Features]:
    """The group takes a third of the dimensions; the others are noise, `loud` beside a direction of length 1."""
    found = {}
    for place, modality in enumerate(("image", "text")):
        generator = np.random.default_rng(10 * seed + place)
        groups = dataset.items["group"].astype(int).to_numpy()
        told = np.eye(4)[groups] + generator.normal(size=(len(groups), 4)) * 0.1
        mixed = np.hstack([told, generator.normal(size=(len(groups), 8)) * loud])
        rotation = np.linalg.qr(generator.normal(size=(12, 12)))[0]
        matrix = (mixed @ rotation).astype(np.float32)
        found[modality] = Features(modality, "planted", matrix, np.ones(len(groups), dtype=bool))
    return found


def right_group(
    dataset: Dataset, scores: Float[torch.Tensor, "users items"], items: Int[np.ndarray, " n"], count: int
) -> float:
    """Share of the first `count` of some items, in every user's order, that are of the user's own group of four.

    By chance a quarter of them are.
    """
    groups = dataset.items["group"].astype(int).to_numpy()
    best = items[scores[:, torch.from_numpy(items)].topk(count).indices.numpy()]
    return float((groups[best] == (np.arange(dataset.n_users) % 4)[:, None]).mean())


def groups_found(model: Recommender, dataset: Dataset, inputs: Inputs) -> tuple[float, float]:
    """Share of the right group in the first five old items that the user has not taken, and in the first new item."""
    scores = model.score(np.arange(dataset.n_users)).clone()
    scores[torch.from_numpy(inputs.train.toarray() > 0)] = -torch.inf
    old, new = np.flatnonzero(inputs.degrees > 0), np.flatnonzero(inputs.degrees == 0)
    return right_group(dataset, scores, old, 5), right_group(dataset, scores, new, 1)


def untrained(model: TrainedRecommender) -> TrainedRecommender:
    """The model as it is before its first step, ready to score."""
    model.start_epoch(torch.Generator().manual_seed(1))
    model.freeze()
    return model


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
