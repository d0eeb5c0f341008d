"""TGA files with a colour map that their pixels do not use."""

from __future__ import annotations

import struct

__all__ = ["without_unused_map"]

_HEADER = 18
_INDEXED = (1, 9)


def without_unused_map(content: bytes) -> bytes:
    """Return a TGA without its colour map if its pixels are colours or greys, not indices.

    The specification allows such a map, and Pillow refuses it.
    """
    if len(content) < _HEADER or content[1] != 1 or content[2] in _INDEXED:
        return content
    length, bits = struct.unpack("<HB", content[5:8])
    start = _HEADER + content[0]
    header = content[:1] + b"\0" + content[2:3] + bytes(5) + content[8:start]
    return header + content[start + length * -(-bits // 8) :]
