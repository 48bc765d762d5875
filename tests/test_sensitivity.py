"""Sensitivity: one setting at a time, on validation alone, each run made once however often it is interrupted."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import latex
import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from planted import planted_dataset, planted_features

from motorec import config, paths, preflight
from motorec.config import Varied
from motorec.errors import DataError, ParamsError
from motorec.evaluation.evaluate import item_groups
from motorec.experiment import Experiment
from motorec.features import save_all
from motorec.models import tokens
from motorec.rarity import rarity_weights
from motorec.reporting import sensitivity as report
from motorec.sensitivity import batch
from motorec.sensitivity.__main__ import main
from motorec.sensitivity.study import METRICS, Result, Run, along_the_axis, changed, check, load, plan, vary

ROOT = Path(__file__).parent.parent
PARAMETERS = {
    "alpha": {"symbol": r"\alpha", "title": "concatenation", "key": "alpha", "values": [0, 1.0]},
    "gamma": {"symbol": r"\gamma", "title": "sparsity", "key": "tokenizer.sparsity", "values": [0, 0.05]},
    "tau": {"symbol": r"\tau", "title": "rarity", "key": "inputs.cold_below", "values": [0, 7]},
}


def change(file: str, **values: object) -> None:
    path = paths.root() / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


@pytest.fixture(autouse=True)
def _planted(project: Path) -> None:
    make(project)


def make(folder: Path) -> None:
    """A project with the planted data set, a small model and a small study."""
    (folder / "params" / "data" / "planted.yaml").write_text("source: folder\ntitle: Planted\n")
    change("models/motorec.yaml", dim=8, layers=1, contrastive_nodes=32, per_dataset={})
    change("models/motorec.yaml", training={"epochs": 4, "evaluate_every": 2, "batch_size": 256, "checkpoint_every": 1})
    change("tokenize.yaml", latent=8, hidden=[16], codebook_size=8, levels=2, epochs=4, per_dataset={})
    change("evaluate.yaml", cold_below=7)
    study: dict[str, object] = {"model": "motorec", "datasets": ["planted"], "seeds": [1, 2], "vary": list(PARAMETERS)}
    study |= {"parameters": PARAMETERS, "per_dataset": {}}
    (folder / "params" / "sensitivity.yaml").write_text(yaml.safe_dump(study))
    dataset = planted_dataset(users=60)
    dataset.save(paths.catalogue("planted"))
    save_all("planted", planted_features(dataset))


def rows(parameter: str) -> list[dict[str, str]]:
    with paths.sensitivity("planted", parameter).open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], int]]:
    """What is changed in each run that is made, and its seed, as they come."""
    found: list[tuple[dict[str, Any], int]] = []
    do = Run.do
    monkeypatch.setattr(Run, "do", lambda run: found.append((run.changes, run.experiment.inputs.seed)) or do(run))
    return found


def test_each_value_is_run_with_each_seed_and_the_default_once_for_all(made: list[tuple[dict[str, Any], int]]) -> None:
    for parameter in PARAMETERS:
        vary("planted", parameter)
    assert [(row["value"], row["default"], row["seed"]) for row in rows("alpha")] == [
        ("0", "False", "1"),
        ("0", "False", "2"),
        ("0.5", "True", "1"),
        ("0.5", "True", "2"),
        ("1", "False", "1"),
        ("1", "False", "2"),
    ]
    assert made == [
        *(({"alpha": value}, seed) for value in (0.0, 1.0) for seed in (1, 2)),
        ({}, 1),
        ({}, 2),
        *(({"tokenizer.sparsity": 0}, seed) for seed in (1, 2)),
        *(({"inputs.cold_below": 0}, seed) for seed in (1, 2)),
    ]
    defaults = [[row for row in rows(name) if row["default"] == "True"] for name in PARAMETERS]
    for metric in (*METRICS, "best_epoch"):
        assert len({tuple(row[metric] for row in part) for part in defaults}) == 1
    assert len({row["all/ndcg@20"] for name in PARAMETERS for row in rows(name)}) > 4


def test_a_run_is_worth_what_the_pipeline_reaches_on_validation_with_that_setting() -> None:
    vary("planted", "gamma")
    change("models/motorec.yaml", tokenizer={"sparsity": 0.0})
    experiment = Experiment.load("planted", "motorec", 2)
    model = experiment.build()
    fit = experiment.fit(model)
    assert fit is not None
    means = experiment.evaluate(model)["valid"].means
    (row,) = [row for row in rows("gamma") if (row["value"], row["seed"]) == ("0", "2")]
    assert int(row["best_epoch"]) == fit.best_epoch
    for metric in METRICS:
        assert float(row[metric]) == pytest.approx(means[f"valid/{metric}"], abs=1e-6)
    assert int(row["cold/users"]) == means["valid/cold/users"] > 10


def test_a_killed_study_goes_on_where_it_was_and_ends_in_the_same_bytes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vary("planted", "alpha")
    expected = paths.sensitivity("planted", "alpha").read_bytes()
    fit, build = Experiment.fit, Experiment.build
    # In the first training, and in one with finished ones before it.
    for epochs, finished in ((1, 0), (3, 1)):
        shutil.rmtree(project / "data" / "sensitivity")
        shutil.rmtree(project / "results")
        seen: list[int] = []

        def killed(epoch: int, value: float, seen: list[int] = seen, epochs: int = epochs) -> None:
            seen.append(epoch)
            if len(seen) == epochs:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Experiment, "fit", lambda one, model, killed=killed: fit(one, model, killed))
            with pytest.raises(KeyboardInterrupt):
                vary("planted", "alpha")
        assert not (project / "results").exists()
        built: list[Experiment] = []
        with monkeypatch.context() as patch:
            patch.setattr(Experiment, "build", lambda one, built=built: built.append(one) or build(one))
            vary("planted", "alpha")
            assert paths.sensitivity("planted", "alpha").read_bytes() == expected
            vary("planted", "alpha")
        assert len(built) == 6 - finished
        assert not list((project / "data" / "unfinished").rglob("*.pt"))


def test_only_what_a_change_concerns_is_run_again(made: list[tuple[dict[str, Any], int]]) -> None:
    vary("planted", "alpha")
    before = rows("alpha")
    made.clear()
    alpha = PARAMETERS["alpha"]
    change(
        "sensitivity.yaml", parameters={**PARAMETERS, "alpha": {**alpha, "title": "other", "values": [0, 0.25, 1]}}
    )  # 1 is 1.0
    vary("planted", "alpha")
    assert made == [({"alpha": 0.25}, 1), ({"alpha": 0.25}, 2)]
    assert [row for row in rows("alpha") if row["value"] != "0.25"] == before
    made.clear()
    change("sensitivity.yaml", seeds=[1, 3])
    vary("planted", "alpha")
    assert {seed for _, seed in made} == {3}
    assert len(made) == 4
    made.clear()
    change("models/motorec.yaml", l2=0.001)  # concerns all
    vary("planted", "alpha")
    assert len(made) == 8


def test_other_validation_data_are_other_runs() -> None:
    varied = config.load_sensitivity().parameters["alpha"]
    before = {run.file for run in plan(varied, load("planted"))}
    dataset = planted_dataset(users=60)
    dataset.interactions.loc[dataset.interactions["split"] == "valid", "item"] = 0
    dataset.save(paths.catalogue("planted"))
    assert not before & {run.file for run in plan(varied, load("planted"))}


def test_the_test_split_takes_no_part(project: Path) -> None:
    dataset = planted_dataset(users=60)
    found = []
    for kept in (dataset.interactions, dataset.interactions[dataset.interactions["split"] != "test"]):
        shutil.rmtree(project / "data" / "sensitivity", ignore_errors=True)
        replace(dataset, interactions=kept.reset_index(drop=True)).save(paths.catalogue("planted"))
        for base in load("planted"):
            assert set(base.dataset.interactions["split"]) == {"train", "valid"}
        vary("planted", "tau")
        found.append(paths.sensitivity("planted", "tau").read_bytes())
    assert found[0] == found[1]


def test_tau_reaches_every_rarity_weight_and_not_what_counts_as_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    base = load("planted")[0]
    learned = base.inputs.degrees  # what the pretraining gets to see of tau
    weights: list[np.ndarray] = []
    pretrain = tokens.pretrain
    monkeypatch.setattr(tokens, "pretrain", lambda *given: weights.append(given[2]) or pretrain(*given))
    tokens_of_03 = paths.tokens("planted", 1)
    monkeypatch.setattr(tokens, "load_tokenizers", lambda folder, _: folder == tokens_of_03)
    base = replace(base, inputs=replace(base.inputs, tokens=tokens_of_03))
    assert 0 < (learned < 7).sum() < len(learned)
    for tau in (0, 7, 9):
        experiment = changed(base, {"inputs.cold_below": tau} if tau != 7 else {})
        model: Any = experiment.build()
        assert np.array_equal(model.rarity.numpy(), rarity_weights(learned, tau, "amplify"))
        assert experiment.evaluation == base.evaluation
        groups, expected = (item_groups(one.dataset, one.evaluation) for one in (experiment, base))
        assert all(np.array_equal(groups[name], expected[name]) for name in expected)
    # With the default the tokenizers of notebook 03 were loaded; the others learned anew, each with its own weights.
    assert len(weights) == 2
    assert np.array_equal(weights[0], np.ones(len(learned)))
    assert np.array_equal(weights[1], rarity_weights(learned, 9, "amplify"))


def test_a_diverging_value_leaves_its_reason_and_the_others_go_on() -> None:
    wild = {"symbol": "l", "title": "step", "key": "training.learning_rate", "values": [1e12]}
    change("sensitivity.yaml", vary=["wild"], parameters={"wild": wild})
    vary("planted", "wild")
    found = rows("wild")
    assert [row["reason"] != "" for row in found] == [row["value"] == "1e+12" for row in found]
    assert [row["all/recall@20"] == "" for row in found] == [row["value"] == "1e+12" for row in found]
    failed = next(row for row in found if row["reason"])
    assert "kept" not in failed["reason"]
    assert not list(paths.checkpoints("train").rglob("*.safetensors"))
    text = report.write("planted")[0].read_text()
    assert f"wild = 1e+12, seed 1: {failed['reason']}." in text
    assert "| 1e+12 | 0 | – | – | – | – |" in text


def test_a_run_that_another_process_makes_is_waited_for(
    made: list[tuple[dict[str, Any], int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan(config.load_sensitivity().parameters["alpha"], load("planted"))
    busy = runs[0]
    busy.file.parent.mkdir(parents=True)
    at_it, others_done = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with FileLock(busy.file.with_suffix(".lock")):
            at_it.set()
            others_done.wait(30)
            time.sleep(0.5)  # so that somebody waits for the lock by now
            Result(busy.changes, 1, {**dict.fromkeys(METRICS, 0.125), "cold/users": 7.0}).write(busy.file)

    other = threading.Thread(target=elsewhere)
    other.start()
    assert at_it.wait(30)
    do = Run.do

    def watched(run: Run) -> Result:
        result = do(run)
        if len(made) == 5:
            others_done.set()
        return result

    monkeypatch.setattr(Run, "do", watched)
    vary("planted", "alpha")
    other.join()
    assert (busy.changes, 1) not in made
    assert len(made) == 5
    assert rows("alpha")[0]["all/recall@20"] == "0.125000"


@pytest.mark.parametrize(
    ("values", "default", "expected"),
    [
        ((0, 0.1, 1.0), 0.1, [0, 0.1, 1.0]),
        ((0, 0.1, 1.0), 0.1151, [0, 0.1, 0.1151, 1.0]),
        ((0, 0.1, 1.0), 5.0, [0, 0.1, 1.0, 5.0]),
        ((1, 2, 3), 0, [0, 1, 2, 3]),
        ((0.01, None, 0.1), None, [0.01, None, 0.1]),
        ((0.01, None, 0.1), 0.05, [0.01, None, 0.05, 0.1]),
        ((0.01, 0.1), None, [0.01, 0.1, None]),
    ],
)
def test_the_default_has_its_place_among_the_values(values: tuple[Any, ...], default: Any, expected: list[Any]) -> None:
    assert along_the_axis(Varied(symbol="x", title="x", key="x", values=values), default) == expected


def test_values_may_differ_by_data_set(project: Path) -> None:
    change("sensitivity.yaml", per_dataset={"planted": {"parameters": {"alpha": {"values": [0.25]}}}})
    assert config.load_sensitivity("planted").parameters["alpha"].values == (0.25,)
    assert config.load_sensitivity("garments").parameters["alpha"].values == (0, 1.0)
    change("tokenize.yaml", per_dataset={"planted": {"sparsity": 0.2}})
    runs = plan(config.load_sensitivity("planted").parameters["gamma"], load("planted"))
    assert [(run.value, not run.changes) for run in runs[::2]] == [(0, False), (0.05, False), (0.2, True)]


def one(name: str, **values: Any) -> dict[str, Any]:
    return {"parameters": {**PARAMETERS, name: {**PARAMETERS.get(name, PARAMETERS["alpha"]), **values}}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (one("alpha", key="alhpa"), "alpha: no setting of motorec is called 'alhpa'. Did you mean 'alpha'?"),
        (one("gamma", key="tokenizer.sparsty"), "Did you mean 'tokenizer.sparsity'?"),
        (one("tau", key="inputs.cold_bellow"), "Did you mean 'inputs.cold_below'?"),
        (one("alpha", key="fusion"), "fusion is 'hybrid', which is no number"),
        (one("alpha", key="tokens"), "tokens is True, which is no number"),
        (one("alpha", values=[0.5, 1.5]), "params/sensitivity.yaml, alpha: 'alpha' is 1.5."),
        (one("gamma", values=[-1]), "params/sensitivity.yaml, gamma: 'sparsity' is -1."),
        (one("alpha", key="layers", values=[0]), "'layers' is 0."),
        (one("alpha", key="layers", values=[1.5]), "'layers' is 1.5."),
        (one("alpha", key="layers", values=[None]), "'layers' is None."),
        (one("alpha", key="training.epochs", values=[0]), "'epochs' is 0."),
        (one("tau", values=[1.5]), "tau: 1.5 is no number of interactions"),
        (one("tau", values=[-1]), "tau: -1 is no number of interactions"),
        (one("tau", values=[None]), "tau: None is no number of interactions"),
        (one("alpha", values=["a half"]), "each value must be a number"),
        (one("alpha", values=[True]), "each value must be a number"),
        (one("alpha", values=[]), "at least 1 item"),
        (one("alpha", values=[1, 0]), "the values must increase"),
        (one("alpha", values=[0, 0.0]), "the values must increase"),
        (one("alpha", vlaues=[1]), "unknown key 'parameters.alpha.vlaues'. Did you mean 'values'?"),
        (one("al pha"), "al pha"),
        ({"vary": ["alhpa"]}, "vary names 'alhpa', which is not among the parameters. Did you mean 'alpha'?"),
        ({"vary": ["alpha", "alpha"]}, "vary names something more than once"),
        ({"seeds": []}, "at least 1 item"),
        ({"models": ["motorec"]}, "unknown key 'models'. Did you mean 'model'?"),
        ({"model": "motorce"}, "Did you mean 'motorec'?"),
        ({"per_dataset": {"plnted": {}}}, "per_dataset names 'plnted'. Did you mean 'planted'?"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_runs(
    values: dict[str, Any], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("sensitivity.yaml", **values)
    with pytest.raises(ParamsError) as found:
        check("planted")
    assert message in str(found.value)
    assert main(["planted"]) == 1
    assert message in capsys.readouterr().err
    assert not (project / "data" / "sensitivity").exists()


@pytest.mark.parametrize(
    ("words", "message"), [(["plante"], "'planted'"), (["planted", "alhpa"], "'alpha'"), (["hm"], "does not name 'hm'")]
)
def test_an_unknown_name_is_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_the_check_before_the_pipeline_reads_the_study(project: Path) -> None:
    change("sensitivity.yaml", vary=["alhpa"])
    with pytest.raises(ParamsError, match="'alpha'"):
        preflight.check()


def test_the_study_in_this_repository_has_values_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for dataset in config.load_sensitivity().datasets:
        assert len(check(dataset).vary) == 10


def fill(parameter: str, by_value: dict[str, list[float | None]], default: str) -> None:
    """Write a parameter's file by hand: `all/recall@20` by value and seed, the other metrics a tenth of it and less."""
    table = [
        {
            "value": value,
            "default": value == default,
            "seed": seed,
            **{name: None if recall is None else recall / 10**place for place, name in enumerate(METRICS)},
            "cold/users": None if recall is None else 21,
            "best_epoch": 8,
            "epochs": 9,
            "reason": "it diverged" if recall is None else "",
        }
        for value, found in by_value.items()
        for seed, recall in enumerate(found, start=1)
    ]
    file = paths.sensitivity("planted", parameter)
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(file, index=False)


