"""What tuning found, all models of a data set in one table; from the files in `results/tuning/` alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from motorec import config, paths
from motorec.errors import DataError
from motorec.reporting.tables import escape_markdown, to_markdown


def cells(dataset: str) -> pd.DataFrame:
    """A row per finished study, in the order of `params/tune.yaml`, others after them, as a reader sees it.

    Raises:
        DataError: No study of this data set is finished.
    """
    there = sorted(file.stem for file in paths.tuned(dataset, "").parent.glob("*.yaml"))
    order = [model for model in config.load_tune().models if model in there]
    found = [config.read_yaml(paths.tuned(dataset, model)) for model in dict.fromkeys((*order, *there))]
    if not found:
        raise DataError(f"{paths.shown(paths.tuned(dataset, '').parent)} holds no study: run `make tune`.")
    rows = []
    for study in found:
        settings = ", ".join(f"{key} {value}" for key, value in study.get("settings", {}).items())
        first, best = study.get("first"), study.get("best", {})
        rows.append(
            {
                "Model": escape_markdown(study["title"]),
                "Trials": str(study["trials"]),
                "Pruned": str(study["pruned"]),
                "Failed": str(study["failed"]),
                "Defaults": "–" if first is None else f"{first:.4f}",
                "Best": f"{best['value']:.4f}" if best else "–",
                "In trial": str(best["trial"]) if best else "–",
                "Settings": escape_markdown(settings or f"left out: {study['left_out']}"),
            }
        )
    return pd.DataFrame(rows)


def write(dataset: str) -> Path:
    """Write `results/tuning/<dataset>.md`.

    Raises:
        DataError: No study of this data set is finished.
    """
    metrics = {config.read_yaml(file)["metric"] for file in paths.tuned(dataset, "").parent.glob("*.yaml")}
    caption = (
        f"Tuning on {config.load_dataset(dataset).title}: {', '.join(sorted(metrics))} of the first trial (the "
        "model's defaults for all data sets) and of the best one. The test split took no part."
    )
    target = paths.tuned(dataset, "").parent.with_suffix(".md")
    paths.write_whole(target, to_markdown(cells(dataset), caption))
    return target
