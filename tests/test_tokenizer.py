"""The tokenizer: its losses do what they say, it learns what was planted, and it tells how healthy it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted_dataset, planted_inputs
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from motorec import config, paths
from motorec.config import ModelChoice, TrainingSettings
from motorec.errors import DataError
from motorec.features import Features
from motorec.models import build
from motorec.models.channels import CodeChannel
from motorec.models.motorec import MoToRec
from motorec.rarity import rarity_weights
from motorec.tokenizer import RQVAE, TokenizerSettings, load_tokenizers, new_tokenizers, pretrain, save_tokenizers
from motorec.tokenizer.codes import item_codes
from motorec.tokenizer.estimators import Estimator
from motorec.tokenizer.health import by_level, collisions, health, kept_neighbours, perplexity, usage
from motorec.tokenizer.placement import Init
from motorec.tokenizer.quantizer import Distance, Learning
from motorec.tokenizer.sparsity import soft_usage, sparsity_loss


def planted(n: int = 400, groups: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around a few centres, and the centre of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, 16)) * 3
    members = generator.integers(groups, size=n)
    rows = centres[members] + generator.normal(size=(n, 16)) * 0.1
    return rows.astype(np.float32), members


def features(rows: np.ndarray, present: np.ndarray | None = None, modality: str = "text") -> Features:
    here = np.ones(len(rows), dtype=bool) if present is None else present
    return Features(modality=modality, encoder="planted", matrix=rows, present=here)


SMALL = TokenizerSettings(
    codebook_size=8, levels=2, latent=8, hidden=(16,), input_dim=None, epochs=60, batch_size=128, learning_rate=3e-3
)


def changed(**values: Any) -> TokenizerSettings:
    return SMALL.model_copy(update=values)


def trained(
    rows: np.ndarray | dict[str, Features], settings: TokenizerSettings = SMALL, seed: int = 0
) -> tuple[dict[str, RQVAE], dict[str, pd.DataFrame]]:
    """Pretrained tokenizers, and their losses; of texts, where rows are given."""
    given_features = rows if isinstance(rows, dict) else {"text": features(rows)}
    items = len(next(iter(given_features.values())).present)
    tokenizers = new_tokenizers(settings, given_features, seed, "planted")
    return tokenizers, pretrain(tokenizers, given_features, np.ones(items, np.float32), seed, "planted")


def precise_codes(tokenizer: RQVAE, rows: np.ndarray) -> np.ndarray:
    return tokenizer.codes(tokenizer.prepare(rows, torch.float64)).numpy()


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
    @pytest.mark.parametrize(
        "variant",
        [
            {},
            {"learning": "ema", "ema_decay": 0.9},
            {"init": "hierarchical", "estimator": "rotation"},
            {"init": "data", "distance": "cosine"},
            {"distance": "cosine", "learning": "ema", "ema_decay": 0.9, "estimator": "rotation"},
            {"hidden": (16, 12, 10), "epochs": 60},
            {"hidden": (), "epochs": 60},
        ],
        ids=str,
    )
    def test_planted_groups_become_tokens_and_all_codes_are_used(self, variant: dict[str, Any]) -> None:
        rows, members = planted()
        tokenizers, histories = trained(rows, changed(**{"epochs": 40} | variant))
        tokenizer, history = tokenizers["text"], histories["text"]
        codes = precise_codes(tokenizer, rows)
        # Items of one group share their first token: no token mixes groups much.
        purity = sum(np.bincount(members[codes[:, 0] == code]).max() for code in np.unique(codes[:, 0])) / len(rows)
        assert purity > 0.85
        assert (usage(codes, 8)[0] > 0).mean() > 0.8
        assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 2
        inputs = tokenizer.prepare(rows)
        with torch.no_grad():
            error = (inputs - tokenizer.decoder(tokenizer.eval()(inputs).latent)).square().mean()
        assert error / inputs.square().mean() < 0.15

    def test_the_same_bytes_twice_and_others_with_another_seed(self) -> None:
        rows, _ = planted(n=100)

        def train(seed: int) -> torch.Tensor:
            tokenizer = trained(rows, seed=seed)[0]["text"]
            assert tokenizer.quantizer is not None
            return tokenizer.quantizer.codebooks.detach()

        assert torch.equal(train(1), train(1))
        assert not torch.equal(train(1), train(2))

    def test_weights_say_whose_loss_counts(self) -> None:
        rows, _ = planted(n=4)
        tokenizer = new_tokenizers(SMALL, {"text": features(rows)}, 0, "planted")["text"]
        result = tokenizer(tokenizer.prepare(rows))
        only_first = result.loss(torch.tensor([4.0, 0.0, 0.0, 0.0]))
        torch.testing.assert_close(only_first, result.per_item[0] + result.sparsity)

    @pytest.mark.parametrize("learning", get_args(Learning))
    def test_loss_of_an_item_by_hand(self, learning: str) -> None:
        rows, _ = planted(n=20)
        settings = changed(learning=learning, commitment=0.25, sparsity=0.0)
        tokenizer = new_tokenizers(settings, {"text": features(rows)}, 0, "planted")["text"].eval()
        inputs = tokenizer.prepare(rows)
        result, z = tokenizer(inputs), tokenizer.encoder(inputs)
        gap = (z - tokenizer.quantizer.look_up(result.codes)).square().mean(1)
        rebuilt = (inputs - tokenizer.decoder(result.latent)).square().mean(1)
        # No codebook loss where a moving average does its work.
        factor = 1.25 if learning == "gradient" else 0.25
        torch.testing.assert_close(result.per_item, rebuilt + factor * gap)

    def test_absent_items_do_not_shape_the_tokenizer(self) -> None:
        rows, _ = planted(n=60)
        present = np.arange(60) < 50
        other = rows.copy()
        other[50:] = np.nan
        states = [trained({"text": features(one, present)})[0]["text"].state_dict() for one in (rows, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_continuous_ablation_has_no_codes(self) -> None:
        rows, _ = planted(n=30)
        tokenizer = trained(rows, changed(quantize=False, shared=True))[0]["text"]
        result = tokenizer(tokenizer.prepare(rows))
        assert result.codes is None
        torch.testing.assert_close(result.latent, tokenizer.encoder(tokenizer.prepare(rows)))
        with pytest.raises(ValueError, match="no codes"):
            tokenizer.codes(tokenizer.prepare(rows))
        assert set(health(tokenizer, rows)) == {"explained", "kept_neighbours"}

    @pytest.mark.parametrize("distance", get_args(Distance))
    def test_codes_are_the_same_whatever_the_batch(self, distance: str) -> None:
        """Every row lies almost in the middle of two codes: single precision could not tell them apart."""
        rows = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
        settings = changed(distance=distance, codebook_size=120, levels=1)
        tokenizer = new_tokenizers(settings, {"text": features(rows)}, 0, "planted")["text"]
        with torch.no_grad():
            z = tokenizer.encoder(tokenizer.prepare(rows))
            aside = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)) * 0.01
            aside -= z * (aside * z).sum(1, keepdim=True) / z.square().sum(1, keepdim=True)  # as far by angle, too
            tokenizer.quantizer.codebooks[0] = torch.cat([z + aside, z - aside])
        everything = precise_codes(tokenizer, rows)
        assert (everything[:, 0] % 60 == np.arange(60)).all()
        for size in (1, 7):
            parts = [precise_codes(tokenizer, rows[start : start + size]) for start in range(0, 60, size)]
            assert (np.concatenate(parts) == everything).all()
        # What models ask for are these codes, too.
        assert (item_codes(tokenizer, features(rows)) == everything).all()
        assert (CodeChannel(features(rows), tokenizer, 1.0, None).codes.numpy() == everything).all()

    @pytest.mark.parametrize("distance", get_args(Distance))
    def test_codes_are_the_same_whatever_the_batch_with_fewer_items_than_codes(self, distance: str) -> None:
        """Revived codes then lie on one and the same row, and rounding must not choose between them."""
        rows = np.random.default_rng(0).normal(size=(10, 24)).astype(np.float32)
        settings = changed(distance=distance, codebook_size=128, levels=3, epochs=8, batch_size=16, hidden=(32,))
        tokenizer = trained(rows, settings)[0]["text"]
        assert tokenizer.quantizer is not None
        distinct = [len(torch.unique(codebook, dim=0)) for codebook in tokenizer.quantizer.codebooks]
        assert min(distinct) < 128
        alone = [precise_codes(tokenizer, rows[item : item + 1]) for item in range(10)]
        assert (np.concatenate(alone) == precise_codes(tokenizer, rows)).all()

    def test_the_sparsity_term_is_gammas_share_of_the_soft_usages(self) -> None:
        rows, _ = planted()
        tokenizer = trained(rows, changed(sparsity=0.3, rho=0.4, temperature=0.7, epochs=4))[0]["text"]
        inputs = tokenizer.prepare(rows)
        assert tokenizer.quantizer is not None
        distances = tokenizer.quantizer(tokenizer.encoder(inputs)).distances
        expected = 0.3 * sparsity_loss(soft_usage(distances, 0.7), 0.4)
        assert expected.item() > 0.1
        torch.testing.assert_close(tokenizer(inputs).sparsity, expected)

    @pytest.mark.parametrize(
        "other", [{"sparsity": 0.0}, {"rho": 0.9}, {"temperature": 2.0}, {"commitment": 2.0}, {"revive": False}]
    )
    def test_pretraining_heeds_its_settings(self, other: dict[str, Any]) -> None:
        base = {"init": "random", "epochs": 12, "codebook_size": 32}  # from noise, most codes die at first
        rows, _ = planted(100)
        one, two = (trained(rows, changed(**base, **more))[0]["text"].quantizer for more in ({}, other))
        assert one is not None
        assert two is not None
        assert not torch.equal(one.codebooks, two.codebooks)

    def test_pretraining_heeds_the_rarity_weights(self) -> None:
        """Two groups of items, of which one counts for next to nothing: it is rebuilt worse."""
        rows, members = planted(200, groups=2)
        errors = []
        for heard in (0, 1):
            weights = np.where(members == heard, 1.0, 1e-3).astype(np.float32)
            given_features = {"text": features(rows)}
            tokenizers = new_tokenizers(changed(epochs=10), given_features, 0, "planted")
            pretrain(tokenizers, given_features, weights, 0, "planted")
            found = tokenizers["text"](tokenizers["text"].prepare(rows)).per_item.detach().numpy()
            errors.append(found[members == 0].mean())
        assert errors[0] < errors[1]

    @pytest.mark.parametrize("key", ["distance", "learning", "init", "estimator"])
    def test_a_wrong_choice_names_the_right_ones(self, key: str) -> None:
        with pytest.raises(ValidationError, match="Input should be"):
            TokenizerSettings.model_validate({key: "nonsense"})

    def test_params_and_defaults_hold_every_setting(self) -> None:
        known = set(config.load_tokenizer()) | {"quantize"}
        assert known == set(TokenizerSettings.model_fields)


def two_modalities(n: int = 120) -> dict[str, Features]:
    rows, _ = planted(n)
    picture, _ = planted(n, seed=1)
    return {"text": features(rows), "image": features(picture[:, :10], np.arange(n) % 3 > 0, "image")}


class TestShared:
    settings = changed(shared=True, epochs=40, batch_size=32, codebook_size=16)

    def test_one_cascade_for_all_that_both_learn(self) -> None:
        given_features = two_modalities()
        tokenizers, histories = trained(given_features, self.settings)
        image, text = tokenizers["image"], tokenizers["text"]
        assert list(tokenizers) == ["image", "text"]
        assert image.quantizer is text.quantizer
        for modality, tokenizer in tokenizers.items():
            rows = given_features[modality].matrix[given_features[modality].present]
            assert health(tokenizer, rows)["explained"] > 0.5
            assert histories[modality]["loss"].iloc[-1] < histories[modality]["loss"].iloc[0]
        assert histories["image"]["dead"].equals(histories["text"]["dead"])

    def test_codes_are_placed_on_the_rows_of_all_modalities(self) -> None:
        tokenizers, _ = trained(two_modalities(), changed(shared=True, epochs=1, warmup=0.0, learning_rate=1e-9))
        used = [
            set(precise_codes(tokenizers[modality], one.matrix[one.present])[:, 0].tolist())
            for modality, one in two_modalities().items()
        ]
        assert used[0] | used[1] == set(range(8))
        # Untrained encoders put the two apart: neither alone would have had these codes.
        assert all(len(one) < 8 for one in used)

    @pytest.mark.parametrize("learning", get_args(Learning))
    def test_parameters_and_state_hold_it_once(self, learning: str, tmp_path: Path) -> None:
        settings = self.settings.model_copy(update={"learning": learning, "epochs": 2})
        tokenizers, _ = trained(two_modalities(), settings)
        both = torch.nn.ModuleDict(tokenizers)
        assert sum("codebooks" in name for name, _ in both.named_parameters(remove_duplicate=False)) == 1
        save_file(both.state_dict(), tmp_path / "state.safetensors")  # refuses tensors that share memory
        other = torch.nn.ModuleDict(new_tokenizers(settings, two_modalities(), 9, "planted"))
        other.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(other["text"].quantizer.codebooks, tokenizers["text"].quantizer.codebooks)
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), both.parameters(), strict=True))

    def test_saved_and_loaded_together_only(self, project: Path) -> None:
        tokenizers, histories = trained(two_modalities(), self.settings)
        folder = paths.tokens("planted", 0)
        save_tokenizers(folder, tokenizers, histories, {})
        again = new_tokenizers(self.settings, two_modalities(), 9, "planted")
        assert load_tokenizers(folder, again)
        for modality, one in two_modalities().items():
            rows = one.matrix[one.present]
            assert (precise_codes(again[modality], rows) == precise_codes(tokenizers[modality], rows)).all()
        alone = new_tokenizers(self.settings, {"text": two_modalities()["text"]}, 0, "planted")
        before = alone["text"].quantizer.codebooks.clone()
        assert not load_tokenizers(folder, alone)
        assert torch.equal(alone["text"].quantizer.codebooks, before)

    def test_one_modality_alone_is_as_if_nothing_were_shared(self) -> None:
        rows, _ = planted(n=60)
        states = [trained(rows, changed(shared=shared, epochs=4))[0]["text"].state_dict() for shared in (False, True)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class TestSaved:
    def test_loaded_only_by_the_same_settings(self, project: Path) -> None:
        rows, _ = planted(n=60)
        tokenizers, histories = trained(rows)
        folder = paths.tokens("planted", 0)
        save_tokenizers(folder, tokenizers, histories, {"text": health(tokenizers["text"], rows)})
        again = new_tokenizers(SMALL, {"text": features(rows)}, 99, "planted")
        assert load_tokenizers(folder, again)
        pairs = zip(again["text"].parameters(), tokenizers["text"].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        for change in ({"sparsity": 0.0}, {"distance": "cosine"}, {"learning": "ema"}):
            assert not load_tokenizers(
                folder, new_tokenizers(changed(**change), {"text": features(rows)}, 0, "planted")
            )

    def test_a_moving_average_goes_on_where_it_was(self, project: Path) -> None:
        rows, _ = planted(n=60)
        settings = changed(learning="ema", epochs=4)
        tokenizers, histories = trained(rows, settings)
        save_tokenizers(paths.tokens("planted", 0), tokenizers, histories, {})
        again = new_tokenizers(settings, {"text": features(rows)}, 99, "planted")
        assert load_tokenizers(paths.tokens("planted", 0), again)
        for one in (tokenizers, again):
            one["text"](one["text"].prepare(rows))
        assert torch.equal(again["text"].quantizer.codebooks, tokenizers["text"].quantizer.codebooks)

    def test_settings_from_before_a_setting_existed_count_as_defaults(self, project: Path) -> None:
        rows, _ = planted(n=60)
        tokenizers, histories = trained(rows, changed(epochs=2))
        folder = paths.tokens("planted", 0)
        save_tokenizers(folder, tokenizers, histories, {})
        about = json.loads((folder / "text.json").read_text())
        del about["shared"], about["distance"]
        (folder / "text.json").write_text(json.dumps(about))
        assert load_tokenizers(folder, new_tokenizers(changed(epochs=2), {"text": features(rows)}, 9, "planted"))
        (folder / "text.json").write_text(json.dumps(about | {"of_old": 1}))
        assert not load_tokenizers(folder, new_tokenizers(changed(epochs=2), {"text": features(rows)}, 9, "planted"))

    def test_a_missing_modality_is_named(self, project: Path) -> None:
        tokenizers = new_tokenizers(SMALL, two_modalities(), 0, "planted")
        with pytest.raises(DataError, match=r"image\.safetensors is missing\. Run the tokenizer stage"):
            load_tokenizers(paths.tokens("planted", 0), tokenizers)

    def test_health_is_written_with_null_for_what_has_no_value(self, project: Path) -> None:
        folder = paths.tokens("planted", 0)
        save_tokenizers(folder, {}, {}, {"text": {"used/1": 1 / 3, "explained": float("nan")}})
        assert json.loads((folder / "health.json").read_text()) == {"text": {"used/1": 0.333333, "explained": None}}


class TestHealth:
    def test_perplexity_of_even_and_single_use(self) -> None:
        codes = np.array([[0, 0], [1, 0], [2, 0], [3, 0]])
        np.testing.assert_allclose(perplexity(usage(codes, 4)), [4.0, 1.0])

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
    def test_perplexity_lies_between_one_and_the_codes_in_use(self, chosen: list[int]) -> None:
        effective = perplexity(usage(np.array(chosen)[:, None], 6))[0]
        assert 1 - 1e-9 <= effective <= len(set(chosen)) + 1e-9

    def test_collisions_count_whole_tuples(self) -> None:
        assert collisions(np.array([[0, 1], [0, 1], [0, 2], [1, 1]])) == 0.5

    def test_neighbours_are_kept_by_a_rotation_and_lost_by_noise(self) -> None:
        generator = np.random.default_rng(0)
        rows = generator.normal(size=(60, 8))
        rotation = np.linalg.qr(generator.normal(size=(8, 8)))[0]
        assert kept_neighbours(rows, rows @ rotation) == 1.0
        assert kept_neighbours(rows, generator.normal(size=(60, 8))) < 0.35

    def test_levels_add_up_to_the_totals(self) -> None:
        rows = planted(seed=2)[0] + np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
        tokenizer = trained(rows, changed(levels=3))[0]["text"]
        figures = health(tokenizer, rows)
        for measure in ("collisions", "explained", "kept_neighbours"):
            assert figures[measure] == figures[f"{measure}/3"]
        by_measure = {name: [figures[f"{name}/{level}"] for level in (1, 2, 3)] for name in ("explained", "collisions")}
        assert by_measure["explained"][0] < by_measure["explained"][1] < by_measure["explained"][2]
        assert by_measure["collisions"][0] > by_measure["collisions"][1] > by_measure["collisions"][2]
        codes = precise_codes(tokenizer, rows)
        assert figures["collisions/2"] == collisions(codes[:, :2])
        assert figures["perplexity/2"] == perplexity(usage(codes, 8))[1]
        # The first level alone, by hand.
        inputs = tokenizer.prepare(rows)
        with torch.no_grad():
            rebuilt = tokenizer.decoder(tokenizer.quantizer.codebooks[0][codes[:, 0]])
        share = 1 - ((inputs - rebuilt).square().sum() / (inputs - inputs.mean(0)).square().sum()).item()
        assert figures["explained/1"] == pytest.approx(share, abs=1e-5)

    def test_as_a_table(self) -> None:
        table = by_level(
            {"text": {"used/1": 0.5, "used/2": 1.0, "collisions/1": 0.2, "collisions/2": 0.1, "explained": 1.0}}
        )
        assert table.index.tolist() == [("text", 1), ("text", 2)]
        assert table.loc[("text", 2)].to_dict() == {"used": 1.0, "collisions": 0.1}


VARIANTS = [
    {},
    {"learning": "ema", "estimator": "rotation", "shared": True},
    {"distance": "cosine", "init": "hierarchical", "estimator": "rotation"},
    {"distance": "cosine", "init": "data", "learning": "ema", "shared": True},
    {"init": "random", "learning": "ema", "revive": False},
    {"init": "hierarchical", "warmup": 0.0},
]
ROWS, _ = planted(n=40)
ALIKE = np.tile(ROWS[:1], (40, 1))
ODD = {
    "constant rows": {"text": features(np.full((20, 6), 0.3, dtype=np.float32))},
    "a constant column": {"text": features(np.hstack([ROWS, np.ones((40, 1), np.float32)]))},
    "duplicate rows": {"text": features(np.repeat(ROWS[:4], 10, axis=0))},
    "all rows alike": {"text": features(ALIKE), "image": features(ROWS, modality="image")},
    "fewer items than codes": {"text": features(ROWS[:3])},
    "one item": {"text": features(ROWS[:1]), "image": features(ROWS[:1], modality="image")},
    "one number per item": {"text": features(ROWS[:, :1])},
    "an item without any modality": {
        "text": features(ROWS, np.arange(40) > 0),
        "image": features(ROWS, np.arange(40) > 1, "image"),
    },
    "a modality of one item": {"text": features(ROWS), "image": features(ROWS, np.arange(40) == 7, "image")},
}


class TestBadInput:
    @pytest.mark.parametrize("variant", VARIANTS, ids=str)
    @pytest.mark.parametrize("name", ODD)
    def test_odd_features_work(self, name: str, variant: dict[str, Any]) -> None:
        tokenizers, histories = trained(ODD[name], changed(epochs=3, batch_size=8, **{"warmup": 0.34} | variant))
        for modality, tokenizer in tokenizers.items():
            rows = ODD[name][modality].matrix[ODD[name][modality].present]
            assert np.isfinite(histories[modality]["loss"]).all()
            assert all(torch.isfinite(value).all() for value in tokenizer.state_dict().values())
            codes, figures = precise_codes(tokenizer, rows), health(tokenizer, rows)
            assert codes.shape == (len(rows), 2)
            _, same = np.unique(rows, axis=0, return_inverse=True)
            assert len(np.unique(np.column_stack([same.ravel(), codes]), axis=0)) == same.max() + 1  # a code per row
            undefined = {key for key, value in figures.items() if np.isnan(value)}
            assert undefined == ({"explained/1", "explained/2", "explained"} if same.max() == 0 else set())

    @pytest.mark.parametrize("variant", VARIANTS, ids=str)
    @pytest.mark.parametrize("size", [{"codebook_size": 1}, {"levels": 1}, {"codebook_size": 1, "levels": 1}], ids=str)
    def test_one_code_and_one_level(self, size: dict[str, int], variant: dict[str, Any]) -> None:
        settings = changed(epochs=4, **variant, **size)
        tokenizer = trained(ROWS, settings)[0]["text"]
        codes = precise_codes(tokenizer, ROWS)
        assert codes.shape == (40, settings.levels)
        assert codes.max() == 0 if settings.codebook_size == 1 else codes.max() > 0
        assert all(np.isfinite(value) for value in health(tokenizer, ROWS).values())

    def test_a_value_that_is_no_number_is_named(self) -> None:
        rows = ROWS.copy()
        rows[5, 2], rows[8, 0] = np.nan, np.inf
        with pytest.raises(DataError, match=r"shop: the text features: .* at item row 5 and 1 more\. Run the features"):
            new_tokenizers(SMALL, {"text": features(rows)}, 0, "shop")

    def test_a_modality_that_nobody_has_is_named(self) -> None:
        with pytest.raises(DataError, match="shop: the image features: no item has any"):
            new_tokenizers(SMALL, {"image": features(ROWS, np.zeros(40, dtype=bool), "image")}, 0, "shop")


TINY = {"codebook_size": 4, "levels": 2, "latent": 16, "hidden": [16], "input_dim": None, "epochs": 4}


def in_the_model(**tokenizer: Any) -> MoToRec:
    values = {"dim": 16, "tokenizer": TINY | tokenizer}
    choice = ModelChoice(name="motorec", title="x", kind="motorec", settings=values, training=TrainingSettings())
    made = build(choice, planted_inputs(planted_dataset()))
    assert isinstance(made, MoToRec)
    return made


class TestInTheModel:
    @pytest.mark.parametrize("shared", [False, True])
    def test_a_moving_average_goes_on_in_joint_training(self, shared: bool, project: Path) -> None:
        made = in_the_model(learning="ema", shared=shared)
        books = [channel.tokenizer.quantizer.codebooks for channel in made.channels]
        before = [book.clone() for book in books]
        made.freeze()
        assert all(torch.equal(*pair) for pair in zip(books, before, strict=True))  # scoring moves nothing
        made.train()
        made.start_epoch(torch.Generator().manual_seed(0))
        terms = made.losses(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3]))
        torch.stack(list(terms.values())).sum().backward()
        assert not any(torch.equal(*pair) for pair in zip(books, before, strict=True))
        assert all(book.grad is None for book in books)

    @pytest.mark.parametrize("estimator", get_args(Estimator))
    def test_one_codebook_in_a_model_of_two_modalities(self, estimator: str, project: Path) -> None:
        made, apart = in_the_model(shared=True, estimator=estimator), in_the_model(estimator=estimator)
        one, two = (channel.tokenizer.quantizer for channel in made.channels)
        assert one is two
        assert apart.n_parameters - made.n_parameters == 2 * 4 * 16
        terms = made.losses(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3]))
        torch.stack(list(terms.values())).sum().backward()
        assert one.codebooks.grad.abs().sum() > 0
        state = {name: value.clone() for name, value in made.state_dict().items()}
        save_file(made.state_dict(), project / "model.safetensors")
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.zero_()
        made.load_state_dict(load_file(project / "model.safetensors"))
        assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())

    @pytest.mark.parametrize("init", get_args(Init))
    def test_every_start_builds(self, init: str, project: Path) -> None:
        made = in_the_model(init=init)
        made.freeze()
        assert torch.isfinite(made.score(np.arange(3))).all()

    def test_an_item_without_any_modality_is_zero_in_every_channel(self, project: Path) -> None:
        inputs = planted_inputs(planted_dataset())
        gone = {
            name: dataclasses.replace(one, present=np.arange(len(one.present)) != 3)
            for name, one in inputs.features.items()
        }
        choice = ModelChoice(
            name="motorec",
            title="x",
            kind="motorec",
            settings={"dim": 16, "tokenizer": TINY},
            training=TrainingSettings(),
        )
        made = build(choice, dataclasses.replace(inputs, features=gone))
        assert isinstance(made, MoToRec)
        for channel in made.channels:
            items, _ = channel()
            assert (items[3] == 0).all()
            assert (items[4] != 0).any()
        made.freeze()
        assert torch.isfinite(made.score(np.arange(3))).all()
