"""Every trained model finds groups that hide in noise, and without training, LGMRec apart, it does not.

The settings are those of params/models/ but for sizes, and for content that hides in noise as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import TINY_TOKENIZER, TRAINING, groups_found, noisy_dataset, noisy_features, train_on, untrained
from test_every_model import MODELS

from motorec.config import load_model
from motorec.models import Inputs, TrainedRecommender, build, model_class

SMALL: dict[str, dict[str, Any]] = {
    "multvae": {"hidden": 32, "latent": 16, "anneal_steps": 100},
    "diffrec": {"hidden": 32},
    "ldiffrec": {"hidden": 32, "latent": 16, "cluster_dim": 4},
    "grcn": {"content_dim": 16},
    "dualgnn": {"hidden": 32, "neighbours": 10},
    "lgmrec": {"hyperedges": 8},
    "motorec": {"tokenizer": TINY_TOKENIZER | {"codebook_size": 8}},
    # The part in closed form needs no training.
    "tokenbridge": {
        "linear": False,
        "committee": {"members": 2, "codebook_sizes": [4, 8], "levels": 2, "components": 8},
    },
}
NAMES = (
    *("bpr", "lightgcn", "multvae", "diffrec", "ldiffrec"),
    *("vbpr", "mmgcn", "grcn", "dualgnn", "lattice", "slmrec", "bm3", "freedom", "mgcn", "lgmrec"),
    *("motorec", "tokenbridge"),
)
# Those that tell a new item's group by its content when most of the content is noise.
NEW = ("vbpr", "grcn", "dualgnn", "lattice", "slmrec", "freedom", "mgcn", "motorec", "tokenbridge")

DATASET = noisy_dataset()
INPUTS = Inputs("planted", 1, DATASET.matrix("train"), noisy_features(DATASET), cold_below=10)


def made(name: str) -> TrainedRecommender:
    choice = load_model(name)
    small = {"dim": 16} if "dim" in choice.settings else {}
    model = build(choice.model_copy(update={"settings": choice.settings | small | SMALL.get(name, {})}), INPUTS)
    assert isinstance(model, TrainedRecommender)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_what_hides_in_noise_is_learned(name: str, project: Path) -> None:
    before = groups_found(untrained(made(name)), DATASET, INPUTS)
    model = made(name)
    train_on(DATASET, INPUTS, model, TRAINING.model_copy(update={"epochs": 40}), project / "scratch")
    after = groups_found(model, DATASET, INPUTS)
    assert after[0] > 0.65
    # LGMRec's users start as what their items' content says, smoothed several times: its own tests have new items.
    assert name == "lgmrec" or before[0] < after[0] - 0.2
    assert name not in NEW or after[1] > max(0.6, before[1] + 0.15)


@pytest.mark.usefixtures("project")
def test_these_are_all_models_that_are_trained() -> None:
    kinds = {name: load_model(name).kind for name in MODELS}
    assert set(NAMES) == {name for name, kind in kinds.items() if issubclass(model_class(kind), TrainedRecommender)}
