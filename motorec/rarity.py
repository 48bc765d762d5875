r"""Adaptive rarity amplification (ARA): how much an item counts in the tokenizer's loss (paper section 1).

The paper prints, for an item of training degree :math:`d_i` and a threshold :math:`\tau`,

.. math:: w_i = 1 / \log_2(d_i + 2) \text{ if } 0 < d_i < \tau, \text{ else } 1,

and says that rarer items get *more* weight. The formula does the opposite: a cold item gets 0.63 (d = 1) down to 0.29
(d = 9), a warm one 1.0. Both readings are here by name, and each is an ablation of the other. The weight of an item
without any training interaction acts in pretraining alone: the joint loss is over liked items, and it is never one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Reading = Literal["amplify", "literal", "off"]


def rarity_weights(degrees: Int[np.ndarray, " items"], tau: int, reading: Reading) -> Float[np.ndarray, " items"]:
    r"""Weight of every item in the tokenizer's loss.

    Args:
        degrees: Training interactions of each item; never validation or test ones.
        tau: Items with fewer training interactions are cold.
        reading: `literal` is the formula as printed. `amplify` is the stated intent: the printed weight divided into
            its value at :math:`d = \tau`, that is :math:`\log_2(\tau + 2) / \log_2(d_i + 2)` for :math:`d_i < \tau`,
            so that a warm item has 1.0, a rarer one more, and an item without any interaction the most. `off` is 1.0
            for all.

    Returns:
        Weights, (items,), float32.
    """
    weights = np.ones(len(degrees), dtype=np.float32)
    if reading == "literal":
        rare = (degrees > 0) & (degrees < tau)
        weights[rare] = 1.0 / np.log2(degrees[rare] + 2.0)
    elif reading == "amplify":
        rare = degrees < tau
        weights[rare] = np.log2(tau + 2.0) / np.log2(degrees[rare] + 2.0)
    return weights
