"""Everything MLflow: a view of the files that runs leave, made from these files alone.

A run is a data set D, a model M and a seed S. MLflow is told what stands in

    results/runs/D/M/S/metrics.json             every final metric
    data/runs/D/M/S/history.csv                 every loss, and the validation metrics, by epoch
    data/runs/D/M/S/settings.json               every parameter
    data/runs/D/M/S/*.png                       figures
    data/runs/D/M/S/model.safetensors           the model itself: `motorec.serving` makes users' lists of it
    data/notebooks/D/04_train-D-M-S.ipynb       the executed notebook
    data/timings/D/M/S.json                     seconds, memory, sizes
    data/tokens/D/S/health.json                 health of the tokenizers that the run started from
    data/runs/D/M/S/tokens.json                 health of its own, once they have learned along with it

and only the first must exist. A stage that DVC takes from its cache runs nothing, so nothing is logged while a model
trains: `log_run` reads the files of a finished run, and `replay` (`make mlflow`) logs whatever runs the store lacks.
The store can therefore be deleted at any time.

An experiment is a data set. It holds one parent run per model (the means over its seeds) with a child per seed.

Tuning has an experiment of its own per data set: a parent run per study, with a child per trial, as they stand in

    results/tuning/D/M.csv                      every trial: settings, validation, state
    results/tuning/D/M.yaml                     the best one

Names in MLflow are the names in the files, with three rules: `recall@20` is called `recall_at_20`, since MLflow allows
no `@` (`metric_name`, `file_key`); what is logged by epoch begins with `epoch/`, so that the validation curve and the
final validation metric stay apart; what a run cost begins with `cost/`, the health of the pretrained tokenizers with
`tokens/`, and what training with the model has made of it with `trained_tokens/`. A parent has means under the names
of its children and standard deviations under `sd/`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock

from motorec import config, paths
from motorec.errors import DataError
from motorec.progress import progress

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from motorec.reporting.runs import ExpectedRun

LAYOUT = 5  # raise it when this module logs something else, so that `replay` replaces the runs logged before
ALL_SEEDS = "all"  # tag `seed` of a parent run
HEADLINE = ("test/all/recall@20", "test/all/ndcg@20", "test/cold/recall@20", "test/cold/ndcg@20", "test/warm/recall@20")
SHOWN = ("test/all", "test/cold", "test/warm", "epoch/valid/all", "epoch", "cost")  # sections of charts
FOLDED = tuple(f"{kind}/{group}" for kind in ("valid", "sd/test", "sd/valid") for group in ("all", "cold", "warm"))


# Ten colours that the colour-blind can tell apart (seaborn's `colorblind`).
COLOURS = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip
SHADES = ((255, 0.0), (255, 0.5), (0, 0.4))  # of each: as it is; half of it white; two fifths of it black


def colour(model: str) -> str:
    """The colour of a model in the UI's charts, the same for each of its runs, on every data set, in every profile.

    The models that the figures stress come first; no two models share a colour, ablations take those after theirs.
    """
    every = config.load_profile("compare").compared
    known = list(dict.fromkeys([*config.load_report().main, *every, "oracle", *config.load_ablations()]))
    turn, place = divmod(known.index(model) if model in known else len(known), len(COLOURS))
    target, share = SHADES[turn % len(SHADES)]
    parts = (int(COLOURS[place][at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round((1 - share) * part + share * target):02x}" for part in parts)


def metric_name(key: str) -> str:
    """What MLflow calls a key of `metrics.json`: `test/all/recall@20` becomes `test/all/recall_at_20`.

    Raises:
        DataError: The name could not be turned back, since the key holds `_at_` already or something that becomes it.
    """
    name = key.replace("@", "_at_")
    if file_key(name) != key:
        raise DataError(f"The metric {key!r} cannot be logged: `_at_` stands for `@` in MLflow. Give it another name.")
    return name


def file_key(name: str) -> str:
    """The inverse of `metric_name`."""
    return name.replace("_at_", "@")


@dataclass(frozen=True)
class RunFiles:
    """What one run left, read and checked.

    Attributes:
        dataset: The data set.
        model: The model or ablation.
        seed: The seed.
        metrics: Final metrics by key; a metric without a value (`null`) is left out.
        left_out: Why there are none, where the data set lacks what the model needs; else empty.
        history: Column `epoch` and a column per loss or validation metric; empty for models that are not trained.
        settings: What `settings.json` holds, empty where the file is missing.
        timings: Seconds, memory and sizes, empty where the file is missing.
        tokens: Health of the pretrained tokenizers, as `<modality>/<measure>/<level>`; empty where the run started from
            none, or, as an ablation of theirs, made its own.
        trained_tokens: Health of the tokenizers that learned along with the model; empty where none did.
        figures: Pictures.
        notebook: The executed notebook, if it is there.
        model_file: Weights; None for a model in closed form, or where they are not there.
        fingerprint: Hash of the names and the bytes of all these files.
    """

    dataset: str
    model: str
    seed: int
    metrics: dict[str, float]
    left_out: str
    history: pd.DataFrame
    settings: dict[str, Any]
    timings: dict[str, Any]
    tokens: dict[str, float]
    trained_tokens: dict[str, float]
    figures: list[Path]
    notebook: Path | None
    model_file: Path | None
    fingerprint: str

    @property
    def title(self) -> str:
        """What a reader calls the model; of an ablation, also where its settings are not there but in params/ alone."""
        ablations = config.load_ablations()
        known = ablations[self.model].title if self.model in ablations else self.model
        return str(self.settings.get("title", known))

    @property
    def can_serve(self) -> bool:
        """Whether a model can be logged: it has results, needs no hidden truth, and its data are here."""
        from motorec.reporting.runs import ORACLE

        there = paths.catalogue(self.dataset).is_dir() and paths.features(self.dataset).is_dir()
        trained = not self.history.empty
        return bool(
            there and self.settings and not self.left_out and self.model != ORACLE and (self.model_file or not trained)
        )

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training and evaluation, 0 where nobody measured them."""
        return sum(float(self.timings.get(key) or 0.0) for key in ("seconds_train", "seconds_evaluate"))

    @classmethod
    def read(cls, dataset: str, model: str, seed: int) -> RunFiles:
        """Read the files of a run.

        Raises:
            DataError: `metrics.json` is missing, or a file does not hold what it should.
        """
        data = paths.run_data(dataset, model, seed)
        metrics = _metrics_file(dataset, model, seed)
        history, settings, weights = data / "history.csv", data / "settings.json", data / "model.safetensors"
        timings = paths.timings() / dataset / model / f"{seed}.json"
        notebook = paths.notebooks(dataset) / f"04_train-{dataset}-{model}-{seed}.ipynb"
        if not metrics.is_file():
            raise DataError(
                f"{paths.shown(metrics)} is missing: run `dvc repro`, or `dvc pull` where a remote holds the outputs."
            )
        figures = sorted(data.glob("*.png"))
        values = _read_json(metrics)
        left_out = str(values.pop("left_out", ""))
        about = _read_json(settings) if settings.is_file() else {}
        health, trained = _health_file(dataset, seed, about), data / "tokens.json"
        known = [metrics, history, settings, weights, timings, notebook, *figures, trained]
        return cls(
            dataset=dataset,
            model=model,
            seed=seed,
            metrics=_read_metrics(metrics, values),
            left_out=left_out,
            history=_read_history(history),
            settings=about,
            timings=_read_json(timings) if timings.is_file() else {},
            tokens=_read_health(health) if health else {},
            trained_tokens=_read_health(trained) if trained.is_file() else {},
            figures=figures,
            notebook=notebook if notebook.is_file() else None,
            model_file=weights if weights.is_file() else None,
            fingerprint=_fingerprint([*known, *([health] if health else [])]),
        )

    def params(self) -> dict[str, str]:
        """Every setting by dotted key: the model's own as in `params/ablations.yaml`, the others after their stage."""
        stages = {
            key: value for key, value in self.settings.items() if isinstance(value, Mapping) and key != "settings"
        }
        return dict(_flatten(config.merge(self.settings.get("settings", {}), stages)))

    def tags(self) -> dict[str, str]:
        """What the UI filters and groups by."""
        return {
            "dataset": self.dataset,
            "model": self.model,
            "seed": str(self.seed),
            "title": self.title,
            "kind": str(self.settings.get("kind", "unknown")),
            "is_ablation": str(self.model in config.load_ablations()).lower(),
            **({"left_out": self.left_out} if self.left_out else {}),
            **{f"encoder_{modality}": str(name) for modality, name in self.settings.get("features", {}).items()},
        }

    def finals(self) -> dict[str, float]:
        """Final metrics, costs and the tokenizers' health before and after, by their names in MLflow."""
        costs = {f"cost/{key}": float(value) for key, value in self.timings.items() if isinstance(value, int | float)}
        tokens = {f"tokens/{key}": value for key, value in self.tokens.items()}
        tokens |= {f"trained_tokens/{key}": value for key, value in self.trained_tokens.items()}
        return {metric_name(key): value for key, value in (self.metrics | costs | tokens).items()}

    def curves(self) -> dict[str, dict[int, float]]:
        """Values by epoch, by their names in MLflow."""
        curves = {}
        for column in self.history.columns.drop("epoch"):
            known = self.history[["epoch", column]].dropna()
            curves[metric_name(f"epoch/{column}")] = dict(
                zip(known["epoch"].tolist(), known[column].tolist(), strict=True)
            )
        return curves


