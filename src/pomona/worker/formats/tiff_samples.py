"""The samples of a TIFF's first page, as numbers.

Pillow's libtiff unpacks strips and tiles to bytes; NumPy undoes the predictor and converts the
bytes to samples. The header for libtiff declares grey pixels of 8 bits, so that it changes none.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pomona.worker.formats import tiff_layout as tiff
from pomona.worker.formats.recognition import plugin
from pomona.worker.formats.tiff_layout import Layout
from pomona.worker.pillow_limits import strict_limits

__all__ = ["bands"]

_BAND = 4 * 2**20  # bytes of samples that are decoded at once, unless one segment has more
_HEADER = 16  # bytes of a BigTIFF's
_REVERSED = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1
)[:, 0]
"""Each byte with its bits in reverse order."""


def bands(layout: Layout, content: bytes) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield all pixels from top to bottom, a few rows at a time.

    Yields:
        The first row's number, and (rows, W, samples) in the type of the samples, without ignored
        planes. Unsigned numbers of 32 and 64 bits are inverted if their zero is white.
    """
    width, height = layout.size
    row = layout.row_bytes * layout.segments_across
    together = max(1, _BAND // (row * layout.segment[1]))
    step = max(1, _BAND // row)
    planes = layout.planes
    for first in range(0, layout.segments_down, together):
        down = min(together, layout.segments_down - first)
        top = first * layout.segment[1]
        rows = min(down * layout.segment[1], height - top)
        packed = [_unpacked(layout, content, plane, first, down) for plane in range(planes)]
        for start in range(0, rows, step):
            parts = [_samples(layout, plane[start : min(start + step, rows)]) for plane in packed]
            samples = parts[0] if planes == 1 else np.concatenate(parts, axis=-1)
            samples = samples[:, :width]
            turn = layout.photometric == 0 and layout.kind == "u" and layout.bits > 16
            yield top + start, ~samples if turn else samples


def _unpacked(
    layout: Layout, content: bytes, plane: int, first: int, down: int
) -> npt.NDArray[np.uint8]:
    """Unpack some rows of segments: (rows, segments across, bytes of a segment's row) uint8."""
    across, (_, tall) = layout.segments_across, layout.segment
    rows = down * tall
    if not layout.is_tiled:
        rows = min(rows, layout.size[1] - first * tall)
    start = (plane * layout.segments_down + first) * across
    chosen = range(start, start + down * across)
    if layout.compression != tiff.NONE:
        image = plugin("TIFF")(_bytes_as_grey(layout, content, chosen, rows))
        with strict_limits(rows * across * layout.row_bytes):  # these are bytes, not pixels
            image.load()
        return np.asarray(image).reshape(rows, across, layout.row_bytes)
    if down == across == 1:  # a strip may be the whole file: do not copy it
        found = np.frombuffer(content, np.uint8, rows * layout.row_bytes, layout.offsets[start])
        return found.reshape(rows, 1, layout.row_bytes)
    found = np.empty((rows, across, layout.row_bytes), np.uint8)
    for number, segment in enumerate(chosen):
        part = found[number // across * tall : (number // across + 1) * tall, number % across]
        at = int(layout.offsets[segment])
        part[...] = np.frombuffer(content, np.uint8, part.size, at).reshape(part.shape)
    return found


def _bytes_as_grey(layout: Layout, content: bytes, segments: range, rows: int) -> io.BytesIO:
    """Write a TIFF of the same compressed segments, whose pixels are the segments' bytes."""
    assert layout.counts is not None  # noqa: S101 - `pomona.worker.formats.tiff` refuses None
    counts = [int(layout.counts[segment]) for segment in segments]
    offsets = [int(layout.offsets[segment]) for segment in segments]
    data = [content[at : at + count] for at, count in zip(offsets, counts, strict=True)]
    starts = (_HEADER + np.cumsum([0, *counts[:-1]])).tolist()
    wide, tall = layout.row_bytes, layout.segment[1]
    tags: dict[int, Sequence[int]] = {
        256: [wide * layout.segments_across],
        257: [rows],
        258: [8],
        259: [layout.compression],
        262: [1],
        266: [layout.fill_order],
        277: [1],
    }
    if layout.is_tiled:
        tags |= {322: [wide], 323: [tall], 324: starts, 325: counts}
    else:
        tags |= {273: starts, 278: [tall], 279: counts}
    page = _HEADER + sum(counts)
    return io.BytesIO(
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, page) + b"".join(data) + _big_page(tags, page)
    )


def _big_page(tags: dict[int, Sequence[int]], start: int) -> bytes:
    """Return the page of a little-endian BigTIFF with all numbers of 64 bits."""
    entries, arrays = [], b""
    end = start + 8 + 20 * len(tags) + 8
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}Q", *values)
        if len(values) > 1:
            packed, arrays = struct.pack("<Q", end + len(arrays)), arrays + packed
        entries.append(struct.pack("<HHQ", tag, 16, len(values)) + packed)
    return struct.pack("<Q", len(tags)) + b"".join(entries) + bytes(8) + arrays


def _samples(layout: Layout, packed: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Convert bytes to samples.

    Args:
        layout: the layout of the file.
        packed: (rows, segments across, bytes of a segment's row).

    Returns:
        (rows, pixels, samples together), including those right of the picture's edge.
    """
    rows, across, _ = packed.shape
    wide, each = layout.segment[0], layout.samples_together
    shape = rows, across, wide, each
    size = layout.bits // 8
    packed = np.ascontiguousarray(packed)
    if layout.fill_order == 2 and layout.compression == tiff.NONE:  # libtiff reverses what it reads
        packed = _REVERSED[packed]
    if layout.bits % 8:
        bits = np.unpackbits(packed, axis=-1)[..., : wide * each * layout.bits]
        padded = np.zeros((rows, across, wide * each, 16), np.uint8)
        padded[..., 16 - layout.bits :] = bits.reshape(rows, across, wide * each, layout.bits)
        values: npt.NDArray[Any] = np.packbits(padded, axis=-1).view(">u2").astype(np.uint16)
    elif layout.predictor == 3:
        flat = packed.reshape(rows, across, wide * size, each).cumsum(axis=2, dtype=np.uint8)
        planes = flat.reshape(rows, across, size, wide * each)  # the most significant bytes first
        values = np.ascontiguousarray(np.moveaxis(planes, 2, -1)).view(f">f{size}")
    elif layout.predictor == 2:
        stored = packed.view(f"{layout.byte_order}u{size}").reshape(shape)
        values = stored.cumsum(axis=2, dtype=f"u{size}").view(f"{layout.kind}{size}")
    else:
        values = packed.view(f"{layout.byte_order}{layout.kind}{size}")
    native = values.dtype.newbyteorder("=")
    return values.astype(native, copy=False).reshape(rows, across * wide, each)
