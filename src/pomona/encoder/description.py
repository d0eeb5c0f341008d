"""The preprocessing in words, for provenance and for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pomona.encoder.preprocessing import Preprocessing

__all__ = ["describe_preprocessing", "pipeline"]

# Mean and standard deviation of pixels 0..1. ImageNet: torchvision's and timm's
# IMAGENET_DEFAULT_MEAN; CLIP: `preprocess` of openai/CLIP.
_KNOWN = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


def describe_preprocessing(preprocessing: Preprocessing) -> dict[str, str]:
    """Return the values that a feature table stores about the preprocessing."""
    steps = _geometry(preprocessing)
    plain = f"resize to {_size((preprocessing.height, preprocessing.width))}"
    is_squash = steps == [f"{plain} ({preprocessing.resize})"]
    return {
        "input_size": f"{preprocessing.height}x{preprocessing.width}",
        "resize": f"{preprocessing.resize}, squash" if is_squash else " -> ".join(steps),
        "channel_order": preprocessing.channel_order
        + (" (luma, before resizing)" if preprocessing.is_grey else ""),
        "mean": ", ".join(f"{value:g}" for value in preprocessing.mean),
        "std": ", ".join(f"{value:g}" for value in preprocessing.std),
    }


def pipeline(preprocessing: Preprocessing) -> str:
    """Return all steps in one line, to compare with the code of the training.

    resize shorter side to 256 (bicubic) -> centre crop 224 -> /255 -> ImageNet mean/std
    """
    order = {"RGB": [], "BGR": ["RGB to BGR"], "grey": ["luma"]}[preprocessing.channel_order]
    before = order if preprocessing.is_grey else []
    after = [] if preprocessing.is_grey else order
    return " -> ".join([*before, *_geometry(preprocessing), *after, *_arithmetic(preprocessing)])


def _geometry(spec: Preprocessing) -> list[str]:
    size = (spec.height, spec.width)
    target = spec.resize_size or size
    steps = []
    if spec.crop_before is not None:
        steps.append(f"centre crop {spec.crop_before:g} of the shorter side, square")
    how = spec.resize if spec.pixel_type == "uint8" else f"{spec.resize}, not rounded"
    is_square = target[0] == target[1]
    if spec.resize_mode == "squash":
        steps.append(f"resize to {_size(target)} ({how})")
    elif spec.resize_mode == "shortest":
        what = "shorter side to" if is_square else "to cover"
        steps.append(f"resize {what} {_size(target)} ({how})")
    else:
        what = "longer side to" if is_square else "to fit into"
        steps.append(f"resize {what} {_size(target)} ({how})")
    rounded = ", rounded down" if spec.centring == "floor" else ""
    if any(a < b for a, b in zip(target, size, strict=True)) or spec.resize_mode == "longest":
        colour = "black" if spec.fill == (0, 0, 0) else "RGB " + ", ".join(map(str, spec.fill))
        steps.append(f"centre crop or pad {_size(size)} ({colour}{rounded})")
    elif spec.resize_mode != "squash" or target != size:
        steps.append(f"centre crop {_size(size)}" + (rounded and f" ({rounded[2:]})"))
    return steps


def _size(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _arithmetic(spec: Preprocessing) -> list[str]:
    for name, (mean, std) in _KNOWN.items():
        if _close(spec.mean, [255 * m for m in mean]) and _close(spec.std, [255 * s for s in std]):
            return ["/255", f"{name} mean/std"]
    if _close(spec.mean, spec.std) and len({*spec.std}) == 1:
        return [f"/{spec.std[0]:g} - 1"]
    steps = []
    if any(spec.mean):
        steps.append(f"- {_numbers(spec.mean)}")
    if any(value != 1 for value in spec.std):
        steps.append(f"/{_numbers(spec.std)}")
    return steps or ["pixels 0..255"]


def _close(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(first, second, strict=True))


def _numbers(values: Sequence[float]) -> str:
    same = len({*values}) == 1
    return f"{values[0]:g}" if same else "(" + ", ".join(f"{v:g}" for v in values) + ")"
