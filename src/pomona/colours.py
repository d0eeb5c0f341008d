"""Pixels of any of Pillow's modes as RGB with 8 bits per channel."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["to_rgb"]


def to_rgb(image: Image.Image, layout: str) -> Image.Image:
    """Convert any of Pillow's modes to RGB, what is transparent over white.

    Args:
        image: loaded, in any mode.
        layout: Pillow's raw mode of the samples in the file: `L;4`, `RGB;16B`, ...
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image, layout).convert("RGB")
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


def _grey(image: Image.Image, layout: str) -> Image.Image:
    """Scale greys of more than 8 bits to 0..255, so that nothing is clipped.

    16-bit greys by their full range, v / 257. 32-bit integers likewise if they all lie within
    0..65535, since Pillow hands over many a 16-bit file in that mode. Floats: if all lie within
    0..1 times 255, if within 0..255 as they are. Whatever lies outside: the image's own minimum
    becomes 0 and its maximum 255. Not a number becomes 0, the infinities 0 and 255.
    """
    values = np.asarray(image)  # (H, W) uint16, int32 or float32
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if values.dtype.kind != "f" and low >= 0 and high <= 65535:
        low, high = 0.0, 4095.0 if layout == "I;12" else 65535.0
    elif values.dtype.kind == "f" and low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    levels = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), 64):  # in strips: float64 takes 8 bytes for each pixel
        share = (values[top : top + 64] - np.float64(low)) / ((high - low) or 1.0)
        levels[top : top + 64] = np.rint(np.nan_to_num(share).clip(0, 1) * 255)
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[values == transparent] = 255
    return Image.fromarray(levels)
