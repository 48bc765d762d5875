r"""Gaussian diffusion of vectors that stand for users: what DiffRec and L-DiffRec share (Wang et al., SIGIR 2023).

Corruption over steps :math:`t = 1, \dots, T` with :math:`\bar\alpha_0 = 1`:

.. math:: x_t = \sqrt{\bar\alpha_t} \, x_0 + \sqrt{1 - \bar\alpha_t} \, \epsilon, \qquad \epsilon \sim N(0, 1)

A network predicts :math:`x_0` from :math:`x_t` and t. Steps are counted from 1 in the paper and from 0 in tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from motorec import config
from motorec.models.layers import dropout, linear

HISTORY = 10  # losses of each step that importance sampling looks back on, as the authors
UNIFORM_SHARE = 0.001  # of importance sampling, so that no step's chance is 0; as the authors


class DiffusionSettings(config.Settings):
    """Noise, network and loss of a diffusion."""

    steps: config.Count = 5  # T
    noise_scale: config.Positive = 0.01  # s; the variance of the last step is s times noise_max
    noise_min: config.Positive = 0.05
    noise_max: config.Positive = 0.5
    first_variance: config.Positive | None = 1e-5  # of the first step, whatever the scale; null: as the others
    inference_steps: config.Count = 5  # T', reverse steps that scoring takes; at most T
    hidden: config.Count = 300  # of the network
    time_dim: config.Count = 10  # of the steps' embedding
    normalise: bool = False  # scale the network's input to unit length
    dropout: config.Dropout = 0.5  # of the network's input
    reweight: bool = True  # weigh a step's loss by what it adds to the signal; every step alike otherwise
    importance: bool = True  # draw steps by their losses; uniformly otherwise

    @model_validator(mode="after")
    def _steps_exist(self) -> DiffusionSettings:
        if self.inference_steps > self.steps:
            raise ValueError(f"inference_steps is {self.inference_steps}, but there are only {self.steps} steps")
        if self.noise_max < self.noise_min or self.noise_scale * self.noise_max >= 1.0:
            raise ValueError("noise_max must be at least noise_min, and noise_scale times noise_max less than 1")
        return self


def cumulative_alphas(
    steps: int, scale: float, low: float, high: float, first: float | None = None
) -> Float[Tensor, " steps"]:
    r"""Share of the signal's variance left after each step, :math:`\bar\alpha_1, \dots, \bar\alpha_T` (float64).

    The noise's variance grows linearly, :math:`1 - \bar\alpha_t = s (m + \frac{t - 1}{T - 1} (M - m))` (equation 4 of
    the paper), and one step adds at most 0.999 of it. The first step's variance can be set to a small constant, against
    copying the input, by which all the steps after it keep that much more of the signal: in the authors' code DiffRec
    has that, L-DiffRec has not.

    Args:
        steps: T.
        scale: s.
        low: m.
        high: M.
        first: Variance of the first step; None: as the equation says.
    """
    variance = scale * torch.linspace(low, high, steps, dtype=torch.float64)
    kept = 1.0 - variance
    alphas = torch.cat([kept[:1], kept[1:] / kept[:-1]]).clamp(min=0.001, max=1.0)
    if first is not None:
        alphas[0] = 1.0 - first
    return alphas.cumprod(0)


class Denoiser(nn.Module):
    """One hidden layer of tanh that predicts clean vectors from noisy ones and the step, the step as sines."""

    waves: Tensor

    def __init__(self, width: int, settings: DiffusionSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.normalise = settings.dropout, settings.normalise
        half = max(1, settings.time_dim // 2)
        frequencies = torch.exp(-torch.log(torch.tensor(10_000.0)) * torch.arange(half) / half)
        angles = torch.arange(settings.steps).unsqueeze(1) * frequencies
        self.register_buffer("waves", torch.cat([angles.cos(), angles.sin()], 1), persistent=False)
        self.time = linear(2 * half, settings.time_dim, generator)
        # Two layers for the two parts of one input: a sum in place of a concatenation.
        self.read = linear(width, settings.hidden, generator)
        self.read_time = linear(settings.time_dim, settings.hidden, generator, bias=False)
        self.write = linear(settings.hidden, width, generator)

    def forward(
        self, noisy: Float[Tensor, "b width"], step: Int[Tensor, " b"], noise: torch.Generator | None = None
    ) -> Float[Tensor, "b width"]:
        """The clean vectors; with a generator the input is dropped out."""
        if self.normalise:
            noisy = functional.normalize(noisy, dim=1)
        if noise is not None:
            noisy = dropout(noisy, self.rate, noise)
        return self.write(torch.tanh(self.read(noisy) + self.read_time(self.time(self.waves[step]))))


def _root(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square roots that are the same on every processor, which `Tensor.sqrt` is not; see `motorec.processor`."""
    return values.rsqrt().reciprocal()