def test_the_table_is_what_one_works_out_by_hand() -> None:
    fill("alpha", {"0": [0.2, 0.3, 0.4], "0.5": [0.5, 0.5, 0.5], "1": [0.6, None, 0.8]}, "0.5")
    fill("tau", {"0": [0.25], "14": [0.5]}, "14")
    table = report.over_seeds(report.load("planted"), alpha=0.05).set_index(["parameter", "value"])
    assert list(table["seeds"]) == [3, 3, 2, 1, 1]
    # Mean .3, deviations -.1, 0, .1: sd .1; Student's t with 2 degrees of freedom is 4.3027, of it .1 / sqrt(3).
    first = table.loc[("alpha", "0")]
    assert first[["all/recall@20", "all/recall@20_sd"]].tolist() == pytest.approx([0.3, 0.1])
    assert first["all/recall@20_low"] == pytest.approx(0.3 - 4.3027 * 0.057735, abs=1e-5)
    assert first["all/recall@20_high"] == pytest.approx(0.3 + 4.3027 * 0.057735, abs=1e-5)
    assert first["cold/ndcg@20"] == pytest.approx(0.0003)
    assert table.loc[("alpha", "0.5"), "all/recall@20_high"] == pytest.approx(0.5)
    # One seed failed: mean of .6 and .8, sd .1 sqrt(2), t with one degree of freedom 12.706, of it sd / sqrt(2) = .1.
    assert table.loc[("alpha", "1"), "all/recall@20_low"] == pytest.approx(0.7 - 1.2706, abs=1e-4)
    assert np.isnan(table.loc[("tau", "0"), "all/recall@20_low"])

    text = report.write("planted")[0].read_text()
    assert "| $\\alpha$, concatenation | 0 | 3 | 0.3000 ± 0.1000 | 0.0300 ± 0.0100 | 0.0030 ± 0.0010 |" in text
    assert "|  | 0.5 (default) | 3 | 0.5000 ± 0.0000 |" in text
    assert "| $\\tau$, rarity | 0 | 1 | 0.2500 |" in text
    assert "alpha = 1, seed 2: it diverged." in text
    assert "Not run yet: gamma." in text
    assert "Users with a cold target: 21." in text


