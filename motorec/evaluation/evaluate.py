"""Full ranking: every user's list over all items that the user has not seen, judged against a held-out split.

For validation the training items are left out of the lists, for the test the validation items too. Nothing is sampled.

Targets are judged in groups: `all`; `cold` (items with fewer than `cold_below` training interactions) and `warm`
(the rest), as in paper section 5; and buckets of training degree such as `deg5-9`. A group restricts what counts as a
target, never what is ranked: a cold target still competes with all items. A user without a target in a group is left
out of that group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Integer
from scipy import sparse

from motorec.config import EvaluationSettings
from motorec.data.dataset import Dataset, Split
from motorec.errors import DataError, MotorecError, ParamsError, nearest
from motorec.evaluation import metrics
from motorec.seeding import numpy_generator

Score = Callable[[Int[np.ndarray, " b"]], Float[torch.Tensor, "b items"]]
"""Scores of all items for some users, by index; larger is better. May live on any device; it is not changed."""

HeldOut = Literal["valid", "test"]
SEEN: dict[str, tuple[Split, ...]] = {"valid": ("train",), "test": ("train", "valid")}
NEVER = torch.iinfo(torch.int64).min  # the sort key of an item that must not be recommended
BUCKET_METRICS = ("recall", "ndcg")  # enough for a curve over degree, and the metrics file stays readable


@dataclass(frozen=True)
class Evaluation:
    """How one model did on one split.

    Attributes:
        per_user: One row per user and group: `user` (index), `split`, `group`, and a column per metric and cut-off.
        means: `<split>/<group>/<metric>@<k>`, the mean over users; `<split>/<group>/users`, how many these are;
            `<split>/all/coverage@<k>` and `<split>/all/popularity@<k>`, which belong to the lists and not to a target.
        places: Of each held-out interaction, sorted by user, then item: the item's place in the user's list, from 1 on;
            0 beyond the longest cut-off. `judge` makes the per-user values of them.
    """

    per_user: pd.DataFrame
    means: dict[str, float]
    places: Integer[np.ndarray, " targets"]


def item_groups(dataset: Dataset, settings: EvaluationSettings) -> dict[str, Bool[np.ndarray, " items"]]:
    """The items that count as targets in each group, by the group's name."""
    degrees = dataset.item_degrees()
    cold = dataset.cold(settings.cold_below)
    groups = {"all": np.ones(len(degrees), dtype=bool), "cold": cold, "warm": ~cold}
    bucket = np.digitize(degrees, settings.degree_edges)
    return groups | {name: bucket == place for place, name in enumerate(bucket_names(settings.degree_edges))}


def bucket_names(edges: tuple[int, ...]) -> list[str]:
    """Names of the degree buckets: (5, 10) gives deg0-4, deg5-9, deg10plus."""
    lower = (0, *edges)
    spans = [f"deg{low}-{high - 1}" for low, high in zip(lower, edges, strict=False)]
    return [*spans, f"deg{lower[-1]}plus"]


def evaluate(
    score: Score, dataset: Dataset, split: HeldOut, settings: EvaluationSettings, tie_break: int = 0
) -> Evaluation:
    """Rank for every user who has a target in the split, and judge the lists in every group.

    Args:
        score: The model.
        dataset: Whose split is judged.
        split: "valid" or "test".
        settings: Cut-offs, groups and batch size.
        tie_break: Seed of the order in which items of equal score are put.

    Raises:
        MotorecError: A score is not a finite number, or nobody has a target in the split.
    """
    users, targets = _targets(dataset, split)
    top = rank(score, dataset, users, SEEN[split], max(settings.cutoffs), settings.batch_size, tie_break)
    places = metrics.find_places(top, targets)
    per_user = judge(places, dataset, split, settings)

    means: dict[str, float] = {}
    for group in item_groups(dataset, settings):
        values = per_user[per_user["group"] == group]
        means[f"{split}/{group}/users"] = float(len(values))
        for name in values.columns.drop(["user", "split", "group"]) if len(values) else ():
            if not group.startswith("deg") or name.split("@")[0] in BUCKET_METRICS:
                means[f"{split}/{group}/{name}"] = float(values[name].to_numpy().mean())
    degrees = dataset.item_degrees()
    for k in settings.cutoffs:
        means[f"{split}/all/coverage@{k}"] = metrics.coverage(top, dataset.n_items, k)
        means[f"{split}/all/popularity@{k}"] = metrics.popularity(top, degrees, k)
    return Evaluation(per_user, means, places)


