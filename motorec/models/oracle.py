"""The oracle: ranks by the true preference, known for planted data only. No model can do better on average."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from motorec import config
from motorec.errors import DataError
from motorec.models.base import Inputs, Recommender


class Oracle(Recommender):
    """Scores are the preferences that the data were drawn from.

    Raises:
        DataError: The data set has no known truth.
    """

    class Settings(config.Settings):
        """Nothing to set."""

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        if inputs.truth is None:
            raise DataError(
                f"{inputs.dataset}: no true preferences are known; take it out of with_truth in params/run.yaml."
            )
        self._truth = inputs.truth

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """The true preferences."""
        return torch.from_numpy(self._truth[users])
