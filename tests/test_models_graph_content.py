"""FREEDOM, VBPR, BM3 and LATTICE: each finds what was planted, and computes what its paper says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
from planted import planted_dataset, planted_features, planted_inputs, right_group, train_on
from scipy import sparse
from torch.nn import functional

from motorec.config import (
    ChoiceSpace,
    ModelChoice,
    TrainingSettings,
    load_model,
    load_search,
    parse,
    read_yaml,
    set_dotted,
)
from motorec.data import Dataset
from motorec.errors import MissingContent
from motorec.features import Features
from motorec.itemgraph import content_graph, normalise_by_rows
from motorec.models import EmbeddingRecommender, Inputs, build
from motorec.models.bm3 import BM3
from motorec.models.freedom import FREEDOM, thin
from motorec.models.lattice import LATTICE
from motorec.models.layers import Content, linear
from motorec.models.vbpr import VBPR

NAMES = ("freedom", "vbpr", "bm3", "lattice")
COLD = ("freedom", "vbpr", "lattice")  # BM3 scores by interactions alone: content is in its loss only
TRAINING = planted.TRAINING.model_copy(update={"epochs": 40, "evaluate_every": 10})


def made(name: str, inputs: Inputs, **settings: Any) -> EmbeddingRecommender:
    choice = ModelChoice(name=name, title=name, kind=name, settings={"dim": 16} | settings, training=TRAINING)
    model = build(choice, inputs)
    assert isinstance(model, EmbeddingRecommender)
    return model


def trained(name: str, dataset: Dataset, inputs: Inputs, scratch: Path, epochs: int = 40, **settings: Any) -> Any:
    model = made(name, inputs, **settings)
    train_on(dataset, inputs, model, TRAINING.model_copy(update={"epochs": epochs}), scratch)
    return model


def tiny(vectors: dict[str, list[list[float]]], present: list[bool] | None = None) -> Inputs:
    """Two users and three items: the first user took items 0 and 1, the second item 1."""
    features = {
        name: Features(name, "planted", np.array(rows, dtype=np.float32), np.array(present or [True] * len(rows)))
        for name, rows in vectors.items()
    }
    matrix = sparse.csr_matrix(np.array([[1, 1, 0], [0, 1, 0]], dtype=np.float32))
    return Inputs("tiny", 1, matrix, features)


def layer_of(model: EmbeddingRecommender, modality: str) -> torch.nn.Linear:
    """The layer that projects a modality's features."""
    layer = model.get_submodule(f"projections.{modality}")
    assert isinstance(layer, torch.nn.Linear)
    return layer


# Items 0 and 1 point the same way (cosine 0.8), item 2 is closer to item 1 (0.6) than to item 0 (0).
VECTORS = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]


@pytest.mark.parametrize("learned", [False, True], ids=["frozen", "learned"])
@pytest.mark.parametrize("name", NAMES)
def test_finds_the_users_group_and_the_new_item_of_it(name: str, learned: bool, project: Path) -> None:
    dataset = planted_dataset()
    inputs = planted_inputs(dataset)
    scores = trained(name, dataset, inputs, project / "scratch", learned_features=learned).score(
        np.arange(dataset.n_users)
    )
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees > 0), 5) > 0.9
    found = right_group(dataset, scores, np.flatnonzero(inputs.degrees == 0), 1)
    assert found > 0.9 if name in COLD else found < 0.9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modalities", [("text",), ("image",), ("audio", "image", "text")])
def test_any_number_of_modalities(name: str, modalities: tuple[str, ...]) -> None:
    dataset = planted_dataset()
    model = made(name, planted_inputs(dataset, modalities))
    model.start_epoch(torch.Generator().manual_seed(0))
    terms = model.losses(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3]))
    torch.stack(list(terms.values())).sum().backward()
    projections = model.get_submodule("projections")
    assert sorted(dict(projections.named_children())) == sorted(modalities)
    weights = [table for table in projections.parameters() if table.ndim == 2]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
    model.freeze()
    assert model.score(np.array([0, 5])).shape == (2, dataset.n_items)


