"""Reports from fabricated runs: the right numbers, marks and bytes, and clear errors."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import latex
import numpy as np
import pandas as pd
import pytest
import yaml

from motorec import paths
from motorec.config import EvaluationSettings, load_profile, load_run, load_run_for
from motorec.data.dataset import Dataset
from motorec.errors import DataError, ParamsError
from motorec.evaluation.evaluate import bucket_names
from motorec.features import Features
from motorec.reporting import ablations, efficiency, embeddings, summary, tables
from motorec.reporting import attention as where
from motorec.reporting.report import TABLES, report
from motorec.reporting.runs import ExpectedRun, expected_runs, load_metrics

ROOT = Path(__file__).parent.parent
LEVEL = {"popularity": 0.05, "itemknn": 0.08, "freedom": 0.10, "lightgcn": 0.12, "motorec": 0.14, "oracle": 0.30}
METRICS = [f"{name}@{k}" for name in ("recall", "ndcg", "mrr", "hit_rate", "precision") for k in (10, 20)]
USERS = 60


PAPERS = ["no-rqvae", "no-ara", "literal-ara", "no-sparsity", "no-contrastive", "no-hybrid"]  # ablations of motorec
NO_ARA = "motorec-no-ara"


def fabricate(dataset: str, runs: list[ExpectedRun] | None = None) -> None:
    """Runs of everything that is asked for, or some others, each model at its own level."""
    for run in runs or expected_runs(load_run_for(dataset), dataset):
        generator = np.random.default_rng([run.seed, *run.model.encode()])
        level = LEVEL.get(run.model, 0.11)
        means: dict[str, float] = {}
        for split in ("valid", "test"):
            for group in ("all", "cold", "warm", *bucket_names(EvaluationSettings().degree_edges)):
                means[f"{split}/{group}/users"] = 50.0
                for metric in METRICS:
                    factor = 0.3 if group == "cold" else 1.0
                    spread = 0.0 if run.role == "oracle" else 0.004
                    means[f"{split}/{group}/{metric}"] = factor * (level + generator.normal(0, spread))
            means |= {f"{split}/all/coverage@20": 0.5, f"{split}/all/popularity@20": 31.25}
        if run.model.startswith("motorec") and run.model != "motorec-no-hybrid":
            means |= {"attention/warm/image": 0.1 * run.seed, "attention/warm/text": 1 - 0.1 * run.seed}
        write_metrics(dataset, run.model, run.seed, means)
        found = generator.random(2 * USERS) < 5 * level
        np.save(run.places_file, np.where(found, generator.integers(1, 21, 2 * USERS), 0).astype(np.uint8))
        folder = paths.run_data(dataset, run.model, run.seed)
        folder.mkdir(parents=True, exist_ok=True)
        epochs = np.arange(1, 31 + run.seed)
        history = pd.DataFrame({"epoch": epochs, "loss": 2 / epochs + 0.1, "bpr": 0.7 / np.sqrt(epochs)})
        history["valid/all/recall@20"] = np.where(epochs % 5 == 0, level * (1 - 1 / epochs), np.nan)
        if run.model.startswith("motorec"):
            history["contrastive"] = 0.9 / epochs**0.2
        history.to_csv(folder / "history.csv", index=False)


def write_metrics(dataset: str, model: str, seed: int, means: dict[str, float]) -> None:
    paths.write_whole(paths.run_results(dataset, model, seed) / "metrics.json", json.dumps(means))


def catalogue(dataset: str) -> None:
    degrees = np.random.default_rng(0).zipf(1.6, 80).clip(0, 200) - 1
    rows = [(user, item, "train") for item, degree in enumerate(degrees) for user in range(degree)]
    cold, warm = int(np.flatnonzero(degrees == 0)[0]), int(np.flatnonzero((degrees >= 10) & (degrees < 100))[0])
    rows += [(user, item, "test") for user in range(200 - USERS, 200) for item in (cold, warm)]
    interactions = pd.DataFrame(rows, columns=["user", "item", "split"])
    items = pd.DataFrame({"item_id": [str(item) for item in range(80)], "text": "", "image": ""})
    Dataset(dataset, items, [str(user) for user in range(200)], interactions).save(paths.catalogue(dataset))
    present = np.arange(80) > 2
    Features("text", "planted", np.ones((80, 4), dtype=np.float32), present).save(paths.features(dataset))


def tokenizers(dataset: str) -> None:
    """The health of every seed's codebooks: of four codes, three are used."""
    for seed in load_run_for(dataset).seeds:
        folder = paths.tokens(dataset, seed)
        levels = {f"used/{k}": 0.75 for k in (1, 2)} | {f"perplexity/{k}": 3.0 - 0.5 * k for k in (1, 2)}
        levels |= {f"{name}/{k}": 0.1 * k for k in (1, 2) for name in ("collisions", "explained", "kept_neighbours")}
        paths.write_whole(folder / "health.json", json.dumps({"text": levels | {"collisions": 0.2}}))
        paths.write_whole(folder / "text.json", json.dumps({"codebook_size": 4}))


def planted_vectors(run: ExpectedRun) -> np.ndarray:
    """Item embeddings in place of those of trained models, which these runs are not."""
    return np.random.default_rng([run.seed, *run.model.encode()]).normal(size=(80, 5))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose runs are all there, made once."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(ROOT / "params", folder / "params")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        change("report.yaml", resamples=200)
        for dataset in ("garments", "ml-100k"):
            fabricate(dataset)
            catalogue(dataset)
            tokenizers(dataset)
        change("profiles/ablations.yaml", seeds=[1, 2], ablation_seeds=[1, 2])
        variants = expected_runs(load_profile("ablations", "garments"), "garments")
        fabricate("garments", [run for run in variants if run.model.removeprefix("motorec-") in PAPERS])
        for dataset in ("garments", "ml-100k"):
            report(dataset).write_joint()
    (folder / "README.md").write_text(f"# Title\n\n{summary.BEGIN}\nstale\n{summary.END}\n\nThe rest.\n")
    return folder


