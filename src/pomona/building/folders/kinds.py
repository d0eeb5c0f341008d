"""What a folder is, and what its files say: graph, preprocessing, and how tokens become a vector.

A folder of Hugging Face has `config.json` with `model_type`, and `onnx/vision_model.onnx` or
`onnx/model.onnx`. A folder of Immich has `visual/model.onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.building.file_digest import graph_in
from pomona.building.folders.processors import processor_settings
from pomona.building.folders.reading import check_keys, inside, read_json
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["NetworkFolder", "is_network_folder", "read_folder"]

_IMMICH_KEYS = {
    *("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"),
}


@dataclass(frozen=True, slots=True)
class NetworkFolder:
    """The network in a folder.

    Attributes:
        kind: the publisher's name for such folders, for the fingerprint.
        graph: the ONNX file.
        settings: of its preprocessing, and its convention for tokens.
        is_projected: whether only `image_embeds` is the vector that its authors compare.
        has_pooler: whether `pooler_output` has trained weights.
    """

    kind: str
    graph: Path
    settings: NetworkSettings
    is_projected: bool = False
    has_pooler: bool = True


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
    return (path / "config.json").is_file() or (path / "visual").is_dir()


def read_folder(path: Path) -> NetworkFolder:
    """Return the network in a folder.

    Raises:
        EncoderError: a file is missing, damaged, or says something that Pomona does not know.
    """
    if (path / "visual").is_dir():
        return _immich(path)
    config = read_json(path, "config.json")
    if "pretrained_cfg" in config or "architecture" in config:
        raise EncoderError(
            f"{path} is a folder of timm, which has weights but no graph: export it to ONNX with "
            "timm's onnx_export.py, and give the .onnx file with its preprocessing as options"
        )
    if not isinstance(config.get("model_type"), str):
        raise EncoderError(
            f"{path / 'config.json'} has no model_type: expected a folder of Hugging Face or Immich"
        )
    return _hugging_face(path, config)


def _hugging_face(path: Path, config: Mapping[str, Any]) -> NetworkFolder:
    kind = str(config["model_type"])
    graph = graph_in(path)
    if graph is None:
        raise EncoderError(
            f"{path} has no graph: expected onnx/model.onnx or onnx/vision_model.onnx; export the "
            "network to ONNX with Hugging Face's optimum"
        )
    inside(path, str(graph.relative_to(path)))
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
    check_keys(data, _IMMICH_KEYS, str(path / name))
    try:
        settings = _open_clip_settings(data)
    except (KeyError, TypeError, ValueError, EncoderError) as error:
        raise EncoderError(f"{path / name}: {error}") from error
    return NetworkFolder("Immich", graph, settings)


def _open_clip_settings(data: Mapping[str, Any]) -> NetworkSettings:
    """Return the settings of open_clip's `PreprocessCfg`."""
    if data.get("mode", "RGB") != "RGB":
        raise ValueError(f"mode is {data['mode']!r}, expected RGB")
    level = data.get("fill_color", 0)
    return NetworkSettings(
        layout="NCHW",
        size=data["size"],
        resize=data.get("interpolation", "bicubic"),
        resize_mode=data.get("resize_mode", "shortest"),
        fill=(level, level, level),
        scale=1 / 255,
        mean=data["mean"],
        std=data["std"],
    )
