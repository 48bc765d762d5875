r"""The sparsity term: codes should be used at an even, low rate (paper section 2).

.. math:: L_{sparse} = \sum_j KL(\mathrm{Bernoulli}(\rho) \Vert \mathrm{Bernoulli}(\hat\rho_j)),

where :math:`\hat\rho_j` is the aggregate usage of code :math:`j`. The paper leaves open how the usage is made
differentiable; here it is the mean over the n items (those of a batch in pretraining, the whole catalogue in joint
training) of a softmax over negative distances,

.. math:: \hat\rho_j = \frac{1}{n} \sum_i \frac{\exp(-\delta_{ij} / (T \bar\delta))}
          {\sum_l \exp(-\delta_{il} / (T \bar\delta))},

with :math:`\delta_{ij}` the distance of item i's residual to code j and :math:`\bar\delta` the level's mean of them,
which passes no gradient on. Such usages sum to one, so by convexity the term is smallest at even usage whatever
:math:`\rho` is: it balances the codes, and :math:`\rho` sets how hard. The paper leaves :math:`\rho` open as well;
:math:`1/K` is the only rate that even usage meets, hence the default.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Keeps the logarithms finite while codes that nobody uses keep a gradient, which a clamp would cut.
SMOOTHING = 1e-6


def soft_usage(distances: Float[Tensor, "levels n K"], temperature: float) -> Float[Tensor, "levels K"]:
    """Differentiable usage of each code: the mean over rows of softmax(-distance / T).

    Args:
        distances: Distances of rows to codes, squared or by angle.
        temperature: T, in units of the mean distance at each level, so that it means the same whatever the scale of
            the latent space.
    """
    scale = distances.detach().mean(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return torch.softmax(-distances / (temperature * scale), dim=2).mean(dim=1)


def sparsity_loss(usage: Float[Tensor, "levels K"], rho: float | None) -> Float[Tensor, ""]:
    """Sum over codes of KL(Bernoulli(rho) || Bernoulli(usage)), mean over levels.

    Args:
        usage: Aggregate usage of each code, each level summing to one.
        rho: Target rate; None means 1/K.
    """
    size = usage.shape[1]
    rate = torch.tensor(1.0 / size if rho is None else rho, dtype=usage.dtype).clamp(SMOOTHING, 1 - SMOOTHING)
    smooth = usage * (1 - 2 * SMOOTHING) + SMOOTHING
    divergence = rate * (rate / smooth).log() + (1 - rate) * ((1 - rate) / (1 - smooth)).log()
    return divergence.sum(dim=1).mean()
