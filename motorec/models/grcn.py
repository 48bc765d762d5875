"""GRCN: convolution over interactions that the items' content has first weighed (Wei et al., ACM Multimedia 2020)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from motorec import config
from motorec.graph import Edges
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, squared_norm


class GRCN(EmbeddingRecommender):
    r"""Wei, Wang, Nie, He and Chua: "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit
    Feedback", ACM Multimedia 2020.

    In each modality m, items are prototypes :math:`f_i = \mathrm{norm}(\sigma(W x_i))`, :math:`\sigma` the leaky
    rectifier, and users preferences :math:`p_u` of unit length, routed R times towards the items they took:

    .. math:: p_u \leftarrow \mathrm{norm}\Big(p_u + \sum_{i \in N(u)} a_{ui} f_i\Big), \qquad
              a_{ui} = \mathrm{softmax}_{i \in N(u)}(p_u \cdot f_i)

    The same affinities, normalised once over a user's items (:math:`a_{ui}`) and once over an item's users
    (:math:`a_{iu}`), carry the content to the neighbours, and weigh the edges of the ID graph: the weight of a message
    is the largest over the modalities of affinity times the sender's learned confidence c, pruned at 0,

    .. math:: w_{ui} = \max\big(0, \max_m a^m_{ui} c^m_i\big), \qquad w_{iu} = \max\big(0, \max_m a^m_{iu} c^m_u\big)

    IDs (of unit length) are convolved with w; the sum over the layers, 0 included, is concatenated with each modality's
    :math:`p_u + \sum_i a_{ui} f_i` and :math:`f_i + \sum_u a_{iu} p_u`. BPR and L2.

    Gradients go through everything, routing and weights of the edges included.

    Where we depart from it: confidence starts at 1. The authors' code draws it around 0 with a small spread, which cuts
    off for good each node whose draws are all negative. As its edges point from users to items only, the routing of
    that code (and of the MMRec toolkit) never reaches the users, which `routings: 0` reproduces.
    """

    class Settings(config.Settings):
        """Sizes, depth, routing, what is learned, regularisation."""

        dim: config.Count = 64  # of IDs
        content_dim: config.Count = 64  # of each modality
        layers: config.Count = 2
        routings: int = Field(default=3, ge=0)
        learned_features: bool = False
        scaling: Scaling = "raw"
        l2: config.NotNegative = 1e-4

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("grcn", "weights")
        n_users, n_items = inputs.train.shape
        self.content = Content(inputs, "GRCN", learned=settings.learned_features, scaling=settings.scaling)
        names = self.content.names
        self.users = embedding_table(n_users, settings.dim, generator)
        self.items = embedding_table(n_items, settings.dim, generator)
        self.preferences = nn.ParameterList(embedding_table(n_users, settings.content_dim, generator) for _ in names)
        self.projections = nn.ModuleList(
            linear(self.content.width(name), settings.content_dim, generator) for name in names
        )
        self.user_confidence = nn.Parameter(torch.ones(len(names), n_users))
        self.item_confidence = nn.Parameter(torch.ones(len(names), n_items))
        self.edges = Edges(inputs.train)

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """IDs convolved over the refined graph, beside the content of each modality."""
        user_parts, item_parts, to_users, to_items = [], [], [], []
        for place in range(len(self.preferences)):
            users, items, by_user, by_item = self.prototypes(place)
            user_parts.append(users)
            item_parts.append(items)
            to_users.append(by_user * self.item_confidence[place][self.edges.items])
            to_items.append(by_item * self.user_confidence[place][self.edges.users])
        user_ids, item_ids = self.convolve(torch.stack(to_users).amax(0).relu(), torch.stack(to_items).amax(0).relu())
        return torch.cat([user_ids, *user_parts], 1), torch.cat([item_ids, *item_parts], 1)

    def prototypes(
        self, place: int
    ) -> tuple[Float[Tensor, "users c"], Float[Tensor, "items c"], Float[Tensor, " edges"], Float[Tensor, " edges"]]:
        """One modality's users and items, and the affinities normalised by user and by item."""
        edges = self.edges
        features = self.content[self.content.names[place]]
        items = functional.normalize(functional.leaky_relu(self.projections[place](features)))
        users = functional.normalize(self.preferences[place])
        for _ in range(self.settings.routings):
            affinity = edges.softmax(edges.dot(users, items), "users")
            users = functional.normalize(users + edges.to_users(affinity, items))
        affinity = edges.dot(users, items)
        by_user, by_item = edges.softmax(affinity, "users"), edges.softmax(affinity, "items")
        return users + edges.to_users(by_user, items), items + edges.to_items(by_item, users), by_user, by_item

    def convolve(
        self, to_users: Float[Tensor, " edges"], to_items: Float[Tensor, " edges"]
    ) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Sum of the ID embeddings' layers over edges with these weights."""
        users, items = functional.normalize(self.users), functional.normalize(self.items)
        total_users, total_items = users, items
        for _ in range(self.settings.layers):
            users, items = self.edges.to_users(to_users, items), self.edges.to_items(to_items, users)
            total_users, total_items = total_users + users, total_items + items
        return total_users, total_items

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR, and L2 on the IDs and preferences of the batch."""
        all_users, all_items = self.embeddings()
        user, positive, negative = all_users[users], all_items[positives], all_items[negatives]
        tables = [self.users[users], self.items[positives], self.items[negatives]]
        tables += [preference[users] for preference in self.preferences]
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2 * squared_norm(*tables),
        }
