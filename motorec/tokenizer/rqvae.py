r"""The sparsely regularised RQ-VAE: one modality's features as codes and back (paper section 2).

Per item :math:`i` with rarity weight :math:`w_i`,

.. math:: L_i = w_i \left( \lVert f_i - D(z_q) \rVert^2 + \lVert sg(z_e) - z_q \rVert^2
                + \beta \lVert z_e - sg(z_q) \rVert^2 + \gamma L_{sparse} \right),

where every square is a mean over dimensions, so that widths do not change what the weights mean. The squares of the
quantizer are taken once, of :math:`z_e` against the sum of all levels' codes: every chosen code of a row is moved along
the same residual. L_sparse is a mean over levels.

The paper leaves open what moves the codebooks. With `learning: gradient` it is the codebook loss of VQ-VAE, the second
term; with `learning: ema` that term is absent, and a moving average moves them (`motorec.tokenizer.ema`).

The paper has a cascade of codebooks per modality. With `shared: true` all modalities use one: a token then means the
same wherever it stands. The modalities keep encoders and decoders of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from motorec.config import Count, NotNegative, Positive, Settings
from motorec.features.components import principal_components
from motorec.tokenizer.estimators import Estimator
from motorec.tokenizer.placement import Init
from motorec.tokenizer.quantizer import Distance, Learning, ResidualQuantizer
from motorec.tokenizer.sparsity import soft_usage, sparsity_loss


class TokenizerSettings(Settings):
    """Settings of one modality's tokenizer and of its pretraining (`params/tokenize.yaml`)."""

    quantize: bool = True  # False: a plain autoencoder, the ablation "without RQ-VAE"
    codebook_size: Count = 128  # K
    levels: Count = 3  # N_q
    shared: bool = False  # one cascade of codebooks for all modalities, in place of one each
    latent: Count = 64  # d; equals the models' embedding size
    hidden: tuple[Count, ...] = (256,)  # widths of the encoder's hidden layers, any number; the decoder mirrors them
    input_dim: Count | None = 128  # principal components of the features that are encoded; None: all of them
    distance: Distance = "l2"  # by which a code is the nearest
    learning: Learning = "gradient"  # what moves the codebooks
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99  # with `learning: ema`, the past's weight at each step
    estimator: Estimator = "straight_through"  # what stands for the gradient of the choice of a code
    commitment: NotNegative = 0.25  # beta
    sparsity: NotNegative = 0.05  # gamma
    rho: Annotated[float, Field(gt=0, lt=1)] | None = None  # target usage of a code; None: 1 / K
    temperature: Positive = 0.1  # of the soft usage, in units of the mean distance
    rarity: Literal["amplify", "literal", "off"] = "amplify"
    init: Init = "kmeans"  # where codes are placed after the warm-up
    revive: bool = True  # codes that nobody chose during an epoch are moved to where the data are
    epochs: Count = 60
    warmup: Annotated[float, Field(ge=0, lt=1)] = (
        0.25  # share of the epochs before the codebooks are placed: the encoder has learned by then
    )
    batch_size: Count = 1024
    learning_rate: Positive = 1e-3


