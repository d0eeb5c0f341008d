"""What a folder is, and what its files say: graph, preprocessing, and how tokens become a vector.

A folder of Hugging Face has `config.json` with `model_type`, and one of timm has `config.json` with
`architecture`. Both have `onnx/vision_model.onnx` or `onnx/model.onnx`, or else the weights of
PyTorch, `model.safetensors`. A folder of OpenCLIP has `open_clip_config.json` and
`open_clip_model.safetensors`. A folder of Immich has `visual/model.onnx`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pomona.building.file_digest import graph_in, weights_in
from pomona.building.folders.data_configs import (
    OPEN_CLIP_DEFAULTS,
    open_clip_settings,
    timm_settings,
)
from pomona.building.folders.processors import processor_settings
from pomona.building.folders.reading import inside, read_json
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["NetworkFolder", "is_network_folder", "read_folder"]


@dataclass(frozen=True, slots=True)
class NetworkFolder:
    """The network in a folder.

    Attributes:
        kind: the publisher's name for such folders, for the fingerprint.
        graph: the ONNX file, or else the first file of weights.
        settings: of its preprocessing, and its convention for tokens.
        is_projected: whether only `image_embeds` is the vector that its authors compare.
        has_pooler: whether `pooler_output` has trained weights.
        library: module of the library that makes the network of the weights; empty for a graph.
        config: the content of the JSON file that describes the network.
    """

    kind: str
    graph: Path
    settings: NetworkSettings
    is_projected: bool = False
    has_pooler: bool = True
    library: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


# How transformers' models make `pooler_output` of `last_hidden_state`, by `model_type`.
_POOLS = {
    "deit": "cls",
    "dinov2": "cls",
    "dinov2_with_registers": "cls",
    "dinov3_vit": "cls",
    "efficientnet": "mean",
    "resnet": "mean",
    "swin": "mean",
    "vit": "cls",
}
# Their pooler is a dense layer that was never trained: the class token is used.
_WITHOUT_POOLER = {"deit", "vit"}
_NO_CLASS_TOKEN = {"efficientnet", "resnet", "swin", "siglip", "siglip_vision_model"}


def is_network_folder(path: Path) -> bool:
    """Return whether a folder holds a network that `read_folder` reads."""
    names = ("config.json", "open_clip_config.json")
    return (path / "visual").is_dir() or any((path / name).is_file() for name in names)


def read_folder(path: Path) -> NetworkFolder:
    """Return the network in a folder.

    Raises:
        EncoderError: a file is missing, damaged, or says something that Pomona does not know.
    """
    if (path / "visual").is_dir():
        return _immich(path)
    graph = graph_in(path)
    files = [graph] if graph else weights_in(path)
    if not files:
        raise EncoderError(
            f"{path} has neither a graph nor weights: expected onnx/model.onnx, "
            "onnx/vision_model.onnx or model.safetensors; copy the whole folder"
        )
    for file in files:
        inside(path, str(file.relative_to(path)))
    if files[0].name.startswith("open_clip"):
        return _open_clip(path, files[0])
    config = read_json(path, "config.json")
    if "pretrained_cfg" in config or "architecture" in config:
        folder = _timm(path, files[0], config)
    elif isinstance(config.get("model_type"), str):
        folder = _hugging_face(path, files[0], config)
    else:
        raise EncoderError(
            f"{path / 'config.json'} has no model_type: expected a folder of Hugging Face, timm, "
            "OpenCLIP or Immich"
        )
    if graph:
        return replace(folder, library="")
    _check_description(path / "config.json", config)
    _check_shards(files)
    return folder


def _check_description(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse a network that transformers does not make of its own code and these weights alone."""
    if "auto_map" in config:
        raise EncoderError(
            f"{file} needs custom code (auto_map), which Pomona does not run: export the network "
            "to ONNX"
        )
    adapter = file.with_name("adapter_config.json")
    if config.get("backbone") is not None or adapter.exists():
        where = adapter if adapter.exists() else file
        raise EncoderError(
            f"{where} names another network, whose weights are not in the folder: export the whole "
            "network to ONNX"
        )
    if "quantization_config" in config:
        raise EncoderError(
            f"{file} describes quantized weights (quantization_config), which Pomona does not "
            "read: give the original weights, or export the network to ONNX"
        )