@pytest.fixture
def made(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(embeddings, "item_vectors", planted_vectors)
    return folder


def change(file: str, **values: object) -> None:
    path = paths.root() / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def long(rows: list[tuple[str, str, int, str, str, float]]) -> pd.DataFrame:
    """Test metrics as `load_metrics` gives them: dataset, model, seed, group, metric, value."""
    frame = pd.DataFrame(rows, columns=["dataset", "model", "seed", "group", "metric", "value"])
    roles = {"oracle": "oracle", "part": "ablation"}
    return frame.assign(title=frame["model"], role=[roles.get(name, "model") for name in frame["model"]], split="test")


@pytest.mark.usefixtures("project")
def test_expected_runs_follow_the_settings():
    change(
        "run.yaml",
        seeds=[4, 5],
        ablation_datasets=["garments"],
        ablation_seeds=[],
        closed_form=["popularity"],
        content_models=["contentknn-text"],
        models=["bpr"],
        token_models=["motorec"],
        ablations=["motorec-no-ara"],
    )
    runs = [(run.model, run.seed, run.role) for run in expected_runs(load_run(), "garments")]
    assert runs == [
        ("popularity", 4, "model"),
        ("contentknn-text", 4, "model"),
        ("bpr", 4, "model"),
        ("bpr", 5, "model"),
        ("motorec", 4, "model"),
        ("motorec", 5, "model"),
        ("motorec-no-ara", 4, "ablation"),
        ("motorec-no-ara", 5, "ablation"),
        ("oracle", 4, "oracle"),
    ]
    # No truth is known of films, and no ablation is asked for.
    assert {run.role for run in expected_runs(load_run(), "ml-100k")} == {"model"}


def test_means_and_deviations_by_hand():
    rows = [("d", "a", seed, "all", "recall@20", value) for seed, value in ((1, 0.1), (2, 0.2), (3, 0.6))]
    rows += [("d", "b", 1, "all", "recall@20", 0.25), ("d", "oracle", 1, "all", "recall@20", 0.5)]
    rows += [("d", model, 1, "all", "users", 7.0) for model in ("a", "b", "oracle")]
    rows += [("e", "a", 1, "all", "recall@20", 0.4), ("d", "a", 1, "cold", "recall@20", 0.9)]
    rows += [("e", "a", 1, "all", "users", 9.0), ("d", "part", 1, "all", "recall@20", 0.9)]
    table = tables.group_table(long(rows), "all", ["recall@20"])
    assert table[["dataset", "model", "seeds", "users"]].to_numpy().tolist() == [
        ["d", "a", 3, 7],
        ["d", "b", 1, 7],
        ["d", "oracle", 1, 7],
        ["e", "a", 1, 9],
    ]
    np.testing.assert_allclose(table["recall@20"], [0.3, 0.25, 0.5, 0.4])
    np.testing.assert_allclose(table["recall@20_sd"], [0.07**0.5, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(table["recall@20_of_oracle"], [0.6, 0.5, 1.0, np.nan])


def test_ablations_are_told_as_differences_to_the_full_model():
    rows = [("d", "full", seed, group, "recall@20", 0.2 * seed) for seed in (1, 3) for group in ("all", "cold")]
    rows += [("d", "part", seed, group, "recall@20", 0.1 * seed) for seed in (1, 3) for group in ("all", "cold")]
    rows += [("e", "full", 1, "all", "recall@20", 0.5), ("d", "other", 1, "all", "recall@20", 0.7)]
    rows += [("d", "oracle", 1, group, "recall@20", 0.8) for group in ("all", "cold")]
    table = tables.ablation_table(long(rows), "full", ["recall@20"])
    assert table["model"].tolist() == ["full", "part"]  # nothing of data sets without ablations, no other model
    np.testing.assert_allclose(table["all/recall@20_diff"], [0.0, -0.2])
    np.testing.assert_allclose(table["cold/recall@20_sd"], [0.08**0.5, 0.02**0.5])
    np.testing.assert_allclose(table["all/recall@20_of_oracle"], [0.5, 0.25])


def cells(values: dict[str, list[float]], style: tables.Style = tables.MARKDOWN) -> list[str]:
    """One column of Markdown or LaTeX cells; models by name, seeds from 1."""
    rows = [
        ("d", name, seed, "all", "recall@20", v) for name, vs in values.items() for seed, v in enumerate(vs, start=1)
    ]
    table = tables.group_table(long(rows), "all")
    return tables.readable(table, ["recall@20"], {}, style)["Recall@20"].tolist()


def test_best_and_second_are_marked_and_the_oracle_is_not():
    values = {"a": [0.1], "b": [0.3, 0.3], "c": [0.2], "oracle": [0.9]}
    assert cells(values) == ["0.1000", "**0.3000 ± 0.0000**", "<u>0.2000</u>", "0.9000"]
    assert cells(values, tables.LATEX)[1:3] == [r"\textbf{0.3000 $\pm$ 0.0000}", r"\underline{0.2000}"]


def test_what_prints_alike_is_marked_alike():
    assert cells({"a": [0.30001], "b": [0.30004], "c": [0.2]}) == ["**0.3000**", "**0.3000**", "<u>0.2000</u>"]


def test_headline_metrics_come_first_and_ablations_keep_their_groups():
    rows = [("d", "a", 1, "all", f"{metric}@{k}", 0.1) for k in (10, 20) for metric in ("hit_rate", "ndcg", "recall")]
    table = tables.group_table(long(rows), "all")
    assert tables.columns_shown(table, ["recall@20", "ndcg@20"]) == ["recall@20", "ndcg@20", "hit_rate@20"]
    assert tables.columns_shown(table, ["ndcg@20", "recall@20"]) == ["ndcg@20", "recall@20", "hit_rate@20"]
    grouped = table.rename(columns={"ndcg@20": "all/ndcg@20", "recall@20": "cold/recall@20"})
    assert tables.columns_shown(grouped, ["recall@20"]) == ["hit_rate@20", "all/ndcg@20", "cold/recall@20"]


def test_each_data_set_has_its_own_best():
    rows = [("d", "a", 1, "all", "ndcg@20", 0.1), ("d", "b", 1, "all", "ndcg@20", 0.2)]
    rows += [("e", "a", 1, "all", "ndcg@20", 0.9), ("e", "b", 1, "all", "ndcg@20", 0.8)]
    table = tables.group_table(long(rows), "all")
    column = tables.readable(table, ["ndcg@20"], {}, tables.MARKDOWN)["NDCG@20"].tolist()
    assert column == ["<u>0.1000</u>", "**0.2000**", "**0.9000**", "<u>0.8000</u>"]


def test_latex_prints_special_characters_as_they_are():
    assert tables.escape_latex("50% of a_b & {#1} ± −2 \\") == (r"50\% of a\_b \& \{\#1\} $\pm$ $-$2 \textbackslash{}")
    table = tables.group_table(long([("d_1", "a", 1, "all", "hit_rate@20", 0.5)]), "all").assign(title="A & B_1")
    both = pd.concat([table, table.assign(dataset="e")])  # of one data set alone, the caption names it
    named = tables.readable(both, ["hit_rate@20"], {"d_1": "100% d_1"}, tables.LATEX)
    assert named["Data set"].tolist() == [r"100\% d\_1", "e"]
    shown = tables.readable(table, ["hit_rate@20"], {}, tables.LATEX)
    assert tables.to_latex(shown, "`a` is about 5%.", ["Not † here."]) == (
        "% Needs \\usepackage{booktabs,graphicx}.\n"
        "{\\noindent\\footnotesize \\texttt{a} is about 5\\%.\\par}\n"
        "{\\footnotesize\\setlength{\\tabcolsep}{3pt}%\n"
        "\\noindent\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        "\\begin{tabular}{lrr}\n\\toprule\n"
        "Model & Seeds & Hit rate@20 \\\\\n\\midrule\n"
        "A \\& B\\_1 & 1 & \\textbf{0.5000} \\\\\n\\bottomrule\n\\end{tabular}}\\par}\n"
        "{\\noindent\\footnotesize Not $^{\\dagger}$ here.\\par}\n"
    )


def test_latex_aligns_words_to_the_left_and_numbers_to_the_right():
    columns = {
        "Model": ["a", "b"],
        "Difference": ["$-$0.1", "--"],
        "p": ["$<$0.001", "0.2"],
        "Best": [r"\textbf{0.2} $^{\dagger}$", "0.1"],
        "Value": ["50s", "long"],
        "Significant": ["yes", "no"],
    }
    assert r"\begin{tabular}{lrrrll}" in tables.to_latex(pd.DataFrame(columns), "")


def test_a_latex_table_of_more_rows_than_a_page_comes_in_parts_with_the_heading():
    rows = pd.DataFrame({"Model": [f"m{n}" for n in range(100)], "Recall": "0.5"})
    text = tables.to_latex(rows, "Many.")
    latex.check(text, "tall")
    assert text.count("Model & Recall") == text.count(r"\begin{tabular}") == 3
    assert [text.count(f"m{n} &") for n in range(100)] == [1] * 100


def test_every_latex_table_would_compile(made: Path):
    fabricate("baby")
    for name in report("garments").table_names:
        report("garments").write_table(name)
    report("baby").write_table("paper")
    timings("lightgcn", 1, seconds_build=1, seconds_per_epoch=2, epochs=10, seconds_evaluate=1, parameters=1234567)
    efficiency.write("garments")
    ablations.write("garments")
    summary.main()
    files = sorted((made / "results").rglob("*.tex"))
    others = {"garments", "motorec", "motorec-significance", "motorec-attention"}  # the costs, and the ablations
    assert {file.stem for file in files} == {name for name in TABLES if not name.startswith("ablation")} | others
    for file in files:
        latex.check(file.read_text(), file.name)


def test_special_characters_in_titles_do_not_break_latex(made: Path):
    awkward = r"100% [a_b] & {c} #1 $x^2 ~ \ | <†> ±"
    change("data/garments.yaml", title=f"[{awkward}")
    change("models/lightgcn.yaml", title=f"*{awkward}")
    results = report("garments")
    for name in results.table_names:
        text = results.write_table(name).with_suffix(".tex").read_text()
        latex.check(text, name)
    rows = (made / "results/tables/garments/significance.tex").read_text()
    assert r"{}*100\% [a\_b] \& \{c\} \#1 \$x\textasciicircum{}2" in rows


@pytest.mark.parametrize("file", sorted((ROOT / "results").rglob("*.tex")), ids=lambda file: "-".join(file.parts[-3:]))
def test_the_latex_tables_in_git_would_compile(file: Path):
    latex.check(file.read_text(), file.name)


GOOD = "\n".join(
    [
        r"{\noindent\footnotesize A caption.\par}",
        latex.SMALL,
        latex.SHRUNK,
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a & b \\",
        r"\midrule",
        r"1 & $-$2\% \\",
        r"\bottomrule",
        r"\end{tabular}}\par}",
        "",
    ]
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1 &", "1 & 1 &", "3 cells"),
        ("b \\\\", "b_1 \\\\", "'_'"),
        ("\\%", "%", "'%'"),
        ("$-$2", "$-2", "dollar"),
        ("\\midrule\n", "", "rules"),
        ("\\end{tabular}}\\par}\n", "", "left open"),
        (latex.SHRUNK, "", "neither of a table"),
        (f"{latex.SHRUNK}\n", "", "wider than the page"),
        ("{\\noindent\\footnotesize A caption.\\par}", "\\par\\footnotesize A caption.", "ends what it sets"),
        ("caption", "† caption", "U\\+2020"),
        ("1 &", "{1 &", "brace"),
        ("1 &", "\\nosuch{1} &", "nosuch"),
        ("1 &", "− &", "U\\+2212"),
        ("1 &", "τ &", "U\\+03C4"),
        ("1 &", "[1] &", "argument"),
    ],
)
def test_the_check_of_latex_finds_what_would_not_compile(old: str, new: str, message: str):
    latex.check(GOOD, "good")
    assert old in GOOD
    with pytest.raises(AssertionError, match=message):
        latex.check(GOOD.replace(old, new), "bad")


def test_values_that_differ_significantly_are_marked(made: Path):
    results = report("garments")
    tests = results.table("significance").set_index(["model", "group", "metric"])["significant"]
    ours = results.table("significance-ours").set_index(["model", "group", "metric"])["significant"]
    for name, group in (("overall", "all"), ("cold", "cold")):
        text = results.markdown(name)
        assert "† differs from `motorec`, ‡ differs from `tokenbridge` (paired t-test over users, p < 0.05" in text
        rows = {row[2:].split(" | ")[0]: row[2:] for row in text.splitlines() if row.startswith("| ")}
        heads = rows["Model"].split(" | ")
        for run in results.models:
            cells = dict(zip(heads, rows[run.title].removesuffix(" |").split(" | "), strict=False))
            for metric, heading in (("recall@20", "Recall@20"), ("ndcg@20", "NDCG@20")):
                key = (run.model, group, metric)
                expected = "†" * bool(tests.get(key, False)) + "‡" * bool(ours.get(key, False))
                assert cells[heading].lstrip("*<u>/.0123456789±− ").strip() == expected, key
    assert tests["popularity"].all()
    assert "†" not in results.markdown("warm")  # not tested
    assert r"$^{\dagger}$" in results.write_table("overall").with_suffix(".tex").read_text()


def test_joint_tables_carry_the_marks_and_statistics_of_each_data_set(made: Path):
    fabricate("hm")
    change("run.yaml", shown=["hm"])
    summary.main()
    text = (made / "results/tables/statistics.md").read_text()
    assert "H&M, one week: not here yet" in text
    # An opt-in data set's numbers are in git, and its data are not here. Its tests may lack a column that came later.
    shutil.copytree(paths.joint("garments"), paths.joint("hm"))
    for file in paths.joint("hm").glob("significance*.csv"):
        pd.read_csv(file).drop(columns="p_seeds").to_csv(file, index=False)
    summary.main()
    table = pd.read_csv(made / "results/tables/statistics.csv")
    assert table["dataset"].tolist() == ["garments", "ml-100k", "hm"]
    assert "not here" not in (made / "results/tables/statistics.md").read_text()
    overall = (made / "results/tables/overall.md").read_text()
    assert "† differs from `motorec`, ‡ differs from `tokenbridge`" in overall
    assert all("†" in row for row in overall.splitlines() if "| Popularity |" in row)


def test_headline_metrics_are_means_over_seeds_and_leave_out_ablations(made: Path):
    for seed, value in ((1, 0.2), (2, 0.3), (3, 0.7)):
        file = paths.run_results("garments", "lightgcn", seed) / "metrics.json"
        values = json.loads(file.read_text()) | {"test/cold/recall@20": value}
        write_metrics("garments", "lightgcn", seed, values)
    (made / "results/metrics/gone").mkdir(parents=True)  # of a data set that is no longer there
    summary.main()
    files = sorted(paths.shown(file) for file in paths.headlines().rglob("*.json"))
    assert {Path(file).parent.name for file in files} == {"garments", "ml-100k"}
    assert not any("motorec-no" in file for file in files)
    found = json.loads((made / "results/metrics/garments/lightgcn.json").read_text())
    assert found["cold recall@20"] == pytest.approx(0.4)
    assert sorted(found) == ["all ndcg@20", "all recall@20", "cold ndcg@20", "cold recall@20"]


def test_joint_tables_without_a_report_name_the_remedy(made: Path):
    shutil.rmtree(paths.joint("ml-100k"))
    with pytest.raises(DataError, match=r"results/joint/ml-100k is missing: run the report stage"):
        summary.main()


def test_what_the_paper_reports_stands_beside_ours_unranked(made: Path):
    catalogue("baby")
    fabricate("baby")
    results = report("baby")
    assert "paper" in results.table_names
    assert "paper" not in report("garments").table_names
    table = results.table("paper").set_index("model")
    assert table.loc["motorec", ["all/recall@20_reported", "cold/ndcg@20_reported"]].tolist() == [0.1077, 0.0147]
    metrics = load_metrics([run for run in results.runs if run.model == "motorec"])
    mine = metrics.query("split == 'test' and group == 'all' and metric == 'recall@20'")["value"]
    assert table.loc["motorec", "all/recall@20"] == pytest.approx(mine.mean())
    assert table.loc["motorec", "seeds"] == len(load_run_for("baby").seeds)
    assert table.loc["lpic", "seeds"] == 0  # of others' models, only the paper's number
    ablation = [run for run in expected_runs(load_profile("ablations", "baby"), "baby") if run.model == NO_ARA]
    fabricate("baby", ablation[:-1])
    assert np.isnan(results.table("paper").set_index("model").loc[NO_ARA, "all/ndcg@20"])  # not all its seeds yet
    fabricate("baby", ablation)
    row = results.table("paper").set_index("model").loc[NO_ARA]
    values = [json.loads(run.metrics_file.read_text())["test/all/ndcg@20"] for run in ablation]
    assert row["all/ndcg@20"] == pytest.approx(np.mean(values))
    assert row[["title", "seeds", "all/ndcg@20_reported"]].tolist() == ["MoToRec without ARA", len(ablation), 0.0437]
    text = results.markdown("paper")
    assert "| MoToRec without hybrid fusion (sum) | – |" in text  # not run, and called by its name all the same
    assert "reported in the paper (arXiv 2602.11062, AAAI 2026), with other features" in text
    assert "| LPIC | – | – | 0.0977 | – | 0.0422 | – | – |" in text
    assert "**" not in text
    assert "<u>" not in text
    assert "LPIC" not in results.markdown("overall")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("reported", "hint"), [({"baby": {"lgmrek": {}}}, "'lgmrec'"), ({"babi": {"motorec": {}}}, "'baby'")]
)
def test_a_mistake_in_the_papers_numbers_names_the_nearest(reported: dict[str, object], hint: str):
    change("paper.yaml", reported=reported)
    with pytest.raises(ParamsError, match=hint):
        report("garments")


@pytest.mark.usefixtures("project")
def test_a_model_to_be_mapped_must_exist():
    change("report.yaml", mapped=["lightgnc"])
    with pytest.raises(ParamsError, match="'lightgcn'"):
        report("garments")


@pytest.mark.usefixtures("made")
def test_only_models_that_a_data_set_has_are_mapped_with_the_seeds_of_all():
    change("run.yaml", ablation_datasets=["garments"])
    mapped = {(run.model, run.seed) for run in report("garments").mapped}
    names = ("lightgcn", "motorec-no-rqvae", "motorec")
    assert mapped == {(name, seed) for name in names for seed in (1, 2)}  # the ablation has two seeds
    assert {(run.model, run.seed) for run in report("ml-100k").mapped} == {
        (name, seed) for name in ("lightgcn", "motorec") for seed in (1, 2, 3)
    }
    titles = [axis.get_title().replace("\n", " ") for axis in report("garments").figure("embeddings").axes]
    assert titles == ["LightGCN", "MoToRec without RQ-VAE (continuous latent)", "MoToRec"]
    told = [
        report(name).figure("embeddings").legends[0].get_title().get_text().split("\n")
        for name in ("garments", "ml-100k")
    ]
    assert told[0] == ["maps: seed 1; mixing: mean over seeds 1, 2"]
    assert told[1][1:] == ["no map of MoToRec without RQ-VAE (continuous latent), which is not run here"]
    change("report.yaml", mapped=[])
    results = report("garments")
    assert "mixing" not in results.table_names
    assert "embeddings" not in results.figure_names


def test_a_missing_run_is_named_with_its_remedy(made: Path):
    (made / "results/runs/garments/freedom/2/metrics.json").unlink()
    message = (
        r"results/runs/garments/freedom/2/metrics\.json is missing.*'freedom' on 'garments' with seed 2\. .*dvc repro"
    )
    with pytest.raises(DataError, match=message):
        report("garments").table("overall")
    with pytest.raises(DataError, match=message):
        summary.main()
    variants = ablations.ablation_report("garments", "motorec").table("ablation")
    assert len(variants) == 7  # needs no run of this model


def test_places_that_are_missing_or_of_other_data_are_named(made: Path):
    file = made / "results/runs/garments/lightgcn/3/test-places.npy"
    np.save(file, np.load(file)[1:])
    message = r"lightgcn/3/test-places\.npy: garments: 119 places for 120 interactions of the test split.* again"
    with pytest.raises(DataError, match=message):
        report("garments").table("significance")
    file.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"lightgcn/3/test-places\.npy: "):
        report("garments").table("significance")
    file.unlink()
    with pytest.raises(DataError, match=r"results/runs/garments/lightgcn/3/test-places\.npy is missing"):
        report("garments").table("significance")


