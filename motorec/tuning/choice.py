"""The best settings of finished studies, written into the models' params files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from motorec import config, paths
from motorec.errors import DataError


def apply(dataset: str, models: Sequence[str] = ()) -> list[str]:
    """Write the best settings under `per_dataset` of each model's file; comments stay.

    Args:
        dataset: The data set that was tuned on.
        models: Whose settings; none named: all of `params/tune.yaml` whose studies are finished.

    Returns:
        A line per model: what was set, or why nothing was.

    Raises:
        DataError: A named model's study has not been finished.
    """
    lines = []
    for model in models or config.load_tune().models:
        file = paths.tuned(dataset, model)
        if not file.is_file():
            if models:
                raise DataError(f"{paths.shown(file)} is missing: run `python -m motorec.tuning {dataset} {model}`.")
            lines.append(f"{model}: not tuned on {dataset} yet")
            continue
        result = config.read_yaml(file)
        if "settings" not in result:
            lines.append(f"{model}: left as it is ({result['left_out']})")
            continue
        write_settings(dataset, model, result["settings"] | result["stopping"])
        lines.append(f"{model}: " + ", ".join(f"{key} {value}" for key, value in result["settings"].items()))
    return lines


def write_settings(dataset: str, model: str, values: dict[str, Any]) -> None:
    """Set values by dotted key in the block `per_dataset: <dataset>:` of a model's file."""
    from ruamel.yaml import YAML

    file = paths.root() / "params" / "models" / f"{model}.yaml"
    reader = YAML()
    reader.preserve_quotes = True
    reader.width = 120
    reader.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    document = reader.load(file.read_text(encoding="utf-8"))
    for key, value in values.items():
        *outer, last = key.split(".")
        block = document
        for part in ("per_dataset", dataset, *outer):
            if block.get(part) is None:
                block[part] = {}
            block = block[part]
        block[last] = value
    stream = io.StringIO()
    reader.dump(document, stream)
    paths.write_whole(file, stream.getvalue())


NULL = "tag:yaml.org,2002:null"