def _metrics_file(dataset: str, model: str, seed: int) -> Path:
    return paths.run_results(dataset, model, seed) / "metrics.json"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{paths.shown(path)}: not readable as JSON ({error}). Remove it and run its stage again."
        ) from None
    if not isinstance(values, dict):
        raise DataError(f"{paths.shown(path)}: expected a JSON object, found {type(values).__name__}.")
    return values


def _read_metrics(path: Path, values: Mapping[str, Any]) -> dict[str, float]:
    for key, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DataError(f"{paths.shown(path)}: {key!r} is {value!r}, expected a number or null.")
    return {key: float(value) for key, value in values.items() if value is not None}


def _health_file(dataset: str, seed: int, settings: Mapping[str, Any]) -> Path | None:
    """The health of the tokenizers that a run started from; None if it started from none, or from its own."""
    folder = paths.tokens(dataset, seed)
    health, wanted = folder / "health.json", settings.get("tokenizer")
    if wanted is None or not health.is_file():
        return None
    for modality in _read_json(health):
        made = _read_json(folder / f"{modality}.json")
        if any(made.get(key) != value for key, value in wanted.items()):
            return None
    return health


def _read_health(path: Path) -> dict[str, float]:
    flat = {f"{modality}/{key}": value for modality, found in _read_json(path).items() for key, value in found.items()}
    return _read_metrics(path, flat)


