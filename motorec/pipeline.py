"""`make repro`: checks all settings, says how long it will take, runs `dvc repro`, and says how far it is.

It adds nothing to `dvc repro` but the check beforehand and the clock. With `--profile NAME` it runs what
`params/profiles/NAME.yaml` names, laid over `params/run.yaml`, stage by stage in the same cache; with `--jobs N`, N
stages that do not need one another go side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO

import yaml
from filelock import FileLock, Timeout

from motorec import config, paths, sidebyside
from motorec.clock import Clock, expected_seconds, hours, total_seconds
from motorec.errors import MotorecError
from motorec.preflight import check

VISITED = re.compile(r"^(Running stage|Stage) '(?P<stage>[^']+)'(?P<rest>.*)$")
FAILED = re.compile(r"failed to reproduce '(?P<stage>[^']+)'")
BATCH = 180.0  # seconds of stages that one `dvc repro` is given: it takes some seconds to start


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m motorec.pipeline", description=__doc__.split("\n\n")[0])
    parser.add_argument("--profile", help="a file in params/profiles/ to lay over params/run.yaml")
    parser.add_argument("--dataset", help="the one data set to run in place of the profile's")
    parser.add_argument(
        "--jobs", type=sidebyside.jobs, default=1, help="how many stages to run side by side (default: 1)"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="when a stage fails, finish those that do not need it"
    )
    parser.add_argument("--force", action="store_true", help="run every stage again, changed or not")
    parser.add_argument("targets", nargs="*", help="stages, with all before them; default: all")
    words = parser.parse_args(arguments)
    if words.dataset and not words.profile:
        parser.error("--dataset belongs to a profile: name one with --profile")
    try:
        with alone(), profile(words.profile, words.dataset):
            check()
            return reproduce(words.targets, force=words.force, jobs=words.jobs, keep_going=words.keep_going)
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        return 130


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the project for one run at a time.

    Raises:
        MotorecError: Another run is under way.
    """
    lock = FileLock(paths.root() / ".pipeline.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MotorecError("Another run of the pipeline is under way in this folder; wait for it to end.") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def profile(name: str | None, dataset: str | None = None) -> Iterator[None]:
    """Put a profile in the place of `params/run.yaml` for a while.

    The original is kept beside it, and put back at the next call even if this one is killed.

    Args:
        name: The profile; None for `params/run.yaml` itself.
        dataset: The one data set to run in place of the profile's.

    Raises:
        ParamsError: There is no such profile or data set, or a key is wrong.
    """
    target = paths.root() / "params" / "run.yaml"
    kept = target.with_suffix(".yaml.kept")
    if kept.is_file():
        kept.replace(target)
    if name is None:
        yield
        return
    written = yaml.safe_dump(config.profile_values(name, dataset), sort_keys=False)
    shutil.copy2(target, kept)
    try:
        paths.write_whole(target, written)
        yield
    finally:
        if target.read_text(encoding="utf-8") == written:
            kept.replace(target)
        else:
            print(f"{paths.shown(target)} was edited during the run; the one before is {kept.name}.", file=sys.stderr)


@dataclass(frozen=True)
class Plan:
    """What a call of the pipeline comes to.

    Attributes:
        stages: The stages asked for and all before them, in an order in which they can run.
        waves: Those that may have to run, since they or something before them changed. The stages of a wave do not need
            one another, only those of earlier waves.
        needs: For each of these, which others of them it needs first.
    """

    stages: list[str]
    waves: list[list[str]]
    needs: dict[str, set[str]]

    @classmethod
    def read(cls, targets: Sequence[str], force: bool = False) -> Plan:
        """Ask DVC.

        Raises:
            MotorecError: There is no such stage, or dvc.yaml cannot be read.
        """
        import networkx
        from dvc.exceptions import DvcException
        from dvc.repo import Repo, lock_repo

        stages: list[str] = []
        wave: dict[str, int] = {}
        needs: dict[str, set[str]] = {}
        try:
            with Repo(str(paths.root())) as repo, lock_repo(repo):
                found = [stage for target in targets or ["dvc.yaml"] for stage in repo.stage.collect(target)]
                place = {stage: number for number, stage in enumerate(repo.index.stages)}
                upward = repo.index.graph  # from a stage to what it needs
                wanted = set(found).union(*(networkx.descendants(upward, stage) for stage in found))
                downward = upward.subgraph(wanted).reverse()
                for stage in networkx.lexicographical_topological_sort(downward, key=place.__getitem__):
                    name = stage.addressing
                    stages.append(name)
                    ahead = {other.addressing for other in upward.successors(stage)} & wave.keys()
                    if force or ahead or stage.status():
                        needs[name] = ahead
                        wave[name] = 1 + max((wave[other] for other in ahead), default=0)
        except DvcException as error:
            raise MotorecError(f"DVC: {error}") from None
        together = [[name for name in wave if wave[name] == number] for number in sorted(set(wave.values()))]
        return cls(stages, together, needs)

    def told(self, jobs: int) -> str:
        """What is said before the first stage."""
        time = hours(total_seconds(self.waves, jobs))
        processes = f"{jobs} processes" if jobs > 1 else "1 process"
        return f"{len(self.needs)} of {len(self.stages)} stages to run, at most about {time} (h:mm) on {processes}."


def reproduce(targets: Sequence[str], *, force: bool = False, jobs: int = 1, keep_going: bool = False) -> int:
    """Run `dvc repro`, adding a clock to each stage.

    Args:
        targets: Stages, with all before them; none named: all.
        force: Run every stage again.
        jobs: How many stages are run side by side.
        keep_going: When a stage fails, finish all others that do not need it before ending.

    Returns:
        The exit status.

    Raises:
        MotorecError: DVC cannot start.
    """
    plan = Plan.read(targets, force)
    clock = Clock(plan.stages, plan.waves, jobs)
    options = ["--force"] if force else []
    if plan.waves:
        print(plan.told(jobs), flush=True)
    if jobs == 1 and not keep_going:
        status = _repro([*options, *targets], clock)
        print(clock.ends(stopped=bool(status)), flush=True)
        return status

    options.append("--single-item")  # else DVC locks whatever comes before a target, and a neighbour needs it too
    failed: list[str] = []
    left: set[str] = set()
    with _lock_in_order(plan.stages):
        for wave in plan.waves:
            left.update(stage for stage in wave if plan.needs[stage] & left.union(failed))
            failed += side_by_side([stage for stage in wave if stage not in left], jobs, options, clock, keep_going)
            if failed and not keep_going:
                break
    print(clock.ends(failed), flush=True)
    return int(bool(failed))


def side_by_side(
    stages: Sequence[str], jobs: int, options: Sequence[str], clock: Clock, keep_going: bool = False
) -> list[str]:
    """Run stages that do not need one another, some at a time.

    Each `dvc repro` holds the project's lock while it looks and writes, and lets go of it while its stage runs.

    Returns:
        The stages that failed. Without `keep_going`, nothing more is started after the first.

    Raises:
        MotorecError: DVC failed before it came to a stage.
    """
    if len(stages) == 1:  # alone, it may show its own progress
        return list(stages) if _repro([*options, *stages], clock) else []
    queue = deque(batches(stages, jobs))
    failed: list[str] = []
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                batch = queue.popleft()
            except IndexError:
                return
            while batch and not stopped.is_set():
                status, errors = _quiet_repro([*options, *batch], clock)
                if status == 0 or stopped.is_set():
                    break
                found = FAILED.search(errors)
                if found is None or found["stage"] not in batch:
                    stopped.set()
                    raise MotorecError(f"`dvc repro` failed:\n{errors.strip()}")
                failed.append(found["stage"])
                batch = batch[batch.index(found["stage"]) + 1 :]
                if not keep_going:
                    stopped.set()

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(jobs)]:
                worker.result()
        finally:
            stopped.set()  # Ctrl-C reached every process; none is started after it
    return failed


