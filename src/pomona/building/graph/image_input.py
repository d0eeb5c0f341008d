"""The image input of a network in a file: layout, size, channels and preprocessing.

What the shape of the input does not show, the settings must specify.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pomona.building.graph.signatures import DEFAULT
from pomona.building.network_settings import LAYOUTS, NetworkSettings
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

__all__ = [
    "Sides",
    "architecture",
    "image_layout",
    "image_size",
    "needed_preprocessing",
    "refuse_channels",
    "refuse_signature",
    "with_channels",
]

_CHANNELS = (3, 1)  # RGB, grey

Sides = list[int | None]  # a shape: None for a side that is not fixed; empty if its rank is not


def needed_preprocessing(
    path: Path,
    settings: NetworkSettings,
    size: tuple[int, int],
    hint: str = "",
    channels: int | None = 3,
) -> Preprocessing:
    """Return the specified preprocessing; nothing is guessed.

    Args:
        path: the name of the network, for errors.
        settings: the settings of the network.
        size: height and width of its input, in pixels.
        hint: known facts about such networks, for errors.
        channels: channels of its input, 1 or 3; None if that is not fixed.

    Raises:
        EncoderError: resizing or arithmetic is not specified; the message shows how to specify it.
    """
    missing = []
    if not settings.has_resizing:
        missing.append(
            "`resize_mode` (squash; or shortest, of which the centre is cropped, with `crop_pct` "
            "or `resize_size` if the training used one; or longest, which is padded)"
        )
    if not settings.has_arithmetic:
        missing.append(
            "`scale`, `mean` and `std` (input = (pixel * scale - mean) / std, pixels 0..255; scale "
            "= 1 for unchanged pixels, scale = 0.00392156862745098 for 0..1, mean = 127.5 and std "
            "= 127.5 for -1..1)"
        )
    if missing:
        raise EncoderError(
            f"{path} does not record the preprocessing of its input: give {' and '.join(missing)}, "
            f"or write them into {path.name}.toml next to it{hint}"
        )
    return with_channels(path, settings, size, channels)


def with_channels(
    path: Path, settings: NetworkSettings, size: tuple[int, int], channels: int | None
) -> Preprocessing:
    """Return the preprocessing in the settings; by default it is RGB, or grey for one channel.

    Raises:
        EncoderError: the network does not have the channel order of the settings.
    """
    order = settings.channel_order
    if channels is not None and order is not None and (channels == 1) != (order == "grey"):
        raise EncoderError(
            f"{path} takes images of {channels} channel{'s' if channels > 1 else ''}, and the "
            f"channel order is {order}: "
            + ("leave it out" if channels == 1 else "give RGB or BGR, or leave it out")
        )
    height, width = size
    raw = Preprocessing(
        height=height,
        width=width,
        channel_order="grey" if channels == 1 else "RGB",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    return settings.preprocessing(raw)


_FORMAT_NAMES = {
    ".onnx": "ONNX",
    ".pt": "TorchScript",
    ".pt2": "torch.export",
    ".tflite": "TensorFlow Lite",
    ".xml": "OpenVINO",
}


def architecture(
    path: Path,
    sides: Sides,
    layout: str,
    signature: str | None = None,
    kind: str | None = None,
) -> str:
    """Return the format of a network, and its layout and signature if the user specified them.

    The encoder records this next to the digest of the file.
    """
    if kind is not None:
        text = kind
    else:
        text = "TensorFlow SavedModel" if path.is_dir() else _FORMAT_NAMES[path.suffix.lower()]
    if signature not in (None, DEFAULT):
        text += f", signature {signature}"
    return text if _layouts_shown(sides) == [layout] else f"{text}, {layout}"


def refuse_signature(path: Path, signature: str | None) -> None:
    """Refuse a signature for a network that has none.

    Raises:
        EncoderError: one is named.
    """
    if signature is not None:
        raise EncoderError(
            f"`signature` {signature} is for TensorFlow SavedModels, which {path} is not: leave it "
            "out, or name an output with `layer`"
        )


def image_layout(sides: Sides, path: Path, settings: NetworkSettings) -> str:
    """Return the layout of a network's input, NCHW or NHWC, from its shape and the settings.

    Raises:
        EncoderError: the input has neither 3 channels nor 1, or both layouts are possible.
    """
    possible = [
        layout for layout in LAYOUTS if not sides or sides[layout.index("C")] in (*_CHANNELS, None)
    ]
    if not possible:
        refuse_channels(path, sides)
    shown = _layouts_shown(sides)
    if settings.layout is not None:
        if settings.layout not in (shown or possible):
            raise EncoderError(
                f"{path} takes an input of shape {sides}, which is not {settings.layout}"
            )
        return settings.layout
    if len(shown) == 1:
        return shown[0]
    raise EncoderError(
        f"{path} takes an input of shape {sides or 'unknown'}, which does not show its layout: "
        f"give `layout` NCHW or NHWC, or write layout into {path.name}.toml next to it"
    )


def refuse_channels(path: Path, sides: Sequence[int | None]) -> NoReturn:
    """Refuse a network whose input is neither RGB nor grey.

    Raises:
        EncoderError: always.
    """
    raise EncoderError(
        f"{path} takes an input of shape {list(sides)}, which has neither 3 channels (RGB) nor 1 "
        "(grey): Pomona has no others, such as alpha, depth or infrared; export a network that "
        "takes RGB or grey images"
    )


def _layouts_shown(sides: Sides) -> list[str]:
    """Return the possible layouts; those of one channel only if none has three."""
    for channels in _CHANNELS if sides else ():
        if shown := [each for each in LAYOUTS if sides[each.index("C")] == channels]:
            return shown
    return []


def image_size(sides: Sides, layout: str, path: Path, settings: NetworkSettings) -> tuple[int, int]:
    """Return height and width of a network's input, from its shape and the settings.

    Raises:
        EncoderError: neither the shape nor the settings fix them.
    """
    height, width = ((sides or [None] * 4)[layout.index(axis)] for axis in "HW")
    if settings.size is not None:
        return settings.size
    if height is None or width is None:
        raise EncoderError(
            f"{path} takes images of any size: give `size`, or write size into {path.name}.toml "
            "next to it"
        )
    return height, width
