"""Do items that are near in feature space share what people know about them?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from motorec.data import Dataset
from motorec.features import Features


def nearest(rows: Float[np.ndarray, "n d"], block: int = 1024) -> Int[np.ndarray, " n"]:
    """The nearest other row of each row by cosine, in blocks, so that memory is linear in the rows."""
    unit = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)
    found = []
    for start in range(0, len(unit), block):
        near = unit[start : start + block] @ unit.T
        near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -2.0
        found.append(near.argmax(1))
    return torch.cat(found).numpy()


def agreement(dataset: Dataset, features: Mapping[str, Features], attributes: tuple[str, ...]) -> pd.DataFrame:
    """How often an item and its nearest neighbour have the same value of an attribute.

    Returns:
        A row per attribute: `by chance` (two random items) and one column per modality.
    """
    table = {}
    for attribute in attributes:
        values = dataset.items[attribute].to_numpy()
        shares = dataset.items[attribute].value_counts(normalize=True)
        row = {"by chance": float((shares**2).sum())}
        for modality, feature in features.items():
            here = values[feature.present]
            if len(here) > 1:
                row[modality] = float((here == here[nearest(feature.matrix[feature.present])]).mean())
        table[attribute] = row
    return pd.DataFrame(table).T
