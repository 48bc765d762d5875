"""L-DiffRec: diffusion over compressed user rows (Wang, Xu, Feng, Lin, He and Chua, SIGIR 2023, arXiv 2304.04971)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from scipy import sparse
from torch import Tensor, nn

from motorec import config, seeding
from motorec.graph import symmetric_normalise
from motorec.models.base import Inputs, TrainedRecommender
from motorec.models.diffusion import Denoiser, Diffusion, DiffusionSettings
from motorec.models.layers import dropout, linear
from motorec.models.rows import Annealing, BagLinear, UserRows, gaussian_kl, multinomial_loss


class LDiffRec(TrainedRecommender):
    r"""Items are clustered, each cluster's part of a row is encoded, and diffusion works on the joined codes.

    .. math:: (\mu^c_u, \ln \sigma^{c \, 2}_u) = W_c \, \mathrm{dropout}(x^c_u / \|x^c_u\|) + b_c, \qquad
              z_u = [z^1_u, \dots, z^C_u], \quad z^c_u \sim N(\mu^c_u, \sigma^{c \, 2}_u)

    .. math:: L_u = -\sum_i x_{ui} \ln \mathrm{softmax}_i(W \hat z_u + b) + \gamma \, KL_u + \lambda L_{diffusion}

    with :math:`\hat z_u` what the denoiser predicts of :math:`z_u` (see `motorec.models.diffusion`), and
    :math:`\gamma` growing from 0. Scores decode what T' reverse steps from :math:`\mu_u` give.

    As in the authors' code, a cluster gets dimensions by its number of items, and one linear decoder reads the joined
    codes (the paper draws a decoder per cluster). They cluster by the embeddings of a LightGCN trained beforehand; here
    it is by a truncated SVD of the normalised training interactions, which needs no other model. They put a tanh on
    means and log variances, which bounds what a code can tell, and leave rows at their length; users with five items
    were told apart better without the one, and as well at unit length. They lower :math:`\lambda` over 500 epochs; here
    it stays. The first step's noise is fixed at a small variance, as in their DiffRec; their L-DiffRec has the
    equation's (`first_variance: null`). The diffusion's squared error is summed over the code, not averaged (see
    `motorec.models.diffrec`), so a fitting :math:`\lambda` is smaller.
    """

    batches = "users"

    class Settings(DiffusionSettings):
        """The autoencoders, and what DiffRec has."""

        clusters: config.Count = 2
        cluster_dim: config.Count = 64  # of the SVD that items are clustered by
        latent: config.Count = 200  # of all clusters together
        input_dropout: config.Dropout = 0.5  # of a user's items
        beta: config.NotNegative = 0.2  # gamma, final weight of the divergence
        anneal_steps: config.Count = 1000  # steps until it is reached
        diffusion_weight: config.NotNegative = 0.05  # lambda

        @model_validator(mode="after")
        def _room_for_all(self) -> LDiffRec.Settings:
            if self.latent < self.clusters:
                raise ValueError(f"latent is {self.latent}, too little for {self.clusters} clusters")
            return self

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        super().__init__()
        self.settings = settings
        generator = inputs.generator("ldiffrec", "weights")
        n_items = inputs.train.shape[1]
        seed = seeding.derive(inputs.seed, inputs.dataset, "ldiffrec", "clusters")
        members = cluster_items(inputs.train, settings.clusters, settings.cluster_dim, seed % 2**32)
        sizes = shares(settings.latent, [len(found) for found in members])
        self.rows = UserRows(inputs.train)
        self.parts = [UserRows(inputs.train.tocsc()[:, found].tocsr()) for found in members]
        self.encoders = nn.ModuleList(
            BagLinear(len(found), 2 * size, generator) for found, size in zip(members, sizes, strict=True)
        )
        self.diffusion = Diffusion(settings)
        self.denoise = Denoiser(settings.latent, settings, generator)
        self.out = linear(settings.latent, n_items, generator)
        self.beta = Annealing(settings.beta, settings.anneal_steps)

    def _encode(
        self, users: Int[Tensor, " b"], noise: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b latent"], Float[Tensor, "b latent"]]:
        """Mean and log variance of the users' codes; items are dropped out if a generator is given."""
        means, log_variances = [], []
        for rows, encoder in zip(self.parts, self.encoders, strict=True):
            bags = rows.bags(users)
            weights = bags.unit_weights
            if noise is not None:
                weights = dropout(weights, self.settings.input_dropout, noise)
            mean, log_variance = encoder(bags, weights).chunk(2, dim=1)
            means.append(mean)
            log_variances.append(log_variance)
        return torch.cat(means, 1), torch.cat(log_variances, 1)

    def losses(self, users: Int[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """Negative log likelihood of the rows, annealed divergence, diffusion loss of the codes."""
        mean, log_variance = self._encode(users, self.noise)
        latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=self.noise)
        diffusion, predicted = self.diffusion.losses(self.denoise, latent, self.noise)
        return {
            "likelihood": multinomial_loss(self.out(predicted), self.rows.bags(users)),
            "divergence": self.beta.step() * gaussian_kl(mean, log_variance),
            "diffusion": self.settings.diffusion_weight * diffusion.mean(),
        }

    def freeze(self) -> None:
        """Nothing is drawn in scoring, and nothing is shared between users."""
        self.eval()

    def score(self, users: Int[np.ndarray, " b"]) -> Float[Tensor, "b items"]:
        """Decoded codes after the reverse steps."""
        with torch.no_grad():
            mean, _ = self._encode(torch.from_numpy(users))
            return self.out(self.diffusion.reverse(self.denoise, mean))


def cluster_items(train: sparse.csr_matrix, clusters: int, dim: int, seed: int) -> list[Int[np.ndarray, " members"]]:
    """The items of each cluster, by k-means of a truncated SVD of the normalised interactions.

    Items without training interactions have zero vectors and fall into one cluster. No cluster is empty; there are
    fewer than asked for where fewer items differ.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    if clusters == 1:
        return [np.arange(train.shape[1])]
    dim = min(dim, min(train.shape) - 1)
    # Not ARPACK: where singular values coincide it finds another basis every time. One thread: sums of several are
    # added in the order in which they end.
    with threadpool_limits(1):
        vectors = TruncatedSVD(dim, algorithm="randomized", random_state=seed).fit_transform(
            symmetric_normalise(train).T
        )
        labels = KMeans(clusters, n_init=4, random_state=seed).fit(vectors).labels_
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def shares(total: int, sizes: list[int]) -> list[int]:
    """Divide `total` among clusters in proportion to their sizes, at least 1 each; the largest takes what is left."""
    found = [max(1, total * size // sum(sizes)) for size in sizes]
    largest = int(np.argmax(sizes))
    found[largest] += total - sum(found)
    while found[largest] < 1:  # so many small clusters were rounded up to 1 that others must give
        found[int(np.argmax(found))] -= 1
        found[largest] += 1
    return found