def test_a_parameter_is_shown_as_params_says_and_latex_takes_it() -> None:
    change("sensitivity.yaml", **one("alpha", title="50% of a_b & c"))
    fill("alpha", {"0": [0.2, 0.3], "1/K": [0.5, 0.6]}, "1/K")
    fill("tau", {"0": [0.25, 0.5], "14": [0.5, 0.25]}, "14")
    target = report.write("planted")[0]
    text = target.with_suffix(".tex").read_text()
    latex.check(text, "sensitivity")
    assert r"$\alpha$, 50\% of a\_b \& c & 0 & 2 &" in text
    assert r"1/K (default) & 2 &" in text
    assert text.count(r"\midrule") == 2
    assert pd.read_csv(target.with_suffix(".csv"))["value"].tolist() == ["0", "1/K", "0", "14"]


def test_the_figures_show_every_value_and_come_out_the_same_each_time() -> None:
    fill("alpha", {"0": [0.2, 0.3, 0.4], "0.5": [0.5, 0.5, 0.6], "1": [0.6, None, 0.8]}, "0.5")
    fill("tau", {"0": [0.25, 0.5], "14": [0.5, 0.25]}, "14")
    files = [file.with_suffix(ending) for file in report.write("planted")[1:] for ending in (".png", ".pdf")]
    assert [file.name for file in files] == ["planted.png", "planted.pdf", "planted-ndcg.png", "planted-ndcg.pdf"]
    before = [file.read_bytes() for file in files]
    report.write("planted")
    assert [file.read_bytes() for file in files] == before

    rows = report.load("planted")
    table = report.over_seeds(rows, alpha=0.05)
    figure = report.curves(rows, table, config.load_sensitivity().parameters, "recall@20", "Title", 0.05)
    panels = figure.axes
    assert [panel.get_title() for panel in panels[:2]] == ["$\\alpha$\nconcatenation", "$\\tau$\nrarity"]
    assert [text.get_text() for text in panels[2].get_xticklabels()] == ["0", ".5", "1"]
    assert [panel.get_ylabel() for panel in panels] == ["all targets", "", "cold targets", ""]
    for panel in panels[:2]:  # one scale for all
        assert panel.get_ylim() == panels[0].get_ylim()
    (points,) = panels[0].collections[-1:]
    filled = [tuple(colour[:3]) != (1.0, 1.0, 1.0) for colour in points.get_facecolor()]
    assert filled == [False, True, False]
    assert points.get_offsets()[:, 1].tolist() == pytest.approx([0.3, 1.6 / 3, 0.7])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0] == "mean and 95% t-interval over 3 seeds"


