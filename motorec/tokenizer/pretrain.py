"""Pretraining of the tokenizers, before the graph encoder joins them (paper section 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file

from motorec import paths
from motorec.errors import DataError
from motorec.features import Features
from motorec.progress import progress
from motorec.seeding import numpy_generator, torch_generator
from motorec.tokenizer.rqvae import RQVAE, TokenizerSettings


def new_tokenizer(settings: TokenizerSettings, features: Features, seed: int, dataset: str) -> RQVAE:
    """An untrained tokenizer for one modality, its weights drawn from a generator of its own."""
    generator = torch_generator(seed, "tokenizer", dataset, features.modality)
    return RQVAE(settings, features.matrix, features.present, generator)


def pretrain(
    tokenizer: RQVAE, features: Features, weights: Float[np.ndarray, " items"], seed: int, dataset: str
) -> pd.DataFrame:
    """Train a tokenizer on the items that have the modality.

    The encoder and decoder first learn without codes (`warmup`), then the codebooks are placed on what the encoder
    gives, then all learn together; codes that nobody chose during an epoch are moved to where the data are.

    Args:
        tokenizer: Trained in place.
        features: The modality's features of all items.
        weights: Rarity weight of each item.
        seed: The run's seed.
        dataset: The data set's name.

    Returns:
        Mean losses by epoch: columns `epoch`, `loss`, `sparsity`, `dead` (codes that nobody chose, all levels).
    """
    settings = tokenizer.settings
    sampling = numpy_generator(seed, "pretrain", dataset, features.modality)
    reviving = torch_generator(seed, "revive", dataset, features.modality)
    rows = tokenizer.prepare(features.matrix[features.present])
    row_weights = torch.from_numpy(weights[features.present])
    optimiser = torch.optim.Adam(tokenizer.parameters(), lr=settings.learning_rate)
    warmup = int(settings.warmup * settings.epochs)
    quantizer = tokenizer.quantizer
    if quantizer is not None:
        tokenizer.quantizer = None  # the first epochs train a plain autoencoder
    history = []
    for epoch in progress(range(1, settings.epochs + 1), f"tokenizer of {features.modality}s"):
        if quantizer is not None and epoch == warmup + 1:
            tokenizer.quantizer = quantizer
            if settings.init == "kmeans":
                with torch.no_grad():
                    quantizer.place(tokenizer.encoder(rows), sampling)
        used = torch.zeros(settings.levels, settings.codebook_size, dtype=torch.long)
        sums = {"loss": 0.0, "sparsity": 0.0}
        for batch in np.array_split(sampling.permutation(len(rows)), max(1, len(rows) // settings.batch_size)):
            index = torch.from_numpy(batch)
            result = tokenizer(rows[index])
            loss = result.loss(row_weights[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            sums["loss"] += loss.item() * len(batch)
            sums["sparsity"] += result.sparsity.item() * len(batch)
            if result.codes is not None:
                used += torch.stack([level.bincount(minlength=used.shape[1]) for level in result.codes.T])
        active = tokenizer.quantizer
        dead = int((used == 0).sum()) if active is not None else 0
        history.append({"epoch": epoch, **{key: value / len(rows) for key, value in sums.items()}, "dead": dead})
        if active is not None and settings.revive and dead and epoch < settings.epochs:
            with torch.no_grad():
                moved = active.revive(tokenizer.encoder(rows), used, reviving)
            _forget(optimiser, active.codebooks, moved)
    return pd.DataFrame(history)


def _forget(optimiser: torch.optim.Adam, codebooks: torch.nn.Parameter, moved: list[tuple[int, torch.Tensor]]) -> None:
    """Clear Adam's memory of codes that were moved: it belongs to where they used to be."""
    state = optimiser.state.get(codebooks, {})
    for level, dead in moved:
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state:
                state[moment][level, dead] = 0.0


def save_tokenizers(folder: Path, tokenizers: Mapping[str, RQVAE], histories: Mapping[str, pd.DataFrame]) -> None:
    """Write weights, settings and losses of every modality's tokenizer, all or nothing."""
    with paths.whole_folder(folder) as scratch:
        for modality, tokenizer in tokenizers.items():
            save_file(tokenizer.state_dict(), scratch / f"{modality}.safetensors")
            about = json.dumps(tokenizer.settings.model_dump(mode="json"), indent=2)
            (scratch / f"{modality}.json").write_text(about + "\n", encoding="utf-8")
            histories[modality].to_csv(scratch / f"{modality}.csv", index=False, float_format="%.6g")


def load_tokenizer(folder: Path, tokenizer: RQVAE, modality: str) -> bool:
    """Load pretrained weights into a tokenizer, if they were made with the same settings.

    Returns:
        False, with the tokenizer untouched, where the settings differ (an ablation's, say): it needs a pretraining of
        its own.

    Raises:
        DataError: There is no pretrained tokenizer of this modality.
    """
    weights, about = folder / f"{modality}.safetensors", folder / f"{modality}.json"
    if not (weights.is_file() and about.is_file()):
        raise DataError(f"{paths.shown(weights)} is missing: run the tokenizer stage first (notebook 03_tokenize).")
    if json.loads(about.read_text(encoding="utf-8")) != tokenizer.settings.model_dump(mode="json"):
        return False
    tokenizer.load_state_dict(load_file(weights))
    return True
