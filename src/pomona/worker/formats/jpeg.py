"""The pixels of a JPEG, and whether all of them are in the file.

Pillow hides the warnings of libjpeg: data that ends too early becomes grey blocks without an error.
simplejpeg decodes with the same library, to the same pixels, and turns warnings into errors. A file
without a warning is decoded once. If libjpeg warns, `JpegData` distinguishes lost data from
harmless bytes. A file of several scans is examined first, because some of them may be missing.
"""

from __future__ import annotations

import io
import re
from contextlib import suppress
from typing import Any, cast

import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image, ImageFile

from pomona.messages import count_of
from pomona.worker.formats.jpeg_data import END, JpegData

__all__ = ["load"]

_PADDING = 8
"""Bytes of any value between the data and the end marker that are allowed: cameras write some."""

_OWN_ZEROS = 2
"""Zero bytes that the data of a scan itself may end with: its padding is ones."""

_LIKE_A_GAP = (b"\0", b"\0" + END)

_FLAT_BLOCK_BYTES = (4, 5, 7)
"""The bits of a block of one colour in baseline data with the usual tables (ITU-T T.81, K.3).

32 bits for one block of 4:2:0, 20 for one of 4:2:2, 14 for one of 4:4:4.
"""

_ENCODERS_ZEROS = 6
"""Zeros that an arithmetic decoder reads after complete data: up to 4 for 300 drawn pictures."""

_ENDS_EARLY = "premature end of data segment"
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")

_FILLER = bytes(2**18)
"""Replaces missing bytes of a restart interval: more than an interval can need."""


def load(image: ImageFile.ImageFile, content: bytes, draft: tuple[int, int] | None) -> Image.Image:
    """Decode the pixels after Pillow's plugin has read the header.

    Args:
        image: the plugin's image with the header.
        content: the whole file.
        draft: (width, height) that is enough: the picture may be scaled by 2, 4 or 8.

    Returns:
        Mode RGB, L or CMYK.

    Raises:
        OSError: data of the picture is missing ("truncated" is in the message) or damaged, or
            libjpeg cannot read this kind of JPEG.
    """
    if draft is not None and max(image.size) >= 16:  # below, two scales give the same size
        image.draft(None, draft)
    if not _may_end_in_a_gap(image, content) and _has_one_scan(image, content):
        # Do not read the markers: that takes 4 % of decoding at an eighth of the size.
        with suppress(ValueError):
            return _decoded(image, content if content.endswith(END) else content + END)
    data = JpegData(content)
    if data.is_complete and not data.is_arithmetic and not _ends_in_zeros(data):
        with suppress(ValueError):
            return _decoded(image, content if content.endswith(END) else data.without_trailer)
    if data.frame is not None:
        _refuse_lost_data(data)
        image.fp = io.BytesIO(data.without_trailer)
    image.load()
    return image


def _may_end_in_a_gap(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Return whether the last zeros may replace lost data, so that the scans must be examined.

    One in eight pictures whose lower edge has one colour ends with a zero byte before the end
    marker. In most of these the last bytes repeat. Otherwise the byte is data if libjpeg lacks bits
    without it, which decoding at an eighth of the size shows for half the price.
    """
    if not content.endswith(_LIKE_A_GAP):
        return False
    if not content.endswith(END) or content[-4:-2] == bytes(2):
        return True
    if _ends_in_flat_blocks(content[:-2]):
        return False
    colours = "CMYK" if image.mode == "CMYK" else "RGB"
    try:
        simplejpeg.decode_jpeg(content[:-3] + b"\1" + END, colours, min_height=1, min_width=1)
    except ValueError as error:
        return _ENDS_EARLY not in str(error)
    return True


def _ends_in_flat_blocks(data: bytes) -> bool:
    """Return whether the last bytes repeat, so that the encoder wrote the last one.

    The same bytes occur earlier, followed by data. If blocks were lost after the repeated ones,
    libjpeg lacks bits and warns.
    """
    return any(data[-size:] == data[-2 * size : -size] for size in _FLAT_BLOCK_BYTES)


def _has_one_scan(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Return whether the first scan holds the whole picture, as in most files.

    This searches for no markers.
    """
    layers = cast("Any", image).layers
    end = cast("io.BytesIO", image.fp).tell()  # the plugin stops after the header of a scan
    header = content[end - 8 - 2 * layers : end]
    return (
        header.startswith(b"\xff\xda" + bytes([0, 6 + 2 * layers, layers]))
        and header.endswith(b"\0\x3f\0")  # all coefficients, all bits
        and content.find(b"\xff\xc9", 0, end) < 0  # no arithmetic coding
    )


def _decoded(image: ImageFile.ImageFile, content: bytes) -> Image.Image:
    """Decode with simplejpeg, to the same pixels as Pillow.

    Raises:
        ValueError: libjpeg warns, or cannot decode the file.
    """
    width, height = image.size  # after `draft`
    factor = image.decoderconfig[0] if image.decoderconfig else 1
    is_cmyk = image.mode == "CMYK"
    pixels = simplejpeg.decode_jpeg(
        content,
        "CMYK" if is_cmyk else "RGBA",
        min_height=height,
        min_width=width,
        min_factor=factor,
    )  # (H, W, 4) uint8
    if pixels.shape != (height, width, 4):
        raise ValueError(f"{pixels.shape} instead of {height} x {width} pixels")
    if is_cmyk:
        np.invert(pixels, out=pixels)  # Pillow assumes that every CMYK JPEG is Adobe's
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), 4)
    return Image.fromarrow(flat, "CMYK" if is_cmyk else "RGB", (width, height))  # without a copy


