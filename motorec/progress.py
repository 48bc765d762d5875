"""Progress of long work, on standard error: shown live, never part of a result."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(work: Iterable[Item], what: str, total: int | None = None, start: int = 0) -> tqdm[Item]:
    """Iterate with a bar that says how far the work is and how long is left.

    Args:
        work: What to iterate over.
        what: A few words on the left of the bar.
        total: Number of steps, where `work` has no length.
        start: Steps that an earlier, interrupted run had done already.
    """
    # A terminal gets a moving line; a log file gets one line every ten seconds at the most.
    pause = 0.5 if sys.stderr.isatty() else 10.0
    return tqdm(work, desc=what, total=total, initial=start, file=sys.stderr, mininterval=pause, leave=False)
