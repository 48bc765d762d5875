"""Tokens that can be read: measures whose values are worked out by hand, and the page made of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from planted import planted_dataset, planted_features
from safetensors.torch import load_file
from sklearn.metrics import adjusted_mutual_info_score, homogeneity_score

from motorec import config, paths
from motorec.data import Dataset
from motorec.errors import DataError, LeftOut, ParamsError
from motorec.experiment import Experiment
from motorec.features import save_all
from motorec.models.motorec import MoToRec
from motorec.rarity import rarity_weights
from motorec.readability import (
    Attribute,
    chance_purity,
    dci,
    information,
    mutual_information_gap,
    per_code,
    readings,
)
from motorec.reporting import walkthrough
from motorec.reporting.readable import attributes_of, readable
from motorec.tokenizer import TokenizerSettings, new_tokenizers, pretrain, save_tokenizers
from motorec.tokenkinds import KINDS, all_kinds, dealt


def attribute(text: str, separator: str | None = None) -> Attribute:
    """One item a word; a dash is an item of which nothing is known."""
    return Attribute.of("a", [word.replace("-", "") for word in text.split()], separator)


def chances(known: Attribute) -> np.ndarray:
    return chance_purity(np.ones(len(known.members), dtype=bool), known, 999, np.random.default_rng(0))


def one_per_row(codes: np.ndarray, known: Attribute) -> pd.DataFrame:
    return per_code(codes, known, chances(known)).set_index("code")


class TestOneLevel:
    def test_a_code_for_each_value_is_pure_and_tells_all(self):
        known, codes = attribute("a a b b c c"), np.array([7, 7, 2, 2, 5, 5])
        table = one_per_row(codes, known)
        assert table["value"].to_dict() == {2: "b", 5: "c", 7: "a"}
        assert table["purity"].tolist() == [1.0, 1.0, 1.0]
        assert table["base"].tolist() == pytest.approx([1 / 3] * 3)
        assert table["lift"].tolist() == pytest.approx([3.0] * 3)
        assert table["adjusted"].tolist() == pytest.approx([1.0] * 3)
        assert table["nmi"].tolist() == pytest.approx([1.0] * 3)
        told = information(codes, known)
        assert (told.normalised, told.adjusted) == pytest.approx((1.0, 1.0))
        assert told.entropy == pytest.approx(np.log(3))

    def test_independent_codes_tell_nothing(self):
        known, codes = attribute("a a b b a a b b"), np.array([0, 0, 0, 0, 1, 1, 1, 1])
        table = one_per_row(codes, known)
        assert table["purity"].tolist() == [0.5, 0.5]
        assert table["lift"].tolist() == [1.0, 1.0]
        assert table["nmi"].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
        told = information(codes, known)
        assert told.normalised == pytest.approx(0.0, abs=1e-12)
        assert told.adjusted < 0  # less than chance would give codes of these sizes

    def test_in_between_by_hand(self):
        known, codes = attribute("a a a b b b b a"), np.array([0, 0, 0, 0, 1, 1, 1, 1])
        table = one_per_row(codes, known)
        assert table["value"].tolist() == ["a", "b"]
        assert table["purity"].tolist() == [0.75, 0.75]
        assert table["lift"].tolist() == [1.5, 1.5]
        # Entropy falls from 1 bit to that of one in four, 0.8113 bits.
        left = 0.25 * np.log2(4) + 0.75 * np.log2(4 / 3)
        assert table["nmi"].tolist() == pytest.approx([1 - left] * 2)
        assert information(codes, known).normalised == pytest.approx(1 - left)

    def test_a_level_is_the_mean_of_its_codes_over_items(self):
        generator = np.random.default_rng(1)
        known = Attribute.of("a", list(generator.choice(list("abcd"), size=60)))
        codes = generator.integers(9, size=60)
        table = one_per_row(codes, known)
        mean = float((table["nmi"] * table["items"]).sum() / 60)
        assert information(codes, known).normalised == pytest.approx(mean)

    def test_agrees_with_scikit_learn(self):
        generator = np.random.default_rng(2)
        labels, codes = generator.integers(4, size=200), generator.integers(30, size=200)
        codes[:80] = labels[:80]
        told = information(codes, Attribute.of("a", [str(label) for label in labels]))
        assert told.normalised == pytest.approx(homogeneity_score(labels, codes))
        # The attribute has the smaller entropy.
        assert told.adjusted == pytest.approx(adjusted_mutual_info_score(labels, codes, average_method="min"))

    def test_many_small_codes_of_chance_look_informative_until_adjusted(self):
        generator = np.random.default_rng(3)
        known = Attribute.of("a", list(generator.choice(list("abcdefgh"), size=800)))
        codes = generator.integers(64, size=800)
        told, table = information(codes, known), one_per_row(codes, known)
        assert told.normalised > 0.1
        assert table["lift"].mean() > 2
        assert told.adjusted == pytest.approx(0.0, abs=0.02)
        assert np.average(table["adjusted"], weights=table["items"]) == pytest.approx(0.0, abs=0.02)
        assert not readings(table, 0.0, 1, 0.05).any()

    def test_items_without_a_code_or_a_known_value_are_left_out(self):
        known, codes = attribute("a a - b b a b"), np.array([0, 0, 0, 1, 1, -1, -1])
        some = one_per_row(codes, known)
        few = one_per_row(np.array([0, 0, 1, 1]), attribute("a a b b"))
        pd.testing.assert_frame_equal(
            some[["items", "value", "purity", "base"]], few[["items", "value", "purity", "base"]]
        )
        assert information(codes, known).normalised == pytest.approx(1.0)
        nobody = information(np.full(7, -1), known)
        assert np.isnan(nobody.normalised)
        assert per_code(np.full(7, -1), known, np.ones(1)).empty

    def test_one_code_tells_nothing_and_a_constant_attribute_cannot_be_told(self):
        everything = one_per_row(np.zeros(4, dtype=int), attribute("a a a b"))
        assert everything[["purity", "base", "lift", "nmi"]].to_numpy().tolist() == [[0.75, 0.75, 1.0, 0.0]]
        told = information(np.zeros(4, dtype=int), attribute("a a a b"))
        assert (told.normalised, told.adjusted) == pytest.approx((0.0, 0.0))
        codes, constant = np.array([0, 0, 1, 1]), attribute("a a a a")
        table = one_per_row(codes, constant)
        assert table[["purity", "lift", "p"]].to_numpy().tolist() == [[1.0, 1.0, 1.0]] * 2
        assert table[["nmi", "adjusted"]].isna().all(axis=None)
        assert np.isnan(information(codes, constant).normalised)
        assert not readings(table, 0.5, 1, 0.05).any()

    def test_several_values_are_a_yes_or_no_each(self):
        films, codes = attribute("war war,love love fun", ","), np.array([0, 0, 1, 1])
        table = one_per_row(codes, films)
        assert table["value"].tolist() == ["war", "fun"]  # of love and fun, each once, the rarer one
        assert table["purity"].tolist() == [1.0, 0.5]
        assert table["base"].tolist() == [0.5, 0.25]
        # War is told for certain, 1 bit. Love (half of each code) not at all. Fun: 0.811 bits, half a bit left.
        fun = 0.25 * np.log2(4) + 0.75 * np.log2(4 / 3)
        told = information(codes, films)
        assert told.normalised == pytest.approx((1 + 0 + fun - 0.5) / (1 + 1 + fun))
        assert float((table["nmi"] * table["items"]).sum() / 4) == pytest.approx(told.normalised)

    def test_chance_purity_by_hand(self):
        expected = chances(attribute("a a b b -"))
        assert len(expected) == 5
        # Two of four: alike in a third of the draws. Three: always two of a kind.
        assert expected.tolist() == pytest.approx([1, 1, 1 / 3 + 2 / 3 * 0.5, 2 / 3, 0.5], abs=0.05)

    def test_p_by_hand(self):
        table = one_per_row(np.array([0, 0, 0, 1, 1, 1]), attribute("a a a b b b"))
        # One of the 20 ways to draw three of six, times two values.
        assert table["p"].tolist() == pytest.approx([0.1, 0.1])

    def test_each_condition_keeps_a_code_from_being_called_readable(self):
        table = pd.DataFrame({"purity": [0.9, 0.7, 0.9, 0.9], "items": [9, 9, 4, 9], "p": [1e-6, 1e-6, 1e-6, 0.2]})
        assert readings(table, 0.8, 5, 0.05).tolist() == [True, False, False, False]
        assert readings(table, 0.6, 4, 0.3).all()
        # A p of 0.04 is no discovery among a hundred others.
        crowd = pd.DataFrame({"purity": 1.0, "items": 9, "p": [0.04] + [0.9] * 100})
        assert not readings(crowd, 0.8, 5, 0.05).any()
        assert readings(crowd.head(1), 0.8, 5, 0.05).all()


class TestAllLevels:
    kinds = Attribute.of("kind", [str(place // 30) for place in range(120)])  # four
    colours = Attribute.of("colour", [str(place % 3) for place in range(120)])  # three, evenly over the kinds
    kind, colour = np.arange(120) // 30, np.arange(120) % 3

    def test_gap_by_hand(self):
        np.testing.assert_allclose(mutual_information_gap(np.array([[1.0, 0.0], [0.0, 1.0]])), [1, 1])
        np.testing.assert_allclose(mutual_information_gap(np.array([[0.7, 0.2], [0.7, 0.5], [0.1, 0.3]])), [0, 0.2])
        np.testing.assert_allclose(mutual_information_gap(np.array([[0.7, np.nan]])), [0.7, np.nan])

    def test_a_level_for_each_attribute_is_disentangled_and_complete(self):
        found = dci(np.stack([self.kind, self.colour], axis=1), [self.kinds, self.colours])
        assert found.attributes == ("kind", "colour")
        assert found.disentanglement == pytest.approx(1.0, abs=0.01)
        assert found.completeness == pytest.approx(1.0, abs=0.01)
        assert found.informativeness == pytest.approx(1.0, abs=0.01)

    def test_two_levels_that_each_tell_all_are_neither_but_as_informative(self):
        pair = 3 * self.kind + self.colour
        found = dci(np.stack([pair, pair], axis=1), [self.kinds, self.colours])
        assert found.disentanglement == pytest.approx(0.0, abs=0.01)
        assert found.completeness == pytest.approx(0.0, abs=0.01)
        assert found.informativeness == pytest.approx(1.0, abs=0.01)

    def test_one_level_of_two_attributes_is_complete_but_not_disentangled(self):
        codes = np.stack([3 * self.kind + self.colour, np.zeros(120, dtype=int)], axis=1)
        found = dci(codes, [self.kinds, self.colours])
        assert found.disentanglement == pytest.approx(0.0, abs=0.01)
        assert found.completeness == pytest.approx(1.0, abs=0.01)

    def test_random_codes_predict_nothing(self):
        generator = np.random.default_rng(0)
        known = [Attribute.of(name, list(generator.choice(list("abc"), size=600))) for name in ("kind", "colour")]
        found = dci(generator.integers(20, size=(600, 2)), known)
        assert found.informativeness == pytest.approx(0.0, abs=0.01)
        assert np.isnan([found.disentanglement, found.completeness]).all()  # of nothing there are no shares

    def test_what_does_not_vary_or_is_not_known_is_left_out(self):
        codes = np.stack([self.kind, self.colour], axis=1)
        constant = Attribute.of("constant", ["x"] * 120)
        partly = Attribute.of("partly", [""] * 20 + [str(place // 30) for place in range(20, 120)])
        codes[-1] = -1
        found = dci(codes, [partly, constant])
        assert found.attributes == ("partly",)
        assert found.importance.shape == (2, 1)
        assert np.isnan(found.disentanglement)
        assert found.informativeness == pytest.approx(1.0, abs=0.01)
        assert np.isnan(dci(codes, [constant]).informativeness)
        assert np.isnan(dci(codes[:, :1], [self.kinds, self.colours]).completeness)


def test_dealing_keeps_whole_tuples_and_leaves_out_who_has_none():
    codes = np.array([[0, 5], [1, 6], [-1, -1], [2, 7], [3, 8]])
    found = dealt(codes, np.random.default_rng(3))
    assert found[2].tolist() == [-1, -1]
    assert not np.array_equal(found, codes)
    assert sorted(map(tuple, found)) == sorted(map(tuple, codes))


TINY = {"codebook_size": 8, "levels": 2, "epochs": 6, "hidden": [16], "latent": 8, "per_dataset": {}}


def change(file: Path, **values: object) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values, sort_keys=False))


@pytest.fixture
def planted(project: Path) -> Dataset:
    """A project with planted groups that texts and pictures tell, up to two seeds' tokens; one lacks a picture."""
    dataset = planted_dataset()
    items = dataset.items.assign(text="a secret title", tags=["x, y"] * 30 + ["y"] * 29 + [""])
    dataset = replace(dataset, items=items)
    dataset.save(paths.catalogue("planted"))
    features = planted_features(dataset)
    features["image"].present[0] = False
    save_all("planted", features)
    shutil.copy2(project / "params" / "data" / "hm.yaml", project / "params" / "data" / "planted.yaml")
    change(project / "params" / "data" / "planted.yaml", attributes=["group", "tags"])
    change(project / "params" / "tokenize.yaml", **TINY)
    change(project / "params" / "run.yaml", datasets=["planted"], seeds=[1, 2], sources=[], token_models=[])
    paths.write_whole(paths.raw("planted") / "items.jsonl", '{"item_id": "i0", "tags": ["x", "y"]}\n{"tags": "y"}\n')
    settings = config.parse(TokenizerSettings, config.load_tokenizer("planted"), "params/tokenize.yaml")
    weights = rarity_weights(dataset.item_degrees(), 10, settings.rarity)
    for seed in (1, 2):
        tokenizers = new_tokenizers(settings, features, seed, "planted")
        histories = pretrain(tokenizers, features, weights, seed, "planted")
        save_tokenizers(paths.tokens("planted", seed), tokenizers, histories, {})
    return dataset


