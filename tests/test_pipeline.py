"""The whole way through on a tiny profile: every file named, and the same bytes in a fresh clone."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from motorec import clock, config, paths, pipeline, preflight
from motorec.config import load_run
from motorec.errors import DataError, MotorecError, ParamsError

ROOT = Path(__file__).parent.parent
TINY_RUN = {
    "datasets": ["garments"],
    "sources": ["garments"],
    "with_truth": ["garments"],
    "shown": [],
    "closed_form": ["popularity"],
    "content_models": ["ease-features"],
    "models": ["bpr"],
    "token_models": ["motorec"],
    "seeds": [1],
    "ablation_datasets": ["garments"],
    "ablation_seeds": [1],
    "ablations": ["motorec-no-rqvae"],
    "ablation_reports": ["garments"],
}


def shell(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project, with this Python first in its path."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


def tiny_project(folder: Path) -> Path:
    """This repository's files as a git project of its own, with a small catalogue and short trainings."""
    folder.mkdir()
    for name in ("motorec", "notebooks", "params", ".dvc"):
        left_out = shutil.ignore_patterns("__pycache__", "cache", "tmp", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    shutil.copytree(ROOT / "results" / "efficiency", folder / "results" / "efficiency")  # measured, by no stage
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "README.md"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / "params" / "run.yaml").write_text(yaml.safe_dump(TINY_RUN))
    change(folder, "data/garments.yaml", items=60, users=90, image_size=64)
    change(folder, "profiles/ablations.yaml", token_models=["motorec"], seeds=[1], ablation_seeds=[1])
    change(folder, "train.yaml", epochs=4, evaluate_every=2)
    change(folder, "models/motorec.yaml", training={"epochs": 4})
    change(folder, "tokenize.yaml", epochs=6, codebook_size=8, per_dataset={})
    for command in (("init", "-q"), ("add", "-A"), ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t")):
        assert shell(folder, "git", *command).returncode == 0
    return folder


def digests(folder: Path) -> dict[str, str]:
    """A hash of every result, of the lock, and of every executed notebook and page."""
    kinds = ("results/**/*", "data/notebooks/**/*", "data/pages/**/*")
    files = [folder / "dvc.lock", *(file for kind in kinds for file in folder.glob(kind))]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.is_file()
    }


