"""JPEG 2000: whether a file is complete, and samples of more than 8 bits."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFile

from pomona.errors import ImageError
from pomona.worker.formats.recognition import plugin

__all__ = ["load"]

_START = b"\xff\x4f\xff\x51"
"""The markers SOC and SIZ, with which a codestream begins."""

_DATA, _END = b"\xff\x93", b"\xff\xd9"
_COMPONENTS = 40
"""Offset of the number of components in the segment SIZ, from the start of the codestream. Three
bytes follow for each component; the first is its bit depth minus 1, plus 128 if it is signed."""

_YCBCR = b"colr\x01\0\0\0\0\0\x12"


def load(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """Decode the pixels of an opened file.

    Pillow rounds samples of more than 8 bits in colour to 8 bits without a limit: the highest
    become 256, which is stored as 0, so white turns black. If the picture has zeros, it is decoded
    again as if its samples had 8 bits. OpenJPEG then clips them, so that white differs from black.

    Raises:
        OSError: the file is truncated or damaged.
        ImageError: the samples are signed, or YCbCr of more than 8 bits.
    """
    # OpenJPEG accepts a codestream that ends after the start marker of a tile, and leaves the rest
    # black. Otherwise it fails without the marker EOC, which no data after SOD contains.
    if content.find(_END, content.find(_DATA)) < 0:
        raise OSError("image file is truncated: no end of codestream")
    start = content.find(_START)
    depths_at = start + _COMPONENTS
    count = int.from_bytes(content[depths_at : depths_at + 2], "big")
    depths = slice(depths_at + 2, depths_at + 2 + 3 * count, 3)
    if start >= 0 and any(depth & 0x80 for depth in content[depths]):
        raise _unsupported(image, "signed samples")
    if start < 0 or count < 2 or all(depth & 0x7F < 8 for depth in content[depths]):
        image.load()
        return image
    if _YCBCR in content[:start]:
        raise _unsupported(image, "YCbCr of more than 8 bits")
    image.load()
    samples = np.asarray(image)  # (H, W, channels) uint8
    if samples.all():
        return image
    as_8_bits = bytearray(content)
    as_8_bits[depths] = bytes(depth & 0x80 | 7 for depth in content[depths])
    clipped = np.asarray(plugin("JPEG2000")(io.BytesIO(as_8_bits)))
    mended = np.where((samples == 0) & (clipped >= 128), np.uint8(255), samples)
    return Image.frombytes(image.mode, image.size, mended.tobytes())


def _unsupported(image: ImageFile.ImageFile, what: str) -> ImageError:
    reason = f"JPEG2000: {what}: not decoded, convert the file to RGB"
    return ImageError(
        "unsupported", reason, width=image.width, height=image.height, format="JPEG2000"
    )
