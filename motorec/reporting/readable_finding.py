"""What the numbers of `motorec.reporting.readable` say, in sentences that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from motorec.reporting.codebooks import MODALITIES
from motorec.reporting.readable_tables import WHOLE, difference, rule
from motorec.tokenkinds import JOINT, KINDS, OURS

if TYPE_CHECKING:
    from motorec.reporting.readable import Readable


def finding(results: Readable) -> str:
    """The finding, as a Markdown list: the verdict, and for each modality what it rests on."""
    points = [verdict(results)]
    for modality in results.modalities:
        points += [_reading(results, modality), _told(results, modality)]
        points += [
            _against(results, modality, kind) for kind in results.kinds if kind in (JOINT, "kmeans", "no-sparsity")
        ]
    points.append(_apart(results))
    if len(results.seeds) > 1:
        share = f"{100 * (1 - results.settings.alpha):g}%"
        points.append(f"**Intervals**: {share}, paired over {len(results.seeds)} seeds, uncorrected for their number.")
    given = [f"`{one.name}`" for one in results.attributes if one.name in results.in_text]
    if given:
        points.append(f"**Given**: the items' texts hold {' and '.join(given)} word for word.")
    return "\n".join(f"- {point}" for point in points)


def verdict(results: Readable) -> str:
    """Whether pretrained tokens read as a value: most of them, some only, or no more than by chance; of each modality.

    Judged are the codes of the first level; the share of the others, and of all, stands beside it. More than by chance
    is more than codes dealt out at random in every seed. What MoToRec makes of them, training the tokenizers on, is
    told behind it.
    """
    words = []
    for modality in results.modalities:
        table = results.reading_by_seed
        table = table[table["modality"] == modality]
        first = table[table["level"] == 1].set_index("seed")
        ours, dealt = (first.loc[first["kind"] == kind, "reading"] for kind in (OURS, "random"))
        how = "most do" if ours.mean() >= 0.5 else "some do, most do not"
        how = how if (ours > dealt).all() else "no more than by chance"
        below = table[(table["kind"] == OURS) & (table["level"] > 1)].groupby("level")["reading"].mean()
        every = _row(results.comparison("random"), modality=modality, measure="reading")["ours"]
        rest = f", of those below {', '.join(map(_percent, below))}; {_percent(every)} of all" if len(below) else ""
        words.append(f"{MODALITIES[modality]}, {how}: {_percent(ours.mean())} of the first level's codes{rest}")
    told = f"A code reads as a value if {rule(results.settings)}."
    asked = "**Do pretrained tokens of the first level read as a value of an attribute?**"
    return f"{asked} Of {'. Of '.join(words)}. {told} {_later(results)}"


def _later(results: Readable) -> str:
    """What is left of it once MoToRec has trained the tokenizers on."""
    if JOINT not in results.kinds:
        return "What training together with a recommender makes of them is not measured here."
    table = results.table("levels")
    words = []
    for modality in results.modalities:
        before, after = (_row(table, modality=modality, level=1, kind=kind)["reading"] for kind in (OURS, JOINT))
        words.append(f"of {MODALITIES[modality]} {_percent(after)} (before: {_percent(before)})")
    return f"Once MoToRec has trained the tokenizers on, of the first level's codes {', '.join(words)} do."


def _reading(results: Readable, modality: str) -> str:
    table = results.table("levels")
    shares = []
    for kind in results.kinds:
        row = _row(table, modality=modality, level=1, kind=kind)
        spread = "" if pd.isna(row["reading_sd"]) else f" ± {100 * row['reading_sd']:.0f}"
        shares.append(f"{KINDS[kind]} {_percent(row['reading'])}{spread}")
    return f"**{MODALITIES[modality].capitalize()}, level 1**, codes that read: {', '.join(shares)}."


def _told(results: Readable, modality: str) -> str:
    table = results.table("attributes")
    table = table[(table["modality"] == modality) & table["ami"].notna()]
    words = []
    for level, here in table.groupby("level"):
        ours = here[here["kind"] == OURS]
        best = ours.sort_values("ami", ascending=False, kind="stable").iloc[0]
        others = [
            f"{KINDS[kind]} {_two(_row(here, kind=kind, attribute=best['attribute'])['ami'])}"
            for kind in results.kinds
            if kind != OURS
        ]
        words.append(f"level {level} most of `{best['attribute']}`, AMI {_two(best['ami'])} ({', '.join(others)})")
    return f"**What {MODALITIES[modality]} tell**: {'; '.join(words)}."


def _against(results: Readable, modality: str, kind: str) -> str:
    """The difference to another kind of codes, and whether it is more than the spread of seeds."""
    words = []
    for measure, name in (("ami", "mean AMI"), ("reading", "share of codes that read")):
        row = _row(results.comparison(kind), modality=modality, measure=measure)
        words.append(f"{name} {difference(row)}, {_judged(row)}")
    return f"**{MODALITIES[modality].capitalize()}, pretrained less {KINDS[kind]}**, all levels: {'; '.join(words)}."


def _judged(row: pd.Series) -> str:
    if pd.isna(row["low"]):
        return "which one seed cannot judge"
    if row["low"] > 0 or row["high"] < 0:
        return "more than the spread of seeds"
    return "within the spread of seeds"


def _apart(results: Readable) -> str:
    table = results.table("disentanglement")
    last = table["modality"].iloc[-1]
    words = []
    for kind in results.kinds:
        row = _row(table, kind=kind, modality=last)
        words.append(f"{KINDS[kind]} {', '.join(_two(row[measure]) for measure in WHOLE)}")
    return f"**A level for an attribute?** {', '.join(WHOLE.values())} of all levels together: {'; '.join(words)}."


def _row(table: pd.DataFrame, **where: object) -> pd.Series:
    """The one row whose columns have these values."""
    chosen = table
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    (place,) = chosen.index
    return table.loc[place]


def _percent(value: float) -> str:
    return "–" if pd.isna(value) else f"{100 * value:.0f}%"


def _two(value: float) -> str:
    text = f"{value:.2f}"
    return "–" if pd.isna(value) else (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")