def judge(
    places: Integer[np.ndarray, " targets"], dataset: Dataset, split: HeldOut, settings: EvaluationSettings
) -> pd.DataFrame:
    """Every metric of every user in every group, from where the targets stood in the lists.

    Args:
        places: As in `Evaluation`; the longest cut-off they were made with is at least that of the settings.
        dataset: Whose split was judged.
        split: "valid" or "test".
        settings: Cut-offs and groups.

    Returns:
        One row per user and group, as in `Evaluation.per_user`.

    Raises:
        DataError: There are more or fewer places than targets: they come from other data.
    """
    users, targets = _targets(dataset, split)
    if len(places) != targets.nnz:
        raise DataError(
            f"{dataset.name}: {len(places)} places for {targets.nnz} interactions of the {split} split; they were made "
            "with another version of the data. Make the run again."
        )
    rows, items = targets.tocoo().coords
    longest = max(settings.cutoffs)
    frames = []
    for group, members in item_groups(dataset, settings).items():
        n_targets = _count(targets, members)
        judged = n_targets > 0
        found = (places > 0) & (places <= longest) & members[items]
        hits = np.zeros((len(users), longest), dtype=bool)
        hits[rows[found], places[found].astype(np.int64) - 1] = True
        values = {
            f"{name}@{k}": metric(hits[judged], n_targets[judged], k)
            for name, metric in metrics.PER_USER.items()
            for k in settings.cutoffs
        }
        frames.append(pd.DataFrame({"user": users[judged], "split": split, "group": group, **values}))
    return pd.concat(frames, ignore_index=True)


def validate(
    score: Score,
    dataset: Dataset,
    metric: str,
    settings: EvaluationSettings,
    tie_break: int = 0,
) -> float:
    """One metric on the validation split, for early stopping: what `evaluate` would call `valid/<metric>`.

    Args:
        score: The model.
        dataset: Whose validation split is judged.
        metric: Such as "all/recall@20" or "cold/ndcg@10"; any cut-off, any metric of one user's list.
        settings: Groups and batch size.
        tie_break: As in `evaluate`.

    Raises:
        ParamsError: No such group or metric.
        MotorecError: A score is not a finite number, or nobody has a target in this group.
    """
    group, name, k = parse_metric(metric, settings)
    members = item_groups(dataset, settings)[group]
    users, targets = _targets(dataset, "valid")
    n_targets = _count(targets, members)
    judged = n_targets > 0
    if not judged.any():
        raise MotorecError(
            f"{dataset.name}: no user has a {group!r} target in the validation split, so {metric!r} has no value; "
            "choose another `metric` in params/train.yaml."
        )
    top = rank(score, dataset, users[judged], SEEN["valid"], k, settings.batch_size, tie_break)
    hits = metrics.find_hits(top, targets[judged]) & members[top]
    return float(metrics.PER_USER[name](hits, n_targets[judged], k).mean())


def rank(
    score: Score,
    dataset: Dataset,
    users: Int[np.ndarray, " users"],
    seen: tuple[Split, ...],
    k: int,
    batch_size: int = 1024,
    tie_break: int = 0,
) -> Int[np.ndarray, "users k"]:
    """Each user's k best items among those not seen.

    Equal scores are common (items that nobody bought, users whom a neighbourhood model cannot reach), and left alone
    they fall by the items' order. Catalogues tend to be sorted by popularity or date, so that would leak into the
    metrics. Ties therefore go by a shuffled order, drawn once from a fixed seed: by chance, yet the same for every k,
    batch size and device.

    Args:
        score: The model. Scores are compared as float32.
        dataset: Names what the users have seen.
        users: User indices.
        seen: The splits whose items are left out of a user's list.
        k: Length of the lists.
        batch_size: Users scored at a time.
        tie_break: Seed of the shuffle.

    Returns:
        Item indices, best first; -1 where fewer than k items are left.

    Raises:
        MotorecError: A score is not a finite number.
    """
    n_items = dataset.n_items
    shuffled = numpy_generator(tie_break, "ranking", dataset.name).permutation(n_items)
    known = dataset.matrix(*seen)[users]
    top = np.full((len(users), k), -1, dtype=np.int64)
    for start in range(0, len(users), batch_size):
        batch = users[start : start + batch_size]
        with torch.no_grad():
            scores = score(batch)
        _check(scores, batch, dataset)
        left_out = known[start : start + batch_size].tocoo()
        rows = torch.from_numpy(left_out.row.astype(np.int64)).to(scores.device)
        columns = torch.from_numpy(left_out.col.astype(np.int64)).to(scores.device)
        best = _best(scores, rows, columns, min(k, n_items), torch.from_numpy(shuffled).to(scores.device))
        top[start : start + batch_size, : best.shape[1]] = best.cpu().numpy()
    return top


