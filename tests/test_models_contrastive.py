"""MGCN, LGMRec and SLMRec find what was planted; their formulas on cases worked out by hand."""

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
from motorec.features.components import principal_components
from motorec.models import EmbeddingRecommender, Inputs, build
from motorec.models.layers import Content
from motorec.models.lgmrec import LGMRec
from motorec.models.losses import distinct, info_nce
from motorec.models.mgcn import MGCN, item_graph
from motorec.models.slmrec import SLMRec


def choice(kind: str, **settings: Any) -> ModelChoice:
    return ModelChoice(name=kind, title=kind, kind=kind, settings={"dim": 16} | settings, training=TRAINING)


VARIANTS = {
    "mgcn": choice("mgcn"),
    "mgcn-cosine": choice("mgcn", edges="cosine", self_loops=True),
    "mgcn-learned": choice("mgcn", learned_features=True, feature_dim=None, contrastive=0.0),
    "lgmrec": choice("lgmrec", hyperedges=8),
    "lgmrec-two-layers": choice("lgmrec", hyperedges=8, hyper_layers=2, feature_dim=None, contrastive=0.0),
    "slmrec": choice("slmrec"),
    "slmrec-fd-fm": choice("slmrec", task="fd+fm"),
    "slmrec-no-task": choice("slmrec", task_weight=0.0, feature_dim=None),
}
KINDS = ["mgcn", "lgmrec", "slmrec"]


def built(model: ModelChoice, inputs: Inputs) -> EmbeddingRecommender:
    made = build(model, inputs)
    assert isinstance(made, EmbeddingRecommender)
    made.start_epoch(torch.Generator().manual_seed(5))
    return made


def fitted(model: ModelChoice, dataset: Dataset, inputs: Inputs, scratch: Path) -> EmbeddingRecommender:
    made = built(model, inputs)
    train_on(dataset, inputs, made, model.training, scratch)
    return made


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS)
def test_finds_the_users_group_and_a_new_item_of_it(model: ModelChoice, tmp_path: Path) -> None:
    dataset = planted_dataset()
    inputs = planted_inputs(dataset)
    scores = fitted(model, dataset, inputs, tmp_path).score(np.arange(dataset.n_users))
    # By chance a quarter of the items are of the user's group; one of the four new ones is.
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees > 0), 5) > 0.9
    assert right_group(dataset, scores, np.flatnonzero(inputs.degrees == 0), 1) > 0.9


@pytest.mark.parametrize("kind", KINDS)
class TestEveryModel:
    @pytest.mark.parametrize("modalities", [("text",), ("image",), ("audio", "image", "text")])
    def test_any_number_of_modalities(self, kind: str, modalities: tuple[str, ...]) -> None:
        dataset = planted_dataset()
        made = built(choice(kind), planted_inputs(dataset, modalities))
        terms = made.losses(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3]))
        torch.stack(list(terms.values())).sum().backward()
        made.freeze()
        assert made.score(np.array([0, 5])).shape == (2, dataset.n_items)

    def test_no_content_is_an_error(self, kind: str) -> None:
        with pytest.raises(MissingContent, match="planted has neither texts nor pictures"):
            build(choice(kind), planted_inputs(planted_dataset(), ()))

    def test_an_item_may_lack_a_modality(self, kind: str) -> None:
        dataset = planted_dataset()
        features = planted_features(dataset)
        image = features["image"]
        present = np.arange(dataset.n_items) >= 10
        bare = dataclasses.replace(image, matrix=image.matrix * present[:, None], present=present)
        inputs = dataclasses.replace(planted_inputs(dataset), features=features | {"image": bare})
        made = built(choice(kind), inputs)
        terms = made.losses(torch.arange(40), torch.arange(40), torch.arange(20, 60))
        torch.stack(list(terms.values())).sum().backward()
        made.freeze()
        assert torch.isfinite(made.score(np.arange(4))).all()
        assert all(torch.isfinite(table.grad).all() for table in made.parameters() if table.grad is not None)

    def test_training_on_part_of_the_nodes_is_the_same_as_scoring(self, kind: str) -> None:
        """The losses fuse only a batch's nodes: BPR, or the softmax, must be that of the embeddings of all nodes."""
        off = {"contrastive": 0.0} if kind != "slmrec" else {"task_weight": 0.0}
        made = built(choice(kind, **off, l2=0.0), planted_inputs(planted_dataset()))
        made.eval()
        users, positives, negatives = torch.tensor([7, 2, 7]), torch.tensor([3, 2, 11]), torch.tensor([0, 1, 2])
        all_users, all_items = made.embeddings()
        user, positive, negative = all_users[users], all_items[positives], all_items[negatives]
        if kind == "slmrec":
            expected = info_nce(user, positive, 0.2)
        else:
            expected = -torch.nn.functional.logsigmoid((user * (positive - negative)).sum(1)).mean()
        terms = made.losses(users, positives, negatives)
        torch.testing.assert_close(torch.stack(list(terms.values())).sum(), expected)

    def test_noise_is_only_in_training_and_comes_from_the_epoch(self, kind: str) -> None:
        batch = torch.arange(30), torch.arange(30), torch.arange(30, 60)
        noisy = {"mgcn": {"contrastive_nodes": 5}, "lgmrec": {}, "slmrec": {"task": "fd"}}[kind]
        made = built(choice(kind, **noisy), planted_inputs(planted_dataset()))

        def loss(seed: int) -> float:
            made.train()
            made.start_epoch(torch.Generator().manual_seed(seed))
            return torch.stack(list(made.losses(*batch).values())).sum().item()

        first = loss(1)
        made.freeze()
        scores = made.score(np.arange(3))
        assert loss(2) != first
        made.freeze()
        assert torch.equal(scores, made.score(np.arange(3)))
        assert loss(1) == first

    def test_the_parameter_file_fits_and_saves_what_scoring_needs(
        self, kind: str, tmp_path: Path, project: Path
    ) -> None:
        dataset = planted_dataset()
        inputs = planted_inputs(dataset)
        resolved = load_model(kind, "planted")
        made = built(resolved, inputs)
        with torch.no_grad():
            for table in made.parameters():
                table.mul_(1.5)
        other = built(resolved, inputs)
        other.load_state_dict(made.state_dict())
        made.freeze()
        other.freeze()
        assert torch.equal(made.score(np.arange(4)), other.score(np.arange(4)))


