"""What the notebooks say they found, from numbers whose right answer is known, and the pictures beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import TINY_TOKENIZER, planted_dataset, planted_inputs, untrained

from motorec import config, paths
from motorec.data.dataset import Dataset
from motorec.features import Features, neighbours
from motorec.models.motorec import MoToRec
from motorec.reporting import findings, walkthrough
from motorec.reporting.paper import PaperSettings
from motorec.reporting.runs import full_title


def dataset(rows: list[tuple[int, int, str]], items: int) -> Dataset:
    interactions = pd.DataFrame(rows, columns=["user", "item", "split"])
    table = pd.DataFrame({"item_id": [str(item) for item in range(items)], "text": "", "image": ""})
    return Dataset("d", table, [str(user) for user in range(4)], interactions)


def test_data_counts_cold_items_targets_and_users():
    rows = [(user, 0, "train") for user in range(4)] + [(0, 1, "train")]
    rows += [(0, 1, "test"), (1, 2, "test"), (1, 3, "test"), (2, 0, "test")]
    # Degrees 4, 1, 0, 0: below 2 three of four items are cold, and three of four targets, for two of three users.
    told = findings.data(dataset(rows, 4), 2)
    assert told.startswith("**What it shows.** 75% of the 4 items are cold, with fewer than 2 training interactions.")
    assert "They are 75% of what is to be found in the test, for 2 of 3 users." in told
    assert "at most 1 interactions to place such an item by, for 2 of them none:" in told
    assert told.endswith("The 10% most popular items hold 80% of the training interactions.")  # 4 of 5


def test_data_without_cold_items():
    told = findings.data(dataset([(0, 0, "train"), (1, 0, "test")], 1), 1)
    assert "No item is cold: each has 1 training interactions or more." in told


def test_data_names_only_what_the_items_have():
    known = dataset([(0, 0, "train"), (1, 1, "test")], 2)
    assert "what else there is to know has to come with the data as features." in findings.data(known, 1)
    known.items.loc[0, "text"] = "a film"
    assert "what else there is to know stands in the texts." in findings.data(known, 1)
    known.items.loc[1, "image"] = "1.png"
    assert "what else there is to know stands in the texts and the pictures." in findings.data(known, 1)


def test_features_name_what_is_told_best_least_and_by_none():
    agreement = pd.DataFrame(
        {"by chance": [0.2, 0.5, 0.1], "text": [0.6, 0.52, 0.1], "image": [1.0, 0.5, 0.12]},
        index=["kind", "style", "brand"],
    )
    # Of the way from chance to always, text: .5, .04, 0; image: 1, 0, .02.
    told = findings.features(agreement)
    assert (
        "By the texts, neighbours agree best in *kind* (60%; by chance 20%), least in *brand* (10%; by chance 10%)"
        in told
    )
    assert "By the pictures, neighbours agree best in *kind* (100%; by chance 20%), least in *style* (50%;" in told
    assert "Hardly told by any: *style* and *brand*." in told
    assert "Each attribute is told by one or the other:" in findings.features(agreement.loc[["kind"]])
    alone = agreement[["by chance", "text"]]
    assert "Each attribute is told by them:" in findings.features(alone.loc[["kind"]])
    assert "Hardly told by them: *style* and *brand*." in findings.features(alone)
    assert "Nothing is known" in findings.features(agreement.iloc[:0])


def test_tokens_tell_use_and_what_is_kept():
    values = {"used/1": 1.0, "used/2": 0.5, "perplexity/1": 30.0, "perplexity/2": 10.0}
    values |= {"collisions": 0.25, "explained": 0.8, "kept_neighbours": 0.4}
    told = findings.tokens({"image": values}, 64)
    assert "The pictures: at least 32 of the 64 codes of each level are in use, 20 in effect; 25% of the items" in told
    assert "keeps 80% of the features' variance and 40% of an item's ten nearest." in told
    assert "The texts: all 64 codes of each level are in use" in findings.tokens({"text": values | {"used/2": 1.0}}, 64)
    nearly = values | {"used/1": 511 / 512, "used/2": 1.0}
    assert "at least 511 of the 512 codes" in findings.tokens({"text": nearly}, 512)


def test_training_compares_with_chance_validation_and_cold_targets():
    metrics = {"test/all/recall@20": 0.3, "valid/all/recall@20": 0.35, "test/cold/recall@20": 0.06}
    metrics |= {"test/cold/hit_rate@20": 0.0625, "test/cold/users": 160.0}
    recall = np.array([0.0, 0.0, 0.5, 1.0])
    told = findings.training(metrics, recall, "LightGCN", 400)
    assert "The first 20 of LightGCN hold 30.0% of what a user took in the test split (5.0% by chance; 35.0% in" in told
    assert "nothing of it for 50% of the users." in told
    assert "Of cold targets they hold 6.0%, 5.0 times less: one or more for 10 of the 160 users who have any." in told
    few = metrics | {"test/cold/recall@20": 0.001, "test/cold/hit_rate@20": 9 / 160}
    # A ratio that hangs on nine users would be chance.
    assert "they hold 0.1%: one or more for 9 of the 160 users" in findings.training(few, recall, "x", 9)
    none = metrics | {"test/cold/recall@20": 0.0, "test/cold/hit_rate@20": 0.0}
    assert "Of cold targets they hold none, for 160 users who have any." in findings.training(none, recall, "x", 9)
    assert "hold 40.0%:" in findings.training(metrics | {"test/cold/recall@20": 0.4}, recall, "x", 9)
    del metrics["test/cold/recall@20"]  # nobody has a cold target
    assert "cold" not in findings.training(metrics, recall, "x", 9)


def compared(rows: list[tuple[str, str, str, float, bool]], p_seeds: float = 0.01) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["model", "group", "metric", "difference", "significant"])
    return table.assign(p_seeds=p_seeds)


def test_ablations_name_only_what_is_proven():
    tested = compared(
        [
            ("a", "all", "recall@20", -0.01, True),
            ("b", "all", "recall@20", 0.02, False),
            ("c", "all", "recall@20", -0.03, True),
            ("d", "all", "recall@20", 0.04, True),
            ("a", "all", "ndcg@20", 0.5, True),
            ("a", "cold", "recall@20", -0.01, False),
        ]
    )
    titles = {"a": "without A", "b": "without B", "c": "without C", "d": "without D"}
    tested.loc[2, "p_seeds"] = 0.2
    told = findings.ablations({"MoToRec": tested}, titles, "recall@20", 0.05)
    assert (
        "MoToRec, all targets, by Recall@20, over users: *without C* (−0.0300, not over seeds) and *without A* "
        "(−0.0100) are worse, "
        "*without D* (+0.0400) is better; of the other 1 nothing is proven."
    ) in told
    assert (
        "MoToRec, cold targets, by Recall@20, over users: none is worse, none is better; of the other 1 nothing is "
        "proven."
    ) in told
    assert "0.5" not in told
    assert "Of" not in told
    told = findings.ablations({"MoToRec": tested}, titles, "recall@20", 0.05, ["TokenBridge"])
    assert told.endswith("Of TokenBridge nothing is said: no ablation has been run on this data set.")
    many = compared([(name, "all", "recall@20", -0.01 * place, True) for place, name in enumerate("fedcbagh", 1)])
    told = findings.ablations({"MoToRec": many}, titles, "recall@20", 0.05)
    assert "*h* (−0.0800), *g* (−0.0700), *without A* (−0.0600), *without B*" in told
    assert "*without C* (−0.0400) and 3 more are worse, none is better." in told


def test_the_papers_own_ablation_is_told_from_its_numbers(project: Path) -> None:
    del project  # the settings of this repository
    values = {"motorec": {"all/ndcg@20": 0.5}, "lpic": {"all/ndcg@20": 0.9}, "motorec-no-ara": {"all/ndcg@20": 0.4}}
    values["motorec-no-hybrid"] = {"all/ndcg@20": 0.25, "cold/ndcg@20": 0.7}
    paper = PaperSettings(source="s", reported={"sports": values, "baby": {"motorec": {"all/ndcg@20": 0.1}}})
    told = findings.reported("sports", paper, "ndcg@20")
    assert told == (
        "In the paper's own ablation (Amazon Sports and Outdoors, NDCG@20, all targets) every part helps: 0.5000 of "
        "the full model becomes 0.4000 without ARA and 0.2500 without hybrid fusion (sum)."
    )
    assert findings.reported("garments", paper, "ndcg@20") == told  # the paper has no garments
    assert findings.reported("baby", paper, "ndcg@20") == ""
    assert findings.reported("sports", paper, "recall@20") == ""
    values["motorec-no-ara"]["all/ndcg@20"] = 0.6
    paper = PaperSettings(source="s", reported={"sports": values})
    assert "not every part helps: 0.5000" in findings.reported("sports", paper, "ndcg@20")


def test_report_names_the_first_and_where_the_reference_stands():
    overall = pd.DataFrame({"model": ["a", "motorec", "b", "oracle"], "recall@20": [0.1, 0.2, 0.3, 0.9]})
    overall["title"] = ["A", "MoToRec", "B", "Oracle"]
    cold = overall.iloc[:3].assign(**{"recall@20": [0.01, 0.03, 0.02]})
    tested = compared(
        [
            ("a", "all", "recall@20", -0.1, True),
            ("b", "all", "recall@20", 0.1, True),
            ("a", "cold", "recall@20", -0.02, True),
            ("b", "cold", "recall@20", -0.01, False),
            ("a", "cold", "ndcg@20", 0.5, True),
        ]
    )
    told = findings.report(overall, cold, {"motorec": tested}, "motorec", "recall@20")
    assert (
        "On all targets B is ahead (Recall@20 0.3000), before MoToRec (0.2000), by more than chance; the oracle, which "
        "knows the truth, has 0.9000. MoToRec is number 2 of 3; 1 model is better than MoToRec by more than chance, 1 "
        "is worse."
    ) in told
    assert (
        "On cold targets MoToRec is ahead (Recall@20 0.0300), before B (0.0200), which may be chance. MoToRec is "
        "number 1 of 3; no model is better than MoToRec by more than chance, 1 is worse."
    ) in told
    untested = findings.report(overall, cold, {}, "motorec", "recall@20")
    assert "before MoToRec (0.2000), which is not tested; the oracle" in untested
    assert "number" not in untested
    alone = findings.report(overall.iloc[:1], cold.iloc[:0], {}, "motorec", "recall@20")
    assert alone == "**What it shows.** On all targets A is ahead (Recall@20 0.1000)."


def test_users_are_grouped_by_what_they_took():
    taken = np.array([1, 1, 1, 2, 3, 4, 8, 9])
    values = np.array([0.0, 0.5, 1.0, 1.0, 0.0, 0.0, 0.25, 0.75])
    axis = walkthrough.by_history(values, taken, "Recall@20", "t", groups=2).axes[0]
    # The lower median is 2: four users at or below it, four above.
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1–2\n(4)", "3–9\n(4)"]
    assert [bar.get_height() for bar in axis.patches] == [0.625, 0.25]
    same = walkthrough.by_history(values, np.full(8, 5), "Recall@20", "t").axes[0]
    assert [label.get_text() for label in same.get_xticklabels()] == ["5\n(8)"]


def test_items_that_share_a_token_are_found_among_those_that_have_the_modality():
    present = np.array([True, False, True, True, True])
    features = {"text": Features("text", "e", np.zeros((5, 2), dtype=np.float32), present)}
    codes = {"text": np.array([[7, 0], [3, 0], [7, 1], [7, 0]])}
    groups = walkthrough.sharing(codes, features, tokens=1)
    assert {name: items.tolist() for name, items in groups.items()} == {"text token 7": [0, 3, 4]}


def test_interactions_stand_by_popularity_and_cold_items_behind_the_line():
    rows = [(0, 2, "train"), (1, 2, "train"), (0, 1, "train"), (1, 1, "valid"), (1, 0, "test")]
    axis = walkthrough.interactions(dataset(rows, 3), 1, "t").axes[0]
    places = {part.get_label(): part.get_offsets().tolist() for part in axis.collections}
    assert places == {"train": [[0, 0], [0, 1], [1, 0]], "valid": [[1, 1]], "test": [[2, 1]]}
    (line,) = axis.lines
    assert line.get_xdata()[0] == 1.5  # only item 0 has no training interaction


def test_an_ablation_is_called_by_its_model_and_its_part(project: Path) -> None:
    del project  # the settings of this repository
    assert full_title("lightgcn") == "LightGCN"
    assert full_title("motorec-no-ara") == "MoToRec without ARA"
    assert full_title("motorec-literal-ara") == "MoToRec, ARA as printed"
    assert full_title("tokenbridge-random") == "TokenBridge: random tokens"


def test_lists_agree_value_by_value_and_single_values_as_a_whole(project: Path) -> None:
    del project
    items = pd.DataFrame({"item_id": list("abcd"), "text": "", "image": ""})
    items["genres"], items["year"] = ["x, y", "x, z", "y", "y"], ["1990", "1990", "1991", "1992"]
    lines = [{"item_id": "a", "genres": ["x", "y"], "year": "1990"}]
    paths.write_whole(paths.raw("d") / "items.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    rows = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)  # a and b are neighbours, c and d are
    features = {"text": Features("text", "e", rows, np.ones(4, dtype=bool))}
    data = Dataset("d", items, [], pd.DataFrame({"user": [], "item": [], "split": []}))
    table = walkthrough.agreement(data, features, ["genres", "year"])
    # x: yes yes no no, always alike; y: yes no yes yes, alike in one pair of two; z: no yes no no, the same.
    assert table.loc["genres", "text"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert table.loc["genres", "by chance"] == pytest.approx((0.5 + 2 * (0.75**2 + 0.25**2)) / 3)
    assert table.loc["year"].to_dict() == neighbours.agreement(data, features, ("year",)).loc["year"].to_dict()
    assert walkthrough.agreement(data, features, []).empty


def test_values_are_told_by_how_rare_items_are():
    degrees = np.array([0, 3, 9, 10, 0])
    table = walkthrough.by_rarity({"a": np.array([1.0, 2.0, 4.0, 8.0, 3.0])}, degrees, 10)
    assert table.to_dict("index") == {
        "never taken": {"items": 2, "a": 2.0},
        "cold, taken": {"items": 2, "a": 3.0},
        "warm": {"items": 1, "a": 8.0},
    }
    assert list(walkthrough.by_rarity({"a": np.ones(2)}, np.array([10, 11]), 10).index) == ["warm"]


@pytest.mark.parametrize("fusion", ["hybrid", "sum"])
def test_the_parts_of_a_fusion_add_up_to_it(fusion: str) -> None:
    data = planted_dataset()
    settings = config.parse(MoToRec.Settings, {"dim": 16, "fusion": fusion, "tokenizer": TINY_TOKENIZER}, "test")
    model = untrained(MoToRec(settings, planted_inputs(data)))
    embeddings = model.embeddings()
    found = walkthrough.fusion_weights(model)
    if fusion == "sum":
        assert found == {}
        return
    assert all(len(values) == data.n_items for values in found.values())
    assert found["attention, image"] + found["attention, text"] == pytest.approx(1, abs=1e-5)
    whole = embeddings[1].norm(dim=1).detach().numpy()
    content, collaborative = found["length of content"], found["length of gated ID"]
    assert (whole <= content + collaborative + 1e-5).all()
    assert (whole >= np.abs(content - collaborative) - 1e-5).all()
    assert ((found["gate"] > 0) & (found["gate"] < 1)).all()