def _best(
    scores: Float[torch.Tensor, "b items"],
    rows: Int[torch.Tensor, " entries"],
    columns: Int[torch.Tensor, " entries"],
    k: int,
    tie_order: Int[torch.Tensor, " items"],
) -> Int[torch.Tensor, "b k"]:
    """Each row's k best items without the entries left out, ties by `tie_order`; -1 where fewer are left.

    Only rows with a tie among their k + 1 best need the slower ordering by keys: models whose scores are all different
    are ranked several times faster by the scores themselves.
    """
    scores = scores.float().clone()
    scores[rows, columns] = -torch.inf
    found = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    best = found.indices[:, :k].clone()
    tied = (found.values[:, 1:] == found.values[:, :-1]).any(1) | (found.values[:, -1] == -torch.inf)
    if tied.any():
        keys = _sort_keys(scores[tied], tie_order).masked_fill_(scores[tied] == -torch.inf, NEVER)
        exact = keys.topk(k, dim=1)
        best[tied] = exact.indices.masked_fill(exact.values == NEVER, -1)
    return best


def _sort_keys(
    scores: Float[torch.Tensor, "b items"], tie_order: Int[torch.Tensor, " items"]
) -> Int[torch.Tensor, "b items"]:
    """Integers that order as the scores do, and equal scores by `tie_order`: no two of a row are the same.

    The bits of a float order as integers do, once those of negative numbers are turned round.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # adding zero turns -0.0 into 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return ordered.long().bitwise_left_shift_(32).bitwise_or_(tie_order)


def _check(scores: torch.Tensor, users: Int[np.ndarray, " b"], dataset: Dataset) -> None:
    if scores.shape != (len(users), dataset.n_items):
        raise ValueError(f"the model gave scores of shape {tuple(scores.shape)}, not {(len(users), dataset.n_items)}")
    finite = torch.isfinite(scores)
    if not finite.all():
        row, item = (int(index) for index in (~finite).nonzero()[0])
        raise MotorecError(
            f"{dataset.name}: {int((~finite).sum())} of the model's scores are not finite numbers, the first "
            f"({scores[row, item].item()}) for user {dataset.users[users[row]]!r} and item "
            f"{dataset.items['item_id'].iloc[item]!r}. The training has probably diverged: lower its learning rate, "
            "or look for a division by zero or the logarithm of zero in the model."
        )


def _targets(dataset: Dataset, split: HeldOut) -> tuple[Int[np.ndarray, " users"], sparse.csr_matrix]:
    """The users with a target in the split, and their targets."""
    held_out = dataset.matrix(split)
    users = np.flatnonzero(np.diff(held_out.indptr))
    if not len(users):
        raise MotorecError(f"{dataset.name}: no interaction is in the {split} split, so there is nothing to evaluate.")
    return users, held_out[users]


def _count(targets: sparse.csr_matrix, members: Bool[np.ndarray, " items"]) -> Int[np.ndarray, " users"]:
    """How many of each user's targets belong to a group."""
    return (targets @ members.astype(np.float64)).astype(np.int64)


def parse_metric(metric: str, settings: EvaluationSettings) -> tuple[str, str, int]:
    """Group, metric and cut-off of a name such as "all/recall@20".

    Raises:
        ParamsError: A part of it does not exist.
    """
    group, _, rest = metric.partition("/")
    name, _, cutoff = rest.partition("@")
    groups = ["all", "cold", "warm", *bucket_names(settings.degree_edges)]
    if group not in groups:
        raise ParamsError(f"{metric!r} names the group {group!r}, which does not exist. {nearest(group, groups)}")
    if name not in metrics.PER_USER:
        raise ParamsError(
            f"{metric!r} names the metric {name!r}, which is not known. {nearest(name, metrics.PER_USER)}"
        )
    if not cutoff.isdecimal() or int(cutoff) < 1:
        raise ParamsError(f"{metric!r} has no cut-off: write it as {group}/{name}@20.")
    return group, name, int(cutoff)
