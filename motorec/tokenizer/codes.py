"""The codes of a whole catalogue: a row per item, -1 where an item lacks the modality."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from motorec.features import Features
from motorec.tokenizer.rqvae import RQVAE

Codes = Int[np.ndarray, "items levels"]


def item_codes(tokenizer: RQVAE, features: Features) -> Codes:
    """Every item's code tuple, chosen in double precision: an item's does not depend on the others.

    Raises:
        ValueError: The tokenizer is the continuous ablation, which has no codes.
    """
    rows = features.matrix[features.present]
    return spread(tokenizer.codes(tokenizer.prepare(rows, torch.float64)).numpy(), features.present)


def moved(before: Codes, after: Codes) -> Float[np.ndarray, " levels"]:
    """By level, the share of the items that have the modality whose code is another one after than before."""
    return (after != before)[before[:, 0] >= 0].mean(axis=0)


def spread(codes: Int[np.ndarray, "n levels"], present: Bool[np.ndarray, " items"]) -> Codes:
    """Codes of the items that have the modality, among -1 for the others."""
    found = np.full((len(present), codes.shape[1]), -1, dtype=np.int64)
    found[present] = codes
    return found
