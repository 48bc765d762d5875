"""A model that MLflow loads gives the lists that were judged, in the data's own ids, or says why it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from planted import TINY_TOKENIZER, planted_dataset, planted_features

from motorec import paths, serving, tracking
from motorec.config import load_tokenizer, parse
from motorec.errors import DataError
from motorec.experiment import Experiment
from motorec.features import save_all
from motorec.tokenizer import TokenizerSettings, new_tokenizers, pretrain, save_tokenizers

DATASET = planted_dataset()
K = 3  # the cut-off of these runs
SMALL = {"motorec": {"dim": 16}, "tokenbridge": {"dim": 16, "committee": {"members": 1, "codebook_sizes": [4]}}}


@pytest.fixture
def planted(project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which the stages before training have run, with few and quick epochs."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    about = {"source": "folder", "title": "Planted"}
    (project / "params" / "data" / "planted.yaml").write_text(yaml.safe_dump(about))
    quick = {"epochs": 6, "evaluate_every": 2, "batch_size": 256, "learning_rate": 0.05}
    training = project / "params" / "train.yaml"
    training.write_text(yaml.safe_dump(yaml.safe_load(training.read_text()) | quick))
    judging = project / "params" / "evaluate.yaml"
    judging.write_text(yaml.safe_dump(yaml.safe_load(judging.read_text()) | {"cutoffs": [K]}))
    for name in ("bpr", "itemknn", "motorec", "tokenbridge"):
        file = project / "params" / "models" / f"{name}.yaml"
        values = yaml.safe_load(file.read_text()) | SMALL.get(name, {})
        file.write_text(yaml.safe_dump({key: values[key] for key in values if key not in ("training", "search")}))
    tokens = project / "params" / "tokenize.yaml"
    tokens.write_text(yaml.safe_dump(yaml.safe_load(tokens.read_text()) | TINY_TOKENIZER | {"per_dataset": {}}))
    tracking.folder().mkdir(parents=True)
    shutil.copy2(empty_store, tracking.folder() / "mlflow.db")
    DATASET.save(paths.catalogue("planted"))
    save_all("planted", planted_features(DATASET))
    write_tokens()
    return project


def write_tokens(seed: int = 1) -> None:
    """Pretrained tokenizers of the first seed, as notebook 03 leaves them; those of another seed differ."""
    settings = parse(TokenizerSettings, load_tokenizer("planted"), "params/tokenize.yaml")
    features = planted_features(DATASET)
    tokenizers = new_tokenizers(settings, features, seed, "planted")
    histories = pretrain(tokenizers, features, np.ones(DATASET.n_items), seed, "planted")
    save_tokenizers(paths.tokens("planted", 1), tokenizers, histories, {})


def finished_run(model: str) -> str:
    """Train, evaluate and save a model as notebook 04 does, and log it; the id of its run in MLflow."""
    experiment = Experiment.load("planted", model, 1)
    recommender = experiment.build()
    fit = experiment.fit(recommender)
    experiment.save(recommender, fit, experiment.evaluate(recommender))
    return tracking.log_run("planted", model, 1)


def loaded(run_id: str) -> mlflow.pyfunc.PyFuncModel:
    mlflow.set_tracking_uri(tracking.tracking_uri())
    return mlflow.pyfunc.load_model(f"runs:/{run_id}/model")


@pytest.mark.parametrize("name", ["bpr", "itemknn", "motorec", "tokenbridge"])
def test_a_loaded_model_gives_the_lists_that_validation_judged(planted: Path, name: str) -> None:
    model = loaded(finished_run(name))
    users = DATASET.users
    answer = model.predict(pd.DataFrame({"user_id": users, "k": K}))
    assert list(answer.columns) == ["user_id", "rank", "item_id", "score"]
    assert answer["rank"].tolist() == list(range(1, K + 1)) * len(users)
    assert (answer.groupby("user_id")["score"].diff().dropna() <= 0).all()

    held = DATASET.interactions.assign(
        user_id=[DATASET.users[user] for user in DATASET.interactions["user"]],
        item_id=DATASET.items["item_id"].to_numpy()[DATASET.interactions["item"]],
    )
    both = answer.merge(held, on=["user_id", "item_id"])
    assert (both["split"] != "train").all()
    # Everyone has one target in validation: its recall, judged by the run itself, is whether the list holds it.
    hits = both.query("split == 'valid'").groupby("user").size().reindex(range(len(users)), fill_value=0)
    metrics = json.loads((paths.run_results("planted", name, 1) / "metrics.json").read_text())
    assert 0.1 < hits.mean() < 0.9
    assert metrics[f"valid/all/recall@{K}"] == pytest.approx(hits.mean(), abs=1e-6)


def test_each_row_has_its_own_length_and_lists_end_with_the_catalogue(planted: Path) -> None:
    model = loaded(finished_run("itemknn"))
    answer = model.predict(pd.DataFrame({"user_id": ["u3", "u0", "u3"], "k": [2, 1, 1000]}))
    taken = int(((DATASET.interactions["user"] == 3) & (DATASET.interactions["split"] == "train")).sum())
    assert answer["user_id"].tolist() == ["u3"] * 2 + ["u0"] + ["u3"] * (DATASET.n_items - taken)
    assert answer["item_id"][:2].tolist() == answer["item_id"][3:5].tolist()
    assert model.predict(pd.DataFrame({"user_id": pd.Series(dtype=str), "k": pd.Series(dtype=int)})).empty


def test_the_logged_example_can_be_asked_and_fits_the_signature(planted: Path) -> None:
    model = loaded(finished_run("itemknn"))
    answer = model.predict(model.input_example)
    assert answer["user_id"].unique().tolist() == DATASET.users[:2]
    inputs, outputs = model.metadata.signature.inputs, model.metadata.signature.outputs
    assert inputs.input_names() == ["user_id", "k"]
    assert outputs.input_names() == answer.columns.tolist()


def test_what_cannot_be_answered_is_named(planted: Path) -> None:
    finished_run("itemknn")
    served = serving.TopItems(DATASET, Experiment.load("planted", "itemknn", 1).build())
    with pytest.raises(DataError, match=r"planted has no user 'nobody', 7\. Ids are text, such as 'u0'"):
        served.predict(pd.DataFrame({"user_id": ["u1", "nobody", 7, "nobody"], "k": 1}))
    with pytest.raises(DataError, match="k = 0 items"):
        served.predict(pd.DataFrame({"user_id": ["u1"], "k": [0]}))
    with pytest.raises(DataError, match="no column k:"):
        served.predict(pd.DataFrame({"user_id": ["u1"]}))


@pytest.mark.parametrize(("name", "change"), [("itemknn", "settings"), ("itemknn", "features"), ("motorec", "tokens")])
def test_a_model_is_not_built_from_other_settings_or_data(planted: Path, name: str, change: str) -> None:
    finished_run(name)
    folder = planted / "exported"
    folder.mkdir()
    serving.export("planted", name, 1, folder)
    serving.load(folder)
    if change == "settings":
        file = planted / "params" / "models" / "itemknn.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"neighbours": 3}))
        message = "settings in params/ than the model was made with: settings.neighbours"
    elif change == "tokens":
        write_tokens(seed=2)
        message = "data/tokens/planted/1/image.safetensors, data/tokens/planted/1/text.safetensors"
    else:
        save_all("planted", planted_features(DATASET, ("text",)))
        message = "data/features/planted/image.npz, data/features/planted/text.npz"
    with pytest.raises(DataError, match=message):
        serving.load(folder)


def test_a_run_whose_data_are_not_here_is_logged_without_a_model(planted: Path) -> None:
    first = finished_run("itemknn")
    shutil.rmtree(paths.features("planted"))
    file = paths.run_results("planted", "itemknn", 1) / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"test/all/users": 1}))
    second = tracking.log_run("planted", "itemknn", 1)
    client = mlflow.MlflowClient(tracking.tracking_uri())
    assert client.get_run(second).outputs is None or not client.get_run(second).outputs.model_outputs
    # The model of the run that was replaced went with it.
    (old,) = client.get_run(first).outputs.model_outputs
    with pytest.raises(mlflow.exceptions.MlflowException, match="not found"):
        client.get_logged_model(old.model_id)
