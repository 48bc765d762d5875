"""The catalogue and its interactions, as every later stage sees them: checked, indexed from 0, split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import sparse

from motorec import paths
from motorec.errors import DataError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Dataset:
    """Items, users and who interacted with what.

    Attributes:
        name: The data set's name in `params/data/`.
        items: One row per item, in index order. Columns: `item_id` (str), `text` (str, empty where the item has none),
            `image` (path relative to the raw folder, empty where it has none), and the attributes of the source.
        users: The users' own ids (str), in index order.
        interactions: Columns `user` and `item` (indices, int32) and `split` ("train", "valid" or "test"); no pair
            twice, sorted by user, then item.
        truth: What each user truly prefers, (users, items), larger is better; only for planted data.
        facts: What the data stage did and dropped, in counts: for the notebook and the tables.
    """

    name: str
    items: pd.DataFrame
    users: list[str]
    interactions: pd.DataFrame
    truth: Float[np.ndarray, "users items"] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.items)

    def matrix(self, *splits: Split) -> sparse.csr_matrix:
        """Who interacted with what in the named splits: a binary (users, items) matrix of float32."""
        chosen = self.interactions[self.interactions["split"].isin(splits)]
        ones = np.ones(len(chosen), dtype=np.float32)
        shape = (self.n_users, self.n_items)
        return sparse.csr_matrix((ones, (chosen["user"].to_numpy(), chosen["item"].to_numpy())), shape=shape)

    def item_degrees(self) -> Int[np.ndarray, " items"]:
        """Training interactions of each item: the only count that says how rare an item is (paper section 1)."""
        train = self.interactions.loc[self.interactions["split"] == "train", "item"]
        return np.bincount(train, minlength=self.n_items).astype(np.int64)

    def cold(self, below: int) -> Bool[np.ndarray, " items"]:
        """Items with fewer than `below` training interactions."""
        return self.item_degrees() < below

    def save(self, folder: Path) -> None:
        """Write the data set, all files or none."""
        with paths.whole_folder(folder) as scratch:
            self.items.to_parquet(scratch / "items.parquet", index=False)
            pd.DataFrame({"user_id": self.users}).to_parquet(scratch / "users.parquet", index=False)
            self.interactions.to_parquet(scratch / "interactions.parquet", index=False)
            if self.truth is not None:
                np.save(scratch / "truth.npy", self.truth)
            facts = json.dumps({"name": self.name, "facts": dict(self.facts)}, indent=2, ensure_ascii=False)
            (scratch / "dataset.json").write_text(facts + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read what `save` wrote.

        Raises:
            DataError: The folder is missing or incomplete.
        """
        try:
            about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
            truth = folder / "truth.npy"
            return cls(
                name=about["name"],
                items=pd.read_parquet(folder / "items.parquet"),
                users=pd.read_parquet(folder / "users.parquet")["user_id"].tolist(),
                interactions=pd.read_parquet(folder / "interactions.parquet"),
                truth=np.load(truth) if truth.is_file() else None,
                facts=about["facts"],
            )
        except FileNotFoundError as error:
            missing = paths.shown(Path(error.filename)) if error.filename else paths.shown(folder)
            raise DataError(
                f"{missing} is missing: run the data stage first (notebook 01_data, or `dvc repro`)."
            ) from None
