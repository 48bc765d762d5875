"""Words for garments: the values of every attribute, and a seller's text about an item that leaves some of them out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# For every attribute its values, and for every value the words that a text may use for it. As in real shops, some words
# of the visible attributes fit several values ("top", "printed", "dark"): the picture has to tell the rest.
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "kind": {
        "t-shirt": ("t-shirt", "tee", "top"),
        "shirt": ("shirt", "button-up", "top"),
        "jumper": ("jumper", "pullover", "top"),
        "coat": ("coat", "overcoat", "outer layer"),
        "dress": ("dress", "frock", "gown"),
        "skirt": ("skirt", "bottoms"),
        "trousers": ("trousers", "slacks", "bottoms"),
        "shorts": ("shorts", "bermudas", "bottoms"),
        "hat": ("hat", "headwear", "accessory"),
        "scarf": ("scarf", "neck wrap", "accessory"),
        "shoes": ("shoes", "footwear"),
        "bag": ("bag", "tote", "accessory"),
    },
    "colour": {
        "red": ("red", "crimson", "scarlet", "warm-toned"),
        "orange": ("orange", "tangerine", "warm-toned"),
        "yellow": ("yellow", "mustard", "warm-toned"),
        "green": ("green", "emerald", "cool-toned"),
        "blue": ("blue", "azure", "cool-toned"),
        "navy": ("navy", "midnight", "dark"),
        "purple": ("purple", "violet", "cool-toned"),
        "pink": ("pink", "rose", "pale"),
        "brown": ("brown", "chestnut", "dark"),
        "grey": ("grey", "slate", "neutral"),
        "black": ("black", "jet", "dark"),
        "white": ("white", "ivory", "pale"),
    },
    "pattern": {
        "plain": ("plain", "solid", "unpatterned"),
        "stripes": ("striped", "stripy", "patterned"),
        "dots": ("dotted", "polka-dot", "printed"),
        "checks": ("checked", "gingham", "patterned"),
        "floral": ("floral", "flowery", "printed"),
        "zigzag": ("zigzag", "chevron", "patterned"),
    },
    "material": {
        "cotton": ("cotton", "jersey"),
        "linen": ("linen", "flax"),
        "wool": ("wool", "merino"),
        "cashmere": ("cashmere", "goat-hair"),
        "silk": ("silk", "mulberry-silk"),
        "viscose": ("viscose", "rayon"),
        "polyester": ("polyester", "microfibre"),
        "denim": ("denim", "jean-cloth"),
        "corduroy": ("corduroy", "needlecord"),
        "leather": ("leather", "calfskin"),
        "canvas": ("canvas", "duck-cloth"),
        "straw": ("straw", "raffia"),
    },
    "style": {
        "classic": ("classic", "timeless", "traditional"),
        "casual": ("casual", "relaxed", "laid-back"),
        "sporty": ("sporty", "athletic", "active"),
        "bohemian": ("bohemian", "boho", "free-spirited"),
        "street": ("street", "urban", "skater-style"),
        "elegant": ("elegant", "refined", "dressy"),
        "vintage": ("vintage", "retro", "old-school"),
        "outdoor": ("outdoor", "rugged", "all-weather"),
    },
    "brand": {
        name: (name,)
        for name in (
            "Aldermoor",
            "Brindlewick",
            "Casa Velluna",
            "Dovrefell",
            "Ester Quill",
            "Fjordhane",
            "Grindstone Row",
            "Halcyra",
            "Kestrelby",
            "Lumenoire",
            "Ottavine",
            "Tamberlo",
        )
    },
}
ATTRIBUTES = tuple(WORDS)

TITLE_ORDER = ("style", "colour", "pattern", "material")
NOUNS = ("piece", "essential", "find", "favourite", "bestseller")  # in a title that does not tell the kind

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "kind": ("Listed under: {}.", "Department: {}.", "You will find it next to our other {} finds."),
    "colour": ("The shade is {}.", "Colour: {}.", "In daylight it looks {}."),
    "pattern": ("The surface is {}.", "Seen up close it is {}.", "Design: {}."),
    "material": ("Made of {}.", "Main fabric: {}.", "Cut from {} that lasts.", "The {} feels better with every wear."),
    "style": ("The mood is {}.", "For {} days.", "It looks {} without trying.", "Rather {}, and proud of it."),
    "brand": ("Designed by {}.", "From the new {} collection.", "{} stands behind every seam.", "Only at {}."),
}
FILLERS = (
    "True to size; take one up if you like room.",
    "Free returns within thirty days.",
    "The person in our studio is 178 cm tall and takes size M.",
    "Goes with almost everything you own.",
    "Shipped in paper.",
    "Customers praise the fit.",
    "Back again after it sold out twice.",
    "See the size chart before you order.",
    "Made in small batches.",
    "Follow the care label.",
    "A present that is always welcome.",
    "Photographed by hand, so shades may differ a little on your screen.",
)


def _one(options: tuple[str, ...], generator: np.random.Generator) -> str:
    return options[int(generator.integers(len(options)))]


def describe(values: Mapping[str, str], dropout: float, generator: np.random.Generator) -> tuple[str, str]:
    """Write title and description of one item.

    Every attribute is left out with chance `dropout`. Another stands in the title or in the description, or in both,
    and by any of its words. Sentences that say nothing about the item are mixed in.

    Args:
        values: The value of every attribute in `WORDS`.
        dropout: Chance of an attribute to be told nowhere.
        generator: Source of chance.

    Returns:
        Title and description, neither of them empty.
    """
    told = [attribute for attribute in WORDS if generator.random() >= dropout]
    in_title = {attribute for attribute in told if generator.random() < 0.5}
    sentences = []
    for attribute in told:
        if attribute not in in_title or generator.random() < 0.25:
            word = _one(WORDS[attribute][values[attribute]], generator)
            sentences.append(_one(SENTENCES[attribute], generator).format(word))
    fillers = max(int(generator.integers(3)), 0 if sentences else 1)
    sentences += generator.choice(FILLERS, size=fillers, replace=False).tolist()

    word_of = {attribute: _one(WORDS[attribute][values[attribute]], generator) for attribute in told}
    parts = [word_of[attribute] for attribute in TITLE_ORDER if attribute in in_title]
    parts.append(word_of["kind"] if "kind" in in_title else _one(NOUNS, generator))
    if "brand" in in_title:
        parts = [word_of["brand"], *parts] if generator.random() < 0.5 else [*parts, "by", word_of["brand"]]
    title = " ".join(parts)
    return title[0].upper() + title[1:], " ".join(generator.permutation(sentences).tolist())
