r"""Content channels of MoToRec: what the items of one modality start with before they are propagated over the graph."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from motorec.features import Features
from motorec.tokenizer import RQVAE, Tokenized


class _Channel(nn.Module):
    """What both kinds know of their items: which have the modality, and where these belong among all."""

    present: Tensor
    rows: Tensor

    def __init__(self, features: Features, users: nn.Parameter | None) -> None:
        super().__init__()
        self.users = users
        present = torch.from_numpy(features.present)
        self.register_buffer("present", present, persistent=False)
        self.register_buffer("rows", present.nonzero().flatten(), persistent=False)

    def _spread(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "items d"]:
        """Vectors of the items that have the modality, among zeros for the others."""
        items = vectors.new_zeros(len(self.present), vectors.shape[1])
        return items.index_copy(0, self.rows, vectors)


class ContentChannel(_Channel):
    r"""One modality whose tokenizer learns along with the graph: :math:`x_i = s \, z_q(f_i)`.

    The factor s is learned; it starts where the mean norm of the items is `norm`. In training and scoring codes are
    chosen in single precision and for all items at once; `RQVAE.codes`, in double precision, may differ from that where
    two codes are all but equally near.

    Attributes:
        present: Which items have the modality.
        users: How users start in this channel, if that is learned.
    """

    inputs: Tensor

    def __init__(self, features: Features, tokenizer: RQVAE, norm: float, users: nn.Parameter | None) -> None:
        super().__init__(features, users)
        self.tokenizer = tokenizer
        self.register_buffer("inputs", tokenizer.prepare(features.matrix[features.present]), persistent=False)
        self.scale = nn.Parameter(norm / _mean_norm(tokenizer, self.inputs))

    def forward(self) -> tuple[Float[Tensor, "items d"], Tokenized]:
        """What items start with, zero for those that lack the modality, and the tokenizer's result."""
        result = self.tokenizer(self.inputs)
        return self._spread(self.scale * result.latent), result

    def loss(self, result: Tokenized, items: Int[Tensor, " b"], weights: Float[Tensor, " items"]) -> Float[Tensor, ""]:
        """Rarity-weighted tokenizer loss, mean over those of the given items that have the modality."""
        chosen = torch.zeros(len(self.present), dtype=torch.bool)
        chosen[items] = True
        chosen = chosen[self.rows]
        if not chosen.any():
            return result.per_item.sum() * 0.0
        weighted = weights[self.rows][chosen]
        return (weighted * (result.per_item[chosen] + result.sparsity)).mean()


class CodeChannel(_Channel):
    r"""One modality in the second of two stages: an item is its code tuple, a code a row of an embedding table.

    .. math:: x_i = \sum_{k=1}^{N_q} T^{(k)}_{c_{ik}}, \qquad T^{(k)} \text{ starts as } s \, C^{(k)}

    The codes :math:`c` are those of the pretrained tokenizer and stay; there is no encoder and no decoder. The factor s
    gives the items a mean norm of `norm`, so that they start as in `ContentChannel`. It is part of the table and not
    learned beside it: the rows are then of the size of ID embeddings, and a step of the optimiser means the same for
    both. Modalities with a shared codebook start with the same rows and part from there.

    Attributes:
        present: Which items have the modality.
        users: How users start in this channel, if that is learned.
        codes: Code tuples of the items that have the modality. They are stored with the weights, which mean nothing
            without them.
    """

    codes: Tensor

    def __init__(self, features: Features, tokenizer: RQVAE, norm: float, users: nn.Parameter | None) -> None:
        super().__init__(features, users)
        rows = features.matrix[features.present]
        inputs = tokenizer.prepare(rows)
        self.register_buffer("codes", tokenizer.codes(tokenizer.prepare(rows, torch.float64)))
        assert tokenizer.quantizer is not None  # `codes` has seen to it
        scale = norm / _mean_norm(tokenizer, inputs)
        self.tables = nn.Parameter(scale * tokenizer.quantizer.codebooks.detach())  # (levels, K, d)

    def forward(self) -> Float[Tensor, "items d"]:
        """What items start with, zero for those that lack the modality."""
        return self._spread(self.tables[torch.arange(len(self.tables)), self.codes].sum(1))


@torch.no_grad()
def _mean_norm(tokenizer: RQVAE, inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, ""]:
    """Mean norm of the latent vectors."""
    return tokenizer(inputs).latent.norm(dim=1).mean().clamp_min(1e-6)
