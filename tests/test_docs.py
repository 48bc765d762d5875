"""What the documents say: their links lead somewhere, and their figures are those of results/."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.stem)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    for target in targets:
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = (document.parent / file).resolve() if file else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_tests_that_the_fidelity_names_exist() -> None:
    named = re.findall(r"`(?:Test\w+::)?(test_\w+)`", (ROOT / "docs" / "fidelity.md").read_text())
    there = {name for file in (ROOT / "tests").glob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 30
    assert not set(named) - there


def rows(file: str) -> dict[str, tuple[float, float]]:
    with (ROOT / "results" / "tables" / "hm" / file).open() as stream:
        return {row["title"]: (float(row["recall@20"]), float(row["ndcg@20"])) for row in csv.DictReader(stream)}


def test_the_comparison_with_others_code_is_that_of_the_tables() -> None:
    """Our columns are those of results/, and the ratios are theirs to the lines measured beforehand."""
    overall, cold = rows("overall.csv"), rows("cold.csv")
    text = (ROOT / "docs" / "comparison.md").read_text()
    lines = text[text.index("| Measured beforehand") :].split("\n\n")[0].splitlines()[2:]
    title, compared = "", 0
    for line in lines:
        _, *measured, name, all_ours, cold_ours, all_ratio, cold_ratio = [
            cell.strip() for cell in line.split("|")[1:-1]
        ]
        title = name or title
        if title not in overall:
            continue
        for table, ours, theirs, ratio in (
            (overall, all_ours, measured[0], all_ratio),
            (cold, cold_ours, measured[1], cold_ratio),
        ):
            if name and ours != "0 0":
                assert ours.split() == [f"{value:.4f}".lstrip("0") for value in table[title]], line
            for value, base, share in zip(table[title], theirs.split(), ratio.strip("*").split(), strict=False):
                if share.endswith("%"):
                    digits = len(share.rstrip("%").partition(".")[2])
                    assert share == f"{100 * value / float(base):.{digits}f}%", line
                    compared += 1
    assert compared > 35