def test_a_broken_metrics_file_is_named(made: Path):
    (made / "results/runs/garments/freedom/2/metrics.json").write_text('{"test/all/recall@20": ')
    with pytest.raises(DataError, match=r"freedom/2/metrics\.json: expected one flat mapping"):
        report("garments").table("overall")


@pytest.mark.usefixtures("made")
def test_a_stray_run_is_ignored():
    before = report("garments").table("overall")
    write_metrics("garments", "freedom", 99, {"test/all/recall@20": 1.0})
    write_metrics("garments", "stranger", 1, {"test/all/recall@20": 1.0})
    pd.testing.assert_frame_equal(before, report("garments").table("overall"))


def test_the_tables_of_tests_show_what_the_seeds_say(made: Path):
    results = report("garments")
    assert "p over seeds (Welch's t-test between the seeds' means" in results.markdown("significance")
    results.write_table("significance")
    written = pd.read_csv(made / "results/tables/garments/significance.csv").set_index("model")
    assert written.loc[["itemknn", "ease-features"], "p_seeds"].isna().all()  # no randomness, one run
    assert written.loc[["lightgcn", "freedom"], "p_seeds"].between(0, 1).all()
    table = results.table("significance").head(3).assign(p_seeds=[np.nan, 2e-5, 0.1037])
    assert tables.significance_cells(table, {}, tables.MARKDOWN)["p over seeds"].tolist() == ["–", "<0.001", "0.104"]


