"""BM3: learned without negatives, from bootstrapped views (Zhou et al., WWW 2023, arXiv 2207.05969)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from motorec import config
from motorec.graph import BipartiteGraph
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, dropout, linear
from motorec.models.losses import squared_norm


class BM3(EmbeddingRecommender):
    r"""LightGCN's embeddings, each drawn to a dropped-out view of its partner, with a predictor on one side only.

    .. math:: h_u = \bar e_u, \qquad h_i = \bar e_i + e_i, \qquad \tilde h = P h, \qquad
              s_{ui} = \tilde h_u \cdot \tilde h_i

    where :math:`\bar e` are LightGCN's embeddings and P is linear. With :math:`D(a, b) = 1 - \cos(a, b)`, views
    :math:`\hat x = \mathrm{dropout}(x)` that pass no gradient on, and :math:`h_i^m = W_m f_i^m + b_m`, the loss of a
    training pair is

    .. math:: D(\tilde h_u, \hat h_i) + D(\tilde h_i, \hat h_u)
              + w \sum_m [D(P h_i^m, \hat h_i) + D(P h_i^m, \hat h_i^m)] + \mathrm{L2}

    its terms called reconstruction, alignment between modalities and within one. Departures from the authors' code: L2
    is on the learned embeddings of the batch, squared, where theirs is on the norm of all propagated ones; terms of a
    modality are taken over the items that have it; with `components`, :math:`f_i^m` are principal components, brought
    to one scale, where the authors take (and learn) the features at their full width.
    """

    class Settings(config.Settings):
        """Size, depth, the views, and the weights of the loss."""

        dim: config.Count = 64
        layers: int = Field(default=1, ge=0)
        dropout: float = Field(default=0.3, ge=0.0, lt=1.0)  # of the views
        alignment: config.NotNegative = 2.0  # w
        l2: config.NotNegative = 1e-4
        std: config.Positive = 0.1  # of the embeddings at the start
        learned_features: bool = False
        scaling: Scaling = "raw"
        components: config.Count | None = None  # principal components to keep of each modality; null: raw features

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("bm3", "weights")
        self.content = Content(
            inputs,
            "BM3",
            learned=settings.learned_features,
            scaling=settings.scaling,
            components=settings.components,
        )
        self.users = embedding_table(inputs.train.shape[0], settings.dim, generator, settings.std)
        self.items = embedding_table(inputs.train.shape[1], settings.dim, generator, settings.std)
        self.predictor = linear(settings.dim, settings.dim, generator)
        self.projections = nn.ModuleDict(
            {name: linear(self.content.width(name), settings.dim, generator) for name in self.content.names}
        )
        for name, features in inputs.content("BM3").items():
            self.register_buffer(f"present_{name}", torch.from_numpy(features.present), persistent=False)
        self.graph = BipartiteGraph(inputs.train)

    def online(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Embeddings before the predictor."""
        users, items = self.graph.propagate(self.users, self.items, self.settings.layers)
        return users, items + self.items

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Embeddings behind the predictor."""
        users, items = self.online()
        return self.predictor(users), self.predictor(items)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Reconstruction, alignment and L2; the negatives are not looked at."""
        all_users, all_items = self.online()
        user, item = all_users[users], all_items[positives]
        user_view, item_view = self.view(user), self.view(item)
        terms = {
            "reconstruction": distance(self.predictor(user), item_view).mean()
            + distance(self.predictor(item), user_view).mean()
        }
        for name in self.content.names:
            projected = self.content.projected(name, self.projections[name], positives)
            predicted = self.predictor(projected)
            present = getattr(self, f"present_{name}")[positives].float()
            apart = distance(predicted, item_view) + distance(predicted, self.view(projected))
            terms[name] = self.settings.alignment * (apart * present).sum() / present.sum().clamp_min(1.0)
        terms["l2"] = self.settings.l2 * squared_norm(self.users[users], self.items[positives])
        return terms

    def view(self, values: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """A dropped-out copy that passes no gradient on."""
        return dropout(values.detach(), self.settings.dropout, self.noise)


def distance(first: Float[Tensor, "b d"], second: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """One minus the cosine."""
    return 1.0 - functional.cosine_similarity(first, second, dim=1)
