"""The pretrained tokenizers of a run, as models ask for them."""

from __future__ import annotations

from motorec.models.base import Inputs
from motorec.rarity import rarity_weights
from motorec.tokenizer import RQVAE, TokenizerSettings, load_tokenizers, new_tokenizers, pretrain


def pretrained_tokenizers(settings: TokenizerSettings, inputs: Inputs) -> dict[str, RQVAE]:
    """The tokenizers that stage 03 pretrained, or, for an ablation with other settings, ones pretrained here.

    Args:
        settings: The tokenizers' settings.
        inputs: Features, degrees and, in `tokens`, what stage 03 left; None there: pretrain in any case.

    Returns:
        A tokenizer by modality.

    Raises:
        DataError: Stage 03 left none of a modality.
    """
    tokenizers = new_tokenizers(settings, inputs.features, inputs.seed, inputs.dataset)
    if inputs.tokens is None or not load_tokenizers(inputs.tokens, tokenizers):
        weights = rarity_weights(inputs.degrees, inputs.cold_below, settings.rarity)
        pretrain(tokenizers, inputs.features, weights, inputs.seed, inputs.dataset)
    return tokenizers
