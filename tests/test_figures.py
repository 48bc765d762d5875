"""What figures say of themselves: which line is which loss, and what whiskers, thin lines and small points are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from motorec.reporting import embeddings, figures, readable_figures, walkthrough


def history(model: str, seeds: int = 1, **losses: float) -> pd.DataFrame:
    """A training of four epochs whose losses start at some values and fall."""
    epochs = np.arange(1, 5)
    one = pd.DataFrame({"model": model, "title": model.upper(), "epoch": epochs})
    one = one.assign(**{name: start / epochs for name, start in losses.items()})
    one["loss"] = sum(start / epochs for start in losses.values())
    one["valid/all/recall@20"] = 0.1
    return pd.concat([one.assign(seed=seed) for seed in range(seeds)], ignore_index=True)


def legend(figure: Figure) -> dict[str, object]:
    """How each entry of the legend looks: its colour and line style."""
    entry = figure.legends[0]
    return {
        text.get_text(): (line.get_color(), line._unscaled_dash_pattern)
        for text, line in zip(entry.get_texts(), entry.get_lines(), strict=True)
    }


def test_a_loss_looks_the_same_whatever_is_drawn_beside_it() -> None:
    one = legend(figures.training(history("a", bpr=1.0, l2=0.5), "One"))
    other = legend(figures.training(history("b", softmax=1.0, tokenizer=0.7, l2=0.5, bpr=0.2), "Other"))
    assert one["BPR"] == other["BPR"]
    assert one["L2 penalty"] == other["L2 penalty"]


def test_no_two_losses_look_alike_however_many_there_are() -> None:
    names = [*figures.LOSSES, *(f"unknown {place}" for place in range(20))]
    looks = list(figures.loss_looks(names).values())
    assert len(set(looks)) == len(names)


@pytest.mark.parametrize("losses", [("loss", "bpr", "infonce", "tokenizer", "l2"), ("bpr", "text", "image", "l2")])
def test_losses_of_one_model_differ_in_style_and_not_in_colour_alone(losses: tuple[str, ...]) -> None:
    looks = figures.loss_looks(losses)
    assert len({style for _, style in looks.values()}) == len(losses)


def test_the_sum_is_left_out_where_one_loss_hides_it() -> None:
    both = pd.concat([history("one", bpr=1.0, text=0.0001), history("two", bpr=1.0, l2=0.5)], ignore_index=True)
    figure = figures.training(both, "Data")
    assert len(figure.axes[0].lines) == 2  # bpr and text, not their sum
    assert len(figure.axes[1].lines) == 3
    assert "loss (sum)" in legend(figure)
    assert "loss (sum)" not in legend(figures.training(both[both["model"] == "one"], "Data"))


def test_thin_lines_are_explained_where_there_are_some() -> None:
    assert {"thin: one seed", "thick: mean of 3 seeds, as long as all train"} <= set(
        legend(figures.training(history("a", seeds=3, bpr=1.0), "Data"))
    )
    assert not [name for name in legend(figures.training(history("a", bpr=1.0), "Data")) if "seed" in name]


def accuracies(seeds: dict[str, int]) -> pd.DataFrame:
    rows = [
        {"dataset": dataset, "model": "m", "title": "M", "role": "model", "seed": seed, "group": group, "value": 0.1}
        for dataset, count in seeds.items()
        for seed in range(count)
        for group in ("all", "cold")
    ]
    return pd.DataFrame(rows).assign(split="test", metric="recall@20")


@pytest.mark.parametrize(
    ("seeds", "told"),
    [({"a": 1}, None), ({"a": 3}, "over 3 seeds"), ({"a": 3, "b": 5}, "over 3 to 5 seeds")],
)
def test_whiskers_of_the_accuracy_figure_are_explained(seeds: dict[str, int], told: str | None) -> None:
    figure = figures.accuracy(accuracies(seeds), ["recall@20"], {name: name for name in seeds})
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    found = [name for name in names if "standard deviation" in name]
    assert found == ([] if told is None else [f"± standard deviation {told}"])


def test_attributes_are_written_as_words_and_their_whiskers_explained() -> None:
    rows = [
        {"kind": "rqvae", "modality": "text", "level": 1, "attribute": name, "seeds": 2, "ami": 0.3, "ami_sd": 0.1}
        for name in ("product_type", "colour")
    ]
    figure = readable_figures.information(pd.DataFrame(rows), "Data")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["product type", "colour"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "RQ-VAE, pretrained",
        "± standard deviation over 2 seeds",
    ]


def test_points_of_single_seeds_are_explained() -> None:
    rows = [{"kind": "rqvae", "modality": "text", "level": 1, "seed": seed, "reading": 0.4} for seed in (1, 2)]
    figure = readable_figures.reading(pd.DataFrame(rows), "Data")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["RQ-VAE, pretrained", "one seed"]


def test_maps_say_what_is_missing() -> None:
    places = {"Model": np.random.default_rng(0).normal(size=(10, 2))}
    cold = np.arange(10) < 3
    figure = embeddings.maps(places, cold, ["below"], "Data", ["no map of Other"])
    assert figure.legends[0].get_title().get_text() == "no map of Other"
    assert embeddings.maps(places, cold, ["below"], "Data").legends[0].get_title().get_text() == ""


def test_panels_of_a_modality_are_called_alike_in_all_figures() -> None:
    losses = pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5], "dead": [0, 0]})
    drawn = walkthrough.pretraining({"text": losses, "image": losses}, "Data")
    assert [axis.get_title() for axis in drawn.axes[:2]] == ["texts", "pictures"]
    drawn = walkthrough.codebook_usage({"text": np.full((2, 4), 0.25)}, "Data")
    assert drawn.axes[0].get_title() == "texts"


def test_whiskers_of_users_by_history_are_explained() -> None:
    figure = walkthrough.by_history(np.linspace(0, 1, 20), np.arange(20), "Recall@20", "Data")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["± standard error over the users", "mean of all users"]
