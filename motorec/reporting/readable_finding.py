"""What the numbers of `motorec.reporting.readable` say, in sentences that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from motorec.reporting.codebooks import MODALITIES
from motorec.reporting.readable_tables import difference, rule
from motorec.tokenkinds import KINDS, OURS

if TYPE_CHECKING:
    from motorec.reporting.readable import Readable


def finding(results: Readable) -> str:
    """The finding, as a Markdown list: the verdict, and for each modality what it rests on."""
    points = [verdict(results)]
    for modality in results.modalities:
        points += [_reading(results, modality), _told(results, modality)]
        points += [_against(results, modality, kind) for kind in results.kinds if kind in ("kmeans", "no-sparsity")]
    points.append(_apart(results))
    return "\n".join(f"- {point}" for point in points)


def verdict(results: Readable) -> str:
    """Whether tokens read as a value: most of them, some only, or no more than by chance; of each modality.

    Judged are the codes of the first level. "More" is by the interval over seeds, with one seed by the difference.
    """
    words = []
    for modality in results.modalities:
        gap = _row(results.comparison("random"), modality=modality, measure="reading/1")
        least = gap["difference"] if pd.isna(gap["low"]) else gap["low"]
        how = "no more than by chance" if least <= 0 else "most do" if gap["ours"] >= 0.5 else "some do, most do not"
        table = results.table("levels")
        below = table[(table["modality"] == modality) & (table["kind"] == OURS) & (table["level"] > 1)]["reading"]
        rest = f", of those below {', '.join(map(_percent, below))}" if len(below) else ""
        words.append(f"{MODALITIES[modality]}, {how}: of the first level's codes {_percent(gap['ours'])}{rest}")
    told = f"A code does if {rule(results.settings)}."
    return f"**Do tokens read as a value of an attribute?** Of {'; of '.join(words)}. {told}"


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
            f"{KINDS[kind]} {_row(here, kind=kind, attribute=best['attribute'])['ami']:.2f}"
            for kind in results.kinds
            if kind != OURS
        ]
        words.append(f"level {level} most of `{best['attribute']}`, AMI {best['ami']:.2f} ({', '.join(others)})")
    return f"**What {MODALITIES[modality]} tell**: {'; '.join(words)}."


def _against(results: Readable, modality: str, kind: str) -> str:
    """The difference to another kind of codes, and whether it is more than the spread of seeds."""
    words = []
    for measure, name in (("ami", "mean AMI"), ("reading", "share of codes that read")):
        row = _row(results.comparison(kind), modality=modality, measure=measure)
        words.append(f"{name} {difference(row)}, {_judged(row)}")
    return f"**{MODALITIES[modality].capitalize()}, RQ-VAE less {KINDS[kind]}**, all levels: {'; '.join(words)}."


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
        shares = f"disentanglement {row['disentanglement']:.2f}, informativeness {row['informativeness']:.2f}"
        words.append(f"{KINDS[kind]} MIG {row['mig']:.2f}, {shares}")
    return f"**A level for an attribute?** All levels together: {'; '.join(words)}."


def _row(table: pd.DataFrame, **where: object) -> pd.Series:
    """The one row whose columns have these values."""
    chosen = table
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    (place,) = chosen.index
    return table.loc[place]


def _percent(value: float) -> str:
    return "–" if pd.isna(value) else f"{100 * value:.0f}%"
