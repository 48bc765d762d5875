"""Popularity: everybody is recommended what most people have taken."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from motorec import config
from motorec.models.base import Inputs, Recommender


class Popularity(Recommender):
    """Items ranked by their number of training interactions, the same for all users."""

    class Settings(config.Settings):
        """Nothing to set."""

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        self._degrees = torch.from_numpy(inputs.degrees.astype(np.float32))

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Training interactions of each item, once per user."""
        return self._degrees.expand(len(users), -1)
