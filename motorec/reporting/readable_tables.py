"""Tables of the tokens that can be read: the numbers are `motorec.reporting.readable`'s, averaged over seeds here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from motorec.config import ReportSettings
from motorec.reporting import tables
from motorec.reporting.codebooks import MODALITIES
from motorec.tokenkinds import KINDS, OURS

if TYPE_CHECKING:
    from motorec.reporting.readable import Readable

WHOLE = {
    "mig": "MIG",
    "disentanglement": "Disentanglement",
    "completeness": "Completeness",
    "informativeness": "Informativeness",
}
COMPARED = {
    "ami/1": "AMI, level 1",
    "ami": "AMI, all levels",
    "reading/1": "Codes that read, level 1",
    "reading": "Codes that read, all levels",
    **WHOLE,
}


@dataclass(frozen=True)
class Table:
    """How a table is made: its numbers, what a reader sees of some of its rows, and the sentences above."""

    numbers: Callable[[Readable], pd.DataFrame]
    cells: Callable[[Readable, pd.DataFrame], dict[str, list[str]]]
    caption: Callable[[Readable], str]


def finished(cells: dict[str, list[str]], style: tables.Style) -> pd.DataFrame:
    """Cells and headings, written in Markdown or LaTeX."""
    return pd.DataFrame(cells).map(style.escape).rename(columns=style.escape)


def over_seeds(table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds of some measures and, beside each, its standard deviation as `<measure>_sd`."""
    grouped = table.groupby(list(keys), sort=False)
    found = grouped["seed"].nunique().rename("seeds").to_frame()
    for measure in measures:
        found[measure] = grouped[measure].mean()
        found[f"{measure}_sd"] = grouped[measure].std(ddof=1)
    return found.reset_index()


def rule(settings: ReportSettings) -> str:
    """When a code reads as a value, in words."""
    return (
        f"at least {100 * settings.readable_share:g}% of its items have it, they are at least "
        f"{settings.readable_items}, and that is more than chance (hypergeometric, false discovery rate "
        f"{settings.alpha:g} over a level's codes and attributes)"
    )


def difference(row: pd.Series) -> str:
    """A difference of `Readable.comparison` and its interval, in words."""
    if np.isnan(row["difference"]):
        return "–"
    if np.isnan(row["low"]):
        return signed(row["difference"])
    return f"{signed(row['difference'])} ({signed(row['low'])} to {signed(row['high'])})"


def signed(value: float) -> str:
    """A number with its sign; what rounds to zero has none."""
    text = f"{value:+.3f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "−")


def _plain(value: float) -> str:
    if np.isnan(value):
        return "–"
    text = f"{value:.3f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def _spread(table: pd.DataFrame, measure: str) -> list[str]:
    return [
        _plain(mean) if np.isnan(sd) else f"{_plain(mean)} ± {sd:.3f}"
        for mean, sd in zip(table[measure], table[f"{measure}_sd"], strict=True)
    ]


def _modality(table: pd.DataFrame) -> list[str]:
    return [MODALITIES.get(name, name) for name in table["modality"]]


def _words(table: pd.DataFrame, column: str) -> list[str]:
    return [str(value) for value in table[column]]


def _kind(table: pd.DataFrame) -> list[str]:
    return [KINDS[kind] for kind in table["kind"]]


def _attribute_cells(results: Readable, table: pd.DataFrame) -> dict[str, list[str]]:
    by_kind = {kind: table[table["kind"] == kind] for kind in results.kinds}
    ours = by_kind[OURS]
    return {
        "Modality": _modality(ours),
        "Level": _words(ours, "level"),
        "Attribute": _words(ours, "attribute"),
        "Purity": _spread(ours, "purity"),
        "By chance": [_plain(value) for value in ours["chance"]],
        "NMI": _spread(ours, "nmi"),
        **{f"AMI: {KINDS[kind]}": _spread(here, "ami") for kind, here in by_kind.items()},
    }


def _level_cells(_: Readable, table: pd.DataFrame) -> dict[str, list[str]]:
    return {
        "Codes": _kind(table),
        "Modality": _modality(table),
        "Level": _words(table, "level"),
        "Seeds": _words(table, "seeds"),
        "In use": [f"{value:.1f}" for value in table["codes"]],
        "Codes that read": _spread(table, "reading"),
        "Items under them": _spread(table, "items_reading"),
        "Items with another code": _spread(table, "moved"),
    }


