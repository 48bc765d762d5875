"""`make ablations`: the token models with one part changed at a time, on one data set, some runs side by side.

What is run stands in `params/profiles/ablations.yaml`. A run leaves what notebook 04 leaves. Its metrics and the places
of its test targets are in git, so that tables of any size grow over weeks and machines. So is a digest of all that the
run was made of (`results/ablations/<dataset>/made-of.json`): a run that would be made of the same today is not made
again. Hundreds of runs as stages of the pipeline would make each of its steps slow, so that they are none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from filelock import FileLock, Timeout

from motorec import clock, paths, sidebyside
from motorec.config import load_profile
from motorec.errors import MotorecError, ParamsError, nearest
from motorec.notebook import setup
from motorec.reporting import ablations as tables
from motorec.reporting.runs import ExpectedRun, expected_runs


def planned(dataset: str, models: Sequence[str] = ()) -> list[ExpectedRun]:
    """The runs of a data set, the full models first.

    Args:
        dataset: The data set.
        models: Full models or ablations; none named: all of the profile.

    Raises:
        ParamsError: A name is not in the profile.
    """
    runs = [run for run in expected_runs(load_profile(tables.PROFILE, dataset), dataset) if run.role != "oracle"]
    known = {run.model for run in runs}
    for name in models:
        if name not in known:
            raise ParamsError(f"params/profiles/{tables.PROFILE}.yaml does not name {name!r}. {nearest(name, known)}")
    return [run for run in runs if not models or run.model in models]


def record(dataset: str) -> Path:
    """Where the digests of a data set's runs stand."""
    return tables.folder(dataset) / "made-of.json"


def recorded(dataset: str) -> dict[str, str]:
    """The digest of each run, by model and seed; empty where nothing was run."""
    file = record(dataset)
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def digest_of(run: ExpectedRun) -> str:
    """What a run is made of, today; the same on all machines.

    Raises:
        DataError: An earlier stage has not run.
    """
    from motorec import variant
    from motorec.experiment import Experiment

    return variant.digest(Experiment.load(run.dataset, run.model, run.seed), bits=False)


def make(run: ExpectedRun) -> tuple[ExpectedRun, str, float]:
    """Train, evaluate and save a run, as notebook 04 does; in a process of its own.

    Returns:
        The run, its digest, and how many seconds it took.

    Raises:
        MotorecError: The training diverged, or an earlier stage has not run.
    """
    from motorec.errors import Unsuited
    from motorec.experiment import Experiment

    started = time.perf_counter()
    digest = digest_of(run)
    experiment = Experiment.load(run.dataset, run.model, run.seed)
    try:
        model = experiment.build()
        fit = experiment.fit(model)
        figures = {} if fit is None else {"training": experiment.training_curves(fit)}
        experiment.save(model, fit, experiment.evaluate(model), figures)
    except Unsuited as reason:
        experiment.leave_out(reason)
    return run, digest, time.perf_counter() - started


def run_all(dataset: str, models: Sequence[str] = (), jobs: int = 1) -> int:
    """Make the runs that are missing or of another making, then the tables.

    Args:
        dataset: The data set.
        models: Full models or ablations; none named: all of the profile.
        jobs: Runs at a time, a process and a core each.

    Returns:
        0, or 1 where a run failed: the others have been made.

    Raises:
        MotorecError: Another process is at it, a name does not exist, or an earlier stage has not run.
    """
    made = recorded(dataset)
    record(dataset).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(record(dataset).with_name(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MotorecError(f"Another process runs the ablations of {dataset} in this folder; wait for it.") from None
    try:
        runs = planned(dataset, models)
        ahead = [run for run in runs if not run.places_file.is_file() or made.get(_key(run)) != digest_of(run)]
        print(_forecast(dataset, runs, ahead, jobs), flush=True)
        failed = _make_all(ahead, made, jobs)
    finally:
        lock.release()
    for file in tables.write(dataset):
        print(f"Ablations: {paths.shown(file)}", flush=True)
    return int(bool(failed))


def _make_all(ahead: Sequence[ExpectedRun], made: dict[str, str], jobs: int) -> list[ExpectedRun]:
    """Make runs side by side, noting each in the record once it is there; give those that failed."""
    failed: list[ExpectedRun] = []
    seconds = 0.0
    os.environ["TQDM_DISABLE"] = "1"  # bars of several processes would write over one another
    # One process a run: what a model left in memory is gone with it.
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=setup, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(make, run): run for run in ahead}
        for number, future in enumerate(as_completed(waiting), start=1):
            run = waiting[future]
            try:
                _, made[_key(run)], took = future.result()
            except MotorecError as error:
                failed.append(run)
                print(f"{run.dataset}/{run.model}/{run.seed} failed: {error}", file=sys.stderr, flush=True)
                continue
            paths.write_whole(record(run.dataset), json.dumps(dict(sorted(made.items())), indent=1) + "\n")
            seconds += took
            left = seconds / number * (len(ahead) - number) / jobs
            told = f"[{number}/{len(ahead)}] {run.dataset}/{run.model}/{run.seed}: {took:.0f} s"
            print(f"{told}, about {clock.hours(left)} (h:mm) left", flush=True)
    return failed


def _key(run: ExpectedRun) -> str:
    return f"{run.model}/{run.seed}"


def _forecast(dataset: str, runs: Sequence[ExpectedRun], ahead: Sequence[ExpectedRun], jobs: int) -> str:
    """What is left to do, and how long that takes, by what runs took before."""
    seconds = sum(clock.expected_seconds(f"token@{dataset}-{run.model}-{run.seed}") for run in ahead) / jobs
    return f"{dataset}: {len(runs)} runs, {len(ahead)} to make: at most about {clock.hours(seconds)} (h:mm)."


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m motorec.ablations", description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("models", nargs="*", metavar="model", help="full models or ablations; none named: all")
    parser.add_argument("--jobs", type=sidebyside.jobs, default=1, help="how many runs at a time (default: 1)")
    words = parser.parse_intermixed_args(arguments)
    setup()
    try:
        return run_all(words.dataset, words.models, words.jobs)
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
