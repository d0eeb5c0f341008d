"""The preprocessing of a network's input: size, resize filter, channel order, scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pomona.errors import EncoderError

__all__ = ["CHANNEL_ORDERS", "FILTERS", "Preprocessing", "check_filter"]

CHANNEL_ORDERS = ("RGB", "BGR", "grey")
"""The channel orders of networks; `grey` is one channel."""

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""Pillow's resize filters, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The preprocessing of a network's input: size, resize filter, channel order, scaling.

    Network input = (pixel - mean) / std, with pixels 0..255. This arithmetic and the channel order
    are part of the encoder's graph: workers pass raw uint8 RGB from `resize_to`, and use only the
    size and the filter.

    Attributes:
        height: of the network's input, in pixels.
        width: of the network's input, in pixels.
        resize: Pillow's filter: nearest, bilinear, bicubic, lanczos, box or hamming.
        channel_order: order of the network: RGB, BGR, or `grey` for a network of one channel.
        mean: subtracted from each channel, in pixel units 0..255, in `channel_order`; three equal
            numbers for grey.
        std: divisor of each channel after that, in pixel units, in `channel_order`.

    Raises:
        EncoderError: a value is not valid.
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
        check_filter(self.resize)
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
        if min(self.std) <= 0:
            raise EncoderError(
                f"std is {self.std}, expected three numbers above 0: give 1.0 for a channel "
                "without scaling"
            )

    @property
    def is_grey(self) -> bool:
        """Whether the network takes one channel: the luma of a picture."""
        return self.channel_order == "grey"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, for `from_json`."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Return an object equal to the one that `to_json` was called on.

        Raises:
            EncoderError: fields are missing or unknown, or their values are not valid.
        """
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise EncoderError(
                f"preprocessing has the fields {', '.join(sorted(map(str, data))) or 'none'}, "
                f"expected {', '.join(sorted(names))}: was it written by another version?"
            )
        return cls(**data)


def check_filter(resize: object) -> None:
    """Check the name of a resize filter.

    Raises:
        EncoderError: Pillow has no such filter.
    """
    if resize not in FILTERS:
        raise EncoderError(
            f"resize is {resize!r}, expected one of {', '.join(FILTERS)}: use the filter of the "
            "training"
        )


def _channels(name: str, values: Any) -> tuple[float, float, float]:
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
