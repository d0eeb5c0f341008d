"""Unset alpha: in BMP, DIB, ICO and TGA it is 0 everywhere if a program did not set it.

Windows stores 32-bit pixels without alpha in the same layout as those with alpha, and programs
write the unused byte as 0. Viewers show such a picture, so it is opaque here. In PNG, WEBP, AVIF,
GIF, TIFF and JPEG 2000, alpha is always intended: a picture that is transparent everywhere is
invisible in all viewers and browsers, and is white here.
"""

from __future__ import annotations

from typing import Any, cast

from PIL import Image, ImageFile

from pomona.worker.formats.icon import mask_after

__all__ = ["without_unset_alpha"]

_FORMATS = ("BMP", "DIB", "ICO", "TGA")
_TRUE_COLOUR_OR_GREY = (2, 3, 10, 11)
"""The kinds of TGA whose header has the number of alpha bits of a pixel."""


def without_unset_alpha(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """Remove the alpha of a loaded picture if it is unset; an icon's mask replaces it.

    Args:
        image: the picture that Pillow loaded.
        content: the whole file.
    """
    if image.format not in _FORMATS or not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    if image.format == "TGA" and content[2] in _TRUE_COLOUR_OR_GREY and not content[17] & 15:
        return rgba.convert("RGB")
    if rgba.getchannel("A").getextrema() != (0, 0):
        return image
    if image.format == "ICO":
        place = cast("Any", image).ico.entry[0]
        icon = content[place.offset : place.offset + place.size]
        if icon.startswith(b"\x89PNG") or place.bpp != 32:
            return image
        mask = mask_after(icon, image.size)
        if mask is not None:
            rgba.putalpha(mask)
            return rgba
    return rgba.convert("RGB")
