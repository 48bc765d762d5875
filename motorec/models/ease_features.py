"""Collective EASE: EASE^R with the items' features stacked under the interactions.

Jeunen, Van Balen and Goethals, "Closed-form models for collaborative filtering with side-information", RecSys 2020.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from motorec import config
from motorec.features import Modality
from motorec.models.base import Inputs
from motorec.models.dense import DenseSettings, LinearRecommender, interaction_gram, item_weights, require_memory
from motorec.models.layers import Content


class EASEFeatures(LinearRecommender):
    r"""One matrix of item-item weights explains who takes an item and what the item looks and reads like.

    .. math:: \min_B \lVert W^{1/2} (X - X B) \rVert_F^2 + \sum_m w_m \lVert F_m^\top - F_m^\top B \rVert_F^2
              + \lambda \lVert B \rVert_F^2 \quad \text{with} \quad \mathrm{diag}(B) = 0

    with :math:`X` the binary interactions of training, :math:`F_m` the features of modality m, a row per item, and
    :math:`W` a weight per user (`interaction_gram`). A dimension of the features acts as one more user, so that an
    item without interactions still has weights.

    The paper's side information is binary (tags, categories). Dense vectors need a scale: every item's vector has unit
    length here, so that :math:`w_m` is what the content counts for, in interactions. The paper does not weight users.
    Modalities that the data set lacks are left out, as long as there is one.

    Raises:
        MissingContent: The data set has none of the weighted modalities.
        TooLarge: The weights would need more memory than the settings allow.
    """

    class Settings(DenseSettings):
        """Balance of interactions and content."""

        weights: dict[Modality, config.NotNegative] = Field(default={"text": 10.0, "image": 10.0}, min_length=1)
        scaling: Literal["unit", "standard"] = "standard"  # of the columns, before rows are scaled to unit length
        user_power: config.Share = 0.5  # users count |I_u| to the minus this

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        require_memory("EASE with features", inputs.train.shape[1], settings)
        named = [name for name in settings.weights if name in inputs.features] or list(settings.weights)
        content = Content(inputs, "EASE with features", named, scaling=settings.scaling)
        gram = interaction_gram(inputs.train, settings.user_power)
        for name in named:
            vectors = nn.functional.normalize(content[name], dim=1)
            gram.addmm_(vectors, vectors.T, alpha=settings.weights[name])
        super().__init__(inputs.train, item_weights(gram, settings.ridge))
