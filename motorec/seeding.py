"""Random generators derived by name, so that no part of the code shares a stream with another.

`numpy_generator(1, "train", "garments", "bpr")` depends on these words alone: adding a model, a stage or a draw
elsewhere changes nobody else's numbers. There is no global random state in this package.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed from a run's seed and the names of what it is for."""
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(derive(seed, *names))


def torch_generator(seed: int, *names: str) -> torch.Generator:
    """A CPU torch generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *names))
