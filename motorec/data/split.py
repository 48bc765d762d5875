"""Which interactions train, which choose (validation) and which judge (test)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from motorec import paths
from motorec.config import SplitSettings
from motorec.data.dataset import SPLITS
from motorec.errors import DataError

FEWEST = 3  # interactions of a user who is to have one in each split


def random_split(interactions: pd.DataFrame, settings: SplitSettings, generator: np.random.Generator) -> pd.Series:
    """Divide every user's interactions at random, by default 8:1:1.

    Of a user's n interactions, floor(n * share) go to validation and to test, but at least one each, and at least one
    is left to train on. The order of the rows has no influence.

    Args:
        interactions: Columns `user` and `item`, no pair twice, at least three rows per user.
        settings: The shares.
        generator: The source of chance.

    Returns:
        "train", "valid" or "test" for every row, on the index of `interactions`.

    Raises:
        ValueError: A user has fewer than three rows.
    """
    ordered = interactions[["user", "item"]].sort_values(["user", "item"])
    # Each user's rows in random order: sorted by user, then by a random key.
    shuffled = ordered.iloc[np.lexsort((generator.random(len(ordered)), ordered["user"]))]
    by_user = shuffled.groupby("user", sort=False)["item"]
    rank, count = by_user.cumcount().to_numpy(), by_user.transform("size").to_numpy()
    if len(count) and count.min() < FEWEST:
        raise ValueError(f"a user has {count.min()} interactions; each needs {FEWEST} to have one in every split")
    nudge = 1e-9  # 0.29 * 100 is 28.999999999999996, and 29 is meant
    test = np.clip(np.floor(count * settings.test + nudge), 1, count - 2)
    valid = np.clip(np.floor(count * settings.valid + nudge), 1, count - 1 - test)
    words = np.select([rank < test, rank < test + valid], ["test", "valid"], "train")
    return pd.Series(words, index=shuffled.index, name="split", dtype=str).reindex(interactions.index)


def check_given_split(interactions: pd.DataFrame, file: Path) -> tuple[pd.DataFrame, int]:
    """Check a split that came with the data.

    Users without a training interaction are left out, as in the toolkits that publish such splits: nothing is known of
    them when they are to be ranked for. Users without a validation or test interaction stay, since they teach.

    Args:
        interactions: Columns `user_id` and `split`.
        file: Where they come from, for messages.

    Returns:
        The rows of users who have a training interaction, and how many users were left out.

    Raises:
        DataError: One of the splits is empty.
    """
    trained = interactions.loc[interactions["split"] == "train", "user_id"].unique()
    kept = interactions[interactions["user_id"].isin(trained)]
    for split in SPLITS:
        if not (kept["split"] == split).any():
            raise DataError(
                f"{paths.shown(file)}: no interaction of a user with training interactions is {split!r}; each of "
                f"{', '.join(SPLITS)} needs some. Mend the split, or remove its column to have one made."
            )
    return kept, interactions["user_id"].nunique() - len(trained)


def core(interactions: pd.DataFrame, per_user: int, per_item: int) -> pd.DataFrame:
    """Drop users and items with too few interactions, again and again until none is left (the k-core).

    Args:
        interactions: Columns `user_id` and `item_id`.
        per_user: Interactions that a user must have.
        per_item: Interactions that an item must have.
    """
    while True:
        of_user = interactions.groupby("user_id")["item_id"].transform("size")
        of_item = interactions.groupby("item_id")["user_id"].transform("size")
        enough = (of_user >= per_user) & (of_item >= per_item)
        if enough.all():
            return interactions
        interactions = interactions[enough]
