"""FREEDOM: a frozen item graph and a denoised user-item graph (Zhou and Shen, ACM MM 2023, arXiv 2211.06924)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from motorec import config
from motorec.graph import BipartiteGraph, Sparse
from motorec.itemgraph import content_graph
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, squared_norm


class FREEDOM(EmbeddingRecommender):
    r"""LightGCN on a thinned graph for users and items, plus items smoothed over a frozen graph of similar content.

    .. math:: e_u = \bar e_u, \qquad e_i = \bar e_i + (S^{L_c} E)_i, \qquad s_{ui} = e_u \cdot e_i

    where :math:`\bar e` are LightGCN's embeddings and S links every item to its nearest neighbours in content: rows of
    equal weights for each modality, mixed with fixed weights. In every epoch the user-item graph keeps only a share of
    its edges, drawn without replacement with probability proportional to :math:`1 / \sqrt{d_u d_i}`, so that edges
    between popular nodes go first; scoring uses the whole graph. The loss is

    .. math:: \mathrm{BPR}(e_u, e_i) + \lambda \sum_m \mathrm{BPR}(e_u, W_m f_i^m + b_m)

    Departures from the authors' code: an item without a modality takes its neighbours from the others alone; L2 on the
    batch's learned embeddings is possible; the item itself is a neighbour only if `self_loops` says so, as there; with
    `components`, the loss (not the item graph) has principal components, brought to one scale, for :math:`f_i^m`.
    """

    class Settings(config.Settings):
        """Size, depth, the item graph, the thinning of edges, and the weights of the loss."""

        dim: config.Count = 64
        layers: int = Field(default=2, ge=0)  # over users and items
        item_layers: config.Count = 1  # over the item graph
        neighbours: config.Count = 10
        self_loops: bool = False  # an item is its own nearest neighbour, and one of their number
        # Of the item graph; a modality that is not named has 1.
        modality_weights: dict[str, config.NotNegative] = Field(default={"image": 0.1, "text": 0.9})
        edge_dropout: float = Field(default=0.8, ge=0.0, lt=1.0)  # share of the interactions left out of an epoch
        feature_weight: config.NotNegative = 1e-3  # lambda
        l2: config.NotNegative = 0.0
        std: config.Positive = 0.1  # of the embeddings at the start
        learned_features: bool = False
        scaling: Scaling = "raw"
        components: config.Count | None = None  # principal components to keep of each modality; null: raw features

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("freedom", "weights")
        self.content = Content(
            inputs,
            "FREEDOM",
            learned=settings.learned_features,
            scaling=settings.scaling,
            components=settings.components,
        )
        self.users = embedding_table(inputs.train.shape[0], settings.dim, generator, settings.std)
        self.items = embedding_table(inputs.train.shape[1], settings.dim, generator, settings.std)
        self.projections = nn.ModuleDict(
            {name: linear(self.content.width(name), settings.dim, generator) for name in self.content.names}
        )
        features = inputs.content("FREEDOM")
        self.item_graph = Sparse(
            content_graph(features, settings.neighbours, settings.modality_weights, settings.self_loops)
        )
        self.train_matrix = inputs.train
        self.graph = self.thinned = BipartiteGraph(inputs.train)

    def start_epoch(self, generator: torch.Generator) -> None:
        """Draw the interactions that this epoch propagates over."""
        super().start_epoch(generator)
        if self.settings.edge_dropout > 0:
            self.thinned = BipartiteGraph(thin(self.train_matrix, self.settings.edge_dropout, generator))

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Propagated embeddings; over the epoch's interactions while training, over all when scoring."""
        graph = self.thinned if self.training else self.graph
        users, items = graph.propagate(self.users, self.items, self.settings.layers)
        similar: Tensor = self.items
        for _ in range(self.settings.item_layers):
            similar = self.item_graph @ similar
        return users, items + similar

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR on the embeddings and on the projected features of each modality."""
        all_users, all_items = self.embeddings()
        user = all_users[users]
        terms = {"bpr": bpr_loss((user * all_items[positives]).sum(1), (user * all_items[negatives]).sum(1))}
        if self.settings.feature_weight > 0:
            both = torch.cat([positives, negatives])
            for name in self.content.names:
                positive, negative = self.content.projected(name, self.projections[name], both).chunk(2)
                loss = bpr_loss((user * positive).sum(1), (user * negative).sum(1))
                terms[name] = self.settings.feature_weight * loss
        if self.settings.l2 > 0:
            norm = squared_norm(self.users[users], self.items[positives], self.items[negatives])
            terms["l2"] = self.settings.l2 * norm
        return terms


def thin(train: sparse.csr_matrix, dropout: float, generator: torch.Generator) -> sparse.csr_matrix:
    r"""Interactions drawn without replacement, each with probability proportional to :math:`1 / \sqrt{d_u d_i}`.

    Args:
        train: Binary interactions, (users, items).
        dropout: Share to leave out; at least one interaction stays.
        generator: Source of the draw.
    """
    pairs = train.tocoo()
    users, items = np.bincount(pairs.row), np.bincount(pairs.col)
    weights = torch.from_numpy(1.0 / np.sqrt(users[pairs.row] * items[pairs.col]))
    keep = max(1, int(len(weights) * (1.0 - dropout)))
    kept = torch.multinomial(weights, keep, generator=generator).sort().values.numpy()
    return sparse.csr_matrix((pairs.data[kept], (pairs.row[kept], pairs.col[kept])), shape=train.shape)