def test_a_report_without_runs_says_what_makes_them() -> None:
    with pytest.raises(DataError, match="make sensitivity DATASET=planted"):
        report.write("planted")


def test_the_forecast_counts_what_is_left_and_goes_by_what_runs_took() -> None:
    settings, bases = check("planted"), load("planted")
    runs = plan(settings.parameters["alpha"], bases)
    assert "6 runs, 6 left" in batch.forecast("planted", ["alpha"], runs, 2)
    assert "Guessed" in batch.forecast("planted", ["alpha"], runs, 2)
    for run, seconds in zip(runs[:2], (100.0, 140.0), strict=True):
        Result(run.changes, 1, seconds=seconds).write(run.file)
    # 4 runs of 120 seconds; one parameter keeps one process busy, two keep two.
    assert batch.forecast("planted", ["alpha"], runs, 2) == (
        "1 parameters on planted, 6 runs, 4 left: about 8 minutes with 2 at a time."
    )
    assert "about 4 minutes" in batch.forecast("planted", ["alpha", "tau"], runs, 2)


def test_the_stage_and_paths_speak_of_the_same_places() -> None:
    stage = yaml.safe_load((ROOT / "sensitivity" / "dvc.yaml").read_text())["stages"]["sensitivity"]
    (out,) = stage["outs"]
    name = next(iter(out)).replace("${item.dataset}", "D").replace("${item.parameter}", "P")
    assert name == paths.shown(paths.sensitivity("D", "P"))
    for dependency in stage["deps"]:
        assert dependency.startswith("data/") or (ROOT / dependency).exists()


