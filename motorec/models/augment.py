"""What makes the views of the contrastive loss, and graphs of which some interactions are left out."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from motorec.graph import BipartiteGraph


def masked(nodes: Float[Tensor, "n d"], share: float, generator: torch.Generator) -> Float[Tensor, "n d"]:
    r"""Feature masking: entries set to zero with probability `share`, the others scaled up to keep the mean.

    .. math:: e' = e \odot m / (1 - p), \qquad m_j \sim \mathrm{Bernoulli}(1 - p)
    """
    keep = 1 - share
    return nodes * (torch.rand(nodes.shape, generator=generator) < keep) / keep


def noisy(nodes: Float[Tensor, "n d"], norm: float, generator: torch.Generator) -> Float[Tensor, "n d"]:
    r"""SimGCL's noise (Yu et al., SIGIR 2022, equation 5): a random step of a given length in the node's own orthant.

    .. math:: e' = e + \epsilon \, \mathrm{sign}(e) \odot u / \lVert u \rVert, \qquad u \sim U(0, 1)^d
    """
    direction = functional.normalize(torch.rand(nodes.shape, generator=generator), dim=1)
    return nodes + norm * nodes.sign() * direction


class Interactions:
    """The training interactions, for graphs without some of them.

    What is left is normalised anew, as if the others had never happened.
    """

    def __init__(self, train: sparse.csr_matrix) -> None:
        pairs = train.tocoo()
        self.shape: tuple[int, int] = pairs.shape
        order = np.lexsort((pairs.col, pairs.row))
        self._users, self._items = pairs.row[order].astype(np.int64), pairs.col[order].astype(np.int64)
        self._keys = self._users * self.shape[1] + self._items

    def thinned(self, share: float, generator: torch.Generator) -> BipartiteGraph:
        """The graph without a share of the interactions, drawn evenly; at least one stays, if there is one."""
        count = len(self._keys)
        keep = min(count, max(1, round(count * (1 - share))))
        chosen = torch.randperm(count, generator=generator)[:keep].sort().values.numpy()
        return self._graph(chosen)

    def without(self, users: Int[Tensor, " b"], items: Int[Tensor, " b"]) -> BipartiteGraph:
        """The graph without the given pairs; pairs that are no interactions change nothing."""
        hidden = (users * self.shape[1] + items).numpy()
        return self._graph(np.flatnonzero(~np.isin(self._keys, hidden)))

    def _graph(self, chosen: Int[np.ndarray, " kept"]) -> BipartiteGraph:
        pairs = (self._users[chosen], self._items[chosen])
        return BipartiteGraph(sparse.csr_matrix((np.ones(len(chosen), dtype=np.float32), pairs), shape=self.shape))
