"""DualGNN: a graph of users with common items over a user-item graph per modality (Wang et al., IEEE TMM 2021)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from motorec import config
from motorec.graph import Sparse, row_normalise, symmetric_normalise
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.itemknn import nearest_only
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, squared_norm


class DualGNN(EmbeddingRecommender):
    r"""Wang, Wei, Yin, Wu, Song and Nie: "DualGNN: Dual Graph Neural Network for Multimedia Recommendation", IEEE
    Transactions on Multimedia 2021.

    In each modality m, users are learned preferences and items an MLP of their features, :math:`\sigma` the leaky
    rectifier, both of unit length, summed over their propagations (as LightGCN's, :math:`\hat A` the normalised graph):

    .. math:: X^m_{(0)} = [P^m \,\|\, W_2 \sigma(W_1 F^m)], \qquad X^m = \sum_{l=0}^{L} \hat A^l X^m_{(0)}

    An item is the sum of its modalities, a user their sum weighted by what the user attends to, plus the same of the K
    users with most common items, by attention on the number of these:

    .. math:: y_i = \sum_m x^m_i, \qquad z_u = \sum_m w_{um} x^m_u, \qquad
              y_u = z_u + \sum_{v \in N_K(u)} \mathrm{softmax}_v(|I_u \cap I_v|) \, z_v

    BPR and L2. The weights w are free numbers, as in the authors' code, and start at 1 / M.

    Where we depart from it: a user with fewer than K neighbours attends to those there are, while the authors repeat
    some of them at random, drawn again each epoch, until there are K. The logarithm of the loss is natural, not binary.
    """

    class Settings(config.Settings):
        """Sizes, depth, the graph of users, what is learned, regularisation."""

        dim: config.Count = 64
        hidden: config.Count = 256  # the authors: 4 times dim
        layers: config.Count = 2
        neighbours: config.Count = 40  # K
        attention: Literal["softmax", "mean"] = "softmax"  # over the numbers of common items; or equal for all K
        learned_features: bool = False
        scaling: Scaling = "raw"
        l2: config.NotNegative = 1e-4

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("dualgnn", "weights")
        n_users = inputs.train.shape[0]
        self.content = Content(inputs, "DualGNN", learned=settings.learned_features, scaling=settings.scaling)
        names = self.content.names
        self.preferences = nn.ParameterList(embedding_table(n_users, settings.dim, generator) for _ in names)
        self.projections = nn.ModuleList(
            nn.Sequential(
                linear(self.content.width(name), settings.hidden, generator),
                nn.LeakyReLU(),
                linear(settings.hidden, settings.dim, generator),
            )
            for name in names
        )
        self.attention = nn.Parameter(torch.full((n_users, len(names)), 1 / len(names)))
        self.to_users = Sparse(symmetric_normalise(inputs.train))
        self.to_items = self.to_users.T
        common = users_in_common(inputs.train, settings.neighbours)
        self.between_users = Sparse(
            row_softmax(common) if settings.attention == "softmax" else row_normalise(common > 0)
        )

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Users with their like, and items."""
        everybody, everything = [], []
        for name, preference, project in zip(self.content.names, self.preferences, self.projections, strict=True):
            users, items = functional.normalize(preference), functional.normalize(project(self.content[name]))
            total_users, total_items = users, items
            for _ in range(self.settings.layers):
                users, items = self.to_users @ items, self.to_items @ users
                total_users, total_items = total_users + users, total_items + items
            everybody.append(total_users)
            everything.append(total_items)
        own = torch.stack([self.attention[:, [place]] * users for place, users in enumerate(everybody)]).sum(0)
        return own + self.between_users @ own, torch.stack(everything).sum(0)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR, and L2 on the preferences and modality weights of the batch's users."""
        all_users, all_items = self.embeddings()
        user, positive, negative = all_users[users], all_items[positives], all_items[negatives]
        tables = [preference[users] for preference in self.preferences]
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2 * squared_norm(*tables, self.attention[users]),
        }


def users_in_common(train: sparse.csr_matrix, neighbours: int, block: int = 1024) -> sparse.csr_matrix:
    """Each user's nearest other users by the number of items that both took in training.

    Args:
        train: Training interactions, (users, items).
        neighbours: How many others to keep; fewer where fewer share an item. Among equals, those of the smaller number.
        block: Users at a time, so that memory is linear in the users.

    Returns:
        (users, users), row u holding the common items of u and its neighbours.
    """
    binary = (train > 0).astype(np.float32).tocsr()
    rows = []
    for start in range(0, binary.shape[0], block):
        common = (binary[start : start + block] @ binary.T).tocoo()
        other = common.row + start != common.col
        counts = common.data[other], (common.row[other], common.col[other])
        rows.append(nearest_only(sparse.csr_matrix(counts, shape=common.shape), neighbours))
    return sparse.vstack(rows, format="csr")


def row_softmax(scores: sparse.csr_matrix) -> sparse.csr_matrix:
    """Softmax over the entries of each row; a row without any stays empty."""
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    largest = scores.max(axis=1).toarray().ravel()
    exponential = np.exp(scores.data - largest[rows])
    return row_normalise(sparse.csr_matrix((exponential, scores.indices, scores.indptr), shape=scores.shape))
