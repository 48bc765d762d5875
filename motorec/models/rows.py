"""Parts shared by the models on user rows: who took what in training, looked up by batch, and a layer that reads it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from motorec.models.base import embedding_table


class Bags(NamedTuple):
    """The rows of some users as lists of items.

    Attributes:
        items: The users' items, one user after the other.
        starts: Where each user's items begin in `items`.
        places: Which of the users each entry of `items` belongs to.
        counts: How many items each user has.
    """

    items: Int[Tensor, " entries"]
    starts: Int[Tensor, " b"]
    places: Int[Tensor, " entries"]
    counts: Int[Tensor, " b"]

    @property
    def unit_weights(self) -> Float[Tensor, " entries"]:
        """An entry's value once every user's row of ones has been scaled to length 1."""
        return self.counts.float().rsqrt()[self.places]


class UserRows:
    """The rows of the binary training matrix."""

    def __init__(self, train: sparse.csr_matrix) -> None:
        train = train.tocsr()
        train.sort_indices()
        self._indptr, self._items = train.indptr.astype(np.int64), train.indices.astype(np.int64)
        self.n_items = train.shape[1]

    def bags(self, users: Int[Tensor, " b"] | Int[np.ndarray, " b"]) -> Bags:
        """The users' items as lists."""
        chosen = np.asarray(users)
        counts = self._indptr[chosen + 1] - self._indptr[chosen]
        starts = np.cumsum(counts) - counts
        places = np.repeat(np.arange(len(chosen)), counts)
        entries = np.arange(int(counts.sum())) - starts[places] + self._indptr[chosen][places]
        found = (self._items[entries], starts, places, counts)
        return Bags(*(torch.from_numpy(values) for values in found))

    def dense(self, users: Int[Tensor, " b"] | Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """The users' rows, 1 where they took the item and 0 elsewhere."""
        bags = self.bags(users)
        rows = torch.zeros(len(bags.counts), self.n_items)
        rows[bags.places, bags.items] = 1.0
        return rows


class BagLinear(nn.Module):
    """A linear layer on rows that are nearly all zero: it touches the weights of the items that are there, only."""

    def __init__(self, n_items: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        # Spread as Xavier's.
        self.weight = embedding_table(n_items, outputs, generator, std=(2.0 / (n_items + outputs)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, bags: Bags, weights: Float[Tensor, " entries"]) -> Float[Tensor, "b outputs"]:
        """The layer's output for rows that hold `weights` at the bags' items."""
        summed = functional.embedding_bag(bags.items, self.weight, bags.starts, mode="sum", per_sample_weights=weights)
        return summed + self.bias


def multinomial_loss(logits: Float[Tensor, "b items"], bags: Bags) -> Float[Tensor, ""]:
    r"""Multinomial negative log likelihood of the users' rows, :math:`-\sum_i x_{ui} \ln \mathrm{softmax}_i(f_u)`,
    mean over users (Liang et al., 2018, equation 2)."""
    total = (bags.counts * logits.logsumexp(1)).sum() - logits[bags.places, bags.items].sum()
    return total / len(logits)


def gaussian_kl(mean: Float[Tensor, "b d"], log_variance: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of a diagonal Gaussian from the standard normal one, mean over rows."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()


class Annealing(nn.Module):
    """A weight that grows linearly with the steps taken; the count is kept in checkpoints."""

    taken: Tensor

    def __init__(self, final: float, steps: int) -> None:
        super().__init__()
        self._final, self._steps = final, steps
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def step(self) -> float:
        """The weight for this step, 0 for the first; counts it."""
        weight = self._final * min(1.0, int(self.taken) / self._steps)
        self.taken += 1
        return weight
