r"""Residual quantizer: a vector as a short tuple of codes (paper section 2).

With codebooks :math:`C^{(k)}`, :math:`k = 1..N_q`, of :math:`K` vectors each, and :math:`r^{(0)} = z`,

.. math:: q^{(k)} = \arg\min_{c \in C^{(k)}} \lVert r^{(k-1)} - c \rVert^2, \quad
          r^{(k)} = r^{(k-1)} - q^{(k)}, \quad z_q = \sum_k q^{(k)}.

The tuple of chosen indices is the item's semantic code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What quantizing a batch gives.

    Attributes:
        vectors: :math:`z_q`, (n, d). Its gradient with respect to the input is the identity (straight-through).
        codes: Chosen indices, (n, levels).
        commitment: :math:`\\lVert z_e - sg(z_q) \\rVert^2` per row, (n,): pulls the encoder to the codes.
        codebook: :math:`\\lVert sg(z_e) - z_q \\rVert^2` per row, (n,): pulls the codes to the encoder.
        distances: Squared distance of each level's residual to each of its codes, (levels, n, K).
    """

    vectors: Float[Tensor, "n d"]
    codes: Int[Tensor, "n levels"]
    commitment: Float[Tensor, " n"]
    codebook: Float[Tensor, " n"]
    distances: Float[Tensor, "levels n K"]


def squared_distances(rows: Float[Tensor, "n d"], codes: Float[Tensor, "K d"]) -> Float[Tensor, "n K"]:
    """Squared Euclidean distance of every row to every code."""
    cross = rows @ codes.T
    return (rows.square().sum(1, keepdim=True) - 2 * cross + codes.square().sum(1)).clamp_min(0)


class ResidualQuantizer(nn.Module):
    """A cascade of codebooks, each quantizing what the ones before left over.

    The codebooks are learned by gradient. They start as noise and should be placed on the data by `place` before
    training: from noise most codes are never chosen and never move.
    """

    def __init__(self, dim: int, codebook_size: int, levels: int, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(levels, codebook_size, dim, generator=generator) / codebook_size
        self.codebooks = nn.Parameter(start)  # (levels, K, d)

    def forward(self, z: Float[Tensor, "n d"]) -> Quantized:
        """Quantize every row.

        Each level's choice is made on detached residuals; gradients reach the codebooks through the codebook loss and
        through `distances` only, and the encoder through the straight-through estimate, the commitment loss and
        `distances`.
        """
        residual = z
        total = torch.zeros_like(z)
        codes, distances = [], []
        for codebook in self.codebooks:
            gaps = squared_distances(residual, codebook)
            chosen = gaps.argmin(dim=1)
            step = codebook[chosen]
            residual = residual - step.detach()
            total = total + step
            codes.append(chosen)
            distances.append(gaps)
        return Quantized(
            vectors=z + (total - z).detach(),
            codes=torch.stack(codes, dim=1),
            commitment=(z - total.detach()).square().sum(1),
            codebook=(z.detach() - total).square().sum(1),
            distances=torch.stack(distances),
        )

    @torch.no_grad()
    def codes(self, z: Float[Tensor, "n d"]) -> Int[Tensor, "n levels"]:
        """The code tuples alone, in double precision, so that they do not depend on how rows are batched."""
        residual = z.double()
        chosen = []
        for codebook in self.codebooks.double():
            index = squared_distances(residual, codebook).argmin(dim=1)
            residual = residual - codebook[index]
            chosen.append(index)
        return torch.stack(chosen, dim=1)

    @torch.no_grad()
    def look_up(self, codes: Int[Tensor, "n levels"]) -> Float[Tensor, "n d"]:
        """The vectors that code tuples stand for: the sum of one code per level."""
        return torch.stack([book[codes[:, level]] for level, book in enumerate(self.codebooks)]).sum(0)

    @torch.no_grad()
    def place(self, z: Float[Tensor, "n d"], generator: np.random.Generator) -> None:
        """Place each level's codes on k-means centres of what the levels before leave over.

        With fewer distinct rows than codes, the spare codes repeat rows with a little noise.
        """
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        residual = z.detach().double().numpy()
        for codebook in self.codebooks:
            size = codebook.shape[0]
            distinct = np.unique(residual, axis=0)
            seed = int(generator.integers(2**31))
            if len(distinct) > size:
                # Several threads would add up the centres in an order that changes from run to run.
                with threadpool_limits(limits=1):
                    centres = KMeans(size, n_init=1, max_iter=50, random_state=seed).fit(residual).cluster_centers_
            else:
                spare = distinct[generator.integers(len(distinct), size=size - len(distinct))]
                noise = generator.normal(scale=1e-3 * (distinct.std() + 1e-6), size=spare.shape)
                centres = np.concatenate([distinct, spare + noise])
            codebook.copy_(torch.from_numpy(centres))
            gaps = ((residual**2).sum(1, keepdims=True) - 2 * residual @ centres.T) + (centres**2).sum(1)
            residual = residual - centres[gaps.argmin(1)]

    @torch.no_grad()
    def revive(
        self,
        z: Float[Tensor, "n d"],
        used: Int[Tensor, "levels K"],
        generator: torch.Generator,
    ) -> list[tuple[int, Int[Tensor, " dead"]]]:
        """Move every code that nobody chose onto the residual of a random row.

        Args:
            z: Rows to take residuals from.
            used: How often each code was chosen since the last call.
            generator: Draws the rows.

        Returns:
            (level, indices of moved codes) for each level that had dead codes, so that an optimiser can forget them.
        """
        residual = z
        moved = []
        for level, codebook in enumerate(self.codebooks):
            dead = (used[level] == 0).nonzero().flatten()
            if len(dead):
                rows = torch.randint(len(residual), (len(dead),), generator=generator)
                codebook[dead] = residual[rows]
                moved.append((level, dead))
            residual = residual - codebook[squared_distances(residual, codebook).argmin(dim=1)]
        return moved
