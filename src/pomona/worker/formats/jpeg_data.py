"""The markers of a JPEG: its scans, and the end of the picture, whatever follows it.

After ITU-T T.81, annex B. No pixel is decoded here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["END", "JpegData", "unsupported_kind"]

END = b"\xff\xd9"
"""The end marker."""

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""A marker that ends the data of a scan: no stuffed zero, restart marker or fill byte."""

_TRAILERS = tuple(
    re.compile(form, re.DOTALL)
    for form in (
        rb"ftyp[0-9A-Za-z]{2}[0-9A-Za-z ]{2}",  # MP4, as motion photos have it
        rb"\0\0..[\x04-\x20]\0\0\0[A-Za-z][0-9A-Za-z_]{3}",  # Samsung's blocks
        rb"SEFH[\x60-\x7f]\0\0\0",  # the table after them
        rb"<(?:\?xpacket|x:xmpmeta|!DOCTYPE|html)",
        rb"\x89PNG\r\n\x1a\n",
        rb"PK\x03\x04[\x0a-\x3f]\0",
        rb"RIFF.{4}(?:WEBP|AVI |WAVE)",
    )
)
"""The first bytes of trailers: at least 5, which coded data has by chance once in a terabyte."""

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_NEEDED = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDD}  # Huffman tables, arithmetic conditions, ...
_SOI, _EOI, _SOS, _DRI, _JPEG_LS = 0xD8, 0xD9, 0xDA, 0xDD, 0xF7
_AFTER_SCAN = (_EOI, _SOS, 0xC4)  # the markers that follow the data of nearly all scans


def unsupported_kind(content: bytes) -> str | None:
    """Return the kind of a JPEG whose header no decoder here reads; None for other JPEGs.

    ITU-T T.87 (JPEG-LS) has its own frame marker. ITU-T T.81 allows a height of 0 if a marker after
    the first scan has the height (DNL).
    """
    at = 2
    while marker := _MARKER.search(content, at):
        code, at = marker[1][0], marker.end()
        if code == _JPEG_LS:
            return "JPEG-LS"
        if code in _FRAMES:
            has_height = content[at + 3 : at + 5] != b"\0\0"
            return None if has_height else "JPEG whose height follows its data (DNL)"
        if code in (_SOS, _EOI):
            return None
        at += int.from_bytes(content[at : at + 2])
    return None


