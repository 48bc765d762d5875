r"""A committee of tokenizers: many small residual quantizers of one modality, each begun at its own random codes.

One residual quantizer gives an item one code a level; two items either share it or do not. Whether they do depends on
where the borders of the cells happened to fall. Over a committee of quantizers, the share of members that put two items
into one cell estimates how near the items are, with nothing but discrete tokens: what random binning does for kernels
(Rahimi and Recht, NIPS 2007). Small codebooks make cells that enough warm items fall into, several sizes make several
notions of near. Every member is residual k-means on the principal components of the features: there is nothing to
train, and it takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from motorec.config import Count, Settings
from motorec.errors import DataError
from motorec.features import Features
from motorec.features.components import principal_components
from motorec.seeding import numpy_generator
from motorec.tokenizer.codes import spread
from motorec.tokenizer.placement import place
from motorec.tokenizer.quantizer import ResidualQuantizer


class CommitteeSettings(Settings):
    """How many tokenizers of a modality there are, and what each is."""

    members: Count = 8  # of each codebook size
    codebook_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 256)  # K
    levels: Count = 2  # N_q
    components: Count | None = 64  # principal components that are quantized; None: all

    @property
    def tokens_per_item(self) -> int:
        """Tokens that an item has of one modality."""
        return self.members * len(self.codebook_sizes) * self.levels


class Committee:
    """The tokenizers of one modality, fitted to a catalogue's items; they can code any item of the same features.

    With fewer distinct items than codes, each has its own.

    Args:
        features: What they are fitted to.
        settings: Size of the committee.
        seed: The run's seed.
        dataset: The data set's name, for the random numbers and for messages.

    Raises:
        DataError: No item has the modality, or its features hold a value that is no finite number.
    """

    def __init__(self, features: Features, settings: CommitteeSettings, seed: int, dataset: str) -> None:
        self.modality, self.dataset = features.modality, dataset
        here = self._rows(features)
        if not len(here):
            raise DataError(f"{dataset}: no item has any {self.modality} features. Leave this modality out.")
        self._mean, self._std = here.mean(0), np.maximum(here.std(0), 1e-6)
        mean, rotation = principal_components(self._unit(here), settings.components)
        self._centre, self._rotation = mean, rotation.astype(np.float64)
        rows = self._components(here)
        self.members: list[ResidualQuantizer] = []
        for size in settings.codebook_sizes:
            for member in range(settings.members):
                generator = numpy_generator(seed, dataset, "committee", self.modality, str(size), str(member))
                # Noise that `place` writes over: the generator only has to be there.
                quantizer = ResidualQuantizer(rows.shape[1], size, settings.levels, torch.Generator().manual_seed(0))
                quantizer.double()
                place(quantizer, rows, "kmeans", generator)
                self.members.append(quantizer)

    def codes(self, features: Features) -> Int[np.ndarray, "items tokens"]:
        """Every item's codes, whether it was there when the committee was fitted or not.

        A column is one level of one member: K codes of its own. An item's codes do not depend on the others.

        Returns:
            -1 where an item lacks the modality.

        Raises:
            DataError: The features hold a value that is no finite number.
        """
        rows = self._components(self._rows(features))
        found = np.concatenate([member.codes(rows).numpy() for member in self.members], axis=1)
        return spread(found, features.present)

    def _rows(self, features: Features) -> Float[np.ndarray, "n width"]:
        """The features of the items that have the modality."""
        here = features.matrix[features.present].astype(np.float64)
        if not np.isfinite(here).all():
            row = np.flatnonzero(features.present)[~np.isfinite(here).all(1)][0]
            raise DataError(
                f"{self.dataset}: the {self.modality} features hold values that are no finite numbers at item row "
                f"{row}. Run the features stage again (notebook 02_features)."
            )
        return here

    def _unit(self, rows: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
        """Columns of mean 0 and standard deviation 1, by the items fitted to, then rows of unit length."""
        rows = (rows - self._mean) / self._std
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def _components(self, rows: Float[np.ndarray, "n width"]) -> Float[Tensor, "n kept"]:
        return torch.from_numpy((self._unit(rows) - self._centre) @ self._rotation)


def committee_codes(
    features: Mapping[str, Features], settings: CommitteeSettings, seed: int, dataset: str
) -> dict[str, Int[np.ndarray, "items tokens"]]:
    """Every item's codes by a `Committee` fitted to all of them.

    Returns:
        By modality, in alphabetical order; -1 where an item lacks the modality.

    Raises:
        DataError: As `Committee`.
    """
    return {name: Committee(features[name], settings, seed, dataset).codes(features[name]) for name in sorted(features)}
