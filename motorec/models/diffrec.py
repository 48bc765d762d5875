"""DiffRec: diffusion over user rows (Wang, Xu, Feng, Lin, He and Chua, SIGIR 2023, arXiv 2304.04971)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from motorec.models.base import Inputs, TrainedRecommender
from motorec.models.diffusion import Denoiser, Diffusion, DiffusionSettings
from motorec.models.rows import UserRows


class DiffRec(TrainedRecommender):
    r"""A user's row is corrupted a little, and a network learns to predict the clean row.

    .. math:: L = E_{t, \epsilon} \, w_t \| x_0 - f_\theta(x_t, t) \|^2, \qquad
              w_1 = 1, \quad w_t = \frac{\bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}} - \frac{\bar\alpha_t}{1 - \bar\alpha_t}

    with :math:`x_t` as in `motorec.models.diffusion` and t drawn by importance; with `reweight` off, all
    :math:`w_t = 1`. Scores are the row after T' reverse steps from the user's row itself. The paper corrupts it first,
    for fewer steps than T; the authors' published settings corrupt nothing and walk back all T steps, which is T' = T
    here. Nothing is drawn in scoring.

    The squared error is summed over items, as in the paper. The authors' code takes its mean, a few thousand times
    smaller: without their weights, which are large, Adam's epsilon then swallows much of the gradient.
    """

    batches = "users"

    Settings = DiffusionSettings

    def __init__(self, settings: DiffusionSettings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        self.rows = UserRows(inputs.train)
        self.diffusion = Diffusion(settings)
        self.denoise = Denoiser(inputs.train.shape[1], settings, inputs.generator("diffrec", "weights"))

    def losses(self, users: Int[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """The diffusion's loss."""
        losses, _ = self.diffusion.losses(self.denoise, self.rows.dense(users), self.noise)
        return {"diffusion": losses.mean()}

    def freeze(self) -> None:
        """Nothing is drawn in scoring, and nothing is shared between users."""
        self.eval()

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """The row after the reverse steps."""
        with torch.no_grad():
            return self.diffusion.reverse(self.denoise, self.rows.dense(users))
