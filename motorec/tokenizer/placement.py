r"""Where codes start, and where a dead one goes.

Level by level, codes are placed on what the levels before left over, :math:`r^{(k-1)}`:

* `data`: on the residuals of random rows.
* `kmeans`: on the centres of k-means, :math:`\min \sum_i \lVert r_i - c_{j(i)} \rVert^2`.
* `hierarchical`: on the centres of divisive hierarchical k-means: all rows are split in two, then always the cluster of
  the largest inertia is, until there are K. Small far groups get codes sooner than by k-means from random seeds.
* `random`: nowhere; they stay the noise that they were drawn as.

Where the distance is the cosine, rows are clustered by direction, and a code is the mean of its rows as they are.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from motorec.tokenizer.quantizer import ResidualQuantizer, angular_distances

Init = Literal["random", "data", "kmeans", "hierarchical"]


@torch.no_grad()
def place(quantizer: ResidualQuantizer, z: Float[Tensor, "n d"], init: Init, generator: np.random.Generator) -> None:
    """Place the codes of all levels.

    Args:
        quantizer: Changed in place.
        z: Rows to be quantized.
        init: How; see the module's docstring.
        generator: Draws rows and the seeds of k-means.
    """
    if init == "random":
        return
    residual = z.double()
    by_angle = quantizer.distance is angular_distances
    for level, codebook in enumerate(quantizer.codebooks):
        centres = torch.from_numpy(starts(residual.numpy(), len(codebook), init, generator, by_angle=by_angle))
        codebook.copy_(centres)
        if quantizer.average is not None:
            quantizer.average.restart(level, torch.arange(len(codebook)), codebook)
        residual = residual - centres[quantizer.distance(residual, centres).argmin(dim=1)]


def starts(
    rows: Float[np.ndarray, "n d"], size: int, init: Init, generator: np.random.Generator, *, by_angle: bool
) -> Float[np.ndarray, "{size} d"]:
    """Codes for one level, deterministic given the generator.

    With fewer distinct rows than codes, every row has a code, and the spare codes repeat rows with a little noise.
    """
    from sklearn.cluster import BisectingKMeans, KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    points = _directions(rows) if by_angle else rows
    distinct, first = np.unique(points, axis=0, return_index=True)
    seed = int(generator.integers(2**31))
    if len(distinct) <= size:
        codes = rows[first]
        spare = codes[generator.integers(len(codes), size=size - len(codes))]
        noise = generator.normal(scale=1e-3 * (codes.std() + 1e-6), size=spare.shape)
        return np.concatenate([codes, spare + noise])
    if init == "data":
        return rows[generator.permutation(first)[:size]]
    method = (
        BisectingKMeans(size, init="k-means++", random_state=seed)
        if init == "hierarchical"
        else KMeans(size, n_init=1, max_iter=50, random_state=seed)
    )
    # Several threads would add up the centres in an order that changes from run to run. The warning is of rows so close
    # that rounding makes them one: their codes coincide, and all but one will be revived.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = method.fit(points)
    if not by_angle:
        return np.asarray(found.cluster_centers_)
    members = np.bincount(found.labels_, minlength=size)
    sums = np.zeros((size, rows.shape[1]))
    np.add.at(sums, found.labels_, rows)
    filled = members[:, None] > 0
    return np.where(filled, sums / np.maximum(members, 1)[:, None], found.cluster_centers_)


def _directions(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of unit length, zero rows as they are; rounded, so that parallel rows come out equal."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.round(rows / np.where(lengths > 0, lengths, 1.0), 12)


@torch.no_grad()
def revive(
    quantizer: ResidualQuantizer, z: Float[Tensor, "n d"], used: Int[Tensor, "levels K"], generator: torch.Generator
) -> list[tuple[int, Int[Tensor, " dead"]]]:
    """Move every code that nobody chose onto the residual of a random row.

    Args:
        quantizer: Changed in place.
        z: Rows to take residuals from.
        used: How often each code was chosen since the last call.
        generator: Draws the rows.

    Returns:
        (level, indices of moved codes) for each level that had dead codes, so that an optimiser can forget them.
    """
    residual = z
    moved = []
    for level, codebook in enumerate(quantizer.codebooks):
        dead = (used[level] == 0).nonzero().flatten()
        if len(dead):
            rows = torch.randint(len(residual), (len(dead),), generator=generator)
            codebook[dead] = residual[rows]
            if quantizer.average is not None:
                quantizer.average.restart(level, dead, codebook[dead])
            moved.append((level, dead))
        residual = residual - codebook[quantizer.distance(residual, codebook).argmin(dim=1)]
    return moved
