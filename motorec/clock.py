"""How far the pipeline is, and how long is left.

What a stage took last time is known from `data/timings`; for a first run there are typical times.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterable, Sequence

from motorec import paths

# Seconds a stage takes on one core, for a first run on a small data set; later ones know their own times.
TYPICAL = {
    "encoders": 15.0,
    "source": 15.0,
    "data": 12.0,
    "features": 50.0,
    "tokenize": 12.0,
    "oracle": 8.0,
    "fit": 8.0,
    "content": 10.0,
    "train": 20.0,
    "token": 20.0,
    "ablate": 20.0,
    "readable": 25.0,
    "track": 15.0,
    "ablations": 12.0,
    "report": 35.0,
    "summary": 10.0,
    "pages": 10.0,
    "index": 5.0,
}
# The same by model, for trainings, on H&M as tuned there: fitting and evaluation of results/efficiency/hm.csv, a
# validation every fourth epoch, and the start of a notebook. A test holds them to that table.
MODELS = {
    "bpr": 55.0, "lightgcn": 55.0, "multvae": 145.0, "diffrec": 335.0, "ldiffrec": 155.0, "vbpr": 60.0, "mmgcn": 200.0,
    "grcn": 55.0, "dualgnn": 70.0, "lattice": 250.0, "slmrec": 90.0, "bm3": 130.0, "freedom": 75.0, "mgcn": 200.0,
    "lgmrec": 95.0, "motorec": 285.0, "tokenbridge": 200.0,
}  # fmt: skip
# How many times as long as on a small data set the stages that grow with the data take on larger ones.
LARGER = {"hm": 4.0, "baby": 10.0, "sports": 20.0, "clothing": 20.0}
GROWING = ("features", "tokenize", "train", "token", "ablate", "readable")
NOTEBOOKS = {
    "data": "01_data",
    "features": "02_features",
    "tokenize": "03_tokenize",
    **dict.fromkeys(("oracle", "fit", "content", "train", "token", "ablate"), "04_train"),
    "ablations": "05_ablations",
    "report": "06_report",
    "readable": "07_readable_tokens",
}


def notebook_title(stage: str) -> str:
    """What the stage's executed notebook is called, the seed left out where the stage's name has none."""
    kind, _, rest = stage.partition("@")
    name = {"oracle": f"{rest}-oracle"}.get(kind, rest)
    return f"{NOTEBOOKS.get(kind, 'none')}-{name}"


def expected_seconds(stage: str) -> float:
    """What a stage took last time, or took with another seed, or a typical value."""
    title = notebook_title(stage)
    # Stages without a seed in their name run with the first one.
    without_seed, _, seed = title.rpartition("-")
    other_seeds = [f"{without_seed}-[0-9]*"] if seed.isdecimal() else []
    for pattern in (title, f"{title}-[0-9]*", *other_seeds):
        for file in sorted((paths.timings() / "stages").glob(f"{pattern}.json")):
            return float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
    kind, _, rest = stage.partition("@")
    dataset = next((name for name in LARGER if rest == name or rest.startswith(f"{name}-")), "")
    factor = LARGER.get(dataset, 1.0) if kind in GROWING else 1.0
    model = next((name for name in MODELS if f"-{name}-" in f"-{rest}-"), "")
    return factor * (MODELS[model] / LARGER["hm"] if model else TYPICAL.get(kind, 10.0))


def total_seconds(waves: Iterable[Collection[str]], jobs: int) -> float:
    """How long stages take, `jobs` side by side, one wave of them after another."""
    seconds = [[expected_seconds(stage) for stage in wave] for wave in waves]
    return sum(max(sum(wave) / jobs, max(wave, default=0.0)) for wave in seconds)


class Clock:
    """Which stages are behind, and how long those ahead will take, judged by those behind.

    Args:
        stages: All that could run.
        waves: Those that may have to: those of one wave before those of the next.
        jobs: How many go side by side.
    """

    def __init__(self, stages: Collection[str], waves: Iterable[Collection[str]], jobs: int = 1) -> None:
        self._ahead = [dict.fromkeys(wave) for wave in waves]
        self._total = len(stages)
        self._jobs = jobs
        self._began = time.monotonic()
        self._ran = self._restored = 0
        self._expected_so_far = 0.0
        self._one_at_a_time = threading.RLock()

    def starts(self, stage: str) -> str:
        """A line for a stage that starts."""
        with self._one_at_a_time:
            elapsed = time.monotonic() - self._began
            left = total_seconds(self._ahead, self._jobs) * self._pace(elapsed)
            self.passes(stage)
            self._ran += 1
            self._expected_so_far += expected_seconds(stage) / self._jobs
            place = f"[{self._total - sum(map(len, self._ahead))}/{self._total}]"
        return f"{place} {stage} · {minutes(elapsed)} so far, at most about {minutes(left)} left"

    def passes(self, stage: str, restored: bool = False) -> None:
        """Note a stage that needs no run: nothing has changed, or DVC's cache had its results."""
        with self._one_at_a_time:
            for wave in self._ahead:
                wave.pop(stage, None)
            self._restored += restored

    def ends(self, failed: Sequence[str] = (), stopped: bool = False) -> str:
        """A last line."""
        elapsed = minutes(time.monotonic() - self._began)
        again = "What is done is kept; the same command continues."
        if failed:
            return f"{len(failed)} of {self._total} stages failed, after {elapsed}: {', '.join(failed)}. {again}"
        if stopped:
            return f"Stopped after {elapsed}: see the error above. {again}"
        if not self._ran and self._restored:
            return f"{self._restored} of {self._total} stages were brought back from DVC's cache in {elapsed}."
        if not self._ran:
            return f"Nothing to do: all {self._total} stages are up to date (looked for {elapsed})."
        ran = f"{self._ran} of {self._total} stages ran in {elapsed}"
        return f"Done: {ran}. Results are in results/, and to read in data/pages/."

    def _pace(self, elapsed: float) -> float:
        """How this machine compares with the expectation, once there is something to compare."""
        return elapsed / self._expected_so_far if self._expected_so_far > 30 else 1.0


def minutes(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def hours(seconds: float) -> str:
    """Seconds as h:mm, never less than a minute."""
    whole = max(1, round(seconds / 60))
    return f"{whole // 60}:{whole % 60:02d}"
