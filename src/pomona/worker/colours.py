"""Conversion of all of Pillow's modes to RGB with 8 bits per channel."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pomona.worker.levels import displayed_range, finite_range, to_levels

__all__ = ["to_rgb"]


def to_rgb(image: Image.Image, layout: str) -> Image.Image:
    """Convert any of Pillow's modes to RGB. Transparent pixels are drawn over white.

    Args:
        image: loaded, in any mode.
        layout: Pillow's raw mode of the samples in the file: `L;4`, `RGB;16B`, ...
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Pillow scales such samples to 8 bits, but not the colour that a PNG declares transparent.
    if "transparency" in image.info and layout in ("L;2", "L;4", "RGB;16B"):
        colour = image.info["transparency"]
        image.info["transparency"] = (
            tuple(level >> 8 for level in colour)
            if layout == "RGB;16B"
            else colour * {"L;2": 85, "L;4": 17}[layout]
        )
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = straight.convert("RGBA")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _grey(image: Image.Image) -> Image.Image:
    """Scale greys of more than 8 bits to 0..255.

    If all numbers fit into 16 bits, the range is that of 16 bits: Pillow loads many 16-bit files in
    the mode of 32 bits.
    """
    values = np.asarray(image)  # (H, W) uint16, int32 or float32
    levels = to_levels(values, *displayed_range(finite_range(values), values.dtype.kind))
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[values == transparent] = 255
    return Image.fromarray(levels)
