"""The training loop: what it samples, when it stops, and that a killed run ends as if nothing had happened."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted_dataset, planted_inputs
from safetensors.torch import load_file
from scipy import sparse

from motorec.config import TrainingSettings
from motorec.errors import MotorecError
from motorec.models.bpr import BPR
from motorec.training import Fit, Rows, Triples, divergence, train


class Killed(Exception):
    """Stands for a lost machine."""


def run(
    scratch: Path,
    validate: Callable[[], float] | None = None,
    fingerprint: str = "same",
    killed_at: int | None = None,
    report: Callable[[int, float], None] | None = None,
    kind: type[BPR] = BPR,
    **changes: Any,
) -> tuple[BPR, Fit]:
    """Train a tiny model, judged by `validate` (default: the growth of its weights); killed at the n-th validation."""
    values = {"epochs": 20, "batch_size": 64, "learning_rate": 0.01, "evaluate_every": 2, "patience": 3}
    settings_ = TrainingSettings(**(values | {"checkpoint_every": 4} | changes))
    inputs = planted_inputs(planted_dataset(), ())
    model = kind(BPR.Settings(dim=8), inputs)
    calls = itertools.count(1)

    def judge() -> float:
        if next(calls) == killed_at:
            raise Killed
        return validate() if validate else float(model.users.detach().norm())

    fit = train(
        model,
        inputs.train,
        settings_,
        judge,
        seed=1,
        label="planted/bpr/1",
        stream="planted/bpr",
        scratch=scratch,
        fingerprint=fingerprint,
        report=report,
    )
    return model, fit


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 50))
def test_triples_hold_every_pair_once_and_no_taken_negative(seed: int, batch_size: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = sparse.csr_matrix((generator.random((12, 9)) < 0.5).astype(np.float32))
    if not matrix.nnz or (np.asarray(matrix.sum(1)) >= 9).any():
        return
    seen, taken = [], torch.from_numpy(matrix.toarray())
    for users, positives, negatives in Triples(matrix, batch_size, seed, "test").epoch(3):
        assert len(users) <= batch_size
        assert (taken[users, positives] == 1).all()
        assert (taken[users, negatives] == 0).all()
        seen += list(zip(users.tolist(), positives.tolist(), strict=True))
    pairs = matrix.tocoo()
    assert sorted(seen) == sorted(zip(pairs.row.tolist(), pairs.col.tolist(), strict=True))


def test_a_user_with_everything_is_an_error() -> None:
    with pytest.raises(MotorecError, match="taken every item"):
        Triples(sparse.csr_matrix(np.ones((2, 3), dtype=np.float32)), 4, 0, "test")


def test_the_same_run_twice_is_bit_identical(tmp_path: Path) -> None:
    (one, first), (two, second) = run(tmp_path / "a"), run(tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert first.history.equals(second.history)


def test_keeps_the_best_epoch_and_stops_after_patience(tmp_path: Path) -> None:
    values = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.9])
    model, fit = run(tmp_path, validate=lambda: next(values))
    # Validations at epochs 2, 4, 6, 8, 10; best at 4, then three without a gain.
    assert fit.best_epoch == 4
    assert fit.history["epoch"].iloc[-1] == 10
    assert fit.history["valid"].dropna().tolist() == [0.1, 0.5, 0.4, 0.3, 0.2]
    shorter = iter([0.1, 0.5])
    until_best, _ = run(tmp_path, validate=lambda: next(shorter), epochs=4)
    assert torch.equal(model.users, until_best.users)


def test_loss_goes_down_and_its_terms_add_up(tmp_path: Path) -> None:
    _, fit = run(tmp_path)
    history = fit.history
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    np.testing.assert_allclose(history["loss"], history["bpr"] + history["l2"], rtol=1e-5)


def test_a_killed_run_continues_to_the_same_end(tmp_path: Path) -> None:
    whole, uninterrupted = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_at=7)
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    resumed, fit = run(tmp_path / "killed")
    assert fit.history.equals(uninterrupted.history)
    assert fit.best_epoch == uninterrupted.best_epoch
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not (tmp_path / "killed").exists()


def test_a_checkpoint_of_something_else_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, killed_at=7, fingerprint="other data")
    _, fit = run(tmp_path, fingerprint="this data")
    _, fresh = run(tmp_path / "fresh", fingerprint="this data")
    assert fit.history.equals(fresh.history)
    assert fit.seconds > 0


def test_divergence_names_the_term_the_epoch_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(MotorecError, match=r"planted/bpr/1: .*not a finite number in epoch \d+\. Lower learning_rate"):
        run(tmp_path, learning_rate=1e30)


class Rising(BPR):
    """A model whose loss doubles with every epoch."""

    factor = 0.5

    def start_epoch(self, generator: torch.Generator) -> None:
        """Count."""
        super().start_epoch(generator)
        self.factor *= 2

    def losses(self, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scaled."""
        return {"bpr": super().losses(*batch)["bpr"].clamp_min(0.5) * self.factor}


def test_a_rising_loss_ends_the_training_and_keeps_the_best_weights(tmp_path: Path) -> None:
    expected = r"the loss rises: .* in epoch 3, .* in the first, most of it from bpr.*weights of epoch 2"
    with pytest.raises(MotorecError, match=expected) as stop:
        run(tmp_path, kind=Rising, evaluate_every=1)
    kept = tmp_path / "last-good.safetensors"
    assert kept.name in str(stop.value)
    assert set(load_file(kept)) == {"users", "items"}


@pytest.mark.parametrize(
    ("before", "loss", "found"), [(1.0, 1.9, False), (1.0, 2.1, True), (-1.0, 1.9, False), (0.1, float("inf"), True)]
)
def test_what_counts_as_diverging(before: float, loss: float, found: bool) -> None:
    trouble = divergence({"epoch": 2, "loss": loss, "bpr": loss}, [{"loss": before}], TrainingSettings(rise=2.0))
    assert (trouble is not None) == found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_rows_hold_every_user_with_interactions_once(seed: int, batch_size: int) -> None:
    matrix = sparse.csr_matrix((np.random.default_rng(seed).random((12, 9)) < 0.2).astype(np.float32))
    batches = [users for (users,) in Rows(matrix, batch_size, seed, "test").epoch(1)]
    assert sorted(user for users in batches for user in users.tolist()) == np.flatnonzero(matrix.sum(1)).tolist()
    assert all(len(users) <= batch_size for users in batches)


def test_report_hears_each_validation_and_may_end_the_training(tmp_path: Path) -> None:
    heard = []

    def report(epoch: int, value: float) -> None:
        heard.append((epoch, value))
        if epoch == 6:
            raise Killed

    values = iter([0.1, 0.5, 0.4])
    with pytest.raises(Killed):
        run(tmp_path, validate=lambda: next(values), report=report)
    assert heard == [(2, 0.1), (4, 0.5), (6, 0.4)]
