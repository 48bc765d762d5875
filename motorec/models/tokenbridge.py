r"""TokenBridge: this repository's own model. Tokens bridge the items that people took and those that nobody took yet.

It keeps MoToRec's idea, an item is a few discrete tokens and rare items get their share, and takes what our
measurements say in place of the rest. Two parts score every item; each user's scores of a part are brought to mean 0
and standard deviation 1, and added:

.. math:: s_{ui} = z_u\!\left( a_i \, (x_u B)_i \right) + \kappa \, z_u\!\left( \cos(e_u, e_i) \right)

**Linear part.** :math:`B` is collective EASE (Jeunen et al., RecSys 2020): the best linear reconstruction of the
interactions and of the items' content, in closed form. Three things are different. The ridge of an item grows with its
degree, as in EDLAE (Steck, NeurIPS 2020): it is on the item's weights as a predictor, so that frequent items, which
would explain everything, are leaned on less. Weights below a threshold
are cut to 0: most of a dense :math:`B` is noise, negative weights above all. And rare items are amplified, which is
what the paper's ARA means to do, on the scores instead of on a loss:

.. math:: B = \max(B^\ast - \theta, 0), \qquad a_i = w_i^{p}

with :math:`w_i` of `motorec.rarity`, reading `amplify`. The content is the features' (`content: features`), or the
tokens' (`content: tokens`: each token is one more user, who took all items that bear it), or none.

**Token graph.** :math:`e_u` and :math:`e_i` come from propagation over users, items and tokens (`motorec.tokengraph`).
Tokens are all that is learned; there are no tables of users or items. A batch's interactions are taken out of the graph
and predicted from the rest, by a softmax over all items,

.. math:: L = -\frac{1}{b} \sum_{(u, i)} \ln \frac{\exp(\cos(e_u, e_i) / T + q \ln(d_i + 1))}
          {\sum_j \exp(\cos(e_u, e_j) / T + q \ln(d_j + 1))}

where the :math:`d_j` are training degrees. The shift by popularity is there in training only (logit adjustment, Menon
et al., ICLR 2021): what popularity explains need not be explained by tokens, and rare items get their share.

**Tokens** (`tokens`): a committee of small residual k-means tokenizers (`motorec.tokenizer.committee`). In their place,
to see what they are worth: the pretrained RQ-VAE's codes (`rqvae`); the committee's, dealt out to the wrong items
(`random`); a token of its own for every item, that is, plain IDs (`ids`); such tokens of an item and of those nearest
to it, by features (`neighbours`), which is the frozen item graph of FREEDOM in the place of tokens; and the features
themselves, with a learned vector for every dimension (`features`), which is the same model without any quantisation:
what a dimension collects and hands back goes by the items' signed values in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from scipy import sparse
from torch import Tensor, nn

from motorec import config
from motorec.errors import ParamsError
from motorec.features import Modality
from motorec.graph import BipartiteGraph
from motorec.itemgraph import content_graph
from motorec.models.augment import Interactions
from motorec.models.base import Inputs, TrainedRecommender, embedding_table
from motorec.models.dense import DenseSettings, LinearRecommender, interaction_gram, item_weights, require_memory
from motorec.models.layers import Content
from motorec.models.softmax import softmax_loss
from motorec.models.tokens import pretrained_tokenizers
from motorec.rarity import rarity_weights
from motorec.seeding import numpy_generator
from motorec.tokengraph import TokenGraph, unit_rows_on_average, weighted_incidence
from motorec.tokenizer import TokenizerSettings
from motorec.tokenizer.codes import item_codes
from motorec.tokenizer.committee import CommitteeSettings, committee_codes

TITLE = "TokenBridge"
NO_TOKENS = ("ids", "neighbours", "features")  # stand-ins for tokens


class TokenBridge(TrainedRecommender):
    """Closed-form content and a graph of tokens; see the module.

    Raises:
        MissingContent: The data set has no modality.
        DataError: The tokens are to be the pretrained ones, and there are none.
        TooLarge: The linear part would need more memory than the settings allow.
    """

    class Settings(DenseSettings):
        """Both parts and their balance."""

        # The linear part.
        linear: bool = True
        content: Literal["features", "tokens", "none"] = "features"
        content_weights: dict[Modality, config.NotNegative] = Field(default={"text": 20.0, "image": 5.0}, min_length=1)
        user_power: config.Share = 0.5  # users count |I_u| to the minus this
        ridge: config.Positive = 50.0
        degree_ridge: config.NotNegative = 1.0  # added to the ridge for each unit of an item's own weight
        cut: config.NotNegative = 0.006  # theta
        amplify: config.NotNegative = 0.2  # p
        # The token graph.
        graph_weight: config.NotNegative = 1.5  # kappa; 0: the linear part alone
        tokens: Literal["committee", "rqvae", "random", "ids", "neighbours", "features"] = "committee"
        token_weights: dict[Modality, config.NotNegative] = Field(default={"text": 5.0, "image": 2.0}, min_length=1)
        committee: CommitteeSettings = CommitteeSettings()
        neighbours: config.Count = 10  # whose tokens an item bears in each modality, its own included
        dim: config.Count = 64
        layers: config.Count = 2  # L
        collect: config.NotNegative = 0.5  # eta
        temperature: config.Positive = 0.1  # T
        adjustment: config.NotNegative = 0.5  # q

        @model_validator(mode="after")
        def _something(self) -> TokenBridge.Settings:
            if not self.linear and self.graph_weight == 0:
                raise ValueError("linear is false and graph_weight is 0: nothing is left")
            if self.linear and self.content == "tokens" and self.tokens in NO_TOKENS:
                raise ValueError(f"content is tokens, and tokens is {self.tokens}: there are none")
            return self

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        if settings.linear:
            require_memory(TITLE, inputs.train.shape[1], settings)
        self.settings = settings
        codes = _codes(settings, inputs)
        bears = _graph_tokens(settings, inputs, codes)
        self._linear: LinearRecommender | None = None
        if settings.linear:
            self._linear = LinearRecommender(inputs.train, _linear_weights(settings, inputs, codes))
        self.interactions = Interactions(inputs.train)
        self.graph = BipartiteGraph(inputs.train)
        self.token_graph = TokenGraph(bears, settings.collect)
        self.tokens = embedding_table(bears.shape[1], settings.dim, inputs.generator("tokenbridge", "weights"))
        popularity = torch.from_numpy(np.log1p(inputs.degrees)).float()
        self.register_buffer("popularity", popularity, persistent=False)
        self._final: tuple[Tensor, Tensor] | None = None

    popularity: Tensor

    @property
    def n_parameters(self) -> int:
        """Learned numbers of the graph, and weights of the linear part that are left after cutting."""
        linear = self._linear.n_parameters if self._linear else 0
        return linear + (super().n_parameters if self.settings.graph_weight > 0 else 0)

    def embeddings(self, graph: BipartiteGraph) -> tuple[Float[Tensor, "users d"], Float[Tensor, "items d"]]:
        """Users and items of unit length."""
        users, items = self.token_graph.propagate(self.tokens, graph, self.settings.layers)
        return nn.functional.normalize(users, dim=1), nn.functional.normalize(items, dim=1)

    def losses(
        self, users: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, " b"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The softmax loss of pairs that the graph does not hold; the drawn negatives are not needed."""
        user_embeddings, items = self.embeddings(self.interactions.without(users, positives))
        distinct, rows = users.unique(return_inverse=True)
        prior = self.settings.adjustment * self.popularity
        chosen = user_embeddings[distinct]
        return {"softmax": softmax_loss(chosen, items, rows, positives, self.settings.temperature, prior)}

    def freeze(self) -> None:
        """Compute the final embeddings once."""
        self.eval()
        with torch.no_grad():
            self._final = self.embeddings(self.graph)

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Both parts, each standardised over a user's items."""
        scores = torch.zeros(len(users), len(self.popularity))
        if self._linear is not None:
            scores += standardised(self._linear.score(users))
        if self.settings.graph_weight > 0:
            if self._final is None:
                self.freeze()
            assert self._final is not None
            user_embeddings, items = self._final
            scores += self.settings.graph_weight * standardised(user_embeddings[torch.from_numpy(users)] @ items.T)
        return scores


