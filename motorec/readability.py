r"""Do codes read as concepts? Measures of one level's codes, and of all levels together, against items' attributes.

With n items that have a code and a known attribute, n_j of them with code j and n_jv of these with value v:

* *Purity* of a code: :math:`\max_v n_{jv} / n_j`, the share of its items with its most frequent value; of a level, the
  mean over its items (Manning et al., *Introduction to Information Retrieval*, 16.3). A code of few items is pure by
  chance, so that beside it stand the *base* rate :math:`n_v / n` of the value, the *lift* (purity by base), the purity
  expected of as many items drawn at random, :math:`E`, and the *adjusted* purity, (purity − E) / (1 − E): 0 is chance.
* *Normalised mutual information* of a level: :math:`I(C; A) / H(A)`, the share of the attribute's entropy that the
  codes take away (Theil's coefficient; scikit-learn's homogeneity). It is the mean over items of what each code takes
  away, :math:`1 - H(A | C = j) / H(A)` (DeWeese and Meister, 1999), which may be negative. Many small codes inflate it:
  *adjusted* for chance it is :math:`(I - E[I]) / (H(A) - E[I])`, :math:`E[I]` being that of codes of the same sizes
  dealt out at random (Vinh et al., JMLR 2010), so that 0 is chance and 1 still means that the code tells the value.
* *Reads as*: a code reads as a value that most of its items have, where that is more than chance; see `readings`.
* *MIG*, the mutual information gap (Chen et al., NeurIPS 2018), with the levels for latents: how much more the best
  level tells of an attribute than the second best, as a share of :math:`H(A)`; mean over attributes.
* *DCI* (Eastwood and Williams, ICLR 2018), with the levels for latents; see `dci`.

An item may have several values of an attribute, a film's genres for instance. Then each value is a yes or no of its
own, and information and entropy are sums over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

DRAWS = 200  # random orders of the items behind a chance purity
PENALTIES = tuple(10.0**power for power in range(-1, 6))  # of the ridge regression; the last is as good as no codes
NOTHING = 0.01  # share of the attributes' variance below which codes predict nothing


@dataclass(frozen=True)
class Attribute:
    """What is known of the items, to be read in their codes.

    Attributes:
        name: The column of the catalogue.
        values: The distinct values.
        members: Which item has which value; a row without any is an item of which it is unknown.
        several: Whether an item may have more than one value.
    """

    name: str
    values: tuple[str, ...]
    members: Bool[np.ndarray, "items values"]
    several: bool = False

    @classmethod
    def of(cls, name: str, column: Sequence[str], separator: str | None = None) -> Attribute:
        """Take an attribute from a column of texts.

        Args:
            name: The column's name.
            column: A text per item; empty where it is unknown.
            separator: What stands between several values of an item; None: each text is one value.
        """
        parts = [set(text.split(separator)) - {""} if separator else {text} - {""} for text in column]
        values = sorted(set().union(*parts))
        members = np.array([[value in part for value in values] for part in parts], dtype=bool)
        return cls(name, tuple(values), members.reshape(len(parts), len(values)), separator is not None)

    @property
    def known(self) -> Bool[np.ndarray, " items"]:
        """Which items have a value."""
        return np.asarray(self.members.any(axis=1))


@dataclass(frozen=True)
class Information:
    """What a level's codes tell of an attribute, in nats."""

    mutual: float
    expected: float  # of codes of the same sizes, dealt out at random
    entropy: float  # of the attribute

    @property
    def normalised(self) -> float:
        """Share of the attribute's entropy; missing where the attribute does not vary."""
        return self.mutual / self.entropy if self.entropy > 0 else float("nan")

    @property
    def adjusted(self) -> float:
        """The same beyond chance; missing where chance leaves nothing to tell, as with a code of its own per item."""
        room = self.entropy - self.expected
        return (self.mutual - self.expected) / room if room > 1e-9 else float("nan")


