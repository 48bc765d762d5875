"""ItemKNN: items that the same people take are neighbours (Sarwar et al., 2001; Deshpande and Karypis, 2004)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from motorec import config
from motorec.models.base import Inputs, Recommender


class ItemKNN(Recommender):
    r"""Cosine similarity of items' user vectors, shrunk, cut to the nearest neighbours.

    .. math:: s_{ij} = \frac{|U_i \cap U_j|}{\sqrt{|U_i| |U_j|} + h}, \qquad
              \mathrm{score}(u, i) = \sum_{j \in N(u)} s_{ij} [\, i \in \mathrm{kNN}(j)\,]

    where :math:`U_i` are the users of item i in training and :math:`h` is the shrinkage, which keeps items with little
    evidence from being close to everything.
    """

    class Settings(config.Settings):
        """Neighbourhood."""

        neighbours: config.Count = 100
        shrink: config.NotNegative = 10.0

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        self._train = inputs.train.tocsr()
        users = inputs.train.T.tocsr()  # of each item
        norms = np.sqrt(inputs.degrees)

        def similarity(block: slice) -> sparse.csr_matrix:
            pairs = (users[block] @ self._train).tocoo()
            values = pairs.data / (norms[block][pairs.row] * norms[pairs.col] + settings.shrink)
            return sparse.csr_matrix((values.astype(np.float32), (pairs.row, pairs.col)), shape=pairs.shape)

        self._similarity = nearest_in_blocks(similarity, len(norms), settings.neighbours)

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Sum of the similarities between an item and the user's training items."""
        return torch.from_numpy((self._train[users] @ self._similarity).toarray())


def nearest_in_blocks(
    similarity: Callable[[slice], sparse.csr_matrix], items: int, keep: int, block: int = 1024
) -> sparse.csr_matrix:
    """Each item's nearest other items, some rows of the similarities at a time: memory is linear in the items.

    Args:
        similarity: Gives the rows in a slice, (rows, items); what stands on the diagonal is not looked at.
        items: How many there are.
        keep: How many neighbours an item has at most.
        block: Rows at a time.
    """
    parts = []
    for start in range(0, items, block):
        rows = similarity(slice(start, min(start + block, items)))
        rows.setdiag(0, k=start)
        rows.eliminate_zeros()
        parts.append(nearest_only(rows, keep))
    return sparse.vstack(parts, format="csr")


def nearest_only(similarity: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """Keep the largest entries of every row; among equals, those of the smaller column."""
    similarity = similarity.tocsr()
    similarity.sort_indices()
    rows = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    order = np.lexsort((similarity.indices, -similarity.data, rows))
    rank = np.arange(len(order)) - similarity.indptr[rows[order]]
    chosen = order[rank < keep]
    return sparse.csr_matrix(
        (similarity.data[chosen], (rows[chosen], similarity.indices[chosen])), shape=similarity.shape
    )