def outputs(notebook: Path) -> list[tuple[str, list[object]]]:
    """Each code cell and what stands below it, but for progress, cell numbers and the pipeline's own parameters."""
    cells = json.loads(notebook.read_text())["cells"]
    return [
        (
            "".join(cell["source"]),
            [output | {"execution_count": 0} for output in cell["outputs"] if output.get("name") != "stderr"],
        )
        for cell in cells
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


@pytest.mark.slow
def test_repro_leaves_results_and_a_fresh_clone_has_the_same_bytes(tmp_path: Path) -> None:
    first = tiny_project(tmp_path / "first")
    done = shell(first, sys.executable, "-m", "motorec.pipeline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/18] encoders" in done.stdout
    assert "Done: 18 of 18 stages ran" in done.stdout

    names = digests(first)
    for table in ("overall", "cold"):
        for kind in ("csv", "md", "tex"):
            assert f"results/tables/{table}.{kind}" in names
    readable = ("tokens.csv", "tokens.png", "information.pdf")
    assert {f"results/readable/garments/{name}" for name in readable} <= set(names)
    metrics = json.loads((first / "results/runs/garments/motorec/1/metrics.json").read_text())
    assert {"test/all/recall@20", "test/cold/ndcg@20", "valid/all/recall@20"} <= set(metrics)
    overall = pd.read_csv(first / "results/tables/overall.csv")
    assert set(overall["model"]) == {"oracle", "popularity", "ease-features", "bpr", "motorec"}
    assert overall.set_index("model").loc["motorec", "recall@20"] == pytest.approx(
        metrics["test/all/recall@20"], abs=1e-5
    )
    assert "| BPR-MF |" in (first / "README.md").read_text()
    assert "garments/04_train-garments-bpr-1.html" in (first / "data/pages/index.html").read_text()

    again = shell(first, sys.executable, "-m", "motorec.pipeline")
    assert "Nothing to do: all 18 stages are up to date" in again.stdout
    assert digests(first) == names

    clone = tmp_path / "clone"
    for command in (("add", "-A"), ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "results")):
        assert shell(first, "git", *command).returncode == 0
    assert shell(tmp_path, "git", "clone", "-q", str(first), str(clone)).returncode == 0
    plain = shell(clone, sys.executable, "-m", "dvc", "repro")
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert digests(clone) == names
    # The clone made the same files anew, and its own MLflow store has every run and what the files say.
    for folder in (first, clone):
        told = shell(folder, sys.executable, "-m", "motorec.tracking")
        assert "0 runs logged, 6 already there" in told.stdout, told.stdout + told.stderr
    assert shell(clone, "git", "status", "--porcelain").stdout == ""

    # By hand: every notebook from top to bottom with its defaults, where it lies, and no word of the pipeline.
    source = sorted((clone / "notebooks").glob("*.ipynb"))
    assert len(source) == 7
    by_hand = ("nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path / "by-hand"))
    ran = shell(clone, sys.executable, "-m", "jupyter", *by_hand, *map(str, source))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for notebook in source:
        (piped,) = (clone / "data/notebooks/garments").glob(
            f"{notebook.stem}-garments*{'motorec-1' if notebook.stem == '04_train' else ''}.ipynb"
        )
        for mine, theirs in zip(outputs(tmp_path / "by-hand" / notebook.name), outputs(piped), strict=True):
            assert mine == theirs, notebook.name
    assert digests(clone) == names


def test_wrong_settings_stop_before_the_first_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, "run.yaml", models=["bpr", "lightgnc"])
    assert pipeline.main([]) == 1
    assert "'lightgnc'" in capsys.readouterr().err
    assert not (project / "data").exists()


def test_a_missing_source_is_told_before_the_first_stage(project: Path) -> None:
    change(project, "run.yaml", datasets=["hm"], with_truth=[], ablation_datasets=[], ablation_reports=[])
    with pytest.raises(DataError, match=r"data/raw/hm"):
        preflight.check()


def test_a_profile_replaces_the_run_and_is_put_back(project: Path) -> None:
    before = (project / "params" / "run.yaml").read_bytes()
    with contextlib.suppress(RuntimeError), pipeline.profile("compare"):
        run = load_run()
        assert (run.datasets, run.sources, run.with_truth) == (("hm",), (), ())
        assert "lgmrec" in run.models
        raise RuntimeError
    assert (project / "params" / "run.yaml").read_bytes() == before
    # A killed run leaves the profile in place; the next call puts the original back first.
    scope = pipeline.profile("compare")
    scope.__enter__()
    with pipeline.profile(None):
        assert (project / "params" / "run.yaml").read_bytes() == before


def test_a_profile_runs_on_the_data_set_that_is_named(project: Path) -> None:
    with pipeline.profile("compare", "garments"):
        run = load_run()
        assert (run.datasets, run.sources, run.with_truth) == (("garments",), ("garments",), ("garments",))
        preflight.check()
    with pytest.raises(ParamsError, match=r"Did you mean 'garments'"), pipeline.profile("compare", "garmets"):
        pass


def test_every_model_is_in_the_comparison(project: Path) -> None:
    known = {path.stem for path in (project / "params" / "models").glob("*.yaml")} - {"oracle"}
    short = load_run().compared
    with pipeline.profile("compare"):
        run = load_run()
    assert set(run.compared) == known
    assert [name for name in run.compared if name in short] == list(short)  # the same order in both tables


def test_an_unknown_profile_names_the_nearest(project: Path) -> None:
    with (
        pytest.raises(ParamsError, match=r"params/profiles/compar\.yaml: no such file\. Did you mean 'compare'"),
        pipeline.profile("compar"),
    ):
        pass


def test_a_data_set_without_a_profile_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pipeline.main(["--dataset", "hm"])
    assert "--dataset belongs to a profile" in capsys.readouterr().err


def test_the_clock_counts_stages_and_time(project: Path) -> None:
    told = clock.Clock(["encoders", "data@a", "report@a"], [["data@a"], ["report@a"]])
    line = told.starts("data@a")
    assert line.startswith("[2/3] data@a · 0:00 so far, at most about 0:")
    assert "Done: 1 of 3 stages ran" in told.ends()
    idle = clock.Clock(["encoders"], [["encoders"]])
    idle.passes("encoders")
    assert "Nothing to do: all 1 stages are up to date" in idle.ends()
    assert "the same command continues" in idle.ends(stopped=True)
    assert "1 of 1 stages failed, after 0:00: encoders." in idle.ends(["encoders"])


def test_a_stage_is_expected_to_take_what_it_took(project: Path) -> None:
    def took(title: str, seconds: float) -> None:
        paths.write_whole(paths.timings() / "stages" / f"{title}.json", json.dumps({"seconds": seconds}))

    took("04_train-garments-lightgcn-2", 31.0)
    took("04_train-garments-itemknn-1", 5.0)
    took("04_train-garments-oracle-1", 4.0)
    took("04_train-garments-motorec-no-ara-1", 99.0)
    assert clock.expected_seconds("train@garments-lightgcn-2") == 31.0
    assert clock.expected_seconds("train@garments-lightgcn-3") == 31.0  # as with another seed
    assert clock.expected_seconds("fit@garments-itemknn") == 5.0
    assert clock.expected_seconds("oracle@garments") == 4.0
    assert clock.expected_seconds("token@garments-motorec-1") < 99.0  # an ablation is another model
    assert clock.expected_seconds("train@hm-vbpr-1") > clock.expected_seconds("train@garments-vbpr-1")


def test_a_first_run_on_hm_is_told_as_long_as_one_was(project: Path) -> None:
    """What nobody has timed here is foretold as in the table in git; another machine is quicker or slower at all."""
    with (ROOT / "results" / "efficiency" / "hm.csv").open() as file:
        table = {row["model"]: row for row in csv.DictReader(file)}
    run, told, took = config.load_profile("compare"), {}, {}
    for model in (*run.models, *run.token_models):
        assert model in clock.MODELS
        if table[model]["seconds_evaluate"]:  # DVC's cache had the others
            stage = f"{'token' if model in run.token_models else 'train'}@hm-{model}-1"
            told[model] = clock.expected_seconds(stage)
            took[model] = float(table[model]["seconds_fit"]) + float(table[model]["seconds_evaluate"])
    pace = sum(told.values()) / sum(took.values())
    assert 0.3 < pace < 3
    for model, seconds in took.items():
        # The start of a notebook is no part of the table's times.
        assert 0.5 * pace * seconds < told[model] < 2 * pace * (seconds + 10), model
    # An ablation takes what its base does.
    assert clock.expected_seconds("ablate@hm-motorec-no-ara-1") == clock.expected_seconds("token@hm-motorec-1")


def test_stages_side_by_side_share_the_time(project: Path) -> None:
    for seed in range(1, 5):
        paths.write_whole(paths.timings() / "stages" / f"04_train-a-bpr-{seed}.json", '{"seconds": 60}')
    paths.write_whole(paths.timings() / "stages" / "06_report-a.json", '{"seconds": 30}')
    paths.write_whole(paths.timings() / "stages" / "07_readable_tokens-a.json", '{"seconds": 15}')
    trainings = [f"train@a-bpr-{seed}" for seed in range(1, 5)]
    waves = [trainings, ["report@a", "readable@a"]]
    assert [clock.total_seconds(waves, jobs) for jobs in (1, 2, 4, 9)] == [285.0, 150.0, 90.0, 90.0]
    told = clock.Clock(["data@a", *trainings, *waves[1]], waves, jobs=2)
    assert told.starts("train@a-bpr-1") == "[2/7] train@a-bpr-1 · 0:00 so far, at most about 2:30 left"
    plan = pipeline.Plan(["data@a", *trainings], [trainings], {stage: set() for stage in trainings})
    assert plan.told(2) == "4 of 5 stages to run, at most about 0:02 (h:mm) on 2 processes."
    divided = pipeline.batches(trainings, 2)
    assert sorted(stage for batch in divided for stage in batch) == trainings
    assert [len(batch) for batch in divided] == [1, 1, 1, 1]


TOY = """
vars: [params/run.yaml]
stages:
  data: {cmd: mkdir out && echo 1 > out/data, outs: [out/data]}
  train:
    matrix: {seed: "${seeds}"}
    cmd: "sleep 0.2; echo ran >> log-${item.seed}; ! test -e broken-${item.seed} && cp out/data out/${item.seed}"
    deps: [out/data, slow.py]
    outs: ["out/${item.seed}"]
  look: {cmd: cp out/1 out/look, deps: [out/1], outs: [out/look]}
  report: {cmd: cat out/1 out/4 > out/report, deps: [out/1, out/2, out/3, out/4], outs: [out/report]}
  page: {cmd: cp out/report out/page, deps: [out/report], outs: [out/page]}
"""


@pytest.mark.slow
def test_stages_go_side_by_side_and_a_failed_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "run.yaml").write_text("seeds: [1, 2, 3, 4]\n")
    (tmp_path / "dvc.yaml").write_text(TOY)
    (tmp_path / "slow.py").touch()
    (tmp_path / "broken-3").touch()
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        assert shell(tmp_path, *command).returncode == 0

    def repro(**words: object) -> tuple[int, str]:
        with contextlib.chdir(tmp_path):
            status = pipeline.reproduce([], jobs=2, **words)  # type: ignore[arg-type]
        captured = capsys.readouterr()
        return status, captured.out

    with contextlib.chdir(tmp_path):
        plan = pipeline.Plan.read([])
    assert plan.waves == [["data"], [f"train@{seed}" for seed in range(1, 5)], ["look", "report"], ["page"]]

    status, told = repro(keep_going=True)
    assert status == 1
    assert "8 of 8 stages to run" in told
    assert "1 of 8 stages failed" in told
    assert "train@3. What is done is kept" in told
    # What needs the failed one is left, what does not is made.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".gitignore", "1", "2", "4", "data", "look"]

    (tmp_path / "broken-3").unlink()
    status, told = repro(keep_going=True)
    assert status == 0
    assert "3 of 8 stages to run" in told  # the one that failed, and what needs it
    assert (tmp_path / "log-1").read_text() == "ran\n"
    locked = yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]
    assert list(locked) == ["data", "train@1", "train@2", "train@4", "look", "train@3", "report", "page"]

    assert "Nothing to do: all 8 stages are up to date" in repro()[1]
    with contextlib.chdir(tmp_path), pytest.raises(MotorecError, match="DVC"):
        pipeline.reproduce(["trian"])


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("models/motorec.yaml", {"contrastve": 0.1}, "'contrastve'. Did you mean 'contrastive'?"),
        ("tokenize.yaml", {"codebok_size": 8}, "'codebok_size'. Did you mean 'codebook_size'?"),
        ("train.yaml", {"metric": "all/recal@20"}, "'recal'"),
        ("train.yaml", {"per_dataset": {"garmnts": {"epochs": 3}}}, "'garmnts'. Did you mean 'garments'?"),
        ("report.yaml", {"headline": ["recal@20"]}, "'recal"),
        ("run.yaml", {"with_truth": ["hm"]}, "with_truth names 'hm'"),
        ("run.yaml", {"ablation_seeds": [9]}, "ablation_seeds names 9"),
        ("run.yaml", {"models": ["bpr", "bpr"]}, "models names bpr more than once"),
        ("run.yaml", {"content_models": ["ease-feature"]}, "Did you mean 'ease-features'?"),
        (
            "ablations.yaml",
            {"motorec-no-rqvae": {"title": "x", "base": "motorec", "set": {"tokenizer.rarty": "off"}}},
            "'rarty'. Did you mean 'rarity'?",
        ),
    ],
)
def test_a_mistake_in_any_settings_file_is_found_beforehand(
    file: str, values: dict[str, object], message: str, project: Path
) -> None:
    change(project, file, **values)
    with pytest.raises(ParamsError) as found:
        preflight.check()
    assert message in str(found.value)


def test_only_one_run_at_a_time(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pipeline.alone():
        assert pipeline.main([]) == 1
    assert "Another run of the pipeline is under way" in capsys.readouterr().err
