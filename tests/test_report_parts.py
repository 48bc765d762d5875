"""Parts of the report whose right answer is known: mixing, models put together again, statistics, codebooks, cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from planted import planted_dataset, planted_features

from motorec import paths
from motorec.data import Dataset
from motorec.errors import DataError, ParamsError
from motorec.experiment import Experiment
from motorec.features import Features
from motorec.reporting import codebooks, datasets, degree, efficiency, embeddings, tables
from motorec.reporting.cost import cost, frontier
from motorec.reporting.runs import ExpectedRun


def test_mixing_by_hand():
    # On a line of directions: cold items 0 and 1 beside each other, warm 2 beside them, warm 3 and 4 far away.
    angles = np.radians([0.0, 1.0, 3.0, 90.0, 91.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1.0], [9.0], [2.0], [0.1], [5.0]])
    cold = np.array([True, True, False, False, False])
    # Nearest: 0 has 1, 1 has 0. Chance: three of the four others are warm.
    np.testing.assert_allclose(embeddings.mixing(vectors, cold, 1), [0.0, 0.0])
    # Two nearest: 1 and 2; 0 and 2. Half of them warm.
    np.testing.assert_allclose(embeddings.mixing(vectors, cold, 2), [0.5 / 0.75, 0.5 / 0.75])
    # Of the warm ones' two nearest: 1, 0; 4, 2; 3, 2. Chance: two of the four others are cold.
    np.testing.assert_allclose(embeddings.mixing(vectors, ~cold, 2), [2.0, 0.0, 0.0])
    # All others are neighbours: nothing but chance is left.
    np.testing.assert_allclose(embeddings.mixing(vectors, cold, 99), [1.0, 1.0])


def test_mixing_is_one_where_cold_items_are_anywhere_and_zero_where_they_are_apart():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(600, 8))
    cold = generator.random(600) < 0.3
    table = embeddings.mixing_table({"anywhere": {1: vectors, 2: -vectors}}, cold, 10, 0.05, 500, 0)
    assert table["of"].tolist() == ["cold", "warm"]
    assert table["mixing"].tolist() == pytest.approx([1.0, 1.0], abs=0.06)
    assert (table["low"] < table["mixing"]).all()
    assert (table["mixing"] < table["high"]).all()
    assert table["mixing_sd"].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)  # the same neighbours in a mirror
    apart = vectors + np.where(cold, 50.0, -50.0)[:, None]
    table = embeddings.mixing_table({"apart": {1: apart}}, cold, 10, 0.05, 500, 0)
    assert table["mixing"].tolist() == [0.0, 0.0]
    assert table["mixing_sd"].isna().all()


@pytest.mark.parametrize("cold", [np.zeros(20, dtype=bool), np.ones(20, dtype=bool)])
def test_without_a_second_kind_there_is_no_mixing(cold: np.ndarray):
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    table = embeddings.mixing_table({"a": {1: vectors}}, cold, 5, 0.05, 50, 0)
    assert table["mixing"].isna().all()
    cells = embeddings.cells(table, {"a": "A"}, tables.MARKDOWN)
    assert cells["Mixing"].tolist() == ["–", "–"]


def test_a_map_is_the_same_every_time_and_keeps_groups_together():
    generator = np.random.default_rng(0)
    group = np.arange(60) % 3
    vectors = generator.normal(size=(3, 8))[group] + 0.05 * generator.normal(size=(60, 8))
    first = embeddings.flat(vectors, 0)
    np.testing.assert_array_equal(first, embeddings.flat(vectors, 0))
    distances = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(60)
    assert (group[distances.argmin(1)] == group).mean() > 0.95


def change(file: str, **values: object) -> None:
    path = paths.root() / "params" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


@pytest.fixture
def trained(project: Path) -> tuple[ExpectedRun, torch.Tensor]:
    """A LightGCN trained on planted data as stage 04 does it, and its item embeddings."""
    data = planted_dataset()
    data.save(paths.catalogue("garments"))
    for features in planted_features(data).values():
        features.save(paths.features("garments"))
    change("train.yaml", epochs=2, evaluate_every=1)
    experiment = Experiment.load("garments", "lightgcn", 1)
    model = experiment.build()
    fit = experiment.fit(model)
    experiment.save(model, fit, experiment.evaluate(model))
    run = ExpectedRun("garments", "lightgcn", 1, "LightGCN", "model")
    return run, model.embeddings()[1]  # type: ignore[attr-defined]


def test_a_model_is_put_together_again_as_it_was(trained: tuple[ExpectedRun, torch.Tensor]):
    run, items = trained
    np.testing.assert_array_equal(embeddings.item_vectors(run), items.detach().numpy())


def test_weights_that_do_not_go_with_the_metrics_are_refused(trained: tuple[ExpectedRun, torch.Tensor]):
    run, _ = trained
    values = json.loads(run.metrics_file.read_text())
    run.metrics_file.write_text(json.dumps(values | {"test/all/recall@20": values["test/all/recall@20"] + 0.01}))
    with pytest.raises(DataError, match=r"lightgcn/1/model\.safetensors does not go with .*test/all/recall@20"):
        embeddings.item_vectors(run)


def test_weights_of_another_size_are_refused(trained: tuple[ExpectedRun, torch.Tensor]):
    run, _ = trained
    change("models/lightgcn.yaml", dim=32)
    with pytest.raises(DataError, match=r"model\.safetensors does not go with the settings"):
        embeddings.item_vectors(run)


def test_missing_weights_name_the_remedy(trained: tuple[ExpectedRun, torch.Tensor]):
    run, _ = trained
    (paths.run_data("garments", "lightgcn", 1) / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors is missing.*dvc repro"):
        embeddings.item_vectors(run)


def test_a_model_without_item_embeddings_cannot_be_mapped(trained: tuple[ExpectedRun, torch.Tensor]):
    (paths.run_data("garments", "popularity", 1)).mkdir(parents=True)
    (paths.run_data("garments", "popularity", 1) / "model.safetensors").touch()
    with pytest.raises(ParamsError, match="mapped names 'popularity', which has no embedding"):
        embeddings.item_vectors(ExpectedRun("garments", "popularity", 1, "Popularity", "model"))


def test_statistics_by_hand():
    rows = [(0, 0, "train"), (1, 0, "train"), (2, 0, "train"), (0, 1, "train"), (1, 1, "test"), (1, 2, "test")]
    rows += [(2, 1, "valid"), (2, 2, "test")]
    interactions = pd.DataFrame(rows, columns=["user", "item", "split"])
    items = pd.DataFrame({"item_id": list("abcd"), "text": "", "image": ""})
    data = Dataset("d", items, ["x", "y", "z"], interactions)
    texts = Features("text", "e", np.zeros((4, 2), dtype=np.float32), np.array([True, True, False, True]))
    row = datasets.statistics(data, {"text": texts}, cold_below=1).iloc[0]
    counts = ["users", "items", "interactions", "train", "valid", "test", "cold_items", "unseen_items", "cold_targets"]
    assert row[counts].tolist() == [3, 4, 8, 4, 1, 3, 2, 2, 2]
    assert row["density"] == 8 / 12
    assert row["median_degree"] == 0.5  # of 3, 1, 0, 0
    assert row["cold_items_share"] == 0.5
    assert row["cold_targets_share"] == pytest.approx(2 / 3)
    assert row["text_items"] == 3
    assert pd.isna(row["image_items"])
    cells = datasets.cells(datasets.statistics(data, {"text": texts}, 1), {"d": "D & E"}, tables.LATEX)
    assert cells.iloc[0].tolist() == [
        r"D \& E", "3", "4", "8", r"66.667\%", "0.5", r"2 (50.0\%)", r"2 (66.7\%)", "3", "--"
    ]  # fmt: skip


@pytest.mark.usefixtures("project")
def test_codebooks_over_seeds():
    for seed, used in ((1, 0.5), (2, 1.0)):
        values = {"used/1": used, "perplexity/1": 4.0 * seed, "collisions/1": 1.0, "explained/1": 0.2}
        health = {"text": values | {"kept_neighbours/1": 0.3, "collisions": 1.0}}
        paths.write_whole(paths.tokens("garments", seed) / "health.json", json.dumps(health))
        paths.write_whole(paths.tokens("garments", seed) / "text.json", '{"codebook_size": 16}')
    health = codebooks.load_health("garments", [1, 2])
    row = codebooks.codebook_table(health).iloc[0]
    assert row[["modality", "level", "codes", "seeds"]].tolist() == ["text", 1, 16, 2]
    assert row[["used", "perplexity"]].tolist() == [0.75, 6.0]
    assert row["perplexity_sd"] == pytest.approx(8**0.5)
    axis = codebooks.codebooks(health, "Garments").axes[0]
    heights = {line.get_label(): line.get_ydata()[0] for line in axis.lines}
    assert heights == {"codes that there are": 16, "in use": 12.0, "in effective use": 6.0}
    with pytest.raises(DataError, match=r"data/tokens/garments/3/health\.json is missing: run the tokenize stage"):
        codebooks.load_health("garments", [1, 2, 3])


def test_the_frontier_holds_what_no_faster_model_reaches():
    assert frontier(np.array([0.1, 0.3, 0.2, 0.3, 0.4])).tolist() == [True, True, False, False, True]


def some_costs() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "title": [f"Some model {place}" for place in range(16)],
            "recall@20": generator.uniform(0.1, 0.3, 16),
            "seconds_fit": [*10 ** generator.uniform(-2, 3, 15), np.nan],
            "epochs": [np.nan, 5.0] * 8,
            "parameters": [0.0, 1e6] * 8,
        }
    )


@pytest.mark.parametrize("file", [None, "results/efficiency/hm.csv"])
def test_names_in_the_cost_figure_are_off_all_else_and_each_is_its_points(file: str | None):
    from matplotlib.path import Path as Line

    table = some_costs() if file is None else pd.read_csv(Path(__file__).parent.parent / file)
    timed = table[table["seconds_fit"].notna()].set_index("title")
    figure = cost(table, "Garments")
    figure.draw_without_rendering()
    axis = figure.axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert sorted(boxes) == sorted(timed.index)  # what has no time has no point
    frame = axis.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes.values())
    assert not [
        (one, other)
        for one, box in boxes.items()
        for other in boxes
        if one < other and box.padded(-1).overlaps(boxes[other].padded(-1))
    ]
    points = {name: axis.transData.transform((row["seconds_fit"], row["recall@20"])) for name, row in timed.iterrows()}

    def gap(name: str, point: str) -> float:
        box, (x, y) = boxes[name], points[point]
        return float(np.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1)))

    assert all(gap(name, point) > 0 for name in boxes for point in points)
    leaders = [axis.transData.transform(line.get_xydata()) for line in axis.lines if line.get_label() == "_leader"]
    led = {min(points, key=lambda name: float(np.hypot(*(leader[0] - points[name])))): leader for leader in leaders}
    assert len(led) == len(leaders)
    for name, leader in led.items():
        line = Line(leader)
        assert not [other for other, box in boxes.items() if other != name and line.intersects_bbox(box.padded(-1))]
        along = leader[0] + np.linspace(0, 1, 50)[:, None] * (leader[1] - leader[0])
        for other in points.keys() - {name}:
            assert np.hypot(*(along - points[other]).T).min() > 3, (name, other)
    for name in boxes.keys() - led.keys():  # no line: the name is beside its point, and beside no other
        assert min(points, key=lambda point: gap(name, point)) == name


def test_the_cost_table_ranks_accuracy_alone_and_writes_no_time_as_nothing():
    table = pd.DataFrame(
        {
            "model": list("abc"),
            "title": ["A", "B", "C"],
            "seeds": [1, 3, 3],
            "recall@20": [0.1, 0.3, 0.2],
            "ndcg@20": [0.3, 0.2, 0.1],
            **dict.fromkeys(("parameters", "epochs", "seconds_per_epoch", "seconds_evaluate", "peak_memory_mb"), 1.0),
            "seconds_fit": [0.0018, 0.5, 100.0],
            "seconds_fit_ratio": [0.000061, 1.0, 123.4],
        }
    )
    cells = efficiency.cells(table, tables.MARKDOWN)
    assert cells["Seeds"].tolist() == ["1", "3", "3"]
    assert cells["Recall@20"].tolist() == ["0.1000", "**0.3000**", "<u>0.2000</u>"]
    assert cells["NDCG@20"].tolist() == ["**0.3000**", "<u>0.2000</u>", "0.1000"]
    assert cells["Fitting (s)"].tolist() == ["<0.01 (<0.01×)", "0.50 (1×)", "100.00 (123×)"]
    assert cells["Parameters"].tolist() == ["1"] * 3
    assert "Data set" not in cells


def of_users(values: dict[str, list[float]], group: str = "deg0-4") -> pd.DataFrame:
    """Per-user values as `Evaluation.per_user` has them."""
    rows = len(next(iter(values.values())))
    return pd.DataFrame({"user": range(rows), "split": "test", "group": group, **values})


def test_accuracy_by_degree_has_intervals_over_users_of_the_mean_over_seeds():
    seeds = [of_users({"recall@20": [0.0, 1.0] * 20}), of_users({"recall@20": [1.0, 1.0] * 20})]
    runs = {"one": seeds, "oracle": [of_users({"recall@20": [1.0] * 40})]}
    table = degree.by_degree(runs, ["recall@20"], (5, 10), 0.05, 2000, 0).set_index("model")
    assert set(table["group"]) == {"deg0-4"}  # no user has a target in the others
    assert table.loc["one", ["users", "mean"]].tolist() == [40, 0.75]
    half = 1.96 * 0.25 / 40**0.5  # users are worth 0.5 or 1
    assert table.loc["one", ["low", "high"]].tolist() == pytest.approx([0.75 - half, 0.75 + half], abs=0.015)
    assert table.loc["oracle", ["low", "high"]].tolist() == [1.0, 1.0]


def test_the_figure_by_degree_leaves_the_height_to_the_models():
    groups = ["deg0-4", "deg5plus"]
    rows = [
        {"group": group, "metric": "recall@20", "model": name, "users": 7, "mean": mean, "low": 0.9 * mean, "high": 0.1}
        for group, scale in zip(groups, (0.1, 1.0), strict=True)
        for name, mean in (("one", 0.1 * scale), ("other", 0.05 * scale), ("oracle", 0.9))
    ]
    figure = degree.degree(pd.DataFrame(rows), {"one": "One", "other": "Other", "oracle": "Truth"}, "D", 0.05)
    figure.draw_without_rendering()
    axis = figure.axes[0]
    assert axis.get_ylim()[1] < 0.2
    drawn = {box.get_label(): box.lines[0] for box in axis.containers}
    assert sorted(drawn) == ["One", "Other"]
    assert drawn["One"].get_ydata().tolist() == pytest.approx([0.01, 0.1])
    assert len({tuple(line.get_xdata()) for line in drawn.values()}) == 2  # beside each other
    low, high = (axis.transData.transform((0, value))[1] for value in (0.01, 0.04))
    assert high - low == pytest.approx(low - axis.transData.transform((0, 0))[1])  # square roots
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0–4\n(7)", "5+\n(7)"]
    above = axis.child_axes[0]
    assert [text.get_text() for text in above.get_xticklabels()] == ["0.90", "0.90"]
    assert "95% interval over users" in [text.get_text() for text in figure.legends[0].get_texts()]
