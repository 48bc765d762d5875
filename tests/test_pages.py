"""Pages of HTML: every link leads somewhere, nothing is fetched, a missing notebook is named, the same bytes twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml
from PIL import Image

from motorec import paths
from motorec.config import load_run
from motorec.errors import DataError, MotorecError
from motorec.reporting import pages
from motorec.reporting.runs import expected_runs
from motorec.reporting.webpage import Writer, formula, with_words_marked

ROOT = Path(__file__).parent.parent
RUN = {
    "datasets": ["garments", "ml-100k"],
    "sources": [],
    "with_truth": ["garments"],
    "shown": ["hm"],
    "closed_form": ["popularity"],
    "models": ["lightgcn"],
    "token_models": ["motorec"],
    "seeds": [1, 2],
    "ablation_datasets": ["garments"],
    "ablation_seeds": [2],
    "ablations": ["motorec-no-rqvae"],
    "ablation_reports": ["garments"],
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="


class Tags(HTMLParser):
    """The attributes of every element of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> Iterator[str]:
        for tag, values in self.tags:
            if tag == "a" and values.get("href"):
                yield str(values["href"])


def execute(name: str, dataset: str, values: dict[str, Any]) -> dict[str, Any]:
    """A notebook as the runner would leave it: parameters put in, a picture and a finding at its end."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    place = next(i for i, cell in enumerate(notebook["cells"]) if cell["metadata"].get("tags") == ["parameters"])
    injected = {"cell_type": "code", "execution_count": 1, "outputs": [], "metadata": {"tags": ["injected-parameters"]}}
    source = f"dataset = {dataset!r}\n" + "".join(f"{key} = {value!r}\n" for key, value in values.items())
    notebook["cells"].insert(place + 1, injected | {"id": "parameters-3", "source": source})
    picture = {"image/png": PIXEL, "text/plain": "<Figure>"}
    finding = {"text/markdown": "**What it shows.** 38% are cold: see [06 · report](06_report.ipynb)."}
    for data in (picture, finding):
        output = {"output_type": "display_data", "metadata": {}, "data": data}
        notebook["cells"][-1]["outputs"].append(output)
    return dict(notebook)


def write_all() -> None:
    for dataset in RUN["datasets"]:
        pages.write_dataset(str(dataset))
    pages.write_first()


def read_all(project: Path) -> dict[str, str]:
    folder = project / "data" / "pages"
    return {
        file.relative_to(folder).as_posix(): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose notebooks are all run."""
    folder = tmp_path_factory.mktemp("template")
    for name in ("params", "notebooks"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "params" / "run.yaml").write_text(yaml.safe_dump(RUN))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for dataset in RUN["datasets"]:
            row = {"dataset": dataset, "users": 2000, "items": 800, "interactions": 19872, "cold_items_share": 0.385}
            paths.write_whole(paths.joint(dataset) / "statistics.csv", pd.DataFrame([row]).to_csv(index=False))
            for page in pages.Walk(dataset, load_run()).pages:
                values = {"model": page.run.model} if page.run else {}
                values |= {"seed": page.seed} if page.seed else {}
                file = paths.notebooks(dataset) / f"{page.name}.ipynb"
                paths.write_whole(file, json.dumps(execute(page.step, dataset, values)))
            for place, run in enumerate(expected_runs(load_run(), dataset)):
                names = [f"{split}/{group}/{m}@20" for split in ("valid", "test") for group in ("all", "cold")
                         for m in ("recall", "ndcg")]  # fmt: skip
                values = dict.fromkeys(names, 0.01 * place + 0.1)
                values |= {f"test/{group}/users": 90.0 for group in ("all", "cold")}
                paths.write_whole(run.metrics_file, json.dumps(values))
        (paths.figures()).mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(paths.figures() / "summary.png")
        for file in ("README.md", *(f"docs/{name}.md" for name in ("fidelity", "tokenbridge", "comparison", "mlflow"))):
            paths.write_whole(folder / file, "text")
        for name in ("sensitivity", "tuning", "readable"):
            paths.write_whole(folder / "results" / name / "garments.md", "text")
        paths.write_whole(folder / "results" / "efficiency" / "hm.md", "text")
        Image.new("RGB", (4, 3)).save(folder / "results" / "efficiency" / "hm.png")
        for file in ("overall.md", "cold.md"):
            paths.write_whole(paths.tables() / "hm" / file, "text")
        paths.write_whole(paths.root() / "results" / "ablations" / "garments" / "motorec.md", "text")
        write_all()
    return folder


