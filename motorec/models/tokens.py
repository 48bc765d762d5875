"""The pretrained tokenizers of a run, and the items' codes, as models ask for them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from motorec.features import Features
from motorec.models.base import Inputs
from motorec.rarity import rarity_weights
from motorec.tokenizer import RQVAE, TokenizerSettings, load_tokenizers, new_tokenizers, pretrain


def pretrained_tokenizers(settings: TokenizerSettings, inputs: Inputs) -> dict[str, RQVAE]:
    """The tokenizers that stage 03 pretrained, or, for an ablation with other settings, ones pretrained here."""
    tokenizers = new_tokenizers(settings, inputs.features, inputs.seed, inputs.dataset)
    if inputs.tokens is None or not load_tokenizers(inputs.tokens, tokenizers):
        weights = rarity_weights(inputs.degrees, inputs.cold_below, settings.rarity)
        pretrain(tokenizers, inputs.features, weights, inputs.seed, inputs.dataset)
    return tokenizers


def item_codes(tokenizer: RQVAE, features: Features) -> Int[np.ndarray, "items levels"]:
    """Code tuples of all items, -1 where they lack the modality."""
    found = tokenizer.codes(tokenizer.prepare(features.matrix[features.present], torch.float64)).numpy()
    codes = np.full((len(features.present), found.shape[1]), -1, dtype=np.int64)
    codes[features.present] = found
    return codes