@pytest.mark.slow
def test_parameters_run_side_by_side_as_stages_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "cache", "tmp", "dvc.lock")
    for name in ("motorec", "params", "sensitivity", ".dvc"):
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
    side_by_side = (sys.executable, "-m", "motorec.sensitivity", "planted", "alpha", "gamma", "--jobs", "2")
    said = shell(*side_by_side)
    assert "2 parameters on planted, 8 runs, 8 left" in said  # the default's two are shared
    assert "planted/alpha: 1, seed 2" in said
    lines = [line for line in said.splitlines() if "seed" in line]
    assert len(lines) == 8
    lock = folder / "sensitivity" / "dvc.lock"
    assert set(yaml.safe_load(lock.read_text())["stages"]) == {
        "sensitivity@planted-alpha",
        "sensitivity@planted-gamma",
    }
    results = folder / "results" / "sensitivity"
    assert sorted(file.name for file in results.iterdir()) == [
        "planted",
        *(f"planted{rest}" for rest in ("-ndcg.pdf", "-ndcg.png", ".csv", ".md", ".pdf", ".png", ".tex")),
    ]

    before = lock.read_bytes()
    said = shell(*side_by_side)
    assert "0 left" in said
    assert not [line for line in said.splitlines() if "seed" in line]
    assert lock.read_bytes() == before
    listed = shell(sys.executable, "-m", "dvc", "stage", "list", "--name-only")
    assert "sensitivity@" not in listed