def test_planted_groups_are_read_in_the_tokens_and_not_in_dealt_ones(planted: Dataset) -> None:
    results = readable("planted")
    assert results.kinds == [kind for kind in KINDS if kind != "joint"]
    assert results.modalities == ["text", "image"]
    table = results.table("attributes").set_index(["kind", "modality", "level", "attribute"])
    for modality in results.modalities:
        assert table.loc[("rqvae", modality, 1, "group"), "ami"] > 0.9
        assert table.loc[("kmeans", modality, 1, "group"), "ami"] > 0.9
        assert abs(table.loc[("random", modality, 1, "group"), "ami"]) < 0.15
    levels = results.table("levels").set_index(["kind", "modality", "level"])["reading"]
    assert levels["rqvae", "text", 1] > 0.5
    assert levels["random", "text", 1] == 0
    assert "Of texts, most do" in results.finding()
    # No MoToRec is run: the verdict claims no more than was looked at.
    assert "**Do pretrained tokens of the first level read" in results.finding()
    assert "makes of them is not measured here" in results.finding()
    nothing = {seed: {**kinds, "rqvae": kinds["random"]} for seed, kinds in results.codes.items()}
    assert "Of texts, no more than by chance" in replace(results, codes=nothing).finding()
    everything, pictures = results.markdown("attributes"), results.markdown("attributes", "image")
    assert "| Modality |" in everything
    assert pictures.startswith("**Pictures.** ")
    assert "| Modality |" not in pictures
    assert pictures.count("\n") < everything.count("\n")
    best = results.shown.iloc[0]
    assert (best["readable"], best["attribute"], best["purity"]) == ("most", "group", 1.0)
    assert results.has_value(best)[results.items_of(best)].all()


