"""MLflow shows what the files of the runs say, no more and no less."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run

from motorec import config, paths, pipeline, tracking
from motorec.errors import DataError

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "dataset": "garments",
    "model": "motorec",
    "kind": "motorec",
    "title": "MoToRec",
    "settings": {"dim": 64, "tokenizer": {"gamma": 0.05, "codes": [512, 512]}, "rarity": "amplify", "share": True},
    "training": {"epochs": 20, "learning_rate": 0.001},
    "features": {"text": "all-MiniLM-L6-v2", "image": "efficientnet-lite0"},
}
NOTEBOOK = {
    "cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# A finding of 42"]}],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060"
    "0000000500015e9a2e0c0000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def store(project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with few runs to expect, and with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = yaml.safe_load((project / "params" / "run.yaml").read_text())
    run |= {"datasets": ["garments"], "closed_form": ["popularity"], "models": ["bpr"], "seeds": [1, 2]}
    run |= {
        "content_models": [],
        "with_truth": [],
        "shown": [],
        "ablations": [],
        "ablation_datasets": [],
        "ablation_reports": [],
        "token_models": [],
    }
    run = {key: value for key, value in run.items() if key in tracking.config.RunSettings.model_fields}
    (project / "params" / "run.yaml").write_text(yaml.safe_dump(run))
    tracking.folder().mkdir(parents=True)
    shutil.copy2(empty_store, tracking.folder() / "mlflow.db")
    return empty_store


def write_run(model: str, seed: int, recall: float, trained: bool = True, dataset: str = "garments") -> None:
    """The files that the training stage would leave."""
    metrics = {"test/all/recall@20": recall, "test/cold/recall@20": recall / 3, "valid/all/recall@20": recall + 0.01}
    paths.write_whole(
        paths.run_results(dataset, model, seed) / "metrics.json", json.dumps(metrics | {"test/all/users": 1990})
    )
    data = paths.run_data(dataset, model, seed)
    settings = SETTINGS | {"dataset": dataset, "model": model, "kind": model, "seed": seed}
    paths.write_whole(data / "settings.json", json.dumps(settings))
    history = ["epoch,loss,bpr,valid/all/recall@20"]
    if trained:
        # Thirds have no short decimal form: a reader that rounds is caught.
        history += [
            f"{e},{2 / (3 * e)!r},{seed / (7 * e)!r},{recall / e if e % 5 == 0 else ''}" for e in range(1, 11 + seed)
        ]
    paths.write_whole(data / "history.csv", "\n".join(history) + "\n")
    paths.write_whole(data / "curve.png", PIXEL)
    paths.write_whole(paths.notebooks(dataset) / f"04_train-{dataset}-{model}-{seed}.ipynb", json.dumps(NOTEBOOK))
    timings = {"seconds_train": 30.0, "seconds_evaluate": 2.5, "seconds_per_epoch": 3, "peak_memory_mb": 512.25}
    paths.write_whole(paths.timings() / dataset / model / f"{seed}.json", json.dumps(timings))


def client() -> MlflowClient:
    return MlflowClient(tracking.tracking_uri())


def runs(dataset: str = "garments", search: str = "") -> list[Run]:
    return list(client().search_runs([client().get_experiment_by_name(dataset).experiment_id], search))


def parent_of(model: str) -> Run:
    (parent,) = runs(search=f"tags.model = '{model}' and tags.seed = 'all'")
    return parent


def history_of(run_id: str, name: str) -> dict[int, float]:
    points = client().get_metric_history(run_id, name)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


def assert_store_equals_files(run_id: str, dataset: str, model: str, seed: int) -> None:
    """Reads both sides anew, without the module under test."""
    data = client().get_run(run_id).data
    metrics = json.loads((paths.run_results(dataset, model, seed) / "metrics.json").read_text())
    timings = json.loads((paths.timings() / dataset / model / f"{seed}.json").read_text())
    finals = {tracking.file_key(name): value for name, value in data.metrics.items() if not name.startswith("epoch/")}
    assert finals == metrics | {f"cost/{key}": value for key, value in timings.items()}

    header, *rows = (paths.run_data(dataset, model, seed) / "history.csv").read_text().splitlines()
    columns = header.split(",")
    expected: dict[str, dict[int, float]] = {column: {} for column in columns[1:]}
    for row in rows:
        epoch, *cells = row.split(",")
        for column, cell in zip(columns[1:], cells, strict=True):
            if cell:
                expected[column][int(epoch)] = float(cell)
    logged = {
        tracking.file_key(name).removeprefix("epoch/"): history_of(run_id, name)
        for name in data.metrics
        if name.startswith("epoch/")
    }
    assert logged == {column: values for column, values in expected.items() if values}


def test_store_holds_every_metric_and_every_epoch_of_the_files() -> None:
    write_run("bpr", 1, 0.3)
    run_id = tracking.log_run("garments", "bpr", 1)
    assert_store_equals_files(run_id, "garments", "bpr", 1)


def test_run_carries_its_settings_tags_times_and_artifacts() -> None:
    write_run("motorec-no-ara", 2, 0.3)
    run = client().get_run(tracking.log_run("garments", "motorec-no-ara", 2))
    assert run.data.params == {
        "dim": "64",
        "tokenizer.gamma": "0.05",
        "tokenizer.codes": "[512, 512]",
        "rarity": "amplify",
        "share": "true",
        "training.epochs": "20",
        "training.learning_rate": "0.001",
        "features.text": "all-MiniLM-L6-v2",
        "features.image": "efficientnet-lite0",
    }
    expected = {"dataset": "garments", "model": "motorec-no-ara", "seed": "2", "is_ablation": "true"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.tags["encoder_image"] == "efficientnet-lite0"
    assert run.info.run_name == "motorec-no-ara · seed 2"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 32_500
    listed = [
        file.path for folder in ("figures", "notebook") for file in client().list_artifacts(run.info.run_id, folder)
    ]
    notebook = "notebook/04_train-garments-motorec-no-ara-2"
    assert listed == ["figures/curve.png", f"{notebook}.html", f"{notebook}.ipynb"]
    page = Path(client().download_artifacts(run.info.run_id, f"{notebook}.html")).read_text()
    assert "A finding of 42" in page


def test_a_run_tells_the_health_of_the_tokenizers_that_it_started_from() -> None:
    write_run("motorec", 1, 0.3)
    write_run("motorec-no-ara", 1, 0.3)
    stage = {"gamma": 0.05, "codes": [512, 512], "rarity": "amplify", "later": "has a default"}
    for model, changes in (("motorec", {}), ("motorec-no-ara", {"rarity": "off"})):
        file = paths.run_data("garments", model, 1) / "settings.json"
        tokenizer = {"gamma": 0.05, "codes": [512, 512], "rarity": "amplify"} | changes
        file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer": tokenizer}))
    folder = paths.tokens("garments", 1)
    health = {"text": {"used/1": 0.75, "collisions": None}, "image": {"perplexity/2": 31.5}}
    paths.write_whole(folder / "health.json", json.dumps(health))
    for modality in health:
        paths.write_whole(folder / f"{modality}.json", json.dumps(stage))
    run_id = tracking.log_run("garments", "motorec", 1)
    logged = client().get_run(run_id).data.metrics
    assert {name: value for name, value in logged.items() if name.startswith("tokens/")} == {
        "tokens/text/used/1": 0.75,
        "tokens/image/perplexity/2": 31.5,
    }
    own = client().get_run(tracking.log_run("garments", "motorec-no-ara", 1)).data.metrics
    assert not [name for name in own if name.startswith(("tokens/", "trained_tokens/"))]
    # What became of them in training is there for every run that has noted it.
    paths.write_whole(
        paths.run_data("garments", "motorec-no-ara", 1) / "tokens.json",
        json.dumps({"text": {"used/1": 0.25, "explained/1": None}}),
    )
    own = client().get_run(tracking.log_run("garments", "motorec-no-ara", 1)).data.metrics
    assert {name: value for name, value in own.items() if "tokens/" in name} == {"trained_tokens/text/used/1": 0.25}
    health["text"]["used/1"] = 0.5
    paths.write_whole(folder / "health.json", json.dumps(health))
    assert client().get_run(tracking.log_run("garments", "motorec", 1)).data.metrics["tokens/text/used/1"] == 0.5


def test_logging_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-another-run")
    write_run("bpr", 1, 0.3)
    first = tracking.log_run("garments", "bpr", 1)
    before = {run.info.run_id: run.to_dictionary() for run in runs()}
    assert tracking.log_run("garments", "bpr", 1) == first
    assert {run.info.run_id: run.to_dictionary() for run in runs()} == before


@pytest.mark.parametrize(
    "change",
    [
        "results/runs/garments/bpr/1/metrics.json",
        "data/runs/garments/bpr/1/settings.json",
        "data/runs/garments/bpr/1/b.png",
    ],
)
def test_changed_files_replace_the_run(project: Path, change: str) -> None:
    write_run("bpr", 1, 0.3)
    first = tracking.log_run("garments", "bpr", 1)
    write_run("bpr", 1, 0.4)
    if change.endswith(".png"):
        (project / change).write_bytes(PIXEL)
    second = tracking.log_run("garments", "bpr", 1)
    assert second != first
    assert {run.data.tags["seed"] for run in runs()} == {"1", "all"}
    assert_store_equals_files(second, "garments", "bpr", 1)
    assert parent_of("bpr").data.metrics["test/all/recall_at_20"] == pytest.approx(0.4)


def test_parent_is_mean_and_deviation_over_its_seeds() -> None:
    recalls = {1: 0.30, 2: 0.34, 3: 0.50}
    children = set()
    for seed, recall in recalls.items():
        write_run("bpr", seed, recall)
        children.add(tracking.log_run("garments", "bpr", seed))
    parent = parent_of("bpr")
    assert parent.info.run_name == "bpr"
    assert parent.data.tags["seeds"] == "1, 2, 3"
    assert parent.data.metrics["seeds"] == 3
    assert parent.data.metrics["test/all/recall_at_20"] == pytest.approx(0.38)
    # Deviations from 0.38: -0.08, -0.04, 0.12; squares sum to 0.0224; divided by 3 - 1.
    assert parent.data.metrics["sd/test/all/recall_at_20"] == pytest.approx(0.0112**0.5)
    assert parent.data.metrics["sd/test/all/recall_at_20"] == pytest.approx(statistics.stdev(recalls.values()))
    assert parent.data.metrics["cost/peak_memory_mb"] == 512.25
    assert parent.data.params["tokenizer.gamma"] == "0.05"
    nested = {run.info.run_id for run in runs(search=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")}
    assert nested == children
    assert len(runs()) == 4
    note = parent.data.tags["mlflow.note.content"]
    assert "**MoToRec** on **garments**" in note
    assert "| recall@20 | 0.3800 ± 0.1058 | 0.1267 ± 0.0353 |" in note


def test_a_note_has_its_groups_in_order() -> None:
    groups = ("all", "cold", "deg0-4", "deg10-19", "deg5-9", "deg50plus", "warm")
    note = tracking._note("T", "d", [1], {f"test/{group}/recall@20": 0.5 for group in groups})
    assert "| test | all | cold | deg0-4 | deg5-9 | deg10-19 | deg50plus | warm |" in note


def test_an_ablation_is_titled_without_its_settings() -> None:
    write_run("motorec-no-ara", 1, 0.3)
    shutil.rmtree(paths.run_data("garments", "motorec-no-ara", 1))
    assert tracking.RunFiles.read("garments", "motorec-no-ara", 1).title == "without ARA"


def test_parent_curve_ends_where_the_first_seed_ends() -> None:
    for seed in (1, 2):  # 11 and 12 epochs
        write_run("bpr", seed, 0.3)
        tracking.log_run("garments", "bpr", seed)
    curve = history_of(parent_of("bpr").info.run_id, "epoch/bpr")
    assert curve == {epoch: pytest.approx((1 / (7 * epoch) + 2 / (7 * epoch)) / 2) for epoch in range(1, 12)}


def test_parameters_that_differ_between_seeds_are_not_the_parents() -> None:
    for seed in (1, 2):
        write_run("bpr", seed, 0.3)
    file = paths.run_data("garments", "bpr", 2) / "settings.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"settings": settings["settings"] | {"dim": 32}}))
    for seed in (1, 2):
        tracking.log_run("garments", "bpr", seed)
    params = parent_of("bpr").data.params
    assert "dim" not in params
    assert params["rarity"] == "amplify"


def test_replay_fills_an_empty_store(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_run("popularity", 1, 0.1, trained=False)
    write_run("bpr", 1, 0.3)
    summary = tracking.replay()
    assert sorted(summary.logged) == ["garments/bpr/1", "garments/popularity/1"]
    assert summary.missing == ["garments/bpr/2"]
    assert str(summary) == "2 runs logged, 0 already there, 1 with no files yet: garments/bpr/2."
    assert str(tracking.replay()).startswith("0 runs logged, 2 already there")

    def content() -> list[tuple[str, dict[str, float], dict[str, str]]]:
        return sorted((run.info.run_name, run.data.metrics, run.data.params) for run in runs())

    before = content()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy2(store, tmp_path / 'other.db')}")
    assert len(tracking.replay().logged) == 2
    assert content() == before


def test_replay_logs_the_ablations_that_were_run_and_misses_no_others() -> None:
    write_run("bpr", 1, 0.3)
    for seed in (1, 2):
        write_run("motorec-no-ara", seed, 0.2)
    write_run("motorec", 5, 0.3)
    summary = tracking.replay(["garments"])
    logged = ["garments/bpr/1", "garments/motorec-no-ara/1", "garments/motorec-no-ara/2", "garments/motorec/5"]
    assert sorted(summary.logged) == logged
    assert summary.missing == ["garments/popularity/1", "garments/bpr/2"]
    parent = parent_of("motorec-no-ara").data.tags
    assert (parent["is_ablation"], parent["seeds"]) == ("true", "1, 2")


def test_a_model_has_the_seeds_of_its_tables_whatever_its_ablations_have(project: Path) -> None:
    run = project / "params" / "run.yaml"
    run.write_text(yaml.safe_dump(yaml.safe_load(run.read_text()) | {"models": [], "token_models": ["motorec"]}))
    for seed in (1, 2, 3):
        write_run("motorec", seed, 0.3)
    assert tracking.replay().logged == ["garments/motorec/1", "garments/motorec/2"]


def test_a_run_cut_short_is_logged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    write_run("bpr", 1, 0.3)

    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_html", killed)
        with pytest.raises(KeyboardInterrupt):
            tracking.log_run("garments", "bpr", 1)
    run_id = tracking.log_run("garments", "bpr", 1)
    assert {run.data.tags["seed"]: run.info.status for run in runs()} == {"1": "FINISHED", "all": "FINISHED"}
    assert_store_equals_files(run_id, "garments", "bpr", 1)


def test_metrics_alone_are_enough() -> None:
    paths.write_whole(
        paths.run_results("hm", "bpr", 1) / "metrics.json", '{"test/all/recall@20": 0.25, "test/cold/mrr@10": null}'
    )
    run = client().get_run(tracking.log_run("hm", "bpr", 1))
    assert run.data.metrics == {"test/all/recall_at_20": 0.25}
    assert run.data.params == {}


def test_a_model_left_out_is_told_by_a_tag() -> None:
    for seed in (1, 2):
        write_run("bpr", seed, 0.3, trained=False)
        file = paths.run_results("garments", "bpr", seed) / "metrics.json"
        paths.write_whole(file, '{"left_out": "no pictures"}')
    assert len(tracking.replay().logged) == 2
    assert [run.data.tags["left_out"] for run in runs()] == ["no pictures"] * 3  # two seeds and their parent
    assert not [name for run in runs() for name in run.data.metrics if name.startswith(("test/", "valid/"))]
    # Results that come later replace it.
    write_run("bpr", 1, 0.3)
    tracking.log_run("garments", "bpr", 1)
    assert "left_out" not in client().get_run(tracking.log_run("garments", "bpr", 1)).data.tags


def test_foreign_runs_in_the_experiment_are_left_alone() -> None:
    write_run("bpr", 1, 0.3)
    tracking.log_run("garments", "bpr", 1)
    experiment = client().get_experiment_by_name("garments").experiment_id
    mine = client().create_run(experiment, run_name="a reader's own").info.run_id
    write_run("bpr", 1, 0.4)
    tracking.log_run("garments", "bpr", 1)
    assert client().get_run(mine).info.lifecycle_stage == "active"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("results/runs/garments/bpr/1/metrics.json", "{", "not readable as JSON"),
        (
            "results/runs/garments/bpr/1/metrics.json",
            '{"test/all/recall@20": "high"}',
            "'test/all/recall@20' is 'high'",
        ),
        ("results/runs/garments/bpr/1/metrics.json", '{"test/all/recall_at_20": 1}', "Give it another name"),
        ("data/runs/garments/bpr/1/history.csv", "step,loss\n1,2\n", "no column `epoch`"),
        ("data/runs/garments/bpr/1/history.csv", "epoch,loss\n1,2\n1,3\n", "two rows"),
        ("data/runs/garments/bpr/1/history.csv", "epoch,loss\n1,low\n", "column of numbers"),
    ],
)
def test_a_wrong_file_is_named_and_nothing_is_logged(project: Path, file: str, content: str, message: str) -> None:
    write_run("bpr", 1, 0.3)
    (project / file).write_text(content)
    with pytest.raises(DataError, match=message):
        tracking.log_run("garments", "bpr", 1)
    assert client().get_experiment_by_name("garments") is None or runs() == []


def test_missing_metrics_say_what_to_run() -> None:
    with pytest.raises(DataError, match=r"results/runs/garments/bpr/1/metrics\.json is missing: run `dvc repro`"):
        tracking.log_run("garments", "bpr", 1)


def test_saved_views_find_the_runs_and_name_columns_that_exist() -> None:
    for model in ("bpr", "motorec-no-ara"):
        write_run(model, 1, 0.3)
        tracking.log_run("garments", model, 1)
    tags = client().get_experiment_by_name("garments").tags
    views = {
        "models": {"bpr"},
        "ablations": {"bpr", "motorec-no-ara"},
        "seeds": {"bpr · seed 1", "motorec-no-ara · seed 1"},
    }
    for view, expected in views.items():
        state = json.loads(json.loads(tags[f"mlflow.sharedViewState.{view}"])["state"])
        found = runs(search=state["searchFilter"])
        assert {run.info.run_name for run in found} == expected
        assert state["orderByKey"] in state["selectedColumns"]
        assert "metrics.`test/cold/recall_at_20`" in state["selectedColumns"]
        assert "test/cold/recall_at_20" in found[0].data.metrics


def test_a_deleted_experiment_comes_back() -> None:
    write_run("bpr", 1, 0.3)
    tracking.log_run("garments", "bpr", 1)
    client().delete_experiment(client().get_experiment_by_name("garments").experiment_id)
    write_run("bpr", 1, 0.4)
    run_id = tracking.log_run("garments", "bpr", 1)
    assert_store_equals_files(run_id, "garments", "bpr", 1)
    assert client().get_experiment_by_name("garments").lifecycle_stage == "active"


def test_models_differ_in_colour_and_seeds_do_not() -> None:
    for model, seed in (("popularity", 1), ("bpr", 1), ("bpr", 2)):
        write_run(model, seed, 0.3)
        tracking.log_run("garments", model, seed)
    colours = {(run.data.tags["model"], run.data.tags["mlflow.runColor"]) for run in runs()}
    assert len(colours) == 2
    assert len({colour for _, colour in colours}) == 2


@pytest.mark.usefixtures("project")
def test_no_two_models_share_a_colour_and_profiles_change_none() -> None:
    models = [*config.load_profile("compare").compared, "oracle"]
    colours = [tracking.colour(model) for model in models]
    assert len(set(colours)) == len(models) > len(tracking.COLOURS)
    assert all(re.fullmatch("#[0-9a-f]{6}", one) for one in colours)
    with pipeline.profile("compare", "garments"):
        assert [tracking.colour(model) for model in models] == colours


@given(st.text(alphabet="abt_@/0123456789", max_size=20))
@example("test/all/recall@20")
def test_metric_names_can_be_turned_back(key: str) -> None:
    with contextlib.suppress(DataError):  # refused, which only a key with letters of the stand-in may be
        name = tracking.metric_name(key)
        assert "@" not in name
        assert tracking.file_key(name) == key
        return
    assert "_at" in key or "at_" in key


@pytest.mark.parametrize("key", ["_at@", "a_at_b"])
def test_a_metric_whose_name_could_not_be_turned_back_is_refused(key: str) -> None:
    with pytest.raises(DataError, match="cannot be logged"):
        tracking.metric_name(key)


TRIALS = """\
number,state,training.learning_rate,dim,value,best_epoch,epochs,reason
0,complete,0.005,64,0.310000,20,40,
1,pruned,0.02,32,0.250000,10,20,
2,failed,0.1,32,,,,the loss rises
"""
STUDY = {"dataset": "garments", "model": "bpr", "title": "BPR-MF", "metric": "valid/all/recall@20", "seed": 1}
STUDY |= {"trials": 3, "pruned": 1, "failed": 1, "first": 0.31, "best": {"trial": 0, "value": 0.31, "epoch": 20}}
STUDY |= {"settings": {"training.learning_rate": 0.005, "dim": 64}}


def test_a_study_is_a_run_with_a_child_per_trial() -> None:
    table = paths.tuned("garments", "bpr").with_suffix(".csv")
    for best in (0.3, 0.31):  # the second one replaces the first
        paths.write_whole(table, TRIALS)
        paths.write_whole(paths.tuned("garments", "bpr"), yaml.safe_dump(STUDY | {"first": best}))
        assert tracking.log_studies("garments") == ["bpr"]
    assert tracking.log_studies("garments") == []

    (parent,) = runs("garments tuning", "tags.`mlflow.runName` = 'tune bpr on garments'")
    assert parent.data.metrics == {
        "valid/all/recall_at_20": 0.31,
        "first/valid/all/recall_at_20": 0.31,
        "trials": 3,
        "pruned": 1,
        "failed": 1,
    }
    assert parent.data.params == {"training.learning_rate": "0.005", "dim": "64"}
    children = runs("garments tuning", f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    children.sort(key=lambda run: run.data.tags["number"])
    assert [run.data.tags["state"] for run in children] == ["complete", "pruned", "failed"]
    assert [run.data.params["dim"] for run in children] == ["64", "32", "32"]
    assert children[1].data.metrics == {"valid/all/recall_at_20": 0.25, "best_epoch": 10, "epochs": 20}
    assert children[2].data.metrics == {}
    assert children[2].data.tags["reason"] == "the loss rises"
    assert len(runs("garments tuning")) == 4


def test_replay_tells_of_studies_and_keeps_them_apart_from_runs() -> None:
    write_run("bpr", 1, 0.3)
    paths.write_whole(paths.tuned("garments", "bpr").with_suffix(".csv"), "number,state,dim,value\n")
    left_out = {key: value for key, value in STUDY.items() if key not in ("first", "best", "settings")}
    paths.write_whole(paths.tuned("garments", "bpr"), yaml.safe_dump(left_out | {"left_out": "It needs pictures."}))
    tracking.replay()
    tracking.replay()
    (study,) = runs("garments tuning")
    assert (study.data.tags["state"], study.data.tags["reason"]) == ("left out", "It needs pictures.")
    assert sorted(run.data.tags["seed"] for run in runs()) == ["1", "all"]


@pytest.mark.slow
def test_replay_restores_a_deleted_store() -> None:
    write_run("bpr", 1, 0.3)
    command = [sys.executable, "-m", "motorec.tracking"]
    for _ in range(2):
        shutil.rmtree(tracking.folder())
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert (
            done.stdout
            == "1 run logged, 0 already there, 2 with no files yet: garments/popularity/1, garments/bpr/2.\n"
        )
        assert "Traceback" not in done.stderr
    (child,) = runs(search="tags.seed = '1'")
    assert_store_equals_files(child.info.run_id, "garments", "bpr", 1)


@pytest.mark.slow
def test_processes_that_meet_a_new_store_together_all_log() -> None:
    shutil.rmtree(tracking.folder())
    for seed in (1, 2, 3):
        write_run("bpr", seed, 0.3)
    code = "import sys; from motorec import tracking; tracking.log_run('garments', 'bpr', int(sys.argv[1]))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    workers = [subprocess.Popen([sys.executable, "-c", code, str(seed)], env=env) for seed in (1, 2, 3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    assert sorted(run.data.tags["seed"] for run in runs()) == ["1", "2", "3", "all"]
    assert parent_of("bpr").data.tags["seeds"] == "1, 2, 3"
