"""A model with some settings changed, judged on validation alone: what tuning and the sensitivity study share."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import motorec
from motorec import config
from motorec.config import ModelChoice, TrainingSettings
from motorec.experiment import Experiment
from motorec.models import model_class
from motorec.tokenizer import TokenizerSettings

# What these give is part of a fingerprint as values (settings, interactions, features), or no part of a run (tests).
BY_VALUE = {
    f"motorec.{name}"
    for name in (
        "config", "data", "data.dataset", "errors", "evaluation.significance", "features", "paths", "progress"
    )
}  # fmt: skip

RUN = ("motorec.experiment", "motorec.training")  # the code of every run, beside the model's
FEATURES = ("motorec.features.encode", "motorec.features.bundled", "motorec.tokenizer.pretrain")


def without_test(experiment: Experiment) -> Experiment:
    """The same without the test split and the planted truth: whatever is done with it, nobody can look at them."""
    kept = experiment.dataset.interactions["split"] != "test"
    data = experiment.dataset
    data = replace(data, interactions=data.interactions[kept].reset_index(drop=True), truth=None)
    return replace(experiment, dataset=data)


def changed(base: ModelChoice, values: Mapping[str, Any], name: str) -> ModelChoice:
    """A model with some settings changed, by dotted key, under a name of its own.

    It draws the same random numbers as the model itself: those go by its kind.

    Raises:
        ParamsError: A setting of its training does not exist or does not fit; the others are told when it is built.
    """
    settings = _with(base, values)
    training = config.parse(TrainingSettings, settings.pop("training"), f"{name}, training")
    return base.model_copy(update={"name": name, "settings": settings, "training": training})


def check(base: ModelChoice, dataset: str, values: Mapping[str, Any], where: str) -> None:
    """Look whether values, by dotted key, are possible settings of a model and of its tokenizer.

    Args:
        base: The model, resolved for the data set.
        dataset: The data set.
        values: What is to be changed.
        where: What to call the place in an error.

    Raises:
        ParamsError: One is not.
    """
    settings = _with(base, values)
    config.parse(TrainingSettings, settings.pop("training"), where)
    config.parse(model_class(base.kind).Settings, settings, where)
    if "tokenizer" in settings:
        tokenizer = config.merge(config.load_tokenizer(dataset), settings["tokenizer"])
        config.parse(TokenizerSettings, tokenizer, where)


def _with(base: ModelChoice, values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a model, its training's under `training`, with some changed."""
    return config.set_dotted(base.settings | {"training": base.training.model_dump(mode="json")}, values)


def digest(experiment: Experiment, *more: Any, bits: bool = True) -> str:
    """What a training depends on: settings, interactions, features, tokens and the code that decides.

    Args:
        experiment: With the data, and the model under the name that stands for all its variants.
        more: Plain values that matter as well.
        bits: Whether features and tokens count to the last bit. If not, they count by the items, by which of them have
            a modality, and by the settings and code that make them: where arithmetic is another
            (`motorec.processor`), the digest is the same. It does not see a picture that was changed in its file.
    """
    inputs, modules = experiment.inputs, [model_class(experiment.choice.kind).__module__, *RUN]
    found = hashlib.sha256(json.dumps([experiment.settings(), *more]).encode())
    found.update(experiment.dataset.interactions.to_csv(index=False).encode())
    if bits:
        for features in inputs.features.values():
            found.update(features.matrix.tobytes())
        if "tokenizer" in experiment.choice.settings and inputs.tokens is not None:
            for file in sorted(file for file in inputs.tokens.rglob("*") if file.is_file()):
                found.update(file.read_bytes())
    else:
        found.update(experiment.dataset.items.to_csv(index=False).encode())
        for features in inputs.features.values():
            found.update(features.present.tobytes())
        modules += FEATURES
    for file in sources(*modules):
        found.update(meaning(file).encode())
    return found.hexdigest()[:16]


@cache
def meaning(file: Path) -> str:
    """What Python makes of a file: neither comments and docstrings nor where a line ends are part of it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


@cache  # a study has a hundred runs
def sources(*modules: str) -> tuple[Path, ...]:
    """The files of some of this package's modules and of those they import, without the ones in `BY_VALUE`.

    A package's own file, which only passes names on, is followed and left out.
    """
    root = Path(motorec.__file__).parent.parent
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        stem = root.joinpath(*name.split("."))
        file = next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)
        if file is None or file in found or name in BY_VALUE:
            continue
        found.add(file)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("motorec"):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(sorted(file for file in found if file.name != "__init__.py"))


def first_sentence(experiment: Experiment, error: Exception) -> str:
    """Why a training failed; what follows is advice about files and settings of a run that is kept."""
    run = f"{experiment.inputs.dataset}/{experiment.choice.name}/{experiment.inputs.seed}: "
    return str(error).removeprefix(run).split(". ")[0].rstrip(".")
