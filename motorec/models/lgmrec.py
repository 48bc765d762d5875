r"""LGMRec: local graphs and a global hypergraph over several modalities (Guo et al., AAAI 2024).

With :math:`\hat A` the normalised interactions, :math:`X_m` the items' features of modality m (a user's are the mean
over the own items), :math:`e` the ID embeddings and :math:`B` the binary interactions:

.. math::
    E_{lge} &= \mathrm{LightGCN}(e) + \sum_m \mathrm{norm}(\hat A^L X_m W_m) \\
    H_m &= \mathrm{drop}(\mathrm{softmax}((X_m V_m + g) / T)) \quad \text{for items}, \qquad
    H_{m,users} = \mathrm{drop}(\mathrm{softmax}((B X_m V_m + g) / T)) \\
    E_{ghe} &= \mathrm{norm} \left( \sum_m H_m H_{m,items}^T \, \mathrm{LightGCN}(e)_{items} \right) \\
    L &= L_{BPR}(E_{lge} + \alpha E_{ghe}) + \lambda_c L_{HCL} + \lambda \lVert e \rVert^2

:math:`V_m` are the learned hyperedges of a modality, g is Gumbel noise, and :math:`L_{HCL}` is InfoNCE between the
hypergraph embeddings that two modalities give the same users, and the same items.
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from motorec import config
from motorec.graph import BipartiteGraph, Sparse
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, dropout, linear
from motorec.models.losses import bpr_loss, distinct, info_nce, squared_norm


class LGMRec(EmbeddingRecommender):
    """Local embeddings from the user-item graph, global ones from learned groups of similar items.

    Features are frozen, as in the authors' code, so all propagation of them is done once, before training. Departures:
    features may be cut to their principal components; the contrastive term is a mean over distinct nodes of the batch,
    contrasted with each other and not with all nodes, so that its weight is a few thousand times the authors'; L2 is
    on the squared learned embeddings; scoring takes the incidences without Gumbel noise.
    """

    class Settings(config.Settings):
        """Sizes, depths, weights of the loss, and how features enter."""

        dim: config.Count = 64
        layers: config.Count = 2  # of LightGCN
        content_layers: config.Count = 2  # L: propagations of the features
        hyper_layers: config.Count = 1
        hyperedges: config.Count = 4  # of each modality
        alpha: config.NotNegative = 0.3  # weight of the global embeddings
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5  # of the incidences
        temperature: config.Positive = 0.2  # T, of incidences and of the contrastive term
        contrastive: config.NotNegative = 0.1  # lambda_c
        contrastive_nodes: config.Count = 512  # at most so many users, and items, of a batch are contrasted
        l2: config.NotNegative = 1e-4  # lambda
        std: config.Positive = 0.1  # of the embeddings at the start
        scaling: Scaling = "raw"
        feature_dim: config.Count | None = 128  # principal components of the features; null: all dimensions

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        content = Content(inputs, "LGMRec", scaling=settings.scaling, components=settings.feature_dim)
        generator = inputs.generator("lgmrec", "weights")
        self.users = embedding_table(inputs.train.shape[0], settings.dim, generator, settings.std)
        self.items = embedding_table(inputs.train.shape[1], settings.dim, generator, settings.std)
        self.graph = BipartiteGraph(inputs.train)
        interactions = Sparse(inputs.train)
        self._modalities = nn.ModuleList(
            Modality(content[name], self.graph, interactions, settings, generator) for name in content.names
        )

    @property
    def modalities(self) -> list[Modality]:
        """In alphabetical order of their names."""
        return cast(list[Modality], list(self._modalities))

    def _both(
        self, rows: Int[Tensor, " b"] | slice
    ) -> tuple[
        Float[Tensor, "b d"], Float[Tensor, "items d"], list[tuple[Float[Tensor, "b d"], Float[Tensor, "items d"]]]
    ]:
        """Final embeddings of the given users and of all items, and the modalities' hypergraph embeddings of them."""
        users, items = self.graph.propagate(self.users, self.items, self.settings.layers)
        noise = self.noise if self.training else None
        hyper = [modality.hypergraph(items, rows, noise) for modality in self.modalities]
        local = [modality.local(rows) for modality in self.modalities]
        final = []
        for side, behaviour in enumerate((users[rows], items)):
            content = torch.stack([embeddings[side] for embeddings in local]).sum(0)
            everywhere = nn.functional.normalize(torch.stack([embeddings[side] for embeddings in hyper]).sum(0), dim=1)
            final.append(behaviour + content + self.settings.alpha * everywhere)
        return final[0], final[1], hyper

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Local plus global embeddings."""
        users, items, _ = self._both(slice(None))
        return users, items

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR, InfoNCE between the modalities' hypergraph embeddings, and L2."""
        settings = self.settings
        rows, place = torch.unique(users, return_inverse=True)
        of_rows, items, hyper = self._both(rows)
        user = of_rows[place]
        norm = squared_norm(self.users[users], self.items[positives], self.items[negatives])
        losses = {
            "bpr": bpr_loss((user * items[positives]).sum(1), (user * items[negatives]).sum(1)),
            "l2": settings.l2 * norm,
        }
        if settings.contrastive > 0 and len(hyper) > 1:
            chosen = [distinct(nodes, settings.contrastive_nodes, self.noise) for nodes in (place, positives)]
            contrast = [
                info_nce(first[side][nodes], second[side][nodes], settings.temperature)
                for first, second in combinations(hyper, 2)
                for side, nodes in enumerate(chosen)
            ]
            losses["infonce"] = settings.contrastive * torch.stack(contrast).sum()
        return losses


