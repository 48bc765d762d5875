r"""Fusion of the channels: one embedding of a node out of what each channel says about it (paper section 3).

Every fusion reads the collaborative channel :math:`e^{id}` (learned ID embeddings, propagated) and the content
channels :math:`i_m`, one a modality, zero where a node lacks the modality. The paper's is `HybridFusion`; the others
are the alternatives that its ablations and the field suggest, by name in `FUSIONS`.

Users and items share the weights: their embeddings live in the same spaces. The linear maps V, W and G have biases,
which the equations leave out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from motorec.tokenizer.rqvae import mlp


@dataclass(frozen=True)
class Channels:
    """What the channels say about n nodes.

    Attributes:
        collaborative: The channel of learned ID embeddings.
        content: The content channels; there may be none.
        present: Which nodes have which modality.
        degrees: Training interactions of each node.
    """

    collaborative: Float[Tensor, "n d"]
    content: Float[Tensor, "modalities n d"]
    present: Bool[Tensor, "modalities n"]
    degrees: Float[Tensor, " n"]

    def of(self, nodes: Int[Tensor, " chosen"]) -> Channels:
        """The same about some of the nodes."""
        return Channels(self.collaborative[nodes], self.content[:, nodes], self.present[:, nodes], self.degrees[nodes])

    def mean_content(self) -> Float[Tensor, "n d"]:
        """Mean over the modalities that a node has; zero where it has none."""
        return self.content.sum(0) / self.present.sum(0).clamp_min(1).unsqueeze(1)


class Fusion(nn.Module):
    """Base of the fusions: all are made from the same arguments and called in the same way."""

    def __init__(self, dim: int, modalities: int, alpha: float, generator: torch.Generator) -> None:
        """Draw what is learned.

        Args:
            dim: Width of every channel.
            modalities: Number of content channels.
            alpha: Weight of concatenation against attention, where a fusion has both.
            generator: Source of the initial weights.
        """
        super().__init__()

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes."""
        raise NotImplementedError

    def weights(self, channels: Channels) -> Float[Tensor, "heard n"]:
        """The attention that n nodes pay to each channel; of each node it sums to one.

        Returns:
            A row per content channel, then, where attention is over it as well, one of the collaborative channel; no
            row for a fusion without attention.
        """
        return channels.collaborative.new_zeros(0, len(channels.collaborative))


class Attention(nn.Module):
    r"""How much a node listens to each of several channels: :math:`a = \mathrm{softmax}_m(w^T \tanh(V x_m))`."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.look = mlp([dim, dim], generator)
        self.weigh = nn.Parameter(torch.randn(dim, generator=generator) / dim**0.5)

    def forward(
        self, values: Float[Tensor, "channels n d"], present: Bool[Tensor, "channels n"]
    ) -> Float[Tensor, "channels n"]:
        """Weights that sum to one over the channels; nothing for one that a node lacks."""
        logits = torch.tanh(self.look(values)) @ self.weigh
        # A node that lacks every channel has zeros there; any weights do.
        logits = logits.masked_fill(~present & present.any(0), float("-inf"))
        return torch.softmax(logits, dim=0)


class HybridFusion(Fusion):
    r"""The paper's: concatenation and attention over the content channels, then a gated residual connection.

    .. math:: e^m = \alpha \, W [i_v ; i_t] + (1 - \alpha) \sum_m a_m i_m, \qquad e = e^m + g \odot e^{id}, \qquad
              g = \sigma(G [e^m ; e^{id}])

    with `Attention` for :math:`a`. The projection :math:`W` back to d dimensions and the gate's inputs are our choice;
    the paper leaves them open. :math:`W` starts as the mean over all modalities, zeros for those that a node lacks, so
    that of such a node the concatenation says less, to begin with, than attention, which spreads over those it has.
    """

    def __init__(self, dim: int, modalities: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(dim, modalities, alpha, generator)
        self.alpha = alpha
        # Starts as the mean of the channels: a random mixture would undo what their propagation has agreed on.
        self.project = _mixture(dim, [1 / modalities] * modalities)
        self.attention = Attention(dim, generator)
        self.gate = mlp([2 * dim, dim], generator)

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes."""
        fused, gate = self.parts(channels)
        return fused + gate * channels.collaborative

    def parts(self, channels: Channels) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """:math:`e^m` and the gate :math:`g`."""
        content = channels.content
        joined = self.project(torch.cat(list(content), dim=1))
        attended = (self.weights(channels).unsqueeze(2) * content).sum(0)
        fused = self.alpha * joined + (1 - self.alpha) * attended
        return fused, torch.sigmoid(self.gate(torch.cat([fused, channels.collaborative], dim=1)))

    def weights(self, channels: Channels) -> Float[Tensor, "modalities n"]:
        """The attention that n nodes pay to each content channel."""
        return self.attention(channels.content, channels.present)


