"""Propagation: by hand, against PyTorch Geometric, and its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from motorec.graph import BipartiteGraph


def random_interactions(users: int = 30, items: int = 20, seed: int = 0) -> sparse.csr_matrix:
    generator = np.random.default_rng(seed)
    matrix = (generator.random((users, items)) < 0.2).astype(np.float32)
    matrix[0] = 0  # a user and an item without any interaction
    matrix[:, 0] = 0
    return sparse.csr_matrix(matrix)


def test_one_layer_by_hand() -> None:
    # User 0 took both items, user 1 took item 1 only: degrees 2, 1 and 1, 2.
    graph = BipartiteGraph(sparse.csr_matrix(np.array([[1, 1], [0, 1]], dtype=np.float32)))
    users, items = graph.propagate(torch.tensor([[1.0], [10.0]]), torch.tensor([[100.0], [1000.0]]), layers=1)
    root = 2**0.5
    torch.testing.assert_close(users, torch.tensor([[(1 + 100 / root + 1000 / 2) / 2], [(10 + 1000 / root) / 2]]))
    torch.testing.assert_close(items, torch.tensor([[(100 + 1 / root) / 2], [(1000 + 1 / 2 + 10 / root) / 2]]))


def test_users_from_items_is_a_mean_and_zero_without_interactions() -> None:
    graph = BipartiteGraph(sparse.csr_matrix(np.array([[1, 1], [0, 0]], dtype=np.float32)))
    assert graph.users_from_items(torch.tensor([[1.0], [3.0]])).tolist() == [[2.0], [0.0]]


def test_no_layer_changes_nothing() -> None:
    train = random_interactions()
    users, items = torch.randn(30, 4), torch.randn(20, 4)
    same_users, same_items = BipartiteGraph(train).propagate(users, items, 0)
    assert torch.equal(same_users, users)
    assert torch.equal(same_items, items)


def test_gradient_agrees_with_finite_differences() -> None:
    graph = BipartiteGraph(random_interactions(6, 5))
    for part in (graph.to_users, graph.to_items, graph._average):
        part.matrix, part.transpose = part.matrix.double(), part.transpose.double()
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, i: graph.propagate(u, i, 2), (users, items))
    assert torch.autograd.gradcheck(graph.users_from_items, (items,))


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 3])
def test_agrees_with_pytorch_geometric(layers: int) -> None:
    from motorec.models.lightgcn import GeometricPropagation

    train = random_interactions()
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(30, 8, generator=generator, requires_grad=True)
    items = torch.randn(20, 8, generator=generator, requires_grad=True)
    ours = torch.cat(BipartiteGraph(train).propagate(users, items, layers))
    theirs = torch.cat(GeometricPropagation(train).propagate(users, items, layers))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    weights = torch.randn(ours.shape, generator=generator)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), (users, items)),
        torch.autograd.grad((theirs * weights).sum(), (users, items)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