def _read_history(path: Path) -> pd.DataFrame:
    """Read `history.csv`; a missing or empty file is a model that was not trained."""
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame({"epoch": pd.Series(dtype="int64")})
    try:
        history = pd.read_csv(path, dtype={"epoch": "int64"})
        if "epoch" not in history:
            raise ValueError("it has no column `epoch`")
        if history["epoch"].duplicated().any():
            raise ValueError("an epoch stands in two rows")
        return history.astype("float64").astype({"epoch": "int64"})
    except ValueError as error:
        raise DataError(
            f"{paths.shown(path)}: {error}. Expected a row per epoch and a column of numbers per loss."
        ) from None


def _fingerprint(files: Iterable[Path]) -> str:
    digest = hashlib.sha256(f"layout {LAYOUT}".encode())
    for file in files:
        if file.is_file():
            digest.update(f"\n{paths.shown(file)} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by dotted key; what is no text is written as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def folder() -> Path:
    """Where the project's own store lives."""
    return paths.root() / "data" / "mlflow"


def tracking_uri() -> str:
    """The store: `MLFLOW_TRACKING_URI` where it is set, else the project's own."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder() / 'mlflow.db'}"


@contextmanager
def store() -> Iterator[MlflowClient]:
    """Open the store for one process at a time.

    MLflow crashes when several processes meet a new database at once, and two seeds of one model share a parent run.
    Runs are named by id everywhere: an `MLFLOW_RUN_ID` in the environment changes nothing.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported; so is the next
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database tells of each of its migrations
    from mlflow import MlflowClient

    folder().mkdir(parents=True, exist_ok=True)
    with FileLock(folder() / ".lock"):
        yield MlflowClient(tracking_uri())


def server_command(port: int) -> list[str]:
    """The command that serves the UI on this machine only."""
    store_options = ["--backend-store-uri", tracking_uri(), "--artifacts-destination", str(folder() / "artifacts")]
    return [sys.executable, "-m", "mlflow", "server", *store_options, "--workers", "1", "--port", str(port)]


def _experiment(client: MlflowClient, dataset: str) -> str:
    """The id of a data set's experiment, made and described where that has not been done yet."""
    found = client.get_experiment_by_name(dataset)
    if found and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found and found.tags.get("layout") == str(LAYOUT):
        return str(found.experiment_id)
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder() / "artifacts" / dataset).as_uri()
    experiment = str(found.experiment_id if found else client.create_experiment(dataset, artifact_location=own))
    description = (
        f"Every model of the pipeline on **{dataset}**: a run per model with the means over its seeds, and below it a "
        f"run per seed with its losses by epoch, settings, figures and executed notebook."
    )
    views = {
        "models": ("Models, means over seeds", f"tags.seed = '{ALL_SEEDS}' and tags.is_ablation = 'false'"),
        "ablations": ("Models and ablations, means over seeds", f"tags.seed = '{ALL_SEEDS}'"),
        "seeds": ("Every seed", f"tags.seed != '{ALL_SEEDS}'"),
    }
    links = [f"[{name}]({page(experiment, key)})" for key, (name, _) in views.items()]
    tags = {
        "dataset": dataset,
        "layout": str(LAYOUT),
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": f"{description} Saved views: {', '.join(links)}.",
        **{f"mlflow.sharedViewState.{key}": _view(name, search) for key, (name, search) in views.items()},
    }
    for key, value in tags.items():
        client.set_experiment_tag(experiment, key, value)
    return experiment


