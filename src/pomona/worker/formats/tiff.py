"""The pixels of a TIFF's first page.

Pillow reads the layouts that it decodes correctly. For the others, Pillow's libtiff unpacks the
segments to bytes, and NumPy turns them into samples: for many layouts Pillow confuses byte orders,
planes and white-is-zero without an error.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from pomona.worker.formats import jpeg, jpeg_data
from pomona.worker.formats import tiff_layout as tiff
from pomona.worker.formats.recognition import plugin
from pomona.worker.formats.tiff_layout import Layout
from pomona.worker.formats.tiff_samples import bands
from pomona.worker.formats.tiff_tags import refusal
from pomona.worker.levels import displayed_range, finite_range, to_levels

__all__ = ["read_pixels"]

_BYTES_PER_PIXEL = 6
_LARGEST_BAND = 64 * 2**20  # bytes: allowed even if the limit of pixels is low
_PILLOWS_EXTRA = ((), (0,), (1,), (2,), (999,))  # 999: CorelDRAW's transparency
_MOST_TIMES = {
    tiff.NONE: 1,
    tiff.PACKBITS: 64,  # 2 bytes for a run of 128
    tiff.DEFLATE: 1032,  # 2 bits for a run of 258
    tiff.OLD_DEFLATE: 1032,
    tiff.LZW: 4096,  # 12 bits for a string of at most 3,838 bytes
    tiff.ZSTD: 2**16,  # 4 bytes for a block of 128 KiB
    tiff.LZMA: 2**16,
}
"""Largest compression ratios: a file that claims more is refused before it is unpacked."""

_KINDS = {"u": "unsigned", "i": "signed", "f": "float"}
_BITS = {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}


def read_pixels(layout: Layout, content: bytes, max_pixels: int) -> Image.Image:
    """Decode the first page, upright.

    Args:
        layout: the layout from its tags; its number of pixels is within the limit.
        content: the whole file.
        max_pixels: a strip or a row of tiles may unpack to 6 bytes for each of them, which is
            enough for RGB of 16 bits in one strip.

    Returns:
        8 bits per channel, in one of the modes of `pomona.worker.colours`.

    Raises:
        ImageError: the layout is not supported, or data is missing.
        Exception: the data is wrong; an exception of Pillow.
    """
    _check_segments(layout, content)
    band = layout.row_bytes * layout.segments_across * layout.segment[1]
    limit = max(_BYTES_PER_PIXEL * max_pixels, _LARGEST_BAND)
    if band > limit and (layout.is_tiled or layout.compression != tiff.NONE):
        reason = f"a strip or a row of tiles expands to {band} bytes, the limit is {limit}"
        raise refusal("too_large", f"{reason}: raise it with `max_pixels`", layout.size)
    if _pillow_decodes(layout):
        if layout.compression in (tiff.JPEG, tiff.OLD_JPEG):
            _check_jpegs(layout, content)
        image: Image.Image = plugin("TIFF")(io.BytesIO(content))
        image.load()  # which turns it upright
        return image
    _check_decoded(layout)
    mode, raw_mode = _modes(layout)
    image = Image.new(mode, layout.size)
    for top, levels in _levels(layout, content):
        size = layout.size[0], len(levels)
        image.paste(Image.frombuffer(mode, size, levels, "raw", raw_mode, 0, 1), (0, top))
    if layout.orientation is not None:
        image.getexif()[0x0112] = layout.orientation
    elif layout.xmp:
        image.info["xmp"] = layout.xmp
    return ImageOps.exif_transpose(image)


def _pillow_decodes(layout: Layout) -> bool:  # noqa: PLR0911 - one rule for each return
    """Return whether Pillow is known to decode the layout correctly."""
    compression, photometric, samples = layout.compression, layout.photometric, layout.samples
    is_ycbcr = photometric == tiff.YCBCR
    if layout.kind != "u" or (layout.is_big and layout.byte_order == ">"):
        return False  # Pillow reads a big-endian BigTIFF's header as a classic one
    if compression in tiff.FAX:
        return layout.bits == samples == layout.planar == 1 and photometric in tiff.GREYS
    if layout.fill_order != 1:
        return False
    if compression == tiff.OLD_JPEG:
        return layout.bits == 8 and samples == 3 and is_ycbcr and len(layout.offsets) == 1
    if compression == tiff.JPEG:
        is_known = layout.extra == () or (photometric, layout.extra) == (tiff.RGB, (2,))
        planar = layout.planar == 1 or (layout.planar == 2 and not is_ycbcr)
        is_stored = photometric not in (tiff.PALETTE, tiff.LAB)  # readers of L*a*b* disagree
        return layout.bits == 8 and is_stored and is_known and planar
    if layout.planar != 1:
        return False
    if layout.predictor != 1 and (layout.bits, layout.predictor) != (8, 2):
        return False
    if layout.predictor != 1 and compression not in tiff.PREDICTED:
        return False
    if is_ycbcr and compression == tiff.NONE:  # libtiff decodes all others
        return layout.subsampling == (1, 1) and layout.is_plain_ycbcr
    if samples == 1:
        return layout.bits in (1, 2, 4, 8)
    if photometric == tiff.CMYK and layout.alpha:
        return False
    return layout.bits == 8 and photometric != 0 and layout.extra in _PILLOWS_EXTRA


def _check_decoded(layout: Layout) -> None:
    """Refuse layouts that `_levels` does not decode."""
    kind, bits, extra, predictor = layout.kind, layout.bits, layout.extra, layout.predictor
    photometric, compression, alpha = layout.photometric, layout.compression, layout.alpha
    colours = tiff.PHOTOMETRIC_NAMES[photometric]
    samples = f"{_KINDS[kind]} samples of {bits} bits"
    is_scaled = photometric in (*tiff.GREYS, tiff.RGB)
    is_short = kind == "u" and bits <= 16
    for is_so, what in (
        (
            compression not in tiff.LOSSLESS or photometric in (tiff.YCBCR, tiff.LAB),
            f"{colours} of {samples} with compression {compression}, planar configuration "
            f"{layout.planar}, fill order {layout.fill_order}, byte order {layout.byte_order}",
        ),
        (bits not in _BITS[kind] or not (is_scaled or is_short), f"{colours} of {samples}"),
        (
            photometric == 0 and kind == "i",
            f"{samples} whose zero is white: TIFF does not say which number is black",
        ),
        (
            predictor != 1 and compression not in tiff.PREDICTED,
            f"predictor {predictor} with compression {compression}, which has none",
        ),
        (predictor not in (1, 2, 3), f"predictor {predictor}"),
        (predictor == 2 and bits % 8 != 0, f"predictor 2 of {samples}"),
        (predictor == 3 and kind != "f", f"predictor 3 of {samples}"),
        (layout.planar not in (1, 2), f"planar configuration {layout.planar}"),
        (layout.fill_order not in (1, 2), f"fill order {layout.fill_order}"),
        (
            extra is None and (photometric, layout.samples) != (tiff.RGB, 4),
            "more samples than colours without the tag ExtraSamples",
        ),
        (
            bool(extra) and (alpha not in (0, 1, 2) or any((extra or ())[1:])),
            f"extra samples {', '.join(map(str, extra or ()))}",
        ),
        (alpha and not (is_scaled and is_short), f"transparency with {colours} of {samples}"),
        (alpha == 1 and photometric == 0, f"premultiplied transparency with {colours}"),
    ):
        if is_so:
            raise refusal("unsupported", f"{what}: not decoded, {tiff.ADVICE}", layout.size)


def _check_segments(layout: Layout, content: bytes) -> None:
    """Check that the data of each segment is within the file."""
    planes = layout.planes
    expected = layout.segments_across * layout.segments_down * planes
    offsets, counts = layout.offsets[:expected], layout.counts
    if len(offsets) < expected:
        raise refusal("corrupt", f"{len(offsets)} strips or tiles, not {expected}", layout.size)
    needed: Any = 1
    if layout.compression in _MOST_TIMES and layout.photometric != tiff.YCBCR:
        rows = np.full(layout.segments_down, layout.segment[1])
        if not layout.is_tiled:
            rows[-1] = layout.size[1] - layout.segment[1] * (layout.segments_down - 1)
        unpacked = np.tile(np.repeat(rows, layout.segments_across), planes) * layout.row_bytes
        needed = -(-unpacked // _MOST_TIMES[layout.compression])
    if counts is not None:
        counts = counts[:expected]
        if len(counts) < expected:
            raise refusal("corrupt", f"{len(counts)} byte counts, not {expected}", layout.size)
        if ((counts == 0) | (offsets == 0)).any():
            raise refusal("unsupported", "sparse: strips or tiles without data", layout.size)
        if (counts < needed).any():
            reason = "a strip or tile has fewer bytes than its pixels need"
            raise refusal("corrupt", reason, layout.size)
    elif layout.compression != tiff.NONE:
        reason = "the compressed strips or tiles have no byte counts"
        raise refusal("corrupt", reason, layout.size)
    if layout.compression != tiff.NONE:
        needed = counts
    if (offsets > len(content) - needed).any():
        reason = f"the data continues after the last of {len(content)} bytes"
        raise refusal("truncated", reason, layout.size)


def _check_jpegs(layout: Layout, content: bytes) -> None:
    """Check that each segment holds all of its pixels: libtiff fills missing ones with grey.

    Raises:
        ImageError: a segment is not a JPEG of its size.
        OSError: data is missing or damaged.
    """
    assert layout.counts is not None  # noqa: S101 - `_check_segments` refuses None
    wide, tall = layout.segment
    each_plane = layout.segments_across * layout.segments_down
    for number, (at, count) in enumerate(zip(layout.offsets, layout.counts, strict=False)):
        stream = content[at : at + count]
        if layout.jpeg_tables:
            stream = layout.jpeg_tables.removesuffix(jpeg_data.END) + stream[2:]
        elif layout.compression == tiff.OLD_JPEG and not stream.startswith(b"\xff\xd8"):
            reason = "JPEG of TIFF 6.0 whose tables are apart from its data"
            raise refusal("unsupported", f"{reason}: not decoded, {tiff.ADVICE}", layout.size)
        image = plugin("JPEG")(io.BytesIO(stream))
        top = number % each_plane // layout.segments_across * tall
        rows = tall if layout.is_tiled else min(tall, layout.size[1] - top)
        if image.width != wide or not rows <= image.height <= tall:
            reason = f"a strip or tile of {wide} x {rows} pixels holds a JPEG of "
            raise refusal("corrupt", f"{reason}{image.width} x {image.height}", layout.size)
        jpeg.load(image, stream, None)


def _modes(layout: Layout) -> tuple[str, str]:
    """Return Pillow's mode for the picture, and its raw mode for the levels."""
    if layout.photometric in (tiff.RGB, tiff.PALETTE):
        return (("RGB", "RGB"), ("RGBA", "RGBa"), ("RGBA", "RGBA"))[layout.alpha]
    if layout.photometric == tiff.CMYK:
        return "CMYK", "CMYK"
    return (("L", "L"), ("La", "La"), ("LA", "LA"))[layout.alpha]


