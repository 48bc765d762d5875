"""The one training loop: shuffled batches, Adam, early stopping on validation, checkpoints that a killed run resumes.

Every epoch draws from generators of its own, so a resumed run needs no random state and ends in the same bytes as one
that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from safetensors.torch import save_file
from scipy import sparse

from motorec import paths, seeding
from motorec.config import TrainingSettings
from motorec.errors import MotorecError
from motorec.models.base import TrainedRecommender
from motorec.progress import progress


@dataclass(frozen=True)
class Fit:
    """How a training went.

    Attributes:
        history: One row per epoch: `epoch`, `loss`, each term of it, and `valid` where it was measured.
        best_epoch: The epoch whose weights were kept.
        seconds: Wall-clock time of this process's epochs, validation excluded; never part of a result.
        seconds_per_epoch: The same per epoch that this process ran: a resumed run did not run all of them.
    """

    history: pd.DataFrame
    best_epoch: int
    seconds: float
    seconds_per_epoch: float


class Triples:
    """Training pairs in a new order every epoch, each with an item that the user has not taken in training."""

    def __init__(self, train: sparse.csr_matrix, batch_size: int, seed: int, purpose: str) -> None:
        pairs = train.tocoo()
        self._users, self._items = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
        self._n_items = train.shape[1]
        self._taken = np.sort(self._users * self._n_items + self._items)
        if (np.asarray(train.sum(1)) >= self._n_items).any():
            raise MotorecError("A user has taken every item in training, so there is no other item to compare with.")
        self._batch_size, self._seed, self._purpose = batch_size, seed, purpose

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Batches of (users, positives, negatives) of one epoch; the same for the same number."""
        generator = seeding.numpy_generator(self._seed, self._purpose, "triples", str(number))
        order = generator.permutation(len(self._users))
        users, positives = self._users[order], self._items[order]
        negatives = self._negatives(users, generator)
        for start in range(0, len(order), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield (
                torch.from_numpy(users[part]),
                torch.from_numpy(positives[part]),
                torch.from_numpy(negatives[part]),
            )

    def _negatives(self, users: Int[np.ndarray, " pairs"], generator: np.random.Generator) -> Int[np.ndarray, " pairs"]:
        """A uniformly drawn item per user, drawn again where the user has it."""
        drawn = generator.integers(self._n_items, size=len(users))
        while True:
            keys = users * self._n_items + drawn
            place = np.searchsorted(self._taken, keys).clip(max=len(self._taken) - 1)
            again = self._taken[place] == keys
            if not again.any():
                return drawn
            drawn[again] = generator.integers(self._n_items, size=int(again.sum()))


class Rows:
    """Users with training interactions in a new order every epoch, for models that read a user's whole row."""

    def __init__(self, train: sparse.csr_matrix, batch_size: int, seed: int, purpose: str) -> None:
        self._users = np.flatnonzero(np.diff(train.tocsr().indptr)).astype(np.int64)
        self._batch_size, self._seed, self._purpose = batch_size, seed, purpose

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor]]:
        """Batches of (users,) of one epoch; the same for the same number."""
        generator = seeding.numpy_generator(self._seed, self._purpose, "rows", str(number))
        users = generator.permutation(self._users)
        for start in range(0, len(users), self._batch_size):
            yield (torch.from_numpy(users[start : start + self._batch_size]),)


BATCHES: dict[str, type[Triples] | type[Rows]] = {"triples": Triples, "users": Rows}