def batches(stages: Sequence[str], jobs: int) -> list[list[str]]:
    """Divide stages into what one `dvc repro` is given: small enough that all processes end together, longest first."""
    seconds = {stage: expected_seconds(stage) for stage in stages}
    size = min(BATCH, sum(seconds.values()) / (4 * jobs))
    divided: list[list[str]] = []
    filled = size
    for stage in sorted(stages, key=seconds.__getitem__, reverse=True):
        if filled >= size:
            divided.append([])
            filled = 0.0
        divided[-1].append(stage)
        filled += seconds[stage]
    return divided


def _repro(arguments: Sequence[str], clock: Clock) -> int:
    """One `dvc repro` that talks; its exit status."""
    process = _start(arguments)
    try:
        for line in _lines(process, clock):
            print(line, end="", flush=True)
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # DVC got the same signal and is putting things in order
        raise


def _quiet_repro(arguments: Sequence[str], clock: Clock) -> tuple[int, str]:
    """One `dvc repro` among several: its stages are told, its errors only where it fails.

    Returns:
        The exit status, and what stood on standard error.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        # Bars of several processes would write over one another.
        process = _start(arguments, errors, {"TQDM_DISABLE": "1"})
        for _ in _lines(process, clock):
            pass
        status = process.wait()
        errors.seek(0)
        told = errors.read()
    if status:
        print(told, file=sys.stderr, flush=True)
    return status, told


def _start(
    arguments: Sequence[str], errors: IO[str] | None = None, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    patience = ["--wait-for-lock"] if errors else []
    command = [sys.executable, "-m", "dvc", *patience, "repro", *arguments]
    return subprocess.Popen(
        command,
        cwd=paths.root(),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        bufsize=1,
    )


def _lines(process: subprocess.Popen[str], clock: Clock) -> Iterator[str]:
    """Put the clock's lines in the place of DVC's own about stages; the rest is for the caller."""
    assert process.stdout is not None
    for line in process.stdout:
        found = VISITED.match(line)
        if found is None:
            yield line
        elif found["rest"].strip() == ":":
            print(clock.starts(found["stage"]), flush=True)
        else:
            clock.passes(found["stage"], restored="cached" in found["rest"])


@contextlib.contextmanager
def _lock_in_order(stages: Sequence[str]) -> Iterator[None]:
    """Leave new stages in dvc.lock in their usual order, whichever of several processes was done first."""
    from dvc.utils.serialize import load_yaml, modify_yaml

    file = paths.root() / "dvc.lock"
    before = list(load_yaml(file)["stages"]) if file.is_file() else []
    try:
        yield
    finally:
        place = {name: number for number, name in reversed(list(enumerate([*before, *stages])))}
        if file.is_file():
            with modify_yaml(file) as lock:
                known = sorted(lock["stages"], key=lambda name: place.get(name, len(place)))
                lock["stages"] = {name: lock["stages"][name] for name in known}


if __name__ == "__main__":
    sys.exit(main())
