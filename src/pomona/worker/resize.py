"""Resizing of a picture of any size to a network's input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from pomona.encoder.preprocessing import FILTERS, check_filter
from pomona.worker.decode import Picture

__all__ = ["resize_to"]

_METHODS = {name: Image.Resampling[name.upper()] for name in FILTERS}
# These decide ties between two pixels by which comes first: the mirrored picture differs.
_LOPSIDED = {Image.Resampling.NEAREST, Image.Resampling.BOX}
_LONGEST = 65_536  # pixels of a side, more than a JPEG can have


def resize_to(
    picture: Picture, height: int, width: int, resize: str = "bicubic", *, grey: bool = False
) -> npt.NDArray[np.uint8]:
    """Turn a picture upright and resize it to the network's input size, without cropping.

    The result equals that of turning first and resizing afterwards, to within 1 grey level. Turning
    the small picture instead of the large one takes 69 ms instead of 112 for 12 megapixels.

    Args:
        picture: of any size.
        height: of the result, in pixels.
        width: of the result, in pixels.
        resize: the filter, by the names in `Preprocessing`.
        grey: replace the three channels of each pixel by its luma, before resizing. That is what
            `color_mode="grayscale"` of Keras does: Pillow's `convert("L")`, which rounds
            0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Returns:
        (height, width, 3) uint8, RGB, C-contiguous, read-only. For an upright picture, it equals
        the result of Pillow's `resize`.

    Raises:
        EncoderError: the filter is unknown.
    """
    if grey:
        luma = replace(picture, image=picture.image.convert("L"))
        return np.repeat(_resized(luma, height, width, resize)[..., None], 3, axis=2)
    return _resized(picture, height, width, resize)


def _resized(picture: Picture, height: int, width: int, resize: str) -> npt.NDArray[np.uint8]:
    check_filter(resize)
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
