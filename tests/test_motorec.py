"""MoToRec: each of its choices does what it says, by hand where that is possible, and finds what was planted."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import (
    TINY_TOKENIZER,
    groups_found,
    noisy_dataset,
    noisy_features,
    planted_dataset,
    planted_inputs,
    train_on,
    untrained,
)
from scipy import sparse
from torch.nn import functional

from motorec.config import ModelChoice, load_ablations, load_model
from motorec.errors import DataError, ParamsError
from motorec.features import Features
from motorec.models import Inputs, build
from motorec.models.augment import Interactions, masked, noisy
from motorec.models.channels import CodeChannel, ContentChannel
from motorec.models.fusion import (
    FUSIONS,
    AttentionFusion,
    Channels,
    CollaborativeOnly,
    ConcatFusion,
    Fusion,
    GatedFusion,
    HybridFusion,
    SumFusion,
)
from motorec.models.itemlinks import item_links, shared_codes
from motorec.models.motorec import MoToRec
from motorec.models.softmax import sampled_softmax_loss, softmax_loss
from motorec.models.tokenbridge import TokenBridge
from motorec.seeding import torch_generator

TRAINING = planted.TRAINING.model_copy(update={"epochs": 15, "batch_size": 256})

DATASET = planted_dataset()
NEW = np.flatnonzero(DATASET.item_degrees() == 0)
GROUPS = DATASET.items["group"].astype(int).to_numpy()

# The settings that change what a model is, one at a time. All of them carry content to a new item.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "concat": {"fusion": "concat"},
    "attention": {"fusion": "attention"},
    "sum": {"fusion": "sum"},
    "gated": {"fusion": "gated"},
    "softmax": {"loss": "softmax"},
    "sampled softmax": {"loss": "sampled_softmax"},
    "noise": {"augmentation": "noise"},
    "edge dropout": {"augmentation": "edge_dropout", "edge_dropout": 0.3},
    "learned users": {"content_users": "learned"},
    "leave one out": {"content_users": "leave_one_out"},
    "two stages": {"stages": "two_stage"},
    "graph of features": {"item_graph": "features", "item_neighbours": 5},
    "graph of latents": {"item_graph": "latent", "item_neighbours": 5, "loss": "sampled_softmax"},
    "graph of codes": {"item_graph": "codes", "item_neighbours": 5, "loss": "softmax"},
    "graph without tokens": {"item_graph": "features", "item_neighbours": 5, "item_layers": 2, "tokens": False},
}


def choice(**settings: Any) -> ModelChoice:
    tokenizer = TINY_TOKENIZER | settings.pop("tokenizer", {})
    settings = {"dim": 16, **settings, "tokenizer": tokenizer}
    return ModelChoice(name="motorec", title="MoToRec", kind="motorec", settings=settings, training=TRAINING)


def make(inputs: Inputs | None = None, **settings: Any) -> MoToRec:
    """An untrained model, its tokenizers hardly pretrained unless the settings say so."""
    settings["tokenizer"] = {"epochs": 2} | settings.get("tokenizer", {})
    made = build(choice(**settings), planted_inputs(DATASET) if inputs is None else inputs)
    assert isinstance(made, MoToRec)
    return made


def pairs(n: int, inputs: Inputs | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n training pairs from here and there, each with some item that nobody has taken."""
    train = (planted_inputs(DATASET) if inputs is None else inputs).train.tocoo()
    some = np.random.default_rng(0).permutation(train.nnz)[:n]
    users, items = (torch.from_numpy(side[some].astype(np.int64)) for side in (train.row, train.col))
    return users, items, torch.full_like(users, train.shape[1] - 1)


def step(made: MoToRec, n: int = 40, inputs: Inputs | None = None) -> dict[str, torch.Tensor]:
    """The losses of a batch, after their gradients turned out to be finite."""
    made.train()
    made.start_epoch(torch_generator(1, "augmentation"))
    terms = made.losses(*pairs(n, inputs))
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(term) for term in terms.values())
    return terms


def with_gaps(**absent: list[int]) -> Inputs:
    """Planted inputs whose named items lack a modality."""
    inputs = planted_inputs(DATASET)
    features = {}
    for name, feature in inputs.features.items():
        present = feature.present.copy()
        present[absent.get(name, [])] = False
        features[name] = dataclasses.replace(feature, present=present, matrix=feature.matrix * present[:, None])
    return dataclasses.replace(inputs, features=features)


