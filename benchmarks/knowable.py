"""How much of the garments' oracle can be known from the training data at all? `python benchmarks/knowable.py`.

The oracle ranks by the utility that the choices were drawn from. No model is told that: a user has about eight training
interactions, and a taste has some sixty numbers. This is the figure to compare models with instead: the ranking of a
reader who knows how the data were made (`motorec/data/garments.py`), every item's true attributes and popularity and
every segment's true taste, and who has to learn from the training interactions only what is personal in each taste.

The personal part e of a user has the prior Exp(1) in each number; the training items' likelihood is that of independent
draws from softmax(utility(e)), which is close for few items of many. The posterior is sampled by Hamiltonian Monte
Carlo over z = ln e, all users side by side, and an item's score is the posterior mean of its softmax share. No model
without that knowledge should be expected above it.

Between that reader and the models stands one more line: TokenBridge with every item's true attributes in place of the
features, as tuned on garments, one seed. What it gains is what the features do not tell about the items; what it lacks
against the reader is what it does not learn about the users.

Takes a few minutes on one core; garments must have been made (`make repro`).
"""

from __future__ import annotations

import motorec  # noqa: F401  # isort: skip  # first: it chooses the instructions of those below

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from motorec import config, paths
from motorec.data import Dataset, garments
from motorec.data.garment_texts import WORDS
from motorec.evaluation.evaluate import Score, evaluate
from motorec.experiment import Experiment
from motorec.features import Features
from motorec.progress import progress
from motorec.seeding import numpy_generator

NAME = "garments"
LEAPFROG = 10  # steps of a proposal


