"""The preprocessing of a network's input: resizing, cropping, channel order, scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from pomona.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8 | np.float32]
    """(height, width, 3), RGB, in units 0..255; or several of them."""

__all__ = [
    "CENTRINGS",
    "CHANNEL_ORDERS",
    "FILTERS",
    "PIXEL_TYPES",
    "RESIZE_MODES",
    "Preprocessing",
]

CHANNEL_ORDERS = ("RGB", "BGR", "grey")
"""The channel orders of networks; `grey` is one channel."""

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""Pillow's resize filters, by name."""


RESIZE_MODES = ("squash", "shortest", "longest")
"""How an image becomes as large as `resize_size`, by open_clip's names.

`squash` changes the aspect ratio. `shortest` keeps it and fits the shorter side, so that a crop
follows. `longest` keeps it and fits the longer side, so that padding follows.
"""

CENTRINGS = ("round", "floor")
"""How half a pixel is rounded if a crop or padding cannot be centred exactly.

`round` is the rule of torchvision, timm and open_clip; `floor` is that of transformers.
"""

PIXEL_TYPES = ("uint8", "float32")
"""The type of the resized pixels. Pillow rounds to uint8; float32 is not rounded or clipped."""

_NEW = ("resize_mode", "resize_size", "crop_before", "centring", "fill", "pixel_type")

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The preprocessing of a network's input: resizing, cropping, channel order, scaling.

    The steps are: crop a centred square (`crop_before`), resize (`resize_mode`, `resize_size`,
    `resize`), crop or pad around the centre to height x width (`centring`, `fill`), then
    network input = (pixel - mean) / std, with pixels 0..255. The last step and the channel order
    are part of the encoder's graph: workers pass RGB pixels from `network_pixels`.

        Preprocessing(
            height=224, width=224,
            resize_mode="shortest", resize_size=(256, 256), resize="bicubic",
            mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375),
        )

    Attributes:
        height: of the network's input, in pixels.
        width: of the network's input, in pixels.
        resize: Pillow's filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        channel_order: order of the network: RGB, BGR, or `grey` for a network of one channel.
        mean: subtracted from each channel, in pixel units 0..255, in `channel_order`; three equal
            numbers for grey.
        std: divisor of each channel after that, in pixel units, in `channel_order`.
        resize_mode: one of `RESIZE_MODES`.
        resize_size: height and width that `resize_mode` resizes to, in pixels; None for the size
            of the network's input.
        crop_before: crop a centred square before resizing; the number is its side as a share of the
            image's shorter side.
        centring: one of `CENTRINGS`.
        fill: red, green and blue of padding, 0..255.
        pixel_type: one of `PIXEL_TYPES`.

    Raises:
        EncoderError: a value is not valid.
    """

    height: int
    width: int
    resize: str = "bicubic"
    channel_order: Literal["RGB", "BGR", "grey"] = "RGB"
    mean: Triple
    std: Triple
    resize_mode: Literal["squash", "shortest", "longest"] = "squash"
    resize_size: tuple[int, int] | None = None
    crop_before: float | None = None
    centring: Literal["round", "floor"] = "round"
    fill: tuple[int, int, int] = (0, 0, 0)
    pixel_type: Literal["uint8", "float32"] = "uint8"

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            if type(value := getattr(self, side)) is not int or value < 1:
                raise EncoderError(
                    f"{side} of the network's input is {value!r}, expected a whole number of "
                    "pixels, 1 or more: correct the preprocessing"
                )
        _check_choice("resize", self.resize, FILTERS)
        _check_choice("resize_mode", self.resize_mode, RESIZE_MODES)
        _check_choice("centring", self.centring, CENTRINGS)
        _check_choice("pixel_type", self.pixel_type, PIXEL_TYPES)
        self._check_geometry()
        if self.channel_order not in CHANNEL_ORDERS:
            raise EncoderError(
                f"channel_order is {self.channel_order!r}, expected RGB or BGR, or grey for a "
                "network of one channel: use the order of the training"
            )
        # Convert to a tuple of floats, so that equal preprocessing compares and hashes equal.
        object.__setattr__(self, "mean", _channels("mean", self.mean))
        object.__setattr__(self, "std", _channels("std", self.std))
        if self.is_grey and len({*self.mean}) + len({*self.std}) > 2:
            raise EncoderError(
                f"mean is {self.mean} and std is {self.std}, but the network takes grey pixels: "
                "give one number for each"
            )
        if self.is_grey and len({*self.fill}) > 1:
            raise EncoderError(
                f"fill is {self.fill}, but the network takes grey pixels: give three equal numbers"
            )
        if min(self.std) <= 0:
            raise EncoderError(
                f"std is {self.std}, expected three numbers above 0: give 1.0 for a channel "
                "without scaling"
            )

    def _check_geometry(self) -> None:
        """Check sizes and colours, and replace values that change no pixel by their defaults.

        Equal pixels then have an equal fingerprint.
        """
        size = (self.height, self.width)
        target = size if self.resize_size is None else _sides(self.resize_size)
        fill = _colour(self.fill)
        share = self.crop_before
        if share is not None:
            share = float(share) if isinstance(share, int | float) else math.nan
            if not 0 < share <= 1:
                raise EncoderError(
                    f"crop_before is {self.crop_before!r}, expected a share of the shorter side "
                    "above 0, at most 1: 0.875 for 224/256"
                )
        covered = all(a >= b for a, b in zip(target, size, strict=True))
        if self.resize_mode != "longest" and covered:
            fill = (0, 0, 0)  # nothing is padded
        if self.resize_mode == "squash" and target == size:
            object.__setattr__(self, "centring", "round")  # nothing is cropped or padded
        object.__setattr__(self, "resize_size", None if target == size else target)
        object.__setattr__(self, "crop_before", share)
        object.__setattr__(self, "fill", fill)

    @property
    def is_grey(self) -> bool:
        """Whether the network takes one channel: the luma of a picture."""
        return self.channel_order == "grey"

    @property
    def draft_size(self) -> tuple[int, int]:
        """The smallest width and height of an image that is not enlarged, for Pillow's `draft`."""
        height, width = self.resize_size or (self.height, self.width)
        share = self.crop_before or 1.0
        return math.ceil(width / share), math.ceil(height / share)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, for `from_json`.

        Fields that came later than the first encoders are left out if they have their default, so
        that those encoders keep their fingerprints.
        """
        defaults = {each.name: each.default for each in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in _NEW or value != defaults[name]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Return an object equal to the one that `to_json` was called on.

        Raises:
            EncoderError: fields are missing or unknown, or their values are not valid.
        """
        names = {field.name for field in fields(cls)}
        if not names - {*_NEW} <= set(data) <= names:
            raise EncoderError(
                f"preprocessing has the fields {', '.join(sorted(map(str, data))) or 'none'}, "
                f"expected {', '.join(sorted(names))}: was it written by another version?"
            )
        return cls(**data)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise EncoderError(
            f"{name} is {value!r}, expected one of {', '.join(choices)}: use that of the training"
        )


def _sides(size: Any) -> tuple[int, int]:
    """Return height and width."""
    sides = list(size) if isinstance(size, list | tuple) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise EncoderError(
            f"resize_size is {size!r}, expected height and width in pixels, each 1 or more"
        )
    return sides[0], sides[1]


def _colour(fill: Any) -> tuple[int, int, int]:
    """Return red, green and blue."""
    levels = list(fill) if isinstance(fill, list | tuple) else []
    if len(levels) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in levels):
        raise EncoderError(
            f"fill is {fill!r}, expected red, green and blue, each a whole number 0..255"
        )
    return levels[0], levels[1], levels[2]


def _channels(name: str, values: Any) -> Triple:
    """Return three finite numbers as floats."""
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
