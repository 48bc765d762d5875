"""Health of a codebook: is it used, do items keep their own code, is what matters about them kept?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

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

    Levels k are counted from 1. `used/k` (share of the codes in use) and `perplexity/k` are of level k alone. The
    others tell how far the first k levels come together: `collisions/k` of their code tuples; `explained/k`, the share
    of the inputs' variance that the decoder explains from the sum of their codes; `kept_neighbours/k`, of that sum.

    Returns:
        All these by name, and `collisions`, `explained` and `kept_neighbours` of all levels, which are what the last
        level has. The continuous ablation has only `explained` and `kept_neighbours`. Inputs that do not vary have no
        variance to explain: NaN.
    """
    inputs = tokenizer.prepare(features)
    if tokenizer.quantizer is None:
        latent = tokenizer.encoder(inputs)
        return {
            "explained": _explained(tokenizer, inputs, latent),
            "kept_neighbours": kept_neighbours(features, latent.numpy()),
        }
    codes = tokenizer.codes(tokenizer.prepare(features, torch.float64))
    shares = usage(codes.numpy(), tokenizer.settings.codebook_size)
    figures = {}
    for level, (share, effective) in enumerate(zip(shares, perplexity(shares), strict=True), start=1):
        first = codes[:, :level]
        latent = tokenizer.quantizer.look_up(first)
        figures[f"used/{level}"] = float((share > 0).mean())
        figures[f"perplexity/{level}"] = float(effective)
        figures[f"collisions/{level}"] = collisions(first.numpy())
        figures[f"explained/{level}"] = _explained(tokenizer, inputs, latent)
        figures[f"kept_neighbours/{level}"] = kept_neighbours(features, latent.numpy())
    return figures | {name: figures[f"{name}/{level}"] for name in ("collisions", "explained", "kept_neighbours")}


def _explained(tokenizer: RQVAE, inputs: Float[Tensor, "n inputs"], latent: Float[Tensor, "n d"]) -> float:
    """Share of the inputs' variance that the decoder explains from the latents."""
    error = float((inputs - tokenizer.decoder(latent)).square().sum())
    variance = float((inputs - inputs.mean(0)).square().sum())
    return 1 - error / variance if variance > 0 else float("nan")


def for_json(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Health of several modalities as a file holds it: six decimals, null for a figure without a value."""
    return {
        modality: {name: None if np.isnan(value) else round(value, 6) for name, value in values.items()}
        for modality, values in figures.items()
    }


def by_level(figures: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Health of several modalities as a table: a row per modality and level, a column per measure."""
    rows: dict[tuple[str, int], dict[str, float]] = {}
    for modality, values in figures.items():
        for name, value in values.items():
            measure, slash, level = name.partition("/")
            if slash:
                rows.setdefault((modality, int(level)), {})[measure] = value
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["modality", "level"])