class TestAllVariants:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_learns_the_users_group_where_noise_hides_it(self, name: str, project: Path) -> None:
        dataset = noisy_dataset()
        inputs = Inputs("planted", 1, dataset.matrix("train"), noisy_features(dataset))
        before, made = (build(choice(**VARIANTS[name]), inputs) for _ in range(2))
        assert isinstance(before, MoToRec)
        assert isinstance(made, MoToRec)
        train_on(dataset, inputs, made, TRAINING.model_copy(update={"epochs": 20}), project / "scratch")
        # By chance a quarter of a list is of the user's group.
        assert groups_found(untrained(before), dataset, inputs)[0] < 0.4
        assert groups_found(made, dataset, inputs)[0] > 0.7

    @pytest.mark.parametrize("name", VARIANTS)
    def test_carries_content_to_new_items(self, name: str, project: Path) -> None:
        made = build(choice(**VARIANTS[name]), planted_inputs(DATASET))
        assert isinstance(made, MoToRec)
        train_on(DATASET, planted_inputs(DATASET), made, TRAINING, project / "scratch")
        assert min(groups_found(made, DATASET, planted_inputs(DATASET))) > 0.9

    @pytest.mark.parametrize("name", VARIANTS)
    def test_a_step_moves_what_it_should(self, name: str, project: Path) -> None:
        settings = VARIANTS[name]
        made = make(**settings)
        terms = step(made)
        joint = settings.get("tokens", True) and settings.get("stages", "joint") == "joint"
        assert list(terms) == [settings.get("loss", "bpr"), "infonce", *(["tokenizer"] if joint else []), "l2"]
        learned = {key for key, value in made.named_parameters() if value.grad is not None and value.grad.any()}
        assert {"users", "items"} <= learned
        assert any("encoder" in key for key in learned) == joint
        assert any("tables" in key for key in learned) == (name == "two stages")

    @pytest.mark.parametrize("name", VARIANTS)
    def test_scores_are_the_same_whenever_and_however_often_they_are_looked_at(self, name: str, project: Path) -> None:
        """Evaluation sees no augmentation, no hidden interactions, and draws nothing."""
        made = make(**VARIANTS[name])
        made.eval()
        with torch.no_grad():
            before = made.embeddings()
        made.train()
        made.start_epoch(torch_generator(1, "augmentation"))
        made.losses(*pairs(40))
        state = made.noise.get_state()
        for _ in range(2):
            made.freeze()
            assert made._final is not None
            assert all(torch.equal(one, two) for one, two in zip(before, made._final, strict=True))
        assert torch.equal(state, made.noise.get_state())

    @pytest.mark.parametrize("name", VARIANTS)
    def test_lean_data_are_no_trouble(self, name: str, project: Path) -> None:
        """A batch of one; K = 1 and one level; one modality; an item without any; nobody warm, or all; nobody new."""
        settings = VARIANTS[name]
        assert all(torch.isfinite(term) for term in step(make(**settings), 1).values())
        tiny = {"codebook_size": 1, "levels": 1}
        gaps = with_gaps(image=[0, 1], text=[0])
        step(make(gaps, **settings, tokenizer=tiny), inputs=gaps)
        alone = planted_inputs(DATASET, ("text",))
        taken = alone.train.tolil()
        taken[: len(NEW), NEW] = np.eye(len(NEW))
        nobody_new = dataclasses.replace(alone, train=taken.tocsr().astype(np.float32))
        assert nobody_new.degrees.min() > 0
        for inputs, tau in ((alone, 0), (alone, 1), (alone, 10_000), (nobody_new, 1)):
            made = make(dataclasses.replace(inputs, cold_below=tau), **settings)
            step(made, inputs=inputs)
            made.freeze()
            assert torch.isfinite(made.score(np.arange(5))).all()