@pytest.mark.usefixtures("made")
def test_significance_and_ablations_are_families_of_their_own():
    models = report("garments").table("significance")
    assert set(models["model"]) == {"popularity", "itemknn", "ease-features", "lightgcn", "freedom", "tokenbridge"}
    ours = report("garments").table("significance-ours")
    assert set(ours["model"]) == {*models["model"], "motorec"} - {"tokenbridge"}
    assert "difference to `tokenbridge`" in report("garments").markdown("significance-ours")
    one = models.set_index(["model", "group", "metric"])["difference"]["tokenbridge"]
    other = ours.set_index(["model", "group", "metric"])["difference"]["motorec"]
    pd.testing.assert_series_equal(one, -other)
    variants = ablations.ablation_report("garments", "motorec").table("ablation_significance")
    assert set(variants["model"]) == {f"motorec-{name}" for name in PAPERS}
    assert models.query("model == 'popularity'")["significant"].all()


def test_ablations_of_each_model_stand_by_themselves_once_they_are_run(made: Path):
    run = load_profile("ablations", "garments")
    names = [path.relative_to(made).as_posix() for path in ablations.write("garments")]  # motorec's six are there
    folder = "results/ablations/garments"
    files = ["motorec.md", "motorec-significance.md", "motorec.png", "motorec-attention.md", "motorec-attention.png"]
    assert names == [f"{folder}/{file}" for file in files]
    text = (made / names[0]).read_text()
    assert (
        "Not run yet: without RQ-VAE, without hybrid fusion (continuous latent, sum); fusion by concatenation; " in text
    )
    assert "† differs from the full model" in text
    assert "TokenBridge" not in text
    for one in expected_runs(run, "garments"):
        if one.model in ("tokenbridge-graph", "tokenbridge-random"):
            source = ("garments", "tokenbridge", one.seed)
            target = ("garments", one.model, one.seed)
            shutil.copytree(paths.run_data(*source), paths.run_data(*target))
            shutil.copytree(paths.run_results(*source), paths.run_results(*target))
    assert len(ablations.write("garments")) == 8  # of attention, TokenBridge has none
    table = pd.read_csv(made / folder / "tokenbridge.csv")
    assert table["model"].tolist() == ["tokenbridge", "tokenbridge-graph", "tokenbridge-random"]
    assert set(pd.read_csv(made / folder / "tokenbridge-significance.csv")["model"]) == set(table["model"][1:])


