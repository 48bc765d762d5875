"""The one small interface of all models, and what a model is given: training data, and never more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from motorec import seeding
from motorec.config import Settings
from motorec.errors import DataError, MissingContent, MotorecError
from motorec.features import Features

if TYPE_CHECKING:
    from motorec.tokenizer import RQVAE


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

    def __post_init__(self) -> None:
        """Look whether the features can be learned from.

        Raises:
            DataError: No item has a modality, or an item has a vector that holds no finite number.
        """
        for modality, features in self.features.items():
            where = f"{self.dataset}: the {modality} features"
            if not features.present.any():
                raise DataError(f"{where}: no item has any. Leave this modality out, or give an item its {modality}.")
            broken = np.flatnonzero(features.present & ~np.isfinite(features.matrix).all(axis=1))
            if len(broken):
                raise DataError(
                    f"{where}: values that are no finite numbers in {len(broken)} of {len(features.present)} rows, the "
                    f"first of item row {broken[0]}. Run the features stage again (notebook 02_features)."
                )

    @property
    def degrees(self) -> Int[np.ndarray, " items"]:
        """Training interactions of each item."""
        return np.asarray(self.train.sum(0)).ravel().astype(np.int64)

    def content(self, model: str, modalities: Sequence[str] | None = None) -> dict[str, Features]:
        """The features of the modalities that a model needs.

        Args:
            model: The model's title, for the message.
            modalities: Those it needs; not given: all that there are, at least one.

        Raises:
            MissingContent: The data set lacks one of them, or has none at all.
        """
        missing = [name for name in modalities or () if name not in self.features]
        if missing or not self.features:
            there = ", ".join(sorted(self.features)) or "neither texts nor pictures"
            needed = " and ".join(missing) if missing else "text or image"
            raise MissingContent(
                f"{model} needs {needed} features, and {self.dataset} has {there}. Add the content to the items and "
                "run the features stage again, or go without this model here."
            )
        return {name: self.features[name] for name in modalities or self.features}

    def generator(self, *purpose: str) -> torch.Generator:
        """A generator for one purpose within this run."""
        return seeding.torch_generator(self.seed, self.dataset, *purpose)


class Recommender(ABC):
    """A model that can score every item for some users."""

    Settings: ClassVar[type[Settings]]

    @property
    def n_parameters(self) -> int:
        """Numbers that fitting set; 0 for a model that only counts."""
        return 0

    @property
    def tokenizers(self) -> Mapping[str, RQVAE]:
        """The tokenizers that learn along with the model, by modality; none for most models."""
        return {}

    def attention_shares(self) -> dict[str, Float[np.ndarray, " items"]]:
        """How much each item listens to each source of what is known about it, by name; nothing for most models.

        The sources are modalities and, where they compete with these, learned IDs (`id`). An item's shares sum to one.
        """
        return {}

    @abstractmethod
    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Scores of all items for the given users; larger is better, seen items included."""


class TrainedRecommender(nn.Module, Recommender):
    """A model that `motorec.training` trains by gradient descent.

    Attributes:
        batches: What a step sees: "triples" of (user, liked item, other item), or "users", whose whole rows a model
            looks up by itself.
        losses: Called with a batch's index tensors, `(users, positives, negatives)` or `(users,)`, all of shape (b,);
            gives the weighted terms of the loss by name. Their sum is minimised.
        noise: The epoch's generator: every random number that a step draws comes from it.
    """

    batches: ClassVar[Literal["triples", "users"]] = "triples"
    losses: Callable[..., dict[str, Tensor]]
    noise: torch.Generator

    def start_epoch(self, generator: torch.Generator) -> None:
        """Called before each epoch with a generator of its own; for models that change their graph between epochs."""
        self.noise = generator

    @abstractmethod
    def freeze(self) -> None:
        """Called before scoring: compute once what all users' scores need, without dropout or noise."""

    @property
    def n_parameters(self) -> int:
        """Learned numbers."""
        return sum(table.numel() for table in self.parameters() if table.requires_grad)


class EmbeddingRecommender(TrainedRecommender):
    """A model of triples that ends in an embedding per user and per item; the score is their dot product."""

    _final: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Final embeddings of all users and items."""

    @abstractmethod
    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted terms of the training loss of one batch, by name; their sum is minimised."""

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
