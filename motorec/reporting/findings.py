"""What each notebook found: a few sentences made of its own numbers, for its last cell.

Every function gives Markdown. A sentence whose numbers the data set does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from motorec.config import load_ablations, load_dataset
from motorec.data.dataset import Dataset
from motorec.reporting.paper import PaperSettings
from motorec.reporting.runs import ORACLE
from motorec.reporting.tables import label

MODALITIES = {"text": "the texts", "image": "the pictures"}
TOP = 0.1  # the share of the items that is called the head of the catalogue
NAMED = 5  # ablations of a kind that are named, the largest differences first
TOLD = 0.1  # an attribute is told by features if neighbours agree by this share of the way from chance to always
FEW = 10  # users with a hit, below which a ratio to it is left unsaid


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
    place += f", for {unseen:,} of them none" if unseen else ""
    known = [words for name, words in MODALITIES.items() if (dataset.items[name] != "").any()]
    rest = f"stands in {_listed(known)}" if known else "has to come with the data as features"
    return _shows(
        f"{cold.mean():.0%} of the {len(cold):,} items are cold, with fewer than {cold_below} training interactions.",
        f"They are {len(targets) / max(1, len(test)):.0%} of what is to be found in the test, for "
        f"{targets['user'].nunique():,} of {test['user'].nunique():,} users.",
        f"{place}: what else there is to know {rest}.",
        popular,
    )


def features(agreement: pd.DataFrame) -> str:
    """Notebook 02: what texts and pictures tell about the items.

    Args:
        agreement: From `walkthrough.agreement`: a row per attribute, `by chance` and a column per modality.
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
    alone = len(modalities) == 1
    if untold:
        by = "them" if alone else "any"
        sentences.append(f"Hardly told by {by}: {_listed(untold)}. A model for cold items can use no more than this.")
    else:
        by = "them" if alone else "one or the other"
        sentences.append(f"Each attribute is told by {by}: this much a model for cold items can use.")
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
        used = round(size * min((v for measure, v in values.items() if measure.startswith("used/")), default=0.0))
        modality = MODALITIES.get(name, name)
        in_use = f"all {size} codes" if used == size else f"at least {used} of the {size} codes"
        sentences.append(
            f"{modality[0].upper()}{modality[1:]}: {in_use} of each level are in use, "
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
        title: The model's; of an ablation, its model's before it.
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
        asked = metrics["test/cold/users"]
        hit = round(asked * metrics[f"test/cold/hit_rate@{k}"])
        less = f", {value / cold:.1f} times less" if 0 < cold < value and hit >= FEW else ""
        share = f"{cold:.1%}{less}: one or more for {hit:,} of the" if hit else "none, for"
        sentences.append(f"Of cold targets they hold {share} {asked:,.0f} users who have any.")
    return _shows(
        *sentences,
        "That is one run's word: how much of it is chance shows over seeds and models, in "
        "[06 · report](06_report.ipynb).",
    )


def reported(dataset: str, paper: PaperSettings, metric: str) -> str:
    """Notebook 05: what the paper's own ablation says.

    Args:
        dataset: Where the paper has none of it, its first one is told.
        paper: `params/paper.yaml`.
        metric: Such as "ndcg@20", on all targets.

    Returns:
        A sentence; nothing where the paper has no ablation in this metric.
    """
    titles, key = load_ablations(), f"all/{metric}"
    name = dataset if dataset in paper.reported else next(iter(paper.reported))
    values = {model: found[key] for model, found in paper.reported[name].items() if key in found}
    parts = {model: value for model, value in values.items() if model in titles and titles[model].base in values}
    if not parts:
        return ""
    full = values[titles[next(iter(parts))].base]
    helps = "every part helps" if max(parts.values()) < full else "not every part helps"
    told = _listed(f"{value:.4f} {titles[model].title}" for model, value in parts.items())
    where = f"{load_dataset(name).title}, {label(metric)}, all targets"
    return f"In the paper's own ablation ({where}) {helps}: {full:.4f} of the full model becomes {told}."


def ablations(
    tested: Mapping[str, pd.DataFrame],
    titles: Mapping[str, str],
    metric: str,
    alpha: float,
    without: Sequence[str] = (),
) -> str:
    """Notebook 05: which parts have shown their worth, and of which that may be the seeds' doing.

    Args:
        tested: By the full model's title, `evaluation.compare` of its ablations with it.
        titles: The ablations' titles by name.
        metric: The one that counts.
        alpha: Level of the tests.
        without: Titles of models whose ablations have not been run.
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
                names = [
                    f"*{titles.get(name, name)}* ({_signed(difference)}{'' if p < alpha else ', not over seeds'})"
                    for name, difference, p in zip(part["model"], part["difference"], part["p_seeds"], strict=True)
                ]
                names = names[:NAMED] + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
                told.append(f"{_listed(names) if names else 'none'} {'is' if len(names) < 2 else 'are'} {verdict}")
            rest = f"; of the other {len(here) - len(proven)} nothing is proven" if len(proven) < len(here) else ""
            sentences.append(f"{full}, {group} targets, by {label(metric)}, over users: {', '.join(told)}{rest}.")
    if without:
        sentences.append(f"Of {_listed(without)} nothing is said: no ablation has been run on this data set.")
    return _shows(*sentences)


def report(
    overall: pd.DataFrame, cold: pd.DataFrame, tests: Mapping[str, pd.DataFrame], reference: str, metric: str
) -> str:
    """Notebook 06: who is ahead, on all and on cold targets, and where the reference stands.

    Args:
        overall: `tables.group_table` of all targets.
        cold: The same of cold targets.
        tests: By the model that the others are compared with, `evaluation.compare`; those that have been run.
        reference: The model whose place is told.
        metric: The one that counts.
    """
    sentences = []
    for group, table in (("all", overall), ("cold", cold)):
        if metric not in table or table[metric].isna().all():
            continue
        here = {name: one[(one["group"] == group) & (one["metric"] == metric)] for name, one in tests.items()}
        ranked = table[table["model"] != ORACLE].sort_values(metric, ascending=False, ignore_index=True, kind="stable")
        values = ranked[metric].to_numpy()
        said = f"On {group} targets {ranked['title'].iloc[0]} is ahead ({label(metric)} {values[0]:.4f})"
        if len(ranked) > 1:
            said += (
                f", before {ranked['title'].iloc[1]} ({values[1]:.4f}), {_by_chance(here, *ranked['model'].iloc[:2])}"
            )
        oracle = table.loc[table["model"] == ORACLE, metric]
        if len(oracle):
            said += f"; the oracle, which knows the truth, has {oracle.iloc[0]:.4f}"
        sentences.append(f"{said}.")
        own = ranked[ranked["model"] == reference]
        if reference not in here or own.empty:
            continue
        proven = here[reference][here[reference]["significant"]]
        better, worse = (int((sign * proven["difference"] > 0).sum()) for sign in (1, -1))
        title = own["title"].iloc[0]
        sentences.append(
            f"{title} is number {own.index[0] + 1} of {len(ranked)}; {better or 'no'} "
            f"{'model is' if better < 2 else 'models are'} better than {title} by more than chance, {worse or 'none'} "
            f"{'is' if worse < 2 else 'are'} worse."
        )
    return _shows(*sentences)


def _by_chance(tests: Mapping[str, pd.DataFrame], first: str, second: str) -> str:
    """Whether the first model is ahead of the second by more than chance, where one has been tested with the other."""
    for reference, other in ((first, second), (second, first)):
        if reference in tests:
            found = tests[reference].set_index("model")["significant"]
            return "by more than chance" if found[other] else "which may be chance"
    return "which is not tested"


def _shows(*sentences: str) -> str:
    return " ".join(["**What it shows.**", *sentences])


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _listed(words: Sequence[str] | Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