def train(
    model: TrainedRecommender,
    interactions: sparse.csr_matrix,
    settings: TrainingSettings,
    validate: Callable[[], float],
    *,
    seed: int,
    label: str,
    stream: str,
    scratch: Path,
    fingerprint: str,
    report: Callable[[int, float], None] | None = None,
) -> Fit:
    """Train until validation stops improving, and leave the model with the weights of its best epoch, frozen.

    Args:
        model: Trained in place.
        interactions: Training interactions, (users, items).
        settings: Epochs, batch size, learning rate, patience.
        validate: Measures the frozen model on validation; larger is better.
        seed: The run's seed.
        label: What to call the run in progress and errors, for instance "garments/bpr/1".
        stream: Names the random draws. A model and its ablations share one, so that they meet the same triples.
        scratch: Folder for the checkpoint of an unfinished run; removed at the end.
        fingerprint: Says what the run is made of; a checkpoint of something else is not resumed.
        report: Told each validated epoch and its value; may raise to end the training, as tuning does.

    Raises:
        MotorecError: The training diverges: the loss or a score is no longer a finite number, or the loss is more than
            `settings.rise` times that of the first epoch. The best weights so far are kept in a file that the message
            names.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # for debugging
    batches = BATCHES[model.batches](interactions, settings.batch_size, seed, stream)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    state = _State(model, optimiser, scratch / "checkpoint.pt", fingerprint)
    started, resumed_at = time.perf_counter(), state.epoch
    validating = 0.0
    bar = progress(range(state.epoch + 1, settings.epochs + 1), label, total=settings.epochs, start=state.epoch)
    for epoch in bar:
        if state.finished(settings.patience):
            break
        row: dict[str, Any] = {"epoch": epoch, **_one_epoch(model, optimiser, batches, epoch, seed, stream)}
        trouble = divergence(row, state.rows, settings)
        if trouble:
            bar.close()
            raise MotorecError(f"{label}: {trouble} {state.rescue()}")
        if epoch % settings.evaluate_every == 0 or epoch == settings.epochs:
            before = time.perf_counter()
            model.freeze()
            try:
                row["valid"] = validate()
            except MotorecError as error:
                bar.close()
                raise MotorecError(f"{label}, epoch {epoch}: {error} {state.rescue()}") from error
            state.judge(epoch, row["valid"])
            bar.set_postfix_str(f"validation {row['valid']:.4f}, best {state.best:.4f}")
            validating += time.perf_counter() - before
            if report is not None:
                report(epoch, row["valid"])
        state.epoch = epoch
        state.rows.append(row)
        if epoch % settings.checkpoint_every == 0:
            state.save()
    bar.close()
    seconds = time.perf_counter() - started - validating
    model.load_state_dict(state.best_weights)
    model.freeze()
    shutil.rmtree(scratch, ignore_errors=True)
    columns = ["epoch", *[name for name in state.rows[0] if name not in ("epoch", "valid")], "valid"]
    pace = seconds / max(1, state.epoch - resumed_at)
    return Fit(pd.DataFrame(state.rows, columns=columns), state.best_epoch, seconds, pace)


def _one_epoch(
    model: TrainedRecommender,
    optimiser: torch.optim.Optimizer,
    batches: Triples | Rows,
    epoch: int,
    seed: int,
    stream: str,
) -> dict[str, float]:
    """One pass over the data; the mean of every term of the loss, weighted by batch size."""
    model.train()
    model.start_epoch(seeding.torch_generator(seed, stream, "augmentation", str(epoch)))
    sums: dict[str, float] = {}
    count = 0
    for batch in batches.epoch(epoch):
        terms = model.losses(*batch)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for name, value in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(batch[0])
        count += len(batch[0])
    return {name: total / count for name, total in sums.items()}


def divergence(row: dict[str, Any], before: list[dict[str, Any]], settings: TrainingSettings) -> str | None:
    """What is wrong with an epoch's losses and which setting to look at; None if nothing is.

    Args:
        row: The epoch's `epoch`, `loss` and its terms.
        before: Those of the epochs before it.
        settings: For the largest rise, and the learning rate that the message names.
    """
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        named = ", ".join(name for name in bad if name != "loss") or "loss"
        return f"{named} is not a finite number in epoch {row['epoch']}. {remedy(settings)}"
    if before and row["loss"] > settings.rise * abs(before[0]["loss"]):
        term = max((name for name in row if name not in ("epoch", "loss")), key=lambda name: row[name])
        return (
            f"the loss rises: {row['loss']:.4g} in epoch {row['epoch']}, {before[0]['loss']:.4g} in the first, most of "
            f"it from {term}. {remedy(settings)} (`rise` in params/train.yaml says how much is too much.)"
        )
    return None


def remedy(settings: TrainingSettings) -> str:
    """Which settings to look at when a training diverges."""
    return (
        f"Lower learning_rate (now {settings.learning_rate:g}), or the weight of the term that grows, in the model's "
        "file in params/models/."
    )


class _State:
    """What an unfinished run must remember: weights, the optimiser, the best so far, the losses."""

    def __init__(
        self, model: TrainedRecommender, optimiser: torch.optim.Optimizer, file: Path, fingerprint: str
    ) -> None:
        self._model, self._optimiser, self._file, self._fingerprint = model, optimiser, file, fingerprint
        self.epoch = 0
        self.rows: list[dict[str, Any]] = []
        self.best, self.best_epoch = -math.inf, 0
        self.best_weights: dict[str, torch.Tensor] = self._copy()
        self._judged_since_best = 0
        if file.is_file():
            self._resume()

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._model.state_dict().items()}

    def judge(self, epoch: int, value: float) -> None:
        """Compare a validation with the best so far."""
        if value > self.best:
            self.best, self.best_epoch, self._judged_since_best = value, epoch, 0
            self.best_weights = self._copy()
        else:
            self._judged_since_best += 1

    def finished(self, patience: int) -> bool:
        """Whether validation has not improved for `patience` looks."""
        return self._judged_since_best >= patience

    def rescue(self) -> str:
        """Keep the best weights of a run that goes wrong, and say where."""
        if not self.best_epoch:
            return "No epoch had been validated before."
        file = self._file.with_name("last-good.safetensors")
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.best_weights.items()}, file)
        return f"The weights of epoch {self.best_epoch}, the best on validation, are kept: {paths.shown(file)}."

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        torch.save(
            {
                "fingerprint": self._fingerprint,
                "epoch": self.epoch,
                "rows": self.rows,
                "best": (self.best, self.best_epoch, self._judged_since_best),
                "best_weights": self.best_weights,
                "weights": self._model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
            },
            part,
        )
        part.replace(self._file)

    def _resume(self) -> None:
        saved = torch.load(self._file, weights_only=True)
        if saved["fingerprint"] != self._fingerprint:
            return
        self.epoch, self.rows = saved["epoch"], saved["rows"]
        self.best, self.best_epoch, self._judged_since_best = saved["best"]
        self.best_weights = saved["best_weights"]
        self._model.load_state_dict(saved["weights"])
        self._optimiser.load_state_dict(saved["optimiser"])


def fingerprint(*parts: bytes | str) -> str:
    """A hash of what a run is made of, this package's own code included: a checkpoint of other code is stale."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    code = [file.read_bytes() for file in sorted(package.rglob("*.py"))]
    for part in [*parts, *code]:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()