class TestAblations:
    def test_every_entry_of_params_builds_and_trains_a_step(self, project: Path) -> None:
        inputs = planted_inputs(DATASET)
        seen = {}
        for name in ["motorec", *(name for name, entry in load_ablations().items() if entry.base == "motorec")]:
            resolved = load_model(name, "planted")
            tokenizer = TINY_TOKENIZER | {"epochs": 2} | resolved.settings["tokenizer"]
            small = resolved.settings | {"dim": 16, "tokenizer": tokenizer}
            made = build(resolved.model_copy(update={"settings": small}), inputs)
            assert isinstance(made, MoToRec)
            seen[name] = (made, step(made))
        full, losses = seen.pop("motorec")
        # None is the full model under another name.
        assert not [name for name, (_, terms) in seen.items() if terms == losses]
        assert {name for name, (made, _) in seen.items() if not torch.equal(made.rarity, full.rarity)} == {
            "motorec-no-ara",
            "motorec-literal-ara",
        }
        assert {name for name, (_, terms) in seen.items() if "infonce" not in terms} == {"motorec-no-contrastive"}
        assert {name for name, (_, terms) in seen.items() if "bpr" not in terms} == {
            "motorec-softmax",
            "motorec-sampled-softmax",
        }
        assert {name for name, (made, _) in seen.items() if not isinstance(made.fusion, HybridFusion)} == {
            "motorec-no-hybrid",
            "motorec-no-rqvae-no-hybrid",
            "motorec-concat",
            "motorec-attention",
            "motorec-gated",
            "motorec-item-graph-no-tokens",
        }

    @pytest.mark.parametrize(
        ("base", "other"),
        [
            ({}, {"alpha": 0.9}),
            ({}, {"layers": 1}),
            ({}, {"content_scale": 3.0}),
            ({}, {"contrastive": 0.5}),
            ({}, {"contrastive_temperature": 0.1}),
            ({}, {"contrastive_nodes": 3}),
            ({}, {"mask": 0.7}),
            ({}, {"tokenizer_weight": 0.7}),
            ({}, {"l2": 0.1}),
            ({}, {"tokenizer": {"sparsity": 1.0}}),
            ({}, {"tokenizer": {"rho": 0.9}}),
            ({}, {"tokenizer": {"temperature": 2.0}}),
            ({}, {"tokenizer": {"rarity": "off"}}),
            ({"augmentation": "noise"}, {"noise_norm": 2.0}),
            ({"augmentation": "edge_dropout"}, {"edge_dropout": 0.5}),
            ({"loss": "softmax"}, {"loss_temperature": 0.2}),
            ({"item_graph": "features"}, {"item_neighbours": 3}),
            ({"item_graph": "features"}, {"item_layers": 2}),
            ({"item_graph": "features"}, {"item_weight": 0.3}),
        ],
        ids=str,
    )
    def test_every_setting_changes_what_a_step_learns_from(
        self, base: dict[str, Any], other: dict[str, Any], project: Path
    ) -> None:
        one, two = step(make(**base)), step(make(**base, **other))
        assert any(not torch.equal(one[term], two[term]) for term in one)

    def test_every_entry_of_tokenbridge_builds_and_scores(self, project: Path) -> None:
        inputs, few = planted_inputs(DATASET), {"members": 1, "codebook_sizes": [4], "levels": 2}
        (project / "params" / "tokenize.yaml").write_text(yaml.safe_dump(TINY_TOKENIZER | {"epochs": 2}))
        entries = [name for name, entry in load_ablations().items() if entry.base == "tokenbridge"]
        assert len(entries) > 10
        for name in entries:
            resolved = load_model(name, "planted")
            small = resolved.model_copy(update={"settings": resolved.settings | {"committee": few}})
            made = build(small, inputs)
            assert isinstance(made, TokenBridge)
            loss = made.losses(*pairs(40))["softmax"]
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(made.score(np.arange(5))).all()

    def test_titles_tell_them_apart(self) -> None:
        titles = [entry.title for entry in load_ablations().values()]
        assert len(set(titles)) == len(titles)


class TestModel:
    @pytest.mark.parametrize("modalities", [("text",), ("image",), ("audio", "image", "text")])
    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_any_number_of_modalities(self, fusion: str, modalities: tuple[str, ...], project: Path) -> None:
        made = make(planted_inputs(DATASET, modalities), fusion=fusion)
        made.freeze()
        assert made.score(np.array([0, 5])).shape == (2, DATASET.n_items)

    @pytest.mark.parametrize("settings", [{}, {"tokens": False}])
    def test_no_modality_is_an_error(self, settings: dict[str, Any], project: Path) -> None:
        with pytest.raises(DataError, match="neither texts nor pictures"):
            make(planted_inputs(DATASET, ()), **settings)

    def test_latent_must_equal_dim(self, project: Path) -> None:
        with pytest.raises(ParamsError, match="latent is 8, but the model's dim is 16"):
            make(tokenizer={"latent": 8})

    @pytest.mark.parametrize("settings", [{"stages": "two_stage"}, {"item_graph": "codes"}])
    def test_what_is_made_of_codes_needs_codes(self, settings: dict[str, Any], project: Path) -> None:
        ((key, value),) = settings.items()
        with pytest.raises(ParamsError, match=f"{key} is '{value}', which needs codes"):
            make(**settings, tokenizer={"quantize": False})
        make(tokens=False, item_graph="features", stages="two_stage", tokenizer={"quantize": False})  # nobody asks

    def test_a_choice_that_does_not_exist_is_told(self, project: Path) -> None:
        with pytest.raises(ParamsError, match=r"'item_graph' is 'feature'.*'features'"):
            make(item_graph="feature")

    def test_an_item_without_a_picture_lives_on_its_text(self, project: Path) -> None:
        made = make(with_gaps(image=list(range(10))))
        channel = made.channels[0]
        assert isinstance(channel, ContentChannel)
        items, _ = channel()
        assert (items[:10] == 0).all()
        assert (items[10:].abs().sum(1) > 0).all()
        made.freeze()
        assert torch.isfinite(made.score(np.arange(4))).all()

    def test_tokenizer_loss_counts_only_the_batchs_items_by_rarity(self, project: Path) -> None:
        made = make()
        channel = made.channels[0]
        assert isinstance(channel, ContentChannel)
        _, result = channel()
        rows = torch.tensor([3, 7])
        by_hand = (made.rarity[rows] * (result.per_item[rows] + result.sparsity)).mean()
        torch.testing.assert_close(channel.loss(result, rows, made.rarity), by_hand)

    def test_the_weights_of_the_losses_are_factors(self, project: Path) -> None:
        def terms(**weights: float) -> dict[str, float]:
            return {name: term.item() for name, term in step(make(**weights)).items()}

        once = terms(contrastive=0.1, tokenizer_weight=0.1, l2=1e-4)
        more = terms(contrastive=0.3, tokenizer_weight=0.5, l2=4e-4)
        factors = {"bpr": 1.0, "infonce": 3.0, "tokenizer": 5.0, "l2": 4.0}
        assert {name: more[name] / once[name] for name in once} == pytest.approx(factors, rel=1e-5)

    def test_users_are_means_over_items_that_have_the_modality(self, project: Path) -> None:
        inputs = with_gaps(image=list(range(0, 60, 2)))
        made = make(inputs)
        image, graph = made.channels[0], made.graph
        assert isinstance(image, ContentChannel)
        items, _ = image()
        users = made._content_users(image, items, graph)
        taken = inputs.train.toarray() > 0
        seen = taken & inputs.features["image"].present
        for user in range(DATASET.n_users):
            mean = items[torch.from_numpy(seen[user])].mean(0) if seen[user].any() else torch.zeros(16)
            torch.testing.assert_close(users[user], mean, atol=1e-6, rtol=1e-5)
        assert made.present[0, : DATASET.n_users].tolist() == seen.any(1).tolist()
        assert not made.present[0].all()
        assert made.present[1].all()

    def test_degree_and_graph_of_a_cold_item_come_from_training_only(self, project: Path) -> None:
        inputs = planted_inputs(DATASET)
        assert len(NEW) == 4
        assert np.isin(NEW, DATASET.interactions.query("split == 'test'")["item"]).all()
        made = make(inputs)
        assert (made.graph.to_items.matrix.to_dense()[NEW] == 0).all()
        assert (made.rarity.numpy()[NEW] == made.rarity.numpy().max()).all()
        assert (made.degrees[DATASET.n_users :].numpy() == inputs.degrees).all()


