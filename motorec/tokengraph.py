r"""Users, items and tokens as one heterogeneous graph.

Three kinds of nodes and two kinds of edges: a user *takes* an item (training interactions), an item *bears* its tokens.
Only the tokens have embeddings of their own. With :math:`S` the weights of an item's tokens, :math:`\hat A` the
interactions normalised by the degrees of both ends, and :math:`\bar S` and :math:`\bar S^\prime` the plain means over
an item's tokens and a token's items (where something with a sign stands in for tokens, such as features, weighted ones:
S, its rows or columns divided by the sums of their absolute values),

.. math:: I^{(0)} = S T, \qquad U^{(l)} = \hat A I^{(l-1)}, \qquad
          I^{(l)} = \hat A^\top U^{(l)} + \eta \, \bar S \bar S^\prime \hat A^\top U^{(l)},

and a node's embedding is the mean over its layers (of an item 0 to L, of a user 1 to L). The term with :math:`\eta` is
where a token collects what the users of its items like, and hands it to an item that nobody has yet. An item costs as
many edges as it has tokens; a new item needs its tokens only, so the graph is inductive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from motorec.graph import BipartiteGraph, Sparse, row_normalise

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


def incidence(codes: Int[np.ndarray, "items columns"]) -> sparse.csr_matrix:
    """Which item bears which token, 1 or 0.

    Args:
        codes: A column for each codebook, whose codes are tokens of its own; -1 where an item has none.

    Returns:
        (items, tokens). A code that nobody bears has a column, too, if a larger one of its codebook is borne.
    """
    here = codes >= 0
    sizes = codes.max(axis=0, initial=-1) + 1
    starts = np.cumsum(sizes) - sizes
    rows, columns = np.nonzero(here)
    tokens = (codes + starts)[rows, columns]
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.csr_matrix((ones, (rows, tokens)), shape=(len(codes), int(sizes.sum())))


def weighted_incidence(
    codes: Mapping[str, Int[np.ndarray, "items _"]], weights: Mapping[str, float]
) -> sparse.csr_matrix:
    r"""The tokens of several modalities side by side, scaled so that an item's row has length 1 on average.

    Args:
        codes: By modality.
        weights: What a modality's tokens count for together, in :math:`S S^\top`; 1 for one that is not named.

    Returns:
        (items, tokens); a modality of weight 0 is left out. With weight :math:`w_m` and :math:`n_m` columns of codes,
        an item's entries are :math:`\sqrt{w_m / n_m}` before all are scaled by one number.

    Raises:
        ValueError: Every modality has weight 0.
    """
    parts = []
    for name, columns in codes.items():
        weight = weights.get(name, 1.0)
        if weight > 0:
            parts.append(incidence(columns) * np.float32((weight / columns.shape[1]) ** 0.5))
    if not parts:
        raise ValueError("all modalities have weight 0")
    return unit_rows_on_average(sparse.hstack(parts, format="csr"))


def unit_rows_on_average(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scaled by one number, so that the mean square length of its rows is 1; nothing but zeros stays so."""
    length = np.sqrt(weights.multiply(weights).sum(1).mean())
    return (weights / np.float32(max(length, 1e-9))).tocsr().astype(np.float32)


class TokenGraph:
    """The edges between items and tokens, ready for propagation over them and over the users' interactions.

    Args:
        bears: Weights of the tokens that each item bears, (items, tokens).
        collect: :math:`\\eta`, what the tokens hand back to their items.
    """

    def __init__(self, bears: sparse.csr_matrix, collect: float) -> None:
        self.collect = collect
        self.bears = Sparse(bears)
        signed = bears.nnz > 0 and bears.min() < 0
        borne = bears if signed else (bears > 0).astype(np.float32)
        self._items_from_tokens, self._tokens_from_items = (
            Sparse(_weighted_means(borne)),
            Sparse(_weighted_means(borne.T.tocsr())),
        )

    def propagate(
        self, tokens: Float[Tensor, "tokens d"], graph: BipartiteGraph, layers: int
    ) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Embeddings of users and items; see the module's equations.

        Args:
            tokens: T, learned.
            graph: The interactions to go along, in training without those to be predicted.
            layers: L, at least 1.

        Returns:
            Users (mean over layers 1 to L) and items (0 to L).
        """
        start = items = self.bears @ tokens
        all_users, all_items = [], [start]
        for _ in range(layers):
            users = graph.to_users @ items
            items = graph.to_items @ users
            if self.collect > 0:
                items = items + self.collect * (self._items_from_tokens @ (self._tokens_from_items @ items))
            all_users.append(users)
            all_items.append(items)
        return torch.stack(all_users).mean(0), torch.stack(all_items).mean(0)


def _weighted_means(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """The weights divided by the sum of their row's absolute values."""
    return row_normalise(abs(weights)).multiply(weights.sign()).tocsr()


def hetero_data(train: sparse.csr_matrix, bears: sparse.csr_matrix) -> HeteroData:
    """The same graph as PyTorch Geometric knows it, to look at, and to run its layers on.

    Training uses sparse products instead, which are several times faster on a CPU; the tests hold both equal.

    Args:
        train: Interactions, (users, items).
        bears: Weights of tokens, (items, tokens).
    """
    from torch_geometric.data import HeteroData
    from torch_geometric.utils import from_scipy_sparse_matrix

    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = train.shape
    data["token"].num_nodes = bears.shape[1]
    for ends, matrix in ((("user", "takes", "item"), train), (("item", "bears", "token"), bears)):
        data[ends].edge_index, data[ends].edge_weight = from_scipy_sparse_matrix(matrix)
    return data
