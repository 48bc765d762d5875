"""Reader of `<name>.inter`, the format in which this field passes published splits and features around.

    <name>.inter      tab-separated: userID, itemID[, rating][, timestamp], x_label (0 train, 1 valid, 2 test)
    image_feat.npy    optional, one row per item id
    text_feat.npy     optional, one row per item id

Column names may carry a type (`itemID:token`) and may be spelled `user_id`, `item_id`. The catalogue has the items 0 to
the largest id, as in the toolkits that use this format, so that numbers compare. There are no texts and no pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from motorec import paths
from motorec.config import InterSettings
from motorec.data.dataset import SPLITS, Dataset
from motorec.data.raw import RawData, at, check_columns, check_words, read_table, some
from motorec.errors import DataError

SPELLINGS = {"user_id": "userID", "item_id": "itemID"}
NEEDED = ("userID", "itemID")
OPTIONAL = ("rating", "timestamp", "x_label")
LABELS = dict(zip(("0", "1", "2"), SPLITS, strict=True))
FEATURES = {"image": "image_feat.npy", "text": "text_feat.npy"}


def read_inter(file: Path) -> RawData:
    """Read an `.inter` file. Without `x_label` the split protocol decides.

    Raises:
        DataError: The file is not UTF-8, a column is missing, an item id is no whole number, or a label is unknown.
    """
    table = read_table(file, "\t")
    table = table.rename(columns=lambda column: str(column).split(":")[0]).rename(columns=SPELLINGS)
    check_columns(table, file, NEEDED, OPTIONAL)
    wrong = table.loc[~table["itemID"].str.fullmatch("[0-9]{1,9}"), "itemID"]
    if len(wrong):
        raise DataError(
            f"{at(file, wrong.index)}: itemID is {str(wrong.iloc[0])!r}; expected a whole number, "
            "the item's row in image_feat.npy and text_feat.npy."
        )
    numbers = table["itemID"].astype("int64")
    interactions = pd.DataFrame({"user_id": table["userID"], "item_id": numbers.astype(str)})
    if "rating" in table:
        interactions["rating"] = table["rating"]
    if "x_label" in table:
        check_words(table["x_label"], file, LABELS)
        interactions["split"] = table["x_label"].map(LABELS)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    items = pd.DataFrame({"item_id": [str(number) for number in range(count)], "image": ""}, dtype=str)
    return RawData(file=file, interactions=interactions, items=items)


def published_features(settings: InterSettings, dataset: Dataset) -> dict[str, Float[np.ndarray, "items _"]]:
    """The features that come with the data, one row per item of `dataset`, in its order.

    Args:
        settings: The data set's settings; the features lie beside its `.inter` file.
        dataset: The data set as `motorec.data.prepare` made it.

    Returns:
        "image" or "text" to float32 (items, width); a modality without a file is left out.

    Raises:
        DataError: An array is no matrix, has too few rows, or holds a value that is no finite number.
    """
    rows = dataset.items["item_id"].astype("int64").to_numpy()
    found = {}
    for modality, name in FEATURES.items():
        file = (paths.raw(dataset.name) / settings.file).with_name(name)
        if not file.is_file():
            continue
        remedy = f"Put the {name} there that was published with {settings.file}."
        try:
            array = np.load(file, mmap_mode="r")
        except ValueError as error:
            raise DataError(f"{paths.shown(file)}: not readable as an array: {error} {remedy}") from None
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
            raise DataError(
                f"{paths.shown(file)}: holds {array.dtype} of shape {array.shape}; expected numbers of shape "
                f"(items, width). {remedy}"
            )
        if len(array) <= rows.max():
            raise DataError(
                f"{paths.shown(file)}: {len(array)} rows, but the largest item id is {rows.max()}: a row for each id "
                f"from 0 is expected. {remedy}"
            )
        values = np.asarray(array[rows], dtype=np.float32)
        broken = rows[~np.isfinite(values).all(axis=1)]
        if len(broken):
            raise DataError(f"{paths.shown(file)}, rows {some(broken)}: values that are no finite numbers. {remedy}")
        found[modality] = values
    return found