@dataclass(frozen=True)
class Counts:
    """How many items of each code have each value, codes and values that do not occur left out."""

    codes: Int[np.ndarray, " used"]
    sizes: Int[np.ndarray, " used"]  # items of each code
    values: Int[np.ndarray, " occurring"]  # numbers of the values
    held: Int[np.ndarray, "used occurring"]

    @classmethod
    def of(cls, codes: Int[np.ndarray, " items"], attribute: Attribute) -> Counts:
        """Count.

        Args:
            codes: -1 where an item has none.
            attribute: Items of which it is unknown are left out.
        """
        here = (codes >= 0) & attribute.known
        members = attribute.members[here]
        used, place, sizes = np.unique(codes[here], return_inverse=True, return_counts=True)
        values = np.flatnonzero(members.any(axis=0))
        held = np.zeros((len(used), len(values)), dtype=np.int64)
        np.add.at(held, place, members[:, values])
        return cls(used, sizes, values, held)


def information(codes: Int[np.ndarray, " items"], attribute: Attribute) -> Information:
    """Mutual information of one level's codes and an attribute, what chance would give, and the attribute's entropy.

    Args:
        codes: -1 where an item has none.
        attribute: Items of which it is unknown are left out.
    """
    from sklearn.metrics import mutual_info_score
    from sklearn.metrics.cluster import expected_mutual_information

    counts = Counts.of(codes, attribute)
    held = counts.held
    tables = [np.stack([counts.sizes - one, one], axis=1) for one in held.T] if attribute.several else [held]
    mutual = expected = entropy = 0.0
    for one in tables:
        one = one[:, one.sum(axis=0) > 0]
        if one.shape[1] > 1:
            mutual += max(0.0, float(mutual_info_score(None, None, contingency=one)))
            expected += float(expected_mutual_information(one, int(one.sum())))
            entropy += float(_entropies(one.sum(axis=0, keepdims=True))[0])
    return Information(mutual, expected, entropy)


def chance_purity(
    here: Bool[np.ndarray, " items"], attribute: Attribute, largest: int, generator: np.random.Generator
) -> Float[np.ndarray, " sizes"]:
    """The purity to be expected of 0, 1, 2, ... items drawn at random, without replacement.

    Args:
        here: Which items have a code.
        attribute: Items of which it is unknown are left out.
        largest: The largest size that is asked for; more than there are items: all of them.
        generator: Draws `DRAWS` orders of the items; the first items of each are a draw of every size.

    Returns:
        By size; 1 for none.
    """
    members = attribute.members[here & attribute.known].astype(np.int32)
    largest = min(largest, len(members))
    total = np.zeros(largest)
    for _ in range(DRAWS):
        order = generator.permutation(len(members))[:largest]
        total += members[order].cumsum(axis=0).max(axis=1, initial=0)
    return np.concatenate([[1.0], total / DRAWS / np.arange(1, largest + 1)])


def per_code(
    codes: Int[np.ndarray, " items"], attribute: Attribute, chance: Float[np.ndarray, " sizes"]
) -> pd.DataFrame:
    """Each code's most frequent value of an attribute, and how pure the code is.

    Of several values that are equally frequent in a code, the one that is rarest elsewhere is taken.

    Args:
        codes: -1 where an item has none.
        attribute: Items of which it is unknown are left out.
        chance: From `chance_purity`, up to the size of the largest code.

    Returns:
        A row per code in use: `code`, `items` (with a known value), `value`, `purity`, `base`, `lift`, `chance`,
        `adjusted` (missing where chance is pure itself), `nmi` (what the code takes away of the attribute's entropy;
        missing where there is none), and `p`: the chance that as many items drawn at random have the value so often
        (hypergeometric), times the number of values, since the value was picked.
    """
    from scipy.stats import hypergeom

    counts = Counts.of(codes, attribute)
    sizes, held, everyone = counts.sizes, counts.held, counts.sizes.sum()
    of_value = held.sum(axis=0)
    # Whole numbers, less a share of one: that decides between equals only.
    best = np.argmax(held - 0.5 * of_value / max(1, everyone), axis=1) if len(held) else np.zeros(0, dtype=int)
    most, base = held[np.arange(len(held)), best], of_value[best] / max(1, everyone)
    purity, expected = most / sizes, chance[sizes]
    room = 1 - expected
    left, entropy = _remaining(held, sizes, attribute), _remaining(of_value[None], np.array([everyone]), attribute)
    tail = hypergeom.sf(most - 1, everyone, of_value[best], sizes)
    return pd.DataFrame(
        {
            "code": counts.codes,
            "items": sizes,
            "value": [attribute.values[counts.values[place]] for place in best],
            "purity": purity,
            "base": base,
            "lift": purity / base,
            "chance": expected,
            "adjusted": np.where(room > 1e-9, (purity - expected) / np.where(room > 1e-9, room, 1.0), np.nan),
            "nmi": 1 - left / entropy if len(held) and entropy[0] > 0 else np.full(len(held), np.nan),
            "p": np.minimum(1.0, tail * held.shape[1]),
        }
    )


