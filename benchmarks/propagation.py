"""How much faster is our propagation than PyTorch Geometric's? `python benchmarks/propagation.py`.

Times forward and backward of L layers on a random long-tailed graph, over users and items (LightGCN) and over users,
items and tokens (TokenBridge), the two side by side and in turns, and prints the ratio: machines differ and are noisy,
ratios less so. Both must compute the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import SimpleConv
from torch_geometric.utils import degree

from motorec.graph import BipartiteGraph
from motorec.models.lightgcn import GeometricPropagation
from motorec.tokengraph import TokenGraph, hetero_data, weighted_incidence

COLLECT = 0.5  # what tokens hand back to their items
LEVELS, CODES = 16, 128  # tokens of an item, and how many each of them is one of


def long_tailed(users: int, items: int, interactions: int) -> sparse.csr_matrix:
    """Random interactions whose items' popularity falls like 1 / rank."""
    generator = np.random.default_rng(0)
    popularity = 1 / np.arange(1, items + 1)
    columns = generator.choice(items, size=interactions, p=popularity / popularity.sum())
    rows = generator.integers(users, size=interactions)
    matrix = sparse.csr_matrix((np.ones(interactions, np.float32), (rows, columns)), shape=(users, items))
    matrix.data[:] = 1.0
    return matrix


class GeometricTokens:
    """Message passing of PyTorch Geometric over the graph of users, items and tokens; see `motorec.tokengraph`."""

    def __init__(self, data: HeteroData) -> None:
        taken, borne = data["user", "takes", "item"], data["item", "bears", "token"]
        self.sizes = data["user"].num_nodes, data["item"].num_nodes, data["token"].num_nodes
        ends = [degree(side, size) for side, size in zip(taken.edge_index, self.sizes[:2], strict=True)]
        self.weight = (ends[0][taken.edge_index[0]] * ends[1][taken.edge_index[1]]).rsqrt()
        self.takes, self.taken_by = taken.edge_index, taken.edge_index.flip(0)
        self.bears, self.borne_by, self.borne = borne.edge_index, borne.edge_index.flip(0), borne.edge_weight.float()
        self.add, self.mean = SimpleConv("sum"), SimpleConv("mean")

    def propagate(self, tokens: Float[Tensor, "tokens d"], layers: int) -> Float[Tensor, "users_and_items d"]:
        """Embeddings of users, then of items."""
        # A layer is given the nodes at both ends; of those that receive, only the number counts.
        no_user, no_item, no_token = (tokens.new_zeros(size, tokens.shape[1]) for size in self.sizes)
        items = self.add((tokens, no_item), self.borne_by, self.borne)
        all_users, all_items = [], [items]
        for _ in range(layers):
            users = self.add((items, no_user), self.taken_by, self.weight)
            items = self.add((users, no_item), self.takes, self.weight)
            collected = self.mean((items, no_token), self.bears)
            items = items + COLLECT * self.mean((collected, no_item), self.borne_by)
            all_users.append(users)
            all_items.append(items)
        return torch.cat([torch.stack(all_users).mean(0), torch.stack(all_items).mean(0)])


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(title: str, steps: Mapping[str, Callable[[], Tensor]], repeats: int) -> None:
    """Print the median time of each of two computations, with its backward pass, and the ratio."""
    with torch.no_grad():
        torch.testing.assert_close(*(step() for step in steps.values()), rtol=1e-4, atol=1e-4)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            times[name].append(seconds(lambda step=step: step().sum().backward()))  # type: ignore[misc]
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first one warms up
    print(title)
    for name, median in medians.items():
        print(f"  {name:18} {1000 * median:8.1f} ms forward and backward")
    print(f"  PyTorch Geometric / ours: {medians['PyTorch Geometric'] / medians['ours']:.1f}")


def main() -> None:
    """Time both graphs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=9000)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--interactions", type=int, default=46000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    train, layers = long_tailed(chosen.users, chosen.items, chosen.interactions), chosen.layers
    users = torch.randn(chosen.users, chosen.dim, requires_grad=True)
    items = torch.randn(chosen.items, chosen.dim, requires_grad=True)
    ours, theirs = BipartiteGraph(train), GeometricPropagation(train)
    steps = {
        "ours": lambda: torch.cat(ours.propagate(users, items, layers)),
        "PyTorch Geometric": lambda: torch.cat(theirs.propagate(users, items, layers)),
    }
    compare("Users and items", steps, chosen.repeats)

    codes = np.random.default_rng(1).integers(CODES, size=(chosen.items, LEVELS))
    bears = weighted_incidence({"text": codes}, {})
    tokens = torch.randn(bears.shape[1], chosen.dim, requires_grad=True)
    graph, geometric = TokenGraph(bears, COLLECT), GeometricTokens(hetero_data(train, bears))
    steps = {
        "ours": lambda: torch.cat(graph.propagate(tokens, ours, layers)),
        "PyTorch Geometric": lambda: geometric.propagate(tokens, layers),
    }
    compare("Users, items and tokens", steps, chosen.repeats)


if __name__ == "__main__":
    main()