def tiny(train_rows: list[list[int]], features: list[list[float]]) -> Inputs:
    matrix = np.array(features, dtype=np.float32)
    text = Features(modality="text", encoder="planted", matrix=matrix, present=np.ones(len(matrix), dtype=bool))
    return Inputs("tiny", 1, sparse.csr_matrix(np.array(train_rows, dtype=np.float32)), {"text": text})


def test_mgcn_by_hand() -> None:
    """Two items that are each other's nearest, one modality: what they share is all, and half of it is added."""
    inputs = tiny([[1, 0]], [[1.0, 0.0], [1.0, 0.1]])
    made = built(choice("mgcn", dim=2, layers=1, neighbours=1, feature_dim=None), inputs)
    assert isinstance(made, MGCN)
    with torch.no_grad():
        made.users.copy_(torch.tensor([[1.0, 2.0]]))
        made.items.copy_(torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
        made.purify["text"].weight.zero_()  # gates of one half
    users, items = made.embeddings()
    # Item 0 gets half of item 1 from the item graph, halved by the fuser, and itself averaged with its one user.
    torch.testing.assert_close(items[0], torch.tensor([2.0, 3.0]) + torch.tensor([1.25, 1.5]))
    # Item 1 has no user: half of itself, and a quarter of item 0.
    torch.testing.assert_close(items[1], torch.tensor([2.5, 3.0]) + torch.tensor([0.75, 1.0]))
    # The user takes over what item 0 has from the item graph.
    torch.testing.assert_close(users[0], torch.tensor([2.0, 3.0]) + torch.tensor([1.25, 1.5]))


def test_mgcn_weighs_neighbours_by_cosine_by_hand() -> None:
    """Items 0 and 1 have a cosine of 0.8, items 1 and 2 of 0.6; item 3 has no text."""
    rows = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    text = Features("text", "by hand", rows, np.array([True, True, True, False]))
    settings = MGCN.Settings(neighbours=2, self_loops=True, edges="cosine")
    sums = 1.8, 1.8, 1.6
    expected = np.zeros((4, 4))
    for row, column, weight in [(0, 0, 1), (0, 1, 0.8), (1, 1, 1), (1, 0, 0.8), (2, 2, 1), (2, 1, 0.6)]:
        expected[row, column] = weight / np.sqrt(sums[row] * sums[column])
    np.testing.assert_allclose(item_graph(text, settings).toarray(), expected, atol=1e-6)
    alone = MGCN.Settings(neighbours=1, edges="cosine")
    assert (item_graph(text, alone).toarray() > 0).sum(1).tolist() == [1, 1, 1, 0]


def test_lgmrec_by_hand() -> None:
    """One hyperedge holds everybody: the global embedding of every node points to the sum of the items."""
    inputs = tiny([[1, 0]], [[3.0, 4.0], [0.0, 2.0]])
    made = built(
        choice("lgmrec", dim=2, layers=1, content_layers=1, hyperedges=1, alpha=10.0, feature_dim=None), inputs
    )
    assert isinstance(made, LGMRec)
    made.eval()
    with torch.no_grad():
        made.users.copy_(torch.tensor([[1.0, 2.0]]))
        made.items.copy_(torch.tensor([[5.0, 6.0], [0.0, 8.0]]))
        made.modalities[0].project.weight.copy_(torch.eye(2))
    users, items = made.embeddings()
    # LightGCN averages user and item 0 to (3, 4), halves item 1 to (0, 4): together (3, 8).
    everywhere = 10.0 * torch.tensor([3.0, 8.0]) / 73**0.5
    # The user and item 0 hold item 0's features, at unit length (.6, .8); item 1 is linked to nobody.
    torch.testing.assert_close(users[0], torch.tensor([3.6, 4.8]) + everywhere)
    torch.testing.assert_close(items[0], torch.tensor([3.6, 4.8]) + everywhere)
    torch.testing.assert_close(items[1], torch.tensor([0.0, 4.0]) + everywhere)


def test_slmrec_propagates_each_channel_like_lightgcn() -> None:
    """One propagation for all channels equals the authors' one for each."""
    inputs = planted_inputs(planted_dataset(users=20), ("text",))
    made = built(choice("slmrec", layers=3, feature_dim=None), inputs)
    assert isinstance(made, SLMRec)
    features = torch.nn.functional.normalize(torch.from_numpy(inputs.features["text"].matrix), dim=1)
    content = features @ made.project["text"].weight.T
    channels = [made.graph.propagate(made.users, items, 3) for items in (made.items, content)]
    users, items = made.embeddings()
    torch.testing.assert_close(users, made.fuse_users(torch.cat([channel[0] for channel in channels], 1)))
    torch.testing.assert_close(items, made.fuse_items(torch.cat([channel[1] for channel in channels], 1)))


def test_slmrec_masking_leaves_a_channel_the_users_part_only() -> None:
    made = built(choice("slmrec", dim=2, task="fm"), planted_inputs(planted_dataset(), ("text",)))
    assert isinstance(made, SLMRec)
    common, ids, content = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]]), torch.tensor([[100.0, 200.0]])
    view = made._view("users", common, [ids, content], masked=1)
    torch.testing.assert_close(view, made.fuse_users(torch.tensor([[11.0, 22.0, 1.0, 2.0]])))


