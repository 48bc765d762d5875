"""Features: one vector per item and modality, from its text and its picture (stage 02)."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32

from motorec import paths
from motorec.config import EncoderSettings, FeatureSettings, InterSettings, load_dataset, load_features
from motorec.data import Dataset, published_features
from motorec.data.raw import some
from motorec.errors import DataError

__all__ = ["MODALITIES", "Features", "Modality", "extract", "load_all", "require_content", "save_all"]

Modality = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = ("text", "image")

PUBLISHED = "published"  # what stands for the encoder's name where the features came with the data
REMEDY = "Run the features stage first (notebook 02_features, or `dvc repro`)."
Rows = tuple[Modality, str, np.ndarray, np.ndarray]  # modality, encoder, matrix, present


@dataclass(frozen=True)
class Features:
    """The vectors of one modality.

    Attributes:
        modality: "text" or "image".
        encoder: The encoder's name, for tables.
        matrix: One row per item, in the data set's order; zeros where the item lacks the modality.
        present: Which items have the modality.
    """

    modality: str
    encoder: str
    matrix: Float32[np.ndarray, "items width"]
    present: Bool[np.ndarray, " items"]

    def save(self, folder: Path) -> None:
        """Write `folder/<modality>.npz`, whole or not at all; the same features give the same bytes."""
        stream = io.BytesIO()
        np.savez(stream, matrix=self.matrix, present=self.present, encoder=np.array(self.encoder))
        paths.write_whole(folder / f"{self.modality}.npz", stream.getvalue())

    @classmethod
    def load(cls, folder: Path, modality: Modality) -> Features:
        """Read what `save` wrote.

        Raises:
            DataError: There is no such file.
        """
        file = folder / f"{modality}.npz"
        if not file.is_file():
            raise DataError(f"{paths.shown(file)} is missing. {REMEDY}")
        with np.load(file) as saved:
            return cls(modality, str(saved["encoder"]), saved["matrix"], saved["present"])


def extract(dataset: Dataset) -> dict[str, Features]:
    """The features of a data set, by the encoders that `params/features.yaml` names, or as published with the data.

    Shows progress and, interrupted, continues where it was. A data set with neither text nor picture gives an empty
    mapping: models that need content will say so.

    Returns:
        The features of each modality that at least one item has.

    Raises:
        ParamsError: An encoder does not exist or does not fit.
        DataError: A picture cannot be read, or the vectors are of no use: not finite, or all the same.
        MotorecError: A bundled encoder is not there.
    """
    settings = load_features(dataset.name)
    source = load_dataset(dataset.name)
    scratch = paths.checkpoints("features", dataset.name)
    ids = dataset.items["item_id"].tolist()
    found: dict[str, Features] = {}
    rows = _published(source, dataset) if isinstance(source, InterSettings) else _encoded(settings, dataset, scratch)
    for modality, encoder, matrix, present in rows:
        if present.any():
            normalise = getattr(settings, modality).normalise
            found[modality] = make_features(modality, encoder, matrix, present, ids, normalise=normalise)
    shutil.rmtree(scratch, ignore_errors=True)
    return found


def _published(source: InterSettings, dataset: Dataset) -> Iterator[Rows]:
    """The features that came with the data; a row of zeros is how their files say that an item has none."""
    published = published_features(source, dataset)
    for modality in MODALITIES:
        if modality in published:
            matrix = published[modality]
            yield modality, PUBLISHED, matrix, np.any(matrix != 0, axis=1)


def _encoded(settings: FeatureSettings, dataset: Dataset, scratch: Path) -> Iterator[Rows]:
    """The features that encoders make of texts and pictures."""
    from motorec.features.encode import encode, label  # here, since it imports this module

    place = paths.raw(dataset.name)
    for modality in MODALITIES:
        chosen: EncoderSettings = getattr(settings, modality)
        values = dataset.items[modality].tolist()
        present = np.array([value != "" for value in values], dtype=bool)
        if present.any():
            inputs = [place / value if modality == "image" else value for value in values if value]
            vectors = encode(inputs, chosen, modality, scratch / modality, settings.chunk)
            matrix = np.zeros((len(values), vectors.shape[1]), dtype=np.float32)
            matrix[present] = vectors
            yield modality, label(chosen.encoder, modality), matrix, present


def make_features(
    modality: Modality,
    encoder: str,
    matrix: Float[np.ndarray, "items width"],
    present: Bool[np.ndarray, " items"],
    ids: Sequence[str],
    *,
    normalise: bool,
) -> Features:
    """Check vectors, and scale them to unit length if asked to.

    Args:
        modality: What they describe.
        encoder: The encoder's name.
        matrix: One row per item.
        present: Which items have the modality; the other rows become zeros.
        ids: The items' own ids, for messages.
        normalise: Scale every row to unit length.

    Raises:
        DataError: A value is not finite, or the items' vectors do not differ.
    """
    where = f"the {modality} features of {encoder}"
    mend = "Put the file there that was published with the data."
    if encoder != PUBLISHED:
        mend = f"Look at the {modality} of these items, or name another {modality}.encoder in params/features.yaml."
    broken = present & ~np.isfinite(matrix).all(axis=1)
    if broken.any():
        raise DataError(
            f"{where}: values that are no finite numbers for {broken.sum()} of {present.sum()} items: "
            f"{some(np.asarray(ids)[broken])}. {mend}"
        )
    matrix = np.where(present[:, None], matrix, 0.0).astype(np.float32)
    rows = matrix[present]
    if len(rows) > 1 and (np.ptp(rows, axis=0) <= 1e-6 * np.abs(rows).max()).all():
        raise DataError(
            f"{where}: all {len(rows)} items have the same vector, so that it tells nothing about them: "
            f"{some(np.asarray(ids)[present])}. {mend}"
        )
    if normalise:
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        matrix = matrix / np.where(lengths > 0, lengths, 1.0)
    return Features(modality, encoder, matrix, present)


def save_all(name: str, features: Mapping[str, Features]) -> None:
    """Write the features of a data set, all or none; modalities that it had before are removed."""
    with paths.whole_folder(paths.features(name)) as scratch:
        for one in features.values():
            one.save(scratch)


def load_all(name: str) -> dict[str, Features]:
    """Read what `save_all` wrote, in the order of `MODALITIES`.

    Raises:
        DataError: The features stage has not run.
    """
    folder = paths.features(name)
    if not folder.is_dir():
        raise DataError(f"{paths.shown(folder)} is missing. {REMEDY}")
    return {
        modality: Features.load(folder, modality) for modality in MODALITIES if (folder / f"{modality}.npz").is_file()
    }


def require_content(features: dict[str, Features], dataset: str) -> dict[str, Features]:
    """The features as they are, if there are any.

    Raises:
        DataError: The data set has neither text nor pictures, so there is nothing to tokenize.
    """
    if not features:
        raise DataError(
            f"{dataset}: the items have neither text nor pictures, so there is nothing to tokenize. Add some (or, for "
            f"an .inter data set, text_feat.npy or image_feat.npy at {paths.shown(paths.raw(dataset))}/), or leave the "
            "data set to models that need none: empty `token_models` in params/run.yaml."
        )
    return features
