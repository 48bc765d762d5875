"""Committee, token graph and TokenBridge: by hand, against PyTorch Geometric, and on planted groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted_dataset, planted_features, planted_inputs, right_group, train_on
from scipy import sparse

from motorec.config import parse
from motorec.errors import DataError, MissingContent, MotorecError, ParamsError
from motorec.features import Features
from motorec.graph import BipartiteGraph
from motorec.models import Inputs
from motorec.models.softmax import softmax_loss
from motorec.models.tokenbridge import TokenBridge, standardised
from motorec.tokengraph import TokenGraph, hetero_data, incidence, weighted_incidence
from motorec.tokenizer.committee import Committee, CommitteeSettings, committee_codes

SMALL = CommitteeSettings(members=2, codebook_sizes=(4, 8), levels=2, components=8)
TRAINING = planted.TRAINING.model_copy(update={"epochs": 30, "batch_size": 100})


def features(rows: np.ndarray, present: np.ndarray | None = None) -> Features:
    there = np.ones(len(rows), dtype=bool) if present is None else present
    return Features(modality="text", encoder="planted", matrix=rows.astype(np.float32), present=there)


def bridge(inputs: Inputs, **values: Any) -> TokenBridge:
    return TokenBridge(TokenBridge.Settings(**{"committee": SMALL, **values}), inputs)


def linear_weights(model: TokenBridge) -> np.ndarray:
    assert model._linear is not None
    assert sparse.issparse(model._linear.weights)
    return model._linear.weights.toarray()


class TestIncidence:
    def test_by_hand(self) -> None:
        found = incidence(np.array([[0, 2], [1, -1], [0, 0]]))
        assert found.toarray().tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0]]

    def test_no_token_at_all(self) -> None:
        assert incidence(np.full((3, 2), -1)).shape == (3, 0)

    def test_weights_are_shares_of_an_items_own_product(self) -> None:
        codes = {"text": np.array([[0, 0], [1, 1]]), "image": np.array([[0], [1]])}
        rows = weighted_incidence(codes, {"text": 3.0, "image": 1.0}).toarray()
        np.testing.assert_allclose((rows**2).sum(1), 1.0, rtol=1e-6)
        np.testing.assert_allclose((rows[:, :4] ** 2).sum(1), 0.75, rtol=1e-6)

    def test_a_modality_of_no_weight_is_left_out(self) -> None:
        codes = {"text": np.array([[0], [1]]), "image": np.array([[0], [1]])}
        assert weighted_incidence(codes, {"image": 0.0}).shape == (2, 2)
        with pytest.raises(ValueError, match="weight 0"):
            weighted_incidence(codes, {"text": 0.0, "image": 0.0})


class TestCommittee:
    def test_members_differ_and_the_same_seed_gives_the_same(self) -> None:
        found = planted_features(planted_dataset())
        one, two = (committee_codes(found, SMALL, 1, "planted") for _ in range(2))
        assert list(one) == ["image", "text"]
        assert one["text"].shape == (60, SMALL.tokens_per_item)
        assert all(np.array_equal(one[name], two[name]) for name in one)
        assert not np.array_equal(one["text"][:, :2], one["text"][:, 2:4])
        assert not np.array_equal(one["text"], committee_codes(found, SMALL, 2, "planted")["text"])

    def test_items_of_a_planted_group_share_more_tokens(self) -> None:
        dataset = planted_dataset()
        groups = dataset.items["group"].to_numpy()
        codes = committee_codes(planted_features(dataset), SMALL, 1, "planted")["text"]
        shared = (codes[:, None] == codes[None]).mean(2)
        same = groups[:, None] == groups[None]
        np.fill_diagonal(same, val=False)
        assert shared[same].mean() > 3 * shared[groups[:, None] != groups[None]].mean()

    def test_an_item_that_came_later_has_codes_of_its_neighbours(self) -> None:
        dataset = planted_dataset()
        found = planted_features(dataset)["text"]
        old = replace(found, present=np.arange(60) < 52)
        committee = Committee(old, SMALL, 1, "planted")
        everyone = committee.codes(found)
        assert np.array_equal(everyone[:52], committee.codes(old)[:52])
        assert (committee.codes(old)[52:] == -1).all()
        groups = dataset.items["group"].to_numpy()
        shared = (everyone[52:, None] == everyone[None, :52]).mean(2)
        same = groups[52:, None] == groups[None, :52]
        assert shared[same].mean() > 3 * shared[~same].mean()
        assert np.array_equal(
            committee.codes(replace(found, matrix=found.matrix[55:], present=np.ones(5, dtype=bool))), everyone[55:]
        )

    def test_an_item_without_the_modality_has_no_token(self) -> None:
        present = np.array([True, False, True, True])
        codes = committee_codes({"text": features(np.eye(4), present)}, SMALL, 1, "planted")["text"]
        assert (codes[1] == -1).all()
        assert (codes[present] >= 0).all()

    @pytest.mark.parametrize(
        "rows",
        [np.ones((5, 3)), np.eye(1, 3), np.repeat(np.eye(3), 2, axis=0), np.arange(5.0)[:, None]],
        ids=["constant", "one item", "duplicates", "one dimension"],
    )
    def test_poor_features_work_and_equal_items_have_equal_tokens(self, rows: np.ndarray) -> None:
        codes = committee_codes({"text": features(rows)}, SMALL, 1, "planted")["text"]
        for i, j in np.argwhere((rows[:, None] == rows[None]).all(2)):
            assert np.array_equal(codes[i], codes[j])

    def test_one_code_puts_all_items_together(self) -> None:
        one = CommitteeSettings(members=1, codebook_sizes=(1,), levels=1)
        assert not committee_codes({"text": features(np.eye(4))}, one, 1, "planted")["text"].any()

    def test_broken_features_are_told_with_their_row(self) -> None:
        rows = np.eye(4)
        rows[2, 1] = np.nan
        with pytest.raises(DataError, match=r"planted: the text features .* item row 2"):
            committee_codes({"text": features(rows)}, SMALL, 1, "planted")
        with pytest.raises(DataError, match="no item has any text"):
            committee_codes({"text": features(rows, np.zeros(4, dtype=bool))}, SMALL, 1, "planted")


class TestTokenGraph:
    def test_one_layer_by_hand(self) -> None:
        # User 0 took items 0 and 1; item 2 is new and shares its token with item 0.
        train = sparse.csr_matrix(np.array([[1, 1, 0]], dtype=np.float32))
        bears = incidence(np.array([[0], [1], [0]]))
        users, items = TokenGraph(bears, collect=1.0).propagate(torch.tensor([[1.0], [3.0]]), BipartiteGraph(train), 1)
        root = 2**0.5
        user = (1 + 3) / root
        heard = user / root  # by both items
        assert users.item() == pytest.approx(user)
        # Token 0 hears item 0 and the silent item 2, half of it each; token 1 hears item 1.
        expected = [(1 + heard + heard / 2) / 2, (3 + heard + heard) / 2, (1 + heard / 2) / 2]
        assert items.flatten().tolist() == pytest.approx(expected)

    def test_features_in_place_of_tokens_collect_by_their_sign(self) -> None:
        # One dimension: items 0 and 2 are alike, item 1 is their opposite; user 0 took item 0.
        train = sparse.csr_matrix(np.array([[1, 0, 0]], dtype=np.float32))
        bears = sparse.csr_matrix(np.array([[2.0], [-1.0], [1.0]], dtype=np.float32))
        _, items = TokenGraph(bears, collect=1.0).propagate(torch.ones(1, 1), BipartiteGraph(train), 1)
        # Item 0 hears 2; the dimension collects 2 * 2 / 4 = 1 and hands it back with each item's sign.
        assert items.flatten().tolist() == pytest.approx([(2 + 2 + 1) / 2, (-1 - 1) / 2, (1 + 1) / 2])

    @given(st.integers(0, 1000), st.integers(1, 3))
    @settings(max_examples=20, deadline=None)
    def test_without_tokens_in_common_nothing_reaches_a_new_item(self, seed: int, layers: int) -> None:
        generator = np.random.default_rng(seed)
        taken = (generator.random((8, 6)) < 0.4).astype(np.float32)
        taken[:, 5] = 0
        codes = generator.integers(3, size=(6, 2))
        codes[5] = 3  # tokens of its own
        tokens = torch.from_numpy(generator.normal(size=(8, 2)).astype(np.float32))
        bears = incidence(codes)
        graph = BipartiteGraph(sparse.csr_matrix(taken))
        _, items = TokenGraph(bears, collect=1.0).propagate(tokens, graph, layers)
        torch.testing.assert_close(items[5], torch.from_numpy(bears[5].toarray()).float()[0] @ tokens / (layers + 1))

    @pytest.mark.slow
    def test_agrees_with_message_passing_of_pytorch_geometric(self) -> None:
        from torch_geometric.nn import SimpleConv
        from torch_geometric.utils import degree

        generator = np.random.default_rng(0)
        train = sparse.csr_matrix((generator.random((20, 10)) < 0.3).astype(np.float32))
        bears = weighted_incidence({"text": generator.integers(4, size=(10, 3))}, {})
        tokens = torch.from_numpy(generator.normal(size=(bears.shape[1], 5)).astype(np.float32))
        users, items = TokenGraph(bears, collect=0.5).propagate(tokens, BipartiteGraph(train), 2)

        data = hetero_data(train, bears)
        assert data.node_types == ["user", "item", "token"]
        taken, borne = data["user", "takes", "item"], data["item", "bears", "token"]
        ends = degree(taken.edge_index[0], 20), degree(taken.edge_index[1], 10)
        weight = (ends[0][taken.edge_index[0]] * ends[1][taken.edge_index[1]]).rsqrt()
        back, add, mean = taken.edge_index.flip(0), SimpleConv("sum"), SimpleConv("mean")
        now = add((tokens, torch.zeros(10, 5)), borne.edge_index.flip(0), borne.edge_weight.float())
        all_users, all_items = [], [now]
        for _ in range(2):
            liked = add((now, torch.zeros(20, 5)), back, weight)
            heard = add((liked, torch.zeros(10, 5)), taken.edge_index, weight)
            collected = mean((heard, torch.zeros_like(tokens)), borne.edge_index)
            now = heard + 0.5 * mean((collected, torch.zeros(10, 5)), borne.edge_index.flip(0))
            all_users.append(liked)
            all_items.append(now)
        torch.testing.assert_close(users, torch.stack(all_users).mean(0))
        torch.testing.assert_close(items, torch.stack(all_items).mean(0))


def test_softmax_with_a_prior_by_hand() -> None:
    users, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    first = torch.tensor([0])
    loss = softmax_loss(users, items, first, first, 0.5, torch.tensor([0.0, 3.0]))
    assert loss.item() == pytest.approx(np.log(np.exp(2.0) + np.exp(3.0)) - 2.0, rel=1e-6)


class TestTokenBridge:
    def test_linear_part_solves_its_regression(self) -> None:
        """Each item from the others, by least squares over users and dimensions of the content, with a ridge."""
        inputs = planted_inputs(planted_dataset(), ("text",))
        settings = {"cut": 0.0, "amplify": 0.0, "ridge": 3.0, "degree_ridge": 0.5, "content_weights": {"text": 2.0}}
        taken = inputs.train.toarray().astype(np.float64)
        text = inputs.features["text"].matrix.astype(np.float64)
        text = (text - text.mean(0)) / text.std(0)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        taken[:30, 0] = taken[:10, 1] = 1.0  # some users are more active than others
        model = bridge(replace(inputs, train=sparse.csr_matrix(taken.astype(np.float32))), **settings)
        activity = taken.sum(1, keepdims=True)
        counts = activity**-0.5  # |I_u| to the minus a half, with a mean of 1 over the interactions
        shares = (counts * activity.sum() / (counts * activity).sum()) ** 0.5
        stacked = np.vstack([taken * shares, text.T * 2.0**0.5])
        ridge = 3.0 + 0.5 * ((taken * shares) ** 2).sum(0)
        expected = np.zeros((len(ridge), len(ridge)))
        for item in range(len(ridge)):
            others = np.delete(np.arange(len(ridge)), item)
            rows = np.vstack([stacked[:, others], np.diag(ridge[others] ** 0.5)])
            target = np.concatenate([stacked[:, item], np.zeros(len(others))])
            expected[others, item] = np.linalg.lstsq(rows, target, rcond=None)[0]
        np.testing.assert_allclose(linear_weights(model), np.maximum(expected, 0), atol=1e-4)

    def test_cutting_and_amplifying(self) -> None:
        inputs = planted_inputs(planted_dataset())
        plain, cut, loud = (
            linear_weights(bridge(inputs, cut=threshold, amplify=power))
            for threshold, power in ((0.0, 0.0), (0.01, 0.0), (0.01, 1.0))
        )
        np.testing.assert_allclose(cut, np.maximum(plain - 0.01, 0), atol=1e-6)
        rare = inputs.degrees < inputs.cold_below
        gain = np.log2(12) / np.log2(inputs.degrees + 2.0)
        np.testing.assert_allclose(loud, cut * np.where(rare, gain, 1.0), atol=1e-6)

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"graph_weight": 0.0},
            {"content": "tokens"},
            {"tokens": "features", "linear": False},
            {"tokens": "neighbours", "linear": False},
        ],
        ids=str,
    )
    def test_a_new_item_of_the_users_group_is_ahead(self, values: dict[str, Any], tmp_path: Path) -> None:
        assert self._new_items(tmp_path, values) > 0.9

    def test_so_it_is_in_the_graph_alone(self, tmp_path: Path) -> None:
        assert self._new_items(tmp_path, {"linear": False}) > 0.7

    @pytest.mark.parametrize("tokens", ["random", "ids"])
    def test_without_meaning_in_the_tokens_it_is_not(self, tokens: str, tmp_path: Path) -> None:
        assert self._new_items(tmp_path, {"linear": False, "tokens": tokens}) < 0.6

    @staticmethod
    def _new_items(scratch: Path, values: dict[str, Any]) -> float:
        """Share of users for whom the new item of their own group is the best of all new items."""
        dataset = planted_dataset()
        inputs = planted_inputs(dataset)
        model = bridge(inputs, **values)
        train_on(dataset, inputs, model, TRAINING, scratch)
        scores = model.score(np.arange(dataset.n_users))
        return right_group(dataset, scores, np.flatnonzero(inputs.degrees == 0), 1)

    def test_a_user_without_history_has_no_preference_in_the_linear_part(self) -> None:
        inputs = planted_inputs(planted_dataset())
        taken = inputs.train.tolil()
        taken[0] = 0
        model = bridge(replace(inputs, train=sparse.csr_matrix(taken)), graph_weight=0.0)
        assert not model.score(np.array([0])).any()

    @pytest.mark.parametrize("tokens", ["committee", "random"])
    def test_a_modality_of_no_weight_has_no_part(self, tokens: str) -> None:
        both = planted_inputs(planted_dataset())
        text = replace(both, features={"text": both.features["text"]})
        weights = {"content_weights": {"text": 3.0, "image": 0.0}, "token_weights": {"text": 5.0, "image": 0.0}}
        for content in ("features", "tokens"):
            one, other = (bridge(inputs, tokens=tokens, content=content, **weights) for inputs in (both, text))
            np.testing.assert_array_equal(linear_weights(one), linear_weights(other))
            assert torch.equal(one.token_graph.bears.matrix.to_dense(), other.token_graph.bears.matrix.to_dense())
            unnamed = bridge(
                both, tokens=tokens, content=content, content_weights={"text": 3.0}, token_weights={"text": 5.0}
            )
            np.testing.assert_array_equal(linear_weights(unnamed), linear_weights(other))

    def test_the_loss_by_hand(self) -> None:
        """Pairs are predicted without themselves, by a softmax of cosines shifted by ln(degree + 1)."""
        inputs = planted_inputs(planted_dataset())
        model = bridge(inputs, linear=False, temperature=0.2, adjustment=0.7)
        users, items = (torch.from_numpy(side[:6].astype(np.int64)) for side in inputs.train.nonzero())
        left = inputs.train.toarray()
        left[users, items] = 0
        with torch.no_grad():
            who, what = model.embeddings(BipartiteGraph(sparse.csr_matrix(left)))
            loss = model.losses(users, items, items)["softmax"]
        expected = []
        for user, item in zip(users, items, strict=True):
            logits = who[user] @ what.T / 0.2 + 0.7 * torch.from_numpy(np.log(inputs.degrees + 1.0)).float()
            expected.append(logits.logsumexp(0) - logits[item])
        torch.testing.assert_close(loss, torch.stack(expected).mean())

    def test_the_score_by_hand(self) -> None:
        inputs = planted_inputs(planted_dataset())
        model, alone = bridge(inputs, graph_weight=1.7), bridge(inputs, graph_weight=0.0)
        user = np.array([3])
        with torch.no_grad():
            who, what = model.embeddings(model.graph)
        graph = who[3] @ what.T
        expected = alone.score(user)[0] + 1.7 * (graph - graph.mean()) / graph.std(correction=0)
        torch.testing.assert_close(model.score(user)[0], expected, atol=1e-4, rtol=1e-4)

    def test_missing_content(self) -> None:
        inputs = planted_inputs(planted_dataset(), ("text",))
        bridge(inputs)  # one modality is enough
        with pytest.raises(MissingContent, match="TokenBridge needs text or image"):
            bridge(replace(inputs, features={}))
        with pytest.raises(MissingContent, match="TokenBridge needs image"):
            bridge(inputs, token_weights={"image": 1.0})
        with pytest.raises(ParamsError, match="have weight 0"):
            bridge(inputs, content_weights={"text": 0.0})

    def test_settings_that_do_not_go_together(self) -> None:
        with pytest.raises(ParamsError, match="nothing is left"):
            parse(TokenBridge.Settings, {"linear": False, "graph_weight": 0.0}, "here")
        with pytest.raises(ParamsError, match="there are none"):
            parse(TokenBridge.Settings, {"content": "tokens", "tokens": "ids"}, "here")

    def test_neighbours_in_place_of_tokens_by_hand(self) -> None:
        inputs = planted_inputs(planted_dataset(), ("text",))
        rows = np.zeros((inputs.train.shape[1], 2), dtype=np.float32)
        rows[:3] = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]
        inputs = replace(inputs, features={"text": features(rows, np.arange(len(rows)) < 3)})
        model = bridge(inputs, linear=False, tokens="neighbours", neighbours=2)
        bears = model.token_graph.bears.matrix.to_dense().numpy()
        # Two of three items have halves: a mean squared length of 1 needs 1 / sqrt(3 * .5 / n) of that.
        scale = 0.5 / np.sqrt(3 * 0.5 / len(rows))
        expected = np.zeros_like(bears)
        for item, near in ((0, 1), (1, 0), (2, 1)):
            expected[item, [item, near]] = scale
        np.testing.assert_allclose(bears, expected, rtol=1e-5)

    def test_refuses_a_catalogue_beyond_the_limit(self) -> None:
        with pytest.raises(MotorecError, match="TokenBridge keeps a weight for every pair"):
            bridge(planted_inputs(planted_dataset()), memory_limit_gb=1e-9)

    def test_standardised_rows(self) -> None:
        rows = standardised(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
        assert rows[0].tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5])
        assert not rows[1].any()