def _refuse_lost_data(data: JpegData) -> None:
    """Decode the scans without the rest of the file, and check the warnings of libjpeg.

    Raises:
        OSError: data of the picture is missing or damaged.
    """
    if not data.is_complete:
        raise _truncated("the scans do not complete the picture")
    if data.restarts_missing:
        raise _truncated(f"it lacks {data.restarts_missing} restart markers")
    # An interrupted download in a file of the full size: libjpeg decodes zeros as pixels.
    if not data.is_arithmetic and _ends_in_zeros(data):
        scan = bytes(data.last_scan)
        zeros = len(scan) - len(scan.rstrip(b"\0"))
        if not _holds_its_zeros(data, zeros):
            raise _truncated(f"the data ends in {count_of(zeros, 'zero')}")
    warning = _warning(data)
    if data.is_arithmetic:
        _refuse_arithmetic(data)
    elif left := _LEFT_OVER.search(warning):
        _refuse_leftovers(data, int(left[1]), warning)
    elif _ENDS_EARLY in warning:
        # In a restart interval before the last one, data is damaged, not missing.
        damaged = data.restarts and _ENDS_EARLY in _warning(data, followed_by=_FILLER)
        raise OSError(warning) if damaged else _truncated(warning)
    elif warning.startswith("Corrupt JPEG data"):
        raise OSError(warning)


def _ends_in_zeros(data: JpegData) -> bool:
    return bytes(data.last_scan[-1:]) == b"\0"


def _holds_its_zeros(data: JpegData, zeros: int) -> bool:
    """Return whether the picture is complete without zeros that are not its own.

    A decoder reads zeros as data, and a few of them may complete the last blocks. Encoders pad the
    last byte with ones (ITU-T T.81, F.1.2.3). So the picture needs every bit of a zero byte that
    belongs to it.
    """
    for own in range(min(zeros, _OWN_ZEROS) + 1):
        if _ENDS_EARLY not in _warning(data, dropped=zeros - own):
            return own == 0 or _needs_last_bit(data, dropped=zeros - own)
    return False


def _needs_last_bit(data: JpegData, dropped: int) -> bool:
    scans = data.bare[:-dropped] if dropped else data.bare
    with_zero, with_one = (_scan_pixels(data, scans[:-1] + last) for last in (b"\0", b"\1"))
    return with_zero is None or with_one is None or not np.array_equal(with_zero, with_one)


def _scan_pixels(data: JpegData, scans: bytes) -> np.ndarray | None:
    """Return the pixels of the scans, (H, W, channels) uint8; None if libjpeg warns."""
    try:
        return cast("np.ndarray", simplejpeg.decode_jpeg(scans + END, _colours(data)))
    except ValueError:
        return None


def _colours(data: JpegData) -> str:
    return "CMYK" if data.frame and len(data.frame.sampling) == 4 else "RGB"


def _refuse_leftovers(data: JpegData, count: int, warning: str) -> None:
    """Distinguish harmless padding and trailers from damage that left data over.

    Raises:
        OSError: data of the picture is missing or damaged.
    """
    scan = bytes(data.last_scan)
    if data.has_end_marker and count > _PADDING and len(set(scan[-count:])) > 1:
        raise OSError(warning)


def _refuse_arithmetic(data: JpegData) -> None:
    """Append zeros to the data: an arithmetic decoder reads as many as it needs without a warning.

    It would also read the first bytes of a trailer as data, so that nothing may be left over.

    Raises:
        OSError: data of the picture is missing or damaged.
    """
    warning = _warning(data, followed_by=bytes(64))
    left = _LEFT_OVER.search(warning)
    spare = int(left[1]) if left else 0
    if spare > 64 or (not left and warning.startswith("Corrupt JPEG data")):
        raise OSError(warning)
    if spare < 64 - _ENCODERS_ZEROS:
        raise _truncated("the data ends before the picture")


def _warning(data: JpegData, followed_by: bytes = b"", dropped: int = 0) -> str:
    """Return the warning of libjpeg about the scans; "" if there is none.

    Args:
        data: the scans.
        followed_by: other bytes, appended to the data of the last scan.
        dropped: how many of the last bytes of that data are removed.
    """
    scans = data.bare[:-dropped] if dropped else data.bare
    if data.is_arithmetic:
        scans = scans.rstrip(b"\0")  # an encoder omits them, and a decoder adds them
    try:
        simplejpeg.decode_jpeg(scans + followed_by + END, _colours(data), min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return ""


def _truncated(reason: str) -> OSError:
    return OSError(f"image file is truncated: {reason}")