def run_motorec(project: Path, training: dict[str, object], **settings: object) -> Experiment:
    """Run MoToRec on the planted data with one seed."""
    change(project / "params" / "run.yaml", token_models=["motorec"], seeds=[1])
    change(project / "params" / "models" / "motorec.yaml", dim=8, training=training, per_dataset={}, **settings)
    experiment = Experiment.load("planted", "motorec", 1)
    model = experiment.build()
    experiment.save(model, experiment.fit(model), experiment.evaluate(model))
    return experiment


@pytest.fixture
def joint(planted: Dataset, project: Path) -> Experiment:
    """The planted project with MoToRec run for a few epochs, fast enough that items change their codes."""
    return run_motorec(project, {"epochs": 4, "evaluate_every": 2, "learning_rate": 0.03})


def test_what_motorec_makes_of_its_tokens_is_a_kind_of_its_own(joint: Experiment) -> None:
    results = readable("planted")
    assert results.kinds == list(KINDS)
    model = joint.build()
    before = joint.codes(model)
    file = paths.run_data("planted", "motorec", 1) / "model.safetensors"
    assert isinstance(model, MoToRec)
    model.load_state_dict(load_file(file))
    after = joint.codes(model)
    for modality in ("text", "image"):
        assert (results.codes[1]["rqvae"][modality] == before[modality]).all()
        assert (results.codes[1]["joint"][modality] == after[modality]).all()
    assert any((before[modality] != after[modality]).any() for modality in before)
    moved = results.table("levels").set_index(["kind", "modality", "level"])["moved"]
    assert moved["joint", "text", 2] == (before["text"][:, 1] != after["text"][:, 1]).mean()
    assert moved["joint", "image", 1] == (before["image"] != after["image"])[1:, 0].mean()  # the first has no picture
    assert moved.drop("joint", level="kind").isna().all()
    levels = results.table("levels").set_index(["kind", "modality", "level"])["reading"]
    shares = [f"{100 * levels[kind, 'text', 1]:.0f}%" for kind in ("joint", "rqvae")]
    assert f"first level's codes of texts {shares[0]} (before: {shares[1]})" in results.finding()
    assert "pretrained less RQ-VAE, trained on" in results.finding()
    file.unlink()
    with pytest.raises(DataError, match=r"motorec/1/model\.safetensors is missing"):
        readable("planted")


