"""Pictures drawn by code, and files made from them: no test needs downloaded images."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag

# EXIF orientation -> how a camera transforms the upright picture before it stores it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(width: int = 48, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth RGB picture: red grows to the right, green downwards, blue depends on the seed.

    Its corners are easy to distinguish: black, red, green and yellow, apart from the blue.
    """
    right = np.linspace(0, 255, width)[None, :]
    down = np.linspace(0, 255, height)[:, None]
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    blue = 127.5 + 127.5 * np.sin(phase + right / 40 + down / 60)
    levels = np.broadcast_arrays(right, down, blue)
    return Image.fromarray(np.rint(np.stack(levels, axis=-1)).astype(np.uint8))


def corners(image: Image.Image) -> str:
    """The letters of a `picture`'s corners, clockwise from the top left: `kryg` if upright."""
    right, bottom = image.width - 1, image.height - 1
    result = (image.getpixel(at) for at in ((0, 0), (right, 0), (right, bottom), (0, bottom)))
    return "".join("kgry"[2 * (red > 127) + (green > 127)] for red, green, _ in result)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    """Encode the image in one of Pillow's formats, with the given options."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(image: Image.Image, orientation: int, format: str, **options: Any) -> bytes:  # noqa: A002
    """A file that looks like the upright image if a reader applies its EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    how = STORED[orientation]
    return encode(image if how is None else image.transpose(how), format, exif=exif, **options)


def png(
    size: tuple[int, int],
    depth: int,
    colour_type: int,
    rows: Iterable[bytes],
    *,
    before: Iterable[tuple[bytes, bytes]] = (),
    after: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of packed rows, for what Pillow does not write: unusual bit depths and chunks."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *before, (b"IDAT", data), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Return the JPEG with a different size in its header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def tree(root: Path) -> Path:
    """A tree of 14 files in 3 class folders, among files that are not images or hidden."""
    for seed in range(10):
        folder = root / ("Apple Red 1" if seed % 2 else "Poire d'été")
        folder.mkdir(parents=True, exist_ok=True)
        form = ("JPEG", "PNG", "WEBP")[seed % 3]
        content = encode(picture(40 + seed, 30, seed), form)
        (folder / f"image {seed}.{'jpg' if form == 'JPEG' else form.lower()}").write_bytes(content)
    bad = root / "kind=bad"
    bad.mkdir()
    whole = encode(picture(64, 64, 99), "JPEG")
    (bad / "empty.jpg").write_bytes(b"")
    (bad / "half.JPG").write_bytes(whole[: len(whole) // 2])
    (bad / "page.png").write_bytes(b"<html>404</html>")
    (bad / "grey [1] {a,b}.jpeg").write_bytes(encode(picture().convert("L"), "JPEG"))
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.jpg").write_bytes(whole)
    (root / ".hidden.jpg").write_bytes(whole)
    return root
