"""The tokenizer: features of an item as a short tuple of discrete codes, and back."""

from motorec.tokenizer.pretrain import load_tokenizers, new_tokenizers, pretrain, save_tokenizers
from motorec.tokenizer.quantizer import Quantized, ResidualQuantizer
from motorec.tokenizer.rqvae import RQVAE, Tokenized, TokenizerSettings

__all__ = [
    "RQVAE",
    "Quantized",
    "ResidualQuantizer",
    "Tokenized",
    "TokenizerSettings",
    "load_tokenizers",
    "new_tokenizers",
    "pretrain",
    "save_tokenizers",
]