def _check_shards(files: list[Path]) -> None:
    """Refuse a list of files, the first one, that names others than those next to it."""
    index = files[0]
    if index.suffix != ".json":
        return
    names = read_json(index.parent, index.name).get("weight_map")
    found = {file.name for file in files[1:]}
    wanted = set(map(str, names.values())) if isinstance(names, dict) else set()
    if not wanted or wanted - found:
        absent = min(wanted - found, default="no files")
        raise EncoderError(
            f"{index} names {absent[:80]}, expected files such as "
            "model-00001-of-00002.safetensors next to it: copy the whole folder"
        )


def _hugging_face(path: Path, graph: Path, config: Mapping[str, Any]) -> NetworkFolder:
    kind = str(config["model_type"])
    settings = processor_settings(path)
    prefix = 0 if kind in _NO_CLASS_TOKEN else 1 + _registers(config, path)
    return NetworkFolder(
        kind=f"Hugging Face {kind}",
        graph=graph,
        settings=settings.over(
            NetworkSettings(pool=_POOLS.get(kind), prefix_tokens=prefix, layout="NCHW")
        ),
        is_projected=kind in {"clip", "clip_vision_model"},
        has_pooler=kind not in _WITHOUT_POOLER,
        library="transformers",
        config=config,
    )


def _registers(config: Mapping[str, Any], path: Path) -> int:
    count = config.get("num_register_tokens", 0)
    if type(count) is not int or not 0 <= count <= 1024:
        raise EncoderError(
            f"{path / 'config.json'} has num_register_tokens {count!r:.40}, expected a small number"
        )
    return count


def _immich(path: Path) -> NetworkFolder:
    graph = inside(path, "visual/model.onnx")
    if not graph.is_file():
        raise EncoderError(f"{path} has no visual/model.onnx: copy the whole folder")
    name = "visual/preprocess_cfg.json"
    data = read_json(path, name)
    if not data:
        raise EncoderError(f"{path} has no {name}: copy the whole folder")
    return NetworkFolder("Immich", graph, open_clip_settings(data, path / name))


_NAME = re.compile(r"\w[\w.-]*")  # others, as "hf-hub:acme/net", name places of networks


def _timm(path: Path, graph: Path, config: Mapping[str, Any]) -> NetworkFolder:
    file, name = path / "config.json", config.get("architecture")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise EncoderError(f"{file} has architecture {name!r:.80}, expected a network's name")
    return NetworkFolder(
        kind=f"timm {name}",
        graph=graph,
        settings=timm_settings(config, file),
        library="timm",
        config=config,
    )


def _open_clip(path: Path, weights: Path) -> NetworkFolder:
    name = "open_clip_config.json"
    config, file = read_json(path, name), path / name
    model, pixels = config.get("model_cfg"), config.get("preprocess_cfg", {})
    if not isinstance(model, dict) or not isinstance(pixels, dict):
        raise EncoderError(f"{path} has no {name} with a model_cfg: copy the whole folder")
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise EncoderError(f"{file} has no vision_cfg or no text_cfg: copy the whole folder")
    tower = vision.get("timm_model_name")
    if tower is not None and not (isinstance(tower, str) and _NAME.fullmatch(tower)):
        raise EncoderError(f"{file} has timm_model_name {tower!r:.80}, expected a network's name")
    if (other := text.get("hf_model_name")) is not None:
        raise EncoderError(
            f"{file} needs {other!r:.80} of Hugging Face for texts, which is not in the folder: "
            "export the image part to ONNX, and give the .onnx file"
        )
    said = {key: value for key, value in pixels.items() if value is not None}
    settings = open_clip_settings(
        {"size": vision.get("image_size", 224), **OPEN_CLIP_DEFAULTS, **said}, file
    )
    own = NetworkSettings(size=vision.get("image_size", 224)).size
    if settings.size != own:
        raise EncoderError(
            f"{file} has the size {settings.size} in preprocess_cfg and {own} in vision_cfg, which "
            "contradict each other: correct the file"
        )
    return NetworkFolder(
        kind="OpenCLIP",
        graph=weights,
        settings=settings,
        library="open_clip",
        config=config,
    )
