r"""Residual quantizer: a vector as a short tuple of codes (paper section 2).

With codebooks :math:`C^{(k)}`, :math:`k = 1..N_q`, of :math:`K` vectors each, and :math:`r^{(0)} = z`,

.. math:: q^{(k)} = \arg\min_{c \in C^{(k)}} \delta(r^{(k-1)}, c), \quad
          r^{(k)} = r^{(k-1)} - q^{(k)}, \quad z_q = \sum_k q^{(k)}.

The tuple of chosen indices is the item's semantic code. The distance :math:`\delta` is

* `l2`, the paper's: :math:`\lVert r - c \rVert^2`. The chosen code is the best step there is, so that the residual
  never grows where the codebook holds a zero.
* `cosine`: :math:`1 - \cos(r, c)`, the nearest by angle. What is subtracted is still the code itself, with the length
  that it has learned: were codes of unit length, as in a plain (not residual) quantizer, the lengths of the residuals,
  which shrink from level to level, would be lost and could not be rebuilt. Rows of one direction and several lengths
  share a code this way, and later levels tell them apart; that a residual never grows is not certain any more. A
  residual or code of almost no length has a direction that means nothing, and a gradient of its cosine that is larger
  the shorter it is: below a hundredth of the rows' mean length it passes none on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from motorec.tokenizer.ema import MovingAverage
from motorec.tokenizer.estimators import ESTIMATORS, Estimator

SHORT = 0.01  # of the rows' mean length: less is no direction

Distance = Literal["l2", "cosine"]
Learning = Literal["gradient", "ema"]


def squared_distances(rows: Float[Tensor, "n d"], codes: Float[Tensor, "K d"]) -> Float[Tensor, "n K"]:
    """Squared Euclidean distance of every row to every code."""
    cross = rows @ codes.T
    return (rows.square().sum(1, keepdim=True) - 2 * cross + codes.square().sum(1)).clamp_min(0)


def angular_distances(rows: Float[Tensor, "n d"], codes: Float[Tensor, "K d"]) -> Float[Tensor, "n K"]:
    """One minus the cosine of every row and every code, in [0, 2]; a zero vector is at 1 from all."""
    return 1 - nn.functional.normalize(rows, dim=1) @ nn.functional.normalize(codes, dim=1).T


def _without_gradient_where_short(vectors: Float[Tensor, "n d"], floor: Float[Tensor, ""]) -> Float[Tensor, "n d"]:
    """The same vectors; those shorter than `floor` pass no gradient on."""
    lengths = vectors.detach().norm(dim=1, keepdim=True)
    return torch.where(lengths < floor, vectors.detach(), vectors)


DISTANCES: Mapping[Distance, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"l2": squared_distances, "cosine": angular_distances}
)


def first_of_equals(codes: Float[Tensor, "K d"]) -> Int[Tensor, " K"]:
    """For each code, the index of the first that is the same vector: mostly its own."""
    groups = torch.unique(codes, dim=0, return_inverse=True)[1]
    places = torch.arange(len(codes))
    return places.new_full((len(codes),), len(codes)).scatter_reduce(0, groups, places, "amin")[groups]


@dataclass(frozen=True)
class Quantized:
    """What quantizing a batch gives.

    Attributes:
        vectors: :math:`z_q`, (n, d). Its gradient with respect to the input is the estimator's (`estimators`).
        codes: Chosen indices, (n, levels).
        commitment: :math:`\\lVert z_e - sg(z_q) \\rVert^2` per row, (n,): pulls the encoder to the codes.
        codebook: :math:`\\lVert sg(z_e) - z_q \\rVert^2` per row, (n,): pulls the codes to the encoder.
        distances: Distance of each level's residual to each of its codes, (levels, n, K).
    """

    vectors: Float[Tensor, "n d"]
    codes: Int[Tensor, "n levels"]
    commitment: Float[Tensor, " n"]
    codebook: Float[Tensor, " n"]
    distances: Float[Tensor, "levels n K"]


class ResidualQuantizer(nn.Module):
    """A cascade of codebooks, each quantizing what the ones before left over.

    The codebooks start as noise and should be placed on the data (`placement.place`) before training: from noise most
    codes are never chosen and never move.

    Args:
        dim: d.
        codebook_size: K.
        levels: N_q.
        generator: Draws the codes.
        distance: Which code is the nearest; see the module's docstring.
        learning: `gradient`: the codebooks are parameters, moved by the codebook loss. `ema`: no optimiser touches
            them; every forward pass in training mode with gradients on moves them (`ema.MovingAverage`).
        ema_decay: How much of the past a moving average keeps at each step.
        estimator: What stands for the gradient of the choice (`estimators`).
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        levels: int,
        generator: torch.Generator,
        *,
        distance: Distance = "l2",
        learning: Learning = "gradient",
        ema_decay: float = 0.99,
        estimator: Estimator = "straight_through",
    ) -> None:
        super().__init__()
        start = torch.randn(levels, codebook_size, dim, generator=generator) / codebook_size
        self.codebooks = nn.Parameter(start, requires_grad=learning == "gradient")  # (levels, K, d)
        self.average = MovingAverage(start, ema_decay) if learning == "ema" else None
        self.by_angle = distance == "cosine"
        self.distance = DISTANCES[distance]
        self.estimate = ESTIMATORS[estimator]

    def forward(self, z: Float[Tensor, "n d"]) -> Quantized:
        """Quantize every row.

        Each level's choice is made on detached steps; gradients reach the codebooks through the codebook loss and
        through `distances` only, and the encoder through the estimator, the commitment loss and `distances`.
        """
        # A copy where the codes move at the end of this pass: the gradient needs them as they were.
        codebooks = self.codebooks if self.average is None else self.codebooks.clone()
        residual = z
        total = torch.zeros_like(z)
        codes, distances, residuals = [], [], []
        floor = SHORT * z.detach().norm(dim=1).mean() if self.by_angle else None
        for codebook in codebooks:
            ends = residual, codebook
            if floor is not None:
                ends = _without_gradient_where_short(residual, floor), _without_gradient_where_short(codebook, floor)
            gaps = self.distance(*ends)
            chosen = gaps.argmin(dim=1)
            step = codebook[chosen]
            residuals.append(residual.detach())
            residual = residual - step.detach()
            total = total + step
            codes.append(chosen)
            distances.append(gaps)
        indices = torch.stack(codes, dim=1)
        if self.average is not None and self.training and torch.is_grad_enabled():
            self.average.update(self.codebooks, torch.stack(residuals), indices)
        return Quantized(
            vectors=self.estimate(z, total),
            codes=indices,
            commitment=(z - total.detach()).square().sum(1),
            codebook=(z.detach() - total).square().sum(1),
            distances=torch.stack(distances),
        )

    @torch.no_grad()
    def codes(self, z: Float[Tensor, "n d"]) -> Int[Tensor, "n levels"]:
        """The code tuples alone, in double precision, so that they do not depend on how rows are batched.

        Of codes that are one and the same vector, as with fewer rows than codes, the first stands for all.
        """
        residual = z.double()
        chosen = []
        for codebook in self.codebooks.double():
            # Rounding, which goes by the batch, would choose between equal codes.
            index = first_of_equals(codebook)[self.distance(residual, codebook).argmin(dim=1)]
            residual = residual - codebook[index]
            chosen.append(index)
        return torch.stack(chosen, dim=1)

    @torch.no_grad()
    def look_up(self, codes: Int[Tensor, "n first"]) -> Float[Tensor, "n d"]:
        """The vectors that tuples of the first levels' codes stand for: the sum of one code per level."""
        return torch.stack([self.codebooks[level][chosen] for level, chosen in enumerate(codes.T)]).sum(0)
