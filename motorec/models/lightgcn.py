"""LightGCN: embeddings smoothed over the user-item graph (He et al., SIGIR 2020)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from motorec import config
from motorec.graph import BipartiteGraph
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.losses import bpr_loss, squared_norm


class GeometricPropagation(nn.Module):
    """The same propagation by PyTorch Geometric's `LGConv`: the field's reference, slower on a CPU."""

    edges: Tensor

    def __init__(self, train: sparse.csr_matrix) -> None:
        from torch_geometric.nn import LGConv
        from torch_geometric.utils import to_undirected

        super().__init__()
        pairs = train.tocoo()
        edges = torch.from_numpy(np.stack([pairs.row, pairs.col + train.shape[0]]).astype(np.int64))
        self.register_buffer("edges", to_undirected(edges, num_nodes=sum(train.shape)), persistent=False)
        self.convolution = LGConv(normalize=True)

    def propagate(
        self, users: Float[Tensor, "users d"], items: Float[Tensor, "items d"], layers: int
    ) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """As `BipartiteGraph.propagate`."""
        state = torch.cat([users, items])
        total = state
        for _ in range(layers):
            state = self.convolution(state, self.edges)
            total = total + state
        mean = total / (layers + 1)
        return mean[: len(users)], mean[len(users) :]


class LightGCN(EmbeddingRecommender):
    """Learned ID embeddings, L layers of propagation, mean over layers, BPR.

    As the authors do, L2 is on the embeddings before propagation, of the batch's nodes only.
    """

    class Settings(config.Settings):
        """Size, depth, regularisation, and which sparse product does the work: both give the same result."""

        dim: config.Count = 64
        layers: config.Count = 3
        l2: config.NotNegative = 1e-4
        init_std: config.Positive = 0.1  # of the starting embeddings
        propagation: Literal["csr", "geometric"] = "csr"

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("lightgcn", "weights")
        self.users = embedding_table(inputs.train.shape[0], settings.dim, generator, settings.init_std)
        self.items = embedding_table(inputs.train.shape[1], settings.dim, generator, settings.init_std)
        self.graph: BipartiteGraph | GeometricPropagation = (
            BipartiteGraph(inputs.train) if settings.propagation == "csr" else GeometricPropagation(inputs.train)
        )

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Propagated embeddings."""
        return self.graph.propagate(self.users, self.items, self.settings.layers)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR on propagated embeddings, L2 on the learned ones."""
        all_users, all_items = self.embeddings()
        user, positive, negative = all_users[users], all_items[positives], all_items[negatives]
        norm = squared_norm(self.users[users], self.items[positives], self.items[negatives])
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2 * norm,
        }
