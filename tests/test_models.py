"""Each model finds what was planted; a cold item gets no help from held-out data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import TINY_TOKENIZER, TRAINING, planted_dataset, planted_inputs, right_group, train_on
from scipy import sparse

from motorec.config import EvaluationSettings, ModelChoice
from motorec.data import Dataset
from motorec.errors import DataError, ParamsError
from motorec.evaluation import evaluate
from motorec.features import Features
from motorec.models import Inputs, Recommender, TrainedRecommender, build
from motorec.models.itemknn import ItemKNN, nearest_in_blocks, nearest_only
from motorec.models.losses import bpr_loss, info_nce, squared_norm
from motorec.models.popularity import Popularity

EVALUATION = EvaluationSettings(cutoffs=(5,), cold_below=10)


def choice(name: str, kind: str | None = None, **settings: Any) -> ModelChoice:
    return ModelChoice(name=name, title=name, kind=kind or name, settings=settings, training=TRAINING)


def fitted(model: ModelChoice, dataset: Dataset, inputs: Inputs, scratch: Path) -> Recommender:
    made = build(model, inputs)
    if isinstance(made, TrainedRecommender):
        train_on(dataset, inputs, made, model.training, scratch)
    return made


def motorec(**settings: Any) -> ModelChoice:
    tokenizer = TINY_TOKENIZER | settings.pop("tokenizer", {})
    return choice("motorec", dim=16, tokenizer=tokenizer, **settings)


PERSONAL = [
    choice("itemknn", neighbours=20, shrink=0.0),
    choice("bpr", dim=16),
    choice("lightgcn", dim=16, layers=2),
    motorec(),
    motorec(fusion="sum", content_users="learned", contrastive=0.0, tokenizer={"quantize": False}),
]


@pytest.mark.parametrize("model", PERSONAL, ids=["itemknn", "bpr", "lightgcn", "motorec", "motorec-bare"])
def test_finds_the_users_group(model: ModelChoice, project: Path) -> None:
    dataset = planted_dataset()
    inputs = planted_inputs(dataset)
    made = fitted(model, dataset, inputs, project / "scratch")
    assert right_group(dataset, made.score(np.arange(dataset.n_users)), np.flatnonzero(inputs.degrees > 0), 5) > 0.9


def test_popularity_ranks_by_training_degree() -> None:
    train_matrix = sparse.csr_matrix(np.array([[1, 1, 0], [0, 1, 0]], dtype=np.float32))
    scores = Popularity(Popularity.Settings(), Inputs("tiny", 1, train_matrix)).score(np.array([1, 0]))
    assert scores.tolist() == [[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]]


def test_itemknn_by_hand() -> None:
    matrix = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=np.float32))
    model = ItemKNN(ItemKNN.Settings(neighbours=2, shrink=1.0), Inputs("tiny", 1, matrix))
    # Items 0 and 1 share two users of two each: 2 / (2 + 1). Items 0 and 2 share one: 1 / (2 + 1).
    np.testing.assert_allclose(model.score(np.array([2]))[0], [1 / 3, 1 / 3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(model.score(np.array([0]))[0], [2 / 3, 2 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_neighbours_are_the_same_in_blocks_of_any_size(block: int) -> None:
    counts = np.random.default_rng(0).integers(0, 4, (7, 7)).astype(np.float32)
    whole = nearest_in_blocks(lambda _: sparse.csr_matrix(counts), 7, 2, block=7)
    assert (nearest_in_blocks(lambda rows: sparse.csr_matrix(counts[rows]), 7, 2, block) != whole).nnz == 0
    assert not whole.diagonal().any()
    assert (np.diff(whole.indptr) == 2).all()


@pytest.mark.parametrize(
    ("value", "present", "message"), [(np.nan, True, "item row 1"), (0.0, False, "no item has any")]
)
def test_features_that_cannot_be_learned_from_are_told_before_any_model(
    value: float, present: bool, message: str
) -> None:
    matrix = np.ones((3, 2), dtype=np.float32)
    matrix[1, 0] = value
    features = Features("image", "planted", matrix, np.full(3, present))
    with pytest.raises(DataError, match=f"planted: the image features.*{message}"):
        Inputs("planted", 1, sparse.csr_matrix(np.eye(3, dtype=np.float32)), {"image": features})


def test_nearest_only_keeps_the_largest_of_each_row() -> None:
    matrix = sparse.csr_matrix(np.array([[0, 3, 1, 2], [5, 0, 5, 5]], dtype=np.float32))
    assert nearest_only(matrix, 2).toarray().tolist() == [[0, 3, 0, 2], [5, 0, 5, 0]]


def test_losses_by_hand() -> None:
    assert bpr_loss(torch.tensor([0.0]), torch.tensor([0.0])).item() == pytest.approx(np.log(2))
    assert bpr_loss(torch.tensor([9.0]), torch.tensor([0.0])).item() == pytest.approx(np.log1p(np.exp(-9)), rel=1e-4)
    views = torch.eye(2)
    # Each node's own view has cosine 1, the other's 0.
    assert info_nce(views, views, 1.0).item() == pytest.approx(np.log(1 + np.exp(-1)))
    assert squared_norm(torch.tensor([[3.0], [1.0]]), torch.tensor([[0.0], [2.0]])).item() == pytest.approx(14 / 4)


class TestCold:
    def test_an_item_nobody_has_is_found_by_its_tokens(self, project: Path) -> None:
        dataset = planted_dataset()
        found = {}
        for model in (motorec(), choice("lightgcn", dim=16, layers=2)):
            made = fitted(model, dataset, planted_inputs(dataset), project / "scratch")
            new = np.flatnonzero(dataset.item_degrees() == 0)
            found[model.name] = right_group(dataset, made.score(np.arange(dataset.n_users)), new, 1)
        assert found["motorec"] > 0.9
        assert found["lightgcn"] < 0.6


def test_the_oracle_is_the_truth_and_needs_one() -> None:
    dataset = planted_dataset()
    truth = np.random.default_rng(0).random((dataset.n_users, dataset.n_items)).astype(np.float32)
    inputs = dataclasses.replace(planted_inputs(dataset), truth=truth)
    scores = build(choice("oracle"), inputs).score(np.array([3]))
    np.testing.assert_array_equal(scores[0].numpy(), truth[3])
    with pytest.raises(DataError, match="no true preferences"):
        build(choice("oracle"), planted_inputs(dataset))


def test_a_model_knows_its_kind() -> None:
    with pytest.raises(ParamsError, match="Did you mean 'lightgcn'"):
        build(choice("lightgnc"), planted_inputs(planted_dataset()))


def test_evaluation_of_a_trained_model_beats_chance(project: Path) -> None:
    dataset = planted_dataset()
    made = fitted(choice("bpr", dim=16), dataset, planted_inputs(dataset), project / "scratch")
    assert evaluate(made.score, dataset, "test", EVALUATION).means["test/all/recall@5"] > 2 * 5 / 60
