"""Health of a codebook: is it used, do items keep their own code, is what matters about them kept?"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from motorec.tokenizer.rqvae import RQVAE


def usage(codes: Int[np.ndarray, "n levels"], size: int) -> Float[np.ndarray, "levels K"]:
    """Share of the rows that chose each code, level by level."""
    return np.stack([np.bincount(level, minlength=size) / len(codes) for level in codes.T])


def perplexity(shares: Float[np.ndarray, "levels K"]) -> Float[np.ndarray, " levels"]:
    """Effective number of codes per level: exp of the entropy of their usage; K where all are used alike."""
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return np.exp(-(shares * logs).sum(1))


def collisions(codes: Int[np.ndarray, "n levels"]) -> float:
    """Share of the rows that share their whole code tuple with another row."""
    _, inverse, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((counts[inverse.ravel()] > 1).mean())


def kept_neighbours(
    before: Float[np.ndarray, "n a"], after: Float[np.ndarray, "n b"], neighbours: int = 10, block: int = 1024
) -> float:
    """Share of each row's nearest neighbours (by cosine) in one space that are neighbours in the other, too.

    Rows are compared in blocks, so that memory is linear in their number.
    """
    neighbours = min(neighbours, len(before) - 1)
    if neighbours < 1:
        return 1.0
    spaces = [torch.nn.functional.normalize(torch.from_numpy(rows).double(), dim=1) for rows in (before, after)]
    kept = 0
    for start in range(0, len(before), block):
        masks = []
        for unit in spaces:
            near = unit[start : start + block] @ unit.T
            near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -2.0
            chosen = near.topk(neighbours).indices
            masks.append(torch.zeros_like(near, dtype=torch.bool).scatter_(1, chosen, True))
        kept += int((masks[0] & masks[1]).sum())
    return kept / (neighbours * len(before))


@torch.no_grad()
def health(tokenizer: RQVAE, features: Float[np.ndarray, "n features"]) -> dict[str, float]:
    """Figures of one modality's tokenizer on the items that have it.

    Returns:
        `used/<level>` (share of the codes in use) and `perplexity/<level>`, levels counted from 1; `collisions`;
        `explained`, the share of the inputs' variance that the reconstruction explains; `kept_neighbours`.
    """
    inputs = tokenizer.prepare(features)
    result = tokenizer(inputs)
    rebuilt = tokenizer.decoder(result.latent)
    explained = 1 - float((inputs - rebuilt).square().sum() / (inputs - inputs.mean(0)).square().sum().clamp_min(1e-12))
    figures = {"explained": explained, "kept_neighbours": kept_neighbours(features, result.latent.numpy())}
    if result.codes is not None:
        codes = tokenizer.codes(inputs).numpy()
        shares = usage(codes, tokenizer.settings.codebook_size)
        for level, (used, effective) in enumerate(zip((shares > 0).mean(1), perplexity(shares), strict=True), start=1):
            figures[f"used/{level}"] = float(used)
            figures[f"perplexity/{level}"] = float(effective)
        figures["collisions"] = collisions(codes)
    return figures
