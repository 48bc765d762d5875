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

from motorec.config import Count, Settings
from motorec.errors import DataError
from motorec.features import Features
from motorec.features.components import principal_components
from motorec.seeding import numpy_generator
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


def committee_codes(
    features: Mapping[str, Features], settings: CommitteeSettings, seed: int, dataset: str
) -> dict[str, Int[np.ndarray, "items tokens"]]:
    """Every item's codes, by modality.

    A column is one level of one member: K codes of its own. With fewer distinct items than codes, each has its own.

    Args:
        features: By modality.
        settings: Size of the committee.
        seed: The run's seed.
        dataset: The data set's name, for the random numbers and for messages.

    Returns:
        By modality, in alphabetical order; -1 where an item lacks the modality.

    Raises:
        DataError: No item has a modality, or its features hold a value that is no finite number.
    """
    return {name: _codes(name, features[name], settings, seed, dataset) for name in sorted(features)}


def _codes(
    name: str, features: Features, settings: CommitteeSettings, seed: int, dataset: str
) -> Int[np.ndarray, "items tokens"]:
    here = features.matrix[features.present].astype(np.float64)
    if not len(here):
        raise DataError(f"{dataset}: no item has any {name} features. Leave this modality out.")
    if not np.isfinite(here).all():
        row = np.flatnonzero(features.present)[~np.isfinite(here).all(1)][0]
        raise DataError(
            f"{dataset}: the {name} features hold values that are no finite numbers at item row {row}. Run the "
            "features stage again (notebook 02_features)."
        )
    rows = torch.from_numpy(_components(here, settings.components))
    columns = []
    for size in settings.codebook_sizes:
        for member in range(settings.members):
            generator = numpy_generator(seed, dataset, "committee", name, str(size), str(member))
            # Noise that `place` writes over: the generator only has to be there.
            quantizer = ResidualQuantizer(rows.shape[1], size, settings.levels, torch.Generator().manual_seed(0))
            quantizer.double()
            place(quantizer, rows, "kmeans", generator)
            columns.append(quantizer.codes(rows).numpy())
    found = np.full((len(features.present), settings.tokens_per_item), -1, dtype=np.int64)
    found[features.present] = np.concatenate(columns, axis=1)
    return found


def _components(rows: Float[np.ndarray, "n width"], keep: int | None) -> Float[np.ndarray, "n kept"]:
    """Columns of mean 0 and standard deviation 1, rows of unit length, then their principal components."""
    rows = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-6)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    mean, rotation = principal_components(rows, keep)
    return (rows - mean) @ rotation.astype(np.float64)
