"""One run: a data set, a model, a seed. Loads what stages 01 to 03 made, trains, evaluates, and leaves files.

The files are all that later stages, the tables and MLflow ever see of a run.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from motorec import config, paths
from motorec.data import Dataset
from motorec.errors import LeftOut, Unsuited
from motorec.evaluation import Evaluation, evaluate, validate
from motorec.features import load_all
from motorec.models import Inputs, Recommender, TrainedRecommender, build
from motorec.training import Fit, fingerprint, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from motorec.tokenizer.codes import Codes


@dataclass
class Experiment:
    """What a run is made of.

    Attributes:
        dataset: With all splits; only `inputs` goes to the model.
        inputs: The training data and features.
        choice: The model's name and settings.
        evaluation: Cut-offs and what is cold.
        cost: Wall-clock seconds and memory, filled on the way; kept out of every output of a stage.
    """

    dataset: Dataset
    inputs: Inputs
    choice: config.ModelChoice
    evaluation: config.EvaluationSettings
    cost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, dataset: str, model: str, seed: int) -> Experiment:
        """Read the outputs of the earlier stages and the settings.

        Raises:
            ParamsError: The model, or one of its settings, does not exist.
            DataError: An earlier stage has not run.
        """
        choice = config.load_model(model, dataset)
        evaluation = config.load_evaluation(dataset)
        data = Dataset.load(paths.catalogue(dataset))
        tokens = paths.tokens(dataset, seed)
        inputs = Inputs(
            dataset=dataset,
            seed=seed,
            train=data.matrix("train"),
            features=load_all(dataset),
            cold_below=evaluation.cold_below,
            tokens=tokens if tokens.is_dir() else None,
            truth=data.truth if choice.kind == "oracle" else None,
        )
        return cls(data, inputs, choice, evaluation)

    def build(self) -> Recommender:
        """The model, fitted if it has a closed form, not yet trained otherwise.

        Raises:
            Unsuited: The data set lacks a modality that the model needs, or has more items than it may take.
        """
        started = time.perf_counter()
        model = build(self.choice, self.inputs)
        self.cost["seconds_build"] = time.perf_counter() - started
        self.cost["parameters"] = float(model.n_parameters)
        return model

    def leave_out(self, reason: Unsuited) -> LeftOut:
        """Write files that say why this run has no results, in place of those that `save` would write.

        Returns:
            What to raise, so that the notebook ends here.
        """
        where = (self.inputs.dataset, self.choice.name, self.inputs.seed)
        with paths.whole_folder(paths.run_data(*where)) as folder:
            (folder / "settings.json").write_text(_json(self.settings()), encoding="utf-8")
        with paths.whole_folder(paths.run_results(*where)) as folder:
            (folder / "metrics.json").write_text(_json({"left_out": str(reason)}), encoding="utf-8")
        (paths.timings() / where[0] / where[1] / f"{where[2]}.json").unlink(missing_ok=True)  # of a run that was
        return LeftOut(str(reason))

    def fit(self, model: Recommender, report: Callable[[int, float], None] | None = None) -> Fit | None:
        """Train the model, choosing the epoch on validation; None for a model that has nothing to train.

        Args:
            model: As `build` made it.
            report: Told each validated epoch and its value; may raise to end the training.
        """
        if not isinstance(model, TrainedRecommender):
            return None
        settings, inputs = self.choice.training, self.inputs
        fit = train(
            model,
            inputs.train,
            settings,
            lambda: validate(model.score, self.dataset, settings.metric, self.evaluation),
            seed=inputs.seed,
            label=f"{inputs.dataset}/{self.choice.name}/{inputs.seed}",
            stream=f"{inputs.dataset}/{self.choice.kind}",
            scratch=paths.checkpoints("train", inputs.dataset, self.choice.name, inputs.seed),
            fingerprint=self._fingerprint(),
            report=report,
        )
        self.cost["seconds_train"] = fit.seconds
        self.cost["seconds_per_epoch"] = fit.seconds_per_epoch
        self.cost["epochs"] = float(len(fit.history))
        return fit

    def codes(self, model: Recommender) -> dict[str, Codes]:
        """The items' codes by the tokenizers that learn along with the model, as they are now.

        Returns:
            By modality, a row per item, -1 where it lacks the modality; empty for a model without such tokenizers, or
            with continuous ones.
        """
        from motorec.tokenizer.codes import item_codes

        quantizing = {name: one for name, one in model.tokenizers.items() if one.quantizer is not None}
        return {name: item_codes(one, self.inputs.features[name]) for name, one in quantizing.items()}

    def token_health(self, model: Recommender) -> dict[str, dict[str, float]]:
        """`tokenizer.health` of the tokenizers that learn along with the model, as they are now.

        Returns:
            By modality; empty for a model without such tokenizers.
        """
        from motorec.tokenizer.health import health

        features = self.inputs.features
        return {
            name: health(one, features[name].matrix[features[name].present]) for name, one in model.tokenizers.items()
        }

    def attention(self, model: Recommender) -> dict[str, float]:
        """How much warm and cold items listen to each source, on average, as the model is now.

        Returns:
            By `attention/<group>/<source>`, a name like those of other metrics; empty for a model without attention.
        """
        warm = self.inputs.degrees >= self.inputs.cold_below
        groups = {"warm": warm, "cold": ~warm}
        return {
            f"attention/{group}/{source}": float(shares[chosen].mean(dtype=np.float64))
            for source, shares in model.attention_shares().items()
            for group, chosen in groups.items()
            if chosen.any()
        }

    def evaluate(self, model: Recommender) -> dict[str, Evaluation]:
        """Validation and test, once, after all choices have been made."""
        started = time.perf_counter()
        results = {split: evaluate(model.score, self.dataset, split, self.evaluation) for split in ("valid", "test")}
        self.cost["seconds_evaluate"] = time.perf_counter() - started
        return results

    def settings(self) -> dict[str, Any]:
        """All that was set, for MLflow and for readers."""
        values: dict[str, Any] = {
            "dataset": self.inputs.dataset,
            "model": self.choice.name,
            "kind": self.choice.kind,
            "title": self.choice.title,
            "seed": self.inputs.seed,
            "settings": self.choice.settings,
            "training": self.choice.training.model_dump(mode="json"),
            "evaluation": self.evaluation.model_dump(mode="json"),
            "features": {name: features.encoder for name, features in sorted(self.inputs.features.items())},
            "encoding": config.load_features(self.inputs.dataset).model_dump(mode="json"),
            "data": config.load_dataset(self.inputs.dataset).model_dump(mode="json"),
        }
        if "tokenizer" in self.choice.settings:
            shared = config.load_tokenizer(self.inputs.dataset)
            values["tokenizer"] = config.merge(shared, self.choice.settings["tokenizer"])
        return values

    def training_curves(self, fit: Fit) -> Figure:
        """Losses and validation by epoch."""
        from motorec.reporting import figures
        from motorec.reporting.runs import full_title

        dataset, model = self.inputs.dataset, self.choice.name
        history = fit.history.rename(columns={"valid": f"valid/{self.choice.training.metric}"})
        history = history.assign(model=model, title=full_title(model, dataset), seed=self.inputs.seed)
        return figures.training(history, f"{config.load_dataset(dataset).title}, seed {self.inputs.seed}")

    def save(
        self,
        model: Recommender,
        fit: Fit | None,
        results: dict[str, Evaluation],
        figures: Mapping[str, Figure] | None = None,
    ) -> dict[str, float]:
        """Write metrics and places of the test targets for git, weights, losses and figures for DVC; each folder whole.

        Returns:
            The metrics as written, by name.
        """
        from motorec.reporting.figures import save as save_figure
        from motorec.tokenizer.health import for_json

        where = (self.inputs.dataset, self.choice.name, self.inputs.seed)
        found = {name: value for result in results.values() for name, value in result.means.items()}
        metrics = {name: round(value, 6) for name, value in (found | self.attention(model)).items()}
        with paths.whole_folder(paths.run_data(*where)) as folder:
            (folder / "settings.json").write_text(_json(self.settings()), encoding="utf-8")
            history = fit.history if fit is not None else pd.DataFrame(columns=["epoch"])
            validated = history.rename(columns={"valid": f"valid/{self.choice.training.metric}"})
            validated.to_csv(folder / "history.csv", index=False, float_format="%.6g")
            tokens = self.token_health(model)
            if tokens:
                (folder / "tokens.json").write_text(_json(for_json(tokens)), encoding="utf-8")
            for name, figure in (figures or {}).items():
                save_figure(figure, folder / f"{name}.png")
            if isinstance(model, torch.nn.Module):
                weights = {name: value.contiguous() for name, value in model.state_dict().items()}
                save_file(weights, folder / "model.safetensors")
        with paths.whole_folder(paths.run_results(*where)) as folder:
            (folder / "metrics.json").write_text(_json(dict(sorted(metrics.items()))), encoding="utf-8")
            np.save(folder / paths.PLACES, results["test"].places)
        # Kilobytes on Linux, bytes on macOS.
        self.cost["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )
        timing = paths.timings() / where[0] / where[1] / f"{where[2]}.json"
        paths.write_whole(timing, _json({name: round(value, 4) for name, value in self.cost.items()}))
        return metrics

    def _fingerprint(self) -> str:
        """What the training depends on, for its checkpoint."""
        # Validation is in it, since the best epoch so far was chosen by it.
        interactions = self.dataset.interactions.to_csv(index=False)
        vectors = [features.matrix.tobytes() for features in self.inputs.features.values()]
        return fingerprint(_json(self.settings()), interactions, *vectors)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
