"""Losses shared by the trained models."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def bpr_loss(positive: Float[Tensor, " b"], negative: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""Bayesian personalised ranking (Rendle et al., 2009): mean of :math:`-\ln \sigma(s_{ui} - s_{uj})`."""
    return -functional.logsigmoid(positive - negative).mean()


def info_nce(first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], temperature: float) -> Float[Tensor, ""]:
    r"""InfoNCE between two views of the same nodes (van den Oord et al., 2018), with the batch as negatives.

    .. math:: -\frac{1}{b} \sum_i \ln \frac{\exp(\cos(a_i, b_i) / T)}{\sum_j \exp(\cos(a_i, b_j) / T)}

    Args:
        first: One view, a row per node; no node twice.
        second: The other view, the same nodes in the same order.
        temperature: T.
    """
    similarity = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T / temperature
    return functional.cross_entropy(similarity, torch.arange(len(first)))


def distinct(nodes: Int[Tensor, " b"], at_most: int | None, generator: torch.Generator) -> Int[Tensor, " n"]:
    """The nodes of a batch, each once, for `info_nce`: its cost grows with their square.

    Args:
        nodes: Indices, some of them several times.
        at_most: Where there are more, a random choice of so many; None: all.
        generator: Chooses.
    """
    found = torch.unique(nodes)
    if at_most is None or len(found) <= at_most:
        return found
    return found[torch.randperm(len(found), generator=generator)[:at_most]]


def squared_norm(*tables: Float[Tensor, "_ _"]) -> Float[Tensor, ""]:
    r"""The usual L2 term of embedding models, with b the rows of the first table.

    .. math:: \frac{1}{2b} \sum_T \lVert T \rVert^2
    """
    total = sum((table.square().sum() for table in tables), start=tables[0].new_zeros(()))
    return 0.5 * total / len(tables[0])
