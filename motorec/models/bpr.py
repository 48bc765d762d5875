"""BPR-MF: matrix factorisation trained to rank (Rendle et al., UAI 2009)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from motorec import config
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.losses import bpr_loss, squared_norm


class BPR(EmbeddingRecommender):
    """A vector per user and per item; the score is their dot product. No biases, as in this field's comparisons."""

    class Settings(config.Settings):
        """Size and regularisation."""

        dim: config.Count = 64
        l2: config.NotNegative = 1e-4

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("bpr", "weights")
        self.users = embedding_table(inputs.train.shape[0], settings.dim, generator)
        self.items = embedding_table(inputs.train.shape[1], settings.dim, generator)

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """The two tables."""
        return self.users, self.items

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR and L2."""
        user, positive, negative = self.users[users], self.items[positives], self.items[negatives]
        return {
            "bpr": bpr_loss((user * positive).sum(1), (user * negative).sum(1)),
            "l2": self.settings.l2 * squared_norm(user, positive, negative),
        }
