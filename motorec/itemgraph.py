"""Graphs that link items with similar content: frozen k-nearest-neighbour graphs of feature vectors."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse
from torch import Tensor


def nearest_neighbours(
    vectors: Float[Tensor, "items width"],
    neighbours: int,
    present: Bool[np.ndarray, " items"] | None = None,
    weights: Literal["cosine", "binary"] = "cosine",
    block: int = 1024,
) -> sparse.csr_matrix:
    """Each item's nearest other items by cosine similarity.

    Similarities are computed a block of rows at a time, so that memory is linear in the items.

    Args:
        vectors: A row per item.
        neighbours: How many others each item is linked to; fewer where there are fewer.
        present: Items that have a vector; the others are linked to nothing. All, if not given.
        weights: What an edge carries: the similarity, if positive, or 1.
        block: Rows at a time.

    Returns:
        (items, items), row i holding the neighbours of item i; not symmetric, nothing on the diagonal.
    """
    n_items = len(vectors)
    here = np.arange(n_items) if present is None else np.flatnonzero(present)
    keep = min(neighbours, len(here) - 1)
    if keep < 1:
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)  # type: ignore[arg-type]
    unit = torch.nn.functional.normalize(vectors[torch.from_numpy(here)].float(), dim=1)
    columns, values = [], []
    for start in range(0, len(unit), block):
        similarity = unit[start : start + block] @ unit.T
        rows = torch.arange(len(similarity))
        similarity[rows, rows + start] = -torch.inf
        best = similarity.topk(keep, dim=1)
        columns.append(best.indices.numpy())
        values.append(best.values.numpy())
    found = np.concatenate(values)
    edges = np.ones_like(found) if weights == "binary" else found.clip(min=0.0)
    graph = sparse.csr_matrix(
        (edges.ravel(), (np.repeat(here, keep), here[np.concatenate(columns).ravel()])), shape=(n_items, n_items)
    )
    graph.eliminate_zeros()
    return graph