class Modality(nn.Module):
    """One modality: its features propagated over the user-item graph, and its hyperedges."""

    def __init__(
        self,
        features: Float[Tensor, "items width"],
        graph: BipartiteGraph,
        interactions: Sparse,
        settings: LGMRec.Settings,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.settings = settings
        users, items = graph.users_from_items(features), features
        for _ in range(settings.content_layers):
            users, items = graph.to_users @ items, graph.to_items @ users
        self.register_buffer("spread_users", users, persistent=False)
        self.register_buffer("spread_items", items, persistent=False)
        self.register_buffer("of_users", interactions @ features, persistent=False)
        self.register_buffer("of_items", features, persistent=False)
        self.project = linear(features.shape[1], settings.dim, generator, bias=False)
        self.hyperedges = linear(features.shape[1], settings.hyperedges, generator, bias=False)

    spread_users: Tensor
    spread_items: Tensor
    of_users: Tensor
    of_items: Tensor

    def local(self, rows: Int[Tensor, " b"] | slice) -> tuple[Float[Tensor, "b d"], Float[Tensor, "items d"]]:
        """Propagated features of the given users and all items, each of unit length or zero."""
        users, items = self.project(self.spread_users[rows]), self.project(self.spread_items)
        return nn.functional.normalize(users, dim=1), nn.functional.normalize(items, dim=1)

    def hypergraph(
        self, items: Float[Tensor, "items d"], rows: Int[Tensor, " b"] | slice, noise: torch.Generator | None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "items d"]]:
        """What the given users and all items get from the hyperedges, which gather items' embeddings."""
        of_items = self._incidence(self.of_items, noise)
        of_users = self._incidence(self.of_users[rows], noise)
        for _ in range(self.settings.hyper_layers):
            gathered = of_items.T @ items
            items = of_items @ gathered
        return of_users @ gathered, items

    def _incidence(
        self, features: Float[Tensor, "n width"], noise: torch.Generator | None
    ) -> Float[Tensor, "n hyperedges"]:
        """How much each node belongs to each hyperedge; with Gumbel noise and dropout while training."""
        logits = self.hyperedges(features)
        if noise is None:
            return (logits / self.settings.temperature).softmax(dim=1)
        # The negative logarithm of an exponential draw has the Gumbel distribution.
        gumbel = -torch.empty_like(logits).exponential_(generator=noise).log()
        incidence = ((logits + gumbel) / self.settings.temperature).softmax(dim=1)
        return dropout(incidence, self.settings.dropout, noise)
