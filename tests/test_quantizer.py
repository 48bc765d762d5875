"""The quantizer and its parts: worked by hand, against a well-kept library, and on rows whose codes are known."""

from __future__ import annotations

import warnings
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vector_quantize_pytorch import ResidualVQ, VectorQuantize
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

from motorec.tokenizer import ResidualQuantizer
from motorec.tokenizer.estimators import rotation, straight_through
from motorec.tokenizer.placement import Init, place, revive, starts
from motorec.tokenizer.quantizer import first_of_equals


def quantizer(codebooks: list[list[list[float]]] | torch.Tensor, **options: object) -> ResidualQuantizer:
    values = torch.as_tensor(codebooks)
    made = ResidualQuantizer(values.shape[2], values.shape[1], values.shape[0], torch.Generator(), **options)
    with torch.no_grad():
        made.codebooks.copy_(values)
        if made.average is not None:
            made.average.sums.copy_(values)
    return made


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestCascade:
    def test_residuals_worked_by_hand(self) -> None:
        # Level 1: (3.1, 1.1) is nearest to (3, 0); what is left, (0.1, 1.1), is nearest to (0, 1) at level 2.
        made = quantizer([[[0.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
        result = made(torch.tensor([[3.1, 1.1]]))
        assert result.codes.tolist() == [[1, 0]]
        torch.testing.assert_close(result.vectors, torch.tensor([[3.0, 1.0]]))
        torch.testing.assert_close(result.commitment, torch.tensor([0.01 + 0.01]))
        torch.testing.assert_close(result.codebook, result.commitment)
        torch.testing.assert_close(result.distances[0], torch.tensor([[3.1**2 + 1.1**2, 0.1**2 + 1.1**2]]))
        torch.testing.assert_close(result.distances[1], torch.tensor([[0.1**2 + 0.1**2, 0.9**2 + 1.1**2]]))
        assert made.look_up(torch.tensor([[1], [0]])).tolist() == [[3.0, 0.0], [0.0, 0.0]]

    def test_cosine_chooses_by_angle_and_subtracts_the_code_itself(self) -> None:
        # (4, 0.5) points along (1, 0), though (3, 3) is nearer; (3, 0.5) is left, along (5, 0), which overshoots.
        books = [[[1.0, 0.0], [3.0, 3.0]], [[5.0, 0.0], [0.0, 1.0]]]
        row = torch.tensor([[4.0, 0.5]])
        by_angle = quantizer(books, distance="cosine")(row)
        assert by_angle.codes.tolist() == [[0, 0]]
        torch.testing.assert_close(by_angle.vectors, torch.tensor([[6.0, 0.0]]))
        torch.testing.assert_close(by_angle.distances[0, 0, 0], 1 - torch.tensor(4 / (16.25**0.5)))
        assert quantizer(books)(row).codes[0, 0] == 1

    @pytest.mark.parametrize("factor", [0.01, 7.0])
    def test_cosine_is_blind_to_length(self, factor: float) -> None:
        made = quantizer(draw(1, 9, 5), distance="cosine")
        z = draw(40, 5, seed=1)
        assert torch.equal(made.codes(z), made.codes(z * factor))

    @pytest.mark.parametrize("start", ["data", "kmeans"])
    def test_directions_of_nothing_pass_no_gradient_on(self, start: Init) -> None:
        """With a code at every row the residuals are rounding errors, whose cosines would have gradients of 1e7."""
        rows = draw(12, 4)
        made = ResidualQuantizer(4, 12, 3, torch.Generator().manual_seed(0), distance="cosine")
        place(made, rows, start, np.random.default_rng(0))
        z = rows.clone().requires_grad_()
        result = made(z)
        assert result.vectors.sub(rows).abs().max() < 1e-5
        (result.distances * draw(3, 12, 12, seed=2)).sum().backward()
        assert z.grad is not None
        assert made.codebooks.grad is not None
        assert 0 < z.grad.abs().max() < 100
        assert made.codebooks.grad.abs().max() < 100

    def test_commitment_moves_the_encoder_and_the_codebook_loss_the_codes(self) -> None:
        made = quantizer([[[0.0, 0.0], [3.0, 0.0]]])
        z = torch.tensor([[2.0, 1.0]], requires_grad=True)
        made(z).commitment.sum().backward()
        assert z.grad is not None
        assert z.grad.tolist() == [[-2.0, 2.0]]  # away from the code (3, 0) is uphill
        assert made.codebooks.grad is None or not made.codebooks.grad.any()
        z.grad = None
        made(z).codebook.sum().backward()
        assert z.grad is None or not z.grad.any()
        assert made.codebooks.grad is not None
        assert made.codebooks.grad[0, 1].tolist() == [2.0, -2.0]
        assert not made.codebooks.grad[0, 0].any()

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 40), st.integers(0, 1000), st.sampled_from(["l2", "cosine"]))
    def test_codes_do_not_depend_on_the_batch(self, size: int, seed: int, distance: str) -> None:
        made = quantizer(draw(3, 12, 8, seed=seed), distance=distance)
        z = draw(40, 8, seed=seed + 1)
        parts = torch.cat([made.codes(part) for part in z.split(size)])
        assert torch.equal(parts, made.codes(z))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 1000), st.integers(1, 6), st.floats(0.1, 10.0))
    def test_a_residual_never_grows_where_zero_is_a_code(self, seed: int, size: int, scale: float) -> None:
        books = draw(4, size, 5, seed=seed) * scale
        books[:, 0] = 0
        made = quantizer(books)
        z = draw(30, 5, seed=seed + 1)
        codes = made.codes(z)
        left = [z.norm(dim=1)] + [(z - made.look_up(codes[:, :level])).norm(dim=1) for level in range(1, 5)]
        assert (torch.stack(left).diff(dim=0) <= 1e-5).all()

    def test_of_equal_codes_the_first_stands_for_all(self) -> None:
        codes = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [3.0, 1.0], [2.0, 0.0]])
        assert first_of_equals(codes).tolist() == [0, 1, 0, 3, 1]
        assert quantizer(codes[None]).codes(codes).flatten().tolist() == [0, 1, 0, 3, 1]