class StepSampler(nn.Module):
    """Draws diffusion steps, often those whose loss is large (Nichol and Dhariwal, 2021).

    Steps are drawn uniformly until each has `HISTORY` losses. The history decides later draws, so checkpoints keep it.
    """

    losses: Tensor
    seen: Tensor

    def __init__(self, steps: int, importance: bool) -> None:
        super().__init__()
        self.importance = importance
        self.register_buffer("losses", torch.zeros(steps, HISTORY, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))

    def chances(self) -> Float[Tensor, " steps"]:
        """The chance of each step: the root of its mean squared loss, with a small uniform share; sums to 1."""
        steps = len(self.losses)
        uniform = torch.full((steps,), 1.0 / steps, dtype=torch.float64)
        size = torch.linalg.vector_norm(self.losses, dim=1)
        if not self.importance or (self.seen < HISTORY).any() or size.sum() == 0:
            return uniform
        return (1.0 - UNIFORM_SHARE) * size / size.sum() + UNIFORM_SHARE * uniform

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
        """Steps, and the weights of their losses that leave the mean loss what it is under uniform steps."""
        chances = self.chances()
        steps = torch.multinomial(chances, count, replacement=True, generator=generator)
        return steps, (1.0 / (chances * len(chances)))[steps].float()

    def remember(self, steps: Int[Tensor, " b"], losses: Float[Tensor, " b"]) -> None:
        """Put each step's losses at the end of its history."""
        losses = losses.detach().double()
        for step in steps.unique().tolist():
            new = losses[steps == step][-HISTORY:]
            self.losses[step] = torch.cat([self.losses[step], new])[-HISTORY:]
            self.seen[step] = (self.seen[step] + len(new)).clamp(max=HISTORY)


class Diffusion(nn.Module):
    """The forward process, the loss of a denoiser, and the reverse process."""

    kept: Tensor
    weights: Tensor
    of_clean: Tensor
    of_noisy: Tensor

    def __init__(self, settings: DiffusionSettings) -> None:
        super().__init__()
        self.settings = settings
        kept = cumulative_alphas(
            settings.steps, settings.noise_scale, settings.noise_min, settings.noise_max, settings.first_variance
        )
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        alphas = kept / before
        signal = kept / (1.0 - kept)
        # What the step before keeps of the signal beyond this one; the first step's loss is a likelihood, weight 1.
        gained = torch.cat([signal.new_ones(1), signal[:-1] - signal[1:]])
        self.sampler = StepSampler(settings.steps, settings.importance)
        tables = {
            "kept": kept,
            "weights": gained if settings.reweight else torch.ones_like(kept),
            # Of the posterior mean of x_{t-1}: the parts of the predicted x_0 and of x_t.
            "of_clean": _root(before) * (1.0 - alphas) / (1.0 - kept),
            "of_noisy": _root(alphas) * (1.0 - before) / (1.0 - kept),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float(), persistent=False)

    def corrupt(
        self, clean: Float[Tensor, "b width"], step: Int[Tensor, " b"], noise: Float[Tensor, "b width"]
    ) -> Float[Tensor, "b width"]:
        """Vectors after `step + 1` steps of corruption with the given standard normal noise."""
        kept = self.kept[step].unsqueeze(1)
        return _root(kept) * clean + _root(1.0 - kept) * noise

    def losses(
        self, denoise: Denoiser, clean: Float[Tensor, "b width"], generator: torch.Generator
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b width"]]:
        """Each vector's weighted squared error at a step drawn for it; and the predictions."""
        steps, weights = self.sampler.draw(len(clean), generator)
        noisy = self.corrupt(clean, steps, torch.randn(clean.shape, generator=generator))
        predicted = denoise(noisy, steps, generator)
        losses = self.weights[steps] * (predicted - clean).square().sum(1)
        self.sampler.remember(steps, losses)
        return weights * losses, predicted

    def reverse(
        self, denoise: Callable[[Tensor, Tensor], Tensor], start: Float[Tensor, "b width"]
    ) -> Float[Tensor, "b width"]:
        """Walk back T' steps from vectors taken as they are, by the posterior means, without noise."""
        state = start
        for step in reversed(range(self.settings.inference_steps)):
            predicted = denoise(state, torch.full((len(state),), step))
            state = self.of_clean[step] * predicted + self.of_noisy[step] * state
        return state
