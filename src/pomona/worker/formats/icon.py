"""Windows icons: the depth of their pixels, and the mask after them."""

from __future__ import annotations

import struct

from PIL import Image

__all__ = ["mask_after", "with_true_depths"]


def with_true_depths(content: bytes) -> bytes:
    """Return an icon whose directory has the number of bits per pixel of each bitmap.

    Many programs leave that field 0. Pillow decides by it whether a bitmap has alpha.
    """
    changed = bytearray(content)
    for entry in range(6, 6 + 16 * int.from_bytes(content[4:6], "little"), 16):
        start = int.from_bytes(content[entry + 12 : entry + 16], "little")
        header = content[start : start + 16]
        if len(header) < 16 or entry + 16 > len(content):
            continue
        size, planes, bits = struct.unpack("<I8xHH", header)
        if size == 40 and planes <= 1 and bits in (1, 4, 8, 16, 24, 32):
            changed[entry + 6 : entry + 8] = struct.pack("<H", bits)
    return bytes(changed)


def mask_after(icon: bytes, size: tuple[int, int]) -> Image.Image | None:
    """Return the mask after an icon's 32-bit pixels (bit 0 is opaque); None if it has none."""
    width, height = size
    start = int.from_bytes(icon[:4], "little") + 4 * width * height
    stride = -(-width // 32) * 4
    bits = icon[start : start + stride * height]
    if len(bits) < stride * height:
        return None
    return Image.frombytes("1", size, bits, "raw", "1;I", stride, -1)