class ConcatFusion(Fusion):
    r"""A projection of all channels side by side, :math:`e = W [e^{id} ; i_1 ; \dots ; i_M] + b`.

    W starts as `SumFusion` for a node with all modalities, and is free to leave it.
    """

    def __init__(self, dim: int, modalities: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(dim, modalities, alpha, generator)
        self.project = _mixture(dim, [1.0] + [1 / modalities] * modalities)

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes."""
        return self.project(torch.cat([channels.collaborative, *channels.content], dim=1))


class AttentionFusion(Fusion):
    r"""Attention over all channels, the collaborative one among them: :math:`e = \sum_c a_c x_c`; see `Attention`."""

    def __init__(self, dim: int, modalities: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(dim, modalities, alpha, generator)
        self.attention = Attention(dim, generator)

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes."""
        values, weights = self._heard(channels)
        return (weights.unsqueeze(2) * values).sum(0)

    def weights(self, channels: Channels) -> Float[Tensor, "heard n"]:
        """The attention that n nodes pay to each content channel and, last, to the collaborative one."""
        return self._heard(channels)[1].roll(-1, dims=0)

    def _heard(self, channels: Channels) -> tuple[Float[Tensor, "heard n d"], Float[Tensor, "heard n"]]:
        """All channels, the collaborative one first, and the attention to each."""
        values = torch.cat([channels.collaborative.unsqueeze(0), channels.content])
        everybody = torch.ones_like(channels.present[:1])  # has an ID
        return values, self.attention(values, torch.cat([everybody, channels.present]))


class SumFusion(Fusion):
    r"""The ablation "without hybrid fusion", :math:`e = e^{id} + \mathrm{mean}_m \, i_m` over a node's modalities."""

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes."""
        return channels.collaborative + channels.mean_content()


class GatedFusion(Fusion):
    r"""Collaborative and content weighed by how much is known about the node, its training degree :math:`d_n`.

    .. math:: e = g \odot e^{id} + (1 - g) \odot \mathrm{mean}_m \, i_m, \qquad
              g = 1 - \exp(-s \ln(1 + d_n)) = 1 - (1 + d_n)^{-s}, \qquad s = \mathrm{softplus}(G [e^{id} ; c] + b)

    with c the mean over the node's modalities. The gate sees the logarithm of the degree, and by its form, not by what
    it has learned, it is 0 where the degree is 0: the ID embedding of a new item has never been anybody's choice and
    is left out. It rises to 1 with the degree; the slope s, one a dimension, is learned and starts at 1/4 everywhere:
    half content at d = 15, not far from where the paper stops calling an item cold. A node without any content has
    g = 1.
    """

    START = 0.25  # the slope before training

    def __init__(self, dim: int, modalities: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(dim, modalities, alpha, generator)
        self.slope = nn.utils.skip_init(nn.Linear, 2 * dim, dim)
        nn.init.zeros_(self.slope.weight)
        nn.init.constant_(self.slope.bias, float(torch.tensor(self.START).expm1().log()))

    def gate(self, channels: Channels) -> Float[Tensor, "n d"]:
        """The share of the collaborative channel in each dimension."""
        seen = torch.cat([channels.collaborative, channels.mean_content()], dim=1)
        gate = -torch.expm1(-functional.softplus(self.slope(seen)) * channels.degrees.log1p().unsqueeze(1))
        return torch.where(channels.present.any(0).unsqueeze(1), gate, 1.0)

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes."""
        return torch.lerp(channels.mean_content(), channels.collaborative, self.gate(channels))


class CollaborativeOnly(Fusion):
    """What is left where there is no content channel: :math:`e = e^{id}`."""

    def forward(self, channels: Channels) -> Float[Tensor, "n d"]:
        """The collaborative channel as it is."""
        return channels.collaborative


FUSIONS: dict[str, type[Fusion]] = {
    "hybrid": HybridFusion,
    "concat": ConcatFusion,
    "attention": AttentionFusion,
    "sum": SumFusion,
    "gated": GatedFusion,
}


def _mixture(dim: int, shares: list[float]) -> nn.Linear:
    """A linear layer from concatenated blocks of width `dim` to one; starts as their sum weighted by `shares`."""
    layer = nn.utils.skip_init(nn.Linear, dim * len(shares), dim)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([torch.eye(dim) * share for share in shares], dim=1))
        layer.bias.zero_()
    return layer
