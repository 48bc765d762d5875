"""The planted catalogue: what was planted can be found again in its pictures, texts and interactions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from motorec import paths
from motorec.config import GarmentsSettings, parse, read_yaml
from motorec.data import garments
from motorec.data.garment_pictures import COLOURS, draw_garment
from motorec.data.garment_shapes import SHAPES
from motorec.data.garment_texts import FILLERS, NOUNS, SENTENCES, WORDS, describe
from motorec.errors import ParamsError
from motorec.seeding import numpy_generator

PATTERNS = tuple(WORDS["pattern"])


def settings_with(**changes: object) -> GarmentsSettings:
    small = {"source": "garments", "title": "Small", "items": 40, "users": 30, "image_size": 48}
    return parse(GarmentsSettings, small | changes, "test")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def mentions(text: str, attribute: str, value: str) -> bool:
    words = "|".join(re.escape(word) for word in WORDS[attribute][value])
    return re.search(rf"(?<![\w-])({words})(?![\w-])", text, re.IGNORECASE) is not None


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("garments") / "garments"
    garments.make_garments(settings_with(), folder)
    return folder


@pytest.fixture(scope="module")
def planted() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Items, preferences and choices of the default data set, without its pictures and texts."""
    values = read_yaml(paths.root() / "params" / "data" / "garments.yaml")
    settings = parse(GarmentsSettings, values, "params/data/garments.yaml")
    items = garments.draw_items(settings.items, numpy_generator(settings.seed, "garments", "items"))
    users = numpy_generator(settings.seed, "garments", "users")
    preference = garments.draw_preferences(items, settings, users)
    interactions = numpy_generator(settings.seed, "garments", "interactions")
    chosen = garments.draw_interactions(preference, settings.interactions_per_user, interactions)
    return items, preference, chosen


# The folder


