"""MMGCN: a graph per modality, tied together by the nodes' IDs (Wei et al., ACM Multimedia 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from motorec import config
from motorec.graph import Sparse, row_normalise
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, squared_norm

Nodes = tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]


class MMGCN(EmbeddingRecommender):
    r"""Wei, Wang, Nie, He, Hong and Chua: "MMGCN: Multi-modal Graph Convolution Network for Personalized
    Recommendation of Micro-video", ACM Multimedia 2019.

    In each modality m, users have a learned preference, items their projected features, both of unit length. A layer
    averages the neighbours and joins the result with the node itself and with its ID embedding, which all modalities
    share; :math:`\sigma` is the leaky rectifier:

    .. math:: h = \sigma\Big(W_1 \frac{1}{|N|} \sum_{j \in N} x_j\Big), \qquad
              \hat x = \sigma(W_2 x) + e^{\mathrm{id}}, \qquad x \leftarrow \sigma(W_3 [h \,\|\, \hat x])

    or :math:`\sigma(W_3 h + \hat x)` for the element-wise combination. A node's embedding is the mean over the
    modalities of its last x; BPR and L2.

    Where we depart from it: every modality is projected to `dim` at once, while the authors convolve text and sound at
    the width of their features and pictures at 256. The authors' public code, and the MMRec toolkit's, keep the ID
    embeddings and the preferences at their random start, as these tables are not handed to the optimiser:
    `learned_tables: false`; with `true` they are learned, as in the paper.
    """

    class Settings(config.Settings):
        """Size, depth, how neighbours and node are joined, what is learned, regularisation."""

        dim: config.Count = 64
        layers: config.Count = 3
        combination: Literal["concatenate", "add"] = "concatenate"
        learned_tables: bool = True  # the ID embeddings and preferences
        learned_features: bool = False
        scaling: Scaling = "raw"
        l2: config.NotNegative = 1e-4  # on the tables; without effect while they are not learned

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("mmgcn", "weights")
        n_users, n_items = inputs.train.shape
        self.content = Content(inputs, "MMGCN", learned=settings.learned_features, scaling=settings.scaling)
        self.users = embedding_table(n_users, settings.dim, generator)
        self.items = embedding_table(n_items, settings.dim, generator)
        self.preferences = nn.ParameterList(
            embedding_table(n_users, settings.dim, generator) for _ in self.content.names
        )
        self.channels = nn.ModuleList(
            Channel(settings, self.content.width(name), generator) for name in self.content.names
        )
        if not settings.learned_tables:
            for table in (self.users, self.items, *self.preferences):
                table.requires_grad_(False)
        self.to_users, self.to_items = (
            Sparse(row_normalise(inputs.train)),
            Sparse(row_normalise(inputs.train.T.tocsr())),
        )

    def embeddings(self) -> Nodes:
        """Mean of the modalities' last layers."""
        total_users, total_items = torch.zeros_like(self.users), torch.zeros_like(self.items)
        for name, preference, channel in zip(self.content.names, self.preferences, self.channels, strict=True):
            ids = self.users, self.items
            users, items = channel(preference, self.content[name], ids, self.to_users, self.to_items)
            total_users, total_items = total_users + users, total_items + items
        return total_users / len(self.channels), total_items / len(self.channels)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR, and L2 on the ID embeddings and preferences of the batch."""
        all_users, all_items = self.embeddings()
        user, positive, negative = all_users[users], all_items[positives], all_items[negatives]
        preferences = [table[users] for table in self.preferences]
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2
            * squared_norm(self.users[users], self.items[positives], self.items[negatives], *preferences),
        }


class Channel(nn.Module):
    """The graph of one modality."""

    def __init__(self, settings: MMGCN.Settings, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.project = linear(width, settings.dim, generator)
        self.layers = nn.ModuleList(
            Layer(settings.dim, settings.combination, generator) for _ in range(settings.layers)
        )

    def forward(
        self,
        preference: Float[Tensor, "users d"],
        features: Float[Tensor, "items width"],
        ids: Nodes,
        to_users: Sparse,
        to_items: Sparse,
    ) -> Nodes:
        """Users and items after the last layer."""
        users, items = functional.normalize(preference), functional.normalize(self.project(features))
        for layer in self.layers:
            users, items = layer(to_users @ items, users, ids[0]), layer(to_items @ users, items, ids[1])
        return users, items


class Layer(nn.Module):
    """One layer of the equation above; users and items share its weights."""

    def __init__(self, dim: int, combination: str, generator: torch.Generator) -> None:
        super().__init__()
        self.concatenate = combination == "concatenate"
        self.neighbour = linear(dim, dim, generator, bias=False)
        self.own = linear(dim, dim, generator)
        self.join = linear(2 * dim if self.concatenate else dim, dim, generator)

    def forward(
        self, neighbours: Float[Tensor, "n d"], nodes: Float[Tensor, "n d"], ids: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        """The nodes' new states from the mean of their neighbours, themselves and their IDs."""
        around = functional.leaky_relu(self.neighbour(neighbours))
        own = functional.leaky_relu(self.own(nodes)) + ids
        joined = self.join(torch.cat([around, own], 1)) if self.concatenate else self.join(around) + own
        return functional.leaky_relu(joined)