def test_the_health_of_tokens_before_and_after_training(joint: Experiment) -> None:
    model = joint.build()
    before = joint.codes(model), joint.token_health(model)
    told = json.loads((paths.run_data("planted", "motorec", 1) / "tokens.json").read_text())
    assert isinstance(model, MoToRec)
    model.load_state_dict(load_file(paths.run_data("planted", "motorec", 1) / "model.safetensors"))
    after = joint.codes(model), joint.token_health(model)
    assert told["text"]["perplexity/2"] == pytest.approx(after[1]["text"]["perplexity/2"], abs=1e-5)
    table = walkthrough.learned_along(before, after)
    assert list(table.index) == [("image", 1), ("image", 2), ("text", 1), ("text", 2)]
    row = table.loc[("text", 2)]
    assert row["in use, before"] == before[1]["text"]["used/2"]
    assert row["perplexity, after"] == after[1]["text"]["perplexity/2"]
    assert row["another code"] == (before[0]["text"][:, 1] != after[0]["text"][:, 1]).mean()
    has = before[0]["image"][:, 0] >= 0  # one item lacks a picture
    assert table.loc[("image", 1), "another code"] == (before[0]["image"] != after[0]["image"])[has, 0].mean()
    assert walkthrough.learned_along(({}, {}), ({}, {})).empty