def page(experiment: str, view: str) -> str:
    """Where the UI shows a saved view."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={view}"


def _view(name: str, search: str) -> str:
    """A saved view of the UI: which runs, in what order, with which columns and charts. The rest keeps its default."""
    columns = [f"metrics.`{metric_name(key)}`" for key in HEADLINE]
    state = {
        "searchFilter": search,
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": [*columns, "metrics.`seeds`", "tags.`title`", "tags.`is_ablation`"],
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [_bar_chart(metric_name(key)) for key in HEADLINE],  # the UI adds the other metrics behind
        "compareRunSections": [
            {"uuid": section, "name": section, "display": section not in FOLDED, "isReordered": True, "deleted": False}
            for section in (*SHOWN, *FOLDED)
        ],
        "isAccordionReordered": True,  # keeps this order of sections
    }
    return json.dumps({"name": name, "createdAt": 0, "state": json.dumps(state)})


def _bar_chart(metric: str) -> dict[str, Any]:
    """A chart as the UI describes it, in the section that the metric's name begins with."""
    section, _, name = metric.rpartition("/")
    return {
        "type": "BAR",
        "uuid": metric,
        "metricKey": metric,
        "displayName": name,
        "metricSectionId": section,
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": True,
    }


def log_run(dataset: str, model: str, seed: int) -> str:
    """Make MLflow show what the files of a run say.

    A run whose files have not changed is left alone; otherwise it replaces the one logged before. The model's parent
    run follows.

    Returns:
        The id of the MLflow run.

    Raises:
        DataError: `metrics.json` is missing, or a file does not hold what it should.
    """
    files = RunFiles.read(dataset, model, seed)
    with store() as client:
        experiment = _experiment(client, dataset)
        run_id, _ = _log_child(client, experiment, files)
        _log_parent(client, experiment, model)
    return run_id


