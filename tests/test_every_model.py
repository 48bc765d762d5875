"""What every model must do, whatever it is: the files of params/models/ as they stand, on small planted data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import planted_dataset, planted_features, planted_inputs
from scipy import sparse

from motorec import paths
from motorec.config import ModelChoice, TrainingSettings, load_model
from motorec.errors import MissingContent
from motorec.experiment import Experiment
from motorec.features import Features, save_all
from motorec.models import KINDS, Inputs, Recommender, TrainedRecommender, build
from motorec.training import train

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "params" / "models").glob("*.yaml"))
MODELS = [name for name in NAMES if name != "oracle"]
WITHOUT_CONTENT = {
    *("popularity", "itemknn", "ease", "slim"),
    *("bpr", "lightgcn", "multvae", "diffrec", "ldiffrec"),
}
# All others make do with one modality, whichever it is.
NEEDS = {"contentknn-text": {"text"}, "contentknn-image": {"image"}, "contentknn-both": {"text", "image"}}
QUICK = TrainingSettings(epochs=2, batch_size=256, learning_rate=0.01, evaluate_every=2)
TINY_TOKENIZER = {"codebook_size": 4, "levels": 2, "hidden": [16], "input_dim": None, "epochs": 2}


def choice(name: str) -> ModelChoice:
    """A model as params/models/ has it, trained for two epochs only."""
    found = load_model(name)
    settings = found.settings | ({"tokenizer": TINY_TOKENIZER} if "tokenizer" in found.settings else {})
    return found.model_copy(update={"settings": settings, "training": QUICK})


def fitted(name: str, inputs: Inputs, scratch: Path) -> Recommender:
    """Built, and trained if there is something to train."""
    model = build(choice(name), inputs)
    if isinstance(model, TrainedRecommender):
        train(
            model,
            inputs.train,
            QUICK,
            lambda: 1.0,
            seed=inputs.seed,
            label=f"planted/{name}",
            stream="planted",
            scratch=scratch / "unfinished",
            fingerprint="",
        )
    return model


def scores(model: Recommender, users: int) -> torch.Tensor:
    with torch.no_grad():
        return model.score(np.arange(users))


def inputs_with_gaps() -> Inputs:
    """A user and an item without training interactions, an item without any content, one without a picture."""
    dataset = planted_dataset()
    taken = dataset.matrix("train").tolil()
    taken[0, :] = 0
    taken[:, 0] = 0
    features = {}
    for name, feature in planted_features(dataset).items():
        present = np.ones(dataset.n_items, dtype=bool)
        present[[0, 1] if name == "image" else [0]] = False
        matrix = feature.matrix * present[:, None]
        features[name] = Features(modality=name, encoder="planted", matrix=matrix, present=present)
    return Inputs(dataset="planted", seed=1, train=sparse.csr_matrix(taken), features=features)


def test_every_kind_has_a_file_and_every_file_a_kind() -> None:
    assert {load_model(name).kind for name in NAMES} == set(KINDS)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_twice_is_the_same_and_scores_all_items(self, name: str, tmp_path: Path) -> None:
        dataset = planted_dataset()
        one, two = (fitted(name, planted_inputs(dataset), tmp_path / place) for place in ("a", "b"))
        first = scores(one, dataset.n_users)
        assert first.shape == (dataset.n_users, dataset.n_items)
        assert torch.isfinite(first).all()
        assert torch.equal(first, scores(two, dataset.n_users))

    def test_global_random_state_has_no_say(self, name: str, tmp_path: Path) -> None:
        dataset = planted_dataset()
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002 - the state that must not matter
        one = scores(fitted(name, planted_inputs(dataset), tmp_path / "a"), 5)
        torch.manual_seed(2)
        np.random.seed(2)  # noqa: NPY002
        state = torch.get_rng_state()
        assert torch.equal(one, scores(fitted(name, planted_inputs(dataset), tmp_path / "b"), 5))
        assert torch.equal(state, torch.get_rng_state())

    def test_an_item_owes_nothing_to_held_out_data(self, name: str, project: Path) -> None:
        """New items above all, which have no other interactions: what is held out of them must not leak."""
        (project / "params" / "data" / "planted.yaml").write_text("source: folder\ntitle: Planted\n")
        dataset, found = planted_dataset(), []
        held_out = dataset.interactions["split"] != "train"
        only_one = held_out & (dataset.interactions["user"] == 0)  # left, so that validation has somebody
        for interactions in (dataset.interactions, dataset.interactions[~held_out | only_one].reset_index(drop=True)):
            replace(dataset, interactions=interactions).save(paths.catalogue("planted"))
            save_all("planted", planted_features(dataset))
            experiment = Experiment.load("planted", name, 1)
            experiment = replace(experiment, choice=choice(name))
            model = experiment.build()
            experiment.fit(model)
            found.append(scores(model, dataset.n_users))
        assert torch.equal(*found)

    def test_gaps_in_the_data_do_no_harm(self, name: str, tmp_path: Path) -> None:
        found = scores(fitted(name, inputs_with_gaps(), tmp_path), 120)
        assert torch.isfinite(found).all()

    @pytest.mark.parametrize("there", [("text",), ("image",), ()])
    def test_fewer_modalities_work_or_are_asked_for(self, name: str, there: tuple[str, ...], tmp_path: Path) -> None:
        inputs = planted_inputs(planted_dataset(), there)
        enough = set(there) >= NEEDS[name] if name in NEEDS else bool(there) or name in WITHOUT_CONTENT
        if enough:
            assert torch.isfinite(scores(fitted(name, inputs, tmp_path), 5)).all()
        else:
            with pytest.raises(MissingContent, match="features, and planted has"):
                fitted(name, inputs, tmp_path)

    def test_a_stored_model_scores_as_before(self, name: str, tmp_path: Path) -> None:
        inputs = planted_inputs(planted_dataset())
        model = fitted(name, inputs, tmp_path)
        if not isinstance(model, TrainedRecommender):
            pytest.skip("nothing is stored of a closed form")
        fresh = build(choice(name), inputs)
        assert isinstance(fresh, TrainedRecommender)
        fresh.load_state_dict({key: value.clone() for key, value in model.state_dict().items()})
        fresh.freeze()
        torch.testing.assert_close(scores(fresh, 10), scores(model, 10))
        assert fresh.n_parameters > 0
