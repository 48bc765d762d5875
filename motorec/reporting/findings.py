"""What each notebook found: a few sentences made of its own numbers, for its last cell.

Every function gives Markdown. A sentence whose numbers the data set does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from motorec.data.dataset import Dataset
from motorec.reporting.runs import ORACLE
from motorec.reporting.tables import label

MODALITIES = {"text": "the texts", "image": "the pictures"}
TOP = 0.1  # the share of the items that is called the head of the catalogue
NAMED = 5  # ablations of a kind that are named, the largest differences first
TOLD = 0.1  # an attribute is told by features if neighbours agree by this share of the way from chance to always


def data(dataset: Dataset, cold_below: int) -> str:
    """Notebook 01: how much of the catalogue is cold, and for how many people that matters.

    Args:
        dataset: With its split.
        cold_below: An item with fewer training interactions is cold.
    """
    degrees, cold = dataset.item_degrees(), dataset.cold(cold_below)
    test = dataset.interactions.query("split == 'test'")
    targets = test[cold[test["item"]]]
    head = np.sort(degrees)[::-1][: max(1, round(TOP * len(degrees)))].sum() / max(1, degrees.sum())
    popular = f"The {TOP:.0%} most popular items hold {head:.0%} of the training interactions."
    if not cold.any():
        return _shows(f"No item is cold: each has {cold_below} training interactions or more.", popular)
    unseen = int((degrees == 0).sum())
    place = f"A model that knows only who took what has at most {cold_below - 1} interactions to place such an item by"
    return _shows(
        f"{cold.mean():.0%} of the {len(cold):,} items are cold, with fewer than {cold_below} training interactions.",
        f"They are {len(targets) / max(1, len(test)):.0%} of what is to be found in the test, for "
        f"{targets['user'].nunique():,} of {test['user'].nunique():,} users.",
        f"{place}, for {unseen:,} of them none: what else there is to know stands in texts and pictures."
        if unseen
        else f"{place}: what else there is to know stands in texts and pictures.",
        popular,
    )


def features(agreement: pd.DataFrame) -> str:
    """Notebook 02: what texts and pictures tell about the items.

    Args:
        agreement: From `features.neighbours.agreement`: a row per attribute, `by chance` and a column per modality.
    """
    modalities = [name for name in agreement.columns if name != "by chance"]
    if agreement.empty or not modalities:
        return _shows("Nothing is known of these items that the encoders could be judged by.")
    chance = agreement["by chance"]
    told = agreement[modalities].sub(chance, axis=0).div((1 - chance).clip(lower=1e-12), axis=0)
    sentences = []
    for name in modalities:
        best, least = str(told[name].idxmax()), str(told[name].idxmin())
        sentence = f"By {MODALITIES.get(name, name)}, neighbours agree best in {_share(agreement, best, name)}"
        if best != least:
            sentence += f", least in {_share(agreement, least, name)}"
        sentences.append(f"{sentence}.")
    untold = [f"*{attribute}*" for attribute in told.index[(told < TOLD).all(axis=1)]]
    if untold:
        sentences.append(f"Hardly told by any: {_listed(untold)}. A model for cold items can use no more than this.")
    else:
        sentences.append("Each attribute is told by one or the other: this much a model for cold items can use.")
    return _shows(*sentences)


def _share(agreement: pd.DataFrame, attribute: str, modality: str) -> str:
    found, chance = agreement[modality][attribute], agreement["by chance"][attribute]
    return f"*{attribute}* ({found:.0%}; by chance {chance:.0%})"


def tokens(health: Mapping[str, Mapping[str, float]], size: int) -> str:
    """Notebook 03: whether the codebooks are used, and what the codes keep.

    Args:
        health: Of each modality, from `tokenizer.health`.
        size: Codes in a codebook.
    """
    sentences = []
    for name, values in health.items():
        levels = [value for measure, value in values.items() if measure.startswith("perplexity/")]
        used = min((value for measure, value in values.items() if measure.startswith("used/")), default=0.0)
        modality = MODALITIES.get(name, name)
        sentences.append(
            f"{modality[0].upper()}{modality[1:]}: {used:.0%} or more of the {size} codes of each level are in use, "
            f"{np.mean(levels):.0f} in effect; {values['collisions']:.0%} of the items share their tuple with another; "
            f"the tuple keeps {values['explained']:.0%} of the features' variance and "
            f"{values['kept_neighbours']:.0%} of an item's ten nearest."
        )
    return _shows(*sentences, "Whether that helps to recommend is asked next.")


def training(
    metrics: Mapping[str, float], recall: Float[np.ndarray, " users"], title: str, items: int, k: int = 20
) -> str:
    """Notebook 04: how much of what was held back this one run found.

    Args:
        metrics: As `metrics.json` has them.
        recall: Recall@k of each user in the test split, all targets.
        title: The model's.
        items: How many there are.
        k: The cut-off.
    """
    value, valid = metrics[f"test/all/recall@{k}"], metrics[f"valid/all/recall@{k}"]
    cold = metrics.get(f"test/cold/recall@{k}")
    sentences = [
        f"The first {k} of {title} hold {value:.1%} of what a user took in the test split ({k / items:.1%} by chance; "
        f"{valid:.1%} in validation), and nothing of it for {(recall == 0).mean():.0%} of the users."
    ]
    if cold is not None:
        less = f", {value / cold:.1f} times less" if 0 < cold < value else ""
        sentences.append(f"Of cold targets they hold {f'{cold:.1%}{less}' if cold else 'none'}.")
    return _shows(
        *sentences,
        "That is one run's word: how much of it is chance shows over seeds and models, in "
        "[06 · report](06_report.ipynb).",
    )


def ablations(tested: Mapping[str, pd.DataFrame], titles: Mapping[str, str], metric: str) -> str:
    """Notebook 05: which parts have shown their worth.

    Args:
        tested: By the full model's title, `evaluation.compare` of its ablations with it.
        titles: The ablations' titles by name.
        metric: The one that counts.
    """
    sentences = []
    for full, table in tested.items():
        for group, here in table[table["metric"] == metric].groupby("group", sort=False):
            proven = here[here["significant"]]
            told = []
            for verdict, part in (
                ("worse", proven[proven["difference"] < 0].sort_values("difference")),
                ("better", proven[proven["difference"] > 0].sort_values("difference", ascending=False)),
            ):
                pairs = list(zip(part["model"], part["difference"], strict=True))
                names = [f"*{titles.get(name, name)}* ({_signed(difference)})" for name, difference in pairs[:NAMED]]
                names += [f"{len(pairs) - NAMED} more"] if len(pairs) > NAMED else []
                told.append(f"{_listed(names) if names else 'none'} {'is' if len(names) < 2 else 'are'} {verdict}")
            rest = f"; of the other {len(here) - len(proven)} nothing is proven" if len(proven) < len(here) else ""
            sentences.append(f"{full}, {group} targets, by {label(metric)}: {', '.join(told)}{rest}.")
    return _shows(*sentences)


def report(overall: pd.DataFrame, cold: pd.DataFrame, tested: pd.DataFrame | None, reference: str, metric: str) -> str:
    """Notebook 06: who is ahead, on all and on cold targets, and where the reference stands.

    Args:
        overall: `tables.group_table` of all targets.
        cold: The same of cold targets.
        tested: `evaluation.compare` of the models with the reference; None where it has not been run.
        reference: The model that the others are tested against.
        metric: The one that counts.
    """
    sentences = []
    for group, table in (("all", overall), ("cold", cold)):
        if metric not in table or table[metric].isna().all():
            continue
        ranked = table[table["model"] != ORACLE].sort_values(metric, ascending=False, ignore_index=True, kind="stable")
        first, second = ranked["title"].iloc[:2] if len(ranked) > 1 else (ranked["title"].iloc[0], None)
        values = ranked[metric].to_numpy()
        said = f"On {group} targets {first} is ahead ({label(metric)} {values[0]:.4f})"
        said += f", before {second} ({values[1]:.4f})" if second is not None else ""
        oracle = table.loc[table["model"] == ORACLE, metric]
        if len(oracle):
            said += f"; the oracle, which knows the truth, has {oracle.iloc[0]:.4f}"
        sentences.append(f"{said}.")
        own = ranked[ranked["model"] == reference]
        if tested is None or own.empty:
            continue
        here = tested[(tested["group"] == group) & (tested["metric"] == metric)]
        better, worse = (int((here["significant"] & (sign * here["difference"] > 0)).sum()) for sign in (1, -1))
        sentences.append(
            f"{own['title'].iloc[0]} is number {own.index[0] + 1} of {len(ranked)}; by more than chance, better: "
            f"{better}, worse: {worse}."
        )
    return _shows(*sentences)


def _shows(*sentences: str) -> str:
    return " ".join(["**What it shows.**", *sentences])


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _listed(words: Sequence[str] | Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
