"""Tuning: the same effort for all, on validation alone, and the same trials however often it was interrupted."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted import planted_dataset, planted_features

from motorec import config, paths, preflight
from motorec.errors import MotorecError, ParamsError
from motorec.experiment import Experiment
from motorec.features import save_all
from motorec.reporting import tuning as table
from motorec.tuning import choice
from motorec.tuning.__main__ import main
from motorec.tuning.study import Study, Trial, check, tune
from motorec.variant import meaning, sources

ROOT = Path(__file__).parent.parent
BPR = """\
title: BPR-MF # a comment
dim: 16
l2: 0.0001 # another
training: {epochs: 8, evaluate_every: 2, batch_size: 256, checkpoint_every: 3}
search:
  training.learning_rate: {low: 1.0e-3, high: 1.0e-1, log: true} # the one that matters
  dim: {low: 2, high: 24}
  l2: {choices: [0.0001, 0.001]}
"""


def change(file: str, **values: object) -> None:
    path = paths.root() / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


@pytest.fixture(autouse=True)
def _planted(project: Path) -> None:
    """A project with the planted data set and a small effort."""
    make(project)


def make(folder: Path) -> None:
    """The settings and the data, as the stages would leave them."""
    (folder / "params" / "data" / "planted.yaml").write_text("source: folder\ntitle: Planted\n")
    (folder / "params" / "models" / "bpr.yaml").write_text(BPR)
    stopping = {"epochs": 8, "evaluate_every": 2, "patience": 4}
    change("tune.yaml", datasets=["planted"], models=["bpr", "itemknn"], trials=4, random=2, stopping=stopping)
    dataset = planted_dataset()
    dataset.save(paths.catalogue("planted"))
    save_all("planted", planted_features(dataset))


def rows(model: str) -> list[dict[str, str]]:
    with paths.tuned("planted", model).with_suffix(".csv").open() as file:
        return list(csv.DictReader(file))


def results(model: str) -> tuple[bytes, bytes]:
    file = paths.tuned("planted", model)
    return file.read_bytes(), file.with_suffix(".csv").read_bytes()


def test_the_first_trial_is_the_model_as_it_stands_and_the_best_one_is_kept() -> None:
    tune("planted", "bpr")
    trials = rows("bpr")
    assert [trial["number"] for trial in trials] == ["0", "1", "2", "3"]
    as_it_stands = {"training.learning_rate": "0.005", "dim": "16", "l2": "0.0001", "state": "complete"}
    assert as_it_stands.items() <= trials[0].items()
    for trial in trials:
        assert 1e-3 <= float(trial["training.learning_rate"]) <= 1e-1
        assert 2 <= int(trial["dim"]) <= 24
    summary = config.read_yaml(paths.tuned("planted", "bpr"))
    complete = [float(trial["value"]) for trial in trials if trial["state"] == "complete"]
    assert summary["best"]["value"] == max(complete) >= summary["first"] == float(trials[0]["value"])
    best = trials[summary["best"]["trial"]]
    assert {key: str(value) for key, value in summary["settings"].items()}.items() <= best.items()


def test_a_trial_is_worth_what_a_run_with_its_settings_reaches_on_validation() -> None:
    tune("planted", "bpr")
    (trial,) = [trial for trial in rows("bpr") if trial["number"] == "1"]
    choice.write_settings("planted", "bpr", {"training.learning_rate": float(trial["training.learning_rate"])})
    choice.write_settings("planted", "bpr", {"dim": int(trial["dim"]), "l2": float(trial["l2"])})
    experiment = Experiment.load("planted", "bpr", config.load_run().seeds[0])
    model = experiment.build()
    fit = experiment.fit(model)
    assert fit is not None
    assert fit.best_epoch == int(trial["best_epoch"])
    assert experiment.evaluate(model)["valid"].means["valid/all/recall@20"] == pytest.approx(
        float(trial["value"]), abs=1e-6
    )


def test_a_killed_study_continues_and_ends_in_the_same_trials(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune("planted", "bpr")
    expected = results("bpr")
    write, build = Trial.write, Experiment.build
    # Within a trial before and after its first checkpoint, and between two trials.
    for moment, finished in ((1, 0), (4, 0), (5, 1), (12, 2)):
        shutil.rmtree(project / "data" / "tuning")
        shutil.rmtree(project / "results")
        written: list[Trial] = []

        def killed(trial: Trial, folder: Path, written: list[Trial] = written, moment: int = moment) -> None:
            write(trial, folder)
            written.append(trial)
            if len(written) == moment:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Trial, "write", killed)
            with pytest.raises(KeyboardInterrupt):
                tune("planted", "bpr")
        assert sum(trial.state != "running" for trial in written) == finished
        assert not (project / "results").exists()

        built: list[Experiment] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                Experiment, "build", lambda experiment, built=built: built.append(experiment) or build(experiment)
            )
            tune("planted", "bpr")
            assert results("bpr") == expected
            tune("planted", "bpr")
        assert len(built) == 4 - finished


def test_more_trials_are_added_to_those_that_are_there() -> None:
    change("tune.yaml", trials=3)
    tune("planted", "itemknn")
    before = rows("itemknn")
    change("tune.yaml", trials=5)
    tune("planted", "itemknn")
    assert len(before) == 3
    assert rows("itemknn")[:3] == before
    assert len(rows("itemknn")) == 5


def test_the_test_split_takes_no_part(project: Path) -> None:
    dataset = planted_dataset()
    found = []
    for kept in (dataset.interactions, dataset.interactions[dataset.interactions["split"] != "test"]):
        shutil.rmtree(project / "data" / "tuning", ignore_errors=True)
        replace(dataset, interactions=kept.reset_index(drop=True)).save(paths.catalogue("planted"))
        tune("planted", "bpr")
        found.append(results("bpr"))
        assert set(Study.load("planted", "bpr").experiment.dataset.interactions["split"]) == {"train", "valid"}
    assert found[0] == found[1]


def test_other_validation_data_make_another_study() -> None:
    before = Study.load("planted", "bpr").folder
    dataset = planted_dataset()
    dataset.interactions.loc[dataset.interactions["split"] == "valid", "item"] = 0
    dataset.save(paths.catalogue("planted"))
    assert Study.load("planted", "bpr").folder != before


def test_a_closed_form_model_is_tuned_too() -> None:
    tune("planted", "itemknn")
    trials = rows("itemknn")
    assert len({trial["neighbours"] for trial in trials}) > 2
    assert all(trial["state"] == "complete" and float(trial["value"]) > 0 for trial in trials)
    assert {trial["best_epoch"] for trial in trials} == {""}


def test_a_diverging_trial_fails_with_its_reason_and_the_others_go_on(project: Path) -> None:
    search = {"training.learning_rate": {"choices": [0.005, 1e12]}}
    change("models/bpr.yaml", search=search)
    tune("planted", "bpr")
    trials = rows("bpr")
    failed = [trial for trial in trials if trial["training.learning_rate"] != "0.005"]
    assert failed
    for trial in failed:
        assert trial["state"] == "failed"
        assert trial["reason"].startswith(("the loss rises", "bpr", "l2"))
        assert "kept" not in trial["reason"]
    assert config.read_yaml(paths.tuned("planted", "bpr"))["failed"] == len(failed)
    assert not list((project / "data" / "unfinished").rglob("*.safetensors"))


def test_a_hopeless_trial_is_given_up() -> None:
    change("models/bpr.yaml", search={"training.learning_rate": {"choices": [0.05, 1e-9]}})
    change("models/bpr.yaml", training={"learning_rate": 0.05})
    change("tune.yaml", stopping={"epochs": 12, "evaluate_every": 2, "patience": 4})
    change("tune.yaml", pruning={"after_trials": 1, "after_epochs": 4})
    tune("planted", "bpr")
    hopeless = [trial for trial in rows("bpr") if trial["training.learning_rate"] == "1e-09"]
    assert hopeless
    assert {(trial["state"], trial["epochs"]) for trial in hopeless} == {("pruned", "4")}
    assert {trial["state"] for trial in rows("bpr") if trial not in hopeless} == {"complete"}


@pytest.mark.parametrize("word", ["0", "-1", "two"])
def test_a_number_of_jobs_below_one_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["planted", "--jobs", word])
    assert f"{word!r}: expected a number of at least 1" in capsys.readouterr().err


def test_a_lone_survivor_gives_nobody_up() -> None:
    """Of the finished trials only one came as far as the new one: that is no median to fall behind."""
    reports = [{2: 0.1, 4: 0.2}, {2: 0.1, 4: 0.2}, {2: 0.1, 4: 0.2, 6: 0.9, 8: 0.9}]
    params = {"training.learning_rate": 0.01, "dim": 8, "l2": 0.001}
    change("tune.yaml", pruning={"after_trials": 3, "after_epochs": 0})
    study = Study.load("planted", "bpr")
    past = [
        Trial(number=number, state="complete", params=params, settings={}, reports=seen, value=max(seen.values()))
        for number, seen in enumerate(reports)
    ]
    asked = study._ask(past)
    for epoch in (6, 8):
        asked.report(0.05, epoch)
        assert not asked.should_prune()
    behind = study._ask(past)
    behind.report(0.05, 4)  # all three came as far
    assert behind.should_prune()


def test_a_cap_on_epochs_holds_for_every_trial() -> None:
    change("tune.yaml", stopping={"epochs": 4, "evaluate_every": 2, "patience": 2})
    tune("planted", "bpr")
    assert {trial["epochs"] for trial in rows("bpr")} == {"4"}
    choice.apply("planted", ["bpr"])
    training = config.load_model("bpr", "planted").training
    assert (training.epochs, training.evaluate_every, training.patience) == (4, 2, 2)


def test_the_second_trial_has_the_authors_settings_where_they_differ(project: Path) -> None:
    file = project / "params" / "models" / "bpr.yaml"
    file.write_text(BPR.replace("high: 24}", "high: 24, authors: 20}").replace("0.001]}", "0.001], authors: 0.001}"))
    tune("planted", "bpr")
    second = rows("bpr")[1]
    assert {"dim": "20", "l2": "0.001", "training.learning_rate": "0.005"}.items() <= second.items()


@pytest.mark.parametrize(("space", "authors"), [("high: 24", "2000"), ("0.001]", "0.5")])
def test_authors_settings_must_lie_in_the_search_space(project: Path, space: str, authors: str) -> None:
    file = project / "params" / "models" / "bpr.yaml"
    file.write_text(BPR.replace(f"{space}}}", f"{space}, authors: {authors}}}"))
    with pytest.raises(ParamsError, match=f"authors, {authors}, lies outside"):
        tune("planted", "bpr")


def test_a_model_without_its_content_leaves_the_reason(project: Path) -> None:
    save_all("planted", {})
    change("tune.yaml", models=["contentknn-text"])
    tune("planted", "contentknn-text")
    assert rows("contentknn-text") == []
    assert "needs" in config.read_yaml(paths.tuned("planted", "contentknn-text"))["left_out"]
    assert "left out" in table.write("planted").read_text()
    (line,) = choice.apply("planted")
    assert line.startswith("contentknn-text: left as it is")


def test_an_unfinished_run_of_the_model_itself_is_left_alone() -> None:
    mine = paths.checkpoints("train", "planted", "bpr", 1) / "checkpoint.pt"
    paths.write_whole(mine, "a run under way")
    tune("planted", "bpr")
    assert mine.read_text() == "a run under way"
    assert [folder.name for folder in mine.parent.parent.parent.iterdir()] == ["bpr"]


def test_two_processes_do_not_run_one_study() -> None:
    from filelock import FileLock

    study = Study.load("planted", "bpr")
    study.folder.mkdir(parents=True)
    with FileLock(study.folder / ".lock"), pytest.raises(MotorecError, match="Another process tunes planted/bpr"):
        tune("planted", "bpr")


def test_the_best_settings_are_written_beside_the_search_space_and_used() -> None:
    study = Study.load("planted", "bpr").folder
    tune("planted", "bpr")
    best = config.read_yaml(paths.tuned("planted", "bpr"))["settings"]
    assert main(["planted", "bpr", "--apply"]) == 0
    chosen = config.known_settings(config.load_model("bpr", "planted"))
    assert {key: chosen[key] for key in best} == best
    elsewhere = config.known_settings(config.load_model("bpr", "garments"))
    assert elsewhere["dim"] == 16
    file = paths.root() / "params" / "models" / "bpr.yaml"
    assert file.read_text().startswith(BPR)
    # The study does not change with the values that it led to, nor do they when written again.
    assert Study.load("planted", "bpr").folder == study
    before = file.read_bytes()
    choice.apply("planted")
    assert file.read_bytes() == before


def test_written_settings_keep_what_else_stands_in_the_file() -> None:
    file = paths.root() / "params" / "models" / "bpr.yaml"
    file.write_text(BPR + "per_dataset:\n  planted: # a remark\n    training: {epochs: 9}\nhidden: null\n")
    choice.write_settings("planted", "bpr", {"training.learning_rate": 0.02, "hidden": [64, 32]})
    assert "# a remark" in file.read_text()
    assert "hidden: null" in file.read_text()
    values = config.load_model("bpr", "planted")
    assert (values.training.epochs, values.training.learning_rate) == (9, 0.02)
    assert values.settings["hidden"] == [64, 32]


def test_the_joint_table_names_every_study() -> None:
    tune("planted", "itemknn")
    tune("planted", "bpr")
    text = table.write("planted").read_text()
    assert "valid/all/recall@20" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| BPR-MF", "| ItemKNN"]
    best = config.read_yaml(paths.tuned("planted", "bpr"))["best"]["value"]
    assert f"| {best:.4f} |" in text


def test_a_study_run_by_itself_takes_its_place_in_the_joint_table(project: Path) -> None:
    assert main(["planted", "bpr"]) == 0
    file = project / "results" / "tuning" / "planted.md"
    assert "| BPR-MF |" in file.read_text()
    # A model that params/tune.yaml no longer names keeps its row.
    change("tune.yaml", models=["itemknn"])
    assert main(["planted", "itemknn"]) == 0
    rows = [line.split(" | ")[0] for line in file.read_text().splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| ItemKNN", "| BPR-MF"]


@pytest.mark.parametrize("file", sorted((ROOT / "results" / "tuning").glob("*.md")), ids=lambda file: file.stem)
def test_the_tables_in_git_have_every_study(file: Path, project: Path) -> None:
    shutil.copy2(ROOT / "params" / "tune.yaml", project / "params")
    studies = file.with_suffix("")
    shutil.copytree(studies, project / "results" / "tuning" / studies.name)
    text = table.write(studies.name).read_text()
    for study in studies.glob("*.yaml"):
        assert f"| {yaml.safe_load(study.read_text())['title']} |" in text
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"dmi": {"low": 1, "high": 4}}, "search, dmi: no setting is called so. Did you mean 'dim'?"),
        ({"training.learning_rat": {"low": 0.1, "high": 1.0}}, "Did you mean 'training.learning_rate'?"),
        ({"dim": {"low": 64, "high": 8}}, r"low (64) must be less than high (8)"),
        ({"dim": {"low": 8, "high": 8}}, r"low (8) must be less than high (8)"),
        ({"dim": {"low": 17, "high": 64}}, "16 lies outside 17 to 64"),
        ({"l2": {"low": 0, "high": 1}}, "0.0001 is no whole number"),
        ({"l2": {"low": 0.0, "high": 1.0, "log": True}}, "must be more than 0 where log is true"),
        ({"l2": {"low": "tiny", "high": 1.0}}, "'low' is 'tiny'"),
        ({"l2": {"choices": [0.1, 0.2]}}, "0.0001 is not among the choices"),
        ({"l2": {"choices": [0.0001]}}, "at least 2 items"),
        ({"l2": {"low": 0.0, "hgih": 1.0}}, "unknown key 'hgih'. Did you mean 'high'?"),
        ({"l2": 0.1}, "expected {low, high}"),
        ({"training.metric": {"low": 1, "high": 2}}, "is no number; give {choices}"),
        ({"dim": {"low": 0, "high": 64}}, "'dim' is 0"),
        ({"dim": {"low": 1.5, "high": 64.5}}, "'dim' is 1.5"),
        ({"training.learning_rate": {"low": -1.0, "high": 1.0}}, "'learning_rate' is -1.0"),
        ({}, "has no block `search`"),
        ("all of them", "expected a mapping"),
    ],
)
def test_a_wrong_search_space_is_told_before_anything_runs(search: Any, message: str, project: Path) -> None:
    change("models/bpr.yaml", search=search)
    with pytest.raises(ParamsError) as found:
        check("planted", "bpr")
    assert message in str(found.value)
    assert main(["planted", "bpr"]) == 1
    assert not (project / "data" / "tuning").exists()


def test_the_check_before_the_pipeline_reads_search_spaces() -> None:
    change("models/bpr.yaml", search={"dmi": {"low": 1, "high": 4}})
    change("run.yaml", models=["bpr"])
    with pytest.raises(ParamsError, match="'dim'"):
        preflight.check_dataset(config.load_run(), "garments")


@pytest.mark.parametrize("model", yaml.safe_load((ROOT / "params" / "tune.yaml").read_text())["models"])
def test_every_model_named_for_tuning_has_a_search_space_that_fits(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for dataset in config.load_tune().datasets:
        check(dataset, model)


@pytest.mark.parametrize("model", yaml.safe_load((ROOT / "params" / "tune.yaml").read_text())["models"])
def test_what_is_chosen_for_a_data_set_is_what_its_study_found(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    spaces, tuned = config.load_search(model), config.read_yaml(ROOT / "params" / "models" / f"{model}.yaml")
    for dataset in tuned["per_dataset"]:
        study = config.read_yaml(paths.tuned(dataset, model))
        chosen = config.known_settings(config.load_model(model, dataset))
        found = study["settings"] | study["stopping"]
        assert {key: chosen[key] for key in found} == found, f"on {dataset}: `make tuned DATASET={dataset}`"
        assert all(chosen[key] in space for key, space in spaces.items())


def test_a_fingerprint_knows_the_code_that_decides() -> None:
    names = {file.relative_to(ROOT / "motorec").as_posix() for file in sources("motorec.models.motorec")}
    assert {"models/motorec.py", "models/base.py", "models/losses.py", "tokenizer/rqvae.py", "graph.py"} <= names
    assert not names & {"config.py", "models/bpr.py", "models/__init__.py", "reporting/tables.py"}


def test_a_fingerprint_knows_what_code_does_and_not_how_it_is_told(tmp_path: Path) -> None:
    versions = {
        "told.py": '"""A sum."""\n\n\ndef add(a, b):\n    """a + b."""\n    return a + b  # by hand\n',
        "bare.py": "def add(a, b):\n    return (a +\n            b)\n",
        "other.py": "def add(a, b):\n    return a - b\n",
    }
    for name, text in versions.items():
        (tmp_path / name).write_text(text)
    told, bare, other = (meaning(tmp_path / name) for name in versions)
    assert told == bare != other


def test_the_stage_and_paths_speak_of_the_same_places() -> None:
    stage = yaml.safe_load((ROOT / "tuning" / "dvc.yaml").read_text())["stages"]["tune"]
    outs = [next(iter(out)).replace("${item.dataset}", "D").replace("${item.model}", "M") for out in stage["outs"]]
    tuned = paths.tuned("D", "M")
    assert outs == [paths.shown(tuned.with_suffix(".csv")), paths.shown(tuned)]
    for dependency in stage["deps"]:
        assert dependency.startswith("data/") or (ROOT / dependency).exists()


@pytest.mark.slow
def test_studies_run_side_by_side_as_stages_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "cache", "tmp", "dvc.lock")
    for name in ("motorec", "params", "tuning", ".dvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy2(ROOT / name, folder / name)
    monkeypatch.chdir(folder)
    make(folder)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }

    def shell(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    shell("git", "init", "-q")
    side_by_side = (sys.executable, "-m", "motorec.tuning", "planted", "--jobs", "2")
    said = shell(*side_by_side)
    assert "2 models on planted, 4 trials each, 8 left to run" in said
    assert "planted/bpr: trial 3" in said
    assert "planted/itemknn: trial 3" in said
    lock = folder / "tuning" / "dvc.lock"
    assert set(yaml.safe_load(lock.read_text())["stages"]) == {"tune@planted-bpr", "tune@planted-itemknn"}
    assert (folder / "results" / "tuning" / "planted.md").is_file()

    shell(sys.executable, "-m", "motorec.tuning", "planted", "--apply")
    before = lock.read_bytes()
    said = shell(*side_by_side)
    assert "0 left to run" in said
    assert "trial" not in said.splitlines()[1]
    assert lock.read_bytes() == before
    listed = shell(sys.executable, "-m", "dvc", "stage", "list", "--name-only")
    assert "tune@" not in listed
