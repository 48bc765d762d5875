"""Figures of the tokens that can be read; the numbers are `motorec.reporting.readable`'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from motorec.reporting.codebooks import MODALITIES
from motorec.reporting.figures import grid, palette, themed, whisker
from motorec.tokenkinds import KINDS

THUMBNAIL = 92  # pixels along each edge of a picture
FRAME = 4  # pixels of the frame around one
# Of each kind of codes, in every figure: the place of its colour in the palette, and its marker.
LOOKS = {"rqvae": (0, "o"), "joint": (9, "s"), "no-sparsity": (1, "D"), "kmeans": (2, "^"), "random": (7, "v")}


@themed
def information(table: pd.DataFrame, title: str) -> Figure:
    """What each level tells of each attribute, beyond chance: a row of panels per modality, a column per level.

    A point is the mean over seeds of a kind of codes, the bar its standard deviation.

    Args:
        table: The table `attributes`.
        title: The data set's title.
    """
    modalities, levels, attributes = (list(table[name].unique()) for name in ("modality", "level", "attribute"))
    kinds = list(table["kind"].unique())
    height = 0.1 * len(kinds) * len(attributes) + 1.2
    figure, axes = grid(len(modalities), len(levels), 2.5, height, f"{title}: what tokens tell", share_y=True)
    step = 0.62 / len(kinds)
    for row, modality in zip(axes, modalities, strict=True):
        for axis, level in zip(row, levels, strict=True):
            here = table[(table["modality"] == modality) & (table["level"] == level)]
            axis.axvline(0.0, color="0.3", linewidth=1)
            for place, kind in enumerate(kinds):
                one = here[here["kind"] == kind].set_index("attribute").reindex(attributes)
                shade, marker = LOOKS[kind]
                axis.errorbar(
                    one["ami"],
                    np.arange(len(attributes)) + (place - (len(kinds) - 1) / 2) * step,
                    xerr=one["ami_sd"].fillna(0.0),
                    linestyle="",
                    marker=marker,
                    markersize=5,
                    elinewidth=1.3,
                    color=palette()[shade],
                    label=KINDS[kind],
                )
            axis.set_yticks(np.arange(len(attributes)), [called(name) for name in attributes])
            axis.set_ylim(len(attributes) - 0.5, -0.5)
            axis.set_xlim(min(-0.03, table["ami"].min() - 0.03), max(0.2, 1.12 * table["ami"].max()))
            axis.set_title(f"{MODALITIES[modality]}, level {level}")
            axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for axis in axes[-1]:
        axis.set_xlabel("AMI with the attribute")
    handles, names = axes[0, 0].get_legend_handles_labels()
    spread = whisker(table["seeds"])
    names += [str(entry.get_label()) for entry in spread]
    figure.legend([*handles, *spread], names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def called(attribute: str) -> str:
    """An attribute's name as a reader sees it: `product_type` is "product type"."""
    return attribute.replace("_", " ")


@themed
def reading(table: pd.DataFrame, title: str) -> Figure:
    """The share of the codes in use that read as a value, by level, a panel per modality; a point is one seed.

    Args:
        table: `Readable.reading_by_seed`.
        title: The data set's title.
    """
    modalities, kinds = list(table["modality"].unique()), list(table["kind"].unique())
    levels = np.sort(table["level"].unique())
    width = max(3.3, 5.2 / len(modalities))
    figure, axes = grid(1, len(modalities), width, 2.5, f"{title}: tokens that read as a value", share_y=True)
    thickness = 0.8 / len(kinds)
    for axis, modality in zip(axes[0], modalities, strict=True):
        for place, kind in enumerate(kinds):
            here = table[(table["modality"] == modality) & (table["kind"] == kind)]
            shift = (place - (len(kinds) - 1) / 2) * thickness
            mean = here.groupby("level")["reading"].mean().reindex(levels)
            colour = palette()[LOOKS[kind][0]]
            axis.bar(levels + shift, mean, 0.92 * thickness, color=colour, label=KINDS[kind])
            axis.scatter(here["level"] + shift, here["reading"], s=11, color="0.1", zorder=3, linewidth=0)
        axis.set_title(MODALITIES[modality])
        axis.set_xlabel("level")
        axis.set_xticks(levels)
        axis.grid(visible=False, axis="x")
        axis.set_ylim(0, max(0.1, 1.1 * table["reading"].max()))
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes[0, 0].set_ylabel("codes that read")
    handles, names = axes[0, 0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="0.1", linestyle="", marker="o", markersize=3.5))
    names.append("one seed")
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


@themed
def tokens(shown: pd.DataFrame, pictures: Sequence[Sequence[tuple[Path, bool]]], title: str) -> Figure:
    """Tokens with pictures of their items: a row per token, what it reads as to the left.

    Args:
        shown: `Readable.shown`.
        pictures: Of each token some items' pictures, and whether the item has the token's value: then it is framed.
        title: The data set's title.
    """
    most = max(map(len, pictures))
    figure = Figure(figsize=(7.4, 0.7 * len(shown) + 0.9), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False, gridspec_kw={"width_ratios": [3.2, most]})
    figure.suptitle(f"{title}: the most and the least readable tokens", fontsize=13, fontweight="bold")
    for (words, strip), items, (_, token) in zip(axes, pictures, shown.iterrows(), strict=True):
        where = f"{MODALITIES[token['modality']]}, level {token['level']}, code {token['code']}"
        shares = f"{100 * token['purity']:.0f}% of {token['items']} items (chance {100 * token['chance']:.0f}%)"
        words.text(0.0, 0.84, f"{token['readable']} readable · {where}", fontsize=7, color="0.35", va="center")
        words.text(
            0.0, 0.5, f"{called(token['attribute'])}: {token['value']}", fontsize=10, fontweight="bold", va="center"
        )
        words.text(0.0, 0.16, shares, fontsize=8, va="center")
        row = np.full((THUMBNAIL + 2 * FRAME, most * (THUMBNAIL + 4 * FRAME), 3), 255, dtype=np.uint8)
        for place, (file, framed) in enumerate(items):
            start = place * (THUMBNAIL + 4 * FRAME)
            if framed:
                row[:, start : start + THUMBNAIL + 2 * FRAME] = np.round(255 * np.array(palette()[0]))
            row[FRAME:-FRAME, start + FRAME : start + FRAME + THUMBNAIL] = _thumbnail(file)
        strip.imshow(row)
        for axis in (words, strip):
            axis.set_axis_off()
    frame = Patch(facecolor="none", edgecolor=palette()[0], linewidth=2, label="has the value")
    figure.legend(handles=[frame], loc="outside lower right", frameon=False, fontsize=9)
    return figure


def _thumbnail(file: Path) -> UInt8[np.ndarray, "edge edge 3"]:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL)))
