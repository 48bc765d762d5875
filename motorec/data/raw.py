"""A source as it was read, before anything is filtered, and the checks that every source shares.

Ids are strings and stay as they are written, so that `0111565001` keeps its zeros. Every message names the file and the
line, so that a bad row can be found in an editor.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from motorec import paths
from motorec.errors import DataError, nearest

SHOWN = 5  # how many offenders a message names before it only counts


@dataclass(frozen=True)
class RawData:
    """What a reader hands to `motorec.data.prepare`.

    Attributes:
        file: The file of interactions, for messages.
        interactions: One row per interaction, indexed by its line in `file`. Columns `user_id` and `item_id` (str) and,
            where the source has them, `rating` (str, not yet checked) and `split` ("train", "valid" or "test").
        items: One row per item, in the catalogue's order, all columns str, empty where a value is missing: `item_id`,
            `image` (a path inside the source's folder) and the source's own.
    """

    file: Path
    interactions: pd.DataFrame
    items: pd.DataFrame


def some(values: Iterable[object]) -> str:
    """The first few values, and how many more there are: ``3, 8, 9, 11, 12 and 40 more``."""
    every = [str(value) for value in values]
    rest = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + rest


def at(file: Path, lines: Sequence[int] | pd.Index) -> str:
    """A file and lines in it, as messages begin: ``data/raw/shop/items.jsonl, lines 3, 8``."""
    return f"{paths.shown(file)}, {'line' if len(lines) == 1 else 'lines'} {some(lines)}"


def require(files: Iterable[Path], remedy: str) -> None:
    """Stop at the first file that is not there.

    Raises:
        DataError: A file is missing; the message ends with `remedy`.
    """
    for file in files:
        if not file.is_file():
            raise DataError(f"{paths.shown(file)} is missing. {remedy}")


def read_text(file: Path) -> str:
    """A whole UTF-8 file, with or without a byte-order mark.

    Raises:
        DataError: The file is not UTF-8.
    """
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{at(file, [line])}: not UTF-8. Save the file in the encoding UTF-8.") from None


def read_table(file: Path, separator: str) -> pd.DataFrame:
    r"""A table of strings with a header, indexed by line number; an empty field is an empty string.

    Args:
        file: A UTF-8 file.
        separator: A comma (fields may be quoted) or a tab (they may not).

    Raises:
        DataError: The file is not UTF-8, is empty, or a row has more fields than the header.
    """
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    too_long = (
        "a row has more fields than the header. Give every row one field per column, and quote a field that holds"
    )
    try:
        # Blank lines count here and go below, so that a row's position tells its line.
        table = pd.read_csv(
            io.StringIO(read_text(file)),
            sep=separator,
            quoting=quoting,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    except pd.errors.EmptyDataError:
        raise DataError(f"{paths.shown(file)}: the file is empty. The first line names the columns.") from None
    except pd.errors.ParserError as error:
        raise DataError(f"{paths.shown(file)}: {too_long} the separator. ({str(error).strip()})") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a first row that is too long for an unnamed index
        raise DataError(f"{at(file, [2])}: {too_long} the separator.")
    table.index = pd.RangeIndex(2, len(table) + 2, name="line")
    table = table.fillna("")
    return table[(table != "").any(axis="columns")]


def check_columns(table: pd.DataFrame, file: Path, needed: Collection[str], optional: Collection[str]) -> None:
    """Hold a table's header against what the format knows.

    A column that nobody needs is left alone, unless it looks like an optional one that is absent: `splt` would
    otherwise pass silently, and the data would be split anew.

    Raises:
        DataError: A needed column is missing, or a column is close to an optional one without being it.
    """
    columns = [str(column) for column in table.columns]
    for column in needed:
        if column not in columns:
            raise DataError(
                f"{paths.shown(file)}, line 1: the column {column!r} is missing; the columns are {', '.join(columns)}. "
                f"Needed: {', '.join(needed)}; optional: {', '.join(optional)}."
            )
    for column in columns:
        guess = nearest(column.lower(), set(optional) - set(columns))
        if column not in {*needed, *optional} and guess.startswith("Did you mean"):
            raise DataError(f"{paths.shown(file)}, line 1: unknown column {column!r}. {guess} Rename or remove it.")


def check_words(values: pd.Series, file: Path, known: Collection[str]) -> None:
    """Hold a column against the words it may have.

    Raises:
        DataError: A value is not among `known`.
    """
    unknown = values[~values.isin(list(known))]
    if len(unknown):
        word = str(unknown.iloc[0])
        raise DataError(
            f"{at(file, unknown.index)}: {values.name} is {word!r}; expected {', '.join(known)}. {nearest(word, known)}"
        )


def check_interactions(data: RawData) -> None:
    """The checks on users and items that every source must pass.

    A pair that stands twice is an error even where ratings or dates differ, because which of the two should count (and
    in which split) is the owner's choice.

    Raises:
        DataError: There are no rows, an id is empty, a user and item stand together twice, or an item is not described.
    """
    rows = data.interactions
    if rows.empty:
        raise DataError(
            f"{paths.shown(data.file)}: no interactions, only a header. One row per user and item is needed."
        )
    for column in ("user_id", "item_id"):
        empty = rows.index[rows[column] == ""]
        if len(empty):
            raise DataError(f"{at(data.file, empty)}: {column} is empty. Fill it in, or remove the row.")
    twice = rows.duplicated(["user_id", "item_id"])
    if twice.any():
        user, item = rows.loc[twice, ["user_id", "item_id"]].iloc[0]
        same = rows.index[(rows["user_id"] == user) & (rows["item_id"] == item)]
        raise DataError(
            f"{at(data.file, same)}: user {user!r} and item {item!r} stand together more than once; {twice.sum()} such "
            "rows in all. Keep one row per user and item, for instance the first purchase or the last rating."
        )
    strange = rows[~rows["item_id"].isin(data.items["item_id"])]
    if len(strange):
        ids = strange["item_id"].drop_duplicates()
        raise DataError(
            f"{at(data.file, strange.index)}: {len(ids)} unknown item ids in {len(strange)} rows: {some(ids)}. "
            "Describe these items in items.jsonl, or remove the rows. Ids are compared as text: '012' is not '12'."
        )


def ratings(data: RawData) -> pd.Series:
    """The column `rating` as numbers.

    Raises:
        DataError: A rating is not a number.
    """
    numbers = pd.to_numeric(data.interactions["rating"], errors="coerce")
    wrong = data.interactions.loc[numbers.isna(), "rating"]
    if len(wrong):
        raise DataError(
            f"{at(data.file, wrong.index)}: rating is {str(wrong.iloc[0])!r}; expected a number. Mend the row."
        )
    return numbers
