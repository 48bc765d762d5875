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
from scipy import sparse

from motorec.config import TrainingSettings
from motorec.errors import MotorecError
from motorec.models.bpr import BPR
from motorec.training import Fit, Triples, train


class Killed(Exception):
    """Stands for a lost machine."""


def run(
    scratch: Path,
    validate: Callable[[], float] | None = None,
    fingerprint: str = "same",
    killed_at: int | None = None,
    **changes: Any,
) -> tuple[BPR, Fit]:
    """Train a tiny model, judged by `validate` (default: the growth of its weights); killed at the n-th validation."""
    values = {"epochs": 20, "batch_size": 64, "learning_rate": 0.01, "evaluate_every": 2, "patience": 3}
    settings_ = TrainingSettings(**(values | {"checkpoint_every": 4} | changes))
    inputs = planted_inputs(planted_dataset(), ())
    model = BPR(BPR.Settings(dim=8), inputs)
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
