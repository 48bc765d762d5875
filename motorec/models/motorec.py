r"""MoToRec (arXiv 2602.11062): items as discrete tokens in a multi-channel graph encoder.

Every modality's features become :math:`z_q` by a residual-quantised VAE (`motorec.tokenizer`). Each modality, and a
table of learned ID embeddings, is propagated over the user-item graph in a channel of its own (`motorec.graph`); the
channels are fused (`motorec.models.fusion`). All of it is trained at once:

.. math:: L = L_{BPR} + \lambda_{cl} L_{InfoNCE} + \lambda_{rq} \sum_m \overline{w_i L_i^m}
          + \lambda_{reg} \lVert\Theta\rVert^2

What the paper leaves open, and what was chosen here:

* Users of the content channels start as the mean :math:`z_q` of their training items that have the modality
  (`content_users: aggregate`). A
  learned table (`learned`) overfits within a few epochs.
* The scale of :math:`z_q` against the ID embeddings is explicit: each modality is divided by its mean norm after
  pretraining and multiplied by a learned factor that starts at `content_scale`.
* InfoNCE: two views of a batch's users and liked items, each with a random share `mask` of the fused embedding's
  entries set to zero (feature masking); users and items are contrasted separately, `contrastive_nodes` of each at the
  most, since the cost is quadratic. Masking after the fusion needs no second pass through the graph.
* An item without any training interaction keeps only layer 0 of the mean over layers, a quarter of its norm at L = 3:
  LightGCN read literally, in every channel.
* The tokenizer's losses are means over dimensions and levels, so that widths and depths do not change what the weights
  mean.
* An item that lacks a modality has :math:`z_q = 0` there and takes no part in that tokenizer's loss.
* L2 is on the ID embeddings of the batch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from motorec import config
from motorec.config import merge
from motorec.errors import ParamsError
from motorec.features import Features
from motorec.graph import BipartiteGraph
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.fusion import HybridFusion, SumFusion
from motorec.models.losses import bpr_loss, info_nce, squared_norm
from motorec.rarity import rarity_weights
from motorec.tokenizer import RQVAE, Tokenized, TokenizerSettings, load_tokenizer, new_tokenizer, pretrain


class MoToRec(EmbeddingRecommender):
    """The paper's model.

    Raises:
        MissingContent: The data set has no modality.
        DataError: No pretrained tokenizer is there.
    """

    class Settings(config.Settings):
        """Sizes, weights of the losses, and the choices named in the module's docstring."""

        dim: config.Count = 64
        layers: config.Count = 3  # L
        alpha: config.Share = 0.5  # weight of concatenation against attention
        fusion: Literal["hybrid", "sum"] = "hybrid"
        content_users: Literal["aggregate", "learned"] = "aggregate"
        content_scale: config.Positive = 1.0
        contrastive: config.NotNegative = 0.1  # lambda_cl
        contrastive_temperature: config.Positive = 0.5
        contrastive_nodes: config.Count = 512  # at most so many users, and items, of a batch are contrasted
        mask: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
        tokenizer_weight: config.NotNegative = 0.1  # lambda_rq
        l2: config.NotNegative = 1e-4  # lambda_reg
        tokenizer: dict[str, Any] = Field(default_factory=dict)  # laid over params/tokenize.yaml

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        inputs.content("MoToRec")
        self.settings = settings
        token_settings = config.parse(
            TokenizerSettings,
            merge(config.load_tokenizer(inputs.dataset), settings.tokenizer),
            "params/tokenize.yaml with the model's `tokenizer:` laid over it",
        )
        if token_settings.latent != settings.dim:
            raise ParamsError(
                f"params/tokenize.yaml: latent is {token_settings.latent}, but the model's dim is {settings.dim}; "
                "they must be equal, since tokens and IDs are propagated and fused alike."
            )
        generator = inputs.generator("motorec", "weights")
        n_users, n_items = inputs.train.shape
        weights = rarity_weights(inputs.degrees, inputs.cold_below, token_settings.rarity)
        self.graph = BipartiteGraph(inputs.train)
        self.users = embedding_table(n_users, settings.dim, generator)
        self.items = embedding_table(n_items, settings.dim, generator)
        self.register_buffer("rarity", torch.from_numpy(weights), persistent=False)
        self._channels = nn.ModuleList(
            ContentChannel(features, _pretrained(token_settings, features, inputs), settings, n_users, generator)
            for _, features in sorted(inputs.features.items())
        )
        self.fusion: HybridFusion | SumFusion = (
            HybridFusion(settings.dim, len(self.channels), settings.alpha, generator)
            if settings.fusion == "hybrid"
            else SumFusion()
        )
        present = torch.stack([channel.present for channel in self.channels])
        everybody = torch.ones(len(self.channels), n_users, dtype=torch.bool)
        self.register_buffer("present", torch.cat([everybody, present], dim=1), persistent=False)
        self.noise = generator  # until the first epoch brings its own

    rarity: Tensor
    present: Tensor

    @property
    def channels(self) -> list[ContentChannel]:
        """The content channels, by the modalities' names in alphabetical order."""
        return cast(list[ContentChannel], list(self._channels))

    def _propagate(
        self,
    ) -> tuple[Float[Tensor, "nodes d"], Float[Tensor, "modalities nodes d"], list[Tokenized]]:
        """All channels' embeddings of all nodes, users first, and what the tokenizers had to say."""
        layers = self.settings.layers
        collaborative = torch.cat(self.graph.propagate(self.users, self.items, layers))
        content, tokenized = [], []
        for channel in self.channels:
            items, result = channel()
            users = self._content_users(channel, items)
            content.append(torch.cat(self.graph.propagate(users, items, layers)))
            tokenized.append(result)
        return collaborative, torch.stack(content), tokenized

    def _content_users(self, channel: ContentChannel, items: Float[Tensor, "items d"]) -> Float[Tensor, "users d"]:
        """How users start in a content channel; see the module's docstring."""
        if channel.users is not None:
            return channel.users
        share = self.graph.users_from_items(channel.present.unsqueeze(1).float())
        return self.graph.users_from_items(items) / share.clamp_min(1e-6)

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Fused embeddings."""
        collaborative, content, _ = self._propagate()
        fused = self.fusion(collaborative, content, self.present)
        return fused[: len(self.users)], fused[len(self.users) :]

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """BPR, InfoNCE, the tokenizers' weighted losses and L2, each with its lambda."""
        settings, n_users = self.settings, len(self.users)
        collaborative, content, tokenized = self._propagate()
        # Fusing a batch's own nodes once, instead of all nodes, is most of a step's saving.
        wanted, place = torch.unique(torch.cat([users, positives + n_users, negatives + n_users]), return_inverse=True)
        fused = self.fusion(collaborative[wanted], content[:, wanted], self.present[:, wanted])
        user_rows, positive_rows, negative_rows = place.split(len(users))
        user = fused[user_rows]
        scores = [(user * fused[rows]).sum(1) for rows in (positive_rows, negative_rows)]
        losses = {"bpr": bpr_loss(*scores)}
        if settings.contrastive > 0:
            contrast = [self._contrast(fused[torch.unique(rows)]) for rows in (user_rows, positive_rows)]
            losses["infonce"] = settings.contrastive * torch.stack(contrast).sum()
        rows = torch.unique(positives)
        by_channel = [
            channel.loss(result, rows, self.rarity) for channel, result in zip(self.channels, tokenized, strict=True)
        ]
        losses["tokenizer"] = settings.tokenizer_weight * torch.stack(by_channel).sum()
        norm = squared_norm(self.users[users], self.items[positives], self.items[negatives])
        losses["l2"] = settings.l2 * norm
        return losses

    def _contrast(self, nodes: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """InfoNCE between two views of the same nodes, each with its own entries masked."""
        keep, count = 1 - self.settings.mask, self.settings.contrastive_nodes
        nodes = nodes[torch.randperm(len(nodes), generator=self.noise)[:count]]
        first, second = (nodes * (torch.rand(nodes.shape, generator=self.noise) < keep) / keep for _ in range(2))
        return info_nce(first, second, self.settings.contrastive_temperature)


class ContentChannel(nn.Module):
    """One modality: features in, scaled :math:`z_q` of every item out."""

    inputs: Tensor
    present: Tensor
    rows: Tensor

    def __init__(
        self,
        features: Features,
        tokenizer: RQVAE,
        settings: MoToRec.Settings,
        n_users: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        present = torch.from_numpy(features.present)
        self.register_buffer("present", present, persistent=False)
        self.register_buffer("rows", present.nonzero().flatten(), persistent=False)
        self.register_buffer("inputs", tokenizer.prepare(features.matrix[features.present]), persistent=False)
        with torch.no_grad():
            norm = tokenizer(self.inputs).latent.norm(dim=1).mean().clamp_min(1e-6)
        # ID embeddings start with this norm; content_scale says how much louder or softer the tokens begin.
        start = 0.1 * settings.dim**0.5
        self.scale = nn.Parameter(settings.content_scale * start / norm)
        self.users = embedding_table(n_users, settings.dim, generator) if settings.content_users == "learned" else None

    def forward(self) -> tuple[Float[Tensor, "items d"], Tokenized]:
        """Item embeddings of the channel, zero where the item lacks the modality, and the tokenizer's result."""
        result = self.tokenizer(self.inputs)
        items = result.latent.new_zeros(len(self.present), result.latent.shape[1])
        return items.index_copy(0, self.rows, self.scale * result.latent), result

    def loss(self, result: Tokenized, items: Int[Tensor, " b"], weights: Float[Tensor, " items"]) -> Float[Tensor, ""]:
        """Rarity-weighted tokenizer loss, mean over those of the given items that have the modality."""
        chosen = torch.zeros(len(self.present), dtype=torch.bool)
        chosen[items] = True
        chosen = chosen[self.rows]
        if not chosen.any():
            return result.per_item.sum() * 0.0
        weighted = weights[self.rows][chosen]
        return (weighted * (result.per_item[chosen] + result.sparsity)).mean()


def _pretrained(settings: TokenizerSettings, features: Features, inputs: Inputs) -> RQVAE:
    """The tokenizer that stage 03 pretrained, or, for an ablation with other settings, one pretrained here."""
    tokenizer = new_tokenizer(settings, features, inputs.seed, inputs.dataset)
    if inputs.tokens is None or not load_tokenizer(inputs.tokens, tokenizer, features.modality):
        weights = rarity_weights(inputs.degrees, inputs.cold_below, settings.rarity)
        pretrain(tokenizer, features, weights, inputs.seed, inputs.dataset)
    return tokenizer
