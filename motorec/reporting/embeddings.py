r"""Where a model puts cold items: maps of its final item embeddings, and a number for what the eye sees in them.

The number is the *mixing* of an item i, cold (fewer than tau training interactions) or warm:

.. math:: \mathrm{mixing}(i) = \frac{|N_k(i) \cap O| / k}{|O| / (n - 1)}

N_k(i) are its k nearest items by cosine, O the items of the other kind among all n. It is 1 where neighbours are drawn
at random, 0 where cold and warm items keep to themselves, and above 1 where they sit among each other more than chance
would have it. Cold and warm items have each a mean of their own: cold items may hang about a warm centre whose items
have only each other for neighbours. Mixing says where cold items are, not whether they are in the right place there:
that is for the cold metrics.

The interval is a bootstrap over items. Neighbours are shared between items, so that it is only about right: where cold
items were cold by lot alone, intervals of 95% held the 1 in 90% (cold items) and 97% (warm ones) of 150 trials.

A map is a t-SNE of one seed, from a fixed start: its distances within a clump mean something, those between clumps and
the size of a clump do not. A last digit that differs is enough to turn a map round, so that where arithmetic is another
(`motorec.processor`) it may look different; the numbers do not.

Models are put together again from settings and weights, and have to score as they did when they were trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from safetensors.torch import load_file
from scipy.stats import bootstrap
from threadpoolctl import threadpool_limits

from motorec import paths
from motorec.errors import DataError, ParamsError
from motorec.evaluation import evaluate
from motorec.experiment import Experiment
from motorec.models import EmbeddingRecommender
from motorec.reporting import tables
from motorec.reporting.figures import grid, palette, themed
from motorec.reporting.runs import ExpectedRun, data_file, load_metrics
from motorec.seeding import derive, numpy_generator

PERPLEXITY = 30.0  # of t-SNE; less where there are fewer than about a hundred items
STEPS = 500  # twice as many hardly change the maps
SAME = 1e-3  # by how much a metric may differ from the one in metrics.json: where arithmetic is another, last digits do


def item_vectors(run: ExpectedRun) -> Float[np.ndarray, "items d"]:
    """Final item embeddings of a trained model: those whose dot product with a user's is the score.

    Args:
        run: A finished run of a model that ends in embeddings.

    Raises:
        DataError: The weights are missing, or are not those that the run's metrics were made with.
        ParamsError: The model has no item embeddings.
    """
    _, model = trained(run)
    with torch.no_grad():
        return model.embeddings()[1].numpy()


def trained(run: ExpectedRun) -> tuple[Experiment, EmbeddingRecommender]:
    """A trained model, put together again and found to score as it did; errors as in `item_vectors`."""
    experiment, model = restored(run)
    check(run, experiment, model)
    return experiment, model


def restored(run: ExpectedRun) -> tuple[Experiment, EmbeddingRecommender]:
    """A trained model, ready to score, with all that it was made of.

    Raises:
        DataError: The weights are missing, or belong to a model with other settings.
        ParamsError: The model has no item embeddings.
    """
    file = data_file(run, "model.safetensors")
    experiment = Experiment.load(run.dataset, run.model, run.seed)
    model = experiment.build()
    if not isinstance(model, EmbeddingRecommender):
        raise ParamsError(
            f"params/report.yaml: mapped names {run.model!r}, which has no embedding per item to draw. Name models "
            "whose score is a dot product of embeddings, such as lightgcn."
        )
    try:
        model.load_state_dict(load_file(file))
    except RuntimeError as error:
        raise _outdated(run, str(error).splitlines()[-1].strip()) from None
    model.freeze()
    return experiment, model


def check(run: ExpectedRun, experiment: Experiment, model: EmbeddingRecommender) -> None:
    """Make sure that a model put together again scores as it did when it was trained.

    Raises:
        DataError: It does not: a test metric differs from the one in metrics.json.
    """
    now = evaluate(model.score, experiment.dataset, "test", experiment.evaluation).means
    then = load_metrics([run])
    for split, group, metric, value in then[["split", "group", "metric", "value"]].itertuples(index=False):
        # How popular the lists are is told in interactions and not in shares.
        if split == "test" and not metric.startswith("popularity"):
            found = now.get(f"{split}/{group}/{metric}", float("nan"))
            if not abs(found - value) <= SAME:
                raise _outdated(run, f"{split}/{group}/{metric} is {found:.6f} with these weights, {value:.6f} there.")


def _outdated(run: ExpectedRun, why: str) -> DataError:
    weights = paths.shown(data_file(run, "model.safetensors"))
    return DataError(
        f"{weights} does not go with the settings in params/ and with {paths.shown(run.metrics_file)}: {why} They are "
        "of different versions; make the run again with `dvc repro`."
    )


def mixing(
    vectors: Float[np.ndarray, "items d"], chosen: Bool[np.ndarray, " items"], neighbours: int
) -> Float[np.ndarray, " chosen"]:
    """How many of the chosen items' nearest neighbours are of the other kind, as a multiple of what chance would give.

    Args:
        vectors: Item embeddings; neighbours are those of the largest cosine.
        chosen: Which items are asked: the cold ones, or the warm ones. The other kind is all the rest.
        neighbours: k; all other items, where there are fewer.

    Returns:
        The module's mixing of each chosen item; missing where there is no item of the other kind.
    """
    unit = _unit(vectors)
    neighbours = min(neighbours, len(unit) - 1)
    places = np.flatnonzero(chosen)
    near = unit[places] @ unit.T
    near[np.arange(len(places)), places] = -np.inf  # nobody is a neighbour of his own
    nearest = np.argsort(-near, axis=1, kind="stable")[:, :neighbours]
    expected = (~chosen).sum() / (len(chosen) - 1)
    if expected == 0:
        return np.full(len(places), np.nan)
    return (~chosen)[nearest].mean(axis=1) / expected


def mixing_table(
    vectors: Mapping[str, Mapping[int, Float[np.ndarray, "items d"]]],
    cold: Bool[np.ndarray, " items"],
    neighbours: int,
    alpha: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """The mixing of several models, of cold items and of warm ones.

    Args:
        vectors: Item embeddings by model and seed.
        cold: Which items are cold.
        neighbours: k.
        alpha: The intervals cover 1 - alpha.
        resamples: Bootstrap draws of items.
        seed: Of the bootstrap.

    Returns:
        Two rows per model: `model`, `seeds`, `of` ("cold" or "warm"), `items` (of that kind), `neighbours`, `mixing`
        (mean over items and seeds), `mixing_sd` (standard deviation over seeds), `low` and `high` (percentile bootstrap
        interval over items, each with its mean over seeds; missing where there are fewer than two).
    """
    rows = []
    for model, by_seed in vectors.items():
        for kind, chosen in (("cold", cold), ("warm", ~cold)):
            values = np.stack([mixing(one, chosen, neighbours) for one in by_seed.values()])
            means = values.mean(axis=1) if chosen.any() else np.full(len(values), np.nan)
            low, high = _interval(values.mean(axis=0), alpha, resamples, seed)
            rows.append(
                {
                    "model": model,
                    "seeds": len(by_seed),
                    "of": kind,
                    "items": int(chosen.sum()),
                    "neighbours": neighbours,
                    "mixing": means.mean(),
                    "mixing_sd": means.std(ddof=1) if len(means) > 1 else float("nan"),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def _interval(values: Float[np.ndarray, " n"], alpha: float, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of a mean."""
    if len(values) < 2 or np.isnan(values).any():
        return float("nan"), float("nan")
    drawn = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=1 - alpha,
        method="percentile",
        batch=100,
        rng=numpy_generator(seed, "mixing"),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _unit(vectors: Float[np.ndarray, "items d"]) -> Float[np.ndarray, "items d"]:
    """Rows of length 1, in double precision; a row of zeros stays what it is."""
    rows = vectors.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def cells(table: pd.DataFrame, titles: Mapping[str, str], style: tables.Style) -> pd.DataFrame:
    """The table of mixing as a reader sees it.

    Args:
        table: From `mixing_table`.
        titles: The models' titles by name.
        style: MARKDOWN or LATEX.
    """
    shown = pd.DataFrame(
        {
            "Model": [titles[name] for name in table["model"]],
            "Items": [f"{kind} ({count:,})" for kind, count in zip(table["of"], table["items"], strict=True)],
            "Seeds": [str(count) for count in table["seeds"]],
            "Mixing": [
                "–" if np.isnan(mean) else f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
                for mean, sd in zip(table["mixing"], table["mixing_sd"], strict=True)
            ],
            "Interval": [
                "–" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
        }
    )
    return shown.map(style.escape)


def told(table: pd.DataFrame, model: str) -> str:
    """What stands below a model's map: the mixing of cold and of warm items with its interval."""
    lines = []
    for _, row in table[table["model"] == model].iterrows():
        interval = "" if np.isnan(row["low"]) else f" ({row['low']:.2f}–{row['high']:.2f})"
        lines.append(f"mixing, {row['of']}: {row['mixing']:.2f}{interval}")
    return "\n".join(lines)


def flat(vectors: Float[np.ndarray, "items d"], seed: int) -> Float[np.ndarray, "items 2"]:
    """A t-SNE of item embeddings by cosine: begun at their principal components, on one thread, the same every time."""
    from sklearn.manifold import TSNE

    unit = _unit(vectors)  # of which the squared distance is 2 - 2 cos
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    # Sums over threads come in any order, and t-SNE makes much of a last digit.
    with threadpool_limits(1):
        found = TSNE(
            2, perplexity=perplexity, init="pca", max_iter=STEPS, random_state=derive(seed, "t-sne") % 2**32, n_jobs=1
        )
        return found.fit_transform(unit)


@themed
def maps(
    places: Mapping[str, Float[np.ndarray, "items 2"]],
    cold: Bool[np.ndarray, " items"],
    below: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """Maps of item embeddings side by side, cold items marked.

    Args:
        places: Where the items lie, by the models' titles.
        cold: Which items are cold.
        below: What stands below each map.
        title: The figure's title.
        notes: What else a reader is to know, a line each below the maps.
    """
    # Up to three beside each other: a page is no wider.
    columns = min(3, len(places))
    figure, axes = grid(-(-len(places) // columns), columns, 2.9, 4.1, title)
    size = 26 * min(1.0, (800 / len(cold)) ** 0.5)
    kinds = [("warm", ~cold, palette()[0], "o", 0.5), ("cold", cold, palette()[3], "^", 0.9)]
    kinds.sort(key=lambda kind: -kind[1].sum())  # the rarer kind on top, so that neither is hidden by the other
    for axis in axes.flat[len(places) :]:
        axis.set_axis_off()
    for axis, (name, where), text in zip(axes.flat, places.items(), below, strict=False):
        for kind, chosen, colour, marker, scale in kinds:
            axis.scatter(
                *where[chosen].T,
                s=scale * size,
                color=[colour],
                marker=marker,
                alpha=0.8,
                linewidth=0.3,
                edgecolor="white",
                label=f"{kind} items ({int(chosen.sum()):,})",
            )
        axis.set_title(fill(name, 24), verticalalignment="bottom")
        axis.set_xlabel(text, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_box_aspect(1)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        markerscale=1.6,
        title="\n".join(notes) or None,
        title_fontsize=9,
    )
    return figure
