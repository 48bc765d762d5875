"""The figure that sets every model against the reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from motorec.reporting import figures


def compared(**differences: tuple[float, bool]) -> pd.DataFrame:
    """A comparison as `evaluation.compare` gives it: by model, difference on all targets and whether it is real."""
    rows = [
        {"model": name, "group": group, "metric": metric, "difference": value, "significant": real}
        for group, metric in (("all", "recall@20"), ("all", "ndcg@20"), ("cold", "recall@20"), ("cold", "ndcg@20"))
        for name, (value, real) in differences.items()
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(low=frame["difference"] - 0.01, high=frame["difference"] + 0.01)


def test_best_on_top_and_the_colour_is_the_verdict() -> None:
    table = compared(worse=(-0.1, True), tie=(0.02, False), better=(0.2, True))
    titles = {"worse": "Worse", "tie": "Tie", "better": "Better"}
    figure = figures.comparison(table, titles, "Ours", "Data", 0.05)
    assert len(figure.axes) == 4
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["Better", "Tie", "Worse"]
    points = {}
    for collection in axis.collections:
        if isinstance(collection, PathCollection):
            colour = to_rgba(np.asarray(collection.get_facecolor())[0].tolist())
            for x, y in np.asarray(collection.get_offsets()).tolist():
                points[round(y)] = (x, colour)
    assert {place: x for place, (x, _) in points.items()} == pytest.approx({0: 0.2, 1: 0.02, 2: -0.1})
    colours = figures.palette()
    assert points[0][1] == pytest.approx(to_rgba(colours[0]))
    assert points[2][1] == pytest.approx(to_rgba(colours[1]))
    assert points[1][1] not in (points[0][1], points[2][1])


def test_every_panel_keeps_the_order_of_the_first() -> None:
    table = compared(one=(0.1, True), two=(-0.1, True))
    table.loc[table["group"] == "cold", "difference"] *= -1
    figure = figures.comparison(table, {"one": "One", "two": "Two"}, "Ours", "Data", 0.05)
    assert all([text.get_text() for text in axis.get_yticklabels()] == ["One", "Two"] for axis in figure.axes[::2])