@pytest.mark.parametrize("name", NAMES)
def test_no_content_is_told_before_training(name: str) -> None:
    with pytest.raises(MissingContent, match="neither texts nor pictures"):
        made(name, planted_inputs(planted_dataset(), ()))


@pytest.mark.parametrize("name", NAMES)
def test_items_without_a_picture_are_no_trouble(name: str, project: Path) -> None:
    dataset = planted_dataset()
    features = planted_features(dataset)
    image = features["image"]
    present = image.present.copy()
    present[::3] = False
    features["image"] = dataclasses.replace(image, matrix=image.matrix * present[:, None], present=present)
    inputs = dataclasses.replace(planted_inputs(dataset), features=features)
    scores = trained(name, dataset, inputs, project / "scratch").score(np.arange(120))
    assert torch.isfinite(scores).all()
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees > 0), 5) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_validation_in_between_leaves_scores_and_training_alone(name: str) -> None:
    inputs = planted_inputs(planted_dataset())
    batch = (torch.arange(50), torch.arange(50), torch.arange(50).flip(0))
    losses = []
    for looks in (0, 3):
        model = made(name, inputs)
        model.start_epoch(torch.Generator().manual_seed(0))
        model.losses(*batch)  # the first step of the epoch
        for _ in range(looks):
            model.freeze()
            first = model.score(np.arange(4))
            model.freeze()
            assert torch.equal(first, model.score(np.arange(4)))
        model.train()
        losses.append(torch.stack(list(model.losses(*batch).values())))
    if name != "bm3":  # its views take new noise at every step
        assert torch.equal(*losses)


@pytest.mark.parametrize("name", NAMES)
def test_the_chosen_settings_and_the_search_space_are_settings(name: str, project: Path) -> None:
    inputs = planted_inputs(planted_dataset())
    tuned = read_yaml(project / "params" / "models" / f"{name}.yaml")["per_dataset"]
    assert "hm" in tuned
    for dataset in (None, *tuned):  # None: the defaults of all data sets
        assert build(load_model(name, dataset), inputs).n_parameters > 0
    # Each end of each search space makes a model, too.
    base = load_model(name, "hm")
    flat = base.settings | {"training": base.training.model_dump(mode="json")}
    for key, space in load_search(name).items():
        for value in space.choices if isinstance(space, ChoiceSpace) else (space.low, space.high):
            changed = set_dotted(flat, {key: value})
            training = parse(TrainingSettings, changed.pop("training"), key)
            build(base.model_copy(update={"settings": changed, "training": training}), inputs)