def some_channels(n: int = 5, d: int = 4, modalities: int = 2) -> Channels:
    generator = torch.Generator().manual_seed(1)
    return Channels(
        torch.randn(n, d, generator=generator),
        torch.randn(modalities, n, d, generator=generator),
        torch.ones(modalities, n, dtype=torch.bool),
        torch.arange(n).float(),
    )


def lacking(channels: Channels, present: list[list[bool]]) -> Channels:
    """The same where some nodes lack some modalities."""
    there = torch.tensor(present)
    return dataclasses.replace(channels, present=there, content=channels.content * there.unsqueeze(2))


class TestFusion:
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def test_attention_skips_a_missing_modality(self) -> None:
        made = HybridFusion(4, 2, 0.5, self.generator())
        channels = lacking(some_channels(3), [[True, False, False], [True, True, False]])
        weights = made.weights(channels)
        torch.testing.assert_close(weights.sum(0), torch.ones(3))
        assert weights[:, 1].tolist() == [0.0, 1.0]

    def test_hybrid_by_hand(self) -> None:
        made, channels = HybridFusion(4, 2, 0.3, self.generator()), some_channels()
        content, collaborative = channels.content, channels.collaborative
        weights = made.weights(channels)
        mixed = 0.3 * made.project(torch.cat([content[0], content[1]], 1)) + 0.7 * (
            weights[0, :, None] * content[0] + weights[1, :, None] * content[1]
        )
        gate = torch.sigmoid(made.gate(torch.cat([mixed, collaborative], 1)))
        torch.testing.assert_close(made(channels), mixed + gate * collaborative)

    def test_sum_is_a_mean_over_what_is_there(self) -> None:
        channels = Channels(
            torch.tensor([[10.0], [10.0], [10.0]]),
            torch.tensor([[[2.0], [2.0], [0.0]], [[0.0], [4.0], [0.0]]]),
            torch.tensor([[True, True, False], [False, True, False]]),
            torch.ones(3),
        )
        assert SumFusion(1, 2, 0.5, self.generator())(channels).flatten().tolist() == [12.0, 13.0, 10.0]

    def test_concat_projects_all_channels_and_starts_as_the_sum(self) -> None:
        made, channels = ConcatFusion(4, 2, 0.5, self.generator()), some_channels()
        torch.testing.assert_close(made(channels), SumFusion(4, 2, 0.5, self.generator())(channels))
        with torch.no_grad():
            made.project.weight.copy_(torch.randn(4, 12, generator=self.generator()))
            made.project.bias.fill_(1.0)
        blocks = made.project.weight.split(4, dim=1)
        values = [channels.collaborative, *channels.content]
        by_hand = sum(value @ block.T for value, block in zip(values, blocks, strict=True)) + 1.0
        torch.testing.assert_close(made(channels), by_hand)

    def test_attention_weighs_the_collaborative_channel_among_the_others(self) -> None:
        made, channels = AttentionFusion(4, 2, 0.5, self.generator()), some_channels(3)
        values = [channels.collaborative, *channels.content]
        logits = torch.stack([torch.tanh(made.attention.look(value)) @ made.attention.weigh for value in values])
        weights = logits.softmax(0)
        by_hand = sum(weight[:, None] * value for weight, value in zip(weights, values, strict=True))
        torch.testing.assert_close(made(channels), by_hand)
        torch.testing.assert_close(made.weights(channels), weights[[1, 2, 0]])  # the collaborative channel last
        bare = lacking(channels, [[False] * 3] * 2)
        torch.testing.assert_close(made(bare), bare.collaborative)
        assert made.weights(bare)[2].tolist() == [1.0] * 3

    @pytest.mark.parametrize("kind", [SumFusion, ConcatFusion, GatedFusion])
    def test_others_pay_no_attention(self, kind: type[Fusion]) -> None:
        assert kind(4, 2, 0.5, self.generator()).weights(some_channels(3)).shape == (0, 3)

    def test_gate_by_hand(self) -> None:
        """At the start the slope is a quarter: g = 1 - (1 + d) ** -0.25."""
        made, channels = GatedFusion(4, 2, 0.5, self.generator()), some_channels(4)
        channels = dataclasses.replace(channels, degrees=torch.tensor([0.0, 15.0, 80.0, 255.0]))
        shares = torch.tensor([0.0, 1 / 2, 2 / 3, 3 / 4])[:, None]
        torch.testing.assert_close(made.gate(channels), shares.expand(4, 4))
        by_hand = shares * channels.collaborative + (1 - shares) * channels.content.mean(0)
        torch.testing.assert_close(made(channels), by_hand)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 50))
    def test_gate_gives_a_new_item_its_content_and_one_without_content_its_id_whatever_was_learned(
        self, seed: int
    ) -> None:
        made = GatedFusion(4, 2, 0.5, self.generator())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            made.slope.weight.copy_(3 * torch.randn(4, 8, generator=generator))
        channels = lacking(some_channels(3), [[True, False, True], [False, False, True]])
        channels = dataclasses.replace(channels, degrees=torch.tensor([0.0, 0.0, 5.0]))
        fused = made(channels)
        assert torch.equal(fused[0], channels.content[0, 0])
        assert torch.equal(fused[1], channels.collaborative[1])
        degrees = torch.tensor([0.0, 1.0, 10.0, 100.0])
        gates = torch.stack([made.gate(dataclasses.replace(channels, degrees=d.expand(3)))[2] for d in degrees])
        assert all((more >= less).all() for less, more in pairwise(gates))
        assert ((gates >= 0) & (gates <= 1)).all()

    def test_nothing_but_the_collaborative_channel(self) -> None:
        channels = some_channels(modalities=0)
        assert torch.equal(CollaborativeOnly(4, 0, 0.5, self.generator())(channels), channels.collaborative)


