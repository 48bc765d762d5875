"""Texts and pictures to vectors by sentence-transformers, in parts that survive an interruption."""

from __future__ import annotations

import difflib
import functools
import hashlib
import io
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float32
from PIL import Image

from motorec import paths
from motorec.config import EncoderSettings
from motorec.errors import DataError, ParamsError
from motorec.features import Modality
from motorec.features.bundled import PACKAGES, bundled
from motorec.progress import progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Input = TypeVar("Input")


def encode(
    inputs: Sequence[str | Path], settings: EncoderSettings, modality: Modality, scratch: Path, chunk: int
) -> Float32[np.ndarray, "n d"]:
    """Encode texts, or the pictures in files.

    An interrupted call that is made again continues, and gives the same bytes as one that was not. The same holds for
    the next call with the same inputs, until the caller removes `scratch`.

    Args:
        inputs: Texts for "text", files of pictures for "image"; at least one.
        settings: Which encoder, and how many inputs at a time; `normalise` is left to the caller.
        modality: What the inputs are.
        scratch: Folder for finished parts.
        chunk: Inputs in a part.

    Raises:
        ParamsError: There is no such encoder, or it cannot read this modality.
        DataError: A picture cannot be read.
        MotorecError: The bundled encoder is not there.
    """
    source = locate(settings.encoder, modality)
    device = _device()
    load = functools.cache(lambda: load_encoder(source, modality, device))  # not needed where every part is there

    def embed(batch: list[str | Path]) -> Float32[np.ndarray, "b d"]:
        ready = [_open(item) if isinstance(item, Path) else item for item in batch]
        vectors = load().encode(ready, batch_size=len(ready), show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    # Texts of a length together: less padding. The sort is stable, so a batch depends on the inputs alone.
    lengths = [len(item) if isinstance(item, str) else 0 for item in inputs]
    order = sorted(range(len(inputs)), key=lambda index: -lengths[index])
    what = f"encoding {'texts' if modality == 'text' else 'pictures'}"
    key = fingerprint(inputs, source, device, settings.batch_size, chunk)
    ordered = [inputs[index] for index in order]
    vectors = embed_in_parts(ordered, embed, settings.batch_size, chunk, scratch, key, what)
    matrix = np.empty_like(vectors)
    matrix[order] = vectors
    return matrix


def embed_in_parts(
    inputs: Sequence[Input],
    embed: Callable[[list[Input]], Float32[np.ndarray, "b d"]],
    batch_size: int,
    chunk: int,
    scratch: Path,
    key: str,
    what: str,
) -> Float32[np.ndarray, "n d"]:
    """Embed batch by batch, and keep every `chunk` inputs a part that is not made again.

    Batches lie at fixed places, wherever an earlier call was interrupted.

    Args:
        inputs: What to embed; at least one.
        embed: Gives a batch's vectors.
        batch_size: Inputs in a batch; the last of a part may be smaller.
        chunk: Inputs in a part.
        scratch: Folder of the parts.
        key: Says what the parts were made from; parts with another key are dropped.
        what: A few words for the progress bar.
    """
    note = scratch / "made_from.txt"
    if not note.is_file() or note.read_text(encoding="utf-8") != key:
        shutil.rmtree(scratch, ignore_errors=True)
        paths.write_whole(note, key)
    parts = {scratch / f"{start:09d}.npy": inputs[start : start + chunk] for start in range(0, len(inputs), chunk)}
    done = sum(len(part) for file, part in parts.items() if file.is_file())
    with progress(inputs, what, start=done) as bar:
        for file, part in parts.items():
            if file.is_file():
                continue
            rows = []
            for start in range(0, len(part), batch_size):
                batch = list(part[start : start + batch_size])
                rows.append(embed(batch))
                bar.update(len(batch))
            stream = io.BytesIO()
            np.save(stream, np.concatenate(rows))
            paths.write_whole(file, stream.getvalue())
    return np.concatenate([np.load(file) for file in parts])


def fingerprint(inputs: Sequence[str | Path], source: Path | str, *settings: str | int) -> str:
    """A digest of all that decides the vectors: texts and pictures by content, a folder's encoder by its files.

    Raises:
        DataError: A picture cannot be read.
    """
    digest = hashlib.sha256()
    files = sorted(file for file in source.rglob("*") if file.is_file()) if isinstance(source, Path) else [source]
    for part in (*settings, len(files), *files, *inputs):
        if isinstance(part, Path):
            try:
                with part.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").digest()
            except OSError as error:
                raise _unreadable(part, error) from None
        else:
            content = hashlib.sha256(str(part).encode()).digest()
        digest.update(content)
    return digest.hexdigest()


def locate(name: str, modality: Modality) -> Path | str:
    """Where the encoder that params name is: a folder, or a hub id.

    Args:
        name: `bundled`, a folder (relative to the project's root), or a hub id.
        modality: Which of the bundled ones.

    Raises:
        ParamsError: The name can only be a folder, and there is none; or it is `bundled`, mistyped.
        MotorecError: The bundled encoder is not there.
    """
    if name == "bundled":
        return bundled(modality)
    folder = paths.root() / Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not name or name.startswith((".", "~", "/")) or name.endswith("/") or name.count("/") > 1:
        raise ParamsError(_no_encoder(name, modality, "there is no such folder."))
    if difflib.get_close_matches(name, ["bundled"], cutoff=0.75):  # a hub would be asked for a minute
        raise ParamsError(_no_encoder(name, modality, "there is no such encoder. Did you mean 'bundled'?"))
    return name


def label(name: str, modality: Modality) -> str:
    """What tables call the encoder that params name: never a folder of this machine, only its last name."""
    if name == "bundled":
        return PACKAGES[modality].label
    folder = paths.root() / Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def load_encoder(source: Path | str, modality: Modality, device: str) -> SentenceTransformer:
    """Load an encoder. A folder is read without any network.

    Raises:
        ParamsError: The encoder cannot be loaded, or cannot read this modality.
    """
    name = paths.shown(source) if isinstance(source, Path) else source
    with _quiet_loading():
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(
                str(source),
                device=device,
                local_files_only=isinstance(source, Path),
                # The library's other way to prepare pictures needs torchvision.
                processor_kwargs={"backend": "pil"} if modality == "image" else None,
            )
        except Exception as error:  # the libraries raise many kinds: no such repository, no network, a bad config, ...
            reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            raise ParamsError(_no_encoder(name, modality, f"it cannot be loaded: {reason}.")) from error
    if not model.supports(modality):
        reads = ", ".join(str(known) for known in model.modalities)
        raise ParamsError(_no_encoder(name, modality, f"it reads {reads} and no {modality}."))
    import torch

    # Convolutions are a quarter faster in this layout on a CPU; other layers do not notice.
    return model.to(memory_format=torch.channels_last)


def _no_encoder(name: str, modality: Modality, reason: str) -> str:
    return (
        f"params/features.yaml: {modality}.encoder is {name!r}, and {reason} Give 'bundled', a folder "
        "(relative to the project's root) that sentence-transformers can read, or a hub id that can be reached."
    )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _open(file: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Palette images with Transparency", UserWarning)
            with Image.open(file) as picture:
                return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises errors of many kinds on a broken file
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return DataError(
        f"{paths.shown(file)}: not readable: {reason}. It was when the data set was checked: put it back, or run the "
        "data stage again."
    )


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without the bar that transformers shows while it reads weights: loading takes a second, encoding has a bar."""
    from transformers.utils import logging

    shown: Any = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
