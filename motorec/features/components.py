"""Fewer dimensions for wide features: a fixed rotation to their principal components."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def principal_components(
    rows: Float[np.ndarray, "n features"], keep: int | None
) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, "features kept"]]:
    """Mean of the rows, and the rotation to their first principal components, scaled to unit variance on average.

    Signs are fixed (the largest entry of each component is positive), so that the result does not depend on the
    solver's mood.

    Args:
        rows: Features of the items that have some.
        keep: Number of components, fewer where the features are narrower; None: all of them.

    Returns:
        Mean m and rotation R: `(rows - m) @ R` has mean 0, and variance 1 on average over its columns.
    """
    mean = rows.mean(0, dtype=np.float64)
    covariance = np.cov(rows.astype(np.float64) - mean, rowvar=False, bias=True).reshape(rows.shape[1], -1)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1][: keep or None]
    vectors = vectors[:, order]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    scale = np.sqrt(max(values[order].clip(min=0).mean(), 1e-12))
    return mean.astype(np.float32), np.ascontiguousarray(vectors / scale, dtype=np.float32)