class TestAgainstTheLibrary:
    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 1000))
    def test_residual_codes_and_vectors(self, seed: int) -> None:
        books = draw(3, 16, 6, seed=seed) * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
        z = draw(200, 6, seed=seed + 1)
        reference = ResidualVQ(dim=6, num_quantizers=3, codebook_size=16, rotation_trick=False).eval()
        for layer, book in zip(reference.layers, books, strict=True):
            layer._codebook.embed.data.copy_(book[None])
        vectors, codes, _ = reference(z[None])
        made = quantizer(books)
        assert torch.equal(made.codes(z), codes[0])
        assert torch.equal(made(z).codes, codes[0])
        torch.testing.assert_close(made(z).vectors, vectors[0])
        torch.testing.assert_close(made.look_up(codes[0]), vectors[0])

    def test_codes_by_angle(self) -> None:
        book = torch.nn.functional.normalize(draw(16, 6), dim=1)  # the library knows unit codes only
        reference = VectorQuantize(dim=6, codebook_size=16, use_cosine_sim=True).eval()
        reference._codebook.embed.data.copy_(book[None])
        z = draw(200, 6, seed=1) * 5
        assert torch.equal(quantizer(book[None], distance="cosine").codes(z)[:, 0], reference(z[None])[1][0])

    def test_three_steps_of_the_moving_average(self) -> None:
        books = draw(2, 8, 4)
        options = {"decay": 0.8, "threshold_ema_dead_code": 0, "rotation_trick": False}
        reference = ResidualVQ(dim=4, num_quantizers=2, codebook_size=8, **options).train()
        for layer, book in zip(reference.layers, books, strict=True):
            layer._codebook.embed.data.copy_(book[None])
            layer._codebook.embed_avg.data.copy_(book[None])
        made = quantizer(books, learning="ema", ema_decay=0.8)
        for step in range(3):
            z = draw(50, 4, seed=step + 1)
            reference(z[None])
            made(z)
        moved = torch.stack([layer._codebook.embed[0] for layer in reference.layers])
        torch.testing.assert_close(made.codebooks.detach(), moved)
        assert (moved - books).abs().max() > 0.1

    def test_gradient_of_the_rotation_trick(self) -> None:
        start, target, upstream = draw(30, 5), draw(30, 5, seed=1), draw(30, 5, seed=2)
        gradients = []
        for turn in (rotate_to, rotation):
            z = start.clone().requires_grad_()
            (turn(z, target) * upstream).sum().backward()
            gradients.append(z.grad)
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