@pytest.mark.parametrize("count", [5, 200], ids=["few", "many"])
def test_projecting_each_item_once_is_projecting_them_all(count: int) -> None:
    content = Content(planted_inputs(planted_dataset()), "Test", learned=True)
    layer = linear(12, 3, torch.Generator().manual_seed(0))
    items = torch.arange(count) * 7 % 4
    table = content["text"]
    gradients = []
    for found in (content.projected("text", layer, items), layer(table[items])):
        torch.testing.assert_close(found, layer(table[items]))
        gradients.append(torch.autograd.grad(found.square().sum(), table)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


class TestFREEDOM:
    def test_content_graph_by_hand(self) -> None:
        features = tiny({"image": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]], "text": VECTORS}).features
        graph = content_graph(features, 1, {"image": 1.0, "text": 3.0}).toarray()
        # Nearest by picture: 0 - 2, 1 - 2, 2 - 0. By text: 0 - 1, 1 - 0, 2 - 1. Mixed 1 to 3.
        np.testing.assert_allclose(graph, [[0.0, 0.75, 0.25], [0.75, 0.0, 0.25], [0.25, 0.75, 0.0]])
        with_self = content_graph({"text": features["text"]}, 2, {}, self_loops=True).toarray()
        np.testing.assert_allclose(with_self, [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])

    def test_an_item_without_one_modality_lives_on_the_other(self) -> None:
        text = tiny({"text": VECTORS}).features["text"]
        image = tiny({"image": [[0.0, 0.0], [0.0, 1.0], [1.0, 0.1]]}, [False, True, True]).features["image"]
        graph = content_graph({"image": image, "text": text}, 1, {"image": 0.5, "text": 0.5}).toarray()
        np.testing.assert_allclose(graph, [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])

    def test_embeddings_by_hand(self) -> None:
        model = made("freedom", tiny({"text": VECTORS}), dim=2, layers=1, neighbours=1)
        assert isinstance(model, FREEDOM)
        model.eval()
        users, items = model.embeddings()
        user, item = model.users.detach(), model.items.detach()
        # Degrees: users 2 and 1, items 1, 2 and 0. Neighbours by text: 0 - 1, 1 - 0, 2 - 1.
        torch.testing.assert_close(users[0], (user[0] + item[0] / 2**0.5 + item[1] / 2) / 2)
        torch.testing.assert_close(items[0], (item[0] + user[0] / 2**0.5) / 2 + item[1])
        torch.testing.assert_close(items[2], item[2] / 2 + item[1])

    def test_thinning_keeps_the_share_and_spares_rare_nodes(self) -> None:
        # User 0 took items 0 to 20; items 0 to 19 are that user's alone, item 20 has twenty users more.
        matrix = np.zeros((60, 60), dtype=np.float32)
        matrix[0, :20] = 1
        matrix[1:21, 20] = 1
        matrix[np.arange(21, 41), np.arange(21, 41)] = 1  # pairs of degree one
        matrix[0, 20] = 1  # both ends popular
        train_matrix = sparse.csr_matrix(matrix)
        generator = torch.Generator().manual_seed(0)
        draws = [thin(train_matrix, 0.5, generator).toarray() for _ in range(300)]
        assert {int(draw.sum()) for draw in draws} == {30}
        assert all((draw <= matrix).all() for draw in draws)
        kept = np.mean(draws, axis=0)
        rare, half, both = kept[21, 21], kept[0, :20].mean(), kept[0, 20]
        assert rare > half + 0.2
        assert half > both

    def test_every_epoch_trains_on_other_edges_and_scores_on_all(self) -> None:
        model = made("freedom", planted_inputs(planted_dataset()))
        views = []
        for epoch in (1, 2, 1):
            model.start_epoch(torch.Generator().manual_seed(epoch))
            model.train()
            views.append(model.embeddings()[0].detach())
        assert torch.equal(views[0], views[2])
        assert not torch.equal(views[0], views[1])
        model.eval()
        whole = model.embeddings()[0].detach()
        assert not torch.equal(whole, views[0])
        without = made("freedom", planted_inputs(planted_dataset()), edge_dropout=0.0)
        assert torch.equal(without.embeddings()[0], whole)


class TestVBPR:
    def test_score_by_hand(self) -> None:
        model = made("vbpr", tiny({"text": VECTORS, "image": VECTORS[::-1]}), dim=2)
        assert isinstance(model, VBPR)
        assert model.bias is not None
        with torch.no_grad():
            model.bias.copy_(torch.tensor([[0.1], [0.2], [0.3]]))
        model.freeze()
        content = torch.cat([torch.tensor(VECTORS[::-1]), torch.tensor(VECTORS)], dim=1)  # image, then text
        mapping = torch.cat([layer_of(model, "image").weight, layer_of(model, "text").weight], dim=1).detach()
        for user in range(2):
            latent, theta = model.users.detach()[user].chunk(2)
            for item in range(3):
                factors = mapping[:2] @ content[item]
                by_hand = model.bias[item] + latent @ model.items[item] + theta @ factors + mapping[2] @ content[item]
                torch.testing.assert_close(model.score(np.array([user]))[0, item], by_hand.detach()[0])

    def test_losses_rank_by_the_scores(self) -> None:
        model = made("vbpr", planted_inputs(planted_dataset()), l2=0.0)
        users, positives, negatives = torch.tensor([0, 5, 5]), torch.tensor([4, 9, 4]), torch.tensor([1, 1, 4])
        losses = model.losses(users, positives, negatives)
        model.freeze()
        scores, rows = model.score(users.numpy()), torch.arange(3)
        by_hand = -functional.logsigmoid(scores[rows, positives] - scores[rows, negatives]).mean()
        torch.testing.assert_close(losses["bpr"].detach(), by_hand)

    def test_without_biases_as_in_the_toolkit(self) -> None:
        model = made("vbpr", tiny({"text": VECTORS}), dim=2, biases=False)
        assert model.n_parameters == 2 * 4 + 3 * 2 + 2 * 2


