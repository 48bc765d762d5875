"""VBPR: matrix factorisation with a second factor space read from content (He and McAuley, AAAI 2016)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from motorec import config
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, linear
from motorec.models.losses import bpr_loss, squared_norm


class VBPR(EmbeddingRecommender):
    r"""Learned factors beside factors that are a linear map of the item's features.

    .. math:: s_{ui} = \beta_i + \gamma_u \cdot \gamma_i + \theta_u \cdot (E f_i) + \beta' \cdot f_i

    with :math:`f_i` the features of all modalities side by side (the paper knows pictures only). Trained by BPR, with
    L2 on the batch's learned factors; the paper has it on :math:`E` and :math:`\beta'` as well. The user's own bias of
    the paper changes no ranking and is left out. Without `biases`, as in the MMRec toolkit, :math:`\beta_i` and
    :math:`\beta'` are left out too. With `components`, :math:`f_i` are a modality's first principal components, brought
    to one scale; the authors take the features as they are.
    """

    class Settings(config.Settings):
        """Size, biases and regularisation."""

        dim: config.Count = 64  # of each of the two spaces
        biases: bool = True
        l2: config.NotNegative = 1e-4
        std: config.Positive = 0.1  # of the factors at the start
        learned_features: bool = False
        scaling: Scaling = "raw"
        components: config.Count | None = None  # principal components to keep of each modality; null: raw features

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("vbpr", "weights")
        n_users, n_items = inputs.train.shape
        self.content = Content(
            inputs,
            "VBPR",
            learned=settings.learned_features,
            scaling=settings.scaling,
            components=settings.components,
        )
        self.users = embedding_table(n_users, 2 * settings.dim, generator, settings.std)
        self.items = embedding_table(n_items, settings.dim, generator, settings.std)
        # One more output than factors: the content's bias beta'.
        outputs = settings.dim + int(settings.biases)
        self.projections = nn.ModuleDict(
            {name: linear(self.content.width(name), outputs, generator, bias=False) for name in self.content.names}
        )
        self.bias = nn.Parameter(torch.zeros(n_items, 1)) if settings.biases else None

    def item_factors(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Learned factors, those of content, and the bias if there is one, side by side."""
        # E f is the sum of the modalities' own maps: the same as one map of the features side by side.
        parts = [self.content.projected(name, self.projections[name], items) for name in self.content.names]
        content = torch.stack(parts).sum(0)
        if self.bias is not None:
            factors, bias = content[:, :-1], content[:, -1:] + self.bias[items]
            return torch.cat([self.items[items], factors, bias], dim=1)
        return torch.cat([self.items[items], content], dim=1)

    def user_factors(self, users: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Factors of both spaces; a last column of ones meets the items' biases."""
        factors = self.users[users]
        return factors if self.bias is None else torch.cat([factors, torch.ones(len(factors), 1)], dim=1)

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Factors of all users and items."""
        return self.user_factors(torch.arange(len(self.users))), self.item_factors(torch.arange(len(self.items)))

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR and L2."""
        user = self.user_factors(users)
        positive, negative = self.item_factors(torch.cat([positives, negatives])).chunk(2)
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2 * squared_norm(self.users[users], self.items[positives], self.items[negatives]),
        }
