"""One study: trials of one model on one data set, each trained and judged on validation.

Every finished trial is a file, and what trial n tries depends on the finished ones before it and on n alone: a study
that was killed continues where it was, and ends with the trials it would have had.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from motorec import config, paths, seeding, variant
from motorec.config import ChoiceSpace, ModelChoice, Space, TuneSettings
from motorec.errors import MotorecError, ParamsError, Unsuited
from motorec.evaluation import validate
from motorec.experiment import Experiment
from motorec.models import TrainedRecommender, model_class

if TYPE_CHECKING:
    import optuna

DIGITS = 4  # of a float that the sampler chose: more say nothing, and fill the params files


@dataclass(frozen=True)
class Trial:
    """What came of one trial.

    Attributes:
        number: From 0, the model as it stands.
        state: "complete", "pruned" (given up: below the median of the others) or "failed"; "running" in a file that a
            killed study left.
        params: What the sampler chose, by dotted key; a choice that is no plain value as JSON.
        settings: The values that were set for it.
        reports: Validation by epoch.
        value: The best validation; None for a trial that never got one.
        best_epoch: Its epoch; None for a model without training.
        epochs: How many were run.
        reason: Why it failed.
        seconds: Wall-clock time of the process that ended it; for estimates, never part of a result.
    """

    number: int
    state: str
    params: dict[str, Any]
    settings: dict[str, Any]
    reports: dict[int, float] = field(default_factory=dict)
    value: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    reason: str = ""
    seconds: float = 0.0

    @classmethod
    def read(cls, file: Path) -> Trial:
        """Read what `write` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        reports = {int(epoch): value for epoch, value in values.pop("reports").items()}
        return cls(**values, reports=reports)

    def write(self, folder: Path) -> None:
        """Write it whole."""
        paths.write_whole(folder / f"{self.number:03d}.json", json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Study:
    """The trials of one model on one data set.

    Attributes:
        experiment: Data without the test split, and the model as it stands.
        spaces: What is searched, by dotted key.
        given: The values of the first trials, which no sampler chose: the model's for all data sets (not the tuned
            ones, so that a tuned model's study stays the same), then the same with the authors' where those differ.
        settings: The effort.
        folder: Where the finished trials lie: of this data, these settings and this code.
    """

    experiment: Experiment
    spaces: dict[str, Space]
    given: tuple[dict[str, Any], ...]
    settings: TuneSettings
    folder: Path

    @classmethod
    def load(cls, dataset: str, model: str) -> Study:
        """Read the outputs of the earlier stages and the settings.

        Raises:
            ParamsError: The model, a setting or a search space does not exist or does not fit.
            DataError: An earlier stage has not run.
        """
        check(dataset, model)
        settings, spaces = config.load_tune(), config.load_search(model)
        known = config.known_settings(config.load_model(model))
        experiment = variant.without_test(Experiment.load(dataset, model, config.load_run().seeds[0]))
        defaults, authors = {key: known[key] for key in spaces}, config.load_authors(model)
        given = (defaults, defaults | authors) if authors else (defaults,)
        study = cls(experiment, spaces, given, settings, paths.root())
        return replace(study, folder=paths.studies(dataset, model) / study._fingerprint())

    @property
    def label(self) -> str:
        """What to call it, for instance "hm/bpr"."""
        return f"{self.experiment.inputs.dataset}/{self.experiment.choice.name}"

    def trials(self) -> list[Trial]:
        """The finished trials, by number."""
        found = [Trial.read(file) for file in sorted(self.folder.glob("[0-9]*.json"))]
        return [trial for trial in found if trial.state != "running"][: self.settings.trials]

    def run(self, past: list[Trial]) -> Trial:
        """Run the trial that follows some finished ones.

        Raises:
            Unsuited: The data set lacks what the model needs, or is too large for it.
        """
        import optuna

        number, started = len(past), time.perf_counter()
        asked = self._ask(past)
        file = self.folder / f"{number:03d}.json"
        trial = Trial(number, "running", asked.params, self._values(number, asked.params))
        if file.is_file():  # from a killed process; the training continues from its checkpoint
            before = Trial.read(file)
            trial = before if before.params == asked.params else trial
        for epoch, value in trial.reports.items():
            asked.report(value, epoch)
        choice = self.choice(trial.settings, f"{self.experiment.choice.name}-trial-{number}")

        def report(epoch: int, value: float) -> None:
            if epoch in trial.reports:
                return
            asked.report(value, epoch)
            if asked.should_prune():
                trial.reports[epoch] = value
                raise optuna.TrialPruned
            trial.reports[epoch] = value
            trial.write(self.folder)

        outcome: dict[str, Any]
        experiment = replace(self.experiment, choice=choice, cost={})
        try:
            model = experiment.build()
            fit = experiment.fit(model, report)
            if fit is None:
                value = validate(model.score, experiment.dataset, choice.training.metric, experiment.evaluation)
                outcome = {"state": "complete", "value": value}
            else:
                best = {"value": trial.reports[fit.best_epoch], "best_epoch": fit.best_epoch}
                outcome = {"state": "complete", "epochs": len(fit.history), **best}
        except Unsuited:
            raise
        except (optuna.TrialPruned, MotorecError) as error:
            pruned = isinstance(error, optuna.TrialPruned)
            best_epoch = max(trial.reports, key=lambda epoch: (trial.reports[epoch], -epoch), default=None)
            outcome = {
                "state": "pruned" if pruned else "failed",
                "epochs": max(trial.reports, default=0),
                "best_epoch": best_epoch,
                "value": None if best_epoch is None else trial.reports[best_epoch],
                "reason": "" if pruned else variant.first_sentence(experiment, error),
            }
        done = replace(trial, **outcome, seconds=round(time.perf_counter() - started, 2))
        done.write(self.folder)
        shutil.rmtree(paths.checkpoints("train", experiment.inputs.dataset, choice.name), ignore_errors=True)
        return done

    def stopping(self) -> dict[str, Any]:
        """When trainings end, as settings by dotted key; nothing for a model without training."""
        if not issubclass(model_class(self.experiment.choice.kind), TrainedRecommender):
            return {}
        return {f"training.{key}": value for key, value in self.settings.stopping.model_dump().items()}

    def choice(self, values: Mapping[str, Any], name: str) -> ModelChoice:
        """The model with some settings changed, by dotted key, under a name of its own.

        It draws the same random numbers as the model itself: those go by its kind.
        """
        stopping = {f"training.{key}": value for key, value in self.settings.stopping.model_dump().items()}
        return variant.changed(self.experiment.choice, {**values, **stopping}, name)

    def _ask(self, past: list[Trial]) -> optuna.Trial:
        """The next trial, by a sampler that starts anew from the finished ones."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        number, pruning = len(past), self.settings.pruning
        spaces = {key: _distribution(space) for key, space in self.spaces.items()}
        states = {
            "complete": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=seeding.derive(self.settings.seed, "tuning", self.label, str(number)) % 2**32,
                n_startup_trials=self.settings.random,
            ),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=pruning.after_trials,
                n_warmup_steps=pruning.after_epochs,
                n_min_trials=pruning.after_trials,  # that reached this epoch: a lone survivor is no median
            ),
        )
        for trial in past:
            study.add_trial(
                optuna.create_trial(
                    state=states[trial.state],
                    value=trial.value if trial.state == "complete" else None,
                    params=trial.params,
                    distributions=spaces,
                    intermediate_values=trial.reports,
                )
            )
        if number < len(self.given):
            study.enqueue_trial({key: _label(value) for key, value in self.given[number].items()})
        return study.ask(spaces)

    def _values(self, number: int, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the sampler chose, as settings."""
        if number < len(self.given):
            return dict(self.given[number])
        values = {}
        for key, space in self.spaces.items():
            value = params[key]
            if isinstance(space, ChoiceSpace):
                value = next(choice for choice in space.choices if _label(choice) == value)
            elif isinstance(value, float):
                value = min(max(float(f"{value:.{DIGITS}g}"), space.low), space.high)
            values[key] = value
        return values

    def _fingerprint(self) -> str:
        """What the trials depend on; more of them may be asked for later."""
        experiment = replace(self.experiment, choice=self.choice(self.given[0], self.experiment.choice.name))
        effort = self.settings.model_dump(mode="json", exclude={"datasets", "models", "trials"})
        spaces = {key: space.model_dump(mode="json") for key, space in self.spaces.items()}
        return variant.digest(experiment, effort, spaces, self.given)


def check(dataset: str, model: str) -> None:
    """Look whether every end of every search space is a possible setting.

    Raises:
        ParamsError: One is not, or the model has no search space.
    """
    spaces = config.load_search(model)
    if not spaces:
        raise ParamsError(
            f"params/models/{model}.yaml has no block `search`: say what to tune, or take {model!r} out of `models` in "
            "params/tune.yaml."
        )
    choice = config.load_model(model, dataset)
    for key, space in spaces.items():
        where = f"params/models/{model}.yaml, search, {key}"
        for value in space.choices if isinstance(space, ChoiceSpace) else (space.low, space.high):
            variant.check(choice, dataset, {key: value}, where)


def tune(dataset: str, model: str) -> None:
    """Run what is left of a study, and write its trials and the best settings to `results/tuning/`.

    A model that the data set cannot serve leaves the reason there.

    Raises:
        ParamsError: The model, a setting or a search space does not exist or does not fit.
        DataError: An earlier stage has not run.
        MotorecError: Another process runs this study.
    """
    study = Study.load(dataset, model)
    study.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(study.folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MotorecError(f"Another process tunes {study.label} in this folder; wait for it to end.") from None
    try:
        past = study.trials()
        if past:
            print(f"{study.label}: {len(past)} of {study.settings.trials} trials are there", flush=True)
        while len(past) < study.settings.trials:
            past.append(study.run(past))
            print(_line(study, past), flush=True)
        left_out = ""
    except Unsuited as error:
        past, left_out = [], str(error)
        print(f"{study.label}: left out. {error}", flush=True)
    finally:
        lock.release()
    write(study, past, left_out)


def write(study: Study, trials: list[Trial], left_out: str = "") -> None:
    """Write the table of trials and the best settings: `results/tuning/<dataset>/<model>.csv` and `.yaml`."""
    inputs, choice = study.experiment.inputs, study.experiment.choice
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            **{key: _label(value) for key, value in trial.settings.items()},
            "value": None if trial.value is None else f"{trial.value:.6f}",
            "best_epoch": trial.best_epoch,
            "epochs": trial.epochs or None,
            "reason": trial.reason,
        }
        for trial in trials
    ]
    columns = ["number", "state", *study.spaces, "value", "best_epoch", "epochs", "reason"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    file = paths.tuned(inputs.dataset, choice.name)
    paths.write_whole(file.with_name(f"{choice.name}.csv"), table.to_csv(index=False, lineterminator="\n"))

    best = max((trial for trial in trials if trial.state == "complete"), key=_rank, default=None)
    if best is None and not left_out:
        left_out = f"no trial was completed; the first one: {trials[0].reason}"
    summary: dict[str, Any] = {
        "dataset": inputs.dataset,
        "model": choice.name,
        "title": choice.title,
        "metric": f"valid/{choice.training.metric}",
        "seed": inputs.seed,
        "trials": len(trials),
        "pruned": sum(trial.state == "pruned" for trial in trials),
        "failed": sum(trial.state == "failed" for trial in trials),
    }
    if best is None:
        summary["left_out"] = left_out
    else:
        summary["first"] = _rounded(trials[0].value)
        summary["best"] = {"trial": best.number, "value": _rounded(best.value), "epoch": best.best_epoch}
        summary["settings"] = best.settings
        summary["stopping"] = study.stopping()
    paths.write_whole(file, yaml.safe_dump(summary, sort_keys=False, allow_unicode=True, width=120))


def _rank(trial: Trial) -> tuple[float, int]:
    return (-math.inf if trial.value is None else trial.value, -trial.number)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _line(study: Study, past: list[Trial]) -> str:
    """A line for a trial that has just ended."""
    last, settings = past[-1], study.settings
    best = max((trial for trial in past if trial.state == "complete"), key=_rank, default=None)
    value = "" if last.value is None else f" {last.value:.4f}"
    record = "" if best is None else f", best {best.value:.4f} of trial {best.number}"
    left = (settings.trials - len(past)) * sum(trial.seconds for trial in past) / len(past)
    reason = f" ({last.reason})" if last.reason else ""
    return (
        f"{study.label}: trial {last.number} {last.state}{value}{reason}{record}; "
        f"{len(past)} of {settings.trials}, about {int(left) // 60}:{int(left) % 60:02d} left"
    )


def _label(value: Any) -> Any:
    """A setting's value as a cell, and as what the sampler calls it."""
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _distribution(space: Space) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if isinstance(space, ChoiceSpace):
        return distributions.CategoricalDistribution([_label(value) for value in space.choices])
    if isinstance(space, config.IntSpace):
        return distributions.IntDistribution(space.low, space.high, log=space.log)
    return distributions.FloatDistribution(space.low, space.high, log=space.log)