def _runs(client: MlflowClient, experiment: str, model: str) -> list[Run]:
    """The runs of one model in the store, parent and children."""
    found: list[Run] = []
    page = None
    while True:
        batch = client.search_runs([experiment], f"tags.model = '{model}'", max_results=1000, page_token=page)
        found.extend(batch)
        page = batch.token
        if not page:
            return found


def _log_child(client: MlflowClient, experiment: str, files: RunFiles) -> tuple[str, bool]:
    """Log one run unless it is there.

    Returns:
        Its id, and whether it had to be logged.
    """
    old = [run for run in _runs(client, experiment, files.model) if run.data.tags.get("seed") == str(files.seed)]
    for run in old:
        if run.data.tags.get("fingerprint") == files.fingerprint:
            return run.info.run_id, False
    end = round(time.time() * 1000)
    run_id = _create(
        client,
        experiment,
        name=f"{files.model} · seed {files.seed}",
        tags=files.tags() | {"mlflow.note.content": _note(files.title, files.dataset, [files.seed], files.metrics)},
        params=files.params(),
        finals=files.finals(),
        curves=files.curves(),
        start=end - round(files.seconds * 1000),
        end=end,
    )
    for figure in files.figures:
        client.log_artifact(run_id, figure, "figures")
    if files.notebook:
        client.log_artifact(run_id, files.notebook, "notebook")
        client.log_text(run_id, _html(files.notebook), f"notebook/{files.notebook.stem}.html")
    if files.can_serve:
        _log_model(client, experiment, run_id, files)
    # The fingerprint comes last: a run that was cut short has none, and is replaced next time.
    _finish(client, run_id, files.fingerprint, end)
    for run in old:
        for model in run.outputs.model_outputs if run.outputs else []:
            client.delete_logged_model(model.model_id)
        client.delete_run(run.info.run_id)
    return run_id, True


def _log_model(client: MlflowClient, experiment: str, run_id: str, files: RunFiles) -> None:
    """Log the model of a run, so that `mlflow.pyfunc.load_model` finds it at `runs:/<run id>/model`.

    Nothing is built or loaded here: the signature and the example are known beforehand.
    """
    from mlflow import pyfunc
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from motorec import serving  # brings torch, which the rest of this module can do without

    tags = {key: value for key, value in files.tags().items() if key != "left_out"}
    logged = client.create_logged_model(experiment, "model", run_id, tags, files.params(), model_type=files.model)
    with tempfile.TemporaryDirectory() as scratch:
        exported, packed = Path(scratch) / "run", Path(scratch) / "model"
        exported.mkdir()
        serving.export(files.dataset, files.model, files.seed, exported)
        pyfunc.save_model(
            packed,
            loader_module=serving.__name__,
            data_path=str(exported),
            mlflow_model=Model(logged.artifact_location, run_id, model_uuid=logged.model_id),
            signature=serving.signature(),
            input_example=serving.example(files.dataset),
            pip_requirements=serving.requirements(),
        )
        client.log_model_artifacts(logged.model_id, str(packed))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])


