"""EASE^R: embarrassingly shallow autoencoders for sparse data (Steck, WWW 2019, arXiv 1905.03375)."""

from __future__ import annotations

from motorec.models.base import Inputs
from motorec.models.dense import DenseSettings, LinearRecommender, interaction_gram, item_weights, require_memory


class EASE(LinearRecommender):
    r"""Each item is explained by all other items of the same user, in closed form.

    .. math:: \min_B \lVert X - X B \rVert_F^2 + \lambda \lVert B \rVert_F^2 \quad \text{with} \quad
              \mathrm{diag}(B) = 0

    with :math:`X` the binary interactions of training. Dense in the items by nature: see `require_memory`.

    Raises:
        TooLarge: The weights would need more memory than the settings allow.
    """

    class Settings(DenseSettings):
        """Only what all dense models have."""

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        require_memory("EASE", inputs.train.shape[1], settings)
        super().__init__(inputs.train, item_weights(interaction_gram(inputs.train), settings.ridge))
