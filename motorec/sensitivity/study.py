r"""The runs of one parameter: the model with each of its values and each seed, trained and judged on validation.

A run is a file, named by all that it depends on: a study that was killed goes on where it was, changed settings or code
make only the runs anew that they concern, and the default's runs are made once for all parameters.

Whatever a training does without the setting stays: data, seeds, random draws, the rule of when it stops. What is
measured is what the epoch was chosen by, validation, so that values stand a little higher than a test would put them,
those of all settings alike. A setting of the tokenizer makes `motorec.models.tokens` pretrain it anew.

**The threshold of rarity** :math:`\tau` is no setting of a model but part of what it is given (`Inputs.cold_below`);
among the keys `inputs.cold_below` stands for it. It reaches the rarity weights, all of them: those of the joint loss
and, since the tokenizers of notebook 03 have learned with the default's, those of a pretraining of its own. Which
targets count as cold is another matter, told by `params/evaluate.yaml`, and never changes here.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from motorec import config, paths, variant
from motorec.config import SensitivitySettings, Varied
from motorec.errors import DataError, MotorecError, ParamsError, nearest
from motorec.evaluation import evaluate
from motorec.experiment import Experiment

Value = int | float | None

FILE = "params/sensitivity.yaml"
TAU = "inputs.cold_below"
CUTOFF = 20
METRICS = tuple(f"{group}/{name}@{CUTOFF}" for group in ("all", "cold") for name in ("recall", "ndcg"))


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        changes: The setting that was changed, by its key; empty for the model as it stands.
        seed: The run's seed.
        metrics: Of the validation split, by name; one without a target is missing.
        best_epoch: The epoch that validation chose; None for a model without training.
        epochs: How many were run.
        reason: Why it failed: the training diverged.
        seconds: Wall-clock time of the process that ended it; for estimates, never part of a result.
    """

    changes: dict[str, Value]
    seed: int
    metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs: int = 0
    reason: str = ""
    seconds: float = 0.0

    @classmethod
    def read(cls, file: Path) -> Result:
        """Read what `write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write it whole."""
        paths.write_whole(file, json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Run:
    """A value with a seed.

    Attributes:
        experiment: Data without the test split, and the model with the value.
        changes: The value by its key; empty for the default.
        value: The value.
        file: Where the result is or will be.
    """

    experiment: Experiment
    changes: dict[str, Value]
    value: Value
    file: Path

    @property
    def is_done(self) -> bool:
        """Whether the result is there."""
        return self.file.is_file()

    def do(self) -> Result:
        """Train and judge, and write the result.

        Raises:
            DataError: The data set lacks what the model needs.
            ParamsError: A setting does not exist or does not fit.
        """
        started = time.perf_counter()
        # A checkpoint belongs to one run, whatever else is under way: its folder has the run's own name.
        choice = self.experiment.choice.model_copy(update={"name": f"{self.experiment.choice.name}-{self.file.stem}"})
        experiment = replace(self.experiment, choice=choice, cost={})
        result = Result(self.changes, experiment.inputs.seed)
        try:
            model = experiment.build()
            fit = experiment.fit(model)
            settings = experiment.evaluation.model_copy(update={"cutoffs": (CUTOFF,)})
            means = evaluate(model.score, experiment.dataset, "valid", settings).means
            metrics = {name: round(means[f"valid/{name}"], 6) for name in METRICS if f"valid/{name}" in means}
            metrics["cold/users"] = means["valid/cold/users"]
            result = replace(result, metrics=metrics)
            if fit is not None:
                result = replace(result, best_epoch=fit.best_epoch, epochs=len(fit.history))
        except (DataError, ParamsError):
            raise
        except MotorecError as error:
            result = replace(result, reason=variant.first_sentence(experiment, error))
        result = replace(result, seconds=round(time.perf_counter() - started, 2))
        result.write(self.file)
        shutil.rmtree(paths.checkpoints("train", experiment.inputs.dataset, choice.name), ignore_errors=True)
        return result


def load(dataset: str) -> list[Experiment]:
    """The model as it stands, once per seed, without the test split.

    Raises:
        ParamsError: The model or a setting does not exist.
        DataError: An earlier stage has not run.
    """
    settings = config.load_sensitivity(dataset)
    return [variant.without_test(Experiment.load(dataset, settings.model, seed)) for seed in settings.seeds]


def plan(varied: Varied, bases: Sequence[Experiment]) -> list[Run]:
    """All runs of one parameter, value by value along the axis, each with all seeds.

    Args:
        varied: The parameter.
        bases: As `load` gave them.
    """
    dataset = bases[0].inputs.dataset
    default = default_of(varied, bases[0])
    runs = []
    for value in along_the_axis(varied, default):
        changes = {} if value == default else {varied.key: value}
        for base in bases:
            experiment = changed(base, changes)
            # Tau is in no settings, so it is named here.
            name = variant.digest(experiment, experiment.inputs.cold_below, METRICS)
            runs.append(Run(experiment, changes, value, paths.sensitivity_runs(dataset) / f"{name}.json"))
    return runs


def default_of(varied: Varied, base: Experiment) -> Value:
    """The value of a model as it stands."""
    if varied.key == TAU:
        return base.inputs.cold_below
    default: Value = config.known_settings(base.choice, base.inputs.dataset)[varied.key]
    return default


def along_the_axis(varied: Varied, default: Value) -> list[Value]:
    """The values and, where it is none of them, the default: before the first larger one; null at the end."""
    # 1 where the setting is 0.5 is 1.0: the same run, however it is spelled.
    values = [float(value) if isinstance(default, float) and value is not None else value for value in varied.values]
    if default not in values:
        number = math.inf if default is None else default
        larger = (place for place, value in enumerate(values) if value is not None and value > number)
        values.insert(next(larger, len(values)), default)
    return values


def changed(base: Experiment, changes: Mapping[str, Value]) -> Experiment:
    """An experiment with one setting changed; itself, with none."""
    inputs, choice = base.inputs, base.choice
    settings = {key: value for key, value in changes.items() if key != TAU}
    if TAU in changes:
        # Without the tokens of notebook 03, which were learned with the default: they are pretrained with this one.
        inputs = replace(inputs, cold_below=int(changes[TAU] or 0), tokens=None)
    if settings:
        choice = variant.changed(choice, settings, choice.name)
    return replace(base, inputs=inputs, choice=choice)


def check(dataset: str, parameters: Sequence[str] = ()) -> SensitivitySettings:
    """Look whether every value of every parameter is a possible setting.

    Args:
        dataset: A data set.
        parameters: Which ones to look at; none named: all that are varied.

    Returns:
        The settings of the study on this data set.

    Raises:
        ParamsError: One is not, or the data set or a parameter is not named in `params/sensitivity.yaml`.
    """
    settings = config.load_sensitivity(dataset)
    for name, known in ((dataset, settings.datasets), *((name, settings.vary) for name in parameters)):
        if name not in known:
            raise ParamsError(f"{FILE} does not name {name!r}. {nearest(name, known)}")
    choice = config.load_model(settings.model, dataset)
    values = config.known_settings(choice, dataset)
    for name in parameters or settings.vary:
        varied, where = settings.parameters[name], f"{FILE}, {name}"
        if varied.key == TAU:
            for value in varied.values:
                if not isinstance(value, int) or value < 0:
                    raise ParamsError(f"{where}: {value!r} is no number of interactions: 0, 1, 2, ...")
            continue
        if varied.key not in values:
            remedy = nearest(varied.key, [*values, TAU])
            raise ParamsError(f"{where}: no setting of {settings.model} is called {varied.key!r}. {remedy}")
        default = values[varied.key]
        if default is not None and (isinstance(default, bool) or not isinstance(default, int | float)):
            raise ParamsError(f"{where}: {varied.key} is {default!r}, which is no number, so it has no curve.")
        for value in varied.values:
            variant.check(choice, dataset, {varied.key: value}, where)
    return settings


def vary(dataset: str, parameter: str) -> None:
    """Make the runs of a parameter that are not there yet, and write `results/sensitivity/<dataset>/<parameter>.csv`.

    Raises:
        ParamsError: The data set, the parameter, a setting or a value does not exist or does not fit.
        DataError: An earlier stage has not run, or the data set lacks what the model needs.
    """
    varied = check(dataset, [parameter]).parameters[parameter]
    runs = plan(varied, load(dataset))
    label = f"{dataset}/{parameter}"
    missing = [run for run in runs if not run.is_done]
    if missing:
        print(f"{label}: {len(runs) - len(missing)} of {len(runs)} runs are there", flush=True)
    _work(missing, label, varied)
    write(runs, varied, paths.sensitivity(dataset, parameter))


def _work(runs: Sequence[Run], label: str, varied: Varied) -> None:
    """Make runs; one that another process is at comes last, and is waited for."""
    # All parameters need the default's runs, so that two of them that go side by side share the work.
    ordered = sorted(runs, key=lambda run: not run.changes)
    took: list[float] = []
    for seconds in (0, -1):
        for run in ordered:
            run.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(run.file.with_suffix(".lock"), timeout=seconds):
                    if not run.is_done:
                        result = run.do()
                        took.append(result.seconds)
                        left = sum(not other.is_done for other in runs)
                        print(_line(label, varied, run, result, left, sum(took) / len(took)), flush=True)
            except Timeout:
                continue


def _line(label: str, varied: Varied, run: Run, result: Result, left: int, pace: float) -> str:
    """A line for a run that has just ended."""
    told = result.reason or ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items() if "@" in name)
    seconds = int(left * pace)
    return (
        f"{label}: {written(run.value, varied)}, seed {result.seed}: {told}; {left} left, "
        f"about {seconds // 60}:{seconds % 60:02d}"
    )


def written(value: Value, varied: Varied) -> str:
    """A value as a reader sees it."""
    return varied.unset if value is None else f"{value:g}"


def write(runs: Sequence[Run], varied: Varied, target: Path) -> None:
    """Write a row per value and seed, as `motorec.reporting.sensitivity` reads it."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        result = Result.read(run.file)
        metrics = {name: f"{result.metrics[name]:.6f}" for name in METRICS if name in result.metrics}
        rows.append(
            {
                "value": written(run.value, varied),
                "default": not run.changes,
                "seed": result.seed,
                **metrics,
                "cold/users": f"{result.metrics['cold/users']:.0f}" if result.metrics else None,
                "best_epoch": result.best_epoch,
                "epochs": result.epochs or None,
                "reason": result.reason,
            }
        )
    columns = ["value", "default", "seed", *METRICS, "cold/users", "best_epoch", "epochs", "reason"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    paths.write_whole(target, table.to_csv(index=False, lineterminator="\n"))
