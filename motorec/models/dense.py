"""What the linear item-item models share: scores by a matrix of weights, its closed form, and a limit on memory."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.linalg import lapack
from torch import Tensor

from motorec import config
from motorec.errors import MotorecError, TooLarge
from motorec.models.base import Recommender

GIB = 2**30


class DenseSettings(config.Settings):
    """What every model with a dense matrix of all pairs of items can be told."""

    ridge: config.Positive = 100.0  # L2 penalty on the weights (lambda)
    memory_limit_gb: config.Positive = 8.0  # refuse to start on a catalogue that needs more (GiB)


class LinearRecommender(Recommender):
    r"""Scores linear in a user's training interactions: :math:`\mathrm{score}(u, \cdot) = X_u B`."""

    def __init__(self, train: sparse.csr_matrix, weights: Float[np.ndarray, "items items"] | sparse.csr_matrix) -> None:
        self._train = train.tocsr()
        self.weights = weights

    @property
    def n_parameters(self) -> int:
        """Weights that fitting set: all but the diagonal of a dense matrix, the nonzero ones of a sparse matrix."""
        if sparse.issparse(self.weights):
            return int(self.weights.nnz)
        return self.weights.size - len(self.weights)

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Sum of the weights from the user's training items to each item."""
        scores = self._train[users] @ self.weights
        return torch.from_numpy(scores.toarray() if sparse.issparse(scores) else scores)


def require_memory(model: str, items: int, settings: DenseSettings) -> None:
    """Refuse a catalogue whose dense matrices would not fit, before any work is done.

    At its peak `item_weights` holds three (items, items) matrices in single precision.

    Args:
        model: The model's title, for the message.
        items: Items of the data set.
        settings: With the limit.

    Raises:
        TooLarge: More memory would be needed than the limit allows.
    """
    needed = 3 * 4 * items**2 / GIB
    if needed > settings.memory_limit_gb:
        raise TooLarge(
            f"{model} keeps a weight for every pair of items: {items:,} items need {needed:.1f} GiB of memory, and "
            f"memory_limit_gb is {settings.memory_limit_gb:g}. Raise memory_limit_gb in the model's file in "
            f"params/models if this machine has the memory, or keep fewer items (min_item_interactions of the data "
            f"set); else this model is left out here."
        )


def interaction_gram(train: sparse.csr_matrix, user_power: float = 0.0) -> Float[Tensor, "items items"]:
    r"""Inner products of the items' user vectors, :math:`X^\top W X`.

    :math:`W` weights user u by :math:`|I_u|^{-p}`, so that the most active users do not decide alone; it is scaled to
    a mean of 1 over all interactions, so that other terms keep their balance with this one whatever the power.

    Args:
        train: Binary interactions, (users, items).
        user_power: The power p; 0 counts all users alike.
    """
    activity = np.asarray(train.sum(1), dtype=np.float64).ravel()
    weight = np.maximum(activity, 1.0) ** -user_power
    weight *= activity.sum() / (weight @ activity)
    matrix = train.astype(np.float32)
    return torch.from_numpy((matrix.T @ sparse.diags(weight.astype(np.float32)) @ matrix).toarray())


def item_weights(gram: Float[Tensor, "items items"], ridge: float) -> Float[np.ndarray, "items items"]:
    r"""The EASE solution: the best ridge regression of each item on all others (Steck, WWW 2019, equation 8).

    .. math:: P = (G + \lambda I)^{-1}, \qquad B_{ij} = -P_{ij} / P_{jj}, \qquad B_{jj} = 0

    Args:
        gram: G, positive semidefinite; it is overwritten.
        ridge: lambda.

    Raises:
        MotorecError: G + lambda I is singular in single precision.
    """
    gram.diagonal().add_(ridge)
    # SciPy's Cholesky, as torch's differs between makers of processors (`motorec.processor`). LAPACK goes by columns:
    # to it this symmetric matrix is its own transpose, and can be worked on where it lies.
    factor, failed = lapack.spotrf(gram.numpy().T, lower=True, overwrite_a=True)
    if failed:
        raise MotorecError(f"The items' regression has no unique solution with ridge {ridge:g}; use a larger ridge.")
    inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)
    weights = torch.from_numpy(inverse.T)  # of which the upper triangle is told
    weights.triu_().add_(weights.triu(1).T)
    weights.div_(-weights.diagonal().clone())
    weights.fill_diagonal_(0.0)
    return weights.numpy()
