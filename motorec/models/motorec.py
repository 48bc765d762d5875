r"""MoToRec (arXiv 2602.11062): items as discrete tokens in a multi-channel graph encoder.

Every modality's features become :math:`z_q` by a residual-quantised VAE (`motorec.tokenizer`). Each modality, and a
table of learned ID embeddings, is propagated over the user-item graph in a channel of its own (`motorec.graph`); the
channels are fused (`motorec.models.fusion`). All of it is trained at once:

.. math:: L = L_{BPR} + \lambda_{cl} L_{InfoNCE} + \lambda_{rq} \sum_m \overline{w_i L_i^m}
          + \lambda_{reg} \lVert\Theta\rVert^2

What the paper leaves open, and what was chosen here; every choice is a setting:

* **Users of the content channels** (`content_users`) start as the mean of what their training items that have the
  modality start with, :math:`x_u = \frac{1}{|N_u|} \sum_{i \in N_u} x_i` (`aggregate`), or as a table that is learned
  (`learned`). But with the mean, in training, a liked item is
  part of its own user's mean, so that the pair is partly ranked by what an item has in common with itself.
  `leave_one_out` takes that away: the content channels of a step see the graph without the batch's own interactions,
  which leaves the liked item out of the user's mean, and out of every propagated layer as well. Taking out one pair at
  a time would need a propagation for each; like this, a user with several pairs in a batch does without all of them,
  so the batch should be a small part of the interactions. The collaborative channel is as ever.
* **The scale** of :math:`z_q` against the ID embeddings is explicit: each modality is divided by its mean norm after
  pretraining and multiplied by a learned factor. That starts at `content_scale` times the norm at which ID embeddings
  start, :math:`0.1 \sqrt{d}`.
* **InfoNCE** (`augmentation`): two views of a batch's users and liked items; users and items are contrasted separately,
  `contrastive_nodes` of each at the most, since the cost is quadratic. `mask`: a random share of the fused embedding's
  entries is set to zero. `noise`: SimGCL's, a random step of length `noise_norm` in the embedding's own orthant; once,
  on the fused embedding, where SimGCL adds it in every layer. Neither needs a second pass through the graph.
  `edge_dropout`: as SGL, each view is propagated over a graph of its own, without a share of the interactions drawn
  anew every epoch; a step costs two more passes.
* **Fusion** (`fusion`): the projection and the gate's inputs of the paper's hybrid one, and the alternatives to it, are
  told in `motorec.models.fusion`.
* An item without any training interaction keeps only layer 0 of the mean over layers, a quarter of its norm at L = 3:
  LightGCN read literally, in every channel.
* The tokenizer's losses are means over dimensions, so that widths do not change what the weights mean.
* An item that lacks a modality has :math:`z_q = 0` there and takes no part in that tokenizer's loss.
* L2 is on the ID embeddings of the batch, the drawn negatives' too, whatever the loss.

What is not in the paper, off unless a setting asks for it:

* **Two stages** (`stages: two_stage`): the items' codes are frozen after pretraining, and the codebooks become
  embedding tables that learn with the graph (`motorec.models.channels.CodeChannel`). No encoder, no decoder, no
  tokenizer loss.
* **Softmax losses** in place of BPR (`loss`, `motorec.models.softmax`).
* **An item graph** (`item_graph`, `motorec.models.itemlinks`): S links items of similar raw features, similar
  :math:`z_q` or shared codes, and is frozen after pretraining. With :math:`e_i` the fused embedding, the final one is
  :math:`e_i + \eta (S^{L_i} E)_i` (`item_weight`, `item_layers`). FREEDOM smooths the ID embeddings only; here an item
  without history has more to give and to get than its ID.
* **No tokens** (`tokens: false`): the collaborative channel alone. It is there to tell what an item graph gains
  without tokens.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from motorec import config
from motorec.config import merge
from motorec.errors import ParamsError
from motorec.graph import BipartiteGraph, Sparse
from motorec.models.augment import Interactions, masked, noisy
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.channels import CodeChannel, ContentChannel
from motorec.models.fusion import FUSIONS, Channels, CollaborativeOnly, Fusion
from motorec.models.itemlinks import item_links
from motorec.models.losses import bpr_loss, info_nce, squared_norm
from motorec.models.softmax import sampled_softmax_loss, softmax_loss
from motorec.models.tokens import pretrained_tokenizers
from motorec.rarity import rarity_weights
from motorec.tokenizer import RQVAE, Tokenized, TokenizerSettings


class MoToRec(EmbeddingRecommender):
    """The paper's model.

    Raises:
        MissingContent: The data set has no modality.
        DataError: No pretrained tokenizer is there.
        ParamsError: Settings that do not go together.
    """

    class Settings(config.Settings):
        """Sizes, weights of the losses, and the choices named in the module's docstring."""

        dim: config.Count = 64
        layers: config.Count = 3  # L
        tokens: bool = True  # False: no content channels
        stages: Literal["joint", "two_stage"] = "joint"
        fusion: Literal["hybrid", "concat", "attention", "sum", "gated"] = "hybrid"
        alpha: config.Share = 0.5  # weight of concatenation against attention
        content_users: Literal["aggregate", "learned", "leave_one_out"] = "aggregate"
        content_scale: config.Positive = 1.0
        item_graph: Literal["none", "features", "latent", "codes"] = "none"
        item_neighbours: config.Count = 10
        item_layers: config.Count = 1
        item_weight: config.Positive = 1.0  # eta
        loss: Literal["bpr", "sampled_softmax", "softmax"] = "bpr"
        loss_temperature: config.Positive = 1.0  # of the softmax losses
        contrastive: config.NotNegative = 0.1  # lambda_cl
        contrastive_temperature: config.Positive = 0.5
        contrastive_nodes: config.Count = 512  # at most so many users, and items, of a batch are contrasted
        augmentation: Literal["mask", "noise", "edge_dropout"] = "mask"
        mask: config.Dropout = 0.2  # share of the entries
        noise_norm: config.Positive = 0.1
        edge_dropout: config.Dropout = 0.1  # share of the interactions
        tokenizer_weight: config.NotNegative = 0.1  # lambda_rq
        l2: config.NotNegative = 1e-4  # lambda_reg
        tokenizer: dict[str, Any] = Field(default_factory=dict)  # laid over params/tokenize.yaml

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        inputs.content("MoToRec")
        self.settings = settings
        token_settings = _token_settings(settings, inputs.dataset)
        tokenizers = pretrained_tokenizers(token_settings, inputs) if _needs_tokenizers(settings) else {}
        generator = inputs.generator("motorec", "weights")
        n_users, n_items = inputs.train.shape
        weights = rarity_weights(inputs.degrees, inputs.cold_below, token_settings.rarity)
        self.graph = BipartiteGraph(inputs.train)
        self.interactions = Interactions(inputs.train)
        self.views = (self.graph, self.graph)  # of the contrastive loss; until the first epoch drops some edges
        self.users = embedding_table(n_users, settings.dim, generator)
        self.items = embedding_table(n_items, settings.dim, generator)
        self.register_buffer("rarity", torch.from_numpy(weights), persistent=False)
        self._modalities = tuple(tokenizers)
        self._channels = nn.ModuleList(
            self._channel(modality, tokenizer, inputs, generator)
            for modality, tokenizer in tokenizers.items()
            if settings.tokens
        )
        fusion = FUSIONS[settings.fusion] if self.channels else CollaborativeOnly
        self.fusion: Fusion = fusion(settings.dim, len(self.channels), settings.alpha, generator)
        present = torch.ones(len(self.channels), n_users + n_items, dtype=torch.bool)
        for has, channel in zip(present, self.channels, strict=True):
            has[n_users:] = channel.present
            if channel.users is None:  # a user has the modalities of the items taken
                has[:n_users] = torch.from_numpy(inputs.train @ channel.present.numpy() > 0)
        self.register_buffer("present", present, persistent=False)
        degrees = np.concatenate([np.asarray(inputs.train.sum(1)).ravel(), inputs.degrees])
        self.register_buffer("degrees", torch.from_numpy(degrees).float(), persistent=False)
        self.item_graph: Sparse | None = None
        if settings.item_graph != "none":
            links = item_links(settings.item_graph, inputs.features, tokenizers, settings.item_neighbours)
            self.item_graph = Sparse(links)
        self.noise = generator  # until the first epoch brings its own

    rarity: Tensor
    present: Tensor
    degrees: Tensor

    @property
    def channels(self) -> list[ContentChannel | CodeChannel]:
        """The content channels, by the modalities' names in alphabetical order."""
        return cast(list[ContentChannel | CodeChannel], list(self._channels))

    @property
    def tokenizers(self) -> dict[str, RQVAE]:
        """The tokenizers that learn along with the graph; none where the second of two stages has frozen the codes."""
        pairs = zip(self._modalities, self.channels, strict=False)  # no channels without tokens
        return {name: channel.tokenizer for name, channel in pairs if isinstance(channel, ContentChannel)}

    def _channel(
        self, modality: str, tokenizer: RQVAE, inputs: Inputs, generator: torch.Generator
    ) -> ContentChannel | CodeChannel:
        """The content channel of a modality."""
        settings = self.settings
        kind = ContentChannel if settings.stages == "joint" else CodeChannel
        # ID embeddings start with a norm of 0.1 sqrt(d); content_scale says how much louder or softer tokens begin.
        norm = settings.content_scale * (0.1 * settings.dim**0.5)
        learned = settings.content_users == "learned"
        users = embedding_table(len(self.users), settings.dim, generator) if learned else None
        return kind(inputs.features[modality], tokenizer, norm, users)

    def start_epoch(self, generator: torch.Generator) -> None:
        """Draw the interactions that the epoch's contrastive views do without."""
        super().start_epoch(generator)
        if self.settings.contrastive > 0 and self.settings.augmentation == "edge_dropout":
            share = self.settings.edge_dropout
            self.views = (self.interactions.thinned(share, generator), self.interactions.thinned(share, generator))

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Fused embeddings."""
        n_users = len(self.users)
        fused = self._smooth(self.fusion(self.heard()), n_users)
        return fused[:n_users], fused[n_users:]

    def heard(self) -> Channels:
        """What the channels say about all nodes, users first."""
        starts, _ = self._start()
        return self._propagate(starts, self.graph, self.graph)

    @torch.no_grad()
    def attention_shares(self) -> dict[str, Float[np.ndarray, " items"]]:
        """The fusion's attention to each modality and, with `fusion: attention`, to the IDs; else nothing."""
        weights = self.fusion.weights(self.heard())[:, len(self.users) :]
        # Fewer weights than names where the IDs do not compete, or where there is no attention.
        return {name: row.numpy() for name, row in zip([*self._modalities, "id"], weights, strict=False)}

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The ranking loss, InfoNCE, the tokenizers' weighted losses and L2, each with its lambda."""
        settings, n_users = self.settings, len(self.users)
        starts, tokenized = self._start()
        apart = settings.content_users == "leave_one_out"
        content_graph = self.interactions.without(users, positives) if apart else self.graph
        nodes = [users, positives + n_users]
        if settings.loss == "bpr":
            nodes.append(negatives + n_users)
        if settings.loss == "softmax" or self.item_graph is not None:
            nodes.append(torch.arange(n_users, n_users + len(self.items)))
        # Fusing the nodes that a step needs, each once, instead of all nodes, is most of a step's saving.
        wanted, place = torch.unique(torch.cat(nodes), return_inverse=True)
        user_rows, positive_rows, *rest = place.split([len(part) for part in nodes])
        fused = self._fuse(self._propagate(starts, self.graph, content_graph), wanted)
        if settings.loss == "bpr":
            user = fused[user_rows]
            scores = [(user * fused[rows]).sum(1) for rows in (positive_rows, rest[0])]
            losses = {"bpr": bpr_loss(*scores)}
        else:
            losses = {settings.loss: self._softmax(fused, wanted, user_rows, positive_rows)}
        if settings.contrastive > 0:
            views = [fused, fused]
            if settings.augmentation == "edge_dropout":
                views = [self._fuse(self._propagate(starts, view, view), wanted) for view in self.views]
            contrast = [self._contrast(views, rows) for rows in (user_rows, positive_rows)]
            losses["infonce"] = settings.contrastive * torch.stack(contrast).sum()
        if tokenized:
            rows = torch.unique(positives)
            by_channel = [channel.loss(result, rows, self.rarity) for channel, result in tokenized]
            losses["tokenizer"] = settings.tokenizer_weight * torch.stack(by_channel).sum()
        norm = squared_norm(self.users[users], self.items[positives], self.items[negatives])
        losses["l2"] = settings.l2 * norm
        return losses

    def _start(self) -> tuple[list[Float[Tensor, "items d"]], list[tuple[ContentChannel, Tokenized]]]:
        """What items start with in each content channel, and what the tokenizers that learn along had to say."""
        starts, tokenized = [], []
        for channel in self.channels:
            if isinstance(channel, ContentChannel):
                items, result = channel()
                tokenized.append((channel, result))
            else:
                items = channel()
            starts.append(items)
        return starts, tokenized

    def _propagate(
        self, starts: list[Float[Tensor, "items d"]], graph: BipartiteGraph, content_graph: BipartiteGraph
    ) -> Channels:
        """What all channels say about all nodes, users first; the content channels may have a graph of their own."""
        layers = self.settings.layers
        collaborative = torch.cat(graph.propagate(self.users, self.items, layers))
        content = collaborative.new_zeros(0, *collaborative.shape)
        if starts:
            users = [self._content_users(*pair, content_graph) for pair in zip(self.channels, starts, strict=True)]
            ends = [content_graph.propagate(*pair, layers) for pair in zip(users, starts, strict=True)]
            content = torch.stack([torch.cat(end) for end in ends])
        return Channels(collaborative, content, self.present, self.degrees)

    @staticmethod
    def _content_users(
        channel: ContentChannel | CodeChannel, items: Float[Tensor, "items d"], graph: BipartiteGraph
    ) -> Float[Tensor, "users d"]:
        """How users start in a content channel; see the module's docstring."""
        if channel.users is not None:
            return channel.users
        share = graph.users_from_items(channel.present.unsqueeze(1).float())
        return graph.users_from_items(items) / share.clamp_min(1e-6)

    def _fuse(self, channels: Channels, nodes: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Final embeddings of some nodes, in ascending order; of all items and some users if there is an item graph."""
        return self._smooth(self.fusion(channels.of(nodes)), int((nodes < len(self.users)).sum()))

    def _smooth(self, fused: Float[Tensor, "n d"], n_users: int) -> Float[Tensor, "n d"]:
        """Add to all items, which come after some users, what their neighbours in the item graph have to give."""
        if self.item_graph is None:
            return fused
        near = fused[n_users:]
        for _ in range(self.settings.item_layers):
            near = self.item_graph @ near
        return torch.cat([fused[:n_users], fused[n_users:] + self.settings.item_weight * near])

    def _softmax(
        self,
        fused: Float[Tensor, "n d"],
        nodes: Int[Tensor, " n"],
        user_rows: Int[Tensor, " b"],
        positive_rows: Int[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """Full or sampled softmax loss of pairs, given as rows of the fused embeddings of `nodes`, users first."""
        n_users, temperature = int((nodes < len(self.users)).sum()), self.settings.loss_temperature
        users = fused[:n_users]
        if self.settings.loss == "softmax":
            return softmax_loss(users, fused[n_users:], user_rows, positive_rows - n_users, temperature)
        candidates, columns = torch.unique(positive_rows, return_inverse=True)
        popularity = self.degrees[nodes[candidates]] / self.degrees[len(self.users) :].sum()
        return sampled_softmax_loss(users, fused[candidates], user_rows, columns, temperature, popularity)

    def _contrast(self, views: list[Float[Tensor, "n d"]], rows: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """InfoNCE between two views of the nodes in the given rows, or of some of them, augmented."""
        rows = torch.unique(rows)
        rows = rows[torch.randperm(len(rows), generator=self.noise)[: self.settings.contrastive_nodes]]
        first, second = (self._augment(view[rows]) for view in views)
        return info_nce(first, second, self.settings.contrastive_temperature)

    def _augment(self, nodes: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """A random variant of fused embeddings; edge dropout has done its work before."""
        if self.settings.augmentation == "mask":
            return masked(nodes, self.settings.mask, self.noise)
        if self.settings.augmentation == "noise":
            return noisy(nodes, self.settings.noise_norm, self.noise)
        return nodes


def _needs_tokenizers(settings: MoToRec.Settings) -> bool:
    """Whether anything is made of tokens."""
    return settings.tokens or settings.item_graph in ("latent", "codes")


def _token_settings(settings: MoToRec.Settings, dataset: str) -> TokenizerSettings:
    """The tokenizers' settings, once they are known to go with the model's."""
    found = config.parse(
        TokenizerSettings,
        merge(config.load_tokenizer(dataset), settings.tokenizer),
        "params/tokenize.yaml with the model's `tokenizer:` laid over it",
    )
    if settings.tokens and found.latent != settings.dim:
        raise ParamsError(
            f"params/tokenize.yaml: latent is {found.latent}, but the model's dim is {settings.dim}; "
            "they must be equal, since tokens and IDs are propagated and fused alike."
        )
    wants_codes = {
        "stages": settings.tokens and settings.stages == "two_stage",
        "item_graph": settings.item_graph == "codes",
    }
    for key, wants in wants_codes.items():
        if wants and not found.quantize:
            raise ParamsError(
                f"params/models/motorec.yaml: {key} is {getattr(settings, key)!r}, which needs codes, and a tokenizer "
                f"with quantize: false has none. Set tokenizer.quantize to true, or choose another {key}."
            )
    return found
