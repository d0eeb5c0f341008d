"""The tags of a TIFF's first page, after TIFF 6.0 and the BigTIFF design.

Only the first page is read, so an endless chain of pages does no harm. A value is read only when it
is needed.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from pomona.errors import ImageError

__all__ = ["Tags", "named", "refusal"]

_NAMES = {
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    262: "PhotometricInterpretation",
    266: "FillOrder",
    273: "StripOffsets",
    274: "Orientation",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    284: "PlanarConfiguration",
    317: "Predictor",
    320: "ColorMap",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
    332: "InkSet",
    338: "ExtraSamples",
    339: "SampleFormat",
    529: "YCbCrCoefficients",
    530: "YCbCrSubSampling",
    532: "ReferenceBlackWhite",
}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8"}
"""TIFF's integer types, by their NumPy names."""

_WIDTHS = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, for TIFF's types of more than one byte."""

_MOST_TAGS = 4096  # real files have about 20
_MOST_RATIOS = 6


def refusal(status: str, reason: str, size: tuple[int, int] | None = None) -> ImageError:
    """Return the error for a TIFF that is not decoded."""
    width, height = size if size and max(size) < 2**31 else (None, None)
    return ImageError(status, f"TIFF: {reason}"[:200], width=width, height=height, format="TIFF")


class Tags:
    """The tags of the first page. Their values are read when needed."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.byte_order = "<" if content[:1] == b"I" else ">"
        self.is_big = big = b"+" in content[2:4]
        offset, count, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
        (at,) = self._unpack(offset, 8 if big else 4)
        (tags,) = self._unpack(count, at)
        if tags > _MOST_TAGS:
            raise refusal("corrupt", f"the first page has {tags} tags, more than {_MOST_TAGS}")
        at += struct.calcsize(f"<{count}")
        inline = struct.calcsize(f"<{offset}")
        head = struct.calcsize(f"<{entry}")
        self._entries: dict[int, tuple[int, int, int]] = {}
        for start in range(at, at + tags * (head + inline), head + inline):
            tag, kind, length = self._unpack(entry, start)
            if tag in self._entries and tag in _NAMES:
                raise refusal("corrupt", f"tag {named(tag)} occurs twice")
            value = start + head
            if length * _WIDTHS.get(kind, 1) > inline:
                (value,) = self._unpack(offset, value)
            self._entries.setdefault(tag, (kind, length, value))

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        if at + struct.calcsize(f"<{form}") > len(self._content):
            raise self._ends()
        return struct.unpack_from(f"{self.byte_order}{form}", self._content, at)

    def _ends(self) -> ImageError:
        reason = f"the header continues after the last of {len(self._content)} bytes"
        return refusal("truncated", reason)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def numbers(self, tag: int) -> npt.NDArray[np.int64]:
        """Return all values of a required tag: (N,) int64, N at least 1, none below 0."""
        if tag not in self._entries:
            raise refusal("corrupt", f"tag {named(tag)} is missing")
        kind, length, at = self._entries[tag]
        if kind not in _INTEGERS or not length:
            raise refusal("corrupt", f"tag {named(tag)} does not hold integers")
        dtype = np.dtype(f"{self.byte_order}{_INTEGERS[kind]}")
        if at + length * dtype.itemsize > len(self._content):
            raise self._ends()
        found = np.frombuffer(self._content, dtype, length, at).astype(np.int64)
        if (found < 0).any():
            raise refusal("corrupt", f"tag {named(tag)} holds a number out of range")
        return found

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the first value of a tag."""
        if default is not None and tag not in self:
            return default
        return int(self.numbers(tag)[0])

    def ratios(self, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
        """Return the values of a tag of fractions; empty if some are missing."""
        if tag not in self._entries:
            return default
        _, length, at = self._entries[tag]
        if length > _MOST_RATIOS or at + 8 * length > len(self._content):
            return ()
        parts = struct.unpack_from(f"{self.byte_order}{2 * length}I", self._content, at)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return tuple(round(over / (under or 1), 4) for over, under in pairs)

    def bytes(self, tag: int) -> bytes:
        """Return the bytes of a tag; empty if some are missing."""
        _, length, at = self._entries.get(tag, (1, 0, 0))
        return self._content[at : at + length]


def named(tag: int) -> str:
    """Return the number of a tag, with its name if it affects how pixels are read."""
    return f"{tag} ({_NAMES[tag]})" if tag in _NAMES else str(tag)
