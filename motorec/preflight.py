"""Every setting is read and every given file looked for before the first stage starts: seconds, instead of a failure
after the long work."""

from __future__ import annotations

from motorec import config
from motorec.config import RunSettings
from motorec.data.prepare import check_source
from motorec.errors import ParamsError, nearest
from motorec.evaluation.evaluate import parse_metric
from motorec.models import model_class
from motorec.reporting.report import report
from motorec.tokenizer import TokenizerSettings
from motorec.tuning.study import check as check_search


def check() -> None:
    """Read all that `params/run.yaml` names, as the stages will.

    Raises:
        ParamsError: A file in `params/` names or holds something that does not exist.
        DataError: A data set's files are not where they should be.
    """
    run = config.load_run()
    config.load_report()
    config.load_tune()
    config.load_sensitivity()
    _check_names(run)
    for dataset in run.datasets:
        check_dataset(run, dataset)
        if dataset not in run.sources:
            check_source(dataset)


def check_dataset(run: RunSettings, dataset: str) -> None:
    """Read all settings for one data set, those of every model included.

    Raises:
        ParamsError: A key or value does not exist.
    """
    config.load_dataset(dataset)
    config.load_features(dataset)
    report(dataset)
    evaluation = config.load_evaluation(dataset)
    tokenizer = config.load_tokenizer(dataset)
    config.parse(TokenizerSettings, tokenizer, "params/tokenize.yaml")
    ablations = run.ablations if dataset in run.ablation_datasets else ()
    for name in [*run.compared, *ablations]:
        choice = config.load_model(name, dataset)
        where = f"settings of {name}"
        config.parse(model_class(choice.kind).Settings, choice.settings, where)
        changes = choice.settings.get("tokenizer", {})
        config.parse(TokenizerSettings, config.merge(tokenizer, changes), f"{where}, tokenizer")
        parse_metric(choice.training.metric, evaluation)
        if name not in ablations and config.load_search(name):
            check_search(dataset, name)


def _check_names(run: RunSettings) -> None:
    """Lists that refer to one another."""
    for key in ("with_truth", "ablation_datasets", "ablation_reports"):
        for name in getattr(run, key):
            if name not in run.datasets:
                remedy = nearest(name, run.datasets)
                raise ParamsError(f"params/run.yaml: {key} names {name!r}, which is not among `datasets`. {remedy}")
    for key in ("datasets", "closed_form", "content_models", "models", "token_models", "ablations", "seeds"):
        values = getattr(run, key)
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise ParamsError(f"params/run.yaml: {key} names {', '.join(twice)} more than once.")
    for seed in run.ablation_seeds:
        if seed not in run.seeds:
            raise ParamsError(
                f"params/run.yaml: ablation_seeds names {seed}, which is not among `seeds`; add it there."
            )
    for name, ablation in config.load_ablations().items():
        if name in run.ablations and ablation.base not in run.token_models:
            raise ParamsError(
                f"params/ablations.yaml, {name}: base is {ablation.base!r}, which is not among `token_models` of "
                f"params/run.yaml. {nearest(ablation.base, run.token_models)}"
            )
