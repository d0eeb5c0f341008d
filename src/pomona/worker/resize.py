"""Resizing, cropping and padding of a picture of any size to a network's input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from pomona.encoder.preprocessing import FILTERS, Preprocessing
from pomona.worker.decode import Picture

if TYPE_CHECKING:
    from pomona.encoder.preprocessing import Pixels

__all__ = ["network_pixels", "resize_to"]

_METHODS = {name: Image.Resampling[name.upper()] for name in FILTERS}
# These decide ties between two pixels by which comes first: the mirrored picture differs.
_LOPSIDED = {Image.Resampling.NEAREST, Image.Resampling.BOX}
_LONGEST = 65_536  # pixels of a side, more than a JPEG can have
_LARGEST = 2**26  # pixels of a resized picture, before it is cropped: 200 MB

_WIDEST_FILTER = 3  # pixels on each side: Lanczos

Size = tuple[int, int]  # height and width, of the upright picture


def network_pixels(picture: Picture, spec: Preprocessing) -> Pixels:
    """Turn a picture upright, and resize, crop and pad it to the network's input.

    The pixels of an upright picture equal those of torchvision's and timm's transforms and of
    transformers' image processors on Pillow, bit for bit (tests/worker/test_pixels.py). Two cases
    differ. A side that those libraries round to 0 pixels becomes 1. A resized picture of more than
    64 million pixels, of which only the centre is used, is computed only there.

    Args:
        picture: of any size.
        spec: the preprocessing; its arithmetic and channel order are not applied.

    Returns:
        (height, width, 3), RGB, of the type `spec.pixel_type` in units 0..255, C-contiguous.
    """
    if spec.is_grey:  # Keras' `color_mode="grayscale"`: 0.299 R + 0.587 G + 0.114 B, rounded
        picture = replace(picture, image=picture.image.convert("L"))
    if spec.crop_before is not None:
        picture = _central_square(picture, spec.crop_before)
    size = spec.height, spec.width
    target = _target_size(_upright_size(picture), spec.resize_size or size, spec.resize_mode)

    def resized(channels: Image.Image) -> Pixels:
        part = replace(picture, image=channels)
        if target[0] * target[1] > _LARGEST:
            return _resized_centre(part, target, size, spec)
        return resize_to(part, *target, spec.resize)

    if spec.pixel_type == "float32":  # Pillow resizes floats of one channel only
        pixels: Pixels = np.dstack([resized(each.convert("F")) for each in picture.image.split()])
    else:
        pixels = resized(picture.image)
    if spec.is_grey:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return pixels if pixels.shape[:2] == size else _centred(pixels, size, spec)


def _upright_size(picture: Picture) -> Size:
    width, height = picture.image.size
    return (width, height) if picture.sideways else (height, width)


def _upright(picture: Picture) -> Picture:
    if picture.orientation is None:
        return picture
    return replace(picture, image=picture.image.transpose(picture.orientation), orientation=None)


def _central_square(picture: Picture, share: float) -> Picture:
    """Crop a square before resizing.

    The rounding is that of `padded_center_crop_size` in TensorFlow's EfficientNet.
    """
    picture = _upright(picture)
    width, height = picture.image.size
    side = max(1, int(share * min(width, height)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    return replace(picture, image=picture.image.crop((left, top, left + side, top + side)))


def _target_size(size: Size, target: Size, mode: str) -> Size:
    """Return height and width of the resized picture, before it is cropped or padded.

    For one shorter side, the longer one is truncated, as by torchvision's `Resize(int)` and by
    transformers. In the other cases both are rounded, as by timm's `ResizeKeepRatio`.
    """
    if mode == "squash":
        return target
    height, width = size
    if mode == "shortest" and target[0] == target[1]:
        short, long = min(size), max(size)
        longer = int(target[0] * long / short)
        return (longer, target[0]) if width <= height else (target[0], longer)
    ratios = height / target[0], width / target[1]
    ratio = min(ratios) if mode == "shortest" else max(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _offset(length: int, wanted: int, centring: str) -> int:
    """Return where a centred window begins along a side; negative if the side is shorter."""
    if centring == "floor":
        return (length - wanted) // 2
    return round((length - wanted) / 2) if length >= wanted else -((wanted - length) // 2)


def _centred(pixels: Pixels, size: Size, spec: Preprocessing) -> Pixels:
    """Crop or pad around the centre."""
    result = np.empty((*size, 3), pixels.dtype)
    result[:] = spec.fill
    into, of = [], []
    for length, wanted in zip(pixels.shape, size, strict=False):
        start = _offset(length, wanted, spec.centring)
        count = min(length, wanted)
        into.append(slice(max(0, -start), max(0, -start) + count))
        of.append(slice(max(0, start), max(0, start) + count))
    result[*into] = pixels[*of]
    return result


def _resized_centre(picture: Picture, target: Size, size: Size, spec: Preprocessing) -> Pixels:
    """Resize only what a centred crop keeps, of a picture that would be extremely long."""
    image = _upright(picture).image
    sides, regions, boxes = [], [], []
    for length, resized, wanted in zip(image.size[::-1], target, size, strict=True):
        scale = length / resized
        start = max(0, _offset(resized, wanted, spec.centring))
        side = min(resized, wanted)
        margin = _WIDEST_FILTER * max(1.0, scale)
        first = max(0, math.floor(start * scale - margin))
        last = min(length, math.ceil((start + side) * scale + margin))
        sides.append(side)
        regions.append((first, last))
        boxes.append((start * scale - first, (start + side) * scale - first))
    (top, bottom), (left, right) = regions
    (y0, y1), (x0, x1) = boxes
    part = image.crop((left, top, right, bottom))
    resized_part = part.resize((sides[1], sides[0]), _METHODS[spec.resize], box=(x0, y0, x1, y1))
    return np.asarray(resized_part)


def resize_to(
    picture: Picture, height: int, width: int, resize: str = "bicubic"
) -> npt.NDArray[np.uint8]:
    """Turn a picture upright and resize it, without cropping.

    The result equals that of turning first and resizing afterwards, to within 1 grey level. Turning
    the small picture instead of the large one takes 69 ms instead of 112 for 12 megapixels.

    Args:
        picture: of any size.
        height: of the result, in pixels.
        width: of the result, in pixels.
        resize: the filter, by the names in `Preprocessing`.

    Returns:
        (height, width, 3) uint8, RGB, C-contiguous, read-only. For an upright picture, it equals
        the result of Pillow's `resize`.
    """
    method = _METHODS[resize]
    image, orientation = _shorten(picture.image), picture.orientation
    if orientation is None:
        return np.asarray(image.resize((width, height), method))
    if method in _LOPSIDED:
        return np.asarray(image.transpose(orientation).resize((width, height), method))
    if picture.sideways:
        # Pillow filters along x, clips to 0..255, and then filters along y. The upright picture's
        # x is y here: filter it first, or clipping makes differences of tens of levels at edges.
        image = image.resize((image.width, width), method).resize((height, width), method)
    else:
        image = image.resize((width, height), method)
    return np.asarray(image.transpose(orientation))


def _shorten(image: Image.Image) -> Image.Image:
    """Average pixels along an extremely long side; return all other pictures unchanged.

    Pillow's filters hold 32 bytes for each pixel of a side: 5.7 GB for 178 million by one.
    """
    factors = [math.ceil(side / _LONGEST) for side in image.size]
    return image if max(factors) == 1 else image.reduce((factors[0], factors[1]))
