"""Does arithmetic on this processor end in the same bytes as on another? `python benchmarks/processors.py`.

Fits a few models on garments, the trained ones for some epochs, MoToRec from the pretraining of its tokenizers on, and
prints digests of the weights that these end with and of all scores. It needs `dvc repro features@garments`. Run it on
two machines, or on one that plays another: `qemu-x86_64 -cpu Haswell python benchmarks/processors.py`, an Intel
processor of 2013, or `-cpu EPYC-Milan`, an AMD one of 2021; that takes fifty times as long. The lines must be the same.
"""

from __future__ import annotations

import motorec  # noqa: F401  # isort: skip  # first: it chooses the instructions of those below

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from motorec import paths, variant
from motorec.experiment import Experiment
from motorec.models import TrainedRecommender
from motorec.notebook import setup
from motorec.training import train

DATASET, SEED = "garments", 1
# A last bit that differs anywhere is all over the weights after some epochs.
MODELS: dict[str, dict[str, int]] = {
    "itemknn": {},
    "ease": {},
    "ease-features": {},
    "lightgcn": {"training.epochs": 2},
    "freedom": {"training.epochs": 2},
    "tokenbridge": {"training.epochs": 2},
    "motorec": {"training.epochs": 2, "tokenizer.epochs": 6},
}


def digest(tensors: Iterable[Tensor]) -> str:
    """Of all bytes of some tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def learn(experiment: Experiment, model: TrainedRecommender) -> None:
    """`Experiment.fit` without validation, which ends in nothing but ranks: qemu 7.2 crashes in NumPy's AVX2 sort."""
    where = f"{DATASET}/{experiment.choice.name}"
    train(
        model,
        experiment.inputs.train,
        experiment.choice.training,
        lambda: 0.0,
        seed=SEED,
        label=where,
        stream=where,
        scratch=paths.checkpoints(experiment.choice.name),
        fingerprint=where,
    )


def main() -> None:
    """Print a line for the features and one for each model."""
    setup()
    features = Experiment.load(DATASET, "lightgcn", SEED).inputs.features
    print("features", digest(torch.from_numpy(one.matrix) for one in features.values()), flush=True)
    for name, values in MODELS.items():
        experiment = Experiment.load(DATASET, name, SEED)
        experiment = replace(experiment, choice=variant.changed(experiment.choice, values, f"processors-{name}"))
        model = experiment.build()
        weights = "-"
        if isinstance(model, TrainedRecommender):
            learn(experiment, model)
            weights = digest(model.parameters())
        print(name, weights, digest([model.score(np.arange(200))]), flush=True)


if __name__ == "__main__":
    main()
