"""Pictures of the notebooks 02 and 03: one data set's features, one seed's tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from motorec.rarity import Reading, rarity_weights
from motorec.reporting.figures import grid, palette, themed


@themed
def explained_variance(features: Mapping[str, Float[np.ndarray, "_ _"]], title: str) -> Figure:
    """Share of the variance that the first principal components hold, a line per modality.

    Args:
        features: Rows of each modality, of the items that have it.
        title: The data set's title.
    """
    figure, axes = grid(1, 1, 5.6, 2.8, f"{title}: how many dimensions are in use?")
    axis = axes[0, 0]
    for colour, (modality, rows) in zip(palette(), features.items(), strict=False):
        spectrum = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
        share = np.cumsum(spectrum) / spectrum.sum()
        axis.plot(np.arange(1, len(share) + 1), share, color=colour, linewidth=1.8, label=modality)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("principal components")
    axis.set_ylabel("share of the variance")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


@themed
def rarity_readings(tau: int, chosen: Reading) -> Figure:
    """The weight of an item by its training degree, in every reading of the formula; the chosen one is thick."""
    figure, axes = grid(1, 1, 5.6, 2.6, "Rarity weight by training degree")
    axis, degrees = axes[0, 0], np.arange(0, 2 * tau + 1)
    for colour, reading in zip(palette(), get_args(Reading), strict=False):
        weights = rarity_weights(degrees, tau, reading)
        thick = 2.6 if reading == chosen else 1.2
        axis.plot(degrees, weights, color=colour, marker="o", markersize=3, linewidth=thick, label=reading)
    axis.axvline(tau, color="0.3", linestyle="--", linewidth=1, label=f"warm from {tau} on")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("training interactions of the item")
    axis.set_ylabel("weight")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


@themed
def pretraining(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Loss and dead codes by epoch, a column per modality."""
    figure, axes = grid(2, len(histories), 6.4 / len(histories), 1.7, f"{title}: pretraining of the tokenizers")
    for column, (modality, history) in enumerate(histories.items()):
        for row, (name, axis_label) in enumerate((("loss", "loss"), ("dead", "unused codes"))):
            axis = axes[row, column]
            axis.plot(history["epoch"], history[name], color=palette()[row])
            axis.set_ylim(bottom=0)
            if column == 0:
                axis.set_ylabel(axis_label)
        axes[0, column].set_title(modality)
        axes[1, column].set_xlabel("epoch")
    return figure


@themed
def codebook_usage(usage: Mapping[str, Float[np.ndarray, "levels K"]], title: str) -> Figure:
    """How often each code is chosen, most used first: a row per level, a column per modality; dashed is even use."""
    levels = max(len(shares) for shares in usage.values())
    figure, axes = grid(levels, len(usage), 6.4 / len(usage), 1.25, f"{title}: how often each code is used")
    for column, (modality, shares) in enumerate(usage.items()):
        for level, level_shares in enumerate(shares):
            axis, size = axes[level, column], len(level_shares)
            axis.bar(np.arange(size), np.sort(level_shares)[::-1], width=1.0, color=palette()[level % 10], linewidth=0)
            axis.axhline(1 / size, color="0.2", linestyle="--", linewidth=1)
            axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
            if column == 0:
                axis.set_ylabel(f"level {level + 1}")
            if level < len(shares) - 1:
                axis.tick_params(labelbottom=False)
        axes[0, column].set_title(modality)
        axes[len(shares) - 1, column].set_xlabel("codes, the most used first")
    return figure
