"""The models that are fitted in closed form: their equations, what they refuse, and what they know of new items."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted_dataset, planted_inputs, right_group
from scipy import sparse

from motorec.config import ModelChoice, TrainingSettings, known_settings, load_model, load_search, read_yaml
from motorec.errors import MissingContent, MotorecError, ParamsError
from motorec.features import Features
from motorec.models import Inputs, build
from motorec.models.contentknn import ContentKNN
from motorec.models.dense import DenseSettings, LinearRecommender, interaction_gram, item_weights, require_memory
from motorec.models.ease import EASE
from motorec.models.ease_features import EASEFeatures
from motorec.models.slim import SLIM

BOTH = {"text": 1.0, "image": 1.0}
SEEDS = st.integers(0, 2**16)


def choice(kind: str, **values: Any) -> ModelChoice:
    return ModelChoice(name=kind, title=kind, kind=kind, settings=values, training=TrainingSettings())


MODELS = {
    "ease": choice("ease", ridge=5.0),
    "ease-features": choice("ease-features", ridge=5.0),
    "ease-features-unit": choice("ease-features", ridge=5.0, scaling="unit", weights={"image": 3.0}),
    "slim": choice("slim", l1=0.1, l2=5.0),
    "contentknn-text": choice("contentknn", weights={"text": 1.0}),
    "contentknn-image": choice("contentknn", weights={"image": 1.0}, scaling="unit"),
    "contentknn-both": choice("contentknn", weights=BOTH, power=4.0),
}
KNOWS_NEW_ITEMS = [name for name in MODELS if name not in ("ease", "slim")]


def built(kind: type[LinearRecommender], inputs: Inputs, **values: Any) -> LinearRecommender:
    made = kind(kind.Settings(**values), inputs)  # type: ignore[call-arg]
    assert isinstance(made, LinearRecommender)
    return made


def dense_weights(model: LinearRecommender) -> np.ndarray:
    return model.weights.toarray() if sparse.issparse(model.weights) else model.weights


def random_train(seed: int, users: int = 30, items: int = 8) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.random.default_rng(seed).random((users, items)) < 0.3).astype(np.float32))


def features(modality: str, rows: list[list[float]], present: list[bool] | None = None) -> Features:
    return Features(modality, "by hand", np.array(rows, dtype=np.float32), np.array(present or [True] * len(rows)))


@pytest.mark.parametrize("name", MODELS)
def test_finds_the_users_group(name: str) -> None:
    dataset = planted_dataset()
    inputs = planted_inputs(dataset)
    scores = build(MODELS[name], inputs).score(np.arange(dataset.n_users))
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees > 0), 5) > 0.9


class TestColdItems:
    @pytest.mark.parametrize("name", MODELS)
    def test_content_is_all_that_is_known_of_a_new_item(self, name: str) -> None:
        dataset = planted_dataset()
        inputs = planted_inputs(dataset)
        new = np.flatnonzero(inputs.degrees == 0)
        scores = build(MODELS[name], inputs).score(np.arange(dataset.n_users))
        if name in KNOWS_NEW_ITEMS:
            assert right_group(dataset, scores, new, 1) > 0.9
        else:
            assert (scores[:, new] == 0).all()


class TestEASE:
    def test_two_items_by_hand(self) -> None:
        inputs = Inputs("tiny", 1, sparse.csr_matrix(np.array([[1, 1], [1, 1], [1, 0]], dtype=np.float32)))
        made = built(EASE, inputs, ridge=1.0)
        # Ridge regression on one item: x0.x1 / (x0.x0 + 1) is 2 / (3 + 1) for item 1 and 2 / (2 + 1) for item 0.
        np.testing.assert_allclose(dense_weights(made), [[0, 2 / 4], [2 / 3, 0]], rtol=1e-6)
        np.testing.assert_allclose(made.score(np.array([2, 0])), [[0, 2 / 4], [2 / 3, 2 / 4]], rtol=1e-6)
        assert made.n_parameters == 2

    @settings(max_examples=20, deadline=None)
    @given(seed=SEEDS, ridge=st.floats(0.5, 50.0))
    def test_each_item_is_a_ridge_regression_on_the_others(self, seed: int, ridge: float) -> None:
        train = random_train(seed)
        expected = regressions(train.toarray().astype(np.float64), ridge)
        weights = dense_weights(built(EASE, Inputs("tiny", 1, train), ridge=ridge))
        np.testing.assert_allclose(weights, expected, atol=1e-5)

    def test_twice_gives_the_same_bytes(self) -> None:
        train = random_train(0, users=900, items=500)
        one, two = (dense_weights(built(EASE, Inputs("tiny", 1, train))) for _ in range(2))
        assert one.tobytes() == two.tobytes()

    def test_a_ridge_too_small_to_be_solved_is_told(self) -> None:
        with pytest.raises(MotorecError, match="ridge 1e-06; use a larger ridge"):
            item_weights(torch.full((3, 3), 1e6), 1e-6)


class TestEASEFeatures:
    @settings(max_examples=10, deadline=None)
    @given(seed=SEEDS, text=st.floats(0.1, 20.0), image=st.floats(0.1, 20.0))
    def test_features_are_more_users(self, seed: int, text: float, image: float) -> None:
        train = random_train(seed)
        generator = np.random.default_rng(seed)
        found = {
            name: features(name, generator.normal(size=(8, width)).tolist())
            for name, width in (("text", 3), ("image", 5))
        }
        unit = {name: part.matrix / np.linalg.norm(part.matrix, axis=1, keepdims=True) for name, part in found.items()}
        stacked = np.vstack([train.toarray(), text**0.5 * unit["text"].T, image**0.5 * unit["image"].T])
        values = {"weights": {"text": text, "image": image}, "scaling": "unit", "user_power": 0.0, "ridge": 2.0}
        made = built(EASEFeatures, Inputs("tiny", 1, train, found), **values)
        np.testing.assert_allclose(dense_weights(made), regressions(stacked.astype(np.float64), 2.0), atol=1e-4)

    def test_without_weight_it_is_ease(self) -> None:
        inputs = planted_inputs(planted_dataset())
        bare = built(EASEFeatures, inputs, weights={"text": 0.0}, user_power=0.0)
        np.testing.assert_array_equal(dense_weights(bare), dense_weights(built(EASE, inputs)))

    def test_active_users_count_less_and_the_sum_stays(self) -> None:
        train = sparse.csr_matrix(np.array([[1, 1, 1, 1], [1, 0, 0, 0]], dtype=np.float32))
        gram = interaction_gram(train, 0.5)
        # Weights 1/2 for the user of four items and 1 for that of one, times 5 / (4 * 1/2 + 1).
        np.testing.assert_allclose(gram[1], np.full(4, 5 / 6), rtol=1e-6)
        np.testing.assert_allclose(gram[0], [15 / 6, 5 / 6, 5 / 6, 5 / 6], rtol=1e-6)
        assert gram.trace().item() == pytest.approx(interaction_gram(train).trace().item())

    def test_a_column_is_scaled_over_the_items_that_have_it(self) -> None:
        # Standardised, the second column counts as much as the first, and the third item, without text, stays at zero.
        text = features("text", [[1, 100], [-1, 100], [0, 0], [1, -100], [-1, -100]], [True, True, False, True, True])
        train = sparse.csr_matrix(np.array([[1, 0, 0, 0, 0]], dtype=np.float32))
        made = built(EASEFeatures, Inputs("tiny", 1, train, {"text": text}), weights={"text": 4.0}, ridge=1.0)
        weights = dense_weights(made)
        assert (weights[2] == 0).all()
        assert (weights[:, 2] == 0).all()
        assert weights[0, 1] == pytest.approx(weights[0, 3], abs=1e-6)
        assert weights[1, 4] == pytest.approx(weights[3, 4], abs=1e-6)
        assert weights[0, 4] < -0.1

    @pytest.mark.parametrize("there", ["text", "image"])
    def test_one_modality_is_enough_and_none_is_not(self, there: str) -> None:
        dataset = planted_dataset()
        assert build(choice("ease-features"), planted_inputs(dataset, (there,))).n_parameters == 60 * 59
        with pytest.raises(MissingContent, match="EASE with features needs"):
            build(choice("ease-features"), planted_inputs(dataset, ()))
        other = "image" if there == "text" else "text"
        with pytest.raises(MissingContent, match=f"needs {other} features, and planted has {there}"):
            build(choice("ease-features", weights={other: 1.0}), planted_inputs(dataset, (there,)))

    def test_a_misspelt_modality_is_told(self) -> None:
        with pytest.raises(ParamsError, match="txet"):
            build(choice("ease-features", weights={"txet": 1.0}), planted_inputs(planted_dataset()))


class TestMemory:
    def test_what_is_needed_by_hand(self) -> None:
        # Three matrices of 4 bytes: 12 * 8192^2 bytes are 0.75 GiB.
        require_memory("Model", 8192, DenseSettings(memory_limit_gb=0.75))
        with pytest.raises(MotorecError, match=r"Model .* 8,192 items need 0.8 GiB .* memory_limit_gb is 0.74"):
            require_memory("Model", 8192, DenseSettings(memory_limit_gb=0.74))

    @pytest.mark.parametrize("kind", ["ease", "ease-features"])
    def test_a_huge_catalogue_is_refused_before_any_work(self, kind: str) -> None:
        huge = Inputs("huge", 1, sparse.csr_matrix((2, 1_000_000), dtype=np.float32))
        with pytest.raises(MotorecError, match=r"1,000,000 items need 11175.9 GiB.*Raise memory_limit_gb"):
            build(choice(kind), huge)

    def test_a_larger_limit_lets_it_run(self) -> None:
        inputs = planted_inputs(planted_dataset())
        with pytest.raises(MotorecError, match="60 items"):
            build(choice("ease", memory_limit_gb=1e-6), inputs)
        build(choice("ease", memory_limit_gb=1e-4), inputs)


class TestSLIM:
    def test_two_items_by_hand(self) -> None:
        inputs = Inputs("tiny", 1, sparse.csr_matrix(np.array([[1, 1], [1, 1], [1, 0]], dtype=np.float32)))
        made = built(SLIM, inputs, l1=0.5, l2=1.0)
        # (x0.x1 - l1) / (x.x + l2), x being the other item.
        np.testing.assert_allclose(dense_weights(made), [[0, 1.5 / 4], [1.5 / 3, 0]], rtol=1e-5)
        assert dense_weights(built(SLIM, inputs, l1=2.0, l2=1.0)).sum() == 0
        assert made.n_parameters == 2

    @settings(max_examples=20, deadline=None)
    @given(seed=SEEDS, l1=st.floats(0.05, 2.0), l2=st.floats(0.5, 20.0))
    def test_no_weight_can_be_bettered(self, seed: int, l1: float, l2: float) -> None:
        """The Karush-Kuhn-Tucker conditions of the paper's problem."""
        train = random_train(seed)
        before = train.toarray()
        weights = dense_weights(built(SLIM, Inputs("tiny", 1, train), l1=l1, l2=l2, sweeps=2000)).astype(np.float64)
        matrix = train.toarray().astype(np.float64)
        slope = matrix.T @ (matrix @ weights - matrix) + l2 * weights + l1
        np.fill_diagonal(slope, 0.0)
        assert (matrix == before).all()
        assert (weights >= 0).all()
        assert (np.diag(weights) == 0).all()
        np.testing.assert_allclose(slope[weights > 0], 0.0, atol=0.05)
        assert (slope > -0.05).all()

    def test_the_largest_weights_of_each_item_are_kept(self) -> None:
        inputs = planted_inputs(planted_dataset())
        everything = dense_weights(built(SLIM, inputs, l1=0.01, l2=5.0))
        few = dense_weights(built(SLIM, inputs, l1=0.01, l2=5.0, neighbours=3))
        assert (everything > 0).sum(0).max() > 3
        assert (few > 0).sum(0).max() == 3
        np.testing.assert_array_equal(np.sort(few, axis=0)[-3:], np.sort(everything, axis=0)[-3:])