class TestSoftmax:
    # Scores: user 0 has 0, 1, 2 with the three items; user 1 has 3, 0, 0.
    USERS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    ITEMS = torch.tensor([[0.0, 3.0], [1.0, 0.0], [2.0, 0.0]])

    def test_by_hand(self) -> None:
        e = np.exp
        rows, columns = torch.tensor([0, 1, 0]), torch.tensor([2, 0, 1])
        first = -np.log(e(2) / (e(0) + e(1) + e(2)))
        second = -np.log(e(3) / (e(3) + 2))
        third = -np.log(e(1) / (e(0) + e(1) + e(2)))
        loss = softmax_loss(self.USERS, self.ITEMS, rows, columns, 1.0)
        assert loss.item() == pytest.approx((first + second + third) / 3, rel=1e-6)
        halved = softmax_loss(self.USERS, self.ITEMS, rows[:1], columns[:1], 2.0)
        assert halved.item() == pytest.approx(-np.log(e(1) / (e(0) + e(0.5) + e(1))), rel=1e-6)

    def test_correction_by_hand(self) -> None:
        """Item 1 has half of all interactions, item 2 a tenth; in a batch of two, one and 0.2 of them are expected."""
        e = np.exp
        popularity = torch.tensor([0.5, 0.1])
        rows, columns = torch.tensor([0, 0]), torch.tensor([0, 1])
        loss = sampled_softmax_loss(self.USERS[:1], self.ITEMS[1:], rows, columns, 1.0, popularity)
        first = -np.log(e(1) / (e(1) + 5 * e(2)))  # item 2 stands for five
        second = -np.log(e(2) / (e(1) + e(2)))  # its own pair counts once; item 1 is as often there as expected
        assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)

    def test_a_batch_of_all_interactions_is_the_full_softmax_over_items_with_interactions(self) -> None:
        generator = torch.Generator().manual_seed(0)
        train = planted_inputs(DATASET).train.tocoo()
        users, items = torch.from_numpy(train.row).long(), torch.from_numpy(train.col).long()
        degrees = items.bincount(minlength=60).float()
        warm, columns = items.unique(return_inverse=True)
        user_vectors, item_vectors = (torch.randn(n, 8, generator=generator) for n in (DATASET.n_users, len(warm)))
        popularity = degrees[warm] / degrees.sum()
        sampled = sampled_softmax_loss(user_vectors, item_vectors, users, columns, 0.5, popularity)
        torch.testing.assert_close(sampled, softmax_loss(user_vectors, item_vectors, users, columns, 0.5))

    def test_sampled_denominators_are_right_on_average(self) -> None:
        """A popular item is not pushed down for coming up often: the mean over batches is near the full loss."""
        generator = torch.Generator().manual_seed(0)
        popularity = torch.tensor([0.6, 0.3, 0.1])
        user, items = torch.randn(1, 4, generator=generator), torch.randn(3, 4, generator=generator)
        full = softmax_loss(user, items, torch.zeros(1, dtype=torch.long), torch.tensor([1]), 1.0)
        corrected, naive = [], []
        for _ in range(300):
            drawn = torch.cat([torch.tensor([1]), torch.multinomial(popularity, 199, True, generator=generator)])
            candidates, columns = drawn.unique(return_inverse=True)
            rows = torch.zeros(len(drawn), dtype=torch.long)
            share = popularity[candidates]
            every = sampled_softmax_loss(user, items[candidates], rows, columns, 1.0, share)
            own = (user @ items[candidates].T)[0, columns]
            mean_own = (user @ items[1]).item() - own.mean().item()
            corrected.append(every.item() - mean_own)  # all pairs have the same denominator, but for their own item
            naive.append((user @ items[drawn].T).logsumexp(1).item() - np.log(200 / 3) - (user @ items[1]).item())
        assert np.mean(corrected) == pytest.approx(full.item(), abs=0.02)
        assert abs(np.mean(naive) - full.item()) > 0.1

    @pytest.mark.parametrize("item_graph", ["none", "features"])
    def test_the_model_meets_all_items_or_those_of_the_batch(self, item_graph: str, project: Path) -> None:
        """The loss of a batch from the embeddings of all nodes; a new item feels the full one alone."""
        users, positives, negatives = pairs(40)
        for loss in ("softmax", "sampled_softmax"):
            made = make(loss=loss, loss_temperature=0.3, contrastive=0.0, item_graph=item_graph)
            user, item = made.embeddings()
            logits = user[users] @ item.T / 0.3
            if loss == "sampled_softmax":
                degrees = torch.from_numpy(planted_inputs(DATASET).degrees)
                count = positives.bincount(minlength=60)
                weights = (count / (40 * degrees / degrees.sum())).log()
                own = functional.one_hot(positives, 60).bool()
                logits = torch.where(own, logits, logits + torch.where(count > 0, weights, -torch.inf))
            expected = functional.cross_entropy(logits, positives)
            torch.testing.assert_close(made.losses(users, positives, negatives)[loss], expected)


