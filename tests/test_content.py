"""Content as models see it: neighbour graphs, scaling, and what is said when it is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted_dataset, planted_inputs
from scipy import sparse

from motorec.errors import MissingContent
from motorec.features import Features
from motorec.graph import Sparse, row_normalise, symmetric_normalise
from motorec.itemgraph import nearest_neighbours
from motorec.models.layers import Content, dropout, linear


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 8), st.integers(1, 9))
def test_neighbours_are_the_nearest_whatever_the_block(seed: int, items: int, neighbours: int, block: int) -> None:
    vectors = torch.from_numpy(np.random.default_rng(seed).normal(size=(items, 5)).astype(np.float32))
    graph = nearest_neighbours(vectors, neighbours, weights="binary", block=block)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    keep = min(neighbours, items - 1)
    assert (np.diff(graph.indptr) == keep).all()
    for item in range(items):
        assert set(graph[item].indices) == set(similarity[item].topk(keep).indices.tolist())


def test_edges_carry_the_cosine_and_items_without_vector_have_none() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    graph = nearest_neighbours(vectors, 2, present=np.array([True, True, True, False])).toarray()
    np.testing.assert_allclose(
        graph, np.array([[0, 1, 0.6, 0], [1, 0, 0.6, 0], [0.6, 0.6, 0, 0], [0, 0, 0, 0]]), rtol=1e-6
    )


def test_with_self_loops_an_item_is_its_own_nearest_and_one_of_their_number() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 0.0]])
    present = np.array([True, True, True, False])
    two = nearest_neighbours(vectors, 2, present, self_loops=True).toarray()
    np.testing.assert_allclose(two, np.array([[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0.6, 1, 0], [0, 0, 0, 0]]), rtol=1e-6)
    one = nearest_neighbours(vectors, 1, present, self_loops=True).toarray()
    np.testing.assert_array_equal(one, np.diag([1, 1, 1, 0]))


@pytest.mark.parametrize("present", [[False, False], [True, False]])
def test_too_few_vectors_make_an_empty_graph(present: list[bool]) -> None:
    assert nearest_neighbours(torch.ones(2, 3), 5, present=np.array(present)).nnz == 0


def test_normalisation_by_hand() -> None:
    adjacency = sparse.csr_matrix(np.array([[1.0, 1.0, 0.0], [0.0, 4.0, 0.0]]))
    np.testing.assert_allclose(row_normalise(adjacency).toarray(), np.array([[0.5, 0.5, 0], [0, 1, 0]]))
    expected = np.array([[1 / np.sqrt(2 * 1), 1 / np.sqrt(2 * 5), 0], [0, 4 / np.sqrt(4 * 5), 0]])
    np.testing.assert_allclose(symmetric_normalise(adjacency).toarray(), expected)
    product = Sparse(adjacency)
    dense = torch.eye(3)
    assert torch.equal(product @ dense, product.T.matrix.to_dense().T)


class TestContent:
    def test_takes_all_modalities_or_those_asked_for(self) -> None:
        inputs = planted_inputs(planted_dataset())
        assert Content(inputs, "Model").names == ["image", "text"]
        assert Content(inputs, "Model", ["text"]).names == ["text"]

    @pytest.mark.parametrize(("there", "asked"), [(("text",), ["image"]), (("text",), ["text", "image"]), ((), None)])
    def test_says_what_is_missing(self, there: tuple[str, ...], asked: list[str] | None) -> None:
        inputs = planted_inputs(planted_dataset(), there)
        with pytest.raises(MissingContent, match=r"VBPR needs .*image.* features, and planted has (text|neither)"):
            Content(inputs, "VBPR", asked)

    def test_scaling(self) -> None:
        inputs = planted_inputs(planted_dataset())
        raw = Content(inputs, "Model")["text"]
        assert torch.equal(raw, torch.from_numpy(inputs.features["text"].matrix))
        torch.testing.assert_close(Content(inputs, "Model", scaling="unit")["text"].norm(dim=1), torch.ones(len(raw)))
        standard = Content(inputs, "Model", scaling="standard")["text"]
        torch.testing.assert_close(standard.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
        torch.testing.assert_close(standard.std(0, correction=0), torch.ones(12))

    @pytest.mark.parametrize("value", [0.0, 10.3, 1000.7])
    def test_a_constant_column_says_nothing(self, value: float) -> None:
        """The mean of 3,000 equal numbers is not quite that number in single precision."""
        rows = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
        rows[:, 0] = value
        inputs = planted_inputs(planted_dataset())
        text = Features("text", "planted", rows, np.ones(3000, dtype=bool))
        scaled = Content(replace(inputs, features={"text": text}), "Model", scaling="standard")["text"]
        assert not scaled[:, 0].any()
        assert scaled[:, 1].std(correction=0).item() == pytest.approx(1.0, rel=1e-3)

    def test_learned_features_are_trained_and_fixed_ones_are_not_stored(self) -> None:
        inputs = planted_inputs(planted_dataset())
        assert set(Content(inputs, "Model", learned=True).state_dict()) == {"features_image", "features_text"}
        fixed = Content(inputs, "Model")
        assert not fixed.state_dict()
        assert not list(fixed.parameters())
        assert fixed.width("text") == 12


def test_layers_draw_from_their_generator_alone() -> None:
    def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return linear(3, 4, generator).weight.detach(), dropout(torch.ones(1000), 0.25, generator)

    torch.manual_seed(0)
    weight, kept = drawn(1)
    torch.manual_seed(9)
    again, kept_again = drawn(1)
    assert torch.equal(weight, again)
    assert torch.equal(kept, kept_again)
    assert not torch.equal(weight, drawn(2)[0])
    assert sorted(set(kept.tolist())) == pytest.approx([0.0, 4 / 3])
    assert 0.2 < (kept == 0).float().mean() < 0.3
