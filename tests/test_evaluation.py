"""Metrics by hand and against a known library, masks, ties, groups, and tests that find what was planted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torchmetrics.functional.retrieval import (
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from motorec.config import EvaluationSettings
from motorec.data.dataset import Dataset
from motorec.errors import DataError, MotorecError, ParamsError
from motorec.evaluation import compare, evaluate, judge, validate
from motorec.evaluation import metrics as m
from motorec.evaluation.evaluate import bucket_names, rank


def dataset(rows: list[tuple[int, int, str]], n_users: int, n_items: int) -> Dataset:
    interactions = pd.DataFrame(rows, columns=["user", "item", "split"]).astype({"user": "int32", "item": "int32"})
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(n_items)], "text": "", "image": ""})
    return Dataset("planted", items, [f"u{n}" for n in range(n_users)], interactions.sort_values(["user", "item"]))


def random_dataset(seed: int, n_users: int = 30, n_items: int = 40, share: float = 0.3) -> Dataset:
    generator = np.random.default_rng(seed)
    users, items = np.nonzero(generator.random((n_users, n_items)) < share)
    splits = generator.choice(["train", "valid", "test"], size=len(users), p=[0.6, 0.2, 0.2])
    return dataset(list(zip(users.tolist(), items.tolist(), splits.tolist(), strict=True)), n_users, n_items)


def fixed(scores: np.ndarray):
    return lambda users: torch.from_numpy(scores[users])


def test_metrics_by_hand():
    # User 0 wants items 1, 4, 6, and gets 1 and 6 at ranks 2 and 4. User 1 wants item 0 and does not get it.
    top = np.array([[3, 1, 2, 6], [3, 1, 2, -1]])
    targets = sparse.csr_matrix(np.array([[0, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 0]], dtype=np.float32))
    hits = m.find_hits(top, targets)
    assert hits.tolist() == [[False, True, False, True], [False] * 4]
    n_targets = np.array([3, 1])
    assert m.recall(hits, n_targets, 4).tolist() == [2 / 3, 0]
    assert m.recall(hits, n_targets, 2).tolist() == [1 / 3, 0]
    assert m.precision(hits, n_targets, 4).tolist() == [0.5, 0]
    assert m.hit_rate(hits, n_targets, 1).tolist() == [0, 0]
    assert m.hit_rate(hits, n_targets, 2).tolist() == [1, 0]
    assert m.mrr(hits, n_targets, 1).tolist() == [0, 0]
    assert m.mrr(hits, n_targets, 4).tolist() == [0.5, 0]
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)  # three targets, all first
    got = 1 / math.log2(3) + 1 / math.log2(5)
    np.testing.assert_allclose(m.ndcg(hits, n_targets, 4), [got / best, 0])
    # At cut-off 2 no list can hold more than two of the three targets.
    np.testing.assert_allclose(m.ndcg(hits, n_targets, 2), [(1 / math.log2(3)) / (1 + 1 / math.log2(3)), 0])
    assert m.coverage(top, 7, 1) == 1 / 7
    assert m.coverage(top, 7, 4) == 4 / 7  # items 1, 2, 3, 6; the empty place is no item
    assert m.popularity(top, np.array([9, 1, 2, 3, 9, 9, 6]), 4) == (3 + 1 + 2 + 6 + 3 + 1 + 2) / 7


def test_an_empty_place_is_never_a_hit_of_the_user_before():
    # -1 in row 1 must not be read as the last item of row 0, which is a target there.
    targets = sparse.csr_matrix(np.array([[0, 0, 1], [1, 0, 0]], dtype=np.float32))
    assert not m.find_hits(np.array([[0], [-1]]), targets).any()


def test_places_by_hand():
    # Rows as above; the lists hold items 1 and 6 at places 2 and 4, and end early for user 1.
    top = np.array([[3, 1, 2, 6], [3, 1, 2, -1]])
    targets = sparse.csr_matrix(np.array([[0, 1, 0, 0, 1, 0, 1], [1, 0, 1, 0, 0, 0, 0]], dtype=np.float32))
    assert m.find_places(top, targets).tolist() == [2, 0, 4, 0, 3]


def test_places_of_the_targets_are_all_that_per_user_values_need():
    data, scores = random_dataset(5), np.random.default_rng(5).normal(size=(30, 40)).round(1)
    result = evaluate(fixed(scores), data, "test", EvaluationSettings(cutoffs=(3, 7)))
    again = judge(result.places, data, "test", EvaluationSettings(cutoffs=(3, 7)))
    pd.testing.assert_frame_equal(again, result.per_user)
    # Lists that were judged at 7 can be judged at 3 later.
    shorter = EvaluationSettings(cutoffs=(3,))
    direct = evaluate(fixed(scores), data, "test", shorter)
    pd.testing.assert_frame_equal(judge(result.places, data, "test", shorter), direct.per_user)
    assert (direct.places == np.where(result.places > 3, 0, result.places)).all()
    for group in ("all", "cold", "deg0-4"):
        mean = result.per_user.query("group == @group")["ndcg@7"].mean()
        assert result.means[f"test/{group}/ndcg@7"] == pytest.approx(mean, abs=1e-12)
    with pytest.raises(DataError, match="another version of the data"):
        judge(result.places[1:], data, "test", shorter)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_torchmetrics(seed: int):
    generator = np.random.default_rng(seed)
    n_users, n_items = 20, 30
    # Positive scores: torchmetrics takes an item with a negative one as not recommended.
    scores = generator.permuted(np.tile(np.linspace(0.1, 1, n_items), (n_users, 1)), axis=1)
    wanted = np.zeros((n_users, n_items), dtype=np.float32)
    for row in wanted:
        row[generator.choice(n_items, size=generator.integers(1, 25), replace=False)] = 1
    data = dataset(
        [(u, i, "test") for u, i in zip(*map(np.ndarray.tolist, np.nonzero(wanted)), strict=True)], n_users, 30
    )
    cutoffs = (1, 5, 20)
    result = evaluate(fixed(scores), data, "test", EvaluationSettings(cutoffs=cutoffs))
    mine = result.per_user.query("group == 'all'").set_index("user")
    theirs = {
        "recall": retrieval_recall,
        "ndcg": retrieval_normalized_dcg,
        "mrr": retrieval_reciprocal_rank,
        "hit_rate": retrieval_hit_rate,
        "precision": retrieval_precision,
    }
    for name, function in theirs.items():
        for k in cutoffs:
            expected = [
                float(function(torch.from_numpy(scores[user]), torch.from_numpy(wanted[user]).long(), top_k=k))
                for user in range(n_users)
            ]
            np.testing.assert_allclose(mine[f"{name}@{k}"], expected, atol=1e-6, err_msg=f"{name}@{k}")
            assert result.means[f"test/all/{name}@{k}"] == pytest.approx(np.mean(expected), abs=1e-6)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 60), batch=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_seen_item_is_never_recommended_and_no_item_twice(seed: int, k: int, batch: int):
    data = random_dataset(seed)
    scores = np.random.default_rng(seed).integers(0, 4, size=(30, 40)).astype(np.float32)  # many ties
    for seen in (("train",), ("train", "valid")):
        top = rank(fixed(scores), data, np.arange(30), seen, k, batch)
        for user, row in enumerate(top):
            known = set(data.matrix(*seen)[[user]].indices.tolist())
            shown = row[row >= 0]
            assert not known & set(shown.tolist())
            assert len(set(shown.tolist())) == len(shown) == min(k, 40 - len(known))
            assert (np.diff(scores[user, shown]) <= 0).all()
            assert (row[len(shown) :] == -1).all()


def test_batches_do_not_change_the_lists_and_scores_are_left_alone():
    data = random_dataset(3)
    scores = torch.rand(30, 40, generator=torch.Generator().manual_seed(0))
    before = scores.clone()
    whole = rank(lambda _: scores, data, np.arange(30), ("train",), 10)
    parts = rank(lambda users: scores[users], data, np.arange(30), ("train",), 10, batch_size=7)
    assert (whole == parts).all()
    assert torch.equal(scores, before)


def test_the_validation_masks_training_only_and_the_test_masks_both():
    data = dataset([(0, 0, "train"), (0, 1, "valid"), (0, 2, "test")], 1, 4)
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    settings = EvaluationSettings(cutoffs=(1,))
    assert evaluate(fixed(scores), data, "valid", settings).means["valid/all/recall@1"] == 1.0
    assert evaluate(fixed(scores), data, "test", settings).means["test/all/recall@1"] == 1.0
    # A test item stays in the lists of the validation: nobody knows it there.
    assert rank(fixed(scores), data, np.array([0]), ("train",), 4).tolist() == [[1, 2, 3, -1]]


def test_ties_fall_by_chance_and_not_by_the_order_of_items():
    n_users, n_items, k = 40, 200, 20
    data = dataset([(user, user % n_items, "test") for user in range(n_users)], n_users, n_items)
    constant = fixed(np.zeros((n_users, n_items), dtype=np.float32))
    counts = np.zeros(n_items)
    for seed in range(200):
        counts[rank(constant, data, np.array([0]), ("train",), k, tie_break=seed)[0]] += 1
    # Each item is expected 20 times in 200; the standard deviation of a half's sum is about 30 of 2000.
    assert abs(counts[: n_items // 2].sum() - 2000) < 150
    assert counts.max() < 45
    first = rank(constant, data, np.arange(n_users), ("train",), k, tie_break=7)
    assert (first == rank(constant, data, np.arange(n_users), ("train",), k, tie_break=7)).all()


def test_cold_targets_compete_with_all_items():
    # Item 0 is warm (3 training interactions), items 1 and 2 are cold. Scores put the warm item first.
    rows = [(1, 0, "train"), (2, 0, "train"), (3, 0, "train"), (3, 1, "train")]
    rows += [(0, 0, "test"), (0, 1, "test"), (1, 2, "test"), (2, 3, "test")]
    rows += [(user, 3, "train") for user in (0, 1, 3)]
    data = dataset(rows, 4, 4)
    scores = np.tile(np.array([4.0, 3.0, 2.0, 1.0]), (4, 1))
    settings = EvaluationSettings(cutoffs=(1, 2), cold_below=3, degree_edges=(1, 3))
    result = evaluate(fixed(scores), data, "test", settings)
    groups = {name: frame.set_index("user") for name, frame in result.per_user.groupby("group")}
    assert set(groups["cold"].index) == {0, 1}  # user 2 has a warm target only, user 3 none at all
    assert set(groups["warm"].index) == {0, 2}
    assert set(groups["all"].index) == {0, 1, 2}
    # User 0's cold target is at rank 2, behind the warm item, which still takes its place.
    assert groups["cold"].loc[0, "recall@1"] == 0.0
    assert groups["cold"].loc[0, "recall@2"] == 1.0
    assert groups["cold"].loc[0, "mrr@2"] == 0.5
    assert groups["all"].loc[0, "recall@1"] == 0.5
    assert result.means["test/cold/users"] == 2
    assert bucket_names((1, 3)) == ["deg0-0", "deg1-2", "deg3plus"]
    assert [result.means[f"test/{name}/users"] for name in bucket_names((1, 3))] == [1, 1, 2]
    assert result.means["test/deg1-2/recall@2"] == 1.0
    assert result.means["test/deg0-0/recall@2"] == 1.0  # item 2 for user 1, who has seen item 0
    assert "test/deg1-2/precision@2" not in result.means


def test_a_group_without_a_target_has_no_mean():
    data = dataset([(0, 0, "test"), (0, 1, "train")], 1, 3)
    means = evaluate(fixed(np.ones((1, 3))), data, "test", EvaluationSettings()).means
    assert means["test/warm/users"] == 0
    assert "test/warm/recall@20" not in means
    assert not any(math.isnan(value) for value in means.values())


@pytest.mark.parametrize("metric", ["all/recall@20", "cold/ndcg@10", "warm/mrr@20", "deg5-9/recall@10"])
def test_validate_is_what_evaluate_says(metric: str):
    data = random_dataset(1)
    scores = np.random.default_rng(0).normal(size=(30, 40)).round(1)
    settings = EvaluationSettings()
    full = evaluate(fixed(scores), data, "valid", settings).means[f"valid/{metric}"]
    assert validate(fixed(scores), data, metric, settings) == pytest.approx(full, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "hint"), [("al/recall@20", "'all'"), ("all/recal@20", "'recall'"), ("all/recall", "cut-off")]
)
def test_an_unknown_validation_metric_is_an_error(metric: str, hint: str):
    with pytest.raises(ParamsError, match=hint):
        validate(fixed(np.ones((30, 40))), random_dataset(1), metric, EvaluationSettings())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_an_error(bad: float):
    scores = np.zeros((30, 40))
    scores[4, 7] = bad
    with pytest.raises(MotorecError, match=r"1 of the model's scores.*'u4'.*'i7'"):
        evaluate(fixed(scores), random_dataset(1), "test", EvaluationSettings())


def test_an_empty_split_is_an_error():
    with pytest.raises(MotorecError, match="test split"):
        evaluate(fixed(np.ones((1, 2))), dataset([(0, 0, "train")], 1, 2), "test", EvaluationSettings())


# --- significance -----------------------------------------------------------------------------------------------


def per_user(values: np.ndarray, group: str = "all") -> pd.DataFrame:
    return pd.DataFrame({"user": np.arange(len(values)), "split": "test", "group": group, "recall@20": values})


def test_a_planted_difference_is_found_and_no_difference_is_not():
    generator = np.random.default_rng(0)
    base = generator.random(400)
    runs = {
        "full": [per_user(base + generator.normal(0, 0.1, 400)) for _ in range(3)],
        "worse": [per_user(base - 0.05 + generator.normal(0, 0.1, 400)) for _ in range(3)],
        "alike": [per_user(base + generator.normal(0, 0.1, 400)) for _ in range(3)],
    }
    table = compare(runs, "full", ["recall@20"]).set_index("model")
    assert list(table.index) == ["worse", "alike"]
    assert table.loc["worse", "difference"] == pytest.approx(-0.05, abs=0.02)
    assert table.loc["worse", "low"] < table.loc["worse", "difference"] < table.loc["worse", "high"] < 0
    assert table.loc["worse", "significant"]
    assert table.loc["alike", "low"] < 0 < table.loc["alike", "high"]
    assert not table.loc["alike", "significant"]
    assert (table["users"] == 400).all()
    assert table.loc["worse", "mean"] - table.loc["worse", "reference_mean"] == pytest.approx(
        table.loc["worse", "difference"]
    )


def test_the_interval_is_that_of_the_mean():
    difference = np.random.default_rng(1).normal(0.2, 1.0, 500)
    row = compare({"a": [per_user(np.zeros(500))], "b": [per_user(difference)]}, "a", ["recall@20"]).iloc[0]
    half = 1.96 * difference.std(ddof=1) / math.sqrt(500)
    assert row["low"] == pytest.approx(difference.mean() - half, abs=0.15 * half)
    assert row["high"] == pytest.approx(difference.mean() + half, abs=0.15 * half)
    assert row["d"] == pytest.approx(difference.mean() / difference.std(ddof=1))


def test_seeds_are_averaged_before_they_are_compared():
    runs = {
        "a": [per_user(np.array([0.0, 1.0])), per_user(np.array([1.0, 0.0]))],
        "b": [per_user(np.array([0.5, 0.5]))],
    }
    row = compare(runs, "a", ["recall@20"]).iloc[0]
    assert (row["difference"], row["p"], row["d"], row["users"]) == (0.0, 1.0, 0.0, 2)


def seeds(*means: float) -> list[pd.DataFrame]:
    """Runs whose means over their two users are these."""
    return [per_user(np.array([mean - 0.1, mean + 0.1])) for mean in means]


def over_seeds(model: list[pd.DataFrame], reference: list[pd.DataFrame]) -> float:
    return compare({"full": reference, "part": model}, "full", ["recall@20"]).iloc[0]["p_seeds"]


def test_the_test_over_seeds_by_hand():
    # Variances .02 and .02, so t = -.3 / sqrt(.01 + .01); with 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2).
    assert over_seeds(seeds(0.1, 0.3), seeds(0.4, 0.6)) == pytest.approx(1 - math.sqrt(4.5 / 6.5))
    # Only the model varies: t = -.3 / sqrt(.02 / 2), and the degree of freedom is its own one, not the three of both.
    assert over_seeds(seeds(0.1, 0.3), seeds(0.5, 0.5, 0.5)) == pytest.approx(1 - 2 / math.pi * math.atan(3))
    # Seeds have no partners: their order says nothing.
    assert over_seeds(seeds(0.1, 0.2, 0.6), seeds(0.2, 0.3, 0.7)) == over_seeds(
        seeds(0.6, 0.1, 0.2), seeds(0.2, 0.3, 0.7)
    )


def test_seeds_that_never_vary_are_alike_or_not():
    third = 1 / 3
    assert over_seeds(seeds(third, third), seeds(third, third, third)) == 1.0
    assert over_seeds(seeds(0.2, 0.2), seeds(third, third, third)) == 0.0


def test_one_seed_has_no_test_over_seeds_and_still_one_over_users():
    generator = np.random.default_rng(4)
    one, many = [per_user(generator.random(50))], [per_user(generator.random(50)) for _ in range(3)]
    table = compare({"full": many, "once": one, "thrice": many[::-1]}, "full", ["recall@20"]).set_index("model")
    assert math.isnan(table.loc["once", "p_seeds"])
    assert 0 < table.loc["once", "p"] < 1
    assert table.loc["thrice", "p_seeds"] == pytest.approx(1.0)
    table = compare({"once": one, "many": many}, "once", ["recall@20"])
    assert table["p_seeds"].isna().all()


def test_seeds_that_disagree_show_although_users_agree():
    """One of the five runs is good and four are bad: true of every user, and of the model nothing is known."""
    generator = np.random.default_rng(3)
    base = generator.random(400)
    runs = {
        "full": [per_user(base + level) for level in (0.0, 0.001, -0.001, 0.002, -0.002)],
        "part": [per_user(base + level) for level in (0.02, -0.02, -0.021, -0.02, -0.019)],
        "less": [per_user(base + level) for level in (-0.013, -0.011, -0.012, -0.012, -0.012)],
    }
    # The users differ a little in what they make of it, or the differences would not vary at all.
    noise = [generator.normal(0, 0.02, 400) for _ in range(5)]
    for name in ("part", "less"):
        runs[name] = [per_user(frame["recall@20"] + extra) for frame, extra in zip(runs[name], noise, strict=True)]
    table = compare(runs, "full", ["recall@20"]).set_index("model")
    assert table["significant"].all()
    assert table.loc["part", "p_seeds"] > 0.1
    assert table.loc["less", "p_seeds"] < 0.001


def test_holm_by_hand_over_the_whole_table():
    generator = np.random.default_rng(2)
    runs = {"full": [per_user(np.zeros(50))]}
    runs |= {f"m{n}": [per_user(generator.normal(0.2 * n, 1, 50))] for n in range(4)}
    table = compare(runs, "full", ["recall@20"], alpha=0.05)
    ordered = table.sort_values("p")
    running = 0.0
    for place, (p, corrected) in enumerate(zip(ordered["p"], ordered["p_holm"], strict=True)):
        running = max(running, min(1.0, p * (4 - place)))
        assert corrected == pytest.approx(running)
    assert (table["significant"] == (table["p_holm"] < 0.05)).all()
    assert 0 < table["significant"].sum() < 4


def test_a_difference_that_never_varies_has_no_effect_size():
    runs = {"a": [per_user(np.zeros(30))], "b": [per_user(np.full(30, 0.5))]}
    row = compare(runs, "a", ["recall@20"]).iloc[0]
    assert math.isnan(row["d"])
    assert row["significant"]


def test_different_users_cannot_be_paired():
    with pytest.raises(DataError, match="different users"):
        compare({"a": [per_user(np.zeros(3))], "b": [per_user(np.zeros(4))]}, "a", ["recall@20"])
    with pytest.raises(DataError, match="seeds of 'a'"):
        compare({"a": [per_user(np.zeros(3)), per_user(np.zeros(4))], "b": [per_user(np.zeros(3))]}, "a", ["recall@20"])


def test_the_bootstrap_is_the_same_every_time():
    generator = np.random.default_rng(5)
    runs = {"a": [per_user(generator.random(100))], "b": [per_user(generator.random(100))]}
    pd.testing.assert_frame_equal(compare(runs, "a", ["recall@20"]), compare(runs, "a", ["recall@20"]))
