"""RGB picture in, network input pixels out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pomona.decode import Picture
from pomona.errors import EncoderError

__all__ = ["CHANNEL_ORDERS", "Preprocessing", "fit"]

CHANNEL_ORDERS = ("RGB", "BGR", "grey")
"""What a network's channels can be; `grey` is one channel."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
# These decide ties between two pixels by which comes first: the mirrored picture differs.
_LOPSIDED = {Image.Resampling.NEAREST, Image.Resampling.BOX}
_LONGEST = 65_536  # pixels of a side, more than a JPEG can have


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What a network wants to see: size, resize filter, order of the channels, scaling.

    Network input = (pixel - mean) / std, with pixels 0..255. That arithmetic and the order of the
    channels are part of the encoder's graph: workers hand over raw uint8 RGB from `fit`, and read
    only the size and the filter here.

    Attributes:
        height: of the network's input, in pixels.
        width: likewise.
        resize: Pillow's filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        channel_order: as the network takes them: RGB, BGR, or `grey` for a network of one channel.
        mean: what is taken off each channel, in pixel units 0..255, in `channel_order`;
            three equal numbers for grey.
        std: what each channel is then divided by, likewise.

    Raises:
        EncoderError: for values that no network can have.
    """

    height: int
    width: int
    resize: str = "bicubic"
    channel_order: Literal["RGB", "BGR", "grey"] = "RGB"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            if type(value := getattr(self, side)) is not int or value < 1:
                raise EncoderError(
                    f"{side} of the network's input is {value!r}, expected a whole number of "
                    "pixels, 1 or more: correct the preprocessing"
                )
        _filter(self.resize)
        if self.channel_order not in CHANNEL_ORDERS:
            raise EncoderError(
                f"channel_order is {self.channel_order!r}, expected RGB or BGR, or grey for a "
                "network of one channel: take the order in which the network was trained"
            )
        # Floats and a tuple, whatever numbers came: equal preprocessing compares and hashes equal.
        object.__setattr__(self, "mean", _channels("mean", self.mean))
        object.__setattr__(self, "std", _channels("std", self.std))
        if self.is_grey and len({*self.mean}) + len({*self.std}) > 2:
            raise EncoderError(
                f"mean is {self.mean} and std is {self.std}, and the network takes grey pixels: "
                "give one number for each"
            )
        if min(self.std) <= 0:
            raise EncoderError(
                f"std is {self.std}, expected three numbers above 0: give 1.0 for a channel that "
                "is not divided"
            )

    @property
    def is_grey(self) -> bool:
        """Whether the network takes one channel: the luma of a picture."""
        return self.channel_order == "grey"

    def to_json(self) -> dict[str, Any]:
        """Give the fields as what JSON knows; `from_json` makes an equal object of it."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Make the object that `to_json` was called on.

        Raises:
            EncoderError: if fields are missing or unknown, or their values cannot be.
        """
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise EncoderError(
                f"preprocessing has the fields {', '.join(sorted(map(str, data))) or 'none'}, "
                f"expected {', '.join(sorted(names))}: was it written by another version?"
            )
        return cls(**data)


def fit(
    picture: Picture, height: int, width: int, resize: str = "bicubic", *, grey: bool = False
) -> npt.NDArray[np.uint8]:
    """Bring a picture upright and to the network's input size, by squashing it.

    The result is that of turning first and resizing then, to within 1 grey level, but the small
    picture is turned and not the large one: 69 ms instead of 112 for 12 megapixels on their side.

    Args:
        picture: of any size.
        height: of the result, in pixels.
        width: likewise.
        resize: the filter, by the names in `Preprocessing`.
        grey: replace the three channels of each pixel by its luma, before resizing. That is what
            `color_mode="grayscale"` of Keras does: Pillow's `convert("L")`, which rounds
            0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Returns:
        (height, width, 3) uint8, RGB, C-contiguous, read-only. An upright picture gives exactly
        what Pillow's `resize` gives.

    Raises:
        EncoderError: for an unknown filter.
    """
    if grey:
        luma = replace(picture, image=picture.image.convert("L"))
        return np.repeat(_resized(luma, height, width, resize)[..., None], 3, axis=2)
    return _resized(picture, height, width, resize)


def _resized(picture: Picture, height: int, width: int, resize: str) -> npt.NDArray[np.uint8]:
    method = _filter(resize)
    image, orientation = _shorten(picture.image), picture.orientation
    if orientation is None:
        return np.asarray(image.resize((width, height), method))
    if method in _LOPSIDED:
        return np.asarray(image.transpose(orientation).resize((width, height), method))
    if picture.sideways:
        # Pillow filters along x, clips to 0..255, and then filters along y. The upright picture's
        # x is y here: first alone, or else clipping makes tens of levels of difference at edges.
        image = image.resize((image.width, width), method).resize((height, width), method)
    else:
        image = image.resize((width, height), method)
    return np.asarray(image.transpose(orientation))


def _shorten(image: Image.Image) -> Image.Image:
    """Average pixels along a side that is absurdly long; leave all else alone.

    Pillow's filters hold 32 bytes for each pixel of a side: 5.7 GB for 178 million by one.
    """
    factors = [math.ceil(side / _LONGEST) for side in image.size]
    return image if max(factors) == 1 else image.reduce((factors[0], factors[1]))


def _filter(resize: str) -> Image.Resampling:
    """Pillow's filter of that name."""
    try:
        return _FILTERS[resize]
    except (KeyError, TypeError):
        raise EncoderError(
            f"resize is {resize!r}, expected one of {', '.join(_FILTERS)}: take the filter with "
            "which the network was trained"
        ) from None


def _channels(name: str, values: Any) -> tuple[float, float, float]:
    """Three finite numbers as floats."""
    try:
        first, second, third = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        first = second = third = math.nan
    if not all(map(math.isfinite, (first, second, third))):
        raise EncoderError(
            f"{name} is {values!r}, expected three finite numbers, one for each channel, in pixel "
            "units 0..255"
        )
    return first, second, third
