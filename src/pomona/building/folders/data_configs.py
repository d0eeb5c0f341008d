"""Preprocessing in the files of timm, open_clip and Immich -> settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pomona.building.folders.reading import check_keys
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["OPEN_CLIP_DEFAULTS", "open_clip_settings", "timm_settings"]

_OPEN_CLIP_KEYS = {
    *("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"),
}
OPEN_CLIP_DEFAULTS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
"""What a folder of OpenCLIP means by a missing key."""

_TIMM_KEYS = {
    *("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std"),
    # These change no pixel: sources, sizes for other purposes, and the classifier.
    *("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag"),
    *("custom_load", "test_input_size", "min_input_size", "fixed_input_size", "test_crop_pct"),
    *("num_classes", "label_offset", "label_names", "label_descriptions", "pool_size"),
    *("test_pool_size", "first_conv", "classifier", "license", "description", "origin_url"),
    *("paper_name", "paper_ids", "notes", "num_features", "global_pool", "labels", "model_args"),
}
_TIMM_MODES = {"center": "shortest", "squash": "squash", "border": "longest"}


def timm_settings(config: Mapping[str, Any], file: Path) -> NetworkSettings:
    """Return the settings in the config.json of timm, with timm's defaults for missing keys.

    Args:
        config: its content. Old files have the keys of `pretrained_cfg` at the top.
        file: its name, for errors.

    Raises:
        EncoderError: a key or a value is unknown.
    """
    data = config.get("pretrained_cfg", config)
    if not isinstance(data, dict):
        raise EncoderError(f"{file} has the pretrained_cfg {data!r:.40}, expected a JSON object")
    check_keys(data, _TIMM_KEYS, str(file))
    try:
        return _timm_settings({k: v for k, v in data.items() if v is not None}, config)
    except (AttributeError, LookupError, TypeError, ValueError, EncoderError) as error:
        raise EncoderError(f"{file}: {error}") from error


def _timm_settings(data: Mapping[str, Any], config: Mapping[str, Any]) -> NetworkSettings:
    channels, height, width = data.get("input_size", (3, 224, 224))
    arguments = config.get("model_args") or {}
    if channels != 3 or arguments.get("in_chans", 3) != 3:
        raise ValueError(f"input_size is {data['input_size']}, expected 3 channels")
    asked = NetworkSettings(size=arguments.get("img_size")).size or (height, width)
    if asked != (height, width):
        raise ValueError(
            f"img_size in model_args is {asked} and input_size is {(height, width)}, which "
            "contradict each other"
        )
    mode = data.get("crop_mode", "center")
    if mode not in _TIMM_MODES:
        raise ValueError(f"crop_mode is {mode!r}, expected {', '.join(_TIMM_MODES)}")
    mean = data.get("mean", (0.485, 0.456, 0.406))
    return NetworkSettings(
        layout="NCHW",
        size=(height, width),
        resize=data.get("interpolation", "bicubic"),
        resize_mode=_TIMM_MODES[mode],
        crop_pct=data.get("crop_pct", 0.875),
        fill=_colour(mean) if mode == "border" else None,
        scale=1 / 255,
        mean=mean,
        std=data.get("std", (0.229, 0.224, 0.225)),
    )


def _colour(mean: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue


def open_clip_settings(data: Mapping[str, Any], file: Path) -> NetworkSettings:
    """Return the settings of open_clip's `PreprocessCfg`.

    Args:
        data: its JSON object.
        file: the name of the file, for errors.

    Raises:
        EncoderError: a key or a value is unknown.
    """
    check_keys(data, _OPEN_CLIP_KEYS, str(file))
    try:
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
    except (KeyError, TypeError, ValueError, EncoderError) as error:
        raise EncoderError(f"{file}: {error}") from error
