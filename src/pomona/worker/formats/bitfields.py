"""Bitmaps whose header has masks for the red, green, blue and alpha bits of a pixel.

After Microsoft's BITMAPV5HEADER. Pillow knows some orders of 8-bit channels and two of 16-bit
pixels, whose alpha it ignores. Other bitmaps are rewritten in an order that Pillow knows.
"""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["with_known_masks"]

_BY_MASKS = (3, 6)  # BI_BITFIELDS, BI_ALPHABITFIELDS
_BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
_KNOWN = {
    (16, (0xF800, 0x7E0, 0x1F, 0)),
    (16, (0x7C00, 0x3E0, 0x1F, 0)),
    (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    (32, _BGRA),
    (32, (0, 0, 0, 0)),
}


def with_known_masks(content: bytes) -> bytes:
    """Return a BMP or DIB with masks that Pillow knows; all other files unchanged.

    A channel is scaled by its full range, v * 255 // highest. The size of the file bounds the
    memory, whatever size its header claims.
    """
    start = 14 if content.startswith(b"BM") else 0
    fields = content[start : start + 56]
    if len(fields) < 56:
        return content
    header, width, height, _, bits, compression = struct.unpack("<IiiHHI", fields[:20])
    if (
        header not in (40, 52, 56, 108, 124)
        or bits not in (16, 32)
        or compression not in _BY_MASKS
        or width <= 0
    ):
        return content
    masks = struct.unpack("<4I", fields[40:56])
    if header in (40, 52) and compression != 6:
        masks = (*masks[:3], 0)
    if (compression == 3 and (bits, masks) in _KNOWN) or not _fit(masks, bits):
        return content
    header_end = start + header + (0 if header > 40 else 16 if compression == 6 else 12)
    first = int.from_bytes(content[10:14], "little") if start else header_end
    stride = -(-width * bits // 32) * 4
    rows = max(0, len(content) - first) // stride
    data = content[first : first + rows * stride]
    packed = np.frombuffer(data, "<u2" if bits == 16 else "<u4").reshape(rows, -1)[:, :width]
    pixels = np.zeros((*packed.shape, 4), np.uint8)  # (rows, W, blue green red alpha)
    for place, mask in zip((2, 1, 0, 3), masks, strict=True):
        if mask:
            lowest = (mask & -mask).bit_length() - 1
            levels = (packed.astype(np.uint64) & mask) >> lowest
            pixels[..., place] = levels * 255 // (mask >> lowest)
    known = _BGRA if masks[3] else (*_BGRA[:3], 0)
    v4 = struct.pack("<IiiHHI20x4I", 108, width, height, 1, 32, 3, *known).ljust(108, b"\0")
    file = b"BM" + struct.pack("<IHHI", 14 + 108 + pixels.nbytes, 0, 0, 14 + 108) if start else b""
    return file + v4 + pixels.tobytes()


def _fit(masks: tuple[int, ...], bits: int) -> bool:
    """Return whether the masks are runs of bits of a pixel without overlap; alpha may be absent."""
    seen = 0
    for mask in masks:
        run = mask // (mask & -mask) if mask else 0
        if mask >> bits or run & (run + 1) or mask & seen:
            return False
        seen |= mask
    return all(masks[:3])
