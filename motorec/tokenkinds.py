"""The pretrained codes, and what they are compared with: the same features as codes of other kinds.

* `rqvae`: the pretrained tokenizers of notebook 03, as MoToRec finds them.
* `joint`: what becomes of them. MoToRec trains encoders and codebooks on, together with the graph; these are the codes
  that it ends with.
* `no-sparsity`: RQ-VAEs pretrained with the same seed and settings but without the sparsity term.
* `kmeans`: residual k-means on what the RQ-VAE's encoder is given (principal components of the features), with as many
  levels and codes: nothing is learned but where the codes are.
* `random`: the pretrained codes dealt out to the items at random. Every item has the whole tuple of another, so that
  each code is used as often as before, and codes go together as before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from motorec import paths
from motorec.data.dataset import Dataset
from motorec.errors import DataError
from motorec.features import Features
from motorec.rarity import rarity_weights
from motorec.seeding import numpy_generator
from motorec.tokenizer import RQVAE, ResidualQuantizer, TokenizerSettings, load_tokenizers, new_tokenizers, pretrain
from motorec.tokenizer.codes import Codes, item_codes, spread
from motorec.tokenizer.placement import place

OURS = "rqvae"  # the kind that is asked about; the others are there to compare
JOINT = "joint"
KINDS = {
    OURS: "RQ-VAE, pretrained",
    JOINT: "RQ-VAE, trained on",
    "no-sparsity": "RQ-VAE without sparsity term",
    "kmeans": "residual k-means",
    "random": "dealt at random",
}


def all_kinds(
    dataset: Dataset,
    features: Mapping[str, Features],
    settings: TokenizerSettings,
    tau: int,
    seed: int,
    joint: Mapping[str, Codes] | None = None,
) -> dict[str, dict[str, Codes]]:
    """Codes of every kind, for one seed.

    Args:
        dataset: Its training degrees weigh the items in pretraining.
        features: By modality.
        settings: Of the pretrained tokenizers. Where they have no sparsity term, no kind goes without it.
        tau: Items with fewer training interactions are cold.
        seed: The run's seed.
        joint: The codes that this seed's MoToRec ended with, by modality; without, that kind is left out.

    Returns:
        By kind, in the order of `KINDS`, and modality; -1 where an item lacks the modality.

    Raises:
        DataError: The tokenizers of this seed are missing, or were pretrained with other settings.
    """
    tokenizers = pretrained(dataset.name, features, settings, seed)
    found = {OURS: _codes(tokenizers, features)}
    if joint:
        found[JOINT] = dict(joint)
    if settings.sparsity > 0:
        without = settings.model_copy(update={"sparsity": 0.0})
        others = new_tokenizers(without, features, seed, dataset.name)
        pretrain(others, features, rarity_weights(dataset.item_degrees(), tau, without.rarity), seed, dataset.name)
        found["no-sparsity"] = _codes(others, features)
    found["kmeans"] = {
        name: residual_kmeans(tokenizer, features[name], dataset.name, seed) for name, tokenizer in tokenizers.items()
    }
    found["random"] = {
        name: dealt(codes, numpy_generator(seed, dataset.name, "dealt", name)) for name, codes in found[OURS].items()
    }
    return found


def pretrained(
    dataset: str, features: Mapping[str, Features], settings: TokenizerSettings, seed: int
) -> dict[str, RQVAE]:
    """The tokenizers of notebook 03, before any recommender trains them on.

    Raises:
        DataError: They are missing, or were pretrained with other settings.
    """
    tokenizers = new_tokenizers(settings, features, seed, dataset)
    folder = paths.tokens(dataset, seed)
    if not load_tokenizers(folder, tokenizers):
        raise DataError(
            f"{paths.shown(folder)} was made with other settings than those in params/tokenize.yaml. Run the tokenize "
            "stage again (notebook 03_tokenize, or `dvc repro`)."
        )
    return tokenizers


def residual_kmeans(tokenizer: RQVAE, features: Features, dataset: str, seed: int) -> Codes:
    """Codes by residual k-means on what a tokenizer's encoder is given.

    Args:
        tokenizer: Gives the number of levels and codes, and prepares the features; its weights play no part.
        features: Of its modality.
        dataset: The data set's name.
        seed: The run's seed.
    """
    rows = tokenizer.prepare(features.matrix[features.present], torch.float64)
    settings = tokenizer.settings
    # Noise that `place` writes over: the generator only has to be there.
    noise = torch.Generator().manual_seed(0)
    quantizer = ResidualQuantizer(rows.shape[1], settings.codebook_size, settings.levels, noise).double()
    place(quantizer, rows, "kmeans", numpy_generator(seed, dataset, "residual k-means", features.modality))
    return spread(quantizer.codes(rows).numpy(), features.present)


def dealt(codes: Codes, generator: np.random.Generator) -> Codes:
    """The same tuples of codes, dealt out anew among the items that have one."""
    here = np.flatnonzero((codes >= 0).all(axis=1))
    found = codes.copy()
    found[here] = codes[generator.permutation(here)]
    return found


def _codes(tokenizers: Mapping[str, RQVAE], features: Mapping[str, Features]) -> dict[str, Codes]:
    return {modality: item_codes(tokenizer, features[modality]) for modality, tokenizer in tokenizers.items()}