def test_ablations_are_tested_against_each_other(made: Path):
    one, other, third = "motorec-no-ara", "motorec-no-hybrid", "motorec-no-sparsity"
    assert ablations.pairs("garments").empty  # those of this repository are not run here
    change("report.yaml", pairs=[[one, other], [third, other], ["tokenbridge-graph", one]])
    table = ablations.pairs("garments")
    assert table[["model", "reference"]].drop_duplicates().to_numpy().tolist() == [[one, other], [third, other]]
    values = ablations.ablation_report("garments", "motorec").variants_tested
    values = values.query("group == 'all' and metric == 'recall@20'").set_index("model")["mean"]
    first = table.iloc[0]
    assert (first["group"], first["metric"]) == ("all", "recall@20")
    assert first["difference"] == pytest.approx(values[one] - values[other], abs=1e-5)
    ordered = table.sort_values("p")  # Holm's first step is Bonferroni's, over both pairs
    assert ordered["p_holm"].iloc[0] == pytest.approx(min(1.0, len(table) * ordered["p"].iloc[0]))
    assert (made / "results/ablations/garments/pairs.md") in ablations.write("garments")
    text = (made / "results/ablations/garments/pairs.md").read_text()
    assert "| MoToRec without ARA less MoToRec without hybrid fusion (sum) | all | Recall@20 |" in text
    change("report.yaml", pairs=[[one, "motorec-no-hybird"]])
    with pytest.raises(ParamsError, match=r"pairs names 'motorec-no-hybird'.*Did you mean 'motorec-no-hybrid'"):
        ablations.pairs("garments")