def _whole_cells(_: Readable, table: pd.DataFrame) -> dict[str, list[str]]:
    return {
        "Codes": _kind(table),
        "Modality": _modality(table),
        "Seeds": _words(table, "seeds"),
        **{title: _spread(table, measure) for measure, title in WHOLE.items()},
    }


def _comparison_cells(_: Readable, table: pd.DataFrame) -> dict[str, list[str]]:
    by_kind = {kind: table[table["kind"] == kind] for kind in table["kind"].unique()}
    first = next(iter(by_kind.values()))
    return {
        "Modality": _modality(first),
        "Measure": [COMPARED[name] for name in first["measure"]],
        KINDS[OURS]: [_plain(value) for value in first["ours"]],
        **{f"less {KINDS[kind]}": [difference(row) for _, row in here.iterrows()] for kind, here in by_kind.items()},
    }


def _token_cells(results: Readable, table: pd.DataFrame) -> dict[str, list[str]]:
    shown = results.shown
    shown = shown[shown["modality"].isin(table["modality"].unique())]
    return {
        "Modality": _modality(shown),
        "Readable": _words(shown, "readable"),
        "Level": _words(shown, "level"),
        "Code": _words(shown, "code"),
        "Items": _words(shown, "items"),
        "Attribute": _words(shown, "attribute"),
        "Value": _words(shown, "value"),
        "Purity": [_plain(value) for value in shown["purity"]],
        "By chance": [_plain(value) for value in shown["chance"]],
        "Base rate": [_plain(value) for value in shown["base"]],
        "Lift": [f"{value:.1f}" for value in shown["lift"]],
        "Reads": ["yes" if reads else "no" for reads in shown["reads"]],
    }


def _first_tokens(results: Readable) -> pd.DataFrame:
    table = results.every_code
    return table[(table["seed"] == results.seeds[0]) & (table["kind"] == OURS)].drop(columns=["seed", "kind"])


SEEDS = "mean ± standard deviation over seeds"

TABLES = MappingProxyType(
    {
        "attributes": Table(
            lambda results: over_seeds(
                results.by_seed,
                ["kind", "modality", "level", "attribute"],
                ["purity", "chance", "adjusted", "nmi", "ami"],
            ),
            _attribute_cells,
            lambda results: (
                f"{results.title}: what each level's codes tell of each attribute; {SEEDS}. Purity, what it would be "
                "by chance, and mutual information as a share of the attribute's entropy (NMI) are of the pretrained "
                "RQ-VAE; adjusted for chance (AMI) it stands for every kind: 0 is chance, 1 is told for certain."
            ),
        ),
        "levels": Table(
            lambda results: over_seeds(
                results.reading_by_seed, ["kind", "modality", "level"], ["codes", "reading", "items_reading", "moved"]
            ),
            _level_cells,
            lambda results: (
                f"{results.title}: share of the codes in use that read as a value of an attribute, and of the items "
                f"under them; {SEEDS}. A code reads as a value if {rule(results.settings)}. Items have another "
                "code than by the same seed's pretrained tokenizer."
            ),
        ),
        "disentanglement": Table(
            lambda results: over_seeds(results.whole_by_seed, ["kind", "modality"], list(WHOLE)),
            _whole_cells,
            lambda results: (
                f"{results.title}: are attributes apart in the levels? Mutual information gap and DCI with the levels "
                f"for latents; {SEEDS}. Informativeness is the share of the attributes' variance that all levels "
                "together predict of items left out; where there is none, the other two have nothing to divide."
            ),
        ),
        "comparison": Table(
            lambda results: pd.concat(
                [results.comparison(kind) for kind in results.kinds if kind != OURS], ignore_index=True
            ),
            _comparison_cells,
            lambda results: (
                f"{results.title}: the pretrained RQ-VAE's codes, and what they have more than the others, with the "
                f"{100 * (1 - results.settings.alpha):g}% interval of a paired t-test over {len(results.seeds)} seeds, "
                "uncorrected. AMI is a mean over attributes."
            ),
        ),
        "tokens": Table(
            _first_tokens,
            _token_cells,
            lambda results: (
                f"{results.title}: the most and the least readable tokens of the pretrained RQ-VAE, seed "
                f"{results.seeds[0]}, each at the attribute of which it is purest beyond chance; the CSV file has all "
                "its codes at all attributes, and no other seed or kind of codes. A code reads as a value "
                f"if {rule(results.settings)}."
            ),
        ),
    }
)
"""All tables, in the order of the page."""
