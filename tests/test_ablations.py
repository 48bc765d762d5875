"""Ablations: every run once, whatever stops them, and again when it would be another today."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from planted import planted_dataset, planted_features

from motorec import ablations, paths
from motorec.errors import ParamsError
from motorec.features import save_all
from motorec.reporting import ablations as report
from motorec.reporting.runs import ExpectedRun


def change(file: str, **values: object) -> None:
    path = paths.root() / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


@pytest.fixture(autouse=True)
def _planted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted data set, a model that is quick, and one ablation of it; tables are another matter."""
    (project / "params" / "data" / "planted.yaml").write_text("source: folder\ntitle: Planted\n")
    quick = {"training": {"epochs": 2, "evaluate_every": 1, "batch_size": 256}, "dim": 8}
    change("models/tokenbridge.yaml", **quick, committee={"members": 1, "codebook_sizes": [4]})
    change(
        "profiles/ablations.yaml",
        datasets=["planted"],
        ablation_datasets=["planted"],
        token_models=["tokenbridge"],
        ablations=["tokenbridge-no-collect"],
        seeds=[1],
        ablation_seeds=[1],
    )
    dataset = planted_dataset()
    dataset.save(paths.catalogue("planted"))
    save_all("planted", planted_features(dataset))
    monkeypatch.setattr(report, "write", lambda _: [])


def test_names_are_those_of_the_profile() -> None:
    assert [run.model for run in ablations.planned("planted")] == ["tokenbridge", "tokenbridge-no-collect"]
    assert [run.model for run in ablations.planned("planted", ["tokenbridge"])] == ["tokenbridge"]
    with pytest.raises(ParamsError, match=r"does not name 'tokenbrige'\. .*'tokenbridge'"):
        ablations.planned("planted", ["tokenbrige"])


def test_a_data_set_that_the_profile_does_not_name_has_its_ablations_too() -> None:
    change("profiles/ablations.yaml", datasets=["garments"], ablation_datasets=["garments"])
    assert [run.model for run in ablations.planned("planted")] == ["tokenbridge", "tokenbridge-no-collect"]


def test_an_unknown_ablation_is_told_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert ablations.main(["planted", "motorec-no-aar"]) == 1
    assert "does not name 'motorec-no-aar'" in capsys.readouterr().err
    assert not (paths.root() / "results" / "runs").exists()


@pytest.mark.slow
def test_a_run_is_made_once_and_again_when_its_settings_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make_all = ablations._make_all

    def watched(ahead: list[ExpectedRun], record: dict[str, str], jobs: int) -> list[ExpectedRun]:
        made.extend(run.model for run in ahead)
        return make_all(ahead, record, jobs)

    monkeypatch.setattr(ablations, "_make_all", watched)
    assert ablations.run_all("planted", jobs=2) == 0
    assert made == ["tokenbridge", "tokenbridge-no-collect"]
    full, part = (run.places_file for run in ablations.planned("planted"))
    assert len(np.load(full)) == len(np.load(part)) == (planted_dataset().interactions["split"] == "test").sum()
    assert (paths.run_data("planted", "tokenbridge", 1) / "training.png").is_file()
    assert set(json.loads(ablations.record("planted").read_text())) == {"tokenbridge/1", "tokenbridge-no-collect/1"}

    made.clear()
    assert ablations.run_all("planted") == 0
    assert not made

    change("models/tokenbridge.yaml", ridge=7.0)  # of both
    change(
        "ablations.yaml", **{"tokenbridge-no-collect": {"title": "x", "base": "tokenbridge", "set": {"ridge": 50.0}}}
    )
    part.unlink()
    assert ablations.run_all("planted", ["tokenbridge"]) == 0
    assert made == ["tokenbridge"]
    assert not part.exists()
    assert json.loads(ablations.record("planted").read_text()).keys() == {"tokenbridge/1", "tokenbridge-no-collect/1"}


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    weightless = {"content_weights.text": 0.0, "content_weights.image": 0.0}
    broken = {"title": "x", "base": "tokenbridge", "set": weightless}
    change("ablations.yaml", **{"tokenbridge-no-collect": broken})
    assert ablations.run_all("planted") == 1
    assert "planted/tokenbridge-no-collect/1 failed" in capsys.readouterr().err
    assert list(json.loads(ablations.record("planted").read_text())) == ["tokenbridge/1"]


def test_a_run_is_made_of_the_same_where_features_differ_in_their_last_bits() -> None:
    run = ablations.planned("planted")[0]
    before = ablations.digest_of(run)
    features = planted_features(planted_dataset())
    rounded = {name: replace(one, matrix=one.matrix * np.float32(1 + 1e-6)) for name, one in features.items()}
    save_all("planted", rounded)
    assert ablations.digest_of(run) == before
    features["text"].present[0] = False
    save_all("planted", features)
    assert ablations.digest_of(run) != before
