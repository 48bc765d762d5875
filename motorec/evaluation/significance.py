"""Is one model better than another? Paired comparisons over users, corrected for how many are made.

A user's value is averaged over seeds first, so that the user is the unit and seeds are not counted as more users. That
test takes the seeds as they fell: it says that these runs differ for other users too, not that other seeds would.
Beside it stands a test over seeds, in which a run is the unit and the users are as they are.
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
        `p` (two-sided paired t-test), `p_holm` (Holm's correction; the family is every row of this table), `p_seeds`
        (two-sided Welch test between the models' means by seed, uncorrected; missing where one of them has one seed
        only), `d` (Cohen's d of paired values: mean over standard deviation of the differences; 0 where all differences
        are zero, missing where they are all the same) and `significant` (`p_holm` below alpha).

    Raises:
        DataError: Two runs were judged on different users.
    """
    parts = []
    for group in groups:
        values = {name: _average(frames, split, group, metrics, name) for name, frames in runs.items()}
        base = values.pop(reference)
        if base.empty or not values:
            continue
        by_seed = {name: _seed_means(frames, split, group, metrics) for name, frames in runs.items()}
        for name, other in values.items():
            if not other.index.equals(base.index):
                raise DataError(
                    f"The runs of {name!r} and {reference!r} hold different users in {split}/{group} and cannot be "
                    "paired: they come from different versions of the data; make both again with `dvc repro`."
                )
        differences = np.stack([other.to_numpy() - base.to_numpy() for other in values.values()], axis=1)
        low, high = interval(differences, alpha, resamples, seed, f"{split}/{group}")
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
                "p_holm": np.nan,  # a matter of all rows together
                "p_seeds": _welch(by_seed[name][:, j], by_seed[reference][:, j]),
                "d": _cohen(differences[:, m, j]),
            }
            for m, (name, other) in enumerate(values.items())
            for j, metric in enumerate(metrics)
        ]
    told = ["model", "group", "metric", "users", "mean", "reference_mean"]
    columns = [*told, "difference", "low", "high", "p", "p_holm", "p_seeds", "d"]
    return corrected(pd.DataFrame(parts, columns=columns), alpha)


def corrected(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Rows of `compare` with `p_holm` and `significant` anew, all rows being one family."""
    p_holm = _holm(table["p"].to_numpy(dtype=np.float64), alpha)
    return table.assign(p_holm=p_holm, significant=p_holm < alpha)


def _average(frames: Sequence[pd.DataFrame], split: str, group: str, metrics: Sequence[str], name: str) -> pd.DataFrame:
    """Each user's values, mean over seeds, in the order of the users."""
    chosen = pd.concat([frame[(frame["split"] == split) & (frame["group"] == group)] for frame in frames])
    grouped = chosen.groupby("user")
    if not (grouped.size() == len(frames)).all():
        raise DataError(
            f"The seeds of {name!r} hold different users in {split}/{group}; make them again with `dvc repro`."
        )
    return grouped[list(metrics)].mean().sort_index()


def _seed_means(
    frames: Sequence[pd.DataFrame], split: str, group: str, metrics: Sequence[str]
) -> Float[np.ndarray, "seeds metrics"]:
    """Each seed's mean over users."""
    chosen = [frame.loc[(frame["split"] == split) & (frame["group"] == group), list(metrics)] for frame in frames]
    # Sums of the same hits in another order differ in their last bits, which would be all the spread there is.
    return np.stack([values.to_numpy().mean(axis=0) for values in chosen]).round(12)


def interval(
    values: Float[np.ndarray, "users models metrics"], alpha: float, resamples: int, seed: int, name: str
) -> tuple[Float[np.ndarray, "models metrics"], Float[np.ndarray, "models metrics"]]:
    """Percentile bootstrap of the mean over users: the same draws of users serve every model and metric.

    Args:
        values: Of each user, or differences of them.
        alpha: The interval covers 1 - alpha.
        resamples: Draws of as many users as there are.
        seed: Of the draws.
        name: Of the draws: other users are drawn under another name.

    Returns:
        The interval's lower and upper ends.
    """
    n = len(values)
    flat = values.reshape(n, -1)
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
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


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


def _welch(values: Float[np.ndarray, " seeds"], base: Float[np.ndarray, " others"]) -> float:
    """Two-sided p of Welch's t-test between two models' means by seed; missing where one has a single seed.

    Unpaired, although the seeds have the same numbers: a number only names a stream of random draws, and two kinds of
    model draw from streams of their own (`motorec.seeding`). Pairs that have nothing in common gain nothing, and cost
    half the degrees of freedom, of which five seeds have few. Where a model and its ablation do share their starting
    weights, the test is the more careful one. Welch's, as the spread of two models' seeds often differs several times.
    """
    if min(len(values), len(base)) < 2:
        return float("nan")
    if np.ptp(values) == np.ptp(base) == 0:
        return float(values[0] == base[0])
    from scipy import stats  # slow to import

    one, other = ((sample.mean(), sample.std(ddof=1), len(sample)) for sample in (values, base))
    return float(stats.ttest_ind_from_stats(*one, *other, equal_var=False).pvalue)


def _cohen(difference: Float[np.ndarray, " users"]) -> float:
    """Cohen's d of paired values."""
    if not difference.any():
        return 0.0
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    return float(difference.mean() / spread) if spread > 0 else float("nan")


def _holm(p: Float[np.ndarray, " tests"], alpha: float) -> Float[np.ndarray, " tests"]:
    from statsmodels.stats.multitest import multipletests  # slow to import

    return np.asarray(multipletests(p, alpha=alpha, method="holm")[1]) if len(p) else p
