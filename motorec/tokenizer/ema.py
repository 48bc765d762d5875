r"""Codebooks that follow their rows: an exponential moving average in place of a gradient (1711.00937, app. A.1).

In each batch, :math:`n_j` residuals choose code :math:`j`, and :math:`s_j` is their sum. With decay :math:`\lambda`,

.. math:: N_j \leftarrow \lambda N_j + (1 - \lambda) n_j, \quad m_j \leftarrow \lambda m_j + (1 - \lambda) s_j, \quad
          c_j = \frac{m_j}{\tilde N_j}, \quad
          \tilde N_j = \frac{N_j + \epsilon}{\sum_l N_l + K \epsilon} \sum_l N_l,

where the last is Laplace smoothing. A code that nobody has chosen for so long that hardly anything is left of
:math:`N_j` stays where it is: smoothing would draw all such codes to 0. Every residual counts alike, whatever its
item's rarity weight: with this way of learning, rarity amplification reaches the encoder and not the codebooks.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

SMOOTHING = 1e-5  # epsilon
FORGOTTEN = 1e-3  # a count below which a code stays where it is; epsilon is 1% of it


class MovingAverage(nn.Module):
    """The counts and sums behind a cascade of codebooks.

    A code starts as if one residual, equal to it, chose it in every batch. Several modalities that share a codebook
    update it in turn.

    Args:
        codebooks: Where the codes start.
        decay: lambda.
    """

    counts: Tensor  # N, (levels, K)
    sums: Tensor  # m, (levels, K, d)

    def __init__(self, codebooks: Float[Tensor, "levels K d"], decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("counts", torch.ones(codebooks.shape[:2]))
        self.register_buffer("sums", codebooks.detach().clone())

    @torch.no_grad()
    def update(
        self,
        codebooks: Float[Tensor, "levels K d"],
        residuals: Float[Tensor, "levels n d"],
        codes: Int[Tensor, "n levels"],
    ) -> None:
        """Take in a batch and move the codebooks, in place.

        Args:
            codebooks: To be moved.
            residuals: What each level was given to quantize.
            codes: Which code each residual chose.
        """
        for level, (rows, chosen) in enumerate(zip(residuals, codes.T, strict=True)):
            count = torch.zeros_like(self.counts[level]).index_add_(0, chosen, rows.new_ones(len(rows)))
            total = torch.zeros_like(self.sums[level]).index_add_(0, chosen, rows)
            self.counts[level].mul_(self.decay).add_(count, alpha=1 - self.decay)
            self.sums[level].mul_(self.decay).add_(total, alpha=1 - self.decay)
            everything, size = self.counts[level].sum(), codebooks.shape[1]
            smoothed = (self.counts[level] + SMOOTHING) / (everything + size * SMOOTHING) * everything
            known = self.counts[level].unsqueeze(1) > FORGOTTEN
            codebooks[level].copy_(torch.where(known, self.sums[level] / smoothed.unsqueeze(1), codebooks[level]))

    @torch.no_grad()
    def restart(self, level: int, moved: Int[Tensor, " moved"], codes: Float[Tensor, "moved d"]) -> None:
        """Forget the past of codes that were put elsewhere."""
        self.counts[level, moved] = 1.0
        self.sums[level, moved] = codes
