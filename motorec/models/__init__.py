"""Models, one file each, all with the interface of `motorec.models.base`.

To add one: write `motorec/models/<file>.py`, name its class in `KINDS`, write `params/models/<name>.yaml`, and put the
name into `params/run.yaml`.
"""

from __future__ import annotations

from importlib import import_module

from motorec.config import ModelChoice, parse
from motorec.errors import ParamsError, nearest
from motorec.models.base import Inputs, Recommender, TrainedRecommender

KINDS = {
    "popularity": "motorec.models.popularity:Popularity",
    "itemknn": "motorec.models.itemknn:ItemKNN",
    "bpr": "motorec.models.bpr:BPR",
    "lightgcn": "motorec.models.lightgcn:LightGCN",
    "motorec": "motorec.models.motorec:MoToRec",
    "oracle": "motorec.models.oracle:Oracle",
}


def model_class(kind: str) -> type[Recommender]:
    """The class of a kind of model.

    Raises:
        ParamsError: There is no such kind.
    """
    if kind not in KINDS:
        raise ParamsError(f"No kind of model is called {kind!r}. {nearest(kind, KINDS)}")
    module, name = KINDS[kind].split(":")
    return getattr(import_module(module), name)


def build(choice: ModelChoice, inputs: Inputs) -> Recommender:
    """Make a model: closed-form ones are fitted by this, trained ones still want training.

    Raises:
        ParamsError: The kind or a setting does not exist.
        DataError: The data set lacks what the model needs.
    """
    kind = model_class(choice.kind)
    settings = parse(kind.Settings, choice.settings, f"settings of {choice.name}")
    return kind(settings, inputs)  # type: ignore[call-arg]


__all__ = ["KINDS", "Inputs", "Recommender", "TrainedRecommender", "build", "model_class"]
