"""Image processors of transformers -> settings.

Their files are `preprocessor_config.json`, or the part `image_processor` of `processor_config.json`
since transformers 5. A missing key has the default of the class. Pixels are those of the processors
on Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.building.folders.reading import check_keys, read_json
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["processor_settings"]

_NAME = "preprocessor_config.json"
_HARMLESS = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb"),
    *("_valid_processor_keys", "return_tensors", "data_format", "input_data_format", "device"),
    *("disable_grouping", "default_to_square", "image_seq_length"),
}
_PIXELS = {
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale"),
    *("rescale_factor", "do_normalize", "image_mean", "image_std", "do_pad", "pad_size"),
    *("do_flip_channel_order", "rescale_offset", "include_top"),
}
_FILTERS = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_CONVNEXT_SQUASHES_FROM = 384  # pixels

_SQUARE_224 = {"height": 224, "width": 224}


@dataclass(frozen=True, slots=True)
class _Defaults:
    """The defaults of a class of image processors, in transformers 5."""

    size: Mapping[str, int]
    resample: int
    arithmetic: tuple[tuple[float, ...], tuple[float, ...]]
    crops: bool = False
    crop_size: Mapping[str, int] | None = None


_CLASSES = {
    "BitImageProcessor": _Defaults({"shortest_edge": 224}, 3, _CLIP, True, _SQUARE_224),
    "CLIPImageProcessor": _Defaults({"shortest_edge": 224}, 3, _CLIP, True, _SQUARE_224),
    "ConvNextImageProcessor": _Defaults({"shortest_edge": 384}, 3, _IMAGENET),
    "DeiTImageProcessor": _Defaults({"height": 256, "width": 256}, 3, _HALF, True, _SQUARE_224),
    "DINOv3ViTImageProcessor": _Defaults(_SQUARE_224, 2, _IMAGENET),
    "EfficientNetImageProcessor": _Defaults({"height": 346, "width": 346}, 3, _HALF),
    "SiglipImageProcessor": _Defaults(_SQUARE_224, 3, _HALF),
    "ViTImageProcessor": _Defaults(_SQUARE_224, 2, _HALF),
}


def processor_settings(folder: Path) -> NetworkSettings:
    """Return the settings of the image processor in a folder.

    Raises:
        EncoderError: there is none, or it is of an unknown class or has an unknown key.
    """
    data = read_json(folder, _NAME)
    file = str(folder / _NAME)
    if not data:
        file = str(folder / "processor_config.json")
        data = read_json(folder, "processor_config.json").get("image_processor", {})
    if not isinstance(data, dict) or not data:
        raise EncoderError(
            f"{folder} has neither {_NAME} nor an image_processor in processor_config.json: copy "
            "the file from where the network was published"
        )
    if "auto_map" in data:
        raise EncoderError(
            f"{file} needs custom code (auto_map), which Pomona does not run: build the encoder "
            "from the .onnx file, and give its preprocessing as options"
        )
    name = str(data.get("image_processor_type") or data.get("feature_extractor_type") or "")
    kind = name.replace("FeatureExtractor", "ImageProcessor")
    kind = kind.removesuffix("Fast").removesuffix("Pil")
    if kind not in _CLASSES:
        raise EncoderError(
            f"{file} is for {name or 'an unnamed class'}, expected one of "
            f"{', '.join(sorted(_CLASSES))}: build the encoder from the .onnx file, and give its "
            "preprocessing as options"
        )
    check_keys(data, _HARMLESS | _PIXELS, file)
    try:
        return _settings(kind, _CLASSES[kind], data)
    except (AttributeError, LookupError, TypeError, ValueError, EncoderError) as error:
        raise EncoderError(f"{file}: {error}") from error


def _settings(kind: str, defaults: _Defaults, data: Mapping[str, Any]) -> NetworkSettings:
    if not data.get("do_resize", True) or data.get("do_pad"):
        raise ValueError("the size of its images is not fixed (do_resize false or do_pad true)")
    resample = data.get("resample", defaults.resample)
    geometry = _geometry(kind, defaults, data)
    return NetworkSettings(
        resize=_FILTERS[resample],
        centring="floor",
        pixel_type="float32" if kind == "DINOv3ViTImageProcessor" else None,
        channel_order="BGR" if data.get("do_flip_channel_order") else None,
        **geometry,
        **_arithmetic(kind, defaults, data),
    )


def _geometry(kind: str, defaults: _Defaults, data: Mapping[str, Any]) -> dict[str, Any]:
    size: Any = data.get("size", defaults.size)
    resized: Any
    crops = data.get("do_center_crop", defaults.crops)
    if isinstance(size, int):  # until transformers 4.24
        shortest = "shortest_edge" in defaults.size
        size = {"shortest_edge": size} if shortest else {"height": size, "width": size}
    edge = size.get("shortest_edge")
    if kind == "ConvNextImageProcessor":
        if edge >= _CONVNEXT_SQUASHES_FROM:
            return {"size": edge, "resize_mode": "squash"}
        resized = int(edge / data.get("crop_pct", 224 / 256))
        return {"size": edge, "resize_mode": "shortest", "resize_size": resized}
    if set(size) == {"shortest_edge"}:
        mode, resized = "shortest", edge
    elif set(size) == {"height", "width"}:
        mode, resized = "squash", (size["height"], size["width"])
    else:
        raise ValueError(f"size is {size}, expected shortest_edge, or height and width")
    if not crops:
        if mode == "shortest":
            raise ValueError("do_center_crop is false, so that images have different shapes")
        return {"size": resized, "resize_mode": mode}
    crop = data.get("crop_size", defaults.crop_size)
    crop = (crop["height"], crop["width"]) if isinstance(crop, Mapping) else crop
    return {"size": crop, "resize_mode": mode, "resize_size": resized}


def _arithmetic(kind: str, defaults: _Defaults, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return scale, mean and std of (pixel * scale - mean) / std."""
    scale = data.get("rescale_factor", 1 / 255) if data.get("do_rescale", True) else 1.0
    mean = list(data.get("image_mean", defaults.arithmetic[0]))
    std = list(data.get("image_std", defaults.arithmetic[1]))
    if not data.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    if kind == "EfficientNetImageProcessor":
        if data.get("rescale_offset", False):  # pixel * scale - 1, before the mean
            mean = [value + 1 for value in mean]
        if data.get("include_top", True):  # divided by std a second time
            std = [a * b for a, b in zip(std, data.get("image_std", _HALF[1]), strict=True)]
    return {"scale": scale, "mean": tuple(mean), "std": tuple(std)}