def _log_parent(client: MlflowClient, experiment: str, model: str) -> None:
    """Make a model's parent run from its children in the store, unless it is up to date.

    MLflow's parameters cannot change and its metrics only grow, so a parent is made anew and its children move to it.
    """
    runs = _runs(client, experiment, model)
    old = [run for run in runs if run.data.tags.get("seed") == ALL_SEEDS]
    children = [run for run in runs if run.data.tags.get("seed") != ALL_SEEDS and "fingerprint" in run.data.tags]
    children.sort(key=lambda run: int(run.data.tags["seed"]))
    parts = [f"{run.info.run_id} {run.data.tags['fingerprint']}" for run in children]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if any(run.data.tags.get("fingerprint") == fingerprint for run in old):
        return
    seeds = [int(run.data.tags["seed"]) for run in children]
    finals = pd.DataFrame([_without_curves(run.data.metrics) for run in children]).dropna(axis="columns")
    mean = {str(name): float(value) for name, value in finals.mean().items()}
    sd = {str(name): float(value) for name, value in finals.std(ddof=1).items()} if len(children) > 1 else {}
    tags = _common([run.data.tags for run in children])
    tags = {key: value for key, value in tags.items() if not key.startswith("mlflow.") and key != "fingerprint"}
    note = _note(
        tags["title"],
        tags["dataset"],
        seeds,
        {file_key(name): value for name, value in mean.items()},
        {file_key(name): value for name, value in sd.items()},
    )
    end = max(run.info.end_time for run in children)
    run_id = _create(
        client,
        experiment,
        name=model,
        tags=tags | {"seed": ALL_SEEDS, "seeds": ", ".join(map(str, seeds)), "mlflow.note.content": note},
        params=_common([run.data.params for run in children]),
        finals=mean | {f"sd/{name}": value for name, value in sd.items()} | {"seeds": float(len(children))},
        curves=_mean_curves(client, children),
        start=min(run.info.start_time for run in children),
        end=end,
    )
    for run in children:
        client.set_tag(run.info.run_id, "mlflow.parentRunId", run_id)
    _finish(client, run_id, fingerprint, end)
    for run in old:
        client.delete_run(run.info.run_id)


