"""Pretraining of the tokenizers, before the graph encoder joins them (paper section 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from motorec import paths
from motorec.errors import DataError
from motorec.features import Features
from motorec.progress import progress
from motorec.seeding import numpy_generator, torch_generator
from motorec.tokenizer.health import for_json
from motorec.tokenizer.placement import place, revive
from motorec.tokenizer.rqvae import RQVAE, TokenizerSettings

REMEDY = "Run the tokenizer stage first (notebook 03_tokenize)."


def new_tokenizers(
    settings: TokenizerSettings, features: Mapping[str, Features], seed: int, dataset: str
) -> dict[str, RQVAE]:
    """An untrained tokenizer for each modality, its weights drawn from a generator of its own.

    With `shared: true` the first modality's tokenizer, by the alphabet, holds the quantizer of all.

    Raises:
        DataError: No item has a modality, or its features hold a value that is no finite number.
    """
    tokenizers: dict[str, RQVAE] = {}
    shared = None
    for modality, feature in sorted(features.items()):
        _check(modality, feature, dataset)
        generator = torch_generator(seed, "tokenizer", dataset, modality)
        tokenizers[modality] = RQVAE(settings, feature.matrix, feature.present, generator, shared)
        if settings.shared:
            shared = tokenizers[modality].quantizer
    return tokenizers


def _check(modality: str, features: Features, dataset: str) -> None:
    """Raise a DataError if these features cannot be learned from."""
    where = f"{dataset}: the {modality} features"
    if not features.present.any():
        raise DataError(f"{where}: no item has any. Leave this modality out, or give at least one item its {modality}.")
    broken = np.flatnonzero(features.present & ~np.isfinite(features.matrix).all(axis=1))
    if len(broken):
        others = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise DataError(
            f"{where}: values that are no finite numbers at item row {broken[0]}{others}. Run the features stage again "
            "(notebook 02_features), or say in `present` that these items lack the modality."
        )


def pretrain(
    tokenizers: Mapping[str, RQVAE],
    features: Mapping[str, Features],
    weights: Float[np.ndarray, " items"],
    seed: int,
    dataset: str,
) -> dict[str, pd.DataFrame]:
    """Train each modality's tokenizer on the items that have it; all at once where they share their codebooks.

    The encoder and decoder first learn without codes (`warmup`), then the codebooks are placed on what the encoder
    gives, then all learn together; codes that nobody chose during an epoch are moved to where the data are.

    Args:
        tokenizers: As `new_tokenizers` made them, trained in place.
        features: The features of all items, by modality.
        weights: Rarity weight of each item.
        seed: The run's seed.
        dataset: The data set's name.

    Returns:
        By modality, mean losses by epoch: columns `epoch`, `loss`, `sparsity`, `dead` (codes that nobody chose, all
        levels; a shared codebook's are counted over all modalities).
    """
    quantizers = {id(tokenizer.quantizer) for tokenizer in tokenizers.values()}
    if len(tokenizers) > 1 and len(quantizers) == 1 and any(one.quantizer is not None for one in tokenizers.values()):
        return _train("shared", tokenizers, features, weights, seed, dataset)
    histories: dict[str, pd.DataFrame] = {}
    for modality, tokenizer in tokenizers.items():
        histories |= _train(modality, {modality: tokenizer}, features, weights, seed, dataset)
    return histories


def _train(
    name: str,
    tokenizers: Mapping[str, RQVAE],
    features: Mapping[str, Features],
    weights: Float[np.ndarray, " items"],
    seed: int,
    dataset: str,
) -> dict[str, pd.DataFrame]:
    """Train tokenizers that have one quantizer, or one that has none; see `pretrain`."""
    first = next(iter(tokenizers.values()))
    settings, quantizer = first.settings, first.quantizer
    sampling = numpy_generator(seed, "pretrain", dataset, name)
    reviving = torch_generator(seed, "revive", dataset, name)
    rows = {key: one.prepare(features[key].matrix[features[key].present]) for key, one in tokenizers.items()}
    row_weights = {key: torch.from_numpy(weights[features[key].present]) for key in tokenizers}
    steps = max(1, max(map(len, rows.values())) // settings.batch_size)
    parameters = {id(one): one for tokenizer in tokenizers.values() for one in tokenizer.parameters()}
    optimiser = torch.optim.Adam(parameters.values(), lr=settings.learning_rate, fused=True)
    warmup = int(settings.warmup * settings.epochs)

    @torch.no_grad()
    def latents() -> Float[Tensor, "n d"]:
        return torch.cat([one.encoder(rows[key]) for key, one in tokenizers.items()])

    history: dict[str, list[dict[str, float]]] = {key: [] for key in tokenizers}
    for epoch in progress(
        range(1, settings.epochs + 1), f"tokenizer of {' and '.join(f'{key}s' for key in tokenizers)}"
    ):
        quantize = epoch > warmup and quantizer is not None
        if quantizer is not None and epoch == warmup + 1:
            place(quantizer, latents(), settings.init, sampling)
        used = torch.zeros(settings.levels, settings.codebook_size, dtype=torch.long)
        sums = {key: {"loss": 0.0, "sparsity": 0.0} for key in tokenizers}
        # Every modality takes part in each step with its share of its rows.
        batches = {key: np.array_split(sampling.permutation(len(one)), steps) for key, one in rows.items()}
        for step in range(steps):
            losses = []
            for key, tokenizer in tokenizers.items():
                index = torch.from_numpy(batches[key][step])
                if len(index) == 0:
                    continue
                result = tokenizer(rows[key][index], quantize)
                loss = result.loss(row_weights[key][index])
                losses.append(loss)
                sums[key]["loss"] += loss.item() * len(index)
                sums[key]["sparsity"] += result.sparsity.item() * len(index)
                if result.codes is not None:
                    used += torch.stack([level.bincount(minlength=used.shape[1]) for level in result.codes.T])
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
        dead = int((used == 0).sum()) if quantize else 0
        for key, total in sums.items():
            means = {term: value / len(rows[key]) for term, value in total.items()}
            history[key].append({"epoch": epoch, **means, "dead": dead})
        if quantizer is not None and quantize and settings.revive and dead and epoch < settings.epochs:
            moved = revive(quantizer, latents(), used, reviving)
            _forget(optimiser, quantizer.codebooks, moved)
    return {key: pd.DataFrame(epochs) for key, epochs in history.items()}


def _forget(optimiser: torch.optim.Adam, codebooks: torch.nn.Parameter, moved: list[tuple[int, Tensor]]) -> None:
    """Clear Adam's memory of codes that were moved: it belongs to where they used to be."""
    state = optimiser.state.get(codebooks, {})
    for level, dead in moved:
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state:
                state[moment][level, dead] = 0.0


def save_tokenizers(
    folder: Path,
    tokenizers: Mapping[str, RQVAE],
    histories: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Mapping[str, float]],
) -> None:
    """Write weights, settings and losses of every modality's tokenizer, and `health.json` for all; all or nothing.

    Args:
        folder: Replaced as a whole.
        tokenizers: By modality. A shared quantizer is in the file of the first.
        histories: What `pretrain` gave.
        figures: What `health` gave, by modality; a figure without a value is written as null.
    """
    with paths.whole_folder(folder) as scratch:
        for modality, tokenizer in tokenizers.items():
            save_file(tokenizer.state_dict(), scratch / f"{modality}.safetensors")
            about = json.dumps(tokenizer.settings.model_dump(mode="json"), indent=2)
            (scratch / f"{modality}.json").write_text(about + "\n", encoding="utf-8")
            histories[modality].to_csv(scratch / f"{modality}.csv", index=False, float_format="%.6g")
        (scratch / "health.json").write_text(json.dumps(for_json(figures), indent=2) + "\n", encoding="utf-8")


def load_tokenizers(folder: Path, tokenizers: Mapping[str, RQVAE]) -> bool:
    """Load pretrained weights into all tokenizers, if they were made with the same settings.

    Settings that the file does not know, since it was written before they existed, count as their defaults.

    Returns:
        False, with the tokenizers untouched, where the settings differ (an ablation's, say), or the codebooks are
        shared with other modalities than these: they need a pretraining of their own.

    Raises:
        DataError: There is no pretrained tokenizer of a modality.
    """
    for modality in tokenizers:
        for file in (folder / f"{modality}.safetensors", folder / f"{modality}.json"):
            if not file.is_file():
                raise DataError(f"{paths.shown(file)} is missing. {REMEDY}")
    for modality, tokenizer in tokenizers.items():
        try:
            settings = TokenizerSettings.model_validate_json((folder / f"{modality}.json").read_bytes())
        except ValidationError:  # a setting that there was once
            return False
        if settings != tokenizer.settings:
            return False
        if settings.shared and {file.stem for file in folder.glob("*.safetensors")} != set(tokenizers):
            return False
    for modality, tokenizer in tokenizers.items():
        tokenizer.load_state_dict(load_file(folder / f"{modality}.safetensors"))
    return True
