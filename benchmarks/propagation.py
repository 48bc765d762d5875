"""How much faster is our propagation than PyTorch Geometric's? `python benchmarks/propagation.py`.

Times forward and backward of L layers on a random long-tailed graph, the two side by side and in turns, and prints the
ratio: machines differ and are noisy, ratios less so.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

from motorec.graph import BipartiteGraph
from motorec.models.lightgcn import GeometricPropagation


def long_tailed(users: int, items: int, interactions: int) -> sparse.csr_matrix:
    """Random interactions whose items' popularity falls like 1 / rank."""
    generator = np.random.default_rng(0)
    popularity = 1 / np.arange(1, items + 1)
    columns = generator.choice(items, size=interactions, p=popularity / popularity.sum())
    rows = generator.integers(users, size=interactions)
    matrix = sparse.csr_matrix((np.ones(interactions, np.float32), (rows, columns)), shape=(users, items))
    matrix.data[:] = 1.0
    return matrix


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print the median time of each and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=9000)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--interactions", type=int, default=46000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    train = long_tailed(chosen.users, chosen.items, chosen.interactions)
    users = torch.randn(chosen.users, chosen.dim, requires_grad=True)
    items = torch.randn(chosen.items, chosen.dim, requires_grad=True)

    def step(graph: BipartiteGraph | GeometricPropagation) -> None:
        torch.cat(graph.propagate(users, items, chosen.layers)).sum().backward()
        users.grad = items.grad = None

    graphs = {"ours": BipartiteGraph(train), "PyTorch Geometric": GeometricPropagation(train)}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(chosen.repeats + 1):
        for name, graph in graphs.items():
            times[name].append(seconds(lambda graph=graph: step(graph)))  # type: ignore[misc]
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first one warms up
    for name, median in medians.items():
        print(f"{name:18} {1000 * median:8.1f} ms forward and backward")
    print(f"PyTorch Geometric / ours: {medians['PyTorch Geometric'] / medians['ours']:.1f}")


if __name__ == "__main__":
    main()
