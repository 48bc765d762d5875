"""The one small interface of all models, and what a model is given: training data, and never more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from motorec import seeding
from motorec.config import Settings
from motorec.errors import MotorecError
from motorec.features import Features


@dataclass(frozen=True)
class Inputs:
    """Everything a model may know. Validation and test interactions are not in here.

    Attributes:
        dataset: Name of the data set.
        seed: The run's seed.
        train: Binary training interactions, (users, items).
        features: By modality; empty where the data set has no content.
        cold_below: Items with fewer training interactions are cold (tau).
        tokens: Folder of the pretrained tokenizers, where stage 03 made some.
        truth: True preferences of planted data; for the oracle alone.
    """

    dataset: str
    seed: int
    train: sparse.csr_matrix
    features: Mapping[str, Features] = field(default_factory=dict)
    cold_below: int = 10
    tokens: Path | None = None
    truth: Float[np.ndarray, "users items"] | None = None

    @property
    def degrees(self) -> Int[np.ndarray, " items"]:
        """Training interactions of each item."""
        return np.asarray(self.train.sum(0)).ravel().astype(np.int64)

    def generator(self, *purpose: str) -> torch.Generator:
        """A generator for one purpose within this run."""
        return seeding.torch_generator(self.seed, self.dataset, *purpose)


class Recommender(ABC):
    """A model that can score every item for some users."""

    Settings: ClassVar[type[Settings]]

    @abstractmethod
    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Scores of all items for the given users; larger is better, seen items included."""


class TrainedRecommender(nn.Module, Recommender):
    """A model that `motorec.training` trains on (user, liked item, other item) triples.

    A subclass gives `embeddings` and `losses`; users are scored by dot products of embeddings.
    """

    _final: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Final embeddings of all users and items."""

    @abstractmethod
    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted terms of the training loss of one batch, by name; their sum is minimised."""

    def start_epoch(self, generator: torch.Generator) -> None:
        """Called before each epoch with a generator of its own, for models with random augmentation."""

    def freeze(self) -> None:
        """Compute the final embeddings once, for scoring."""
        self.eval()
        with torch.no_grad():
            self._final = self.embeddings()

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Dot products of user and item embeddings, as of the last `freeze`."""
        if self._final is None:
            raise MotorecError("The model was not frozen: call freeze() after training and before scoring.")
        user_embeddings, item_embeddings = self._final
        return user_embeddings[torch.from_numpy(users)] @ item_embeddings.T


def embedding_table(rows: int, dim: int, generator: torch.Generator, std: float = 0.1) -> nn.Parameter:
    """A table of learned embeddings, (rows, dim), from a normal distribution."""
    return nn.Parameter(torch.randn(rows, dim, generator=generator) * std)
