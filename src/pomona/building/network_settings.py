"""Settings that the file of a network does not contain: preprocessing, and the layer to use.

They come from the caller, or from a card next to the file, in TOML:

    # fruit.toml, next to fruit.onnx
    size = 224                      # or [height, width]; if the network does not fix it
    resize_mode = "shortest"        # or "squash", "longest"
    crop_pct = 0.875                # or resize_size = 256: what is resized, before the centre crop
    resize = "bicubic"              # nearest, bilinear, bicubic, lanczos, box, hamming
    channel_order = "RGB"           # or "BGR"; "grey" for one channel, which its file shows
    scale = 0.00392156862745098     # pixels 0..255 are multiplied by this first,
    mean = [0.485, 0.456, 0.406]    # then this is subtracted,
    std = [0.229, 0.224, 0.225]     # and the result is divided by this
    layout = "NCHW"                 # or "NHWC"; if the network does not show it
    layer = "avgpool"               # its output is the feature vector
    signature = "floats"            # of a SavedModel; the default is serving_default
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pomona.encoder.networks import NetworkCard
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

__all__ = ["LAYOUTS", "NetworkSettings"]

LAYOUTS = ("NCHW", "NHWC")

_LARGEST_CARD = 2**20  # bytes
_MOST_PREFIX_TOKENS = 1024
_LARGEST_SIDE = 2**14  # pixels

_ANY = Preprocessing(height=1, width=1, mean=(0.0,) * 3, std=(1.0,) * 3)

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Settings of a network that its file does not record. None means: not specified.

    Network input = (pixel * scale - mean) / std, with pixels 0..255. If you give one of the
    three, the others default to 1, 0 and 1.

    Attributes:
        size: height and width of the input, in pixels.
        resize: Pillow's filter.
        resize_mode: `squash`; `shortest`, with a centre crop; or `longest`, with padding.
        resize_size: height and width to resize to, in pixels, before the crop or the padding.
        crop_pct: instead of `resize_size`: the input's size as a share of it. It is
            floor(size / crop_pct), as in timm.
        crop: `after` resizing; or `before`: then `crop_pct` is the side of a centred square as a
            share of the image's shorter side, as in TensorFlow's EfficientNet.
        centring: `round`, or `floor` as in transformers.
        fill: red, green and blue of padding, 0..255.
        pixel_type: `uint8`, or `float32` if the training did not round the resized pixels.
        channel_order: RGB, BGR or grey, as the network takes them.
        scale: factor for each pixel.
        mean: subtracted from each channel after scaling, in `channel_order`.
        std: divisor of each channel after that.
        layout: NCHW or NHWC.
        layer: name of the layer, or of the output, that gives the feature vector.
        pool: how tokens become one vector, for a network that ends in them: `cls` is the first
            token; `mean` is that of the tokens after the first `prefix_tokens`.
        prefix_tokens: number of tokens before those of the patches: class token and registers.
        signature: name of the function to use, for a TensorFlow SavedModel.
        normalize: scale each vector to length 1 (L2).
        logit_scale: for a text tower whose files do not contain it: probabilities come from
            `logit_scale` * cosine + `logit_bias`.
        logit_bias: for a text tower of SigLIP; 0 otherwise.

    Raises:
        EncoderError: a value is not valid.
    """

    size: tuple[int, int] | None = None
    resize: str | None = None
    resize_mode: str | None = None
    resize_size: tuple[int, int] | None = None
    crop_pct: float | None = None
    crop: str | None = None
    centring: str | None = None
    fill: tuple[int, int, int] | None = None
    pixel_type: str | None = None
    channel_order: str | None = None
    scale: float | None = None
    mean: Triple | None = None
    std: Triple | None = None
    layout: str | None = None
    layer: str | None = None
    pool: str | None = None
    prefix_tokens: int | None = None
    signature: str | None = None
    normalize: bool | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _size("size", self.size))
        object.__setattr__(self, "resize_size", _size("resize_size", self.resize_size))
        object.__setattr__(self, "mean", _triple("mean", self.mean))
        object.__setattr__(self, "std", _triple("std", self.std))
        if self.scale is not None and not (_is_number(self.scale) and self.scale > 0):
            raise EncoderError(
                f"scale is {self.scale!r}, expected a number above 0: 1 for a network that takes "
                "pixels 0..255, 0.00392156862745098 (1/255) for one that takes 0..1"
            )
        if self.layout not in (None, *LAYOUTS):
            raise EncoderError(f"layout is {self.layout!r}, expected NCHW or NHWC")
        if not isinstance(self.layer, str | None):
            raise EncoderError(f"layer is {self.layer!r}, expected a layer's name")
        if self.pool not in (None, "cls", "mean"):
            raise EncoderError(f"pool is {self.pool!r}, expected cls or mean")
        count = self.prefix_tokens
        if count is not None and not (type(count) is int and 0 <= count <= _MOST_PREFIX_TOKENS):
            raise EncoderError(
                f"prefix_tokens is {count!r}, expected the number of class tokens and registers: 1 "
                "for a ViT, 5 for DINOv2 with registers"
            )
        for name in ("logit_scale", "logit_bias"):
            if (number := getattr(self, name)) is not None and not _is_number(number):
                raise EncoderError(f"{name} is {number!r}, expected a number")
        if not isinstance(self.normalize, bool | None):
            raise EncoderError(f"normalize is {self.normalize!r}, expected true or false")
        if not isinstance(self.signature, str | None):
            raise EncoderError(f"signature is {self.signature!r}, expected a signature's name")
        if isinstance(self.fill, list):
            object.__setattr__(self, "fill", tuple(self.fill))
        self._check_crop()
        self.preprocessing(_ANY)  # checks the other values

    @classmethod
    def from_toml(cls, path: Path) -> NetworkSettings:
        """Read a card.

        Raises:
            EncoderError: it cannot be read, is not TOML, or has unknown keys or invalid values.
        """
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_CARD + 1)
            if len(content) > _LARGEST_CARD:
                raise EncoderError(f"the card {path} is larger than {_LARGEST_CARD} bytes")
            values = tomllib.loads(content.decode("utf-8-sig"))
        except OSError as error:
            raise EncoderError(f"cannot read the card {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # TOML's and UTF-8's; brackets in brackets
            raise EncoderError(f"the card {path} is not valid TOML: {error}") from error
        keys = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(keys)):
            raise EncoderError(
                f"the card {path} has the key {unknown[0]!r}, expected {', '.join(keys)}"
            )
        try:
            return cls(**values)
        except EncoderError as error:
            raise EncoderError(f"the card {path}: {error}") from error

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkSettings:
        """Return the settings that `to_json` wrote."""
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Return the settings that are not None, as JSON values."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }

    def over(self, other: NetworkSettings) -> NetworkSettings:
        """Return these settings, with the other's values in place of None.

        Scale, mean and standard deviation belong together: they come from one of the two. If these
        settings specify resizing, `resize_size`, `crop_pct` and `crop` of the other do not count.
        """
        base = replace(other, scale=None, mean=None, std=None) if self.has_arithmetic else other
        if self.has_resizing:
            base = replace(base, resize_size=None, crop_pct=None, crop=None)
        return NetworkSettings(**{**base.to_json(), **self.to_json()})

    def _check_crop(self) -> None:
        share = self.crop_pct
        if share is not None and not (_is_number(share) and 0 < share <= 1):
            raise EncoderError(
                f"crop_pct is {share!r}, expected a share above 0, at most 1, such as 0.875"
            )
        if self.crop not in (None, "after", "before"):
            raise EncoderError(f"crop is {self.crop!r}, expected after or before")
        if share is not None and self.resize_size is not None and self.crop != "before":
            raise EncoderError(
                f"crop_pct is {share} and resize_size is {_shown(self.resize_size)}, and each "
                "decides the other: give one of them"
            )
        if self.crop == "before" and share is None:
            raise EncoderError("crop is 'before': give `crop_pct`, such as 0.875, too")

    @property
    def has_resizing(self) -> bool:
        """Return whether the settings specify how images get the size of the input."""
        values = (self.resize_mode, self.resize_size, self.crop_pct)
        return any(value is not None for value in values)

    def check_unused(self, network: str, *names: str) -> None:
        """Refuse settings that a kind of network does not use.

        Args:
            network: its name, for errors.
            names: of the settings.

        Raises:
            EncoderError: one of them is specified.
        """
        for name in names:
            if (value := getattr(self, name)) is not None:
                raise EncoderError(f"`{name}` {value} has no effect on {network}: leave it out")

    @property
    def has_arithmetic(self) -> bool:
        """Return whether scale, mean or std is specified."""
        return any(value is not None for value in (self.scale, self.mean, self.std))

    def for_named_network(self, card: NetworkCard) -> Preprocessing:
        """Return the preprocessing of a network by name.

        Raises:
            EncoderError: a setting has no effect on such a network, or asks for grey pixels.
        """
        if self.layout is not None:
            raise EncoderError(f"{card.name} has a fixed layout: leave `layout` {self.layout} out")
        if self.signature is not None:
            raise EncoderError(
                f"`signature` is for TensorFlow SavedModels, which {card.name} is not"
            )
        self.check_unused(card.name, "pool", "prefix_tokens", "logit_scale", "logit_bias")
        preprocessing = self.preprocessing(card.preprocessing)
        if preprocessing.is_grey:
            raise EncoderError(
                f"{card.name} takes images of 3 channels: give `channel_order` RGB or BGR"
            )
        return preprocessing

    def preprocessing(self, base: Preprocessing) -> Preprocessing:
        """Return the preprocessing that results from these settings and the known one."""
        changed: dict[str, Any] = {}
        if self.size is not None:
            changed |= {"height": self.size[0], "width": self.size[1]}
        if self.resize is not None:
            changed["resize"] = self.resize
        for name in ("resize_mode", "centring", "fill", "pixel_type"):
            if (value := getattr(self, name)) is not None:
                changed[name] = value
        if self.has_resizing:
            changed |= {"resize_size": self.resize_size, "crop_before": None}
        if self.crop == "before":
            changed["crop_before"] = self.crop_pct
        elif self.crop_pct is not None:
            size = self.size or (base.height, base.width)
            changed["resize_size"] = tuple(math.floor(side / self.crop_pct) for side in size)
            changed.setdefault("resize_mode", "shortest")
        elif self.resize_size is not None:
            changed.setdefault("resize_mode", "shortest")
        if self.channel_order is not None:
            changed["channel_order"] = self.channel_order
        if self.has_arithmetic:
            scale = 1.0 if self.scale is None else self.scale
            changed["mean"] = tuple(value / scale for value in self.mean or (0.0,) * 3)
            changed["std"] = tuple(value / scale for value in self.std or (1.0,) * 3)
        return replace(base, **changed)


def _size(name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = [value, value] if type(value) is int else value
    if (
        not isinstance(sides, list | tuple)
        or len(sides) != 2
        or not all(type(side) is int and 0 < side <= _LARGEST_SIDE for side in sides)
    ):
        raise EncoderError(
            f"{name} is {value!r}, expected pixels, no more than {_LARGEST_SIDE}: 224, or height "
            "and width"
        )
    return sides[0], sides[1]


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _triple(name: str, value: Any) -> Triple | None:
    if value is None:
        return None
    numbers = [value] * 3 if _is_number(value) else value
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) != 3
        or not all(map(_is_number, numbers))
    ):
        raise EncoderError(f"{name} is {value!r}, expected a number, or one for each channel")
    first, second, third = map(float, numbers)
    return first, second, third


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or type(value) is bool:
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False