def attention(**shares: dict[str, list[float]]) -> pd.DataFrame:
    """Runs of some models, by what their warm items listen to; a run is worth 1 less what goes to pictures."""
    rows = []
    for model, by_source in shares.items():
        for seed, values in enumerate(zip(*by_source.values(), strict=True), start=1):
            found = dict(zip(by_source, values, strict=True))
            rows += [
                (model, seed, "attention", group, name, v) for name, v in found.items() for group in ("warm", "cold")
            ]
            worth = {"all": 1 - found.get("image", 0), "cold": found.get("image", 0) / 2, "warm": 0.3}
            rows += [(model, seed, "test", group, "recall@20", value) for group, value in worth.items()]
    table = pd.DataFrame(rows, columns=["model", "seed", "split", "group", "metric", "value"])
    return table.assign(dataset="d", title=table["model"].str.title(), role="ablation")


def test_attention_of_runs_that_divide_it_between_modalities():
    metrics = attention(
        full={"image": [0.25, 0.5], "text": [0.75, 0.5]},
        part={"image": [1.0, 0.0], "text": [0.0, 1.0]},
        ids={"id": [0.9], "image": [0.05], "text": [0.05]},  # IDs compete
        alone={"text": [1.0]},  # nothing to divide
    )
    table = where.attention_table(metrics, "recall@20")
    assert table[["model", "seed"]].to_numpy().tolist() == [["full", 1], ["full", 2], ["part", 1], ["part", 2]]
    shares = [f"{group}/{name}" for name in ("image", "text") for group in ("warm", "cold")]
    assert list(table.columns) == ["model", "title", "seed", *shares, "all/recall@20", "cold/recall@20"]
    assert table.loc[1, "warm/image":].tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 0.25]
    found = where.correlations(table, ["full", "part"])
    assert found == pytest.approx({"all/recall@20": -1.0, "cold/recall@20": 1.0})
    assert where.told(table, ["full", "part"]) == (
        "Over the 4 runs of the full model and the ablations that the paper has, a warm item's attention to pictures "
        "correlates −1.00 with Recall@20 (all) and +1.00 with Recall@20 (cold); between the seeds of a variant, each "
        "variant's means taken off, −1.00 with Recall@20 (all) and +1.00 with Recall@20 (cold)."
    )
    one = table.assign(**{"all/recall@20": [0.5, 0.5, 0.1, 0.1]})  # variants differ, their seeds do not
    assert np.isnan(where.correlations(one, ["full", "part"], within=True)["all/recall@20"])
    assert where.told(table, ["full"]).endswith("attention to pictures does not vary.")  # two runs are a line
    cells = where.cells(table, tables.MARKDOWN)
    assert cells.iloc[1].tolist() == ["Part", "2", *["0.50 (0.00 to 1.00)"] * 2, "0.5000", "0.2500"]
    assert where.attention_table(attention(alone={"text": [1.0]}), "recall@20").empty