def _without_curves(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("epoch/")}


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The entries that all mappings share."""
    first, *others = mappings
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _mean_curves(client: MlflowClient, children: Sequence[Run]) -> dict[str, dict[int, float]]:
    """Means over the seeds, for as many epochs as every seed has: a seed that stops early must not bend the curve."""
    names = sorted(set.intersection(*({n for n in run.data.metrics if n.startswith("epoch/")} for run in children)))
    curves = {}
    for name in names:
        histories = [client.get_metric_history(run.info.run_id, name) for run in children]
        table = pd.concat([pd.Series({point.step: point.value for point in h}) for h in histories], axis=1).dropna()
        curves[name] = {int(str(step)): float(value) for step, value in table.mean(axis=1).items()}
    return curves


def _create(
    client: MlflowClient,
    experiment: str,
    *,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    finals: Mapping[str, float],
    curves: Mapping[str, Mapping[int, float]],
    start: int,
    end: int,
) -> str:
    """Make a run with everything but its artifacts. Times are milliseconds since 1970."""
    from mlflow.entities import Metric, Param

    shown = {
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.source.name": "notebooks/04_train.ipynb",
        "mlflow.runColor": colour(tags["model"]),
    }
    run_id = str(client.create_run(experiment, start_time=start, tags=shown | dict(tags), run_name=name).info.run_id)
    # The files tell when an epoch was, not at what time: epochs are spread evenly over the run's time.
    last = max((step for curve in curves.values() for step in curve), default=0) or 1
    points = [
        Metric(key, value, start + (end - start) * step // last, step)
        for key, curve in curves.items()
        for step, value in curve.items()
    ]
    points += [Metric(key, value, end, 0) for key, value in finals.items()]
    for chunk in _chunks(points, 1000):  # the most that MLflow takes at once
        client.log_batch(run_id, metrics=chunk)
    for chunk in _chunks([Param(key, value) for key, value in sorted(params.items())], 100):
        client.log_batch(run_id, params=chunk)
    return run_id


def _chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _finish(client: MlflowClient, run_id: str, fingerprint: str, end: int) -> None:
    client.set_tag(run_id, "fingerprint", fingerprint)
    client.set_terminated(run_id, "FINISHED", end_time=end)


def _note(
    title: str,
    dataset: str,
    seeds: Sequence[int],
    metrics: Mapping[str, float],
    sd: Mapping[str, float] | None = None,
) -> str:
    """A run's description in Markdown: what it is, and its test metrics as a table with a column per group of items."""
    several = f"the mean over seeds {', '.join(map(str, seeds))}, with the standard deviation"
    about = f"**{title}** on **{dataset}**, {several if len(seeds) > 1 else f'seed {seeds[0]}'}."
    cells: dict[str, dict[str, str]] = {}
    for key, value in metrics.items():
        split, _, rest = key.partition("/")
        group, _, metric = rest.partition("/")
        if split == "test" and metric:
            spread = f" ± {sd[key]:.4f}" if sd and key in sd else ""
            cells.setdefault(metric, {})[group] = f"{value:.0f}" if metric == "users" else f"{value:.4f}{spread}"
    if not cells:
        return about
    groups = sorted({group for row in cells.values() for group in row}, key=_by_number)
    lines = ["| test | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]
    lines += [
        f"| {metric} | " + " | ".join(row.get(group, "") for group in groups) + " |" for metric, row in cells.items()
    ]
    return about + "\n\n" + "\n".join(lines)


def _by_number(group: str) -> list[tuple[int, str]]:
    """Sorts "deg5-9" before "deg10-19"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", group)]


@cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter

    return HTMLExporter()


def _html(notebook: Path) -> str:
    """An executed notebook as a page that the UI can show: it lists an .ipynb, but draws none."""
    return str(_exporter().from_filename(str(notebook))[0])


def log_studies(dataset: str) -> list[str]:
    """Make MLflow show the finished studies of a data set: a run "tune M on D" with a child per trial.

    A study whose files have not changed is left alone; otherwise it replaces the one logged before.

    Returns:
        The models whose studies had to be logged.

    Raises:
        DataError: A study's table has no summary beside it.
    """
    new = []
    for table in sorted((paths.root() / "results" / "tuning" / dataset).glob("*.csv")):
        summary = paths.tuned(dataset, table.stem)
        if not summary.is_file():
            raise DataError(
                f"{paths.shown(summary)} is missing: run `python -m motorec.tuning {dataset} {table.stem}`."
            )
        with store() as client:
            if _log_study(client, dataset, table, config.read_yaml(summary), _fingerprint([table, summary])):
                new.append(table.stem)
    return new


def _log_study(client: MlflowClient, dataset: str, table: Path, summary: Mapping[str, Any], fingerprint: str) -> bool:
    """Log one study unless it is there; say whether it had to be."""
    experiment, model = _tuning_experiment(client, dataset), str(summary["model"])
    old = _runs(client, experiment, model)
    if any(run.data.tags.get("fingerprint") == fingerprint for run in old):
        return False
    trials = pd.read_csv(table, dtype=str, keep_default_na=False).to_dict("records")
    about = {"number", "state", "value", "best_epoch", "epochs", "reason"}
    metric, now = metric_name(summary["metric"]), round(time.time() * 1000)
    shared = {
        "dataset": dataset,
        "model": model,
        "title": str(summary["title"]),
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "tuning/dvc.yaml",
    }
    counts = {key: float(summary[key]) for key in ("trials", "pruned", "failed")}
    best = {metric: float(summary["best"]["value"])} if "best" in summary else {}
    first = {f"first/{metric}": float(summary["first"])} if summary.get("first") is not None else {}
    parent = _create(
        client,
        experiment,
        name=f"tune {model} on {dataset}",
        tags=shared
        | {"state": "left out" if "left_out" in summary else "complete", "reason": summary.get("left_out", "")},
        params=dict(_flatten(summary.get("settings", {}))),
        finals=counts | best | first,
        curves={},
        start=now,
        end=now,
    )
    for trial in trials:
        numbers = {metric: "value", "best_epoch": "best_epoch", "epochs": "epochs"}
        child = _create(
            client,
            experiment,
            name=f"{model} · trial {trial['number']}",
            tags=shared
            | {key: str(trial[key]) for key in ("number", "state", "reason")}
            | {"mlflow.parentRunId": parent},
            params={str(key): str(value) for key, value in trial.items() if key not in about},
            finals={name: float(trial[key]) for name, key in numbers.items() if trial[key]},
            curves={},
            start=now,
            end=now,
        )
        client.set_terminated(child, "FAILED" if trial["state"] == "failed" else "FINISHED", end_time=now)
    _finish(client, parent, fingerprint, now)
    for run in old:
        client.delete_run(run.info.run_id)
    return True


def _tuning_experiment(client: MlflowClient, dataset: str) -> str:
    """The id of the experiment of a data set's studies."""
    name = f"{dataset} tuning"
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found:
        return str(found.experiment_id)
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder() / "artifacts" / f"{dataset}-tuning").as_uri()
    note = f"Tuning on the validation split of **{dataset}**: a run per model, and below it a run per trial."
    tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": note}
    return str(client.create_experiment(name, artifact_location=own, tags=tags))


