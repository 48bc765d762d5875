"""Pictures and numbers of the notebooks 01 to 06: a data set and its features, a seed's tokenizers, a run's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from motorec import paths
from motorec.data.dataset import SPLITS, Dataset
from motorec.features import Features, neighbours
from motorec.rarity import Reading, rarity_weights
from motorec.reporting.codebooks import MODALITIES
from motorec.reporting.figures import grid, palette, themed
from motorec.reporting.readable import attributes_of
from motorec.tokenizer.codes import Codes, moved

if TYPE_CHECKING:
    from motorec.models.motorec import MoToRec

THUMBNAIL = 96  # pixels along an edge


@themed
def pictures(dataset: Dataset, rows: Mapping[str, Sequence[int]], title: str) -> Figure:
    """Pictures of items, from the data set's raw folder: a row for each name; an item without one is left white.

    Args:
        dataset: Whose pictures may be shown: those of people's products belong to them.
        rows: Item indices, the same number in each row, by what stands before the row.
        title: The figure's title.
    """
    gap = THUMBNAIL // 12
    columns = max(len(items) for items in rows.values())
    sheet = np.full((len(rows) * (THUMBNAIL + gap), columns * (THUMBNAIL + gap), 3), 255, dtype=np.uint8)
    for row, items in enumerate(rows.values()):
        for column, name in enumerate(dataset.items["image"].iloc[list(items)]):
            if name:
                with Image.open(paths.raw(dataset.name) / name) as picture:
                    small = np.asarray(picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL)))
                top, left = row * (THUMBNAIL + gap), column * (THUMBNAIL + gap)
                sheet[top : top + THUMBNAIL, left : left + THUMBNAIL] = small
    figure, axes = grid(1, 1, 7.2, 7.2 * sheet.shape[0] / sheet.shape[1], title)
    axis = axes[0, 0]
    axis.imshow(sheet, interpolation="lanczos")
    axis.set_xticks([])
    axis.set_yticks([THUMBNAIL / 2 + row * (THUMBNAIL + gap) for row in range(len(rows))], list(rows))
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


@themed
def interactions(dataset: Dataset, cold_below: int, title: str, users: int = 40) -> Figure:
    """Some rows of the interaction matrix: who took what, and to which split each of it went.

    Args:
        dataset: With its split; its first users are shown.
        cold_below: Items with fewer training interactions stand right of the line.
        title: The data set's title.
        users: How many.
    """
    order = np.argsort(-dataset.item_degrees(), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    figure, axes = grid(1, 1, 7.2, 3.0, f"{title}: what the first {users} users took")
    axis = axes[0, 0]
    some = dataset.interactions[dataset.interactions["user"] < users]
    for name, colour, marker in zip(SPLITS, palette(), "osD", strict=False):
        here = some[some["split"] == name]
        axis.scatter(place[here["item"]], here["user"], s=9, color=[colour], marker=marker, linewidth=0, label=name)
    warm = int((~dataset.cold(cold_below)).sum())
    axis.axvline(warm - 0.5, color="0.3", linestyle="--", linewidth=1, label=f"cold from here on (below {cold_below})")
    axis.set_xlim(-0.01 * len(order), 1.01 * len(order))
    axis.set_xlabel("items, the most popular first")
    axis.set_ylabel("users")
    axis.set_yticks([])
    axis.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, markerscale=1.8)
    return figure


@themed
def by_history(
    values: Float[np.ndarray, " users"], taken: Int[np.ndarray, " users"], metric: str, title: str, groups: int = 5
) -> Figure:
    """How well people are served by how much they took in training: groups of about the same size, a bar each.

    The whisker is the standard error over the group's users; the dashed line is the mean of all.

    Args:
        values: A metric of each user.
        taken: Training interactions of each user.
        metric: What the values are called.
        title: The figure's title.
        groups: How many groups at most; people who took equally much are not parted.
    """
    edges = np.unique(np.quantile(taken, np.linspace(0, 1, groups + 1)[1:-1], method="lower"))
    group = np.searchsorted(edges, taken)
    table = pd.DataFrame({"group": group, "value": values, "taken": taken}).groupby("group")
    mean, error = table["value"].mean(), table["value"].sem().fillna(0.0)
    low, high, count = table["taken"].min(), table["taken"].max(), table.size()
    names = [f"{a}\n({n:,})" if a == b else f"{a}–{b}\n({n:,})" for a, b, n in zip(low, high, count, strict=True)]
    figure, axes = grid(1, 1, 5.6, 2.4, title)
    axis = axes[0, 0]
    axis.bar(np.arange(len(mean)), mean, 0.7, yerr=error, color=palette()[0], error_kw={"ecolor": "0.15", "capsize": 2})
    everyone = axis.axhline(values.mean(), color="0.3", linestyle="--", linewidth=1, label="mean of all users")
    bar = Line2D([], [], color="0.15", linestyle="", marker="|", markersize=10, label="± standard error over the users")
    axis.set_xticks(np.arange(len(mean)), names)
    axis.grid(visible=False, axis="x")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("training interactions of the user (users)")
    axis.set_ylabel(metric)
    figure.legend(handles=[bar, everyone], loc="outside lower center", ncols=2, frameon=False)
    return figure


def agreement(dataset: Dataset, features: Mapping[str, Features], names: Sequence[str]) -> pd.DataFrame:
    """How often an item and its nearest neighbour agree in an attribute.

    Where an item may have several values, such as genres, each is a yes or no of its own, as in notebook 07; the row is
    the mean over them.

    Returns:
        A row per attribute: `by chance` (two random items) and one column per modality.
    """
    columns: dict[str, pd.Series] = {}
    attribute_of: dict[str, str] = {}
    for one in attributes_of(dataset, names):
        if one.several:
            found = {
                f"{one.name}: {value}": pd.Series(has) for value, has in zip(one.values, one.members.T, strict=True)
            }
        else:
            found = {one.name: dataset.items[one.name]}
        columns |= found
        attribute_of |= dict.fromkeys(found, one.name)
    table = neighbours.agreement(replace(dataset, items=pd.DataFrame(columns)), features, tuple(columns))
    return table.groupby(attribute_of.__getitem__, sort=False).mean()


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
        axis.plot(np.arange(1, len(share) + 1), share, color=colour, linewidth=1.8, label=MODALITIES[modality])
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
            top = 1.05 * history[name].max() or 1.0  # where no code is ever unused the line is at 0, and to be seen
            axis.set_ylim(-0.03 * top, top)
            if column == 0:
                axis.set_ylabel(axis_label)
        axes[0, column].set_title(MODALITIES[modality])
        axes[1, column].set_xlabel("epoch")
    return figure


@themed
def codebook_usage(usage: Mapping[str, Float[np.ndarray, "levels K"]], title: str) -> Figure:
    """How often each code is chosen, most used first: a row per level, a column per modality."""
    levels = max(len(shares) for shares in usage.values())
    figure, axes = grid(levels, len(usage), 6.4 / len(usage), 1.25, f"{title}: how often each code is used")
    for column, (modality, shares) in enumerate(usage.items()):
        for level, level_shares in enumerate(shares):
            axis, size = axes[level, column], len(level_shares)
            axis.bar(np.arange(size), np.sort(level_shares)[::-1], width=1.0, color=palette()[level % 10], linewidth=0)
            even = axis.axhline(1 / size, color="0.2", linestyle="--", linewidth=1)
            axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
            if column == 0:
                axis.set_ylabel(f"level {level + 1}")
            if level < len(shares) - 1:
                axis.tick_params(labelbottom=False)
        axes[0, column].set_title(MODALITIES[modality])
        axes[len(shares) - 1, column].set_xlabel("codes, the most used first")
    figure.legend([even], ["all codes used alike"], loc="outside lower center", frameon=False)
    return figure


def sharing(
    codes: Mapping[str, Int[np.ndarray, "_ levels"]], features: Mapping[str, Features], tokens: int = 3
) -> dict[str, Int[np.ndarray, " _"]]:
    """Items that have the same first token, for the most used tokens of each modality.

    Args:
        codes: Of the items that have the modality, in their order.
        features: Say which items these are.
        tokens: How many of each modality.

    Returns:
        Item indices, by a name such as "text token 17".
    """
    groups = {}
    for modality, code in codes.items():
        items = np.flatnonzero(features[modality].present)
        for token in pd.Series(code[:, 0]).value_counts().index[:tokens]:
            groups[f"{modality} token {token}"] = items[code[:, 0] == token]
    return groups


Tokens = tuple[Mapping[str, Codes], Mapping[str, Mapping[str, float]]]


def learned_along(before: Tokens, after: Tokens) -> pd.DataFrame:
    """What training with a model has made of its tokens.

    Args:
        before: The items' codes and the tokenizers' health, by modality: `Experiment.codes` and `.token_health`.
        after: The same once the model is trained.

    Returns:
        A row per modality and level: the share of the codes in use and the perplexity, before and after, and the share
        of the items that have another code now. No row where nothing with codes learns along.
    """
    (codes, health), (new_codes, new_health) = before, after
    rows = {}
    for one in codes:
        for level, share in enumerate(moved(codes[one], new_codes[one]), start=1):
            row: dict[str, float] = {}
            for name, measure in (("in use", f"used/{level}"), ("perplexity", f"perplexity/{level}")):
                row |= {f"{name}, before": health[one][measure], f"{name}, after": new_health[one][measure]}
            rows[one, level] = row | {"another code": float(share)}
    return pd.DataFrame.from_dict(rows, orient="index")


def fusion_weights(model: MoToRec) -> dict[str, Float[np.ndarray, " items"]]:
    r"""What the hybrid fusion makes of each item's channels, in a forward pass over all of them.

    Args:
        model: With any fusion.

    Returns:
        By name, a value per item: the attention to each modality, the lengths of :math:`e^m` and of
        :math:`g \odot e^{id}`, and the mean of the gate :math:`g` over dimensions. Nothing for another fusion.
    """
    from motorec.models.fusion import HybridFusion

    fusion = model.fusion
    if not isinstance(fusion, HybridFusion):
        return {}
    with torch.no_grad():
        channels = model.heard()
        content, gate = fusion.parts(channels)
    lengths = {"content": content, "gated ID": gate * channels.collaborative}
    found = {f"length of {name}": part.norm(dim=1) for name, part in lengths.items()} | {"gate": gate.mean(1)}
    attention = {f"attention, {name}": shares for name, shares in model.attention_shares().items()}
    return attention | {name: values[len(model.users) :].numpy() for name, values in found.items()}


def by_rarity(
    values: Mapping[str, Float[np.ndarray, " items"]], degrees: Int[np.ndarray, " items"], cold_below: int
) -> pd.DataFrame:
    """Means over the items that nobody took in training, the other cold ones, and the warm ones.

    Args:
        values: A value per item, by name.
        degrees: Training interactions of each item.
        cold_below: An item with fewer is cold.

    Returns:
        A row per group that has an item: `items`, and a column per name.
    """
    kinds = np.select([degrees == 0, degrees < cold_below], ["never taken", "cold, taken"], "warm")
    grouped = pd.DataFrame(values).groupby(kinds)
    table = pd.concat([grouped.size().rename("items"), grouped.mean()], axis=1)
    return table.reindex([name for name in ("never taken", "cold, taken", "warm") if name in table.index])
