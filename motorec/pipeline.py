"""`make repro`: checks all settings, runs `dvc repro`, and says how far it is and how long is left.

It adds nothing to `dvc repro` but the check beforehand and the clock. With `--profile NAME` it runs what
`params/profiles/NAME.yaml` names, laid over `params/run.yaml`, stage by stage in the same cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import yaml
from filelock import FileLock, Timeout

from motorec import config, paths
from motorec.errors import MotorecError
from motorec.preflight import check

# Seconds a stage takes on two cores, for a first run; later ones know their own times.
TYPICAL = {
    "encoders": 15.0,
    "source": 15.0,
    "data": 12.0,
    "features": 60.0,
    "tokenize": 15.0,
    "oracle": 8.0,
    "fit": 8.0,
    "train": 15.0,
    "ablate": 20.0,
    "token": 20.0,
    "track": 15.0,
    "ablations": 12.0,
    "report": 15.0,
    "summary": 10.0,
}
NOTEBOOKS = {
    "data": "01_data",
    "features": "02_features",
    "tokenize": "03_tokenize",
    **dict.fromkeys(("oracle", "fit", "train", "token", "ablate"), "04_train"),
    "ablations": "05_ablations",
    "report": "06_report",
}
VISITED = re.compile(r"^(Running stage|Stage) '(?P<stage>[^']+)'(?P<rest>.*)$")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m motorec.pipeline", description=__doc__.split("\n\n")[0])
    parser.add_argument("--profile", help="a file in params/profiles/ to run in place of params/run.yaml")
    parser.add_argument("--force", action="store_true", help="run every stage again, changed or not")
    parser.add_argument("targets", nargs="*", help="stages, with all before them; default: all")
    words = parser.parse_args(arguments)
    try:
        with alone(), profile(words.profile):
            check()
            targets = list(words.targets)
            return reproduce([*targets, "--force"] if words.force else targets)
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
def profile(name: str | None) -> Iterator[None]:
    """Put a profile in the place of `params/run.yaml` for a while.

    The original is kept beside it, and put back at the next call even if this one is killed.
    """
    target = paths.root() / "params" / "run.yaml"
    kept = target.with_suffix(".yaml.kept")
    if kept.is_file():
        kept.replace(target)
    if name is None:
        yield
        return
    values = config.read_yaml(target) | config.read_yaml(target.parent / "profiles" / f"{name}.yaml")
    config.parse(config.RunSettings, values, f"params/profiles/{name}.yaml")
    shutil.copy2(target, kept)
    written = yaml.safe_dump(values, sort_keys=False)
    try:
        paths.write_whole(target, written)
        yield
    finally:
        if target.read_text(encoding="utf-8") == written:
            kept.replace(target)
        else:
            print(f"{paths.shown(target)} was edited during the run; the one before is {kept.name}.", file=sys.stderr)


def reproduce(arguments: Sequence[str]) -> int:
    """Run `dvc repro`, passing its words on and adding a clock to each stage.

    Returns:
        DVC's exit status.
    """
    dvc = [sys.executable, "-m", "dvc"]
    listed = subprocess.run([*dvc, "stage", "list", "--name-only"], capture_output=True, text=True, cwd=paths.root())
    if listed.returncode:
        print(listed.stderr.strip(), file=sys.stderr)
        return listed.returncode
    clock = Clock(listed.stdout.split())
    process = subprocess.Popen(
        [*dvc, "repro", *arguments], cwd=paths.root(), stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            found = VISITED.match(line)
            if found is None:
                print(line, end="", flush=True)
            elif found["rest"].strip() == ":":
                print(clock.starts(found["stage"]), flush=True)
            else:
                clock.passes(found["stage"], restored="cached" in found["rest"])
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # DVC got the same signal and is putting things in order
        raise
    print(clock.ends(status), flush=True)
    return status


class Clock:
    """Which stages are behind, and how long those ahead will take, judged by those behind."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._ahead = {stage: expected_seconds(stage) for stage in stages}
        self._total = len(stages)
        self._began = time.monotonic()
        self._ran = self._restored = 0
        self._expected_so_far = 0.0

    def starts(self, stage: str) -> str:
        """A line for a stage that starts."""
        elapsed = time.monotonic() - self._began
        left = sum(self._ahead.values()) * self._pace(elapsed)
        self.passes(stage)
        self._ran += 1
        self._expected_so_far += expected_seconds(stage)
        place = f"[{self._total - len(self._ahead)}/{self._total}]"
        return f"{place} {stage} · {minutes(elapsed)} so far, at most about {minutes(left)} left"

    def passes(self, stage: str, restored: bool = False) -> None:
        """Note a stage that needs no run: nothing has changed, or DVC's cache had its results."""
        self._ahead.pop(stage, None)
        self._restored += restored

    def ends(self, status: int) -> str:
        """A last line."""
        elapsed = minutes(time.monotonic() - self._began)
        if status:
            return f"Stopped after {elapsed}: see the error above. What is done is kept; the same command continues."
        if not self._ran and self._restored:
            return f"{self._restored} of {self._total} stages were brought back from DVC's cache in {elapsed}."
        if not self._ran:
            return f"Nothing to do: all {self._total} stages are up to date (looked for {elapsed})."
        return f"Done: {self._ran} of {self._total} stages ran in {elapsed}. Tables and figures are in results/."

    def _pace(self, elapsed: float) -> float:
        """How this machine compares with the expectation, once there is something to compare."""
        return elapsed / self._expected_so_far if self._expected_so_far > 30 else 1.0


def expected_seconds(stage: str) -> float:
    """What a stage took last time, or a typical value."""
    kind, _, rest = stage.partition("@")
    for ending in ("", "-*"):  # stages without a seed in their name run with the first one
        name = {"oracle": f"{rest}-oracle"}.get(kind, rest)
        for file in sorted((paths.timings() / "stages").glob(f"{NOTEBOOKS.get(kind, 'none')}-{name}{ending}.json")):
            return float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
    return TYPICAL.get(kind, 10.0)


def minutes(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


if __name__ == "__main__":
    sys.exit(main())
