"""A model that needs a modality the data lack: said before training, written down, and no failure of the pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from planted import planted_dataset, planted_features

from motorec import nbrun, paths
from motorec.config import load_evaluation, load_run
from motorec.data import Dataset
from motorec.errors import LeftOut, Unsuited
from motorec.experiment import Experiment
from motorec.features import save_all
from motorec.reporting.runs import expected_runs, left_out, load_history, load_metrics, load_per_user
from motorec.tracking import RunFiles

ROOT = Path(__file__).parent.parent


@pytest.fixture
def texts(project: Path) -> Path:
    """A project with planted data that have texts and no pictures, after its features stage."""
    dataset = planted_dataset()
    dataset.save(paths.catalogue("planted"))
    save_all("planted", planted_features(dataset, ("text",)))
    shutil.copy2(project / "params" / "data" / "hm.yaml", project / "params" / "data" / "planted.yaml")
    run = yaml.safe_load((project / "params" / "run.yaml").read_text())
    run |= {
        "datasets": ["planted"],
        "sources": [],
        "with_truth": [],
        "ablation_datasets": [],
        "ablation_reports": [],
        "shown": [],
    }
    run |= {"closed_form": ["popularity"], "content_models": ["contentknn-text", "contentknn-image"], "models": []}
    run |= {"token_models": [], "seeds": [1]}
    (project / "params" / "run.yaml").write_text(yaml.safe_dump(run))
    return project


def run_model(model: str) -> None:
    """What notebook 04 does."""
    experiment = Experiment.load("planted", model, 1)
    try:
        recommender = experiment.build()
    except Unsuited as reason:
        raise experiment.leave_out(reason) from None
    fit = experiment.fit(recommender)
    experiment.save(recommender, fit, experiment.evaluate(recommender))


def test_the_reason_stands_in_the_place_of_results(texts: Path) -> None:
    for model in ("popularity", "contentknn-text"):
        run_model(model)
    stale = paths.timings() / "planted" / "contentknn-image" / "1.json"
    paths.write_whole(stale, "{}")
    with pytest.raises(LeftOut, match="needs image features"):
        run_model("contentknn-image")
    metrics = json.loads((texts / "results/runs/planted/contentknn-image/1/metrics.json").read_text())
    assert list(metrics) == ["left_out"]
    assert not stale.exists()
    assert [path.name for path in paths.run_data("planted", "contentknn-image", 1).iterdir()] == ["settings.json"]

    expected = expected_runs(load_run(), "planted")
    assert list(left_out(expected).values()) == [metrics["left_out"]]
    assert set(load_metrics(expected)["model"]) == {"popularity", "contentknn-text"}
    values = load_per_user(expected, Dataset.load(paths.catalogue("planted")), load_evaluation("planted"))
    assert set(values) == {"popularity", "contentknn-text"}
    recall = values["popularity"][0].query("group == 'all'")["recall@20"].mean()
    tables = load_metrics(expected).query("model == 'popularity' and split == 'test' and group == 'all'")
    assert recall == pytest.approx(tables.query("metric == 'recall@20'")["value"].item(), abs=1e-6)
    assert "contentknn-image" not in set(load_history(expected)["model"])

    tracked = RunFiles.read("planted", "contentknn-image", 1)
    assert tracked.tags()["left_out"] == metrics["left_out"]
    assert not tracked.finals()
    assert "left_out" not in RunFiles.read("planted", "popularity", 1).tags()


def test_a_catalogue_too_large_for_a_model_leaves_it_out(texts: Path) -> None:
    file = texts / "params" / "models" / "ease.yaml"
    file.write_text(file.read_text().replace("memory_limit_gb: 8.0", "memory_limit_gb: 1.0e-9"))
    with pytest.raises(LeftOut, match=r"60 items need .* and memory_limit_gb is 1e-09"):
        run_model("ease")
    metrics = json.loads((texts / "results/runs/planted/ease/1/metrics.json").read_text())
    assert "Raise memory_limit_gb" in metrics["left_out"]


def test_pictures_that_come_later_bring_results(texts: Path) -> None:
    with pytest.raises(LeftOut):
        run_model("contentknn-image")
    dataset = planted_dataset()
    save_all("planted", planted_features(dataset))
    run_model("contentknn-image")
    metrics = json.loads((texts / "results/runs/planted/contentknn-image/1/metrics.json").read_text())
    assert "left_out" not in metrics
    assert metrics["test/all/recall@20"] > 0.9
    assert "left_out" not in RunFiles.read("planted", "contentknn-image", 1).tags()


def test_a_notebook_shows_the_reason_and_no_traceback() -> None:
    assert LeftOut("no pictures")._render_traceback_() == ["Left out: no pictures"]


@pytest.mark.slow
def test_the_notebook_ends_well_and_shows_the_reason(texts: Path) -> None:
    (texts / "notebooks").mkdir()
    shutil.copy2(ROOT / "notebooks" / "04_train.ipynb", texts / "notebooks")
    target = nbrun.run("04_train", {"dataset": "planted", "model": "contentknn-image", "seed": "1"})
    assert not list(paths.failed().glob("*"))
    notebook = json.loads(target.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    ended = next(place for place, cell in enumerate(code) if "leave_out" in "".join(cell["source"]))
    (output,) = code[ended]["outputs"]
    assert output["traceback"] == [f"Left out: {output['evalue']}"]
    assert "needs image features" in output["evalue"]
    assert not any(cell["outputs"] for cell in code[ended + 1 :])
    assert str(texts) not in target.read_text()
    assert "An Exception was encountered" not in target.read_text()
    before = target.read_bytes()
    nbrun.run("04_train", {"dataset": "planted", "model": "contentknn-image", "seed": "1"})
    assert target.read_bytes() == before
