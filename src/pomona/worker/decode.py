"""Bytes in, RGB picture out: for any bytes, a `Picture` or an `ImageError`.

The bytes decide the format, never a name. Only the formats that `formats.recognition` lists are
opened, each by one plugin. No plugin starts other programs.
"""

from __future__ import annotations

import io
import re
import struct
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image, ImageFile

from pomona.errors import ImageError
from pomona.worker.colours import to_rgb
from pomona.worker.formats import jpeg, jpeg2000, netpbm, png
from pomona.worker.formats.alpha import without_unset_alpha
from pomona.worker.formats.bitfields import with_known_masks
from pomona.worker.formats.heif import ends_early
from pomona.worker.formats.icon import with_true_depths
from pomona.worker.formats.jpeg_data import unsupported_kind
from pomona.worker.formats.recognition import format_of, plugin
from pomona.worker.formats.targa import without_unused_map
from pomona.worker.formats.tiff import read_pixels
from pomona.worker.formats.tiff_layout import Layout, read_layout
from pomona.worker.pillow_limits import strict_limits

__all__ = ["FAILURES", "MAX_PIXELS", "Picture", "decode", "picture_of"]

FAILURES = ("empty", "unsupported", "corrupt", "truncated", "too_large")
"""The classes of failure: `ImageError.status` is one of them."""

MAX_PIXELS = 178_000_000
"""The default limit: about Pillow's own limit, 0.7 GB as RGB."""

