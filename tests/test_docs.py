"""What the documents say: their links lead somewhere, and their figures are those of results/."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from motorec.reporting import attention

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


RESULTS = ROOT / "results"
DATASETS = {"H&M": "hm", "Garments": "garments", "ML-100k": "ml-100k"}


def read(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def rows(file: str, dataset: str = "hm") -> dict[str, tuple[float, float]]:
    table = read(RESULTS / "tables" / dataset / file)
    return {row["title"]: (float(row["recall@20"]), float(row["ndcg@20"])) for row in table}


def table_of(document: str, header: str) -> tuple[list[str], list[list[str]]]:
    """The columns and the rows, cell by cell, of the table whose first line begins so."""
    text = (ROOT / "docs" / document).read_text()
    lines = text[text.index(f"| {header}") :].split("\n\n")[0].splitlines()
    columns, _, *cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return columns, cells


def written(value: float, like: str) -> str:
    """A figure with as many decimals as another, as the documents write it: .0123, −.0123, +.0123."""
    sign = "−" if value < 0 else "+" if like.startswith(("+", "−")) else ""
    return f"{sign}{abs(value):.{len(like.partition('.')[2])}f}".replace("0.", ".", 1)


def place_of(column: str) -> tuple[str, bool]:
    """The data set and whether cold targets are meant, of a column such as "H&M, cold"."""
    return DATASETS[column.removesuffix(", cold")], column.endswith(", cold")


def test_the_fidelitys_table_of_models_is_that_of_the_tables() -> None:
    columns, lines = table_of("fidelity.md", "Recall@20, NDCG@20 |")
    compared = 0
    for title, *cells in lines:
        for column, cell in zip(columns[1:], cells, strict=True):
            if cell != "–":
                dataset, cold = place_of(column)
                values = rows("cold.csv" if cold else "overall.csv", dataset)[title]
                figures = cell.split(", ")
                assert figures == [written(value, like) for value, like in zip(values, figures, strict=True)], title
                compared += 1
    assert compared > 20


PARTS = {
    "RQ-VAE": "motorec-no-rqvae",
    "ARA": "motorec-no-ara",
    "sparsity": "motorec-no-sparsity",
    "contrastive loss": "motorec-no-contrastive",
    "hybrid fusion": "motorec-no-hybrid",
}


def check_differences(columns: list[str], cells: list[str], ablation: str) -> None:
    """A row of differences in NDCG@20 to the full model: the figures, what is bold, and what is not run."""
    for column, cell in zip(columns, cells, strict=True):
        if column.startswith("Paper"):
            continue
        dataset, cold = place_of(column)
        tested = {
            (row["model"], row["group"], row["metric"]): row
            for row in read(RESULTS / "ablations" / dataset / "motorec-significance.csv")
        }
        row = tested.get((ablation, "cold" if cold else "all", "ndcg@20"))
        if row is None:
            assert cell == "–", (ablation, column)
            continue
        figure = cell.strip("*")
        assert figure == written(float(row["difference"]), figure), (ablation, column)
        assert cell.startswith("**") == (row["significant"] == "True"), (ablation, column)


def test_the_fidelitys_table_of_parts_is_that_of_the_ablations() -> None:
    columns, lines = table_of("fidelity.md", "Without |")
    assert [line[0] for line in lines] == list(PARTS)
    for title, *cells in lines:
        check_differences(columns[1:], cells, PARTS[title])


def test_the_fidelitys_table_of_choices_is_that_of_the_ablations() -> None:
    columns, lines = table_of("fidelity.md", "Choice |")
    entries = yaml.safe_load((ROOT / "params" / "ablations.yaml").read_text())
    named = [cells[0].strip("`") for _, *cells in lines]
    mine = [name for name, entry in entries.items() if entry["base"] == "motorec"]
    assert named == [name for name in mine if name not in PARTS.values()]
    for _, name, *cells in lines:
        check_differences(columns[2:], cells, name.strip("`"))


KINDS = {
    "Pretrained": "rqvae",
    "Trained on by MoToRec": "joint",
    "Without sparsity": "no-sparsity",
    "Residual k-means": "kmeans",
    "Dealt at random": "random",
}


def test_the_fidelitys_table_of_codes_that_read_is_that_of_the_results() -> None:
    columns, lines = table_of("fidelity.md", "Codes that read, by level (1, 2, 3) |")
    assert len(lines) == 5
    for where, *cells in lines:
        title, _, rest = where.partition(", ")
        modality = {"pictures": "image", "texts": "text"}[rest.partition(" (")[0]]
        levels = read(RESULTS / "readable" / DATASETS[title] / "levels.csv")
        for column, cell in zip(columns[1:], cells, strict=True):
            here = [row for row in levels if (row["kind"], row["modality"]) == (KINDS[column], modality)]
            shares = [float(row["reading"]) for row in here]
            if set(shares) == {0.0}:
                assert cell == "0, 0, 0"
            else:
                assert cell == (", ".join(written(share, ".123") for share in shares) or "–"), (where, column)


BESIDE = {
    "nothing": "tokenbridge-linear",
    "a graph of plain IDs": "tokenbridge-ids",
    "a graph of tokens, dealt out to the wrong items": "tokenbridge-random",
    "a graph of nearest neighbours in features": "tokenbridge-neighbours",
    "a graph of tokens: TokenBridge": "tokenbridge",
}


def test_what_stands_beside_the_linear_part_is_that_of_the_ablations() -> None:
    table = {row["model"]: row for row in read(RESULTS / "ablations" / "hm" / "tokenbridge.csv")}
    keys = ("all/recall@20", "all/ndcg@20", "cold/recall@20", "cold/ndcg@20")
    for title, *cells in table_of("tokenbridge.md", "Beside the linear part")[1]:
        values = [float(table[BESIDE[title]][key]) for key in keys]
        assert cells == [written(value, like) for value, like in zip(values, cells, strict=True)], title


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


def attention_paid(dataset: str) -> list[dict[str, str]]:
    return read(RESULTS / "ablations" / dataset / "motorec-attention.csv")


def test_the_fidelitys_table_of_attention_is_that_of_the_runs() -> None:
    columns, lines = table_of("fidelity.md", "Attention to pictures |")
    assert [line[0] for line in lines] == ["MoToRec", *(f"without {part}" for part in PARTS if part != "hybrid fusion")]
    for title, *cells in lines:
        for column, cell in zip(columns[1:], cells, strict=True):
            model = PARTS.get(title.removeprefix("without "), "motorec")
            runs = [row for row in attention_paid(DATASETS[column]) if row["model"] == model]
            shares = sorted(float(row["warm/image"]) for row in runs)
            if not shares:
                assert cell == "–", (title, column)
                continue
            values = (sum(shares) / len(shares), shares[0], shares[-1])
            assert cell == "{:.2f} ({:.2f} to {:.2f})".format(*values).replace("0.", "."), (title, column)


def test_the_fidelitys_correlation_with_attention_is_that_of_the_runs() -> None:
    text = (ROOT / "docs" / "fidelity.md").read_text()
    sentence = r"Over these (\d+)\s+runs\s.*?\(correlation\s+(\S+);\s.*?\soff,\s+(\S+)\)"
    count, told, within = re.search(sentence, text, re.DOTALL).groups()  # type: ignore[union-attr]
    models = ["motorec", *PARTS.values()]
    table = pd.read_csv(RESULTS / "ablations" / "hm" / "motorec-attention.csv")
    found = [attention.correlations(table, models, apart)["all/recall@20"] for apart in (False, True)]
    assert int(count) == sum(table["model"].isin(models))
    assert [told, within] == [written(value, told) for value in found]
