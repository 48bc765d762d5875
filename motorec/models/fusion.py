r"""Fusion of the channels (paper section 3).

Content channels: :math:`e^m = \alpha \, W [i_v ; i_t] + (1 - \alpha) \sum_m a_m i_m` with attention
:math:`a = \mathrm{softmax}_m(w^T \tanh(V i_m))`. The projection :math:`W` back to d dimensions is our choice; the paper
leaves it open. The collaborative embedding joins by a gated residual connection, :math:`e = e^m + g \odot e^{id}` with
:math:`g = \sigma(G [e^m ; e^{id}])`; the gate's inputs are open in the paper, too.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from motorec.tokenizer.rqvae import mlp


class HybridFusion(nn.Module):
    """Concatenation and attention over the content channels, then the gated residual with the collaborative one.

    Users and items share the weights: their embeddings live in the same spaces.
    """

    def __init__(self, dim: int, modalities: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.alpha = alpha
        self.project = nn.utils.skip_init(nn.Linear, dim * modalities, dim)
        with torch.no_grad():
            # Starts as the mean of the channels: a random mixture would undo what their propagation has agreed on.
            self.project.weight.copy_(torch.eye(dim).repeat(1, modalities) / modalities)
            self.project.bias.zero_()
        self.look = mlp([dim, dim], generator)
        self.weigh = nn.Parameter(torch.randn(dim, generator=generator) / dim**0.5)
        self.gate = mlp([2 * dim, dim], generator)

    def attention(
        self, content: Float[Tensor, "modalities n d"], present: Bool[Tensor, "modalities n"]
    ) -> Float[Tensor, "modalities n"]:
        """How much each node listens to each modality; nothing to one that it lacks; sums to one."""
        logits = torch.tanh(self.look(content)) @ self.weigh
        # A node that lacks every modality has zeros there; any weights do.
        logits = logits.masked_fill(~present & present.any(0), float("-inf"))
        return torch.softmax(logits, dim=0)

    def forward(
        self,
        collaborative: Float[Tensor, "n d"],
        content: Float[Tensor, "modalities n d"],
        present: Bool[Tensor, "modalities n"],
    ) -> Float[Tensor, "n d"]:
        """Fuse the channels of n nodes.

        Args:
            collaborative: The channel of learned ID embeddings.
            content: The content channels.
            present: Which nodes have which modality.
        """
        joined = self.project(torch.cat(list(content), dim=1))
        attended = (self.attention(content, present).unsqueeze(2) * content).sum(0)
        fused = self.alpha * joined + (1 - self.alpha) * attended
        gate = torch.sigmoid(self.gate(torch.cat([fused, collaborative], dim=1)))
        return fused + gate * collaborative


class SumFusion(nn.Module):
    """The ablation "without hybrid fusion": the collaborative channel plus the mean of the content channels."""

    def forward(
        self,
        collaborative: Float[Tensor, "n d"],
        content: Float[Tensor, "modalities n d"],
        present: Bool[Tensor, "modalities n"],
    ) -> Float[Tensor, "n d"]:
        """As `HybridFusion`; a missing modality does not count in the mean."""
        return collaborative + content.sum(0) / present.sum(0).clamp_min(1).unsqueeze(1)