class TestViews:
    @settings(max_examples=25, deadline=None)
    @given(norm=st.floats(0.01, 3.0), seed=st.integers(0, 100))
    def test_noise_has_its_length_and_stays_in_the_orthant(self, norm: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        nodes = torch.randn(7, 5, generator=generator)
        moved = noisy(nodes, norm, generator)
        torch.testing.assert_close((moved - nodes).norm(dim=1), torch.full((7,), norm), rtol=1e-4, atol=1e-6)
        assert torch.equal(moved.sign(), nodes.sign())
        assert not torch.equal(moved, noisy(nodes, norm, generator))

    def test_masking_hides_its_share_and_keeps_the_mean(self) -> None:
        hidden = masked(torch.ones(200, 200), 0.25, torch.Generator().manual_seed(0))
        assert sorted(hidden.unique().tolist()) == [0.0, pytest.approx(1 / 0.75)]
        assert hidden.mean().item() == pytest.approx(1.0, abs=0.02)

    @settings(max_examples=25, deadline=None)
    @given(share=st.floats(0.0, 0.99), seed=st.integers(0, 100))
    def test_edge_dropout_leaves_its_share_of_the_interactions(self, share: float, seed: int) -> None:
        train = planted_inputs(DATASET).train
        thinned = Interactions(train).thinned(share, torch.Generator().manual_seed(seed))
        left = thinned.to_users.matrix.to_dense().numpy() > 0
        assert left.sum() == max(1, round(train.nnz * (1 - share)))
        assert not (left & (train.toarray() == 0)).any()

    def test_edges_are_dropped_anew_for_each_view_and_epoch(self, project: Path) -> None:
        made = make(augmentation="edge_dropout", edge_dropout=0.5)
        seen = []
        for epoch in ("1", "2"):
            made.start_epoch(torch_generator(1, "augmentation", epoch))
            seen += [view.to_users.matrix.to_dense() for view in made.views]
        for place, view in enumerate(seen):
            assert not any(torch.equal(view, other) for other in seen[place + 1 :])
        made.start_epoch(torch_generator(1, "augmentation", "1"))  # as a resumed run does
        assert torch.equal(made.views[0].to_users.matrix.to_dense(), seen[0])

    def test_views_without_dropped_edges_are_the_embeddings_themselves(self, project: Path) -> None:
        """Each node's own view has cosine 1; the loss is that of the plain embeddings."""
        made = make(augmentation="edge_dropout", edge_dropout=0.0, contrastive=1.0)
        made.start_epoch(torch_generator(1, "augmentation"))
        users, positives, negatives = pairs(40)
        found = made.losses(users, positives, negatives)["infonce"]
        expected = torch.zeros(())
        for table, nodes in zip(made.embeddings(), (users.unique(), positives.unique()), strict=True):
            unit = functional.normalize(table[nodes], dim=1)
            expected = expected + functional.cross_entropy(unit @ unit.T / 0.5, torch.arange(len(nodes)))
        torch.testing.assert_close(found, expected)

    def test_each_view_is_propagated_over_its_own_graph(self, project: Path) -> None:
        made = make(augmentation="edge_dropout", edge_dropout=0.5, contrastive=1.0)
        made.start_epoch(torch_generator(1, "augmentation"))
        users, positives, negatives = pairs(40)
        found = made.losses(users, positives, negatives)["infonce"]
        sides = []
        for view in made.views:
            made.graph = view
            sides.append(made.embeddings())
        expected = torch.zeros(())
        for first, second, nodes in zip(*sides, (users.unique(), positives.unique()), strict=True):
            one, two = (functional.normalize(table[nodes], dim=1) for table in (first, second))
            order = torch.arange(len(nodes))
            expected = expected + functional.cross_entropy(one @ two.T / 0.5, order)
        torch.testing.assert_close(found, expected)


class TestContentUsers:
    def test_without_takes_the_pair_out_and_nothing_else(self) -> None:
        train = sparse.csr_matrix(np.array([[1, 1, 1, 0], [0, 1, 0, 1]], dtype=np.float32))
        graph = Interactions(train).without(torch.tensor([0]), torch.tensor([1]))
        items = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
        # User 0 is the mean of items 0 and 2, no longer of item 1; user 1 still has items 1 and 3.
        assert graph.users_from_items(items).flatten().tolist() == pytest.approx([50.5, 505.0])
        assert (graph.to_items.matrix.to_dense()[1] > 0).tolist() == [False, True]
        stranger = Interactions(train).without(torch.tensor([1]), torch.tensor([0]))
        assert stranger.users_from_items(items).flatten().tolist() == pytest.approx([37.0, 505.0])

    def test_a_liked_item_is_no_part_of_its_users_content_in_a_step(self, project: Path) -> None:
        """With the ID embeddings out of the way, the score of a pair does not know that it is a pair."""
        # u0 has {0, 1}, u1 has {2}: the batch's pair (u0, 0) is the only link of item 0 to anybody.
        train = sparse.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
        matrix = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
        features = {"text": Features("text", "planted", matrix, np.ones(4, dtype=bool))}
        inputs = Inputs("planted", 1, train, features)
        settings = {"fusion": "sum", "contrastive": 0.0, "layers": 3, "loss": "softmax"}
        found = {}
        for users in ("aggregate", "leave_one_out"):
            made = make(inputs, content_users=users, **settings)
            with torch.no_grad():
                made.users.zero_()
                made.items.zero_()
            terms = made.losses(torch.tensor([0]), torch.tensor([0]), torch.tensor([3]))
            found[users] = terms["softmax"].item()
            channel = made.channels[0]
            assert isinstance(channel, ContentChannel)
            x = channel()[0].detach()
        # Left are u0 - 1 and u1 - 2, each the other's only neighbour: both start and stay as the item's vector; items 0
        # and 3 keep layer 0 only, a quarter.
        scores = torch.stack([x[1] @ x[0] / 4, x[1] @ x[1], x[1] @ x[2], x[1] @ x[3] / 4])
        assert found["leave_one_out"] == pytest.approx((scores.logsumexp(0) - scores[0]).item(), rel=1e-4)
        assert abs(found["aggregate"] - found["leave_one_out"]) > 1e-3

    def test_users_without_any_other_item_have_no_content_left(self, project: Path) -> None:
        made = make(content_users="leave_one_out")
        train = planted_inputs(DATASET).train.tocoo()
        users, items = (torch.from_numpy(side).long() for side in (train.row, train.col))
        terms = made.losses(users, items, torch.full_like(items, 59))  # the whole of the training data at once
        assert all(torch.isfinite(term) for term in terms.values())


class TestTwoStages:
    def test_items_start_as_in_joint_training(self, project: Path) -> None:
        gaps = with_gaps(image=[2, 5])
        joint, second = (make(gaps, stages=stages, content_scale=1.7) for stages in ("joint", "two_stage"))
        for one, two in zip(joint.channels, second.channels, strict=True):
            assert isinstance(one, ContentChannel)
            assert isinstance(two, CodeChannel)
            torch.testing.assert_close(two(), one()[0], rtol=1e-4, atol=1e-6)
            quantizer = one.tokenizer.quantizer
            assert quantizer is not None
            looked_up = quantizer.look_up(two.codes)
            ratio = two()[two.rows] / looked_up
            torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-3, atol=1e-5)
            assert two()[two.rows].norm(dim=1).mean().item() == pytest.approx(1.7 * 0.1 * 16**0.5, rel=1e-4)
        assert (second.channels[0]()[[2, 5]] == 0).all()

    def test_a_row_is_one_code_of_one_level_of_one_modality(self, project: Path) -> None:
        made = make(stages="two_stage")
        image, text = made.channels
        assert isinstance(image, CodeChannel)
        assert isinstance(text, CodeChannel)
        before = image(), text()
        with torch.no_grad():
            image.tables[1, image.codes[0, 1]] += 1.0
        bearers = image.codes[:, 1] == image.codes[0, 1]
        torch.testing.assert_close(image() - before[0], bearers.float()[:, None].expand(-1, 16))
        assert torch.equal(text(), before[1])

    def test_weights_are_stored_with_the_codes_they_belong_to(self, project: Path) -> None:
        made = make(stages="two_stage")
        other = make(dataclasses.replace(planted_inputs(DATASET), seed=2), stages="two_stage")
        assert not torch.equal(made.channels[0].codes, other.channels[0].codes)  # type: ignore[arg-type]
        other.load_state_dict(made.state_dict())
        made.freeze()
        other.freeze()
        assert torch.equal(made.score(np.arange(9)), other.score(np.arange(9)))


