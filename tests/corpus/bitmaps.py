"""Formats that were not read, and alpha channels never filled in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import drawn
from corpus import Case

_HEIF = Path(__file__).parents[1] / "goldens" / "images" / "heif"


def cases() -> Iterator[Case]:
    right = drawn.encode(drawn.picture(), "PNG")
    for name in ("TGA", "DIB", "PPM", "ICO", "JPEG2000"):
        suffix = {"PPM": "ppm", "JPEG2000": "jp2"}.get(name, name.lower())
        options = {"sizes": [(48, 32)]} if name == "ICO" else {}
        content = drawn.encode(drawn.picture(), name, **options)
        yield Case(f"a picture.{suffix}", content, right, suffix=".png")
    for header in (56, 108, 124):
        yield Case(f"alpha 0, header of {header}.bmp", _bmp(0, header), right, suffix=".png")
    upright = (_HEIF / "orientation_1.heic").read_bytes()
    yield Case("same as EXIF says.heic", upright, upright)
    cut = upright[:-40]
    yield Case("cut.heic", cut, status="truncated", error="HEIF")


def _bmp(alpha: int, header: int) -> bytes:
    """The picture in 32 bits per pixel, with a mask for alpha."""
    image = drawn.picture().convert("RGBA")
    image.putalpha(alpha)
    pixels = image.tobytes("raw", "BGRA", 0, -1)
    start = 14 + header
    fields = struct.pack("<IIIHHIIIIII", header, *image.size, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    fields += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return (
        b"BM"
        + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
        + fields.ljust(header, b"\0")
        + pixels
    )
