"""All studies of a data set, some at a time, each a stage of `tuning/dvc.yaml`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from motorec import config, paths, sidebyside, tracking
from motorec.errors import ParamsError, nearest
from motorec.reporting import tuning as table
from motorec.sidebyside import Stage
from motorec.tuning.study import Study, Trial

TYPICAL = 45.0  # seconds of a trial, where nobody has measured


def run(dataset: str, models: Sequence[str] = (), jobs: int = 1) -> int:
    """Tune models on a data set; then write the joint table and tell MLflow.

    Args:
        dataset: One that `params/tune.yaml` names.
        models: Likewise; none named: all of them.
        jobs: Studies at a time; each takes one core.

    Returns:
        0, or 1 where a study failed: the others have been finished.

    Raises:
        ParamsError: A name is not in `params/tune.yaml`, or a setting or search space is wrong.
        DataError: An earlier stage has not run.
    """
    settings = config.load_tune()
    for name, known in ((dataset, settings.datasets), *((model, settings.models) for model in models)):
        if name not in known:
            raise ParamsError(f"params/tune.yaml does not name {name!r}. {nearest(name, known)}")
    names = list(models or settings.models)
    print(forecast(dataset, names, jobs), flush=True)
    stages = [
        Stage(f"tuning/dvc.yaml:tune@{dataset}-{name}", f"{dataset}/{name}", paths.studies(dataset, name) / "log.txt")
        for name in names
    ]
    failed = sidebyside.run(stages, jobs)
    if len(failed) < len(names):
        print(f"The joint table: {paths.shown(table.write(dataset))}", flush=True)
        tracking.log_studies(dataset)
    if failed:
        print(
            f"Not finished: {', '.join(stage.label for stage in failed)}; the same command continues.", file=sys.stderr
        )
    return int(bool(failed))


def forecast(dataset: str, models: Sequence[str], jobs: int) -> str:
    """A line on what is left to do and how long that takes, by what trials or runs took before."""
    trials, left, seconds, guessed = config.load_tune().trials, 0, 0.0, []
    for model in models:
        missing = trials - len(Study.load(dataset, model).trials())
        each = seconds_per_trial(dataset, model)
        guessed += [model] if each is None and missing else []
        left += missing
        seconds += missing * (each or TYPICAL)
    minutes = round(seconds / min(jobs, len(models)) / 60)
    text = f"{len(models)} models on {dataset}, {trials} trials each, {left} left to run: about {minutes} minutes"
    text += f" with {jobs} at a time (pruning makes it less)."
    return text + (f" Never timed here, and guessed: {', '.join(guessed)}." if guessed else "")


def seconds_per_trial(dataset: str, model: str) -> float | None:
    """The mean over a model's earlier trials, or what its last run took; None if neither is known."""
    earlier = [Trial.read(file).seconds for file in paths.studies(dataset, model).glob("*/[0-9]*.json")]
    measured = [seconds for seconds in earlier if seconds]
    if measured:
        return sum(measured) / len(measured)
    for file in sorted((paths.timings() / dataset / model).glob("*.json")):
        cost = json.loads(file.read_text(encoding="utf-8"))
        return float(sum(cost.get(f"seconds_{part}", 0.0) for part in ("build", "train", "evaluate")))
    return None