def test_the_figure_of_attention_has_a_point_per_run():
    metrics = attention(full={"image": [0.25, 0.5], "text": [0.75, 0.5]}, part={"image": [1.0], "text": [0.0]})
    figure = where.attention(
        where.attention_table(metrics, "recall@20"), {"full": "Full", "sum": "No attention"}, "Data"
    )
    drawn = [[points.get_offsets().tolist() for points in axis.collections] for axis in figure.axes]
    assert drawn == [[[[1.0, 0.0]], [[0.25, 0.75], [0.5, 0.5]]], [[[1.0, 0.5]], [[0.25, 0.125], [0.5, 0.25]]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["other variants", "Full"]


@pytest.mark.usefixtures("made")
def test_ablations_that_were_not_run_name_the_command(capsys: pytest.CaptureFixture[str]):
    assert ablations.main(["hm"]) == 1
    assert "make ablations DATASET=hm" in capsys.readouterr().err


def test_a_data_set_without_truth_has_the_rest_and_no_report_has_the_ablations(made: Path):
    change("run.yaml", ablation_datasets=["garments"])
    for results in (report("garments"), report("ml-100k")):
        assert not [name for name in results.table_names + results.figure_names if name.startswith("ablation")]
    written = results.write()
    assert all(path.is_file() for path in written)
    assert "oracle" not in (made / "results/tables/ml-100k/overall.csv").read_text()
    with pytest.raises(ParamsError, match="no ablations"):
        results.table("ablation")


def test_validation_curves_are_means_over_seeds_while_all_were_validated(made: Path):
    report("garments").write_curves()
    folder = made / "results" / "figures" / "garments" / "training"
    assert {file.stem for file in folder.iterdir()} == {"lightgcn", "freedom", "motorec", "tokenbridge"}
    curve = pd.read_csv(folder / "lightgcn.csv")
    # Fabricated: three seeds of 31 to 33 epochs, validated every five; the value is level (1 - 1 / epoch).
    assert curve["epoch"].tolist() == [5, 10, 15, 20, 25, 30]
    assert curve["valid/all/recall@20"].tolist() == pytest.approx(
        [0.12 * (1 - 1 / e) for e in range(5, 31, 5)], abs=1e-6
    )
    history = paths.run_data("garments", "lightgcn", 2) / "history.csv"
    pd.read_csv(history).query("epoch < 22").to_csv(history, index=False)
    report("garments").write_curves()
    assert pd.read_csv(folder / "lightgcn.csv")["epoch"].tolist() == [5, 10, 15, 20]


@pytest.mark.usefixtures("made")
def test_an_unknown_piece_names_the_nearest():
    with pytest.raises(ParamsError, match="'overall'"):
        report("garments").table("overal")
    with pytest.raises(ParamsError, match="'accuracy'"):
        report("garments").figure("acuracy")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("values", "hint"), [({"headline": ["recal@20"]}, "'recall@20'"), ({"reference": "motorek"}, "'motorec'")]
)
def test_a_report_on_what_is_not_measured_or_run_is_an_error(values: dict[str, object], hint: str):
    change("report.yaml", **values)
    with pytest.raises(ParamsError, match=hint):
        report("garments")


def test_two_writings_give_the_same_bytes(made: Path):
    def everything() -> dict[str, bytes]:
        report("garments").write()
        ablations.write("garments")
        summary.main()
        files = sorted((made / "results").rglob("*.*"))
        return {path.relative_to(made).as_posix(): path.read_bytes() for path in [*files, made / "README.md"]}

    first = everything()
    pictures = {name.removesuffix(".png") for name in first if name.endswith(".png")}
    assert len(pictures) == 11
    assert pictures == {name.removesuffix(".pdf") for name in first if name.endswith(".pdf")}
    assert not [name for name, content in first.items() if name.endswith(".pdf") and b"Date" in content]
    assert not [name for name, content in first.items() if b"atplotlib" in content or str(made).encode() in content]
    assert everything() == first


def test_joint_tables_hold_the_shown_data_sets_from_git_alone(made: Path):
    fabricate("hm")
    change("run.yaml", shown=["hm"])
    for folder in ("runs", "catalogue"):
        (made / "data" / folder).rename(made / "data" / f"{folder}-elsewhere")
    summary.main()
    overall = pd.read_csv(made / "results/tables/overall.csv")
    assert overall["dataset"].drop_duplicates().tolist() == ["garments", "ml-100k", "hm"]
    shown = overall.query("dataset == 'hm'")
    # The models of the short list, with the seeds of the whole comparison: as in that data set's own tables.
    assert shown["model"].tolist() == list(load_run().compared)
    assert set(shown["seeds"]) == {1, len(load_run_for("hm").seeds)}
    whole = report("hm").table("overall").set_index("model")
    assert len(whole) == len(load_run_for("hm").compared) > len(shown)
    assert shown.set_index("model")["recall@20"].to_dict() == pytest.approx(
        whole.loc[shown["model"], "recall@20"].to_dict(), abs=1e-6
    )
    text = (made / "README.md").read_text()
    assert "H&M, one week" in text
    assert "results/tables/hm/overall.md" not in text
    (made / "data/runs-elsewhere").rename(made / "data/runs")  # the data set's own tables are made where its runs are
    catalogue("hm")
    report("hm").write_table("overall")
    summary.main()
    assert "[H&M, one week](results/tables/hm/overall.md)" in (made / "README.md").read_text()


def test_an_unfinished_model_of_a_shown_data_set_is_named_below_the_table(made: Path):
    fabricate("hm")
    change("run.yaml", shown=["hm"])
    assert "not finished" not in summary.readme_section()
    (paths.run_results("hm", "lightgcn", load_run_for("hm").seeds[-1]) / "metrics.json").unlink()
    assert "H&M, one week: without LightGCN, whose runs there are not finished." in summary.readme_section()


def test_the_readme_section_is_replaced_and_the_rest_kept(made: Path):
    readme = made / "README.md"
    summary.update_readme(readme)
    once = readme.read_text()
    assert once.startswith(f"# Title\n\n{summary.BEGIN}\n")
    assert once.endswith(f"{summary.END}\n\nThe rest.\n")
    assert "stale" not in once
    metrics = load_metrics(expected_runs(load_run(), "garments"))
    chosen = metrics.query("model == 'motorec' and split == 'test' and group == 'cold' and metric == 'ndcg@20'")[
        "value"
    ]
    assert f"{chosen.mean():.4f} ± {chosen.std():.4f}" in once
    assert "all-MiniLM-L6-v2" in once
    summary.update_readme(readme)
    assert readme.read_text() == once


REASON = "FREEDOM needs image features, and garments has text. Add the content to the items."


def leave_out(model: str, reason: str = REASON) -> None:
    """What notebook 04 writes where a model cannot do without a modality that the data lack."""
    for run in expected_runs(load_run(), "garments"):
        if run.model == model:
            paths.write_whole(run.metrics_file, json.dumps({"left_out": reason}))
            shutil.rmtree(paths.run_data("garments", model, run.seed), ignore_errors=True)


def test_a_model_left_out_is_named_under_every_table_and_in_no_row(made: Path):
    before = report("garments").table("overall").set_index("model")
    leave_out("freedom")
    results = report("garments")
    note = "Left out: FREEDOM: FREEDOM needs image features, and garments has text."
    results.write()
    assert not (made / "results/figures/garments/training/freedom.csv").exists()
    for name in results.table_names:
        markdown, printed, numbers = (
            (made / f"results/tables/garments/{name}.{kind}").read_text() for kind in ("md", "tex", "csv")
        )
        if name in ("statistics", "codebooks", "mixing"):
            assert "Left out" not in markdown + printed
        else:
            assert markdown.endswith(f"\n\n{note}\n")
            assert printed.endswith(f"{{\\noindent\\footnotesize {note}\\par}}\n")
        assert "freedom" not in numbers
        assert "Left out" not in numbers
    assert results.markdown("overall").endswith(f"{note}\n")
    after = results.table("overall").set_index("model")
    pd.testing.assert_frame_equal(after, before.drop(index="freedom"))
    tested = {"popularity", "itemknn", "ease-features", "lightgcn", "tokenbridge"}
    assert set(results.table("significance")["model"]) == tested

    summary.main()
    joint = "Left out on Garments (planted): FREEDOM: FREEDOM needs image features, and garments has text."
    assert joint in (made / "README.md").read_text()
    assert joint in (made / "results/tables/cold.md").read_text()
    assert "ml-100k,freedom" in (made / "results/tables/cold.csv").read_text()


def test_a_table_of_cold_targets_without_any_says_why(made: Path):
    for run in expected_runs(load_run(), "ml-100k"):
        values = json.loads(run.metrics_file.read_text())
        kept = {key: value for key, value in values.items() if not key.startswith("test/cold/")}
        write_metrics("ml-100k", run.model, run.seed, kept | {"test/cold/users": 0.0})
    why = "MovieLens 100k: no cold targets, since no item of the test split has fewer than 10 training interactions."
    assert why in report("ml-100k").markdown("cold")
    assert why not in report("ml-100k").markdown("warm")
    summary.main()
    assert why in (made / "results/tables/cold.md").read_text()
    assert why not in (made / "results/tables/overall.md").read_text()
    assert why in (made / "README.md").read_text()
    assert "no warm targets" not in report("garments").markdown("warm")


def test_without_the_reference_there_are_no_tests_against_it(made: Path):
    leave_out("motorec")
    for run in expected_runs(load_run(), "garments"):
        if run.role == "ablation":
            leave_out(run.model)
    results = report("garments")
    # Of the models that are mapped, LightGCN alone is left.
    assert results.table_names == [
        "statistics", "overall", "cold", "warm", "significance-ours", "codebooks", "mixing"
    ]  # fmt: skip
    assert all(path.is_file() for path in results.write())


def timings(model: str, seed: int, **costs: float) -> None:
    paths.write_whole(paths.timings() / "garments" / model / f"{seed}.json", json.dumps(costs))


def test_cost_stands_beside_accuracy(made: Path):
    for seed, pace in ((1, 2.0), (2, 4.0), (3, 9.0)):
        timings(
            "lightgcn",
            seed,
            seconds_build=1,
            seconds_train=7,
            seconds_per_epoch=pace,
            epochs=10,
            seconds_evaluate=1,
            parameters=1234567,
        )
        timings("motorec", seed, seconds_per_epoch=3 * pace, epochs=20, seconds_evaluate=2, peak_memory_mb=900)
    timings("itemknn", 1, seconds_build=4.1, seconds_evaluate=0.5)
    leave_out("freedom")
    target = efficiency.write("garments")
    assert target == made / "results/efficiency/garments.md"
    table = pd.read_csv(target.with_suffix(".csv")).set_index("model")
    assert table.index.tolist() == ["popularity", "itemknn", "ease-features", "lightgcn", "motorec", "tokenbridge"]
    assert table.loc["motorec", ["seconds_per_epoch", "seconds_per_epoch_ratio", "epochs"]].tolist() == [12.0, 3.0, 20]
    assert table.loc["lightgcn", "seconds_train"] == 40.0  # epochs times pace: a run that went on knows its last part
    assert table.loc["itemknn", "seconds_evaluate_ratio"] == 0.5
    assert table.loc["itemknn", ["seconds_fit", "seconds_fit_ratio"]].tolist() == [4.1, 0.1]
    assert np.isnan(table.loc["itemknn", "epochs"])
    level = report("garments").table("overall").set_index("model").loc["motorec", "recall@20"]
    assert table.loc["motorec", "recall@20"] == pytest.approx(level, abs=1e-6)
    assert target.with_suffix(".png").stat().st_size > 10_000
    assert target.with_suffix(".pdf").is_file()
    text = target.read_text()
    assert "| 1,234,567 |" in text
    assert "| 12.00 (3×) |" in text
    assert "Left out: FREEDOM" in text
    assert "No times here, since DVC's cache had the runs: Popularity, EASE with features, TokenBridge (ours)." in text
    written = target.with_suffix(".tex").read_text()
    assert r"12.00 (3$\times$)" in written
    assert r"{\noindent\footnotesize Left out: FREEDOM" in written


def test_cost_of_an_unknown_data_set_names_the_nearest(project: Path, capsys: pytest.CaptureFixture[str]):
    assert efficiency.main(["garmets"]) == 1
    assert "Did you mean 'garments'?" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["# Title\n", f"{summary.END}\n{summary.BEGIN}\n"])
