r"""Softmax losses: the liked item against all others at once, where BPR takes one other item at a time.

For a batch of pairs (u, i) with scores :math:`s_{uj} = e_u \cdot e_j / T`,

.. math:: L = -\frac{1}{b} \sum_{(u, i)} \ln \frac{\exp s_{ui}}{\sum_j \exp s_{uj}}.

A user's other training items are not masked out of the denominator. Summed over a user's pairs, the loss is then the
multinomial log-likelihood of their whole row (as in Mult-VAE, Liang et al., WWW 2018): largest where the liked items
share all the mass, so that they compete with each other no longer than it takes to get there. All pairs of a user have
one denominator, which the full softmax computes once per distinct user.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def softmax_loss(
    users: Float[Tensor, "n d"],
    items: Float[Tensor, "m d"],
    rows: Int[Tensor, " b"],
    columns: Int[Tensor, " b"],
    temperature: float,
    prior: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, ""]:
    """Full softmax: `items` are all items, those that nobody has among them.

    The cost of a batch is (distinct users) x (items) x d, its memory a few matrices of distinct users by items.

    Args:
        users: The batch's users, each once.
        items: All items.
        rows: Each pair's user, as a row of `users`.
        columns: Each pair's liked item, as a row of `items`.
        temperature: T.
        prior: Added to every user's scores of the items, after they were divided by T.
    """
    users = users / temperature
    own = (users[rows] * items[columns]).sum(1)
    scores = users @ items.T
    if prior is not None:
        own, scores = own + prior[columns], scores + prior
    return (scores.logsumexp(1)[rows] - own).mean()


def sampled_softmax_loss(
    users: Float[Tensor, "n d"],
    items: Float[Tensor, "m d"],
    rows: Int[Tensor, " b"],
    columns: Int[Tensor, " b"],
    temperature: float,
    popularity: Float[Tensor, " m"],
) -> Float[Tensor, ""]:
    r"""Sampled softmax: the batch's liked items stand for all items, corrected for how often each comes up.

    An item j is :math:`c_j` times among the b liked items of the batch, where its share :math:`q_j` of all training
    interactions lets one expect :math:`b q_j`. With :math:`s_{uj} + \ln c_j - \ln(b q_j)` in place of the scores
    (the "logQ" correction, Bengio and Senecal 2008; Yi et al., RecSys 2019), the denominator is right on average;
    uncorrected, popular items would be pushed down for coming up often. The pair's own item is there by design and not
    by chance, so it counts once, uncorrected. A batch of all training interactions gives the full softmax over all
    items with interactions.

    The batch's own items and not uniformly drawn ones: they are embedded anyway, and an item that nobody has is never
    pushed away from anybody, which the full softmax and BPR's uniform negatives do in every step.

    Args:
        users: The batch's users, each once.
        items: The batch's liked items, each once.
        rows: Each pair's user, as a row of `users`.
        columns: Each pair's liked item, as a row of `items`.
        temperature: T.
        popularity: q, each item's share of all training interactions.
    """
    weights = columns.bincount(minlength=len(items)) / (len(columns) * popularity)
    liking = users[rows] / temperature
    own = (liking * items[columns]).sum(1)
    corrected = torch.addmm(weights.log(), liking, items.T).scatter(1, columns.unsqueeze(1), own.unsqueeze(1))
    return (corrected.logsumexp(1) - own).mean()
