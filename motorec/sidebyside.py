"""Stages of a pipeline of its own, some at a time: what `make tune` and `make sensitivity` have in common."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from motorec import paths


@dataclass(frozen=True)
class Stage:
    """A stage to run.

    Attributes:
        target: As DVC calls it, such as "tuning/dvc.yaml:tune@hm-bpr".
        label: What the lines to be passed on begin with, such as "hm/bpr".
        log: Where everything else that it says is kept.
    """

    target: str
    label: str
    log: Path

    def run(self) -> bool:
        """Run it unless it is up to date, passing on what it says of its progress; False if it failed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", self.target]
        with self.log.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(
                command, cwd=paths.root(), stdout=subprocess.PIPE, stderr=stream, text=True, bufsize=1
            )
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(f"{self.label}: "):
                    print(line, end="", flush=True)
            status = process.wait()
        if status:
            said = [line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("ERROR")]
            print(f"{self.label} failed: {' '.join(said) or 'see'} ({paths.shown(self.log)})", file=sys.stderr)
        else:
            print(f"{self.label}: finished", flush=True)
        return status == 0


def jobs(word: str) -> int:
    """How many at a time, from a command line.

    Raises:
        argparse.ArgumentTypeError: It is no number, or less than 1.
    """
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r}: expected a number of at least 1")
    return int(word)


def run(stages: Sequence[Stage], jobs: int) -> list[Stage]:
    """Run stages, `jobs` at a time, a process each.

    Returns:
        Those that failed: the others have been finished.
    """
    with ThreadPoolExecutor(jobs) as pool:
        return [stage for stage, ok in zip(stages, pool.map(Stage.run, stages), strict=True) if not ok]
