r"""The bipartite user-item graph and LightGCN propagation on it (paper section 3).

.. math:: E^{(l+1)} = D^{-1/2} A D^{-1/2} E^{(l)}, \qquad E = \frac{1}{L + 1} \sum_{l=0}^{L} E^{(l)}

with :math:`A` the adjacency of users and items by *training* interactions.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor


def to_torch(matrix: sparse.csr_matrix) -> Tensor:
    """A SciPy matrix as a sparse CSR tensor."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    with warnings.catch_warnings():
        # PyTorch says once per process that CSR tensors are young; the tests hold the products used here right.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=False,  # SciPy has sorted and checked them
        )


class _SparseProduct(torch.autograd.Function):
    """Sparse times dense whose backward multiplies by the transpose at hand instead of transposing at every step."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0].contiguous()


class Sparse:
    """A fixed sparse matrix that multiplies learned dense ones: `Sparse(matrix) @ dense`, gradients included."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self.matrix, self.transpose = to_torch(matrix), to_torch(matrix.T.tocsr())

    def __matmul__(self, dense: Float[Tensor, "columns d"]) -> Float[Tensor, "rows d"]:
        return _SparseProduct.apply(self.matrix, self.transpose, dense)

    @property
    def T(self) -> Sparse:
        """The transpose; it shares memory with this one."""
        turned = object.__new__(Sparse)
        turned.matrix, turned.transpose = self.transpose, self.matrix
        return turned


def symmetric_normalise(adjacency: sparse.csr_matrix) -> sparse.csr_matrix:
    r""":math:`D_r^{-1/2} A D_c^{-1/2}`, where D_r and D_c hold the sums of rows and columns; 0 where a sum is 0."""
    rows = sparse.diags(_inverse(np.sqrt(np.asarray(adjacency.sum(1), dtype=np.float64).ravel())))
    columns = sparse.diags(_inverse(np.sqrt(np.asarray(adjacency.sum(0), dtype=np.float64).ravel())))
    return (rows @ adjacency @ columns).tocsr()


def row_normalise(adjacency: sparse.csr_matrix) -> sparse.csr_matrix:
    r""":math:`D_r^{-1} A`: every row with a sum adds up to 1."""
    return (sparse.diags(_inverse(np.asarray(adjacency.sum(1), dtype=np.float64).ravel())) @ adjacency).tocsr()


class BipartiteGraph:
    """The normalised interactions, both ways round; interactions may carry weights.

    Keeping the matrix and its transpose, and never building the square adjacency, made a training step several times
    faster than PyTorch Geometric's `LGConv` on the same graph; `tests/test_graph.py` holds the two equal.
    """

    def __init__(self, train: sparse.csr_matrix) -> None:
        self.to_users = Sparse(symmetric_normalise(train))
        self.to_items = self.to_users.T
        self._average = Sparse(row_normalise(train))

    def propagate(
        self, users: Float[Tensor, "users d"], items: Float[Tensor, "items d"], layers: int
    ) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Mean over 0..L propagations of user and item embeddings; see the module's equation."""
        total_users, total_items = users, items
        for _ in range(layers):
            users, items = (
                self.to_users @ items,
                self.to_items @ users,
            )
            total_users, total_items = total_users + users, total_items + items
        return total_users / (layers + 1), total_items / (layers + 1)

    def users_from_items(self, items: Float[Tensor, "items d"]) -> Float[Tensor, "users d"]:
        """Each user as the mean of the items in their training interactions; zero for a user without any."""
        return self._average @ items


def _inverse(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1 / x, and 0 where x is 0: a node without edges neither sends nor receives."""
    return np.divide(1.0, values, where=values > 0, out=np.zeros_like(values, dtype=np.float64))
