"""Is one model better than another? Paired comparisons over users, corrected for how many are made.

A user's value is averaged over seeds first, so that the user is the unit and seeds are not counted as more users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from motorec.errors import DataError
from motorec.seeding import numpy_generator


def compare(
    runs: Mapping[str, Sequence[pd.DataFrame]],
    reference: str,
    metrics: Sequence[str],
    groups: Sequence[str] = ("all", "cold"),
    split: str = "test",
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every model with the reference, user by user.

    Args:
        runs: By model, the per-user values of its seeds (`Evaluation.per_user`).
        reference: The model that the others are compared with.
        metrics: Columns of the per-user values, such as "recall@20".
        groups: Target groups. One in which no user has a target gives no rows.
        split: The split that is compared.
        alpha: Level of the tests; the intervals cover 1 - alpha.
        resamples: Bootstrap draws of users.
        seed: Of the bootstrap.

    Returns:
        One row per model, group and metric: `model`, `group`, `metric`, `users`, `mean` and `reference_mean`,
        `difference` (model minus reference, mean over users), `low` and `high` (its percentile bootstrap interval),
        `p` (two-sided paired t-test), `p_holm` (Holm's correction; the family is every row of this table), `d`
        (Cohen's d of paired values: mean over standard deviation of the differences; 0 where all differences are zero,
        missing where they are all the same) and `significant` (`p_holm` below alpha).

    Raises:
        DataError: Two runs were judged on different users.
    """
    parts = []
    for group in groups:
        values = {name: _average(frames, split, group, metrics, name) for name, frames in runs.items()}
        base = values.pop(reference)
        if base.empty or not values:
            continue
        for name, other in values.items():
            if not other.index.equals(base.index):
                raise DataError(
                    f"The runs of {name!r} and {reference!r} hold different users in {split}/{group} and cannot be "
                    "paired: they come from different versions of the data; make both again with `dvc repro`."
                )
        differences = np.stack([other.to_numpy() - base.to_numpy() for other in values.values()], axis=1)
        low, high = _interval(differences, alpha, resamples, seed, f"{split}/{group}")
        parts += [
            {
                "model": name,
                "group": group,
                "metric": metric,
                "users": len(base),
                "mean": other[metric].mean(),
                "reference_mean": base[metric].mean(),
                "difference": differences[:, m, j].mean(),
                "low": low[m, j],
                "high": high[m, j],
                "p": _t_test(differences[:, m, j]),
                "d": _cohen(differences[:, m, j]),
            }
            for m, (name, other) in enumerate(values.items())
            for j, metric in enumerate(metrics)
        ]
    columns = ["model", "group", "metric", "users", "mean", "reference_mean", "difference", "low", "high", "p", "d"]
    table = pd.DataFrame(parts, columns=columns)
    table.insert(columns.index("d"), "p_holm", _holm(table["p"].to_numpy(dtype=np.float64), alpha))
    table["significant"] = table["p_holm"] < alpha
    return table


def _average(frames: Sequence[pd.DataFrame], split: str, group: str, metrics: Sequence[str], name: str) -> pd.DataFrame:
    """Each user's values, mean over seeds, in the order of the users."""
    chosen = pd.concat([frame[(frame["split"] == split) & (frame["group"] == group)] for frame in frames])
    grouped = chosen.groupby("user")
    if not (grouped.size() == len(frames)).all():
        raise DataError(
            f"The seeds of {name!r} hold different users in {split}/{group}; make them again with `dvc repro`."
        )
    return grouped[list(metrics)].mean().sort_index()


def _interval(
    differences: Float[np.ndarray, "users models metrics"], alpha: float, resamples: int, seed: int, name: str
) -> tuple[Float[np.ndarray, "models metrics"], Float[np.ndarray, "models metrics"]]:
    """Percentile bootstrap of the mean: the same draws of users serve every column."""
    n = len(differences)
    flat = differences.reshape(n, -1)
    generator = numpy_generator(seed, "bootstrap", name)
    means = np.empty((resamples, flat.shape[1]))
    step = max(1, 4_000_000 // n)  # bounds the memory at about 32 MB
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n)
        # einsum adds in one fixed order; a threaded matrix product may not.
        means[start : start + size] = np.einsum("rn,nc->rc", counts, flat) / n
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2], axis=0)
    return low.reshape(differences.shape[1:]), high.reshape(differences.shape[1:])


def _t_test(difference: Float[np.ndarray, " users"]) -> float:
    """Two-sided p of the paired t-test: it asks about the mean difference, as the interval does.

    The Wilcoxon signed-rank test would not: with few targets a user most differences are zero and the others are of a
    few sizes, so that it counts users who win and users who lose, and can contradict the interval of the mean.
    """
    if not difference.any() or len(difference) < 2:
        return 1.0
    spread = difference.std(ddof=1)
    if spread == 0:
        return 0.0
    from scipy import stats  # slow to import

    t = difference.mean() / (spread / np.sqrt(len(difference)))
    return float(2 * stats.t.sf(abs(t), len(difference) - 1))


def _cohen(difference: Float[np.ndarray, " users"]) -> float:
    """Cohen's d of paired values."""
    if not difference.any():
        return 0.0
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    return float(difference.mean() / spread) if spread > 0 else float("nan")


def _holm(p: Float[np.ndarray, " tests"], alpha: float) -> Float[np.ndarray, " tests"]:
    from statsmodels.stats.multitest import multipletests  # slow to import

    return np.asarray(multipletests(p, alpha=alpha, method="holm")[1]) if len(p) else p