class TestMovingAverage:
    def test_one_step_by_hand(self) -> None:
        # Code 0 is chosen by (1, 0) and (3, 0), code 1 by nobody: N = 0.5 + 0.5 * (2, 0), m_0 = 0.5 * (0 + 4).
        made = quantizer([[[0.0, 0.0], [50.0, 50.0]]], learning="ema", ema_decay=0.5)
        made(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        expected = torch.tensor([[2 / 1.5, 0.0], [50.0, 50.0]])
        torch.testing.assert_close(made.codebooks[0].detach(), expected, atol=0, rtol=1e-4)
        torch.testing.assert_close(made.average.counts[0], torch.tensor([1.5, 0.5]))

    def test_codes_come_to_the_mean_of_their_rows(self) -> None:
        rows = torch.cat([draw(40, 3) + 10, draw(20, 3, seed=1) - 10])
        made = quantizer([[[1.0] * 3, [-1.0] * 3]], learning="ema", ema_decay=0.8)
        for _ in range(80):
            made(rows)
        means = torch.stack([rows[:40].mean(0), rows[40:].mean(0)])
        torch.testing.assert_close(made.codebooks[0].detach(), means, atol=1e-3, rtol=0)

    def test_only_training_moves_them_and_no_optimiser(self) -> None:
        made = quantizer(draw(2, 4, 3), learning="ema")
        before, z = made.codebooks.clone(), draw(20, 3, seed=1).requires_grad_()
        with torch.no_grad():
            made(z)
        made.eval()(z)
        assert torch.equal(made.codebooks, before)
        result = made.train()(z)
        assert not torch.equal(made.codebooks, before)
        # The gradient is of the codes as they were, and reaches the encoder alone.
        (result.vectors.sum() + result.commitment.sum() + result.distances.sum()).backward()
        assert z.grad is not None
        assert z.grad.abs().sum() > 0
        assert not any(one.requires_grad for one in made.parameters())

    def test_a_code_that_nobody_chooses_stays_where_it_is(self) -> None:
        made = quantizer([[[0.0, 0.0], [9.0, 9.0]]], learning="ema", ema_decay=0.5)
        for _ in range(300):
            made(torch.zeros(4, 2))
        torch.testing.assert_close(made.codebooks[0, 1].detach(), torch.tensor([9.0, 9.0]), rtol=0.02, atol=0)


class TestEstimators:
    def gradient(self, estimate: object, z: list[float], quantized: list[float], upstream: list[float]) -> torch.Tensor:
        row = torch.tensor([z], requires_grad=True)
        value = estimate(row, torch.tensor([quantized]))  # type: ignore[operator]
        torch.testing.assert_close(value, torch.tensor([quantized]))
        (value * torch.tensor([upstream])).sum().backward()
        assert row.grad is not None
        return row.grad[0]

    def test_straight_through_is_the_identity(self) -> None:
        assert self.gradient(straight_through, [2.0, 1.0], [3.0, 0.0], [5.0, 7.0]).tolist() == [5.0, 7.0]

    def test_rotation_by_hand(self) -> None:
        # z = (1, 0) is turned by a right angle and doubled: R^T turns the gradient back, lambda = 2.
        found = self.gradient(rotation, [1.0, 0.0], [0.0, 2.0], [3.0, 4.0])
        torch.testing.assert_close(found, torch.tensor([8.0, -6.0]))

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.integers(2, 12))
    def test_rotation_keeps_the_value_and_the_gradients_angle_and_scales_its_length(self, seed: int, dim: int) -> None:
        z, quantized, upstream = draw(3, 20, dim, seed=seed)
        z = z.clone().requires_grad_()
        value = rotation(z, quantized)
        assert torch.equal(value, quantized)
        (value * upstream).sum().backward()
        assert z.grad is not None
        cosine = torch.nn.functional.cosine_similarity
        torch.testing.assert_close(cosine(z.grad, z), cosine(upstream, quantized), atol=1e-3, rtol=0)
        scale = quantized.norm(dim=1) / z.detach().norm(dim=1)
        torch.testing.assert_close(z.grad.norm(dim=1), scale * upstream.norm(dim=1), atol=0, rtol=1e-2)

    @pytest.mark.parametrize(("z", "quantized"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])])
    def test_without_a_direction_the_gradient_passes_straight(self, z: list[float], quantized: list[float]) -> None:
        assert self.gradient(rotation, z, quantized, [5.0, 7.0]).tolist() == [5.0, 7.0]

    def test_opposite_vectors_are_reflected(self) -> None:
        found = self.gradient(rotation, [3.0, 0.0], [-6.0, 0.0], [5.0, 7.0])
        torch.testing.assert_close(found, torch.tensor([-10.0, 14.0]))

    def test_a_quantizer_uses_the_one_that_it_was_given(self) -> None:
        made = quantizer([[[0.0, 2.0], [-9.0, 0.0]]], estimator="rotation")
        z = torch.tensor([[1.0, 1.0]], requires_grad=True)
        (made(z).vectors * torch.tensor([1.0, 0.0])).sum().backward()
        assert z.grad is not None
        torch.testing.assert_close(z.grad, torch.tensor([[1.0, -1.0]]))  # a turn by 45 degrees, sqrt(2) times as long