class TestItemGraph:
    def test_shared_codes_by_hand(self) -> None:
        # Two levels of one modality, one of another; item 3 lacks the other.
        text = np.array([[0, 0], [0, 1], [0, 0], [1, 1]])
        image = np.array([[2], [2], [0], [-1]])
        graph = shared_codes([text, image], 3).toarray()
        np.testing.assert_array_equal(graph, [[0, 2, 2, 0], [2, 0, 1, 1], [2, 1, 0, 0], [0, 1, 0, 0]])
        # Item 0 shares (0, image 2) with item 1 and (0, second 0) with item 2: as many, both as rare; the first stays.
        # Item 1 has 0 as its nearest. Item 3 has but one.
        nearest = shared_codes([text, image], 1).toarray()
        np.testing.assert_array_equal(nearest, [[0, 2, 0, 0], [2, 0, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0]])

    def test_among_as_many_shared_codes_the_rarer_ones_count(self) -> None:
        # Item 4 shares level one with 0, 1, 2 and level two with 3.
        codes = np.array([[0, 0], [0, 1], [0, 2], [1, 5], [0, 5]])
        assert shared_codes([codes], 1).toarray()[4].tolist() == [0, 0, 0, 1, 0]

    def test_one_code_for_all_links_all(self) -> None:
        graph = shared_codes([np.zeros((4, 1), dtype=np.int64)], 2).toarray()
        assert graph.tolist() == [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]

    def test_no_item_has_codes(self) -> None:
        assert shared_codes([np.full((3, 2), -1)], 2).nnz == 0

    @pytest.mark.parametrize("made_of", ["features", "latent", "codes"])
    def test_links_stay_within_the_group(self, made_of: Any, project: Path) -> None:
        inputs = with_gaps(image=[0, 1], text=[0])
        tokenizers = {
            name: channel.tokenizer
            for name, channel in zip(("image", "text"), make(inputs, tokenizer={"epochs": 30}).channels, strict=True)
            if isinstance(channel, ContentChannel)
        }
        graph = item_links(made_of, inputs.features, tokenizers, 5)
        rows, columns = graph.nonzero()
        assert (GROUPS[rows] == GROUPS[columns]).mean() > 0.95
        np.testing.assert_allclose(np.asarray(graph.sum(1)).ravel(), [0.0] + [1.0] * 59, rtol=1e-5)

    def test_neighbours_are_added_to_items_alone(self, project: Path) -> None:
        plain, linked = make(), make(item_graph="features", item_neighbours=3, item_layers=2, item_weight=0.5)
        users, items = plain.embeddings()
        graph = torch.from_numpy(
            item_links("features", planted_inputs(DATASET).features, {}, 3).toarray().astype(np.float32)
        )
        torch.testing.assert_close(linked.embeddings()[0], users)
        torch.testing.assert_close(linked.embeddings()[1], items + 0.5 * graph @ graph @ items)

    def test_a_step_scores_with_the_same_embeddings_as_evaluation(self, project: Path) -> None:
        made = make(item_graph="codes", contrastive=0.0)
        users, positives, negatives = pairs(30)
        user, item = made.embeddings()
        gap = (user[users] * (item[positives] - item[negatives])).sum(1)
        expected = -functional.logsigmoid(gap).mean()
        torch.testing.assert_close(made.losses(users, positives, negatives)["bpr"], expected)

    def test_without_tokens_no_tokenizer_is_made(self, project: Path) -> None:
        made = make(tokens=False, item_graph="features")
        assert not made.channels
        assert {name for name, _ in made.named_parameters()} == {"users", "items"}