class TestShared:
    def test_components_keep_distances_in_order_and_absent_items_at_zero(self) -> None:
        generator = np.random.default_rng(0)
        plane = generator.normal(size=(50, 2)) @ generator.normal(size=(2, 6))
        matrix = np.concatenate([plane, np.zeros((1, 6))]).astype(np.float32)
        here = np.arange(51) < 50
        features = {"text": Features(modality="text", encoder="planted", matrix=matrix, present=here)}
        inputs = Inputs("tiny", 1, sparse.csr_matrix((3, 51), dtype=np.float32), features)
        content = Content(inputs, "A model", components=2)
        assert content.width("text") == 2
        values = content["text"]
        assert (values[50] == 0).all()
        torch.testing.assert_close(values[:50].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        assert values[:50].var(0, correction=0).mean().item() == pytest.approx(1.0, rel=1e-4)
        # The features lie in a plane, so two components keep all distances, up to one scale for all.
        ratio = torch.pdist(values[:50]) / torch.pdist(torch.from_numpy(matrix[:50]))
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)

    def test_fewer_dimensions_than_components(self) -> None:
        _, rotation = principal_components(np.eye(3, dtype=np.float32), 10)
        assert rotation.shape == (3, 3)

    def test_distinct_nodes(self) -> None:
        nodes = torch.tensor([4, 1, 4, 9, 1])
        generator = torch.Generator().manual_seed(0)
        assert distinct(nodes, None, generator).tolist() == [1, 4, 9]
        assert distinct(nodes, 3, generator).tolist() == [1, 4, 9]
        draws = {tuple(sorted(distinct(nodes, 2, generator).tolist())) for _ in range(50)}
        assert draws == {(1, 4), (1, 9), (4, 9)}