class TestContentKNN:
    TRAIN = sparse.csr_matrix(np.array([[1, 0, 0], [1, 1, 0]], dtype=np.float32))
    TEXT = features("text", [[1, 0], [0.6, 0.8], [0, 2]])  # cosines: 0-1 0.6, 1-2 0.8, 0-2 0
    IMAGE = features("image", [[1, 0], [0, 1], [3, 0]])  # cosines: 0-2 1, others 0

    def model(self, weights: dict[str, float], **values: Any) -> LinearRecommender:
        inputs = Inputs("tiny", 1, self.TRAIN, {"text": self.TEXT, "image": self.IMAGE})
        return built(ContentKNN, inputs, weights=weights, scaling="unit", **values)

    def test_text_by_hand(self) -> None:
        np.testing.assert_allclose(
            self.model({"text": 1.0}).score(np.arange(2)), [[0, 0.6, 0], [0.6, 0.6, 0.8]], rtol=1e-6
        )
        squared = self.model({"text": 1.0}, power=2.0)
        np.testing.assert_allclose(squared.score(np.array([1]))[0], [0.36, 0.36, 0.64], rtol=1e-6)
        assert squared.n_parameters == 0

    def test_an_item_is_reached_from_its_own_neighbours(self) -> None:
        # With one neighbour each, item 1 looks at item 2 only, though item 0 looks at item 1.
        one = self.model({"text": 1.0}, neighbours=1)
        np.testing.assert_allclose(one.score(np.arange(2)), [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)

    def test_modalities_are_averaged_by_weight(self) -> None:
        found = self.model({"text": 3.0, "image": 1.0}).score(np.array([1]))
        # 0-1: (3 * 0.6 + 0) / 4; 1-2: (3 * 0.8 + 0) / 4; 0-2: (0 + 1) / 4.
        np.testing.assert_allclose(found[0], [0.45, 0.45, 0.6 + 0.25], rtol=1e-6)

    def test_an_item_without_a_picture_lives_on_its_text(self) -> None:
        image = dataclasses.replace(self.IMAGE, matrix=self.IMAGE.matrix.copy(), present=np.array([True, False, True]))
        image.matrix[1] = 0
        inputs = Inputs("tiny", 1, self.TRAIN, {"text": self.TEXT, "image": image})
        made = built(ContentKNN, inputs, weights=BOTH, scaling="unit")
        # Item 1 has weight 1 in all, item 0 has 2: 0.6 / sqrt(1 * 2).
        assert made.score(np.array([0]))[0, 1].item() == pytest.approx(0.6 / 2**0.5)

    def test_an_item_without_anything_is_nobodys_neighbour(self) -> None:
        text = dataclasses.replace(self.TEXT, matrix=self.TEXT.matrix.copy(), present=np.array([True, True, False]))
        text.matrix[2] = 0
        for scaling in ("unit", "standard"):
            made = built(ContentKNN, Inputs("tiny", 1, self.TRAIN, {"text": text}), scaling=scaling)
            assert (dense_weights(made)[2] == 0).all()
            assert (dense_weights(made)[:, 2] == 0).all()

    @pytest.mark.parametrize(("weights", "there"), [(BOTH, "text"), (BOTH, "image"), ({"image": 1.0}, "text")])
    def test_a_missing_modality_is_told(self, weights: dict[str, float], there: str) -> None:
        with pytest.raises(MissingContent, match=f"ContentKNN needs (text|image) features, and planted has {there}"):
            build(choice("contentknn", weights=weights), planted_inputs(planted_dataset(), (there,)))


@pytest.mark.parametrize(
    "name", ["itemknn", "ease", "ease-features", "slim", "contentknn-text", "contentknn-image", "contentknn-both"]
)
def test_the_search_space_holds_the_chosen_values(name: str, project: Path) -> None:
    spaces = load_search(name)
    assert 1 <= len(spaces) <= 6
    tuned = read_yaml(project / "params" / "models" / f"{name}.yaml")["per_dataset"]
    for dataset in (None, *tuned):  # None: the defaults of all data sets
        chosen = known_settings(load_model(name, dataset))
        outside = {key: chosen[key] for key, space in spaces.items() if chosen[key] not in space}
        assert not outside, dataset


def regressions(rows: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression of each column on all others, one by one."""
    weights = np.zeros((rows.shape[1], rows.shape[1]))
    for item in range(rows.shape[1]):
        others = np.delete(np.arange(rows.shape[1]), item)
        gram = rows[:, others].T @ rows[:, others] + ridge * np.eye(len(others))
        weights[others, item] = np.linalg.solve(gram, rows[:, others].T @ rows[:, item])
    return weights