@pytest.fixture(scope="module")
def html(template: Path) -> dict[str, str]:
    """All pages, by their place below data/pages."""
    return read_all(template)


@pytest.fixture
def made(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_every_link_leads_to_a_page_and_every_page_is_linked(template: Path, html: dict[str, str]):
    folder, reached = template / "data" / "pages", {"index.html"}
    for name, text in html.items():
        for link in Tags(text).links():
            if link.startswith("https://arxiv.org/"):
                continue
            target = ((folder / name).parent / link.partition("#")[0]).resolve()
            assert target.exists(), f"{name}: {link}"
            if target.is_relative_to(folder):
                reached.add(target.relative_to(folder).as_posix())
            else:  # a file of the checkout that is no page
                assert target.relative_to(template).parts[0] in ("README.md", "docs", "results"), f"{name}: {link}"
    assert reached == set(html)
    # An index for each and for all; 01, 02, 03 by seed, the runs, 06, 07; 05 on garments alone.
    assert len(html) == 1 + (1 + 2 + 2 + 7 + 2 + 1) + (1 + 2 + 2 + 5 + 2)


def test_links_stay_with_the_data_set_and_the_seed(html: dict[str, str]):
    second = set(Tags(html["garments/04_train-garments-lightgcn-2.html"]).links())
    assert {"03_tokenize-garments-2.html", "05_ablations-garments.html", "06_report-garments.html"} <= second
    assert "03_tokenize-garments-1.html" not in second
    # Of the trainings, a link leads to the reference model; one to a notebook that is not run leads to the index.
    films = list(Tags(html["ml-100k/03_tokenize-ml-100k-2.html"]).links())
    assert "04_train-ml-100k-motorec-2.html" in films
    assert not [link for link in films if "05_ablations" in link or "garments" in link]
    assert films.count("index.html") == 2  # the data set's, and in the place of 05


def test_nothing_is_fetched(html: dict[str, str]):
    for name, text in html.items():
        tags = Tags(text).tags
        assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object")], name
        for tag, values in tags:
            for attribute in ("src", "srcset", "data", "poster", "background"):
                assert (values.get(attribute) or "data:").startswith("data:"), f"{name}: {tag} {attribute}"
        assert "@import" not in text, name
        assert "url(" not in text, name


def test_a_page_has_its_title_its_question_and_its_finding(html: dict[str, str]):
    page = html["garments/04_train-garments-lightgcn-2.html"]
    assert "<title>04 · Train one model · Garments (planted) · LightGCN, seed 2</title>" in page
    text = " ".join(Tags(page).text.split())
    assert "Question. How well does this model rank, for each user, the items that were held back?" in text
    assert "38% are cold" in text
    assert "lightgcn" in text
    assert 'model = "motorec"' not in text  # the notebook's default, which was not used
    first = " ".join(Tags(html["index.html"]).text.split())
    assert "Who took what, how much of the catalogue is cold" in first
    assert "2,000 users, 800 items, 19,872 interactions; 38% of the items are cold" in first
    assert "make compare DATASET=hm" in first
    assert "<u>0.1" in html["index.html"]  # the headline table's second best


def test_the_grid_has_each_runs_number_and_its_page(template: Path, html: dict[str, str]):
    metrics = json.loads((template / "results/runs/garments/motorec-no-rqvae/2/metrics.json").read_text())
    value = f"{metrics['test/all/recall@20']:.4f}"
    assert f'<a href="garments/04_train-garments-motorec-no-rqvae-2.html">{value}</a>' in html["index.html"]


def test_a_model_that_was_left_out_says_so(made: Path):
    paths.write_whole(paths.run_results("ml-100k", "popularity", 1) / "metrics.json", '{"left_out": "No pictures."}')
    pages.write_dataset("ml-100k")
    html = (paths.pages("ml-100k") / "index.html").read_text()
    assert '<a href="04_train-ml-100k-popularity-1.html">left out</a>' in html


def test_pictures_are_named_by_the_heading_above_them(html: dict[str, str]):
    tags = Tags(html["garments/01_data-garments.html"]).tags
    names = [values["alt"] for tag, values in tags if tag == "img" and values.get("class") != "math"]
    assert names == ["Finding"]


def test_the_first_page_leads_to_all_results_and_documents():
    made_of = ("runs", "metrics", "joint")  # what others are made of, and what DVC reads
    results = [f"results/{path.name}" for path in (ROOT / "results").iterdir() if path.name not in made_of]
    documents = [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")]
    assert len(results) >= 7
    assert len(documents) >= 4
    for place in results + documents:
        assert f"]({pages.CHECKOUT}/{place})" in pages._elsewhere()


def test_the_first_page_shows_what_models_cost_where_that_is_known(made: Path, html: dict[str, str]):
    alts = [values.get("alt") for tag, values in Tags(html["index.html"]).tags if tag == "img"]
    assert alts.count("Accuracy and cost of every model") == 1
    assert "../../results/efficiency/hm.md" in Tags(html["index.html"]).links()
    shutil.rmtree(made / "results" / "efficiency")
    first = pages.write_first().read_text()
    assert "Accuracy and cost" not in first
    assert "../../results/efficiency/hm.md" not in Tags(first).links()
    assert "../../results/tables/hm/overall.md" in Tags(first).links()


def test_columns_of_words_are_marked_and_columns_of_numbers_are_not():
    frame = pd.DataFrame(
        {"name": ["a <b>", "7up"], "share": ["<0.1", "0.2"], "count": [-1.5, float("nan")], "there": [True, False]},
        index=pd.Index(["one", "two"], name="which"),
    )
    marked = with_words_marked(frame.to_html())
    assert [text for text in re.findall(r'<t[hd] class="words">(.*?)</t[hd]>', marked) if text] == (
        ["name", "there", "a &lt;b&gt;", "True", "7up", "False"]
    )
    assert marked.replace(' class="words"', "") == frame.to_html()
    assert with_words_marked(pd.DataFrame().to_html()) == pd.DataFrame().to_html()


def test_the_same_bytes_in_another_place(template: Path, made: Path, html: dict[str, str]):
    shutil.rmtree(paths.pages())
    write_all()
    assert read_all(made) == html
    assert not [name for name, text in html.items() if str(template) in text or "7.17" in text]


def test_a_missing_notebook_is_named_and_the_pages_before_are_kept(made: Path, capsys: pytest.CaptureFixture[str]):
    before = read_all(made)
    for name in ("04_train-garments-lightgcn-2", "06_report-garments"):
        (paths.notebooks("garments") / f"{name}.ipynb").unlink()
    with pytest.raises(DataError, match=r"garments/04_train-garments-lightgcn-2\.ipynb is missing.*\n.*06_report.*\n"):
        pages.write_dataset("garments")
    assert pages.main(["garments"]) == 1
    assert "`dvc repro`" in capsys.readouterr().err
    assert read_all(made) == before


def test_a_stray_notebook_is_not_looked_at(made: Path):
    (paths.notebooks("ml-100k") / "04_train-ml-100k-vbpr-1.ipynb").write_text("no notebook")
    pages.write_dataset("ml-100k")
    assert not [name for name in read_all(made) if "vbpr" in name]


def test_a_notebook_without_a_question_is_refused(made: Path):
    path = made / "notebooks" / "02_features.ipynb"
    path.write_text(path.read_text().replace("**Question.**", "**Aim.**"))
    with pytest.raises(DataError, match=r"notebooks/02_features\.ipynb: expected a heading and `\*\*Question"):
        pages.write_dataset("garments")


def test_formulas_are_drawn_and_keep_their_source():
    text = "Where $x_1 < 2$:\n\n$$\\frac{a}{b}\n= c$$"
    html = Writer().page(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="a")]), "t")
    shown = Tags(html)
    assert [values["alt"] for tag, values in shown.tags if tag == "img"] == ["x_1 < 2", r"\frac{a}{b} = c"]
    assert "$" not in shown.text
    with pytest.raises(MotorecError, match=r"cannot set the formula '\\\\nosuch\{x\}'.*mathtext"):
        formula(r"\nosuch{x}")


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_can_be_drawn(notebook: Path):
    html = Writer().page(nbformat.read(notebook, as_version=4), "t")
    assert "$" not in "".join(Tags(html).text.split("Parameters"))
