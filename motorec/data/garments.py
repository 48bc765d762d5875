"""A planted catalogue: garments whose attributes, and users whose tastes, are known because we drew them.

Every item has six attributes. Its picture (`garment_pictures`) is drawn from kind, colour and pattern; its text
(`garment_texts`) tells material, style and brand, and the rest in looser words; so each modality knows a part. A user
likes some values of each attribute. What a user interacts with is drawn without replacement from

    P(item | user) = softmax over items of  taste * match(user, item) + popularity * log_popularity(item).

No model can rank better on average than by this utility: it is the oracle in every table. Brand names are invented.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from motorec import paths
from motorec.config import GarmentsSettings
from motorec.data.garment_pictures import draw_garment
from motorec.data.garment_texts import WORDS, describe
from motorec.progress import progress
from motorec.seeding import numpy_generator

MIN_INTERACTIONS = 5  # of every user

MATERIALS_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "t-shirt": ("cotton", "linen", "viscose", "polyester", "silk"),
    "shirt": ("cotton", "linen", "silk", "denim", "viscose", "corduroy"),
    "jumper": ("wool", "cashmere", "cotton", "polyester", "viscose"),
    "coat": ("wool", "cashmere", "leather", "polyester", "canvas", "denim", "corduroy"),
    "dress": ("cotton", "linen", "silk", "viscose", "denim", "wool", "polyester"),
    "skirt": ("cotton", "linen", "silk", "denim", "leather", "wool", "corduroy", "viscose"),
    "trousers": ("cotton", "linen", "wool", "denim", "corduroy", "leather", "polyester"),
    "shorts": ("cotton", "linen", "denim", "polyester", "canvas", "corduroy"),
    "hat": ("wool", "straw", "cotton", "canvas", "corduroy", "cashmere"),
    "scarf": ("wool", "cashmere", "silk", "cotton", "viscose", "linen"),
    "shoes": ("leather", "canvas", "polyester", "denim", "straw"),
    "bag": ("leather", "canvas", "straw", "cotton", "denim", "polyester"),
}
MATERIALS_OF_STYLE: Mapping[str, tuple[str, ...]] = {
    "classic": ("wool", "cotton", "leather"),
    "casual": ("cotton", "denim", "linen"),
    "sporty": ("polyester", "cotton"),
    "bohemian": ("linen", "viscose", "straw"),
    "street": ("denim", "polyester", "canvas"),
    "elegant": ("silk", "cashmere", "wool"),
    "vintage": ("corduroy", "leather", "denim"),
    "outdoor": ("canvas", "polyester", "wool"),
}
COLOURS_OF_STYLE: Mapping[str, tuple[str, ...]] = {
    "classic": ("navy", "white", "grey"),
    "casual": ("blue", "grey", "green", "white"),
    "sporty": ("red", "blue", "black", "yellow"),
    "bohemian": ("orange", "purple", "pink"),
    "street": ("black", "grey", "yellow"),
    "elegant": ("black", "navy", "purple"),
    "vintage": ("brown", "orange", "green"),
    "outdoor": ("green", "brown", "red"),
}
PATTERNS_OF_STYLE: Mapping[str, tuple[str, ...]] = {
    "classic": ("plain", "stripes"),
    "casual": ("plain", "checks"),
    "sporty": ("plain", "stripes"),
    "bohemian": ("floral", "zigzag"),
    "street": ("plain", "zigzag"),
    "elegant": ("plain", "dots"),
    "vintage": ("dots", "checks", "floral"),
    "outdoor": ("plain", "checks"),
}

# How much each attribute weighs in a user's taste.
WEIGHTS: Mapping[str, float] = {
    "kind": 1.0,
    "colour": 1.0,
    "pattern": 0.8,
    "material": 0.8,
    "style": 1.0,
    "brand": 0.9,
}
SEGMENTS = 8
SEGMENT_SHARE = 0.4  # of a user's taste that is the segment's; the rest is personal


def _pick(generator: np.random.Generator, values: Sequence[str], favoured: Sequence[str], boost: float) -> str:
    """Draw one value, the favoured ones `boost` times as likely as the others."""
    weights = np.array([boost if value in favoured else 1.0 for value in values])
    return values[int(generator.choice(len(values), p=weights / weights.sum()))]


def draw_items(count: int, generator: np.random.Generator) -> pd.DataFrame:
    """Draw the attributes of `count` items.

    A brand prefers three styles, and a style some materials, colours and patterns; a kind comes in some materials only.

    Returns:
        One row per item: `item_id` and the six attributes.
    """
    values = {attribute: list(words) for attribute, words in WORDS.items()}
    styles_of_brand = {
        brand: generator.choice(values["style"], size=3, replace=False).tolist() for brand in values["brand"]
    }
    rows = []
    for number in range(count):
        kind = _pick(generator, values["kind"], (), 1.0)
        brand = _pick(generator, values["brand"], (), 1.0)
        style = _pick(generator, values["style"], styles_of_brand[brand], 5.0)
        rows.append(
            {
                "item_id": f"g{number + 1:04d}",
                "kind": kind,
                "colour": _pick(generator, values["colour"], COLOURS_OF_STYLE[style], 2.5),
                "pattern": _pick(generator, values["pattern"], PATTERNS_OF_STYLE[style], 2.5),
                "material": _pick(generator, MATERIALS_OF_KIND[kind], MATERIALS_OF_STYLE[style], 2.5),
                "style": style,
                "brand": brand,
            }
        )
    return pd.DataFrame(rows)


def draw_preferences(
    items: pd.DataFrame, settings: GarmentsSettings, generator: np.random.Generator
) -> Float[np.ndarray, "users items"]:
    """Draw what every user truly prefers: the utility of the module's docstring, larger is better.

    A taste is one non-negative number per user and attribute value. They are exponentially distributed, so that a user
    loves a few values and cares little for the rest. Tastes of users in one segment share a part.
    """
    segments = generator.integers(SEGMENTS, size=settings.users)
    match = np.zeros((settings.users, len(items)))
    for attribute, words in WORDS.items():
        values = list(words)
        of_segment = generator.exponential(size=(SEGMENTS, len(values)))
        personal = generator.exponential(size=(settings.users, len(values)))
        taste = SEGMENT_SHARE * of_segment[segments] + (1 - SEGMENT_SHARE) * personal
        match += WEIGHTS[attribute] * taste[:, [values.index(value) for value in items[attribute]]]
    match -= match.mean(axis=1, keepdims=True)
    match /= match.std(axis=1, keepdims=True)
    log_popularity = generator.standard_normal(len(items))
    return (settings.taste * match + settings.popularity * log_popularity).astype(np.float32)


def draw_interactions(
    preference: Float[np.ndarray, "users items"], mean: int, generator: np.random.Generator
) -> Bool[np.ndarray, "users items"]:
    """Draw who interacts with what: each user's items one after another, by softmax of what is preferred.

    The n largest of utility plus Gumbel noise are n draws without replacement from the softmax.

    Args:
        preference: Utilities.
        mean: Mean number of items per user; each user has `MIN_INTERACTIONS` at least.
        generator: Source of chance.
    """
    users, items = preference.shape
    more = generator.negative_binomial(2, 2 / (2 + mean - MIN_INTERACTIONS), size=users)
    counts = np.minimum(MIN_INTERACTIONS + more, items // 2)
    order = np.argsort(-(preference + generator.gumbel(size=preference.shape)), axis=1, kind="stable")
    chosen = np.zeros(preference.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.arange(items) < counts[:, None], axis=1)
    return chosen


def make_garments(settings: GarmentsSettings, folder: Path) -> None:
    """Generate the catalogue as a dataset folder, all files or none.

    The folder holds `items.jsonl` (item_id, title, description, the six attributes, image), `images/`,
    `interactions.csv` (user_id, item_id) and `truth.npz` (user_id, item_id, and preference: float32, users x items,
    larger is better). The same settings give the same bytes.

    Args:
        settings: Sizes, chances and the seed.
        folder: What to write; replaced where it exists.
    """
    items = draw_items(settings.items, numpy_generator(settings.seed, "garments", "items"))
    preference = draw_preferences(items, settings, numpy_generator(settings.seed, "garments", "users"))
    mean = settings.interactions_per_user
    chosen = draw_interactions(preference, mean, numpy_generator(settings.seed, "garments", "interactions"))
    user_ids = np.array([f"u{number + 1:04d}" for number in range(settings.users)])
    item_ids = np.array(items["item_id"].tolist())

    with paths.whole_folder(folder) as scratch:
        (scratch / "images").mkdir()
        lines = []
        for item in progress(items.to_dict("records"), "drawing garments"):
            # Each item has its own generators: a change to one item, or to how texts are written, leaves the rest.
            item_id = item["item_id"]
            values = {attribute: item[attribute] for attribute in WORDS}
            text_generator = numpy_generator(settings.seed, "garments", "text", item_id)
            title, description = describe(values, settings.text_dropout, text_generator)
            picture, _ = draw_garment(
                item["kind"],
                item["colour"],
                item["pattern"],
                settings.image_size,
                settings.clutter,
                numpy_generator(settings.seed, "garments", "picture", item_id),
            )
            image = f"images/{item_id}.png"
            picture.save(scratch / image)
            entry = {"item_id": item_id, "title": title, "description": description, **values, "image": image}
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
        (scratch / "items.jsonl").write_text("".join(lines), encoding="utf-8")

        users, columns = np.nonzero(chosen)
        interactions = pd.DataFrame({"user_id": user_ids[users], "item_id": item_ids[columns]})
        interactions.to_csv(scratch / "interactions.csv", index=False, lineterminator="\n")
        np.savez(scratch / "truth.npz", user_id=user_ids, item_id=item_ids, preference=preference)
