"""Why does one modality take over when items are not tokens? `python benchmarks/withering.py`.

docs/fidelity.md, section 6: with a continuous latent in place of tokens and a plain sum for fusion, one content channel
ends long and the other short, its items nearly one and the same vector; with tokens both stay. Is that owed to codes
being discrete, or would any latent do that cannot shrink? Three variants of MoToRec, all with a plain sum:

- `tokens`: the ablation `motorec-no-hybrid`.
- `continuous`: the ablation `motorec-no-rqvae-no-hybrid`.
- `standardised`: the same, but what a channel starts with is the latent less its mean over items, divided by its root
  mean square length over items. It can neither shrink nor become one vector, and nothing in it is discrete. What the
  decoder reads, and so the tokenizer's loss, stays as it was.

For each seed: what the run is worth on test, and of each modality, over the items that have it, the mean length after
propagation and how much of it their mean vector has (1: all items are one vector).

Some minutes a run on one core; `--dataset hm` must have been through `make ablations` as far as its tokenizers.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from motorec.experiment import Experiment
from motorec.models.channels import ContentChannel
from motorec.models.motorec import MoToRec
from motorec.notebook import setup
from motorec.tokenizer import Tokenized

VARIANTS = {
    "tokens": "motorec-no-hybrid",
    "continuous": "motorec-no-rqvae-no-hybrid",
    "standardised": "motorec-no-rqvae-no-hybrid",
}


class StandardisedChannel(ContentChannel):
    """A content channel whose items have mean zero and a root mean square length of one before the learned factor."""

    def forward(self) -> tuple[Float[Tensor, "items d"], Tokenized]:
        """What items start with, zero for those that lack the modality, and the tokenizer's result."""
        result = self.tokenizer(self.inputs)
        centred = result.latent - result.latent.mean(0)
        length = centred.square().sum(1).mean().sqrt().clamp_min(1e-6)
        return self._spread(self.scale * centred / length), result


def made(dataset: str, variant: str, seed: int) -> tuple[Experiment, MoToRec]:
    """A variant, not yet trained."""
    experiment = Experiment.load(dataset, VARIANTS[variant], seed)
    # A name of its own, so that it meets no checkpoint of the ablation itself.
    choice = experiment.choice.model_copy(update={"name": f"withering-{variant}"})
    experiment = replace(experiment, choice=choice)
    model = experiment.build()
    assert isinstance(model, MoToRec)
    if variant == "standardised":
        norm = model.settings.content_scale * 0.1 * model.settings.dim**0.5  # as all channels start
        for channel in model.channels:
            channel.__class__ = StandardisedChannel
            assert isinstance(channel, StandardisedChannel)
            channel.scale.data.fill_(norm)
    return experiment, model


@torch.no_grad()
def lengths(model: MoToRec) -> dict[str, tuple[float, float]]:
    """Of each modality, over its items after propagation: their mean length, and that of their mean beside it."""
    content = model.heard().content[:, len(model.users) :]
    found = {}
    for name, channel, items in zip(model.tokenizers, model.channels, content, strict=True):
        items = items[channel.present]
        length = items.norm(dim=1).mean()
        found[name] = float(length), float(items.mean(0).norm() / length)
    return found


def main() -> None:
    """Train and print, a line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="hm")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    chosen = parser.parse_args()
    setup()
    for variant in chosen.variants:
        for seed in chosen.seeds:
            experiment, model = made(chosen.dataset, variant, seed)
            experiment.fit(model)
            means = experiment.evaluate(model)["test"].means
            figures = [
                f"{group} {means[f'test/{group}/recall@20']:.4f} {means[f'test/{group}/ndcg@20']:.4f}"
                for group in ("all", "cold")
            ]
            told = [f"{name} {length:.2f} ({share:.2f})" for name, (length, share) in lengths(model).items()]
            print(f"{variant:12} seed {seed}  {'  '.join(figures)}  {'  '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
