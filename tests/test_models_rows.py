"""Models on user rows: what was planted is found, their parts agree with sums by hand, a killed run ends the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planted import planted_dataset, planted_inputs, right_group
from scipy import sparse

from motorec.config import EvaluationSettings, ModelChoice, load_model
from motorec.errors import ParamsError
from motorec.evaluation import validate
from motorec.models import TrainedRecommender, build
from motorec.models.diffusion import HISTORY, Denoiser, Diffusion, DiffusionSettings, StepSampler, cumulative_alphas
from motorec.models.ldiffrec import cluster_items, shares
from motorec.models.rows import Annealing, BagLinear, UserRows, gaussian_kl, multinomial_loss
from motorec.training import Fit, train

EVALUATION = EvaluationSettings(cutoffs=(5,), cold_below=10)
TRAINING = planted.TRAINING.model_copy(update={"epochs": 40, "batch_size": 32, "learning_rate": 0.01})
SMALL: dict[str, dict[str, Any]] = {
    "multvae": {"hidden": 32, "latent": 16, "anneal_steps": 100},
    "diffrec": {"hidden": 32, "reweight": False},
    "ldiffrec": {"hidden": 32, "latent": 16, "cluster_dim": 4, "reweight": False},
}
MATRIX = sparse.csr_matrix(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=np.float32))


class Killed(Exception):
    """Stands for a lost machine."""


def choice(name: str, **changes: Any) -> ModelChoice:
    return ModelChoice(name=name, title=name, kind=name, settings=SMALL[name] | changes, training=TRAINING)


def fitted(
    name: str, scratch: Path, killed_at: int | None = None, seed: int = 1, **training: Any
) -> tuple[TrainedRecommender, Fit]:
    """Train on the planted data; killed at the validation after an epoch."""
    dataset = planted_dataset()
    inputs = planted_inputs(dataset, (), seed)
    made = build(choice(name), inputs)
    assert isinstance(made, TrainedRecommender)
    looks = 0

    def judge() -> float:
        nonlocal looks
        looks += 1
        if looks == killed_at:
            raise Killed
        return validate(made.score, dataset, TRAINING.metric, EVALUATION)

    fit = train(
        made,
        inputs.train,
        TRAINING.model_copy(update=training),
        judge,
        seed=seed,
        label=f"planted/{name}",
        stream="planted",
        scratch=scratch,
        fingerprint="",
    )
    return made, fit


@pytest.mark.parametrize("name", SMALL)
def test_finds_the_users_group(name: str, tmp_path: Path) -> None:
    dataset = planted_dataset()
    made, _ = fitted(name, tmp_path / "scratch")
    warm = np.flatnonzero(dataset.item_degrees() > 0)
    assert right_group(dataset, made.score(np.arange(dataset.n_users)), warm, 5) > 0.9


@pytest.mark.parametrize("name", SMALL)
def test_the_settings_in_params_are_read(name: str, project: Path) -> None:
    made = build(load_model(name, "hm"), planted_inputs(planted_dataset(), ()))
    assert made.n_parameters > 0


@pytest.mark.parametrize("name", SMALL)
def test_scoring_draws_nothing_and_users_do_not_mix(name: str) -> None:
    made = build(choice(name), planted_inputs(planted_dataset(), ()))
    assert isinstance(made, TrainedRecommender)
    made.freeze()
    together = made.score(np.array([3, 8, 5]))
    assert torch.equal(together, made.score(np.array([3, 8, 5])))
    torch.testing.assert_close(together[1:2], made.score(np.array([8])))
    assert not together.requires_grad


@pytest.mark.parametrize("name", SMALL)
def test_a_killed_run_continues_to_the_same_end(name: str, tmp_path: Path) -> None:
    # The histories of importance sampling and the annealing's count are state: without them the end would differ.
    short = {"epochs": 14, "evaluate_every": 3, "checkpoint_every": 4}
    whole, uninterrupted = fitted(name, tmp_path / "whole", **short)
    with pytest.raises(Killed):
        fitted(name, tmp_path / "killed", killed_at=4, **short)
    resumed, fit = fitted(name, tmp_path / "killed", **short)
    assert fit.history.equals(uninterrupted.history)
    ends = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in ends)


@pytest.mark.parametrize("name", SMALL)
def test_the_checkpoint_holds_all_that_scoring_needs(name: str, tmp_path: Path) -> None:
    made, _ = fitted(name, tmp_path / "scratch", epochs=5)
    other = build(choice(name), planted_inputs(planted_dataset(), ()))
    assert isinstance(other, TrainedRecommender)
    assert not torch.equal(other.score(np.arange(9)), made.score(np.arange(9)))
    other.load_state_dict(made.state_dict())
    other.freeze()
    assert torch.equal(other.score(np.arange(9)), made.score(np.arange(9)))


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_run(name: str, tmp_path: Path) -> None:
    ends = [fitted(name, tmp_path / "scratch", seed=seed, epochs=2)[0].score(np.arange(9)) for seed in (1, 1, 2)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[0], ends[2])


class TestRows:
    def test_bags_and_dense_rows_are_the_matrix(self) -> None:
        rows = UserRows(MATRIX)
        bags = rows.bags(torch.tensor([2, 1, 0]))
        assert bags.items.tolist() == [1, 2, 3, 0, 2]
        assert bags.starts.tolist() == [0, 3, 3]
        assert bags.places.tolist() == [0, 0, 0, 2, 2]
        assert bags.counts.tolist() == [3, 0, 2]
        assert torch.equal(rows.dense(np.array([2, 1, 0])), torch.from_numpy(MATRIX.toarray()[[2, 1, 0]]))

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000))
    def test_the_layer_is_a_dense_layer_on_rows_of_unit_length(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        matrix = sparse.csr_matrix((generator.random((7, 9)) < 0.3).astype(np.float32))
        users = generator.integers(7, size=5)
        rows, layer = UserRows(matrix), BagLinear(9, 4, torch.Generator().manual_seed(seed))
        bags = rows.bags(users)
        dense = torch.nn.functional.normalize(rows.dense(users), dim=1) @ layer.weight + layer.bias
        torch.testing.assert_close(layer(bags, bags.unit_weights), dense)

    def test_multinomial_loss_by_hand(self) -> None:
        logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, float(np.log(3))]])
        # The first user has two items of chance 1/4 each; the second three: 1/6, 1/6 and 3/6.
        expected = -(2 * np.log(1 / 4) + 2 * np.log(1 / 6) + np.log(3 / 6)) / 2
        loss = multinomial_loss(logits, UserRows(MATRIX).bags(np.array([0, 2])))
        assert loss.item() == pytest.approx(expected)

    def test_divergence_by_hand(self) -> None:
        mean, log_variance = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, float(np.log(2))], [0.0, 0.0]])
        # Half of 1 for the mean that is off by 1, half of (2 - 1 - ln 2) for the variance of 2; 0 for the second row.
        assert gaussian_kl(mean, log_variance).item() == pytest.approx((0.5 + 0.5 * (1 - np.log(2))) / 2)


def test_annealing_grows_to_its_end_and_goes_on_from_a_checkpoint() -> None:
    annealing = Annealing(0.2, 4)
    assert [annealing.step() for _ in range(3)] == pytest.approx([0.0, 0.05, 0.1])
    resumed = Annealing(0.2, 4)
    resumed.load_state_dict(annealing.state_dict())
    assert [resumed.step() for _ in range(3)] == pytest.approx([0.15, 0.2, 0.2])


class TestDiffusion:
    def test_variance_grows_linearly_after_the_first_step(self) -> None:
        kept = cumulative_alphas(steps=3, scale=0.5, low=0.2, high=0.6, first=1e-5)
        # Variances 0.1, 0.2, 0.3 of the schedule; the first step is replaced by 1e-5, and the ratios stay.
        first = 1 - 1e-5
        np.testing.assert_allclose(kept, [first, first * 0.8 / 0.9, first * 0.7 / 0.9], rtol=1e-12)
        np.testing.assert_allclose(cumulative_alphas(3, 0.5, 0.2, 0.6), [0.9, 0.8, 0.7], rtol=1e-12)

    def test_corruption_has_the_moments_of_the_equation(self) -> None:
        diffusion = Diffusion(
            DiffusionSettings(steps=3, inference_steps=3, noise_scale=0.5, noise_min=0.2, noise_max=0.6)
        )
        noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
        steps = torch.full((len(noise),), 2)
        noisy = diffusion.corrupt(torch.full_like(noise, 2.0), steps, noise)
        kept = (1 - 1e-5) * 0.7 / 0.9
        assert noisy.mean().item() == pytest.approx(2 * kept**0.5, abs=0.005)
        assert noisy.var().item() == pytest.approx(1 - kept, rel=0.02)

    def test_posterior_mean_by_hand(self) -> None:
        diffusion = Diffusion(
            DiffusionSettings(steps=2, inference_steps=2, noise_scale=0.5, noise_min=0.2, noise_max=0.6)
        )
        kept = cumulative_alphas(2, 0.5, 0.2, 0.6, 1e-5).numpy()
        alpha = kept[1] / kept[0]
        of_clean = kept[0] ** 0.5 * (1 - alpha) / (1 - kept[1])
        of_noisy = alpha**0.5 * (1 - kept[0]) / (1 - kept[1])
        asked = []

        def denoise(state: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
            asked.append((state.item(), step.item()))
            return torch.tensor([[5.0]])

        end = diffusion.reverse(denoise, torch.tensor([[3.0]]))
        # The last step back ends in the prediction itself.
        assert end.item() == pytest.approx(5.0)
        assert asked[0] == (3.0, 1)
        assert asked[1] == (pytest.approx(of_clean * 5 + of_noisy * 3, rel=1e-5), 0)

    def test_weights_are_what_the_signal_gains(self) -> None:
        given_ = {"steps": 3, "inference_steps": 1, "noise_scale": 0.5, "noise_min": 0.2, "noise_max": 0.6}
        kept = cumulative_alphas(3, 0.5, 0.2, 0.6, 1e-5).numpy()
        signal = kept / (1 - kept)
        found = Diffusion(DiffusionSettings(**given_)).weights
        np.testing.assert_allclose(found, [1, signal[0] - signal[1], signal[1] - signal[2]], rtol=1e-5)
        assert Diffusion(DiffusionSettings(**given_, reweight=False)).weights.tolist() == [1, 1, 1]

    def test_a_perfect_denoiser_has_no_loss(self) -> None:
        class Knows(Denoiser):
            def forward(self, noisy: torch.Tensor, step: torch.Tensor, noise: Any = None) -> torch.Tensor:
                return torch.ones_like(noisy)

        diffusion_settings = DiffusionSettings()
        generator = torch.Generator().manual_seed(0)
        diffusion = Diffusion(diffusion_settings)
        knows = Knows(4, diffusion_settings, generator)
        assert diffusion.losses(knows, torch.ones(6, 4), generator)[0].abs().max() == 0
        losses, predicted = diffusion.losses(knows, torch.full((6, 4), 3.0), generator)
        assert losses.max() > 0
        assert torch.equal(predicted, torch.ones(6, 4))

    @pytest.mark.parametrize(
        "wrong", [{"inference_steps": 6}, {"noise_min": 0.6}, {"noise_scale": 2.0}], ids=["steps", "order", "size"]
    )
    def test_impossible_settings_are_told(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ParamsError, match="settings of diffrec"):
            build(choice("diffrec", **wrong), planted_inputs(planted_dataset(), ()))


class TestStepSampler:
    def filled(self, losses: list[float], counts: list[int]) -> StepSampler:
        sampler = StepSampler(len(losses), importance=True)
        for step, (loss, count) in enumerate(zip(losses, counts, strict=True)):
            if count:
                sampler.remember(torch.full((count,), step), torch.full((count,), loss))
        return sampler

    def test_uniform_until_every_step_has_its_history(self) -> None:
        assert self.filled([1.0, 9.0], [HISTORY, HISTORY - 1]).chances().tolist() == [0.5, 0.5]
        assert self.filled([1.0, 9.0], [HISTORY, HISTORY]).chances().tolist() == pytest.approx([0.1, 0.9], abs=1e-3)

    def test_uniform_where_asked_for(self) -> None:
        sampler = StepSampler(2, importance=False)
        sampler.remember(torch.tensor([0, 1] * HISTORY), torch.tensor([1.0, 9.0] * HISTORY))
        assert sampler.chances().tolist() == [0.5, 0.5]

    def test_old_losses_are_forgotten(self) -> None:
        sampler = self.filled([100.0, 1.0], [HISTORY, HISTORY])
        sampler.remember(torch.zeros(HISTORY, dtype=torch.int64), torch.ones(HISTORY))
        assert sampler.chances().tolist() == pytest.approx([0.5, 0.5])

    def test_weights_undo_the_chances(self) -> None:
        sampler = self.filled([1.0, 9.0], [HISTORY, HISTORY])
        steps, weights = sampler.draw(50_000, torch.Generator().manual_seed(0))
        losses = torch.tensor([1.0, 9.0])[steps]
        assert (steps == 1).float().mean().item() == pytest.approx(0.9, abs=0.01)
        # Under uniform steps the mean would be 5.
        assert (weights * losses).mean().item() == pytest.approx(5.0, rel=0.01)


class TestClusters:
    def test_the_planted_groups_are_the_clusters(self) -> None:
        dataset = planted_dataset()
        members = cluster_items(dataset.matrix("train"), 4, 4, seed=0)
        warm = dataset.item_degrees() > 0
        assert sorted(np.concatenate(members).tolist()) == list(range(dataset.n_items))
        assert [len(np.unique(found[warm[found]] % 4)) for found in members] == [1, 1, 1, 1]

    def test_one_cluster_is_all_items(self) -> None:
        assert cluster_items(MATRIX, 1, 2, seed=0)[0].tolist() == [0, 1, 2, 3]

    def test_more_clusters_than_dimensions_is_an_error(self) -> None:
        with pytest.raises(ParamsError, match="latent is 16, too little for 17 clusters"):
            build(choice("ldiffrec", clusters=17), planted_inputs(planted_dataset(), ()))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(8, 300))
    @example([1, 1, 1, 1, 1, 8, 8], 8)
    def test_shares_add_up_and_none_is_empty(self, sizes: list[int], total: int) -> None:
        found = shares(total, sizes)
        assert sum(found) == total
        assert min(found) >= 1


@pytest.mark.parametrize("name", SMALL)
def test_users_without_items_are_all_scored_alike(name: str) -> None:
    train_matrix = sparse.vstack([planted_dataset().matrix("train"), sparse.csr_matrix((2, 60), dtype=np.float32)])
    inputs = dataclasses.replace(planted_inputs(planted_dataset(), ()), train=train_matrix.tocsr())
    scores = build(choice(name), inputs).score(np.array([120, 121]))
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores[0], scores[1])