def test_the_attention_that_warm_and_cold_items_pay_is_among_the_metrics(joint: Experiment) -> None:
    told = json.loads((paths.run_results("planted", "motorec", 1) / "metrics.json").read_text())
    model = joint.build()
    assert isinstance(model, MoToRec)
    model.load_state_dict(load_file(paths.run_data("planted", "motorec", 1) / "model.safetensors"))
    shares = model.fusion.weights(model.heard()).detach().numpy()[:, joint.dataset.n_users :]
    cold = joint.dataset.cold(joint.inputs.cold_below)
    for group, chosen in (("warm", ~cold), ("cold", cold)):
        for source, row in zip(("image", "text"), shares, strict=True):
            expected = row[chosen].mean() if chosen.any() else None
            assert told.get(f"attention/{group}/{source}") == (expected and pytest.approx(expected, abs=2e-6))
    assert not any(name.startswith("attention/") and name.endswith("/id") for name in told)  # IDs join by a gate


@pytest.mark.parametrize(
    "change_to",
    [
        {"stages": "two_stage"},
        {"tokens": False},
        {"tokenizer": {"quantize": False}},
        {"tokenizer": {"levels": 1}},  # tokenizers of its own: nothing became of those of notebook 03
    ],
)
def test_a_motorec_that_does_not_train_the_tokens_on_is_no_kind(
    change_to: dict[str, object], planted: Dataset, project: Path
) -> None:
    run_motorec(project, {"epochs": 1, "evaluate_every": 1}, **change_to)
    assert "joint" not in readable("planted").kinds


