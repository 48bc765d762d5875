"""Parts shared by the trained models: layers that start from a run's own generator, and the items' content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from motorec.features.components import principal_components
from motorec.models.base import Inputs

Scaling = Literal["raw", "unit", "standard"]


def linear(inputs: int, outputs: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """A linear layer, Xavier uniform with zero bias, drawn from the generator and not from the global state."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def dropout(values: Float[Tensor, "*shape"], rate: float, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Dropout whose mask comes from the generator: kept entries are divided by 1 - rate."""
    if rate == 0.0:
        return values
    keep = torch.empty_like(values).bernoulli_(1.0 - rate, generator=generator)
    return values * keep / (1.0 - rate)


class Content(nn.Module):
    """The items' feature vectors, one matrix (items, width) a modality: `content["text"]`.

    Items that lack a modality have a row of zeros.

    Attributes:
        names: The modalities, in alphabetical order.
    """

    def __init__(
        self,
        inputs: Inputs,
        model: str,
        modalities: Sequence[str] | None = None,
        learned: bool = False,
        scaling: Scaling = "raw",
        components: int | None = None,
    ) -> None:
        """Take the features of a run.

        Args:
            inputs: The run's data.
            model: The model's title, for the message if content is missing.
            modalities: Those it needs; not given: all that there are, at least one.
            learned: Let training change the vectors, as the MMRec toolkit does.
            scaling: As encoded; each row of unit length; or each column of mean 0 and standard deviation 1 over the
                items that have the modality, a constant one 0.
            components: Keep so many principal components of each modality, centred and with variance 1 on average,
                instead of all dimensions: a step over all items costs several times less.

        Raises:
            MissingContent: The data set lacks what the model needs.
        """
        super().__init__()
        features = inputs.content(model, modalities)
        self.names = sorted(features)
        for name in self.names:
            values = torch.from_numpy(features[name].matrix)
            present = torch.from_numpy(features[name].present).unsqueeze(1)
            if scaling == "unit":
                values = nn.functional.normalize(values, dim=1)
            elif scaling == "standard":
                here = values[present.squeeze(1)]
                middle, spread = here.mean(0), here.std(0, correction=0)
                varies = spread > 1e-6 * middle.abs()  # less is the rounding of a constant column
                values = (values - middle) / spread.clamp_min(1e-6) * present * varies
            if components is not None:
                mean, rotation = principal_components(values[present.squeeze(1)].numpy(), components)
                values = (values - torch.from_numpy(mean)) @ torch.from_numpy(rotation) * present
            if learned:
                self.register_parameter(f"features_{name}", nn.Parameter(values.clone()))
            else:
                self.register_buffer(f"features_{name}", values, persistent=False)

    def __getitem__(self, name: str) -> Float[Tensor, "items width"]:
        return getattr(self, f"features_{name}")

    def projected(self, name: str, layer: nn.Module, items: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """`layer` applied to the vectors of some items; an item named often is projected once."""
        if len(items) >= len(self[name]):
            # Most items are named, and to copy the wide rows of most items costs more than to project them all.
            return layer(self[name])[items]
        rows, place = items.unique(return_inverse=True)
        return layer(self[name][rows])[place]

    def width(self, name: str) -> int:
        """Dimensions of a modality's vectors."""
        return self[name].shape[1]