def _levels(layout: Layout, content: bytes) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the first row's number and some rows of 8-bit levels: (rows, W, channels)."""
    alpha = layout.alpha
    channels = layout.colours + bool(alpha)
    if layout.palette is not None:
        for top, samples in bands(layout, content):
            yield top, layout.palette[samples[..., 0]]
    elif layout.kind == "u" and layout.bits <= 16:
        colours, transparency = _tables(layout)
        for top, samples in bands(layout, content):
            levels = colours[samples[..., :channels]]
            if alpha:
                levels[..., -1] = transparency[samples[..., channels - 1]]
            yield top, levels
    else:
        black, white = _black_and_white(layout, content)
        for top, samples in bands(layout, content):
            yield top, to_levels(samples[..., :channels], black, white)


def _tables(layout: Layout) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the 8-bit level of each value of a sample of up to 16 bits: for colours, for alpha."""
    numbers = np.arange(1 << layout.bits)
    if layout.bits == 16 and layout.photometric not in tiff.GREYS:
        table = (numbers >> 8).astype(np.uint8)  # as Pillow does
    else:
        table = np.rint(numbers * 255 / numbers[-1]).astype(np.uint8)
    return (table[::-1].copy() if layout.photometric == 0 else table), table


def _black_and_white(layout: Layout, content: bytes) -> tuple[float, float]:
    """Return the values of black and white, from all pixels if the bit depth does not fix them."""
    ranges = [
        found
        for _, samples in bands(layout, content)
        if (found := finite_range(samples[..., : layout.colours]))
    ]
    found = (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None
    full = 255.0 if layout.bits == 8 else 65535.0
    low, high = displayed_range(found, layout.kind, full)
    return (high, low) if layout.photometric == 0 and layout.kind == "f" else (low, high)