def readings(table: pd.DataFrame, share: float, items: int, alpha: float) -> Bool[np.ndarray, " rows"]:
    """Which codes read as their most frequent value.

    Those that have at least `items` items and `share` of them with the value, where that is more than chance: p values
    of all rows together are held to a false discovery rate of `alpha` (Benjamini and Hochberg, 1995), so that of the
    codes that read, no larger share is expected to do so by chance.

    Args:
        table: Rows of `per_code`, of all codes and attributes that are looked at together.
        share: Least purity.
        items: Fewest items.
        alpha: False discovery rate.
    """
    from scipy.stats import false_discovery_control

    if table.empty:
        return np.zeros(0, dtype=bool)
    found = false_discovery_control(table["p"].to_numpy())
    return (found <= alpha) & (table["purity"] >= share).to_numpy() & (table["items"] >= items).to_numpy()


def mutual_information_gap(shares: Float[np.ndarray, "levels attributes"]) -> Float[np.ndarray, " attributes"]:
    r"""MIG of each attribute: :math:`(I(C^{(a)}; A) - I(C^{(b)}; A)) / H(A)` of the two levels that tell most of it.

    Args:
        shares: `Information.normalised` of each level and attribute.

    Returns:
        Missing for an attribute that does not vary. Of a single level, what it tells.
    """
    ordered = np.sort(np.concatenate([shares, np.zeros((1, shares.shape[1]))]), axis=0)[::-1]
    return np.where(np.isnan(shares).any(axis=0), np.nan, ordered[0] - ordered[1])


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness, informativeness; see `dci`.

    Attributes:
        disentanglement: 1 where every level matters for one attribute only, 0 where for all alike.
        completeness: 1 where every attribute is told by one level only, 0 where by all alike.
        informativeness: Share of each attribute's variance that is predicted of items left out; mean over attributes.
        importance: Of each level for each attribute.
        attributes: The names of those that vary.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Float[np.ndarray, "levels attributes"]
    attributes: tuple[str, ...]