def test_every_kind_has_the_shape_of_the_pretrained_codes(planted: Dataset) -> None:
    features = planted_features(planted)
    features["image"].present[0] = False
    settings = config.parse(TokenizerSettings, config.load_tokenizer("planted"), "params/tokenize.yaml")
    found = all_kinds(planted, features, settings, 10, 1)
    for codes in found.values():
        assert codes["image"].shape == (60, 2)
        assert codes["image"][0].tolist() == [-1, -1]
        assert (codes["image"][1:] >= 0).all()
        assert codes["text"].max() < 8
    without = settings.model_copy(update={"sparsity": 0.0})
    with pytest.raises(DataError, match="made with other settings"):
        all_kinds(planted, features, without, 10, 1)


@pytest.mark.slow
def test_the_same_bytes_twice_and_nobodys_text_in_them(planted: Dataset) -> None:
    def digests() -> dict[str, str]:
        folder = readable("planted").write()
        files = sorted(folder.iterdir())
        assert not any(b"secret" in file.read_bytes() for file in files)
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    first = digests()
    tables = {f"{name}.{kind}" for name in ("attributes", "levels", "tokens") for kind in ("csv", "md", "tex")}
    assert tables | {"information.png", "information.pdf", "reading.png"} <= set(first)
    assert "tokens.png" not in first  # pictures are shown of the planted catalogue alone
    assert digests() == first
    assert readable("planted").examples().empty


def test_a_difference_has_an_interval_over_seeds_and_none_with_one(planted: Dataset) -> None:
    results = readable("planted")
    first = results.reading_by_seed.query("modality == 'text' and level == 1").set_index("seed")
    gaps = first.loc[first["kind"] == "rqvae", "reading"] - first.loc[first["kind"] == "random", "reading"]
    row = results.comparison("random").set_index(["modality", "measure"]).loc[("text", "reading/1")]
    # Student's t with one degree of freedom: 12.706 standard errors.
    half = 12.7062 * gaps.std(ddof=1) / 2**0.5
    assert row[["difference", "low", "high"]].tolist() == pytest.approx(
        [gaps.mean(), gaps.mean() - half, gaps.mean() + half], abs=1e-4
    )
    single = replace(results, codes={1: results.codes[1]})
    assert single.comparison("random")["low"].isna().all()
    assert "which one seed cannot judge" in single.finding()


def test_lists_in_the_source_are_several_values(planted: Dataset) -> None:
    group, tags = attributes_of(planted, ["group", "tags"])
    assert (group.several, group.values) == (False, ("0", "1", "2", "3"))
    assert (tags.several, tags.values) == (True, ("x", "y"))
    assert (tags.members.sum(), tags.known.sum()) == (89, 59)


def test_without_attributes_or_codes_it_is_left_out_and_says_why(planted: Dataset, project: Path) -> None:
    change(project / "params" / "data" / "planted.yaml", attributes=[])
    with pytest.raises(LeftOut, match="names no `attributes`"):
        readable("planted")
    assert "names no `attributes`" in (paths.readable("planted") / "left-out.md").read_text()
    change(project / "params" / "data" / "planted.yaml", attributes=["group"])
    change(project / "params" / "tokenize.yaml", quantize=False)
    with pytest.raises(LeftOut, match="no codes"):
        readable("planted")


def test_an_unknown_piece_names_the_nearest(planted: Dataset) -> None:
    results = readable("planted")
    with pytest.raises(ParamsError, match="Did you mean 'levels'"):
        results.table("level")
    with pytest.raises(ParamsError, match="Did you mean 'reading'"):
        results.figure("readings")