class JpegData:
    """The content of a file's markers, up to the scan that completes the picture.

    Attributes:
        frame: the header of the picture; None if there is no valid one.
        scans: how many scans there are.
        last_scan: the entropy-coded data of the last one.
        has_end_marker: whether an end marker follows it.
        restarts: how many restart markers there are.
        restarts_missing: how many more there should be.
    """

    def __init__(self, content: bytes) -> None:
        """Read the markers; whatever the bytes are, nothing is raised."""
        self.frame: Frame | None = None
        self.scans = self.restarts = self.restarts_missing = 0
        self.last_scan = memoryview(b"")
        self.has_end_marker = False
        self._content = content
        self._end = 2
        self._kept: list[bytes | memoryview] = [b"\xff\xd8"]
        self._missing: dict[int, set[int]] = {}
        self._interval = 0
        at = self._end
        while not self.is_complete and (marker := _MARKER.search(content, at)):
            code, at = marker[1][0], marker.end()
            if code in (_SOI, _EOI) or (code in _FRAMES and self.frame is not None):
                break  # or another picture begins
            segment = content[at : at + int.from_bytes(content[at : at + 2])]
            at += len(segment)
            if code == _SOS:
                following = _MARKER.search(content, at)
                end = following.start() if following else len(content)
                name = following[1][0] if following else None
                trailer = None if name in _AFTER_SCAN else _trailer(content, at, end)
                data = memoryview(content)[at : trailer or end]
                segment = self._scan(segment, data)
                self._end = at = trailer or end
                self.has_end_marker = name == _EOI
                self._kept += [b"\xff\xda", segment, data]
                if trailer:
                    break
                continue
            if code in _FRAMES:
                self._begin(Frame.read(code, segment))
            elif code == _DRI:
                self._interval = int.from_bytes(segment[2:4])
            if code in _NEEDED:
                self._kept += [bytes([0xFF, code]), segment]

    @property
    def without_trailer(self) -> bytes:
        """The file up to the end of the last scan's data, and an end marker."""
        return self._content[: self._end] + END

    @property
    def bare(self) -> bytes:
        """The file without application data, comments and trailer, and without an end marker."""
        return b"".join(self._kept)

    @property
    def is_complete(self) -> bool:
        """Whether the scans contain all bits of all coefficients of all components."""
        return self.frame is not None and not self._missing

    @property
    def is_arithmetic(self) -> bool:
        """Whether the data is coded by arithmetic coding."""
        return self.frame is not None and self.frame.code > 0xC8

    def _begin(self, frame: Frame | None) -> None:
        self.frame = frame
        if frame is not None:
            coefficients = range(64) if frame.is_progressive else range(1)
            self._missing = {identity: set(coefficients) for identity in frame.sampling}

    def _scan(self, header: bytes, data: memoryview) -> bytes:
        """Record the content of a scan. Return its header, corrected if libjpeg only warns."""
        self.scans += 1
        self.last_scan = data
        count = header[2] if len(header) > 2 else 0
        if self.frame is None or len(header) != 6 + 2 * count:
            return header
        components = header[3 : 3 + 2 * count : 2]
        first, last, bits = header[-3:]
        if not self.frame.is_progressive:
            brought = {0}
            if not self.frame.is_lossless:
                header = header[:-3] + b"\0\x3f\0"
        else:
            fits = last == 0 if first == 0 else count == 1 and first <= last
            brought = set(range(first, last + 1)) if fits and bits & 15 == 0 else set()
        for identity in components:
            missing = self._missing.get(identity, set())
            missing -= brought
            if not missing:
                self._missing.pop(identity, None)
        if self._interval and not self.frame.is_lossless:
            found = len(_RESTART.findall(data))
            expected = -(-self.frame.units(components) // self._interval) - 1
            self.restarts += found
            self.restarts_missing += max(0, expected - found)
        return header


def _trailer(content: bytes, start: int, end: int) -> int | None:
    """Return where a trailer of a known kind begins if no marker separates it from the data."""
    found = [match.start() for form in _TRAILERS if (match := form.search(content, start, end))]
    first = min(found, default=None)
    if first is not None and content.startswith(b"ftyp", first):
        first -= 4  # the size of the box
    return first


class Frame(NamedTuple):
    """The header of the picture.

    Attributes:
        code: the second byte of its marker.
        width: pixels.
        height: pixels.
        sampling: component -> its horizontal and vertical sampling factors.
    """

    code: int
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]

    @classmethod
    def read(cls, code: int, segment: bytes) -> Frame | None:
        """Read the segment; return None if it is not valid."""
        height, width = int.from_bytes(segment[3:5]), int.from_bytes(segment[5:7])
        parts = [segment[at : at + 3] for at in range(8, len(segment) - 2, 3)]
        sampling = {part[0]: (part[1] >> 4, part[1] & 15) for part in parts}
        if not sampling or any(0 in factors for factors in sampling.values()):
            return None
        return cls(code, width, height, sampling)

    @property
    def is_progressive(self) -> bool:
        """Whether a scan may contain only some coefficients, or some of their bits."""
        return self.code in _PROGRESSIVE

    @property
    def is_lossless(self) -> bool:
        """Whether samples are coded, not coefficients."""
        return self.code in _LOSSLESS

    def units(self, components: bytes) -> int:
        """Return the number of units in a scan as the restart interval counts them."""
        widest = max(across for across, _ in self.sampling.values())
        tallest = max(down for _, down in self.sampling.values())
        if len(components) > 1:
            return -(-self.width // (8 * widest)) * -(-self.height // (8 * tallest))
        across, down = self.sampling.get(components[0], (1, 1)) if components else (1, 1)
        columns, rows = -(-self.width * across // widest), -(-self.height * down // tallest)
        return -(-columns // 8) * -(-rows // 8)