def mlp(widths: list[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with GELU between them, initialised from `generator` (Xavier uniform, zero bias)."""
    layers: list[nn.Module] = []
    for index, (inner, outer) in enumerate(pairwise(widths)):
        linear = nn.utils.skip_init(nn.Linear, inner, outer)
        nn.init.xavier_uniform_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.GELU()] if index < len(widths) - 2 else [linear]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Tokenized:
    """What tokenizing rows gives.

    Attributes:
        latent: What the recommender uses, (n, d): :math:`z_q`, or :math:`z_e` where nothing is quantized.
        codes: (n, levels); None where nothing is quantized.
        per_item: Reconstruction, codebook and commitment loss of each row, (n,), before rarity weights.
        sparsity: :math:`\\gamma L_{sparse}`, a scalar: it belongs to the batch, not to a row.
    """

    latent: Float[Tensor, "n d"]
    codes: Int[Tensor, "n levels"] | None
    per_item: Float[Tensor, " n"]
    sparsity: Float[Tensor, ""]

    def loss(self, weights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The weighted mean over rows of :math:`L_i`."""
        return (weights * (self.per_item + self.sparsity)).mean()


class RQVAE(nn.Module):
    """Encoder, residual quantizer, decoder for one modality.

    Features are centred, rotated to their principal components, cut to `input_dim` of them and scaled as a whole to
    unit variance per component on average; the reconstruction target is the result. This is a fixed linear map: it
    makes losses comparable between encoders and a step several times cheaper for wide features.

    Args:
        settings: All settings.
        features: Raw features.
        present: Which items have the modality; the others are not looked at.
        generator: Draws the weights.
        borrowed: Another tokenizer's quantizer, to be used in place of an own one (`shared: true`). It remains that
            one's: this tokenizer's parameters and state do not hold it, so that a model of both holds it once.
    """

    mean: Tensor
    rotation: Tensor
    quantizer: ResidualQuantizer | None

    def __init__(
        self,
        settings: TokenizerSettings,
        features: Float[np.ndarray, "items features"],
        present: Bool[np.ndarray, " items"],
        generator: torch.Generator,
        borrowed: ResidualQuantizer | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        mean, rotation = principal_components(features[present], settings.input_dim)
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("rotation", torch.from_numpy(rotation))
        widths = [rotation.shape[1], *settings.hidden, settings.latent]
        self.encoder = mlp(widths, generator)
        self.decoder = mlp(widths[::-1], generator)
        if borrowed is not None:
            object.__setattr__(self, "quantizer", borrowed)  # past PyTorch, which would register it here as well
        else:
            self.quantizer = _quantizer(settings, generator) if settings.quantize else None

    def prepare(
        self, features: Float[np.ndarray, "n features"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n inputs"]:
        """Map raw features to what the encoder reads and the decoder reconstructs.

        In single precision the last bits depend on which rows come together; for `codes`, ask for `torch.float64`.
        """
        return (torch.from_numpy(features).to(dtype) - self.mean.to(dtype)) @ self.rotation.to(dtype)

    def forward(self, inputs: Float[Tensor, "n inputs"], quantize: bool = True) -> Tokenized:
        """Tokenize prepared rows; see `Tokenized`. Losses are means over dimensions, so that widths do not matter.

        Args:
            inputs: Prepared rows.
            quantize: False: pass the quantizer by, as in the first epochs of pretraining.
        """
        settings = self.settings
        z = self.encoder(inputs)
        if self.quantizer is None or not quantize:
            error = (inputs - self.decoder(z)).square().mean(1)
            return Tokenized(z, None, error, z.new_zeros(()))
        quantized = self.quantizer(z)
        error = (inputs - self.decoder(quantized.vectors)).square().mean(1)
        fit = settings.commitment * quantized.commitment
        if settings.learning == "gradient":
            fit = quantized.codebook + fit
        sparsity = z.new_zeros(())
        if settings.sparsity > 0:
            usage = soft_usage(quantized.distances, settings.temperature)
            sparsity = settings.sparsity * sparsity_loss(usage, settings.rho)
        return Tokenized(quantized.vectors, quantized.codes, error + fit / z.shape[1], sparsity)

    @torch.no_grad()
    def codes(self, inputs: Float[Tensor, "n inputs"]) -> Int[Tensor, "n levels"]:
        """Semantic codes of prepared rows, in double precision from the encoder on.

        With rows prepared in double precision too, a row's codes are the same whatever else is in the batch.

        Raises:
            ValueError: This is the continuous ablation, which has no codes.
        """
        if self.quantizer is None:
            raise ValueError("A tokenizer with quantize: false has no codes.")
        weights = {name: weight.double() for name, weight in self.encoder.named_parameters()}
        return self.quantizer.codes(torch.func.functional_call(self.encoder, weights, (inputs.double(),)))


def _quantizer(settings: TokenizerSettings, generator: torch.Generator) -> ResidualQuantizer:
    return ResidualQuantizer(
        settings.latent,
        settings.codebook_size,
        settings.levels,
        generator,
        distance=settings.distance,
        learning=settings.learning,
        ema_decay=settings.ema_decay,
        estimator=settings.estimator,
    )