@dataclass
class Summary:
    """What a replay found, each run as dataset/model/seed."""

    logged: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{_count(self.logged)} logged, {len(self.there)} already there"
        if not self.missing:
            return text + "."
        named = ", ".join(self.missing[:5]) + (", ..." if len(self.missing) > 5 else "")
        return f"{text}, {len(self.missing)} with no files yet: {named}."


def _count(runs: Sequence[str]) -> str:
    return f"{len(runs)} run" if len(runs) == 1 else f"{len(runs)} runs"


def replay(datasets: Sequence[str] = ()) -> Summary:
    """Log every expected run that has files but is not in the store as they say, and the ablations that were run.

    Args:
        datasets: Whose runs; none named: all that `params/run.yaml` runs or shows.

    Raises:
        DataError: A file of a run does not hold what it should.
    """
    from motorec.reporting.runs import expected_runs  # brings torch, which logging a run can do without

    summary = Summary()
    by_model: dict[tuple[str, str], list[int]] = {}
    asked = config.load_run()
    names = datasets or dict.fromkeys(asked.datasets + asked.shown)
    for name in names:
        runs = expected_runs(config.load_run_for(name), name)
        summary.missing += [f"{name}/{run.model}/{run.seed}" for run in runs if not run.metrics_file.is_file()]
        by_model |= _seeds(expected_runs(config.load_profile("ablations", name), name))  # nobody misses these
        by_model |= _seeds(runs)
    for (dataset, model), seeds in progress(by_model.items(), "MLflow"):
        with store() as client:
            experiment = _experiment(client, dataset)
            for seed in seeds:
                _, new = _log_child(client, experiment, RunFiles.read(dataset, model, seed))
                (summary.logged if new else summary.there).append(f"{dataset}/{model}/{seed}")
            _log_parent(client, experiment, model)
    for name in names:
        log_studies(name)
    return summary


def _seeds(runs: Iterable[ExpectedRun]) -> dict[tuple[str, str], list[int]]:
    """The seeds of the runs that are there, by data set and model."""
    found: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.metrics_file.is_file():
            found.setdefault((run.dataset, run.model), []).append(run.seed)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m motorec.tracking` replays; with `ui` it serves MLflow's UI."""
    parser = argparse.ArgumentParser(prog="python -m motorec.tracking", description=main.__doc__)
    parser.add_argument("what", nargs="?", choices=["replay", "ui"], default="replay")
    parser.add_argument("datasets", nargs="*", help="whose runs to replay (default: all)")
    parser.add_argument("--port", type=int, default=5000, help="of the UI (default: 5000)")
    chosen = parser.parse_args(arguments)
    if chosen.what == "replay":
        print(replay(chosen.datasets))
        for dataset in chosen.datasets:
            paths.write_whole(folder() / f"{dataset}.txt", f"The runs of {dataset} were told to MLflow.\n")
        return
    print(replay())
    if tracking_uri().startswith("http"):
        print(f"MLflow is at {tracking_uri()}, as MLFLOW_TRACKING_URI says.")
        return
    address = f"http://127.0.0.1:{chosen.port}/"
    print(f"MLflow: {address} (end it with Ctrl-C). Models side by side:", flush=True)
    with store() as client:  # makes the database where there is none
        for experiment in client.search_experiments(filter_string="tags.dataset LIKE '%'"):
            print(f"  {experiment.name}: {address}{page(experiment.experiment_id, 'models')}", flush=True)
    command = server_command(chosen.port)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
