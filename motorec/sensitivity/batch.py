"""All parameters of a data set, some at a time, each a stage of `sensitivity/dvc.yaml`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from motorec import clock, paths, sidebyside
from motorec.reporting import sensitivity as report
from motorec.sensitivity import study
from motorec.sensitivity.study import Result, Run
from motorec.sidebyside import Stage


def run(dataset: str, parameters: Sequence[str] = (), jobs: int = 1) -> int:
    """Vary parameters on a data set; then write the joint table and the figures.

    Args:
        dataset: One that `params/sensitivity.yaml` names.
        parameters: Likewise; none named: all that it varies.
        jobs: Parameters at a time; each takes one core.

    Returns:
        0, or 1 where a parameter failed: the others have been finished.

    Raises:
        ParamsError: A name is not in `params/sensitivity.yaml`, or a value is no possible setting.
        DataError: An earlier stage has not run.
    """
    settings = study.check(dataset, parameters)
    names = list(dict.fromkeys(parameters)) or list(settings.vary)
    bases = study.load(dataset)
    runs = {one.file: one for name in names for one in study.plan(settings.parameters[name], bases)}
    print(forecast(dataset, names, list(runs.values()), jobs), flush=True)
    log = paths.sensitivity_runs(dataset)
    stages = [
        Stage(f"sensitivity/dvc.yaml:sensitivity@{dataset}-{name}", f"{dataset}/{name}", log / f"{name}.txt")
        for name in names
    ]
    failed = sidebyside.run(stages, jobs)
    if len(failed) < len(names):
        for file in report.write(dataset):
            print(f"Sensitivity: {paths.shown(file)}", flush=True)
    if failed:
        print(
            f"Not finished: {', '.join(stage.label for stage in failed)}; the same command continues.", file=sys.stderr
        )
    return int(bool(failed))


def forecast(dataset: str, parameters: Sequence[str], runs: Sequence[Run], jobs: int) -> str:
    """A line on what is left to do and how long that takes, by what runs took before."""
    left = sum(not one.is_done for one in runs)
    known = [Result.read(file).seconds for file in paths.sensitivity_runs(dataset).glob("*.json")]
    model = runs[0].experiment.choice.kind
    each = sum(known) / len(known) if known else clock.expected_seconds(f"train@{dataset}-{model}-{_seed(runs)}")
    minutes = round(left * each / min(jobs, len(parameters)) / 60)
    text = f"{len(parameters)} parameters on {dataset}, {len(runs)} runs, {left} left: about {minutes} minutes"
    text += f" with {jobs} at a time."
    return text if known or not left else f"{text} Guessed: none was timed here."


def _seed(runs: Sequence[Run]) -> int:
    return runs[0].experiment.inputs.seed