class Fixed:
    """A model whose scores are given."""

    def __init__(self, scores: Float[Tensor, "users items"]) -> None:
        self.scores = scores

    def __call__(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Scores of some users."""
        return self.scores[torch.from_numpy(users)]


class Truth:
    """What the planted data were drawn from, in the order of the data set's users and items."""

    def __init__(self, data: Dataset) -> None:
        settings = config.load_dataset(NAME)
        assert isinstance(settings, config.GarmentsSettings)
        self.taste = settings.taste
        items = garments.draw_items(settings.items, numpy_generator(settings.seed, NAME, "items"))
        # The same draws in the same order as `garments.draw_preferences`.
        generator = numpy_generator(settings.seed, NAME, "users")
        segments = generator.integers(garments.SEGMENTS, size=settings.users)
        attributes, shared, personal = [], [], []
        for attribute, words in WORDS.items():
            values = list(words)
            of_segment = generator.exponential(size=(garments.SEGMENTS, len(values)))
            shared.append(garments.SEGMENT_SHARE * of_segment[segments])
            personal.append(generator.exponential(size=(settings.users, len(values))))
            chosen = [values.index(value) for value in items[attribute]]
            attributes.append(garments.WEIGHTS[attribute] * np.eye(len(values))[chosen])
        log_popularity = settings.popularity * generator.standard_normal(len(items))
        users = [int(name[1:]) - 1 for name in data.users]
        rows = [int(name[1:]) - 1 for name in data.items["item_id"]]
        self.attributes: Float[Tensor, "items values"] = torch.from_numpy(np.hstack(attributes)[rows]).float()
        self.shared: Float[Tensor, "users values"] = torch.from_numpy(np.hstack(shared)[users]).float()
        self.personal: Float[Tensor, "users values"] = torch.from_numpy(np.hstack(personal)[users]).float()
        self.log_popularity: Float[Tensor, " items"] = torch.from_numpy(log_popularity[rows]).float()
        assert data.truth is not None
        assert np.allclose(self.utility(self.personal).numpy(), data.truth, atol=1e-4), "garments are drawn otherwise"

    def utility(self, personal: Float[Tensor, "users values"]) -> Float[Tensor, "users items"]:
        """What the users would prefer, were this their personal taste."""
        match = (self.shared + (1 - garments.SEGMENT_SHARE) * personal) @ self.attributes.T
        match = match - match.mean(1, keepdim=True)
        return self.taste * match / match.std(1, correction=0, keepdim=True) + self.log_popularity


def posterior_shares(
    truth: Truth, taken: Float[Tensor, "users items"], samples: int, generator: torch.Generator
) -> Float[Tensor, "users items"]:
    """Posterior mean of softmax(utility), the first third of the samples dropped."""

    def log_posterior(z: Tensor) -> Tensor:
        utility = truth.utility(z.exp())
        likelihood = (utility * taken).sum(1) - taken.sum(1) * torch.logsumexp(utility, 1)
        return likelihood + (z - z.exp()).sum(1)

    def with_gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        value = log_posterior(z)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    z = torch.zeros_like(truth.personal)
    step = torch.full((len(z), 1), 0.05)
    value, gradient = with_gradient(z)
    total, kept = torch.zeros_like(taken), 0
    for number in progress(range(samples), "sampling"):
        momentum = torch.randn(z.shape, generator=generator)
        before = value - momentum.square().sum(1) / 2
        new, new_value, new_gradient = z, value, gradient
        for _ in range(LEAPFROG):
            momentum = momentum + step / 2 * new_gradient
            new = new + step * momentum
            new_value, new_gradient = with_gradient(new)
            momentum = momentum + step / 2 * new_gradient
        after = new_value - momentum.square().sum(1) / 2
        accepted = torch.rand(len(z), generator=generator).log() < after - before
        z = torch.where(accepted[:, None], new, z)
        value = torch.where(accepted, new_value, value)
        gradient = torch.where(accepted[:, None], new_gradient, gradient)
        if number < samples // 3:  # the step is tuned while nothing is kept: towards two of three accepted
            step = step * torch.where(accepted[:, None], 1.05, 0.9)
        else:
            total += truth.utility(z.exp()).softmax(1)
            kept += 1
    return total / kept


def attributes_for_features(truth: Truth) -> Score:
    """TokenBridge, trained on what is true of the items in place of what their pictures and texts show."""
    experiment = Experiment.load(NAME, "tokenbridge", config.load_run().seeds[0])
    true = Features("text", "true attributes", truth.attributes.numpy(), np.ones(len(truth.attributes), dtype=bool))
    inputs = replace(experiment.inputs, features={"text": true})
    # A name of its own, so that it meets no checkpoint of the model itself.
    choice = experiment.choice.model_copy(update={"name": "tokenbridge-true-attributes"})
    experiment = replace(experiment, inputs=inputs, choice=choice)
    model = experiment.build()
    experiment.fit(model)
    return model.score


def main() -> None:
    """Print Recall@20 and NDCG@20 of the reader, beside the oracle and those who know less."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400)
    samples = parser.parse_args().samples
    data = Dataset.load(paths.catalogue(NAME))
    truth = Truth(data)
    taken = torch.from_numpy(data.matrix("train").toarray())
    readers: dict[str, Callable[[], Score]] = {
        "oracle": lambda: Fixed(truth.utility(truth.personal)),
        "no history: prior mean": lambda: Fixed(truth.utility(torch.ones_like(truth.personal))),
        "TokenBridge, attributes": lambda: attributes_for_features(truth),
        "training history": lambda: Fixed(
            posterior_shares(truth, taken, samples, torch.Generator().manual_seed(0)),
        ),
    }
    settings = config.load_evaluation(NAME)
    for name, read in readers.items():
        score = read()
        for split in ("valid", "test"):
            means = evaluate(score, data, split, settings).means
            figures = [
                means[f"{split}/{group}/{metric}@20"] for group in ("all", "cold") for metric in ("recall", "ndcg")
            ]
            print(
                f"{name:24} {split:5} all {figures[0]:.4f} {figures[1]:.4f}  cold {figures[2]:.4f} {figures[3]:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