class TestBM3:
    def test_losses_by_hand(self) -> None:
        model = made("bm3", tiny({"text": VECTORS}), dim=2, layers=1, dropout=0.0, alignment=3.0, l2=0.5)
        assert isinstance(model, BM3)
        model.start_epoch(torch.Generator().manual_seed(0))
        terms = model.losses(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
        users, items = (table.detach() for table in model.online())
        user, item = model.users.detach(), model.items.detach()
        torch.testing.assert_close(items[0], (item[0] + user[0] / 2**0.5) / 2 + item[0])

        def apart(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return 1 - first @ second / (first.norm() * second.norm())

        predict = model.predictor
        text = layer_of(model, "text")(torch.tensor(VECTORS[0])).detach()
        reconstruction = apart(predict(users[0]), items[0]) + apart(predict(items[0]), users[0])
        alignment = 3.0 * (apart(predict(text), items[0]) + apart(predict(text), text))
        torch.testing.assert_close(terms["reconstruction"], reconstruction)
        torch.testing.assert_close(terms["text"], alignment)
        torch.testing.assert_close(terms["l2"], 0.25 * (user[0].square().sum() + item[0].square().sum()))

    def test_negatives_do_not_matter(self) -> None:
        model = made("bm3", planted_inputs(planted_dataset()))
        values = []
        for negative in (2, 3):
            model.start_epoch(torch.Generator().manual_seed(0))
            terms = model.losses(torch.tensor([0]), torch.tensor([0]), torch.tensor([negative]))
            values.append(torch.stack(list(terms.values())))
        assert torch.equal(*values)

    def test_views_are_dropped_out_and_pass_no_gradient(self) -> None:
        model = made("bm3", planted_inputs(planted_dataset()), dropout=0.25)
        assert isinstance(model, BM3)
        model.start_epoch(torch.Generator().manual_seed(0))
        view = model.view(torch.ones(400, 16, requires_grad=True))
        assert not view.requires_grad
        assert view.unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert (view == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)

    def test_an_item_without_the_modality_is_left_out_of_its_term(self) -> None:
        inputs = tiny({"text": [[0.0, 0.0], *VECTORS[1:]]}, [False, True, True])
        model = made("bm3", inputs, dim=2, dropout=0.0)
        model.start_epoch(torch.Generator().manual_seed(0))
        one, other = torch.tensor([1]), torch.tensor([0, 1])
        alone = model.losses(torch.tensor([0]), one, one)["text"]
        torch.testing.assert_close(model.losses(torch.tensor([0, 0]), other, other)["text"], alone)
        assert model.losses(torch.tensor([0]), torch.tensor([0]), one)["text"] == 0


class TestLATTICE:
    def test_normalisation_by_hand(self) -> None:
        graph = sparse.csr_matrix(np.array([[0, 4.0, 0], [0, 0, 9.0], [0, 0, 0]]))
        # Rows add up to 4, 9 and 0: 4 / (2 * 3); the edge to the third item has no sum to be divided by.
        np.testing.assert_allclose(
            normalise_by_rows(graph).toarray(), [[0.0, 4 / 6, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
        )

    def test_embeddings_by_hand(self) -> None:
        inputs = tiny({"text": VECTORS})
        model = made("lattice", inputs, dim=2, layers=1, neighbours=1, feature_dim=2, skip=0.7)
        assert isinstance(model, LATTICE)
        with torch.no_grad():  # the learned graph is then the frozen one with the second coordinate stretched
            layer_of(model, "text").weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        model.eval()
        _, items = model.embeddings()
        user, item = model.users.detach(), model.items.detach()
        # Frozen: 0 - 1 (0.8), 1 - 0 (0.8), 2 - 1 (0.6). Learned, from (1, 0), (0.8, 2.4), (0, 4): 0 - 1 and 1 - 2.
        near, far = 0.8 / 6.4**0.5, 2.4 / 6.4**0.5
        smoothed = [
            0.7 * item[1] + 0.3 * near / (near * far) ** 0.5 * item[1],
            0.7 * item[0] + 0.3 * item[2],
            0.7 * 0.6 / (0.6 * 0.8) ** 0.5 * item[1] + 0.3 * item[1],
        ]
        bipartite = [(item[0] + user[0] / 2**0.5) / 2, (item[1] + user[0] / 2 + user[1] / 2**0.5) / 2, item[2] / 2]
        for row in range(3):
            torch.testing.assert_close(items[row], bipartite[row] + functional.normalize(smoothed[row], dim=0))

    def test_authors_settings_by_hand(self) -> None:
        inputs = tiny({"text": VECTORS})
        model = made(
            "lattice", inputs, dim=2, layers=1, neighbours=2, feature_dim=2, skip=1.0, adjacency="rows", self_loops=True
        )
        model.eval()
        _, items = model.embeddings()
        user, item = model.users.detach(), model.items.detach()
        # Means over an item, and its users: item 0 has user 0, item 1 both, item 2 none.
        bipartite = [(item[0] + user[0]) / 2, (item[1] + user[0] + user[1]) / 3, item[2]]
        # An item is its own first neighbour, and has one other: 0 - 1 (0.8), 1 - 0 (0.8), 2 - 1 (0.6).
        sums = (1.8, 1.8, 1.6)
        smoothed = [
            (item[0] + 0.8 * item[1]) / sums[0],
            (item[1] + 0.8 * item[0]) / sums[1],
            item[2] / sums[2] + 0.6 * item[1] / (sums[1] * sums[2]) ** 0.5,
        ]
        for row in range(3):
            expected = (item[row] + bipartite[row]) / 2 + functional.normalize(smoothed[row], dim=0)
            torch.testing.assert_close(items[row], expected)

    @pytest.mark.parametrize("self_loops", [False, True])
    def test_where_the_projection_changes_nothing_the_learned_graph_is_the_frozen_one(self, self_loops: bool) -> None:
        def items(skip: float) -> Tensor:
            model = made(
                "lattice", tiny({"text": VECTORS}), neighbours=2, feature_dim=2, skip=skip, self_loops=self_loops
            )
            layer = layer_of(model, "text")
            with torch.no_grad():
                layer.weight.copy_(torch.eye(2))
                layer.bias.zero_()
            model.eval()
            return model.embeddings()[1]

        torch.testing.assert_close(items(skip=0.0), items(skip=1.0))

    def test_the_first_step_of_an_epoch_learns_the_graph(self) -> None:
        model = made("lattice", planted_inputs(planted_dataset()), l2=0.0)
        assert isinstance(model, LATTICE)
        batch = (torch.arange(50), torch.arange(50), torch.arange(50).flip(0))
        weight = layer_of(model, "text").weight

        def gradient() -> float:
            model.zero_grad()
            model.losses(*batch)["bpr"].backward()
            return 0.0 if weight.grad is None else float(weight.grad.abs().sum())

        for epoch in (1, 2):
            model.start_epoch(torch.Generator().manual_seed(epoch))
            assert gradient() > 0
            assert gradient() == 0

    def test_scoring_sees_the_weights_as_they_are(self) -> None:
        model = made("lattice", planted_inputs(planted_dataset()))
        model.start_epoch(torch.Generator().manual_seed(0))
        model.losses(torch.arange(4), torch.arange(4), torch.arange(4, 8))
        with torch.no_grad():
            for table in model.get_submodule("projections").parameters():
                table.add_(torch.randn(table.shape, generator=torch.Generator().manual_seed(1)))
        model.freeze()
        fresh = made("lattice", planted_inputs(planted_dataset()))
        fresh.load_state_dict(model.state_dict())
        fresh.freeze()
        assert torch.equal(model.score(np.arange(4)), fresh.score(np.arange(4)))
