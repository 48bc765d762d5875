"""The tokenizer: residuals worked by hand, planted codes found again, and its losses doing what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motorec.features import Features
from motorec.rarity import rarity_weights
from motorec.tokenizer import (
    RQVAE,
    ResidualQuantizer,
    TokenizerSettings,
    load_tokenizer,
    new_tokenizer,
    pretrain,
    save_tokenizers,
)
from motorec.tokenizer.health import collisions, kept_neighbours, perplexity, usage
from motorec.tokenizer.sparsity import soft_usage, sparsity_loss


def quantizer(codebooks: list[list[list[float]]]) -> ResidualQuantizer:
    values = torch.tensor(codebooks)
    made = ResidualQuantizer(values.shape[2], values.shape[1], values.shape[0], torch.Generator())
    with torch.no_grad():
        made.codebooks.copy_(values)
    return made


def planted(n: int = 400, groups: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around a few centres, and the centre of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, 16)) * 3
    members = generator.integers(groups, size=n)
    rows = centres[members] + generator.normal(size=(n, 16)) * 0.1
    return rows.astype(np.float32), members


def features(rows: np.ndarray, present: np.ndarray | None = None) -> Features:
    here = np.ones(len(rows), dtype=bool) if present is None else present
    return Features(modality="text", encoder="planted", matrix=rows, present=here)


SMALL = TokenizerSettings(
    codebook_size=8, levels=2, latent=8, hidden=(16,), input_dim=None, epochs=60, batch_size=128, learning_rate=3e-3
)


class TestQuantizer:
    def test_residuals_worked_by_hand(self) -> None:
        # Level 1: (3.1, 1.1) is nearest to (3, 0); what is left, (0.1, 1.1), is nearest to (0, 1) at level 2.
        made = quantizer([[[0.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
        result = made(torch.tensor([[3.1, 1.1]]))
        assert result.codes.tolist() == [[1, 0]]
        torch.testing.assert_close(result.vectors, torch.tensor([[3.0, 1.0]]))
        torch.testing.assert_close(result.commitment, torch.tensor([0.01 + 0.01]))
        torch.testing.assert_close(result.codebook, result.commitment)
        torch.testing.assert_close(result.distances[0], torch.tensor([[3.1**2 + 1.1**2, 0.1**2 + 1.1**2]]))

    def test_gradient_passes_straight_through(self) -> None:
        made = quantizer([[[0.0, 0.0], [3.0, 0.0]]])
        z = torch.tensor([[2.0, 1.0]], requires_grad=True)
        (made(z).vectors * torch.tensor([5.0, 7.0])).sum().backward()
        assert z.grad is not None
        assert z.grad.tolist() == [[5.0, 7.0]]
        assert made.codebooks.grad is None or not made.codebooks.grad.any()

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

    def test_each_code_is_the_nearest_to_its_residual(self) -> None:
        generator = torch.Generator().manual_seed(0)
        made = ResidualQuantizer(6, 16, 3, generator)
        with torch.no_grad():
            made.codebooks.mul_(16)
        z = torch.randn(50, 6, generator=generator)
        codes = made.codes(z)
        residual = z
        for level in range(3):
            gaps = torch.cdist(residual, made.codebooks[level])
            assert (gaps.argmin(1) == codes[:, level]).all()
            residual = residual - made.codebooks[level][codes[:, level]]
        torch.testing.assert_close(made.look_up(codes), z - residual)
        torch.testing.assert_close(made(z).vectors, made.look_up(codes))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 40), st.integers(0, 1000))
    def test_codes_do_not_depend_on_the_batch(self, size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        made = ResidualQuantizer(8, 12, 3, generator)
        z = torch.randn(40, 8, generator=generator)
        parts = torch.cat([made.codes(part) for part in z.split(size)])
        assert torch.equal(parts, made.codes(z))

    def test_kmeans_finds_planted_centres(self) -> None:
        rows, members = planted()
        made = ResidualQuantizer(16, 8, 1, torch.Generator().manual_seed(0))
        made.place(torch.from_numpy(rows), np.random.default_rng(0))
        codes = made.codes(torch.from_numpy(rows))[:, 0].numpy()
        pairs = {(int(a), int(b)) for a, b in zip(members, codes, strict=True)}
        # k-means may merge two groups into one code, but nearly every group keeps a code of its own.
        assert len({code for _, code in pairs}) >= 7

    def test_fewer_rows_than_codes(self) -> None:
        made = ResidualQuantizer(4, 16, 2, torch.Generator().manual_seed(0))
        rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
        made.place(rows, np.random.default_rng(0))
        assert torch.isfinite(made.codebooks).all()
        torch.testing.assert_close(made(rows).vectors, rows, atol=1e-2, rtol=0)

    def test_dead_codes_are_revived_on_data(self) -> None:
        made = quantizer([[[0.0, 0.0], [100.0, 100.0]]])
        rows = torch.tensor([[1.0, 1.0], [1.0, 2.0]])
        moved = made.revive(rows, torch.tensor([[2, 0]]), torch.Generator().manual_seed(0))
        assert [(level, codes.tolist()) for level, codes in moved] == [(0, [1])]
        assert made.codebooks[0, 1].tolist() in rows.tolist()
        assert made.codebooks[0, 0].tolist() == [0.0, 0.0]


class TestSparsity:
    def test_even_usage_has_no_loss_and_uneven_has_some(self) -> None:
        even = torch.full((2, 10), 0.1)
        uneven = torch.tensor([[0.91] + [0.01] * 9] * 2)
        assert sparsity_loss(even, None).item() == pytest.approx(0.0, abs=1e-5)
        assert sparsity_loss(uneven, None).item() > 0.1

    def test_worked_by_hand(self) -> None:
        usage_ = torch.tensor([[0.25, 0.75]])
        expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
        assert sparsity_loss(usage_, 0.5).item() == pytest.approx(2 * expected, rel=1e-4)

    def test_usage_sums_to_one_and_is_free_of_scale(self) -> None:
        distances = torch.rand(3, 20, 7, generator=torch.Generator().manual_seed(0))
        shares = soft_usage(distances, 0.3)
        torch.testing.assert_close(shares.sum(1), torch.ones(3))
        torch.testing.assert_close(shares, soft_usage(distances * 50, 0.3))

    def test_an_unused_code_still_gets_a_gradient(self) -> None:
        distances = torch.tensor([[[0.0, 9.0], [0.1, 8.0]]], requires_grad=True)
        sparsity_loss(soft_usage(distances, 1.0), None).backward()
        assert distances.grad is not None
        assert (distances.grad[0, :, 1] > 0).all()  # being nearer would lower the loss


class TestRarity:
    degrees = np.array([0, 1, 2, 9, 10, 500])

    def test_literal_is_the_printed_formula_and_lowers_cold_items(self) -> None:
        weights = rarity_weights(self.degrees, 10, "literal")
        np.testing.assert_allclose(weights, [1, 1 / np.log2(3), 0.5, 1 / np.log2(11), 1, 1], rtol=1e-6)
        assert weights[1] < 1 > weights[3]

    def test_amplify_gives_rarer_items_more_and_meets_one_at_tau(self) -> None:
        weights = rarity_weights(self.degrees, 10, "amplify")
        assert (np.diff(weights) <= 0).all()
        assert weights[0] == pytest.approx(np.log2(12))
        assert weights[3] == pytest.approx(np.log2(12) / np.log2(11))
        assert weights[4] == weights[5] == 1.0

    def test_off(self) -> None:
        assert (rarity_weights(self.degrees, 10, "off") == 1).all()


class TestRQVAE:
    def test_planted_groups_become_tokens_and_all_codes_are_used(self) -> None:
        rows, members = planted()
        tokenizer = new_tokenizer(SMALL, features(rows), seed=0, dataset="planted")
        history = pretrain(tokenizer, features(rows), np.ones(len(rows), np.float32), seed=0, dataset="planted")
        codes = tokenizer.codes(tokenizer.prepare(rows)).numpy()
        # Items of one group share their first token: no token mixes groups much.
        purity = sum(np.bincount(members[codes[:, 0] == code]).max() for code in np.unique(codes[:, 0])) / len(rows)
        assert purity > 0.85
        assert (usage(codes, 8)[0] > 0).mean() > 0.8
        assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 2
        result = tokenizer(tokenizer.prepare(rows))
        inputs = tokenizer.prepare(rows)
        error = (inputs - tokenizer.decoder(result.latent)).square().mean() / inputs.square().mean()
        assert error < 0.15

    def test_the_same_bytes_twice_and_others_with_another_seed(self) -> None:
        rows, _ = planted(n=100)

        def train(seed: int) -> torch.Tensor:
            tokenizer = new_tokenizer(SMALL, features(rows), seed, "planted")
            pretrain(tokenizer, features(rows), np.ones(len(rows), np.float32), seed, "planted")
            assert tokenizer.quantizer is not None
            return tokenizer.quantizer.codebooks.detach()

        assert torch.equal(train(1), train(1))
        assert not torch.equal(train(1), train(2))

    def test_weights_say_whose_loss_counts(self) -> None:
        rows, _ = planted(n=4)
        tokenizer = new_tokenizer(SMALL, features(rows), 0, "planted")
        result = tokenizer(tokenizer.prepare(rows))
        only_first = result.loss(torch.tensor([4.0, 0.0, 0.0, 0.0]))
        torch.testing.assert_close(only_first, result.per_item[0] + result.sparsity)

    def test_absent_items_do_not_shape_the_tokenizer(self) -> None:
        rows, _ = planted(n=60)
        present = np.arange(60) < 50
        changed = rows.copy()
        changed[50:] = 1000.0
        for given_rows in (rows, changed):
            tokenizer = new_tokenizer(SMALL, features(given_rows, present), 0, "planted")
            pretrain(tokenizer, features(given_rows, present), np.ones(60, np.float32), 0, "planted")
            last = {name: value.clone() for name, value in tokenizer.state_dict().items()}
            first = last if given_rows is rows else first
        assert all(torch.equal(first[name], last[name]) for name in last)

    def test_continuous_ablation_has_no_codes(self) -> None:
        rows, _ = planted(n=30)
        tokenizer = new_tokenizer(SMALL.model_copy(update={"quantize": False}), features(rows), 0, "planted")
        pretrain(tokenizer, features(rows), np.ones(30, np.float32), 0, "planted")
        result = tokenizer(tokenizer.prepare(rows))
        assert result.codes is None
        torch.testing.assert_close(result.latent, tokenizer.encoder(tokenizer.prepare(rows)))
        with pytest.raises(ValueError, match="no codes"):
            tokenizer.codes(tokenizer.prepare(rows))

    def test_saved_and_loaded_only_by_the_same_settings(self, project: object) -> None:
        from motorec import paths

        rows, _ = planted(n=60)
        tokenizer = new_tokenizer(SMALL, features(rows), 0, "planted")
        history = pretrain(tokenizer, features(rows), np.ones(60, np.float32), 0, "planted")
        folder = paths.tokens("planted", 0)
        save_tokenizers(folder, {"text": tokenizer}, {"text": history})
        again: RQVAE = new_tokenizer(SMALL, features(rows), 99, "planted")
        assert load_tokenizer(folder, again, "text")
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), tokenizer.parameters(), strict=True))
        other = new_tokenizer(SMALL.model_copy(update={"sparsity": 0.0}), features(rows), 0, "planted")
        assert not load_tokenizer(folder, other, "text")


class TestHealth:
    def test_perplexity_of_even_and_single_use(self) -> None:
        codes = np.array([[0, 0], [1, 0], [2, 0], [3, 0]])
        np.testing.assert_allclose(perplexity(usage(codes, 4)), [4.0, 1.0])

    def test_collisions_count_whole_tuples(self) -> None:
        assert collisions(np.array([[0, 1], [0, 1], [0, 2], [1, 1]])) == 0.5

    def test_neighbours_are_kept_by_a_rotation_and_lost_by_noise(self) -> None:
        generator = np.random.default_rng(0)
        rows = generator.normal(size=(60, 8))
        rotation = np.linalg.qr(generator.normal(size=(8, 8)))[0]
        assert kept_neighbours(rows, rows @ rotation) == 1.0
        assert kept_neighbours(rows, generator.normal(size=(60, 8))) < 0.35
