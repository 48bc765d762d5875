"""MultVAE: a variational autoencoder of user rows (Liang, Krishnan, Hoffman and Jebara, WWW 2018)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from motorec import config
from motorec.models.base import Inputs, TrainedRecommender
from motorec.models.layers import dropout, linear
from motorec.models.rows import Annealing, BagLinear, UserRows, gaussian_kl, multinomial_loss


class MultVAE(TrainedRecommender):
    r"""A user's row is encoded as a Gaussian and decoded as the logits of a multinomial over all items.

    .. math:: \mu_u, \ln \sigma_u^2 = W_2 \tanh(W_1 \mathrm{dropout}(x_u / \|x_u\|) + b_1) + b_2, \qquad
              z_u \sim N(\mu_u, \sigma_u^2), \qquad f_u = W_4 \tanh(W_3 z_u + b_3) + b_4

    .. math:: L_u = -\sum_i x_{ui} \ln \mathrm{softmax}_i(f_u) + \beta \, KL(N(\mu_u, \sigma_u^2) \| N(0, 1))

    where :math:`\beta` grows from 0 to its final value over the first steps. Scores are :math:`f_u` at
    :math:`z_u = \mu_u`. With `hidden` 600, `latent` 200, `dropout` 0.5 and `beta` 0.2 it is the authors'; they begin
    with biases near 0, here 0.
    """

    batches = "users"

    class Settings(config.Settings):
        """Sizes and regularisation."""

        hidden: config.Count = 600
        latent: config.Count = 200
        dropout: config.Dropout = 0.5  # of a user's items
        beta: config.NotNegative = 0.2  # final weight of the divergence
        anneal_steps: config.Count = 1000  # steps until it is reached

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("multvae", "weights")
        n_items = inputs.train.shape[1]
        self.rows = UserRows(inputs.train)
        self.encode = BagLinear(n_items, settings.hidden, generator)
        self.gaussian = linear(settings.hidden, 2 * settings.latent, generator)
        self.decode = linear(settings.latent, settings.hidden, generator)
        self.out = linear(settings.hidden, n_items, generator)
        self.beta = Annealing(settings.beta, settings.anneal_steps)

    def _logits(self, latent: Float[Tensor, "b latent"]) -> Float[Tensor, "b items"]:
        return self.out(torch.tanh(self.decode(latent)))

    def losses(self, users: Int[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """Negative log likelihood and annealed divergence, both per user."""
        bags = self.rows.bags(users)
        hidden = torch.tanh(self.encode(bags, dropout(bags.unit_weights, self.settings.dropout, self.noise)))
        mean, log_variance = self.gaussian(hidden).chunk(2, dim=1)
        latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=self.noise)
        return {
            "likelihood": multinomial_loss(self._logits(latent), bags),
            "divergence": self.beta.step() * gaussian_kl(mean, log_variance),
        }

    def freeze(self) -> None:
        """Nothing is drawn in scoring, and nothing is shared between users."""
        self.eval()

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Logits at the mean of each user's Gaussian."""
        bags = self.rows.bags(users)
        with torch.no_grad():
            mean, _ = self.gaussian(torch.tanh(self.encode(bags, bags.unit_weights))).chunk(2, dim=1)
            return self._logits(mean)