def dci(codes: Int[np.ndarray, "items levels"], attributes: Sequence[Attribute]) -> DCI:
    r"""DCI with the levels for latents.

    Each attribute's values, as columns of 0 and 1, are predicted from the codes of all levels, one-hot, by a ridge
    regression; its penalty, for each value, is the one of `PENALTIES` with the least error on items left out one at a
    time. The paper leaves the regressor open, and takes the weights of a linear one for importance. Here importance
    :math:`R_{ia}` is the variance of level i's part of the prediction, summed over the values of attribute a, as a
    share of the attribute's variance: weights of codes that are seldom used count little. With :math:`P_{ia}` the
    shares of a row of :math:`R`, :math:`Q_{ia}` those of a column, and :math:`\rho_i`, :math:`\gamma_a` the shares of
    rows and columns in
    the whole,

    .. math:: D = \sum_i \rho_i \left(1 + \sum_a P_{ia} \log_A P_{ia}\right), \quad
              C = \sum_a \gamma_a \left(1 + \sum_i Q_{ia} \log_L Q_{ia}\right),

    for A attributes and L levels. Informativeness is the error of the paper turned round: 1 − squared error / that of
    the mean, on items left out one at a time; 0 or less where codes are of no use.

    Args:
        codes: A column per level, of any number of modalities; items without one are left out (-1).
        attributes: Those that do not vary are left out, and so are items of which one is unknown.

    Returns:
        D is missing where fewer than two attributes vary, C with one level, both where less than `NOTHING` of the
        variance is predicted (they would be shares of noise), and all where there is nothing to learn from.
    """
    from sklearn.linear_model import RidgeCV
    from threadpoolctl import threadpool_limits

    here = (codes >= 0).all(axis=1) & np.all([one.known for one in attributes], axis=0)
    varying = {one.name: one.members[here][:, one.members[here].std(axis=0) > 0].astype(float) for one in attributes}
    targets = [one for one in varying.values() if one.shape[1]]
    names = tuple(name for name, one in varying.items() if one.shape[1])
    levels = [np.eye(level.max(initial=0) + 1)[level] for level in codes[here].T]
    levels = [level[:, level.any(axis=0)] for level in levels]
    if not targets or here.sum() < 3:
        nothing = float("nan")
        return DCI(nothing, nothing, nothing, np.zeros((len(levels), 0)), ())
    attribute_of = np.repeat(np.arange(len(targets)), [one.shape[1] for one in targets])
    y = np.concatenate(targets, axis=1)
    ridge = RidgeCV(PENALTIES, alpha_per_target=True, store_cv_results=True)
    with threadpool_limits(1):  # sums over threads come in any order
        ridge.fit(np.concatenate(levels, axis=1), y)

    weights = np.split(
        ridge.coef_.reshape(y.shape[1], -1), np.cumsum([level.shape[1] for level in levels])[:-1], axis=1
    )
    parts = np.stack([(level @ weight.T).var(axis=0) for level, weight in zip(levels, weights, strict=True)])
    importance = np.stack([parts[:, attribute_of == a].sum(1) / one.var(0).sum() for a, one in enumerate(targets)], 1)

    chosen = np.searchsorted(PENALTIES, np.atleast_1d(ridge.alpha_))
    errors = ridge.cv_results_.reshape(*y.shape, -1)[:, np.arange(y.shape[1]), chosen].sum(axis=0)
    of_mean = ((y - y.mean(axis=0)) ** 2).sum(axis=0) * (len(y) / (len(y) - 1)) ** 2
    told = [1 - errors[attribute_of == a].sum() / of_mean[attribute_of == a].sum() for a in range(len(targets))]
    informativeness = float(np.mean(told))
    rows = importance if informativeness >= NOTHING else np.zeros_like(importance)
    return DCI(_concentration(rows), _concentration(rows.T), informativeness, importance, names)


def _concentration(importance: Float[np.ndarray, "rows columns"]) -> float:
    """How far the rows' weights keep to one column: 1 − entropy to the base of the columns, rows weighed by size."""
    rows = importance.sum(axis=1)
    if importance.shape[1] < 2 or not rows.sum() > 0:
        return float("nan")
    kept = importance[rows > 0]
    return float((rows[rows > 0] / rows.sum()) @ (1 - _entropies(kept) / np.log(importance.shape[1])))


def _remaining(
    held: Int[np.ndarray, "rows values"], sizes: Int[np.ndarray, " rows"], attribute: Attribute
) -> Float[np.ndarray, " rows"]:
    """Entropy of an attribute within rows of items, in nats."""
    if not attribute.several:
        return _entropies(held)
    return np.stack([_entropies(np.stack([sizes - one, one], axis=1)) for one in held.T]).sum(axis=0)


def _entropies(weights: Int[np.ndarray, "rows n"] | Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """Entropy of each row, taken as shares of its sum, in nats."""
    from scipy.stats import entropy

    return np.asarray(entropy(weights, axis=1), dtype=np.float64)