def test_same_settings_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    garments.make_garments(settings_with(), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(small)


def test_another_seed_gives_another_catalogue(small: Path, tmp_path: Path) -> None:
    garments.make_garments(settings_with(seed=1), tmp_path / "other")
    other, first = contents(tmp_path / "other"), contents(small)
    assert other.keys() == first.keys()
    assert [name for name in other if other[name] == first[name]] == []


def test_folder_holds_what_the_format_asks_for(small: Path) -> None:
    items = [json.loads(line) for line in (small / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    interactions = pd.read_csv(small / "interactions.csv", dtype=str)
    with np.load(small / "truth.npz") as truth:
        users, columns, preference = truth["user_id"], truth["item_id"], truth["preference"]

    assert [item["item_id"] for item in items] == [f"g{number:04d}" for number in range(1, 41)] == columns.tolist()
    for item in items:
        assert item["title"].strip()
        assert item["description"].strip()
        assert all(item[attribute] in WORDS[attribute] for attribute in WORDS)
        with Image.open(small / item["image"]) as picture:
            assert (picture.size, picture.mode) == ((48, 48), "RGB")
    assert interactions.columns.tolist() == ["user_id", "item_id"]
    assert not interactions.duplicated().any()
    assert set(interactions["item_id"]) <= set(columns.tolist())
    assert interactions["user_id"].unique().tolist() == users.tolist()
    assert interactions.groupby("user_id").size().min() >= 5
    assert (preference.shape, preference.dtype) == ((30, 40), np.float32)


def test_truth_in_the_folder_belongs_to_its_interactions(small: Path) -> None:
    with np.load(small / "truth.npz") as truth:
        preference = pd.DataFrame(truth["preference"], index=truth["user_id"], columns=truth["item_id"])
    interactions = pd.read_csv(small / "interactions.csv", dtype=str)
    share_below = preference.rank(axis=1, pct=True)
    ranks = [share_below.loc[user, item] for user, item in interactions.itertuples(index=False)]
    assert np.mean(ranks) > 0.75  # 0.5 if ids and rows were mixed up


def test_a_failure_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    garments.make_garments(settings_with(items=10, users=3), tmp_path / "g")
    before = contents(tmp_path)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(garments, "draw_garment", fail)
    with pytest.raises(KeyboardInterrupt):
        garments.make_garments(settings_with(items=10, users=3, seed=1), tmp_path / "g")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("key", "value"), [("interactions_per_user", 4), ("items", 5), ("clutter", 1.5), ("taste", -1.0), ("image_size", 8)]
)
def test_impossible_settings_are_refused(key: str, value: float) -> None:
    with pytest.raises(ParamsError, match=key):
        settings_with(**{key: value})


# Items and users


def test_materials_suit_the_kind_and_every_value_occurs(planted: tuple[pd.DataFrame, np.ndarray, np.ndarray]) -> None:
    items, _, _ = planted
    for kind, material in items[["kind", "material"]].itertuples(index=False):
        assert material in garments.MATERIALS_OF_KIND[kind]
    for attribute, values in WORDS.items():
        assert set(items[attribute]) == set(values)
        assert items[attribute].value_counts(normalize=True).max() < 0.5


def test_choice_tables_name_known_values() -> None:
    assert garments.MATERIALS_OF_KIND.keys() == WORDS["kind"].keys() == SHAPES.keys()
    assert WORDS["colour"].keys() == COLOURS.keys()
    for table, attribute in (
        (garments.MATERIALS_OF_STYLE, "material"),
        (garments.COLOURS_OF_STYLE, "colour"),
        (garments.PATTERNS_OF_STYLE, "pattern"),
    ):
        assert table.keys() == WORDS["style"].keys()
        assert {value for values in table.values() for value in values} <= set(WORDS[attribute])


def test_choices_follow_the_softmax_of_preference() -> None:
    # Each user takes five. Four items are certain, so the fifth is one draw from weights 8, 4, 2, 1, 1 of 16.
    utilities = np.concatenate([np.full(4, 100.0), np.log([8, 4, 2, 1, 1]), [-100.0]])
    chosen = garments.draw_interactions(np.tile(utilities, (40_000, 1)), 5, np.random.default_rng(0))
    assert np.all(chosen.sum(axis=1) == 5)
    expected = [1, 1, 1, 1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16, 0]
    np.testing.assert_allclose(chosen.mean(axis=0), expected, atol=0.01)


def test_users_have_five_interactions_at_least_and_the_asked_mean() -> None:
    flat = np.zeros((4000, 200))
    counts = garments.draw_interactions(flat, 12, np.random.default_rng(1)).sum(axis=1)
    assert counts.min() == 5
    assert counts.mean() == pytest.approx(12, abs=0.4)


def test_chosen_items_are_the_preferred_ones(planted: tuple[pd.DataFrame, np.ndarray, np.ndarray]) -> None:
    _, preference, chosen = planted
    ranks = np.argsort(np.argsort(-preference, axis=1), axis=1)
    assert np.median(ranks[chosen]) < 20
    assert np.median(ranks[~chosen]) > 380


def test_attributes_explain_preference_up_to_popularity(planted: tuple[pd.DataFrame, np.ndarray, np.ndarray]) -> None:
    items, preference, _ = planted
    # Without what all users share, a user's utility is a sum over attribute values: least squares finds it again.
    personal = preference - preference.mean(axis=0)
    design = pd.get_dummies(items[list(WORDS)]).to_numpy(np.float64)
    fitted = design @ np.linalg.lstsq(design, personal.T, rcond=None)[0]
    np.testing.assert_allclose(fitted, personal.T, atol=1e-3)
    assert personal.std() > 1.5


def test_popularity_has_a_long_tail(planted: tuple[pd.DataFrame, np.ndarray, np.ndarray]) -> None:
    _, _, chosen = planted
    counts = np.sort(chosen.sum(axis=0))[::-1]
    in_training = 0.8 * counts
    assert 0.35 < np.mean(in_training < 10) < 0.6
    assert counts[: len(counts) // 5].sum() > 0.5 * counts.sum()
    assert 18_000 < counts.sum() < 30_000


def test_without_taste_all_users_agree_and_without_popularity_no_item_stands_out() -> None:
    items = garments.draw_items(60, np.random.default_rng(0))
    agreed = garments.draw_preferences(items, settings_with(taste=0.0), np.random.default_rng(0))
    assert np.ptp(agreed, axis=0).max() == 0
    assert agreed.std() > 0.5
    tasteful = garments.draw_preferences(items, settings_with(popularity=0.0, taste=2.0), np.random.default_rng(0))
    np.testing.assert_allclose(tasteful.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(tasteful.std(axis=1), 2.0, rtol=1e-4)


# Texts


def test_words_of_one_attribute_are_no_words_of_another_nor_of_a_template() -> None:
    templates = [*FILLERS, *NOUNS, *(sentence for sentences in SENTENCES.values() for sentence in sentences)]
    seen: dict[str, str] = {}
    for attribute, values in WORDS.items():
        for value, words in values.items():
            assert not any(mentions(template, attribute, value) for template in templates), (attribute, value)
            for word in words:
                assert seen.setdefault(word, attribute) == attribute


@pytest.mark.parametrize("dropout", [0.0, 0.35, 1.0])
def test_share_of_attributes_left_out_is_the_parameter(dropout: float) -> None:
    items = garments.draw_items(600, np.random.default_rng(2))
    told = dict.fromkeys(WORDS, 0)
    for number, item in enumerate(items[list(WORDS)].to_dict("records")):
        title, description = describe(item, dropout, np.random.default_rng(number))
        assert title
        assert description
        for attribute in WORDS:
            told[attribute] += mentions(f"{title}. {description}", attribute, item[attribute])
    for attribute, count in told.items():
        assert count / 600 == pytest.approx(1 - dropout, abs=0.07), attribute


def test_texts_vary() -> None:
    item = {"kind": "coat", "colour": "red", "pattern": "plain", "material": "wool", "style": "classic"}
    texts = {describe(item | {"brand": "Halcyra"}, 0.35, np.random.default_rng(seed)) for seed in range(100)}
    assert len(texts) == 100


# Pictures


def garment_mean(picture: Image.Image, coverage: np.ndarray) -> np.ndarray:
    pixels = np.asarray(picture, dtype=np.float64)
    return (pixels * coverage[:, :, None]).sum(axis=(0, 1)) / coverage.sum()


@pytest.mark.parametrize("kind", SHAPES)
def test_plain_garments_have_the_named_colour(kind: str) -> None:
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names], dtype=np.float64)
    for number, name in enumerate(names):
        picture, coverage = draw_garment(kind, name, "plain", 64, 1.0, np.random.default_rng(number))
        mean = garment_mean(picture, coverage)
        assert names[int(np.linalg.norm(palette - mean, axis=1).argmin())] == name
        assert np.abs(mean - palette[number]).max() < 60


def test_patterns_differ_from_each_other_and_print_a_second_colour() -> None:
    drawn = {}
    for pattern in PATTERNS:
        picture, coverage = draw_garment("t-shirt", "red", pattern, 96, 0.0, np.random.default_rng(3))
        green = np.asarray(picture, dtype=np.float64)[:, :, 1]
        drawn[pattern] = np.mean(green[coverage > 0.99] > 130)
        assert (drawn[pattern] > 0.05) == (pattern != "plain"), pattern
    assert all(share < 0.55 for share in drawn.values())  # the named colour stays the main one


def silhouette(kind: str, seed: int) -> np.ndarray:
    _, coverage = draw_garment(kind, "red", "plain", 48, 0.0, np.random.default_rng(seed))
    rows, columns = np.nonzero(coverage > 0.5)
    cropped = Image.fromarray(coverage[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    return np.append(np.asarray(cropped.resize((12, 12))).ravel(), 3 * np.ptp(rows) / np.ptp(columns))


def test_kind_can_be_told_from_the_silhouette() -> None:
    known = [(kind, silhouette(kind, seed)) for kind in SHAPES for seed in range(12)]
    vectors = np.array([vector for _, vector in known])
    right = [
        known[int(np.linalg.norm(vectors - silhouette(kind, seed), axis=1).argmin())][0] == kind
        for kind in SHAPES
        for seed in range(100, 108)
    ]
    assert np.mean(right) > 0.85  # 1/12 by chance


@pytest.mark.parametrize("kind", SHAPES)
def test_the_garment_fills_the_picture_and_stays_inside(kind: str) -> None:
    for seed in range(12):
        _, coverage = draw_garment(kind, "blue", "plain", 48, 0.0, np.random.default_rng(seed))
        assert 0.08 < coverage.mean() < 0.6
        border = np.concatenate([coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]])
        assert border.mean() < 0.1


def test_clutter_changes_the_background_and_not_the_garment() -> None:
    calm, coverage = draw_garment("coat", "green", "plain", 96, 0.0, np.random.default_rng(5))
    busy, _ = draw_garment("coat", "green", "plain", 96, 1.0, np.random.default_rng(5))
    change = np.abs(np.asarray(calm, dtype=int) - np.asarray(busy, dtype=int)).max(axis=2)
    assert change[coverage == 1].max() == 0
    assert (change[coverage == 0] > 40).mean() > 0.01
