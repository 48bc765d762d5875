"""Reader of a dataset folder, the format for anyone's own catalogue.

    interactions.csv   user_id,item_id[,timestamp|date][,rating][,split]   split: train, valid or test
    items.jsonl        one JSON object a line: item_id, any attribute, image (a path inside the folder)
    images/            pictures
    truth.npz          planted data only: user_id (users,), item_id (items,), preference (users, items)

Times are allowed and not used: the split is random per user, or comes with the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from motorec import paths
from motorec.data.dataset import SPLITS
from motorec.data.raw import RawData, at, check_columns, check_words, read_table, read_text, some
from motorec.errors import DataError

NEEDED = ("user_id", "item_id")
OPTIONAL = ("timestamp", "date", "rating", "split")


def files(folder: Path) -> list[Path]:
    """The files without which a folder is no data set."""
    return [folder / "interactions.csv", folder / "items.jsonl"]


def read_folder(folder: Path) -> RawData:
    """Read a dataset folder.

    Raises:
        DataError: A file is not UTF-8, a column is missing, a line is no JSON object, an item id is missing or stands
            twice, a split word is unknown, or an image's path leads out of the folder.
    """
    file, described = files(folder)
    interactions = read_table(file, ",")
    check_columns(interactions, file, NEEDED, OPTIONAL)
    if "split" in interactions:
        check_words(interactions["split"], file, SPLITS)
    columns = [column for column in (*NEEDED, "rating", "split") if column in interactions]
    return RawData(file=file, interactions=interactions[columns], items=read_items(described))


def read_items(file: Path) -> pd.DataFrame:
    """Read `items.jsonl`: columns `item_id`, `image` and every other key that any line has, all as strings.

    Raises:
        DataError: A line is no JSON object, its item id is missing or stands twice, a value is an object, or an image's
            path leads out of the folder.
    """
    rows: list[dict[str, str]] = []
    line_of: dict[str, int] = {}
    # Not splitlines(): JSON strings may hold line separators of Unicode unescaped.
    for line, text in enumerate(read_text(file).split("\n"), start=1):
        if not text.strip():
            continue
        here = at(file, [line])
        try:
            # NaN is no JSON, but many exporters write it where a value is missing.
            item = json.loads(text, parse_constant=lambda _: None)
        except json.JSONDecodeError as error:
            raise DataError(f"{here}: not JSON: {error}. Write one JSON object a line.") from None
        if not isinstance(item, dict):
            raise DataError(f"{here}: expected a JSON object with item_id and attributes, found {type(item).__name__}.")
        for key, kinds in (("item_id", (str, int)), ("image", (str, type(None)))):
            if isinstance(value := item.get(key), bool) or not isinstance(value, kinds):
                raise DataError(f"{here}: {key} is {value!r}; expected a string.")
        row = {key: _as_text(value, f"{here}: {key!r}") for key, value in item.items()}
        if not row["item_id"]:
            raise DataError(f"{here}: item_id is empty. Give every item its own id.")
        first = line_of.setdefault(row["item_id"], line)
        if first != line:
            raise DataError(
                f"{at(file, [first, line])}: item_id {row['item_id']!r} stands twice. Keep one line per item."
            )
        _check_inside(row.get("image", ""), here)
        rows.append(row)
    if not rows:
        raise DataError(f"{paths.shown(file)}: no items. Write one JSON object a line.")
    columns = dict.fromkeys(["item_id", "image", *(key for row in rows for key in row)])
    return pd.DataFrame(rows, columns=list(columns), dtype=str).fillna("")


def _as_text(value: Any, where: str) -> str:
    """A JSON value as a reader would write it: a list's parts joined by commas, nothing for a missing value."""
    if value is None:
        return ""
    if isinstance(value, dict):
        raise DataError(
            f"{where} is an object; expected text, a number or a list. Write its parts as keys of the item."
        )
    if isinstance(value, list):
        return ", ".join(text for part in value if (text := _as_text(part, where)))
    return str(value)


def _check_inside(image: str, here: str) -> None:
    # By the words of the path alone: that images/ is a link to another disk is its owner's business.
    path = PureWindowsPath(image)  # knows both kinds of slash, and drives
    if path.anchor or ".." in path.parts:
        raise DataError(
            f"{here}: the image {image!r} lies outside the folder. Name it by its path inside, as images/1.jpg."
        )


def read_truth(folder: Path, users: Sequence[str], items: Sequence[str]) -> Float[np.ndarray, "users items"] | None:
    """What each user truly prefers, in the order of `users` and `items`; None where the folder has no `truth.npz`.

    Raises:
        DataError: The file lacks a user or an item.
    """
    file = folder / "truth.npz"
    if not file.is_file():
        return None
    with np.load(file) as truth:
        rows = pd.Index(truth["user_id"].astype(str)).get_indexer(list(users))
        columns = pd.Index(truth["item_id"].astype(str)).get_indexer(list(items))
        for known, ids, what in ((rows, users, "users"), (columns, items, "items")):
            if (known < 0).any():
                lacking = some(np.asarray(ids, dtype=object)[known < 0])
                raise DataError(f"{paths.shown(file)}: lacks the {what} {lacking}. Make the whole folder anew.")
        return truth["preference"][np.ix_(rows, columns)]
