"""ContentKNN: items that look or read alike are neighbours; nothing is learned from other users."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from motorec import config
from motorec.features import Modality
from motorec.itemgraph import nearest_neighbours
from motorec.models.base import Inputs
from motorec.models.dense import LinearRecommender
from motorec.models.layers import Content


class ContentKNN(LinearRecommender):
    r"""Nearest neighbours by the cosine of their features (Pazzani and Billsus, "Content-based recommendation", 2007).

    .. math:: s_{ij} = \frac{\sum_m w_m \cos(f_i^m, f_j^m)}{\sum_m w_m}, \qquad
              \mathrm{score}(u, i) = \sum_{j \in N(u)} \max(s_{ij}, 0)^p \, [\, j \in \mathrm{kNN}(i)\,]

    over the modalities m. Only a user's own training items count, so a new item is treated like any other. A modality
    that one of two items lacks adds nothing to the sum, and takes its weight out of that item's half of the divisor
    :math:`\sqrt{\sum_m w_m} \sqrt{\sum_m w_m}`.

    Raises:
        MissingContent: The data set lacks one of the weighted modalities.
    """

    class Settings(config.Settings):
        """Neighbourhood."""

        # The modalities it looks at, all of which must be there, and what each counts for.
        weights: dict[Modality, config.Positive] = Field(default={"text": 1.0}, min_length=1)
        neighbours: config.Count = 20
        power: config.Positive = 1.0  # p; larger favours the very closest
        scaling: Literal["unit", "standard"] = "standard"  # of the columns, before the cosine is taken

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        content = Content(inputs, "ContentKNN", list(settings.weights), scaling=settings.scaling)
        # The dot product of such rows is the weighted sum of the modalities' cosines.
        parts = [
            nn.functional.normalize(content[name], dim=1) * weight**0.5 for name, weight in settings.weights.items()
        ]
        vectors = torch.cat(parts, dim=1)
        graph = nearest_neighbours(vectors, settings.neighbours, present=vectors.any(1).numpy())
        graph.data **= settings.power
        super().__init__(inputs.train, graph.T.tocsr())

    @property
    def n_parameters(self) -> int:
        """None: it only looks."""
        return 0
