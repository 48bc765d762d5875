r"""SLMRec: self-supervised learning for multimedia recommendation (Tao et al., IEEE Transactions on Multimedia 2022).

Channel 0 holds the items' ID embeddings, channel m their projected features of modality m; every channel starts from
the same user embeddings, is propagated over the user-item graph (mean over 0..L layers), and all are fused by a linear
map of their concatenation, one for users and one for items:

.. math::
    Z_0 = \mathrm{LightGCN}(e_{users}, e_{items}), \quad Z_m = \mathrm{LightGCN}(e_{users}, X_m W_m), \quad
    F = [Z_0, \dots, Z_M] \, U

.. math::
    L = -\frac{1}{b} \sum_{(u, i)} \ln \frac{\exp(\cos(F_u, F_i) / T)}{\sum_{j} \exp(\cos(F_u, F_j) / T)}
        + \lambda_s L_{ssl} + \lambda \lVert e \rVert^2

over the items j of the batch. The self-supervised task is one of: feature dropout (`fd`: two views of the fused nodes,
each with other entries of the channels dropped), feature masking (`fm`: the views each lack the items' part of another
channel), both at once (`fd+fm`), or alignment from fine to coarse (`fac`, the authors' choice: the ID channel is mapped
into a space shared with the first modality, from there into one shared with the next, and so on, and in each space an
item's two vectors must find each other; all spaces have the model's width, while the authors' code halves the last).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from motorec import config
from motorec.graph import BipartiteGraph
from motorec.models.base import EmbeddingRecommender, Inputs, embedding_table
from motorec.models.layers import Content, Scaling, dropout, linear
from motorec.models.losses import distinct, info_nce, squared_norm

Nodes = Literal["users", "items"]
Channels = list[Float[Tensor, "b d"]]


class SLMRec(EmbeddingRecommender):
    """Channels of IDs and content, fused after propagation, with a self-supervised task beside the main loss.

    Propagation is linear and the features are frozen, so the users' part, common to all channels, is propagated once a
    step and the features once for all. Departures from the authors: features may be cut to their principal components
    and are projected without bias; `fd` drops entries after propagation and not after each layer of it; `fac` compares
    cosines and not inner products; the task sees each node of a batch once, and at most `task_nodes` of them.
    """

    class Settings(config.Settings):
        """Sizes, weights of the loss, the task, and how features enter."""

        dim: config.Count = 64
        layers: config.Count = 3
        temperature: config.Positive = 0.2  # T, of the main loss
        task: Literal["fac", "fd", "fm", "fd+fm"] = "fac"
        task_weight: config.NotNegative = 0.1  # lambda_s
        task_temperature: config.Positive = 0.2
        task_nodes: config.Count = 512  # at most so many users, and items, of a batch are in the task
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3  # of `fd`
        l2: config.NotNegative = 1e-4  # lambda
        std: config.Positive = 0.1  # of the embeddings at the start
        scaling: Scaling = "unit"
        feature_dim: config.Count | None = 128  # principal components of the features; null: all dimensions

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        content = Content(inputs, "SLMRec", scaling=settings.scaling, components=settings.feature_dim)
        generator = inputs.generator("slmrec", "weights")
        n_users, n_items = inputs.train.shape
        dim, names = settings.dim, content.names
        self.names = names
        self.users = embedding_table(n_users, dim, generator, settings.std)
        self.items = embedding_table(n_items, dim, generator, settings.std)
        self.graph = BipartiteGraph(inputs.train)
        for name in names:
            nobody = torch.zeros(n_users, content.width(name))
            users, items = self.graph.propagate(nobody, content[name], settings.layers)
            self.register_buffer(f"{name}_users", users, persistent=False)
            self.register_buffer(f"{name}_items", items, persistent=False)
        self.project = nn.ModuleDict({name: linear(content.width(name), dim, generator, bias=False) for name in names})
        wide = dim * (1 + len(names))
        self.fuse_users, self.fuse_items = linear(wide, dim, generator), linear(wide, dim, generator)
        # Space m is the one that modality m shares with what came before it.
        self.enter = nn.ModuleList(linear(dim, dim, generator) for _ in names)
        self.pass_on = nn.ModuleList(linear(dim, dim, generator) for _ in names)

    def _spread(self) -> dict[Nodes, tuple[Float[Tensor, "_ d"], Float[Tensor, "_ d"]]]:
        """What the user embeddings, and the item ID embeddings, bring to all nodes of a kind."""
        # A step along the graph leads from users to items or back, so after an even number of steps users hold what
        # came from users, and items what came from items; after an odd number it is the other way round.
        users: Tensor = self.users
        items: Tensor = self.items
        sums: dict[Nodes, list[Tensor]] = {
            "users": [users, torch.zeros_like(users)],
            "items": [torch.zeros_like(items), items],
        }
        for layer in range(1, self.settings.layers + 1):
            users, items = self.graph.to_users @ items, self.graph.to_items @ users
            sums["users"][layer % 2] = sums["users"][layer % 2] + users
            sums["items"][1 - layer % 2] = sums["items"][1 - layer % 2] + items
        steps = self.settings.layers + 1
        return {nodes: (from_users / steps, from_items / steps) for nodes, (from_users, from_items) in sums.items()}

    def _channels(
        self,
        nodes: Nodes,
        spread: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]],
        rows: Int[Tensor, " b"] | slice,
    ) -> tuple[Float[Tensor, "b d"], Channels]:
        """The users' part, common to all channels, and each channel's own part, of the given users or items."""
        common, ids = spread
        content = [self.project[name](getattr(self, f"{name}_{nodes}")[rows]) for name in self.names]
        return common[rows], [ids[rows], *content]

    def _fuse(self, nodes: Nodes, channels: Channels) -> Float[Tensor, "b d"]:
        return (self.fuse_users if nodes == "users" else self.fuse_items)(torch.cat(channels, dim=1))

    def _fused(self, nodes: Nodes, common: Float[Tensor, "b d"], own: Channels) -> Float[Tensor, "b d"]:
        return self._fuse(nodes, [common + part for part in own])

    def embeddings(self) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Fused embeddings."""
        spread = self._spread()
        everything = slice(None)
        users = self._fused("users", *self._channels("users", spread["users"], everything))
        items = self._fused("items", *self._channels("items", spread["items"], everything))
        return users, items

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """InfoNCE of users and their items, the self-supervised task, and L2. The drawn negatives are not used."""
        settings = self.settings
        spread = self._spread()
        fused: dict[Nodes, Tensor] = {}
        task = []
        chosen: dict[Nodes, Tensor] = {"users": users, "items": positives}
        masked = torch.randperm(1 + len(self.names), generator=self.noise)[:2].tolist()
        for nodes, batch in chosen.items():
            rows, place = torch.unique(batch, return_inverse=True)
            common, own = self._channels(nodes, spread[nodes], rows)
            fused[nodes] = self._fused(nodes, common, own)[place]
            if settings.task_weight > 0:
                some = distinct(place, settings.task_nodes, self.noise)
                common, own = common[some], [part[some] for part in own]
                if settings.task != "fac":
                    views = [self._view(nodes, common, own, channel) for channel in masked]
                    task.append(info_nce(views[0], views[1], settings.task_temperature))
                elif nodes == "items":
                    task.append(self._align(common, own))
        losses = {
            "softmax": info_nce(fused["users"], fused["items"], settings.temperature),
            "l2": settings.l2 * squared_norm(self.users[users], self.items[positives]),
        }
        if task:
            losses["task"] = settings.task_weight * torch.stack(task).sum()
        return losses

    def _view(self, nodes: Nodes, common: Float[Tensor, "b d"], own: Channels, masked: int) -> Float[Tensor, "b d"]:
        """Fused nodes with entries dropped (`fd`), without one channel's own part (`fm`), or both."""
        if "fm" in self.settings.task:
            own = [part * (place != masked) for place, part in enumerate(own)]
        channels = [common + part for part in own]
        if "fd" in self.settings.task:
            channels = [dropout(channel, self.settings.dropout, self.noise) for channel in channels]
        return self._fuse(nodes, channels)

    def _align(self, common: Float[Tensor, "b d"], own: Channels) -> Float[Tensor, ""]:
        """Fine to coarse: in the space of each modality, its vector of an item against that of all before it."""
        state = common + own[0]
        losses = []
        for pass_on, enter, part in zip(self.pass_on, self.enter, own[1:], strict=True):
            state = pass_on(state)
            losses.append(info_nce(state, enter(common + part), self.settings.task_temperature))
        return torch.stack(losses).sum()
