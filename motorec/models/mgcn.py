r"""MGCN: multi-view graph convolution with content purified by behaviour (Yu et al., ACM Multimedia 2023).

With :math:`e` the ID embeddings, :math:`x_m` an item's features of modality m, :math:`R` the normalised interactions
and :math:`S_m` the normalised graph of items with similar features:

.. math::
    \bar e &= \mathrm{LightGCN}(e) \\
    h_m &= S_m^L \, (e_{items} \odot \sigma(V_m (W_m x_m)))      \qquad h_{m,users} = R \, h_m \\
    s &= \sum_m a_m h_m, \quad a = \mathrm{softmax}_m(q^T \tanh(A h_m)) \\
    c &= \frac{1}{M + 1} \left( s + \sum_m \sigma(P_m \bar e) \odot (h_m - s) \right) \\
    L &= L_{BPR}(\bar e + c) + \lambda_c \left( \mathrm{InfoNCE}_{users}(c, \bar e)
         + \mathrm{InfoNCE}_{items}(c, \bar e) \right) + \lambda \lVert \bar e + c \rVert^2

These are the behaviour-guided purifier, the item-item view, the behaviour-aware fuser and the alignment of the content
side with the behaviour side.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from motorec import config
from motorec.features import Features
from motorec.graph import BipartiteGraph, Sparse
from motorec.itemgraph import content_graph, nearest_neighbours, normalise_by_rows
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, distinct, info_nce, squared_norm

UserViews = tuple[Float[Tensor, "users d"], list[Float[Tensor, "users d"]]]
ItemViews = tuple[Float[Tensor, "items d"], list[Float[Tensor, "items d"]]]


class MGCN(EmbeddingRecommender):
    """ID embeddings over the user-item graph, plus what the items' content lets through of them over item graphs.

    Departures from the authors: features may be cut to their principal components and are not learned by default; the
    contrastive terms see each node of a batch once, and at most `contrastive_nodes` of them. `edges` says how much an
    item's neighbours count: all the same, or by cosine as in the authors' code.
    """

    class Settings(config.Settings):
        """Sizes, depths, weights of the loss, and how features enter."""

        dim: config.Count = 64
        layers: config.Count = 2  # over the user-item graph
        item_layers: config.Count = 1  # L, over the item graphs
        neighbours: config.Count = 10  # of each item in an item graph
        self_loops: bool = False  # an item is its own nearest neighbour, and one of their number
        edges: Literal["binary", "cosine"] = "binary"
        contrastive: config.NotNegative = 0.01  # lambda_c
        contrastive_temperature: config.Positive = 0.2
        contrastive_nodes: config.Count = 1024  # at most so many users, and items, of a batch are contrasted
        l2: config.NotNegative = 1e-4  # lambda
        std: config.Positive = 0.1  # of the embeddings at the start
        learned_features: bool = False
        scaling: Scaling = "raw"
        feature_dim: config.Count | None = 128  # principal components of the features; null: all dimensions

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        content = Content(
            inputs,
            "MGCN",
            learned=settings.learned_features,
            scaling=settings.scaling,
            components=settings.feature_dim,
        )
        generator = inputs.generator("mgcn", "weights")
        dim = settings.dim
        self.content = content
        self.users = embedding_table(inputs.train.shape[0], dim, generator, settings.std)
        self.items = embedding_table(inputs.train.shape[1], dim, generator, settings.std)
        self.project = nn.ModuleDict({name: linear(content.width(name), dim, generator) for name in content.names})
        self.purify = nn.ModuleDict({name: linear(dim, dim, generator) for name in content.names})
        self.prefer = nn.ModuleDict({name: linear(dim, dim, generator) for name in content.names})
        self.attend = nn.Sequential(linear(dim, dim, generator), nn.Tanh(), linear(dim, 1, generator, bias=False))
        self.graph = BipartiteGraph(inputs.train)
        self.item_graphs = {name: Sparse(item_graph(inputs.features[name], settings)) for name in content.names}

    def _views(self) -> tuple[UserViews, ItemViews]:
        """Behaviour embeddings, and one content embedding a modality, of all users and of all items."""
        users, items = self.graph.propagate(self.users, self.items, self.settings.layers)
        of_items = []
        for name, graph in self.item_graphs.items():
            gate = self.purify[name](self.project[name](self.content[name])).sigmoid()
            view = self.items * gate
            for _ in range(self.settings.item_layers):
                view = graph @ view
            of_items.append(view)
        of_users = [self.graph.to_users @ view for view in of_items]
        return (users, of_users), (items, of_items)

    def _fuse(self, behaviour: Float[Tensor, "n d"], views: list[Float[Tensor, "n d"]]) -> Float[Tensor, "n d"]:
        """The content side of some nodes: what the modalities share, and of each what the node's behaviour prefers."""
        weights = torch.cat([self.attend(view) for view in views], dim=1).softmax(dim=1)
        shared = torch.stack([weights[:, [place]] * view for place, view in enumerate(views)]).sum(0)
        side = shared
        for name, view in zip(self.content.names, views, strict=True):
            side = side + self.prefer[name](behaviour).sigmoid() * (view - shared)
        return side / (len(views) + 1)

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Behaviour side plus content side."""
        (users, of_users), (items, of_items) = self._views()
        return users + self._fuse(users, of_users), items + self._fuse(items, of_items)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR, InfoNCE between content and behaviour, and L2 on the final embeddings, as the authors have it."""
        settings = self.settings
        (all_users, of_users), (items, of_items) = self._views()
        # A batch's items are nearly all items, its users are not: only theirs are fused.
        wanted, place = torch.unique(users, return_inverse=True)
        behaviour = all_users[wanted]
        user_side = self._fuse(behaviour, [view[wanted] for view in of_users])
        item_side = self._fuse(items, of_items)
        user_final, item_final = behaviour + user_side, items + item_side
        user, positive, negative = user_final[place], item_final[positives], item_final[negatives]
        losses = {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": settings.l2 * squared_norm(user, positive, negative),
        }
        if settings.contrastive > 0:
            some = distinct(place, settings.contrastive_nodes, self.noise)
            others = distinct(positives, settings.contrastive_nodes, self.noise)
            temperature = settings.contrastive_temperature
            losses["infonce"] = settings.contrastive * (
                info_nce(user_side[some], behaviour[some], temperature)
                + info_nce(item_side[others], items[others], temperature)
            )
        return losses


def item_graph(features: Features, settings: MGCN.Settings) -> sparse.csr_matrix:
    r"""The graph S of one modality: each item's nearest neighbours by cosine similarity.

    Returns:
        (items, items). With equal edges a row adds up to 1; with cosines as weights the graph is
        :math:`D^{-1/2} W D^{-1/2}`, D the sums of the rows of W, as in the authors' code.
    """
    if settings.edges == "binary":
        return content_graph({features.modality: features}, settings.neighbours, {}, settings.self_loops)
    vectors = torch.from_numpy(features.matrix)
    near = nearest_neighbours(vectors, settings.neighbours, features.present, self_loops=settings.self_loops)
    return normalise_by_rows(near)