def standardised(scores: Float[Tensor, "b items"]) -> Float[Tensor, "b items"]:
    """Each row with mean 0 and standard deviation 1; a constant row, of a user without history, is 0."""
    centred = scores - scores.mean(1, keepdim=True)
    return centred / centred.std(1, correction=0, keepdim=True).clamp_min(1e-9)


def _there(weights: Mapping[Modality, float], inputs: Inputs) -> dict[str, float]:
    """Weights of the modalities that count and that the data set has."""
    inputs.content(TITLE)
    found: dict[str, float] = {
        name: weight for name, weight in sorted(weights.items()) if weight > 0 and name in inputs.features
    }
    if not found:
        inputs.content(TITLE, list(weights))  # says what is missing
        raise ParamsError(f"{TITLE}: all modalities of {inputs.dataset} have weight 0. Give one a positive weight.")
    return found


def _codes(settings: TokenBridge.Settings, inputs: Inputs) -> dict[str, Int[np.ndarray, "items _"]]:
    """The items' tokens by modality, -1 where an item has none; empty where tokens are something else."""
    features = inputs.content(TITLE)
    if settings.tokens in NO_TOKENS:
        return {}
    if settings.tokens == "rqvae":
        tokenizer = config.parse(TokenizerSettings, config.load_tokenizer(inputs.dataset), "params/tokenize.yaml")
        tokenizers = pretrained_tokenizers(tokenizer, inputs)
        return {name: item_codes(one, features[name]) for name, one in tokenizers.items()}
    codes = committee_codes(features, settings.committee, inputs.seed, inputs.dataset)
    if settings.tokens == "random":
        for name, columns in codes.items():
            here = np.flatnonzero(features[name].present)
            order = numpy_generator(inputs.seed, inputs.dataset, "tokenbridge", "random", name).permutation(here)
            columns[here] = columns[order]
    return codes


