"""Ranking metrics of each user, and of the lists as a whole.

Every function takes the users' ranked lists `top` (item indices, best first, -1 where a list ran out of items), or the
hits in them, and a cut-off k. With T_u the user's targets and rel_u(r) = 1 where the item at rank r is one of them:

    recall@k    = sum_{r<=k} rel_u(r) / |T_u|
    precision@k = sum_{r<=k} rel_u(r) / k
    hit_rate@k  = 1 if any rel_u(r) = 1 for r <= k, else 0
    mrr@k       = 1 / (smallest r <= k with rel_u(r) = 1), or 0 without one
    ndcg@k      = sum_{r<=k} rel_u(r) / log2(r + 1)  /  sum_{r<=min(k, |T_u|)} 1 / log2(r + 1)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import sparse


def find_hits(top: Int[np.ndarray, "users k"], targets: sparse.csr_matrix) -> Bool[np.ndarray, "users k"]:
    """Mark the places of the ranked lists that hold a target.

    Args:
        top: Ranked item indices of each user, best first; -1 where there is none.
        targets: (users, items), nonzero where the item is a target of the user; rows as in `top`.
    """
    n_items = targets.shape[1]
    rows = np.arange(len(top), dtype=np.int64)[:, None]
    wanted = targets.tocoo()
    keys = wanted.row.astype(np.int64) * n_items + wanted.col
    return np.isin(rows * n_items + top, keys) & (top >= 0)


def find_places(top: Int[np.ndarray, "users k"], targets: sparse.csr_matrix) -> Integer[np.ndarray, " targets"]:
    """Where each target stands in its user's list: 1 is the first place, 0 is not among the k.

    Args:
        top: Ranked item indices of each user, best first; -1 where there is none.
        targets: (users, items), nonzero where the item is a target of the user; rows as in `top`.

    Returns:
        A number for each nonzero entry of `targets`, row by row, in the smallest unsigned type that holds k.
    """
    wanted = targets.tocsr().sorted_indices().tocoo()
    match = top[wanted.row] == wanted.col[:, None]
    places = np.where(match.any(axis=1), match.argmax(axis=1) + 1, 0)
    return places.astype(np.min_scalar_type(top.shape[1]))


def recall(
    hits: Bool[np.ndarray, "users n"], n_targets: Int[np.ndarray, " users"], k: int
) -> Float[np.ndarray, " users"]:
    """Share of the user's targets found in the first k: hits / |targets|."""
    return hits[:, :k].sum(axis=1) / n_targets


def precision(
    hits: Bool[np.ndarray, "users n"],
    n_targets: Int[np.ndarray, " users"],  # noqa: ARG001 - all per-user metrics are called alike
    k: int,
) -> Float[np.ndarray, " users"]:
    """Share of the first k places that hold a target: hits / k."""
    return hits[:, :k].sum(axis=1) / k


def hit_rate(
    hits: Bool[np.ndarray, "users n"],
    n_targets: Int[np.ndarray, " users"],  # noqa: ARG001
    k: int,
) -> Float[np.ndarray, " users"]:
    """1 where any of the first k places holds a target, else 0."""
    return hits[:, :k].max(axis=1).astype(np.float64)


def mrr(
    hits: Bool[np.ndarray, "users n"],
    n_targets: Int[np.ndarray, " users"],  # noqa: ARG001
    k: int,
) -> Float[np.ndarray, " users"]:
    """Reciprocal rank of the first target within k, 0 without one."""
    within = hits[:, :k]
    return np.where(within.any(axis=1), 1.0 / (within.argmax(axis=1) + 1), 0.0)


def ndcg(
    hits: Bool[np.ndarray, "users n"], n_targets: Int[np.ndarray, " users"], k: int
) -> Float[np.ndarray, " users"]:
    """Discounted gain of the first k places, over that of the best possible list: all min(k, |targets|) hits first."""
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gain = hits[:, :k] @ discount
    return gain / np.cumsum(discount)[np.minimum(n_targets, k) - 1]


PerUserMetric = Callable[
    [Bool[np.ndarray, "users n"], Int[np.ndarray, " users"], int],
    Float[np.ndarray, " users"],
]
PER_USER: Mapping[str, PerUserMetric] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "hit_rate": hit_rate,
    "precision": precision,
}
"""The metrics of one user's list: each takes hits (at least k wide), the number of targets (at least 1) and k."""


def coverage(top: Int[np.ndarray, "users n"], n_items: int, k: int) -> float:
    """Share of the catalogue that stands in anybody's first k."""
    shown = np.unique(top[:, :k])
    return float((shown >= 0).sum() / n_items)


def popularity(top: Int[np.ndarray, "users n"], degrees: Int[np.ndarray, " items"], k: int) -> float:
    """Mean training degree of the items in all users' first k: how much a model leans on what sells anyway."""
    shown = top[:, :k]
    return float(degrees[shown[shown >= 0]].mean())