PLACED = [init for init in get_args(Init) if init != "random"]


class TestPlacement:
    @pytest.mark.parametrize("init", ["kmeans", "hierarchical"])
    def test_planted_codes_are_found_again(self, init: Init) -> None:
        # Every row is the sum of one of four far centres, one of four near ones, and a little noise.
        generator = np.random.default_rng(3)
        truth = np.array(list(product(range(4), range(4))) * 6)
        centres = generator.normal(size=(2, 4, 8)) * np.array([10.0, 1.0])[:, None, None]
        rows = centres[0][truth[:, 0]] + centres[1][truth[:, 1]] + generator.normal(size=(len(truth), 8)) * 0.01
        made = ResidualQuantizer(8, 4, 2, torch.Generator().manual_seed(0))
        z = torch.from_numpy(rows).float()
        place(made, z, init, np.random.default_rng(0))
        codes = made.codes(z).numpy()
        for level in range(2):
            pairs = set(zip(truth[:, level].tolist(), codes[:, level].tolist(), strict=True))
            assert len(pairs) == 4, f"level {level}: codes are not the planted ones by other names"
        assert (made.look_up(torch.from_numpy(codes)) - z).norm(dim=1).max() < 0.1

    @pytest.mark.parametrize("init", ["kmeans", "hierarchical"])
    def test_planted_directions_are_found_by_angle(self, init: Init) -> None:
        generator = np.random.default_rng(1)
        truth = np.arange(90) % 3
        rows = np.eye(3)[truth] * generator.uniform(1, 50, size=(90, 1)) + generator.normal(size=(90, 3)) * 0.01
        made = ResidualQuantizer(3, 3, 1, torch.Generator(), distance="cosine")
        z = torch.from_numpy(rows).float()
        place(made, z, init, np.random.default_rng(0))
        assert len(set(zip(truth.tolist(), made.codes(z)[:, 0].tolist(), strict=True))) == 3
        for group, code in set(zip(truth.tolist(), made.codes(z)[:, 0].tolist(), strict=True)):
            torch.testing.assert_close(made.codebooks[0, code].detach(), z[truth == group].mean(0), atol=1e-3, rtol=0)

    def test_data_are_distinct_rows(self) -> None:
        rows = np.repeat(np.random.default_rng(0).normal(size=(10, 3)), 4, axis=0)
        codes = starts(rows, 8, "data", np.random.default_rng(1), by_angle=False)
        assert len(np.unique(codes, axis=0)) == 8
        assert {tuple(code) for code in codes} <= {tuple(row) for row in rows}

    def test_random_leaves_the_codes_where_they_are(self) -> None:
        made = ResidualQuantizer(3, 4, 2, torch.Generator().manual_seed(0))
        before = made.codebooks.clone()
        place(made, draw(20, 3), "random", np.random.default_rng(0))
        assert torch.equal(made.codebooks, before)

    @pytest.mark.parametrize("init", PLACED)
    @pytest.mark.parametrize("distance", ["l2", "cosine"])
    def test_the_same_codes_twice(self, init: Init, distance: str) -> None:
        made = [ResidualQuantizer(4, 8, 2, torch.Generator(), distance=distance, learning="ema") for _ in range(2)]
        for one in made:
            place(one, draw(60, 4), init, np.random.default_rng(5))
            assert torch.equal(one.average.sums, one.codebooks)
        assert torch.equal(made[0].codebooks, made[1].codebooks)
        assert len(made[0].codes(draw(60, 4)).unique()) == 8

    @pytest.mark.parametrize("init", PLACED)
    @pytest.mark.parametrize("distance", ["l2", "cosine"])
    @pytest.mark.parametrize("distinct", [1, 2, 5])
    def test_fewer_distinct_rows_than_codes(self, init: Init, distance: str, distinct: int) -> None:
        rows = draw(distinct, 4).repeat(3, 1)
        made = ResidualQuantizer(4, 16, 2, torch.Generator().manual_seed(0), distance=distance)
        place(made, rows, init, np.random.default_rng(0))
        torch.testing.assert_close(made(rows).vectors, rows, atol=1e-2, rtol=0)

    @pytest.mark.parametrize("init", PLACED)
    @pytest.mark.parametrize("distance", ["l2", "cosine"])
    def test_one_code(self, init: Init, distance: str) -> None:
        made = ResidualQuantizer(4, 1, 3, torch.Generator().manual_seed(0), distance=distance)
        rows = draw(30, 4) + 2
        place(made, rows, init, np.random.default_rng(0))
        assert (made.codes(rows) == 0).all()
        if init != "data":
            torch.testing.assert_close(made.codebooks[0, 0].detach(), rows.mean(0))

    @pytest.mark.parametrize("learning", ["gradient", "ema"])
    def test_dead_codes_are_revived_on_data(self, learning: str) -> None:
        made = quantizer([[[0.0, 0.0], [100.0, 100.0]]], learning=learning)
        rows = torch.tensor([[1.0, 1.0], [1.0, 2.0]])
        moved = revive(made, rows, torch.tensor([[2, 0]]), torch.Generator().manual_seed(0))
        assert [(level, codes.tolist()) for level, codes in moved] == [(0, [1])]
        assert made.codebooks[0, 1].tolist() in rows.tolist()
        assert made.codebooks[0, 0].tolist() == [0.0, 0.0]
        if made.average is not None:
            for _ in range(50):
                made(rows)  # a revived code is not drawn back to where it was
            assert made.codebooks[0].max() < 3
