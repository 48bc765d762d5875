"""Settings: unknown keys and values stop with the file, the key and the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from motorec import config
from motorec.errors import ParamsError


def change(project: Path, file: str, **values: object) -> None:
    path = project / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def test_all_committed_settings_are_read(project: Path) -> None:
    run = config.load_run()
    for dataset in run.datasets:
        config.load_dataset(dataset)
        for model in [*run.compared, *run.ablations]:
            assert config.load_model(model, dataset).name == model


@pytest.mark.parametrize("file", ["hm", "baby", "sports", "clothing"])
def test_opt_in_data_sets_are_read(file: str, project: Path) -> None:
    assert config.load_dataset(file).title


def test_unknown_key_names_file_and_nearest(project: Path) -> None:
    change(project, "train.yaml", learning_rat=0.1)
    with pytest.raises(ParamsError, match=r"'learning_rat'\. Did you mean 'learning_rate'\?"):
        config.load_model("bpr")
    change(project, "run.yaml", sedes=[1])
    with pytest.raises(ParamsError, match=r"params/run\.yaml: unknown key 'sedes'\. Did you mean 'seeds'\?"):
        config.load_run()


def test_unknown_nested_key(project: Path) -> None:
    change(project, "features.yaml", text={"encodr": "bundled"})
    with pytest.raises(
        ParamsError, match=r"params/features\.yaml: unknown key 'text\.encodr'\. Did you mean 'encoder'\?"
    ):
        config.load_features()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cutoffs": ["ten"]}, r"'cutoffs\.0' is 'ten'\. Input should be a valid integer"),
        ({"cold_below": "10"}, r"'cold_below' is '10'"),
        ({"cold_below": 0}, r"greater than or equal to 1"),
    ],
)
def test_wrong_value(values: dict[str, object], message: str, project: Path) -> None:
    change(project, "evaluate.yaml", **values)
    with pytest.raises(ParamsError, match=message):
        config.load_evaluation()


def test_unknown_names(project: Path) -> None:
    with pytest.raises(ParamsError, match=r"No model or ablation is called 'lightgnc'.*Did you mean 'lightgcn'"):
        config.load_model("lightgnc")
    with pytest.raises(ParamsError, match=r"params/data/garment\.yaml: no such file\. Did you mean 'garments'"):
        config.load_dataset("garment")


def test_unreadable_yaml(project: Path) -> None:
    (project / "params" / "train.yaml").write_text("epochs: [1")
    with pytest.raises(ParamsError, match=r"params/train\.yaml: not readable as YAML"):
        config.load_model("bpr")


def test_a_key_that_stands_twice(project: Path) -> None:
    (project / "params" / "train.yaml").write_text("epochs: 1\npatience: 3\nepochs: 2\n")
    with pytest.raises(ParamsError, match=r"(?s)params/train\.yaml.*'epochs' stands twice.*line 3"):
        config.load_model("bpr")


def test_an_ablation_changes_only_what_it_names(project: Path) -> None:
    base, ablated = config.load_model("motorec"), config.load_model("motorec-no-rqvae")
    assert ablated.kind == "motorec"
    assert ablated.settings["tokenizer"] == {**base.settings["tokenizer"], "quantize": False}
    assert {**ablated.settings, "tokenizer": None} == {**base.settings, "tokenizer": None}
    assert ablated.training == base.training


def test_layers_of_settings_lie_over_each_other(project: Path) -> None:
    general = config.load_model("bpr", "ml-100k").settings["dim"]
    change(
        project,
        "models/bpr.yaml",
        training={"epochs": 7},
        per_dataset={"garments": {"dim": 5, "training": {"patience": 9}}},
    )
    here, elsewhere = config.load_model("bpr", "garments"), config.load_model("bpr", "ml-100k")
    assert (here.settings["dim"], here.training.epochs, here.training.patience) == (5, 7, 9)
    assert (elsewhere.settings["dim"], elsewhere.training.epochs) == (general, 7)
    assert elsewhere.training.patience != 9


def test_settings_are_frozen(project: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load_run().seeds = (9,)  # type: ignore[misc]


def test_an_opt_in_data_set_runs_as_its_comparison_does(project: Path) -> None:
    change(project, "profiles/compare.yaml", seeds=[1, 2, 3, 4, 5])
    assert config.load_run_for("garments") == config.load_run()
    opted = config.load_run_for("baby")
    assert opted.datasets == ("baby",)
    assert opted.seeds == (1, 2, 3, 4, 5)
    assert "mgcn" in opted.compared
    assert not opted.with_truth + opted.sources
    # MoToRec without tokens is drawn beside it, wherever a comparison is run.
    assert (opted.ablation_datasets, opted.ablations) == (("baby",), ("motorec-no-rqvae",))
    assert not opted.ablation_reports  # whose runs are not in git
    assert config.load_run_for("hm").ablation_reports == ("hm",)
    with pytest.raises(ParamsError, match=r"Did you mean 'sports'"):
        config.load_run_for("sport")


def test_models_keep_the_order_of_the_tables(project: Path) -> None:
    change(project, "run.yaml", closed_form=["ease"], content_models=["contentknn-text"], models=["bpr"])
    run = config.load_run()
    assert run.fitted == ("ease", "contentknn-text")
    assert run.compared == ("ease", "contentknn-text", "bpr", "motorec", "tokenbridge")
