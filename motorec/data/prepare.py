"""From a raw source to a checked, filtered and split data set (stage 01).

Everything is checked before anything is written. What makes the data unusable stops with a message; what does not (a
missing picture, an item without text, a user with too few interactions) is left out and counted in `Dataset.facts`.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from motorec import paths
from motorec.config import DatasetSettings, FolderSettings, GarmentsSettings, InterSettings, load_dataset
from motorec.data import folder as folders
from motorec.data.dataset import SPLITS, Dataset
from motorec.data.inter import FEATURES, published_features, read_inter
from motorec.data.movielens import make_ml100k
from motorec.data.pictures import check_pictures
from motorec.data.raw import SHOWN, RawData, check_interactions, ratings, require
from motorec.data.split import FEWEST, check_given_split, core, random_split
from motorec.errors import DataError, ParamsError, nearest
from motorec.seeding import numpy_generator


def make_source(name: str) -> None:
    """Generate or fetch the raw data of a data set that the repository provides, all files or none.

    Raises:
        ParamsError: The data set is one whose files are given.
        DataError: The source cannot be fetched.
    """
    settings = load_dataset(name)
    if isinstance(settings, FolderSettings | InterSettings):
        raise ParamsError(
            f"{_params(name)}: the source {settings.source!r} is given, not made. {_remedy(name, settings)} "
            "And leave its name out of `sources` in params/run.yaml."
        )
    with paths.whole_folder(paths.raw(name)) as scratch:
        if isinstance(settings, GarmentsSettings):
            from motorec.data.garments import make_garments  # only this source draws pictures

            make_garments(settings, scratch)
        else:
            make_ml100k(settings, scratch)


def check_source(name: str) -> None:
    """Check that the files that a person has to provide are there: quick, to be asked before long work.

    Raises:
        ParamsError: There is no such data set.
        DataError: A file is missing; the message says where it is to be put.
    """
    settings = load_dataset(name)
    if isinstance(settings, FolderSettings | InterSettings):
        require(_files(name, settings), _remedy(name, settings))


def prepare(name: str) -> Dataset:
    """Read, check, filter and split a data set.

    A split that comes with the data is used as it is; only users without a training interaction are left out, and
    `min_user_interactions`, `min_item_interactions` and `split` in params do not apply. Otherwise the k-core is taken
    and every user's interactions are divided at random.

    Items that nobody interacted with stay in the catalogue (unless `min_item_interactions` asks for some): they are on
    offer and can be recommended by their text and picture, and to leave them out would tell the models which items
    occur in the test split.

    Raises:
        ParamsError: The data set is unknown, or params name a column that it lacks.
        DataError: The data cannot be used as they are.
    """
    settings = load_dataset(name)
    require(_files(name, settings), _remedy(name, settings))
    place = paths.raw(name)
    data = read_inter(place / settings.file) if isinstance(settings, InterSettings) else folders.read_folder(place)
    check_interactions(data)
    text = _texts(data.items, name, settings)

    liked = _liked(data, name, settings)
    kept, items, dropped = _filter(data, liked, name, settings)
    items = items.assign(text=text.loc[items.index]).reset_index(drop=True)
    pictures = _leave_out_bad_pictures(items, place)

    users = sorted(kept["user_id"].unique())
    interactions = pd.DataFrame(
        {
            "user": pd.Index(users).get_indexer(kept["user_id"]).astype("int32"),
            "item": pd.Index(items["item_id"]).get_indexer(kept["item_id"]).astype("int32"),
        }
    )
    given = "split" in kept
    if given:
        interactions["split"] = kept["split"].to_numpy()
    else:
        generator = numpy_generator(settings.split.seed, "split", name)
        interactions["split"] = random_split(interactions, settings.split, generator)
    front = ["item_id", "text", "image"]
    dataset = Dataset(
        name=name,
        items=items[front + [column for column in items if column not in front]],
        users=users,
        interactions=interactions.sort_values(["user", "item"], ignore_index=True),
        truth=folders.read_truth(place, users, items["item_id"].tolist()),
    )
    facts = {
        "rows_read": len(data.interactions),
        "rows_below_min_rating": len(data.interactions) - len(liked),
        **dropped,
        "split": "comes with the data" if given else "random per user",
        **_describe(dataset),
        **pictures,
    }
    if isinstance(settings, InterSettings):
        published = published_features(settings, dataset)
        facts |= {f"published_{modality}_width": _width(published, modality) for modality in FEATURES}
    return Dataset(**(vars(dataset) | {"facts": facts}))


def _params(name: str) -> str:
    return f"params/data/{name}.yaml"


def _files(name: str, settings: DatasetSettings) -> list[Path]:
    """The files without which there is no data set."""
    place = paths.raw(name)
    return [place / settings.file] if isinstance(settings, InterSettings) else folders.files(place)


def _remedy(name: str, settings: DatasetSettings) -> str:
    """What to do where a file is missing."""
    place = paths.shown(paths.raw(name))
    if isinstance(settings, InterSettings):
        extra = " and ".join(FEATURES.values())
        return (
            f"Put {settings.file} in {place}/, and beside it, where you have them, {extra} ({_params(name)} says more)."
        )
    if isinstance(settings, FolderSettings):
        return f"Put the dataset folder, with interactions.csv, items.jsonl and images/, at {place}/ (a link will do)."
    return f"Make it first: dvc repro, or motorec.data.make_source({name!r})."


def _liked(data: RawData, name: str, settings: DatasetSettings) -> pd.DataFrame:
    """The interactions that count: all, or those rated high enough."""
    if settings.min_rating is None:
        return data.interactions
    if "rating" not in data.interactions:
        raise ParamsError(
            f"{_params(name)}: min_rating is {settings.min_rating}, but {paths.shown(data.file)} has no column "
            "'rating'. Remove min_rating, and every row counts."
        )
    liked = data.interactions[ratings(data) >= settings.min_rating]
    if liked.empty:
        raise DataError(
            f"{paths.shown(data.file)}: none of {len(data.interactions)} rows is rated {settings.min_rating} or more. "
            f"Lower min_rating in {_params(name)}."
        )
    return liked


def _filter(
    data: RawData, liked: pd.DataFrame, name: str, settings: DatasetSettings
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Leave out the users and items that have too little: the interactions, the items, and how many of each went."""
    items = data.items
    if "split" in liked:
        kept, untrained = check_given_split(liked, data.file)
        return kept, items, {"users_without_training": untrained, "users_with_too_few": 0, "items_with_too_few": 0}
    per_user, per_item = settings.min_user_interactions, settings.min_item_interactions
    if per_user < FEWEST:
        raise ParamsError(
            f"{_params(name)}: min_user_interactions is {per_user}; to train, validate and test, a user needs {FEWEST}."
        )
    kept = core(liked, per_user, per_item)
    if kept.empty:
        raise DataError(
            f"{paths.shown(data.file)}: nothing is left of {len(liked)} rows when each user has at least {per_user} "
            f"interactions and each item {per_item}. Bring more data, or lower min_user_interactions (not below "
            f"{FEWEST}) and min_item_interactions in {_params(name)}."
        )
    if per_item > 0:
        items = items[items["item_id"].isin(kept["item_id"])]
    users = liked["user_id"].nunique() - kept["user_id"].nunique()
    counts = {
        "users_without_training": 0,
        "users_with_too_few": users,
        "items_with_too_few": len(data.items) - len(items),
    }
    return kept, items, counts


