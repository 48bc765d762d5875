"""MMGCN, GRCN and DualGNN: graph convolution of the items' content over the interactions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import TRAINING, planted_dataset, planted_features, planted_inputs, right_group, train_on
from scipy import sparse

from motorec.config import ModelChoice, load_model
from motorec.data import Dataset
from motorec.errors import MissingContent
from motorec.features import Features
from motorec.graph import Edges
from motorec.models import EmbeddingRecommender, Inputs, build
from motorec.models.dualgnn import DualGNN, row_softmax, users_in_common
from motorec.models.grcn import GRCN
from motorec.models.mmgcn import MMGCN

KINDS = ("mmgcn", "grcn", "dualgnn")
SMALL: dict[str, dict[str, Any]] = {
    "mmgcn": {"dim": 16, "layers": 2},
    "grcn": {"dim": 16, "content_dim": 16},
    "dualgnn": {"dim": 16, "hidden": 32, "neighbours": 10},
}
# Three users, three items: 0 took 0 and 1; 1 took 1; 2 took nothing; nobody took item 2.
TINY = sparse.csr_matrix(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32))


def made(kind: str, inputs: Inputs, **settings: Any) -> EmbeddingRecommender:
    choice = ModelChoice(name=kind, title=kind, kind=kind, settings=SMALL[kind] | settings, training=TRAINING)
    model = build(choice, inputs)
    assert isinstance(model, EmbeddingRecommender)
    return model


def fit(model: EmbeddingRecommender, dataset: Dataset, inputs: Inputs, scratch: Path, epochs: int = 15) -> None:
    train_on(dataset, inputs, model, TRAINING.model_copy(update={"epochs": epochs}), scratch)


def tiny_inputs(width: int = 4) -> Inputs:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(3, width)).astype(np.float32)
    text = Features(modality="text", encoder="planted", matrix=matrix, present=np.ones(3, dtype=bool))
    return Inputs("tiny", 1, TINY, {"text": text})


def leaky(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values > 0, values, 0.01 * values)


@pytest.mark.parametrize("kind", KINDS)
def test_finds_the_users_group_and_its_new_item(kind: str, project: Path) -> None:
    dataset = planted_dataset()
    inputs = planted_inputs(dataset)
    model = made(kind, inputs)
    fit(model, dataset, inputs, project / "scratch")
    scores = model.score(np.arange(dataset.n_users))
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees > 0), 5) > 0.9
    # Of the four items that nobody took in training, one is of the user's group, and only its content can tell.
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees == 0), 1) > 0.7


@pytest.mark.parametrize("kind", KINDS)
class TestInputs:
    @pytest.mark.parametrize("modalities", [("text",), ("image",), ("audio", "image", "text")])
    def test_any_number_of_modalities(self, kind: str, modalities: tuple[str, ...]) -> None:
        dataset = planted_dataset()
        model = made(kind, planted_inputs(dataset, modalities))
        model.freeze()
        assert torch.isfinite(model.score(np.arange(dataset.n_users))).all()

    def test_no_content_is_an_error(self, kind: str) -> None:
        with pytest.raises(MissingContent, match="neither texts nor pictures"):
            made(kind, planted_inputs(planted_dataset(), ()))

    def test_items_without_a_picture_and_nodes_without_edges_are_scored(self, kind: str) -> None:
        dataset = planted_dataset()
        features = planted_features(dataset)
        image = features["image"]
        matrix, present = image.matrix.copy(), image.present.copy()
        matrix[:10], present[:10] = 0, False
        features["image"] = dataclasses.replace(image, matrix=matrix, present=present)
        taken = dataset.matrix("train").tolil()
        taken[3] = 0
        inputs = dataclasses.replace(planted_inputs(dataset), features=features, train=taken.tocsr())
        model = made(kind, inputs)
        terms = model.losses(torch.tensor([0, 3]), torch.tensor([0, 1]), torch.tensor([2, 59]))
        torch.stack(list(terms.values())).sum().backward()
        assert all(torch.isfinite(table.grad).all() for table in model.parameters() if table.grad is not None)
        model.freeze()
        assert torch.isfinite(model.score(np.arange(dataset.n_users))).all()

    def test_every_weight_gets_a_gradient_and_features_only_if_learned(self, kind: str) -> None:
        inputs = planted_inputs(planted_dataset())
        for learned in (False, True):
            model = made(kind, inputs, learned_features=learned)
            assert any("features_" in name for name, _ in model.named_parameters()) == learned
            users = torch.arange(120)
            model.losses(users, users % 56, (users + 1) % 56)["bpr"].backward()
            assert [name for name, table in model.named_parameters() if table.grad is None] == []
            assert all((table.grad != 0).any() for table in model.parameters())  # type: ignore[union-attr]

    def test_same_inputs_same_scores_whatever_was_validated(self, kind: str, project: Path) -> None:
        dataset = planted_dataset()
        inputs = planted_inputs(dataset)
        moved = dataset.interactions.copy()
        held_out = moved["split"] != "train"
        moved.loc[held_out, "item"] = 59 - moved.loc[held_out, "item"].to_numpy()
        scores = []
        for version in (dataset, dataclasses.replace(dataset, interactions=moved)):
            model = made(kind, inputs)
            fit(model, version, inputs, project / "scratch", epochs=2)
            model.freeze()
            scores.append(model.score(np.arange(dataset.n_users)))
        assert torch.equal(*scores)

    def test_params_file_builds_and_names_every_setting(self, kind: str) -> None:
        choice = load_model(kind, "planted")
        model = build(choice, planted_inputs(planted_dataset()))
        assert set(choice.settings) == set(type(model).Settings.model_fields)


class TestEdges:
    def values(self) -> tuple[sparse.csr_matrix, torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        dense = (torch.rand(7, 5, generator=generator) < 0.4).numpy().astype(np.float32)
        dense[2] = 0
        train = sparse.csr_matrix(dense)
        weights = torch.rand(train.nnz, generator=generator, requires_grad=True)
        users = torch.randn(7, 3, generator=generator, requires_grad=True)
        items = torch.randn(5, 3, generator=generator, requires_grad=True)
        return train, weights, users, items

    def test_products_and_their_gradients_equal_those_of_dense_matrices(self) -> None:
        train, weights, users, items = self.values()
        edges = Edges(train)

        def dense() -> torch.Tensor:
            return torch.zeros(7, 5).index_put((edges.users, edges.items), weights)

        pairs = [
            (edges.to_users(weights, items), dense() @ items),
            (edges.to_items(weights, users), dense().T @ users),
            (edges.dot(users, items), (users @ items.T)[edges.users, edges.items]),
        ]
        leaves = [weights, users, items]
        for ours, plain in pairs:
            torch.testing.assert_close(ours, plain)
            upstream = torch.rand(ours.shape, generator=torch.Generator().manual_seed(4))
            for mine, theirs in zip(
                torch.autograd.grad((ours * upstream).sum(), leaves, allow_unused=True),
                torch.autograd.grad((plain * upstream).sum(), leaves, allow_unused=True),
                strict=True,
            ):
                assert (mine is None) == (theirs is None)
                if mine is not None:
                    torch.testing.assert_close(mine, theirs)

    def test_softmax_by_hand(self) -> None:
        edges = Edges(TINY)
        assert edges.users.tolist() == [0, 0, 1]
        assert edges.items.tolist() == [0, 1, 1]
        scores = torch.tensor([1.0, 3.0, 1.0]).log()
        torch.testing.assert_close(edges.softmax(scores, "users"), torch.tensor([0.25, 0.75, 1.0]))
        torch.testing.assert_close(edges.softmax(scores, "items"), torch.tensor([1.0, 0.75, 0.25]))

    def test_no_edges_at_all(self) -> None:
        edges = Edges(sparse.csr_matrix((2, 3), dtype=np.float32))
        none = edges.softmax(edges.dot(torch.ones(2, 4), torch.ones(3, 4)), "users")
        assert none.shape == (0,)
        assert (edges.to_items(none, torch.ones(2, 4)) == 0).all()


class TestMMGCN:
    @pytest.mark.parametrize("combination", ["concatenate", "add"])
    def test_one_layer_by_hand(self, combination: str) -> None:
        inputs = tiny_inputs()
        model = made("mmgcn", inputs, layers=1, combination=combination)
        assert isinstance(model, MMGCN)
        channel = model.channels[0]
        layer = channel.layers[0]
        users = torch.nn.functional.normalize(model.preferences[0])
        items = torch.nn.functional.normalize(channel.project(model.content["text"]))
        for node, neighbours, own, identity in [
            (0, (items[0] + items[1]) / 2, users[0], model.users[0]),
            (2, torch.zeros(16), users[2], model.users[2]),
        ]:
            around = leaky(layer.neighbour.weight @ neighbours)
            own = leaky(layer.own(own)) + identity
            joined = layer.join(torch.cat([around, own])) if combination == "concatenate" else layer.join(around) + own
            torch.testing.assert_close(model.embeddings()[0][node], leaky(joined))

    def test_modalities_count_alike(self) -> None:
        dataset = planted_dataset()
        one = planted_features(dataset, ("image",))["image"]
        twice = {"image": one, "text": dataclasses.replace(one, modality="text")}
        model = made("mmgcn", dataclasses.replace(planted_inputs(dataset), features=twice))
        single = made("mmgcn", dataclasses.replace(planted_inputs(dataset), features={"image": one}))
        assert isinstance(model, MMGCN)
        model.channels[1].load_state_dict(model.channels[0].state_dict())
        with torch.no_grad():
            model.preferences[1].copy_(model.preferences[0])
        learned = model.state_dict()
        single.load_state_dict({name: learned[name] for name in single.state_dict()})
        torch.testing.assert_close(model.embeddings(), single.embeddings())

    def test_tables_stay_at_their_start_if_not_learned(self, project: Path) -> None:
        dataset = planted_dataset()
        inputs = planted_inputs(dataset)
        model = made("mmgcn", inputs, learned_tables=False)
        before = {name: table.clone() for name, table in model.state_dict().items()}
        fit(model, dataset, inputs, project / "scratch", epochs=1)
        moved = {name for name, table in model.state_dict().items() if not torch.equal(table, before[name])}
        assert {"users", "items", "preferences.0"}.isdisjoint(moved)
        assert "channels.0.project.weight" in moved


class TestGRCN:
    def test_routing_draws_a_user_to_the_items_they_took(self) -> None:
        inputs = tiny_inputs()
        apart, near = (made("grcn", inputs, routings=routings) for routings in (0, 3))
        assert isinstance(apart, GRCN)
        assert isinstance(near, GRCN)
        closeness = []
        for model in (apart, near):
            users, _, by_user, by_item = model.prototypes(0)
            torch.testing.assert_close(by_user[:2].sum(), torch.tensor(1.0))
            torch.testing.assert_close(by_item[1:].sum(), torch.tensor(1.0))
            assert by_user[2] == by_item[0] == 1.0
            preference = users[1] - items_of(model)[1]
            closeness.append((preference @ items_of(model)[1]).item())
        assert closeness[1] > closeness[0]
        # A user with one item ends on it: each round adds the item to a vector of unit length.
        assert closeness[1] > 0.9

    def test_weights_of_edges_by_hand(self) -> None:
        model = made("grcn", planted_inputs(planted_dataset()))
        assert isinstance(model, GRCN)
        with torch.no_grad():
            model.item_confidence[0].fill_(-1.0)
            model.item_confidence[1].fill_(2.0)
            model.user_confidence.fill_(-1.0)
        _, _, affinity, _ = model.prototypes(1)
        users, items = model.convolve(2 * affinity, torch.zeros_like(affinity))
        found_users, found_items = model.embeddings()
        # Towards users the second modality wins; towards items every vote is negative, and the edge is pruned.
        torch.testing.assert_close(found_users[:, :16], users)
        torch.testing.assert_close(found_items[:, :16], items)
        torch.testing.assert_close(items, torch.nn.functional.normalize(model.items))


def items_of(model: GRCN) -> torch.Tensor:
    """The prototypes of the only modality."""
    return torch.nn.functional.normalize(leaky(model.projections[0](model.content["text"])))


class TestDualGNN:
    def test_users_in_common_by_hand(self) -> None:
        # 0 and 1 share two items, 0 and 2 one, 1 and 2 one, 3 shares nothing.
        train = sparse.csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=np.float32))
        everybody = [[0, 2, 1, 0], [2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
        nearest = [[0, 2, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
        for block in (1, 3, 1024):
            assert users_in_common(train, 5, block).toarray().tolist() == everybody
            assert users_in_common(train, 1, block).toarray().tolist() == nearest

    def test_row_softmax_by_hand(self) -> None:
        scores = sparse.csr_matrix(np.array([[0, np.log(2), np.log(6)], [0, 0, 0], [900, 900, 0]]))
        np.testing.assert_allclose(row_softmax(scores).toarray(), [[0, 0.25, 0.75], [0, 0, 0], [0.5, 0.5, 0]])

    def test_a_user_by_hand(self) -> None:
        inputs = tiny_inputs()
        model = made("dualgnn", inputs, layers=1)
        assert isinstance(model, DualGNN)
        with torch.no_grad():
            model.attention[:, 0] = torch.tensor([2.0, 3.0, 5.0])
        users = torch.nn.functional.normalize(model.preferences[0])
        items = torch.nn.functional.normalize(model.projections[0](model.content["text"]))
        # Degrees: users 2, 1, 0; items 1, 2, 0. Users 0 and 1 have item 1 in common, and no other neighbour.
        first = 2.0 * (users[0] + items[0] / 2**0.5 + items[1] / 2)
        second = 3.0 * (users[1] + items[1] / 2**0.5)
        found_users, found_items = model.embeddings()
        torch.testing.assert_close(found_users, torch.stack([first + second, second + first, 5.0 * users[2]]))
        torch.testing.assert_close(found_items[1], items[1] + users[0] / 2 + users[1] / 2**0.5)
        torch.testing.assert_close(found_items[2], items[2])