_TRUNCATED = re.compile(
    r"(?i)truncat|not enough|unexpected end|reached eof|only got|\(chunk b'\w{0,3}'\)"
)
_UNSUPPORTED = re.compile(
    r"(?i)unsupported (?!operand)|not (yet )?supported(?! between)|not installed|cannot handle"
    r"|unknown pixel mode"
)
_PLAINER = {
    "not identified by this driver": "no valid size or colour mode in the header",
    "decoder error -2": "libtiff cannot decode the data",
}
# Errors that Python itself raises if a plugin trusts a wrong number or text in a header.
_OF_PYTHON = (ArithmeticError, AttributeError, LookupError, TypeError, UnicodeError, struct.error)
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_ORIENTATIONS[value] for value in (5, 6, 7, 8)}


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded image.

    Attributes:
        image: the pixels, mode RGB, as stored. Two exceptions: a TIFF is upright already, and with
            `draft` a JPEG may be smaller than stored.
        orientation: the transposition that turns `image` upright, from EXIF; None if it is upright.
            Compare with None: one of Pillow's transpositions is 0.
        width: width as stored in the file, before orientation and draft scaling.
        height: height as stored in the file, before orientation and draft scaling.
        format: the format of the bytes, in Pillow's words: `JPEG`, `PNG`, ...
    """

    image: Image.Image
    orientation: Image.Transpose | None
    width: int
    height: int
    format: str

    @property
    def sideways(self) -> bool:
        """Whether `orientation` swaps width and height."""
        return self.orientation in _SIDEWAYS


def decode(
    content: bytes | memoryview,
    *,
    max_pixels: int = MAX_PIXELS,
    draft: tuple[int, int] | None = None,
) -> Picture:
    """Turn the bytes of one image file into an RGB picture.

    Transparent pixels are drawn over white. The picture of an animation is its first frame. Greys
    of 16 and 32 bits and floats are scaled to 8 bits, not clipped (see `pomona.worker.colours`).

    Args:
        content: the whole file.
        max_pixels: an image with more pixels is refused before its pixels are decoded.
        draft: (width, height) that is enough: a JPEG may be scaled down by 2, 4 or 8 while it is
            decoded, but never below this. That is faster, and the pixels differ slightly.

    Raises:
        ImageError: the bytes do not become a picture. No other exception is raised.
    """
    content = bytes(content)  # does not copy bytes
    name = format_of(content)
    size: tuple[int, int] | None = None
    with strict_limits(max_pixels):
        try:
            opened = read_layout(content) if name == "TIFF" else _open(name, content)
            width, height = size = opened.size
            if width * height > max_pixels:
                reason = f"{width} x {height} = {width * height} pixels"
                reason += f", the limit is {max_pixels}: raise it with `max_pixels`"
                raise _error("too_large", name, reason, size)
            if isinstance(opened, Layout):
                pixels = to_rgb(read_pixels(opened, content, max_pixels), "")
                return Picture(pixels, None, width, height, name)
            return _picture(opened, name, content, draft)
        except ImageError:
            raise
        # For malicious bytes, Pillow's plugins raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, KeyError, MemoryError, ...
        except Exception as error:
            raise _failure(error, size, name, content, max_pixels) from error


def picture_of(image: Image.Image) -> Picture:
    """Return a PIL image as if it had been decoded from a file.

    Args:
        image: in any mode. Its EXIF orientation counts, like that of a file.

    Raises:
        ImageError: its pixels cannot be loaded.
    """
    width, height = image.size
    try:
        pixels = to_rgb(image.copy(), "")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        status = "truncated" if _TRUNCATED.search(reason) else "corrupt"
        raise _error(status, image.format or image.mode, reason, image.size) from error
    return Picture(pixels, _orientation(image), width, height, image.format or image.mode)


def _open(name: str, content: bytes) -> ImageFile.ImageFile:
    """Read the header."""
    if name in ("BMP", "DIB"):
        content = with_known_masks(content)
    if name == "ICO":
        content = with_true_depths(content)
    if name == "TGA":
        content = without_unused_map(content)
    if name == "PNG":
        try:
            return plugin(name)(io.BytesIO(png.essential(content)))
        except Exception:
            png.check(content)
            raise
    try:
        return plugin(name)(io.BytesIO(content))
    except SyntaxError as error:
        if name == "JPEG" and (kind := unsupported_kind(content)):
            raise _error("unsupported", name, f"{kind}: not decoded", None) from error
        # Pillow reads a JPEG's resolution from EXIF, and fails if EXIF is one or two bytes long.
        if name == "JPEG" and isinstance(error.__cause__, IndexError) and b"Exif\0\0" in content:
            return plugin(name)(io.BytesIO(content.replace(b"Exif\0\0", b"none\0\0")))
        raise


def _error(status: str, name: str, reason: str, size: tuple[int, int] | None) -> ImageError:
    """Return the error. Its message is one printable line of at most 200 characters."""
    letters = (letter if letter.isprintable() else "?" for letter in f"{name}: {reason}")
    message = "".join(letters)[:200]
    # A header may claim a size beyond 31 bits, which does not fit into the table's columns.
    width, height = size if size and max(size) < 2**31 else (None, None)
    return ImageError(status, message, width=width, height=height, format=name)


def _picture(
    image: ImageFile.ImageFile, name: str, content: bytes, draft: tuple[int, int] | None
) -> Picture:
    """Decode the pixels after the header was read."""
    width, height = image.size
    if name == "JPEG2000":
        pixels = to_rgb(jpeg2000.load(image, content), "")
        return Picture(pixels, _orientation(image), width, height, name)
    if name == "PNG":
        png.check(content)
    if name == "JPEG":
        upright = draft and (draft[::-1] if _orientation(image) in _SIDEWAYS else draft)
        pixels = jpeg.load(image, content, upright)
        return Picture(to_rgb(pixels, ""), _orientation(image), width, height, name)
    tile = image.tile[0][3] if image.tile else ""
    layout = str(tile[0] if isinstance(tile, tuple) and tile else tile)
    image.load()
    if name == "PNG":
        png.check_rows(image, content)
    pixels = to_rgb(without_unset_alpha(image, content), layout)
    return Picture(pixels, _orientation(image), width, height, name)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return the orientation from EXIF, or else XMP. A damaged or invalid block means upright."""
    if image.format == "HEIF":  # libheif turns it according to its own boxes, which agree with EXIF
        return None
    try:
        return _ORIENTATIONS.get(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - the same plugins as in `decode`, and no pixel depends on it
        return None


def _failure(
    error: Exception, size: tuple[int, int] | None, name: str, content: bytes, max_pixels: int
) -> ImageError:
    """Return the class of failure and one line about it, for an exception of Pillow."""
    reason = " ".join(str(error).split()) or type(error).__name__
    status = "corrupt"
    if isinstance(error, Image.DecompressionBombError):
        status = "too_large"
        pixels = "".join(re.findall(r"\((\d+) pixels", reason)[:1])
        reason = (
            f"a frame of {pixels} pixels, the limit is {max_pixels}: raise it with `max_pixels`"
        )
    elif isinstance(error, MemoryError):
        status, reason = "too_large", "its pixels do not fit into memory"
    elif name == "PPM" and (fault := netpbm.fault(content)):
        reason = fault
    elif _ends_in_header(name, content):
        status, reason = "truncated", f"the header continues after the last of {len(content)} bytes"
    elif _TRUNCATED.search(reason):
        status = "truncated"
    elif _ends_in_data(name, content):
        status, reason = "truncated", f"the data continues after the last of {len(content)} bytes"
    elif _UNSUPPORTED.search(reason):
        status = "unsupported"
    elif _is_of_python(error):
        reason = "the header is damaged: a number or a text in it is invalid"
    return _error(status, name, _PLAINER.get(reason, reason), size)


def _is_of_python(error: Exception) -> bool:
    """Return whether Python raised an error or its cause, and not the code of a plugin."""
    first = error.__context__ if str(error.__context__) == str(error) else error
    return isinstance(first, _OF_PYTHON)


class _Counted(io.BytesIO):
    """Bytes that remember whether a reader asked for more than there are."""

    ran_out = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        # A decoder always asks for MAXBLOCK bytes; a header asks only for what it needs.
        if size is not None and len(data) < size < ImageFile.MAXBLOCK:
            self.ran_out = True
        return data


def _ends_in_header(name: str, content: bytes) -> bool:
    """Read the header again, and return whether it continues after the last byte."""
    stream = _Counted(content)
    with suppress(Exception):
        plugin(name)(stream)
    return stream.ran_out


def _ends_in_data(name: str, content: bytes) -> bool:
    """Return whether the file declares data after its last byte, if its decoder does not check."""
    if name in ("HEIF", "AVIF"):
        return ends_early(content)
    return name == "WEBP" and 8 + int.from_bytes(content[4:8], "little") > len(content)
