"""Models, one file each, all with the interface of `motorec.models.base`.

To add one: write `motorec/models/<file>.py`, name its class in `KINDS`, write `params/models/<name>.yaml`, and put the
name into `params/run.yaml`.
"""

from __future__ import annotations

from importlib import import_module

from motorec.config import ModelChoice, parse
from motorec.errors import ParamsError, nearest
from motorec.models.base import EmbeddingRecommender, Inputs, Recommender, TrainedRecommender

KINDS = {
    "popularity": "motorec.models.popularity:Popularity",
    "itemknn": "motorec.models.itemknn:ItemKNN",
    "contentknn": "motorec.models.contentknn:ContentKNN",
    "ease": "motorec.models.ease:EASE",
    "ease-features": "motorec.models.ease_features:EASEFeatures",
    "slim": "motorec.models.slim:SLIM",
    "bpr": "motorec.models.bpr:BPR",
    "lightgcn": "motorec.models.lightgcn:LightGCN",
    "multvae": "motorec.models.multvae:MultVAE",
    "diffrec": "motorec.models.diffrec:DiffRec",
    "ldiffrec": "motorec.models.ldiffrec:LDiffRec",
    "vbpr": "motorec.models.vbpr:VBPR",
    "mmgcn": "motorec.models.mmgcn:MMGCN",
    "grcn": "motorec.models.grcn:GRCN",
    "dualgnn": "motorec.models.dualgnn:DualGNN",
    "lattice": "motorec.models.lattice:LATTICE",
    "slmrec": "motorec.models.slmrec:SLMRec",
    "bm3": "motorec.models.bm3:BM3",
    "freedom": "motorec.models.freedom:FREEDOM",
    "mgcn": "motorec.models.mgcn:MGCN",
    "lgmrec": "motorec.models.lgmrec:LGMRec",
    "motorec": "motorec.models.motorec:MoToRec",
    "tokenbridge": "motorec.models.tokenbridge:TokenBridge",
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


__all__ = ["KINDS", "EmbeddingRecommender", "Inputs", "Recommender", "TrainedRecommender", "build", "model_class"]