def test_a_readme_without_markers_is_an_error(made: Path, text: str):
    (made / "README.md").write_text(text)
    with pytest.raises(DataError, match=r"README\.md: expected the lines"):
        summary.update_readme(made / "README.md")
    assert (made / "README.md").read_text() == text


@pytest.mark.usefixtures("made")
def test_figures_show_the_numbers():
    figure = report("garments").figure("accuracy")
    bars = sorted({round(bar.get_width(), 6) for bar in figure.axes[0].patches})
    metrics = load_metrics(expected_runs(load_run(), "garments")).query(
        "split == 'test' and metric == 'recall@20' and role == 'model' and group in ['all', 'cold']"
    )
    assert bars == sorted(metrics.groupby(["model", "group"])["value"].mean().round(6))
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [
        "Popularity",
        "ItemKNN",
        "EASE with features",
        "LightGCN",
        "FREEDOM",
        "MoToRec",
        "TokenBridge (ours)",
    ]


@pytest.mark.usefixtures("made")
def test_nothing_in_a_figure_overlaps():
    for name in report("garments").figure_names:
        figure = report("garments").figure(name)
        figure.draw_without_rendering()
        boxes = [axis.get_tightbbox() for axis in figure.axes] + [text.get_window_extent() for text in figure.texts]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        for place, box in enumerate(boxes):
            assert not [other for other in boxes[place + 1 :] if box.padded(-1).overlaps(other.padded(-1))], name
        for axis in figure.axes:
            ticks = [text.get_window_extent() for text in axis.get_xticklabels() if text.get_visible()]
            within = [box for box in ticks if axis.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axis.bbox.x1 + 1]
            assert all(left.x1 <= right.x0 for left, right in pairwise(sorted(within, key=lambda box: box.x0))), name