def _graph_tokens(
    settings: TokenBridge.Settings, inputs: Inputs, codes: Mapping[str, Int[np.ndarray, "items _"]]
) -> sparse.csr_matrix:
    """The tokens' weights, or what stands in for tokens, (items, tokens); a row has length 1 on average."""
    if settings.tokens == "ids":
        return sparse.identity(inputs.train.shape[1], dtype=np.float32, format="csr")
    weights = _there(settings.token_weights, inputs)
    if settings.tokens == "neighbours":
        content_features = {name: inputs.features[name] for name in weights}
        return unit_rows_on_average(content_graph(content_features, settings.neighbours, weights, self_loops=True))
    if settings.tokens != "features":
        return weighted_incidence({name: codes[name] for name in weights}, weights)
    content = Content(inputs, TITLE, sorted(weights), scaling="standard", components=settings.committee.components)
    rows = torch.cat([nn.functional.normalize(content[name], dim=1) * weights[name] ** 0.5 for name in weights], 1)
    return unit_rows_on_average(sparse.csr_matrix(rows.numpy()))


def _linear_weights(
    settings: TokenBridge.Settings, inputs: Inputs, codes: Mapping[str, Int[np.ndarray, "items _"]]
) -> sparse.csr_matrix:
    """B with its columns amplified, (items, items)."""
    gram = interaction_gram(inputs.train, settings.user_power)
    own = gram.diagonal().clone()
    if settings.content != "none":
        weights = _there(settings.content_weights, inputs)
        if settings.content == "tokens":
            shared = weighted_incidence({name: codes[name] for name in weights}, weights)
            gram.add_(torch.from_numpy((shared @ shared.T).toarray()), alpha=sum(weights.values()))
        else:
            content = Content(inputs, TITLE, sorted(weights), scaling="standard")
            for name, weight in weights.items():
                vectors = nn.functional.normalize(content[name], dim=1)
                gram.addmm_(vectors, vectors.T, alpha=weight)
    gram.diagonal().add_(settings.degree_ridge * own)
    kept = np.maximum(item_weights(gram, settings.ridge) - np.float32(settings.cut), 0.0)
    amplified = rarity_weights(inputs.degrees, inputs.cold_below, "amplify") ** settings.amplify
    return (sparse.csr_matrix(kept) @ sparse.diags(amplified.astype(np.float32))).tocsr()
