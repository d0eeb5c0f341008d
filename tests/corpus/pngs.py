"""PNGs with damage outside the pixel data, and PNGs with damage in it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import drawn
from corpus import Case

_ROWS = [bytes(range(10 * row, 10 * row + 18)) for row in range(4)]
_BESIDE = {
    b"tEXt": b"Title\0a picture",
    b"iCCP": b"sRGB\0\0" + zlib.compress(bytes(1_300_000)),
    b"gAMA": b"1",
    b"caBX": b"private",
}


def cases() -> Iterator[Case]:
    right = drawn.png((6, 4), 8, 2, _ROWS)
    for name, body in _BESIDE.items():
        for place in ("before", "after"):
            whole = drawn.png((6, 4), 8, 2, _ROWS, **{place: [(name, body)]})
            title = f"{name.decode()} {place} the pixels"
            yield Case(f"{title}.png", whole, right)
            yield Case(f"{title}, wrong checksum.png", _damaged(whole, name + body), right)
    pixels = right[right.index(b"IDAT") : right.index(b"IEND") - 8]
    damaged = _damaged(right, pixels)
    yield Case("wrong checksum in the pixels.png", damaged, status="corrupt", error="checksum")
    yield Case("no IEND.png", right[:-12], status="truncated", error="IEND")


def _damaged(content: bytes, chunk: bytes) -> bytes:
    """The file with a wrong checksum after the chunk."""
    at = content.index(chunk) + len(chunk)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
