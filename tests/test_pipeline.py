"""The whole way through on a tiny profile: every file named, and the same bytes in a fresh clone."""

from __future__ import annotations

import contextlib
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

from motorec import pipeline, preflight
from motorec.config import load_run
from motorec.errors import DataError, ParamsError

ROOT = Path(__file__).parent.parent
TINY_RUN = {
    "datasets": ["garments"],
    "sources": ["garments"],
    "with_truth": ["garments"],
    "shown": [],
    "closed_form": ["popularity"],
    "models": ["bpr"],
    "token_models": ["motorec"],
    "seeds": [1],
    "ablation_datasets": ["garments"],
    "ablation_seeds": [1],
    "ablations": ["motorec-no-rqvae"],
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
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "README.md"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / "params" / "run.yaml").write_text(yaml.safe_dump(TINY_RUN))
    change(folder, "data/garments.yaml", items=60, users=90, image_size=64)
    change(folder, "train.yaml", epochs=4, evaluate_every=2)
    change(folder, "models/motorec.yaml", training={"epochs": 4})
    change(folder, "tokenize.yaml", epochs=6, codebook_size=8, per_dataset={})
    for command in (("init", "-q"), ("add", "-A"), ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t")):
        assert shell(folder, "git", *command).returncode == 0
    return folder


def digests(folder: Path) -> dict[str, str]:
    """A hash of every result, of the lock, and of every executed notebook."""
    files = [folder / "dvc.lock", *folder.glob("results/**/*"), *folder.glob("data/notebooks/*")]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.is_file()
    }


@pytest.mark.slow
def test_repro_leaves_results_and_a_fresh_clone_has_the_same_bytes(tmp_path: Path) -> None:
    first = tiny_project(tmp_path / "first")
    done = shell(first, sys.executable, "-m", "motorec.pipeline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/14] encoders" in done.stdout
    assert "Done: 14 of 14 stages ran" in done.stdout

    names = digests(first)
    for table in ("overall", "cold", "ablation"):
        for kind in ("csv", "md", "tex"):
            assert f"results/tables/{table}.{kind}" in names
    metrics = json.loads((first / "results/runs/garments/motorec/1/metrics.json").read_text())
    assert {"test/all/recall@20", "test/cold/ndcg@20", "valid/all/recall@20"} <= set(metrics)
    overall = pd.read_csv(first / "results/tables/overall.csv")
    assert set(overall["model"]) == {"oracle", "popularity", "bpr", "motorec"}
    assert overall.set_index("model").loc["motorec", "recall@20"] == pytest.approx(
        metrics["test/all/recall@20"], abs=1e-5
    )
    assert "| BPR-MF |" in (first / "README.md").read_text()

    again = shell(first, sys.executable, "-m", "motorec.pipeline")
    assert "Nothing to do: all 14 stages are up to date" in again.stdout
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
        assert "0 runs logged, 5 already there" in told.stdout, told.stdout + told.stderr
    assert shell(clone, "git", "status", "--porcelain").stdout == ""


def test_wrong_settings_stop_before_the_first_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, "run.yaml", models=["bpr", "lightgnc"])
    assert pipeline.main([]) == 1
    assert "'lightgnc'" in capsys.readouterr().err
    assert not (project / "data").exists()


def test_a_missing_source_is_told_before_the_first_stage(project: Path) -> None:
    change(project, "run.yaml", datasets=["hm"], with_truth=[], ablation_datasets=[])
    with pytest.raises(DataError, match=r"data/raw/hm"):
        preflight.check()


def test_a_profile_replaces_the_run_and_is_put_back(project: Path) -> None:
    before = (project / "params" / "run.yaml").read_bytes()
    with contextlib.suppress(RuntimeError), pipeline.profile("hm"):
        assert load_run().datasets == ("hm",)
        raise RuntimeError
    assert (project / "params" / "run.yaml").read_bytes() == before
    # A killed run leaves the profile in place; the next call puts the original back first.
    scope = pipeline.profile("hm")
    scope.__enter__()
    with pipeline.profile(None):
        assert (project / "params" / "run.yaml").read_bytes() == before


def test_an_unknown_profile_names_the_nearest(project: Path) -> None:
    with (
        pytest.raises(ParamsError, match=r"params/profiles/hn\.yaml: no such file\. Did you mean 'hm'"),
        pipeline.profile("hn"),
    ):
        pass


def test_the_clock_counts_stages_and_time(project: Path) -> None:
    clock = pipeline.Clock(["encoders", "data@a", "report@a"])
    clock.passes("encoders")
    line = clock.starts("data@a")
    assert line.startswith("[2/3] data@a · 0:00 so far, at most about 0:")
    assert "Done: 1 of 3 stages ran" in clock.ends(0)
    idle = pipeline.Clock(["encoders"])
    idle.passes("encoders")
    assert "Nothing to do: all 1 stages are up to date" in idle.ends(0)
    assert "the same command continues" in idle.ends(1)


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
        (
            "ablations.yaml",
            {"motorec-no-ara": {"title": "x", "base": "motorec", "set": {"tokenizer.rarty": "off"}}},
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
