r"""The bipartite user-item graph and LightGCN propagation on it (paper section 3).

.. math:: E^{(l+1)} = D^{-1/2} A D^{-1/2} E^{(l)}, \qquad E = \frac{1}{L + 1} \sum_{l=0}^{L} E^{(l)}

with :math:`A` the adjacency of users and items by *training* interactions.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

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


class Edges:
    r"""The interactions as a list of edges, user by user, for models that learn or compute a weight for each.

    The three products are the derivatives of :math:`\sum_{(u, i)} w_{ui} \, x_u \cdot y_i`, so the gradient of each is
    made of the other two. None of them holds a vector per edge.

    Attributes:
        users: The user of each edge.
        items: The item of each edge.
    """

    def __init__(self, train: sparse.csr_matrix) -> None:
        pairs = train.tocsr()
        pairs.sort_indices()
        self.shape: tuple[int, int] = pairs.shape
        places = sparse.csr_matrix((np.arange(pairs.nnz), pairs.indices, pairs.indptr), shape=self.shape).T.tocsr()
        places.sort_indices()
        self._turned_order = torch.from_numpy(places.data.astype(np.int64))
        forward, turned = to_torch(pairs), to_torch(places)
        self._starts, self.items = forward.crow_indices(), forward.col_indices()
        self._turned_starts, self._turned_users = turned.crow_indices(), turned.col_indices()
        self.users = torch.repeat_interleave(torch.arange(self.shape[0]), self._starts.diff())

    def dot(self, users: Float[Tensor, "users d"], items: Float[Tensor, "items d"]) -> Float[Tensor, " edges"]:
        """The dot product of each edge's user and item."""
        return _EdgeDot.apply(self, users, items)

    def to_users(self, weights: Float[Tensor, " edges"], items: Float[Tensor, "items d"]) -> Float[Tensor, "users d"]:
        """Each user as the weighted sum of their items."""
        return _EdgesToUsers.apply(self, weights, items)

    def to_items(self, weights: Float[Tensor, " edges"], users: Float[Tensor, "users d"]) -> Float[Tensor, "items d"]:
        """Each item as the weighted sum of its users."""
        return _EdgesToItems.apply(self, weights, users)

    def softmax(self, scores: Float[Tensor, " edges"], over: Literal["users", "items"]) -> Float[Tensor, " edges"]:
        """Softmax over all edges of the same user, or of the same item. Scores may span 80 at most, as cosines do."""
        nodes, count = (self.users, self.shape[0]) if over == "users" else (self.items, self.shape[1])
        if not len(nodes):
            return scores
        exponential = (scores - scores.detach().max()).exp()
        return exponential / scores.new_zeros(count).index_add(0, nodes, exponential)[nodes]

    def _dot(self, users: Tensor, items: Tensor) -> Tensor:
        zeros = self._matrix(torch.zeros(len(self.users)))
        return torch.sparse.sampled_addmm(zeros, users.contiguous(), items.T, beta=0.0).values()

    def _to_users(self, weights: Tensor, items: Tensor) -> Tensor:
        return self._matrix(weights) @ items.contiguous()

    def _to_items(self, weights: Tensor, users: Tensor) -> Tensor:
        turned = torch.sparse_csr_tensor(
            self._turned_starts,
            self._turned_users,
            weights[self._turned_order],
            size=self.shape[::-1],
            check_invariants=False,
        )
        return turned @ users.contiguous()

    def _matrix(self, weights: Tensor) -> Tensor:
        return torch.sparse_csr_tensor(self._starts, self.items, weights, size=self.shape, check_invariants=False)


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Edges, users: Tensor, items: Tensor) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(users, items)
        return edges._dot(users, items)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        users, items = ctx.saved_tensors
        return None, ctx.edges._to_users(gradients[0], items), ctx.edges._to_items(gradients[0], users)


class _EdgesToUsers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Edges, weights: Tensor, items: Tensor) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(weights, items)
        return edges._to_users(weights, items)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        weights, items = ctx.saved_tensors
        return None, ctx.edges._dot(gradients[0], items), ctx.edges._to_items(weights, gradients[0])


class _EdgesToItems(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Edges, weights: Tensor, users: Tensor) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(weights, users)
        return edges._to_items(weights, users)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        weights, users = ctx.saved_tensors
        return None, ctx.edges._dot(users, gradients[0]), ctx.edges._to_users(weights, gradients[0])


def _inverse(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1 / x, and 0 where x is 0: a node without edges neither sends nor receives."""
    return np.divide(1.0, values, where=values > 0, out=np.zeros_like(values, dtype=np.float64))
