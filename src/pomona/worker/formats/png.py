"""The chunks of a PNG: which ones make up the picture, and whether those are complete.

After the PNG specification, third edition. Pillow reads all chunks: the picture fails if a text has
a wrong checksum, or if a colour profile is over 1 MiB. But it skips the checksums of the pixels.
`check` examines the chunks of the picture, and `essential` removes all others.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

__all__ = ["check", "check_rows", "essential"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEYWORDS = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp", b"xmp")
"""Texts that may hold an orientation."""

_PALETTE = 3
"""The colour type whose samples are indices into the palette."""


_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""The passes of an interlaced picture: first column, first row, columns and rows apart."""


class _Chunk(NamedTuple):
    name: bytes
    body: bytes
    checksum: bytes

    @property
    def is_critical(self) -> bool:
        return self.name[:1].isupper()

    @property
    def is_intact(self) -> bool:
        return self.checksum == struct.pack(">I", zlib.crc32(self.body, zlib.crc32(self.name)))


def check(content: bytes) -> None:
    """Check that all chunks of the picture are in the file and intact.

    The checksums of other chunks do not count.

    Raises:
        OSError: data is missing ("truncated" is in the message) or damaged.
    """
    names: list[bytes] = []
    colour_type = None
    for chunk in _chunks(content):
        if chunk.name not in _CRITICAL and chunk.is_critical:
            raise OSError(f"unsupported critical chunk {chunk.name.decode()}")
        if chunk.is_critical and not chunk.is_intact:
            raise OSError(f"wrong checksum in chunk {chunk.name.decode()}")
        if not names:
            if chunk.name != b"IHDR" or len(chunk.body) != 13:
                raise OSError("no header first")
            colour_type = chunk.body[9]
        elif chunk.name == b"IDAT":
            if b"IDAT" in names and names[-1] != b"IDAT":
                raise OSError("other chunks between those of the pixels")
            if colour_type == _PALETTE and b"PLTE" not in names:
                raise OSError("no palette")
        elif (
            chunk.name == b"PLTE"
            and colour_type == _PALETTE
            and len(chunk.body) not in range(3, 769, 3)
        ):
            raise OSError(f"a palette of {len(chunk.body)} bytes")
        names.append(chunk.name)
    if b"IDAT" not in names:
        raise OSError("no pixels")


def check_rows(image: Image.Image, content: bytes) -> None:
    """Check that the compressed data has all rows: Pillow fills missing ones with zeros.

    Args:
        image: the picture that Pillow loaded.
        content: the whole file.

    Raises:
        OSError: rows are missing.
    """
    last = image.crop((0, max(0, image.height - 2), *image.size))  # of both fields, if interlaced
    if image.height > 8 and np.asarray(last).reshape(last.height, -1).any(axis=1).all():
        return
    missing = _unpacked_size(content[16:29])
    packed = b"".join(chunk.body for chunk in _chunks(content) if chunk.name == b"IDAT")
    for size in _unpacked(packed):
        missing -= size
        if missing <= 0:
            return
    raise OSError(f"image file is truncated: {missing} bytes of pixels are missing")


def _unpacked(packed: bytes) -> Iterator[int]:
    """Unpack one part after the other, and yield the size of each."""
    unpacker = zlib.decompressobj()
    for start in range(0, len(packed), 2**16):
        part = packed[start : start + 2**16]
        while part:
            yield len(unpacker.decompress(part, 2**20))
            part = unpacker.unconsumed_tail
    while unpacked := unpacker.decompress(b"", 2**20):
        yield len(unpacked)


def _unpacked_size(header: bytes) -> int:
    """Return the number of bytes of all rows, each with the byte for its filter."""
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    size = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + -(-columns * bits // 8))
    return size


def essential(content: bytes) -> bytes:
    """Keep only chunks that affect the pixels or the orientation, and join those of the pixels.

    This raises nothing for any bytes: `check` raises the errors.
    """
    kept: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    try:
        for chunk in _chunks(content):
            if chunk.name == b"IDAT":
                pixels.append(chunk.body)
            elif chunk.name in (b"IHDR", b"PLTE", b"tRNS") and not pixels:
                kept.setdefault(chunk.name, chunk.body)
            elif chunk.name == b"eXIf" or chunk.name in _TEXTS:
                keyword = chunk.body.partition(b"\0")[0]
                if (chunk.name == b"eXIf" or keyword in _KEYWORDS) and _is_read(chunk):
                    kept.setdefault(chunk.name + keyword * (chunk.name != b"eXIf"), chunk.body)
    except OSError:
        pass
    if not _declares_transparency(kept):
        kept.pop(b"tRNS", None)
    chunks = [(name[:4], body) for name, body in kept.items()]
    return _png([*chunks, (b"IDAT", b"".join(pixels)), (b"IEND", b"")])


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to the last one, IEND.

    Raises:
        OSError: there is no IEND, or bytes that are not a chunk.
    """
    at = len(_SIGNATURE)
    name = b""
    while name != b"IEND":
        length, name = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        end = at + 12 + length
        if not (name.isalpha() and name.isascii()) and len(name) == 4:
            raise OSError(f"no chunk at byte {at}")
        if end > len(content):
            place = f"within a chunk {name.decode('latin-1')}" if name else "before the chunk IEND"
            raise OSError(f"image file is truncated: it ends {place}")
        yield _Chunk(name, content[at + 8 : end - 4], content[end - 4 : end])
        at = end


def _is_read(chunk: _Chunk) -> bool:
    """Return whether Pillow reads a chunk that may hold an orientation."""
    pixel = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), chunk[:2]]
    try:
        PngImagePlugin.PngImageFile(io.BytesIO(_png([*pixel, (b"IDAT", zlib.compress(b"\0\0"))])))
    except Exception:  # noqa: BLE001 - Pillow's code may raise anything
        return False
    return True


def _declares_transparency(chunks: dict[bytes, bytes]) -> bool:
    """Return whether the length of the chunk tRNS fits the colour type."""
    header, length = chunks.get(b"IHDR", b""), len(chunks.get(b"tRNS", b""))
    colour_type = header[9] if len(header) == 13 else -1
    if colour_type == _PALETTE:
        return 0 < length <= len(chunks.get(b"PLTE", b"")) // 3
    return length == {0: 2, 2: 6}.get(colour_type, 0)


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a file of these chunks, with their checksums."""
    parts = [_SIGNATURE]
    for name, body in chunks:
        checksum = zlib.crc32(body, zlib.crc32(name))
        parts += [struct.pack(">I", len(body)), name, body, struct.pack(">I", checksum)]
    return b"".join(parts)
