"""LATTICE: an item graph that is learned from content (Zhang et al., ACM MM 2021, arXiv 2104.09036)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from motorec import config
from motorec.graph import BipartiteGraph, Edges, Sparse, row_normalise
from motorec.itemgraph import nearest_neighbours, normalise_by_rows
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, squared_norm


class LATTICE(EmbeddingRecommender):
    r"""LightGCN, with items smoothed over a graph that is partly frozen and partly learned.

    .. math:: A = \lambda \sum_m w_m N(S(F^m)) + (1 - \lambda) N(\sum_m w_m S(F^m W_m + b_m)), \qquad
              e_i = \bar e_i + \frac{(A^{L_c} E)_i}{\lVert (A^{L_c} E)_i \rVert}, \qquad s_{ui} = \bar e_u \cdot e_i

    where S keeps the cosines of every item with its nearest neighbours, :math:`N(S) = D^{-1/2} S D^{-1/2}` with the
    sums of rows in D, w is a softmax of learned numbers, and :math:`\bar e` are LightGCN's embeddings. Trained by BPR.
    The learned graph is built once an epoch: as in the authors' code, the first step of an epoch passes its gradient on
    to W, b and w; the other steps take the graph as it then was. For scoring it is built from the final weights.

    Departures: cosines below zero are no edges, L2 is on the batch's embeddings before propagation. By default an item
    is no neighbour of itself (its own embedding is in the sum already) and users and items are propagated as in
    LightGCN; in the authors' code an item is the nearest of its neighbours (`self_loops`), and a node becomes the mean
    of its neighbours and itself (`adjacency: rows`, :math:`D^{-1}(A + I)` with A over users and items).
    """

    class Settings(config.Settings):
        """Size, depth, the item graph and regularisation."""

        dim: config.Count = 64
        layers: int = Field(default=2, ge=0)  # over users and items
        adjacency: Literal["symmetric", "rows"] = "symmetric"  # of users and items; see the class
        item_layers: config.Count = 1  # over the item graph
        feature_dim: config.Count = 64  # of the projected features
        neighbours: config.Count = 10
        self_loops: bool = False  # an item is one of its neighbours
        skip: config.Share = 0.9  # lambda: share of the frozen graph
        l2: config.NotNegative = 1e-4
        std: config.Positive = 0.1  # of the embeddings at the start
        learned_features: bool = False
        scaling: Scaling = "raw"
        components: config.Count | None = None  # principal components to keep of each modality; null: raw features

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("lattice", "weights")
        features = inputs.content("LATTICE")
        self.content = Content(
            inputs,
            "LATTICE",
            learned=settings.learned_features,
            scaling=settings.scaling,
            components=settings.components,
        )
        self.users = embedding_table(inputs.train.shape[0], settings.dim, generator, settings.std)
        self.items = embedding_table(inputs.train.shape[1], settings.dim, generator, settings.std)
        self.projections = nn.ModuleDict(
            {name: linear(self.content.width(name), settings.feature_dim, generator) for name in self.content.names}
        )
        self.modality_weights = nn.Parameter(torch.zeros(len(self.content.names)))
        self.present = {name: features[name].present for name in self.content.names}
        self.frozen = [
            Sparse(normalise_by_rows(self._nearest(torch.from_numpy(features[name].matrix), name)))
            for name in self.content.names
        ]
        self.graph = BipartiteGraph(inputs.train)
        self._means = Sparse(_means(inputs.train)) if settings.adjacency == "rows" else None
        self._learned: tuple[Tensor, list[tuple[Edges, Tensor]]] | None = None

    def start_epoch(self, generator: torch.Generator) -> None:
        """Forget the last epoch's learned graph; the first step builds a new one."""
        super().start_epoch(generator)
        self._learned = None

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Propagated embeddings, the items' with their smoothed ones."""
        users, items = self._propagated()
        shares, learned = self._item_graph()
        similar: Tensor = self.items
        for _ in range(self.settings.item_layers):
            kept = torch.stack([share * (frozen @ similar) for share, frozen in zip(shares, self.frozen, strict=True)])
            found = torch.stack([edges.to_users(weights, similar) for edges, weights in learned])
            similar = self.settings.skip * kept.sum(0) + (1.0 - self.settings.skip) * found.sum(0)
        return users, items + functional.normalize(similar, dim=1)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR and L2."""
        all_users, all_items = self.embeddings()
        user, positive, negative = all_users[users], all_items[positives], all_items[negatives]
        norm = squared_norm(self.users[users], self.items[positives], self.items[negatives])
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2 * norm,
        }

    def _propagated(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Users and items over their own graph: the means of layers 0 to L."""
        if self._means is None:
            return self.graph.propagate(self.users, self.items, self.settings.layers)
        nodes = total = torch.cat([self.users, self.items])
        for _ in range(self.settings.layers):
            nodes = self._means @ nodes
            total = total + nodes
        users, items = (total / (self.settings.layers + 1)).split([len(self.users), len(self.items)])
        return users, items

    def _item_graph(self) -> tuple[Tensor, list[tuple[Edges, Tensor]]]:
        """The modalities' shares, and the learned edges with their weights; see the class on what passes gradients."""
        shares = self.modality_weights.softmax(0)
        if not self.training:
            return shares, self.learned_edges(shares)
        if self._learned is None:
            learned = self.learned_edges(shares)
            self._learned = shares.detach(), [(edges, weights.detach()) for edges, weights in learned]
            return shares, learned
        return self._learned

    def learned_edges(self, shares: Float[Tensor, " modalities"]) -> list[tuple[Edges, Float[Tensor, " edges"]]]:
        """Nearest neighbours of the projected features: each modality's edges, and their normalised weights."""
        found = []
        degrees = torch.zeros(len(self.items))
        for share, name in zip(shares, self.content.names, strict=True):
            unit = functional.normalize(self.projections[name](self.content[name]), dim=1)
            edges = Edges(self._nearest(unit.detach(), name))
            weights = share * edges.dot(unit, unit)
            degrees = degrees.index_add(0, edges.users, weights)
            found.append((edges, weights))
        scale = degrees.clamp_min(1e-7).rsqrt()
        return [(edges, weights * scale[edges.users] * scale[edges.items]) for edges, weights in found]

    def _nearest(self, vectors: Float[Tensor, "items _"], modality: str) -> sparse.csr_matrix:
        settings = self.settings
        return nearest_neighbours(vectors, settings.neighbours, self.present[modality], self_loops=settings.self_loops)


def _means(train: sparse.csr_matrix) -> sparse.csr_matrix:
    """:math:`D^{-1}(A + I)`, (nodes, nodes), users before items: each node as the mean of its neighbours and itself."""
    n_users, n_items = train.shape
    users, items = train.nonzero()
    own = np.arange(n_users + n_items)
    ends = np.concatenate([own, users, items + n_users]), np.concatenate([own, items + n_users, users])
    return row_normalise(sparse.csr_matrix((np.ones(len(ends[0]), dtype=np.float32), ends)))
