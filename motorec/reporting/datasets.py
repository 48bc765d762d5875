"""What the data sets are like: how many, how sparse, how cold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from motorec.data.dataset import Dataset
from motorec.features import MODALITIES, Features
from motorec.reporting import tables


def statistics(dataset: Dataset, features: Mapping[str, Features], cold_below: int) -> pd.DataFrame:
    """Statistics of one data set, as one row.

    Args:
        dataset: With its split.
        features: By modality; empty where it has no content.
        cold_below: Items with fewer training interactions are cold.

    Returns:
        `dataset`, `users`, `items`, `interactions`, `train`, `valid` and `test` (how many of them), `density`
        (interactions per pair of user and item), `median_degree` (training interactions of the median item),
        `cold_items` and `cold_items_share`, `unseen_items` (without any training interaction; they are cold, too),
        `cold_targets` and `cold_targets_share` (test interactions whose item is cold, and their share of all), and by
        modality `<modality>_items`, the items that have it: missing where the data set lacks the modality.
    """
    interactions = dataset.interactions
    sizes = interactions["split"].value_counts()
    cold = dataset.cold(cold_below)
    targets = cold[interactions.loc[interactions["split"] == "test", "item"]]
    row: dict[str, Any] = {
        "dataset": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": len(interactions),
        **{split: int(sizes.get(split, 0)) for split in ("train", "valid", "test")},
        "density": len(interactions) / (dataset.n_users * dataset.n_items),
        "median_degree": float(np.median(dataset.item_degrees())),
        "cold_items": int(cold.sum()),
        "cold_items_share": float(cold.mean()),
        "unseen_items": int((dataset.item_degrees() == 0).sum()),
        "cold_targets": int(targets.sum()),
        "cold_targets_share": float(targets.mean()) if len(targets) else float("nan"),
    }
    row |= {f"{name}_items": int(features[name].present.sum()) if name in features else None for name in MODALITIES}
    return whole_numbers(pd.DataFrame([row]))


def whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Statistics, from `statistics` or a file, with counts as whole numbers where one is missing, too."""
    return table.astype({f"{name}_items": "Int64" for name in MODALITIES})


def cells(table: pd.DataFrame, titles: Mapping[str, str], style: tables.Style) -> pd.DataFrame:
    """The statistics of any number of data sets as a reader sees them.

    Args:
        table: Rows of `statistics`.
        titles: The data sets' titles by name.
        style: MARKDOWN or LATEX.
    """

    def with_share(name: str, whole: str) -> list[str]:
        # From the counts: a share that was read from a file has been rounded once already.
        return [
            f"{count:,} ({100 * count / of:.1f}%)" if of else f"{count:,} (–)"
            for count, of in zip(table[name], table[whole], strict=True)
        ]

    shown = {
        "Data set": [titles.get(name, name) for name in table["dataset"]],
        **{name.capitalize(): [f"{count:,}" for count in table[name]] for name in ("users", "items", "interactions")},
        "Density": [f"{100 * value:.3f}%" for value in table["density"]],
        "Median degree": [f"{value:g}" for value in table["median_degree"]],
        "Cold items": with_share("cold_items", "items"),
        "Cold targets": with_share("cold_targets", "test"),
        "With text": ["–" if pd.isna(count) else f"{count:,}" for count in table["text_items"]],
        "With picture": ["–" if pd.isna(count) else f"{count:,}" for count in table["image_items"]],
    }
    return pd.DataFrame(shown).map(style.escape)


def caption(title: str, cold_below: int) -> str:
    """The sentences above the table."""
    return (
        f"{title}: statistics of the data. Density is interactions per pair of user and item; the degree is an item's "
        f"training interactions; cold items have fewer than {cold_below}, cold targets are test interactions with them."
    )
