"""Graphs that link items with similar content: frozen k-nearest-neighbour graphs of feature vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse
from torch import Tensor

from motorec.features import Features
from motorec.graph import row_normalise


def nearest_neighbours(
    vectors: Float[Tensor, "items width"],
    neighbours: int,
    present: Bool[np.ndarray, " items"] | None = None,
    weights: Literal["cosine", "binary"] = "cosine",
    self_loops: bool = False,
    block: int = 1024,
) -> sparse.csr_matrix:
    """Each item's nearest items by cosine similarity.

    Similarities are computed a block of rows at a time, so that memory is linear in the items.

    Args:
        vectors: A row per item.
        neighbours: How many items each is linked to; fewer where there are fewer.
        present: Items that have a vector; the others are linked to nothing. All, if not given.
        weights: What an edge carries: the similarity, if positive, or 1.
        self_loops: An item is the nearest to itself, and counts as one of its neighbours.
        block: Rows at a time.

    Returns:
        (items, items), row i holding the neighbours of item i; not symmetric, and without self loops nothing on the
        diagonal.
    """
    n_items = len(vectors)
    here = np.arange(n_items) if present is None else np.flatnonzero(present)
    own = np.zeros(n_items, dtype=np.float32)
    own[here] = float(self_loops)
    keep = min(neighbours - int(self_loops), len(here) - 1)
    if keep < 1:
        return sparse.diags(own, format="csr")
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
    return graph + sparse.diags(own) if self_loops else graph


def normalise_by_rows(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    r""":math:`D^{-1/2} S D^{-1/2}`, with the sums of rows in D on both sides although S is not symmetric."""
    sums = np.asarray(graph.sum(1), dtype=np.float64).ravel()
    scale = sparse.diags(np.divide(1.0, np.sqrt(sums), where=sums > 0, out=np.zeros_like(sums)))
    return (scale @ graph @ scale).tocsr()


def content_graph(
    features: Mapping[str, Features],
    neighbours: int,
    modality_weights: Mapping[str, float],
    self_loops: bool = False,
) -> sparse.csr_matrix:
    """Nearest neighbours in each modality, mixed by weights: FREEDOM's frozen item graph (arXiv 2211.06924, eq. 3-5).

    Args:
        features: By modality.
        neighbours: How many each item has in one modality; all weigh the same there.
        modality_weights: How much a modality counts; 1 for one that is not named. Only their ratio matters.
        self_loops: Count an item as its own nearest neighbour, as cosine similarity does.

    Returns:
        (items, items); every row of an item that has a modality of some weight adds up to 1.
    """
    graphs = []
    for name, feature in features.items():
        graph = nearest_neighbours(torch.from_numpy(feature.matrix), neighbours, feature.present, "binary", self_loops)
        graphs.append(row_normalise(graph) * modality_weights.get(name, 1.0))
    mixed = row_normalise(sum(graphs[1:], start=graphs[0]).tocsr())
    mixed.eliminate_zeros()
    return mixed
