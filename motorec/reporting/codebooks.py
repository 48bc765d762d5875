"""How well the pretrained tokenizers' codebooks are used: health over seeds, as a table and a figure.

It reads what stage 03 left at `data/tokens/<dataset>/<seed>`, and trains nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from motorec import paths
from motorec.errors import DataError
from motorec.reporting import tables
from motorec.reporting.figures import MARKERS, grid, palette, themed
from motorec.tokenizer.health import by_level

MODALITIES = {"text": "texts", "image": "pictures"}
# The columns of the table, and how they are called; what they mean is told in `tokenizer.health`.
SHOWN = {
    "used": "Codes in use",
    "perplexity": "Perplexity",
    "collisions": "Collisions",
    "explained": "Explained",
    "kept_neighbours": "Kept neighbours",
}


def load_health(dataset: str, seeds: Sequence[int]) -> pd.DataFrame:
    """Health of the tokenizers of some seeds.

    Returns:
        A row per seed, modality and level: `seed`, `modality`, `level`, `codes` (K), and the measures of
        `tokenizer.health`; those of levels 1 to k together where health has them so. Empty for tokenizers without
        codes.

    Raises:
        DataError: A seed's tokenizers are missing.
    """
    frames = []
    for seed in seeds:
        folder = paths.tokens(dataset, seed)
        file = folder / "health.json"
        if not file.is_file():
            raise DataError(
                f"{paths.shown(file)} is missing: run the tokenize stage first (notebook 03_tokenize, or `dvc repro`)."
            )
        table = by_level(json.loads(file.read_text(encoding="utf-8"))).reset_index()
        sizes = {
            name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["codebook_size"]
            for name in table["modality"].unique()
        }
        table.insert(2, "codes", table["modality"].map(sizes))
        table.insert(0, "seed", seed)
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def codebook_table(health: pd.DataFrame) -> pd.DataFrame:
    """Health by modality and level: `modality`, `level`, `codes`, `seeds`, each measure's mean over seeds and `_sd`."""
    keys = ["modality", "level", "codes"]
    grouped = health.groupby(keys, sort=False)
    table = grouped["seed"].nunique().rename("seeds").to_frame()
    for name in SHOWN:
        table[name] = grouped[name].mean()
        table[f"{name}_sd"] = grouped[name].std(ddof=1)
    return table.reset_index()


def cells(table: pd.DataFrame, style: tables.Style) -> pd.DataFrame:
    """The table as a reader sees it."""
    shown = {
        "Modality": list(table["modality"]),
        "Level": [str(level) for level in table["level"]],
        "Codes": [str(codes) for codes in table["codes"]],
        "Seeds": [str(seeds) for seeds in table["seeds"]],
    }
    for name, heading in SHOWN.items():
        form = "{:.1f}" if name == "perplexity" else "{:.3f}"
        shown[heading] = [
            form.format(mean) if np.isnan(sd) else f"{form.format(mean)} ± {form.format(sd)}"
            for mean, sd in zip(table[name], table[f"{name}_sd"], strict=True)
        ]
    return pd.DataFrame(shown).map(style.escape)


@themed
def codebooks(health: pd.DataFrame, title: str, names: Mapping[str, str] = MODALITIES) -> Figure:
    """Codes in use and in effective use (perplexity) at each level, a panel per modality; a small point is one seed.

    Args:
        health: From `load_health`.
        title: The data set's title.
        names: What the modalities are called.
    """
    modalities = [name for name in names if name in set(health["modality"])]
    seeds = health["seed"].nunique()
    heading = f"{title}: pretrained codebooks ({seeds} seed{'s' if seeds > 1 else ''})"
    figure, axes = grid(1, len(modalities), max(3.1, 4.8 / len(modalities)), 2.6, heading, share_y=True)
    colours = palette()
    for axis, modality in zip(axes[0], modalities, strict=True):
        here = health[health["modality"] == modality].assign(used=lambda table: table["used"] * table["codes"])
        axis.axhline(here["codes"].max(), color="0.3", linestyle="--", linewidth=1.2, label="codes that there are")
        for place, (measure, name) in enumerate({"used": "in use", "perplexity": "in effective use"}.items()):
            mean = here.groupby("level")[measure].mean()
            axis.plot(mean.index, mean, color=colours[place], marker=MARKERS[place], linewidth=1.8, label=name)
            axis.scatter(here["level"], here[measure], s=9, color=[colours[place]], alpha=0.6, zorder=3)
        axis.set_title(names[modality])
        axis.set_xlabel("level")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlim(0.7, here["level"].max() + 0.3)
        axis.set_ylim(0, 1.08 * health["codes"].max())
    axes[0, 0].set_ylabel("codes")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if seeds > 1:
        handles.append(Line2D([], [], color="0.3", linestyle="", marker="o", markersize=3))
        labels.append("one seed")
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