def _texts(items: pd.DataFrame, name: str, settings: DatasetSettings) -> pd.Series:
    """Each item's text: the columns named in params, one after the other as sentences."""
    columns = [str(column) for column in items if column not in ("item_id", "image")]
    named = {"attributes": settings.attributes}
    if not isinstance(settings, InterSettings):  # its items have no texts, whatever the default is
        named["text"] = settings.text
    for key, wanted in named.items():
        for column in wanted:
            if column not in columns:
                raise ParamsError(
                    f"{_params(name)}: {key!r} names {column!r}, and no item has such a column. "
                    f"{nearest(column, columns)} An empty list, `{key}: []`, names none."
                )
    rows = items[list(named.get("text", ()))].to_dict("records")
    return pd.Series([_sentences([str(part) for part in row.values()]) for row in rows], index=items.index, dtype=str)


def _sentences(parts: list[str]) -> str:
    """Join parts as sentences: a full stop after each but the last, unless it ends with a mark of its own."""
    clean = [" ".join(part.split()) for part in parts]
    present = [part for part in clean if part]
    ended = [part if re.search(r"[.!?…]$", part) else f"{part}." for part in present[:-1]]
    return " ".join(ended + present[-1:])


def _leave_out_bad_pictures(items: pd.DataFrame, place: Path) -> dict[str, Any]:
    """Empty `image` of the items whose picture cannot be used, and say how many and the first few."""
    named = items.index[items["image"] != ""]
    images = items.loc[named, "image"].tolist()
    states = check_pictures(place, images) if images else []
    if images and set(states) == {"missing"}:
        raise DataError(
            f"{paths.shown(place)}: none of the {len(images)} pictures that items.jsonl names is there, for instance "
            f"{images[0]}. Put them there, or remove the key 'image' where there is none."
        )
    facts: dict[str, Any] = {}
    told = {state: states.count(state) for state in ("missing", "unreadable") if state in states}
    if told:
        counts = " and ".join(f"{count} {state}" for state, count in told.items())
        print(f"{paths.shown(place)}: pictures {counts}; these items go on without one.", file=sys.stderr)
    for state in ("missing", "unreadable"):
        bad = [image for image, found in zip(images, states, strict=True) if found == state]
        facts |= {f"pictures_{state}": len(bad), f"pictures_{state}_first": bad[:SHOWN]}
    items.loc[[row for row, state in zip(named, states, strict=True) if state != "good"], "image"] = ""
    facts["items_without_picture"] = int((items["image"] == "").sum())
    facts["items_without_text"] = int((items["text"] == "").sum())
    facts["items_without_both"] = int(((items["text"] == "") & (items["image"] == "")).sum())
    return facts


def _describe(dataset: Dataset) -> dict[str, int | float]:
    """The size of what is left."""
    count = len(dataset.interactions)
    per_split = Counter(dataset.interactions["split"])
    return {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": count,
        **{split: per_split[split] for split in SPLITS},
        "density": round(count / (dataset.n_users * dataset.n_items), 6),
        "items_without_training": int((dataset.item_degrees() == 0).sum()),
    }


def _width(features: dict[str, Any], modality: str) -> int:
    """The number of columns of a modality's features, 0 where there are none."""
    return features[modality].shape[1] if modality in features else 0
