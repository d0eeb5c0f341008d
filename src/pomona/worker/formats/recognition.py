"""The format of a file's bytes, and the Pillow plugin that reads it."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import cast

from PIL import ImageFile

from pomona.errors import ImageError
from pomona.worker.formats.heif import heif_plugin

__all__ = ["format_of", "plugin"]

# Format, in Pillow's words -> the start of the names of its module and its class. The class is used
# instead of `Image.open`, which hides why a header was refused. MPO is omitted on purpose: its
# first frame is the JPEG itself, so a damaged index of other frames does no harm.
_PLUGINS = {
    "JPEG": ("Jpeg", "Jpeg"),
    "PNG": ("Png", "Png"),
    "GIF": ("Gif", "Gif"),
    "WEBP": ("WebP", "WebP"),
    "BMP": ("Bmp", "Bmp"),
    "DIB": ("Bmp", "Dib"),
    "TIFF": ("Tiff", "Tiff"),
    "PPM": ("Ppm", "Ppm"),
    "ICO": ("Ico", "Ico"),
    "JPEG2000": ("Jpeg2K", "Jpeg2K"),
    "AVIF": ("Avif", "Avif"),
    "TGA": ("Tga", "Tga"),
}
_MAGIC = re.compile(
    rb"""(?sx)
      (?P<JPEG> \xff\xd8\xff) | (?P<PNG> \x89PNG\r\n\x1a\n) | (?P<GIF> GIF8[79]a)
    | (?P<WEBP> RIFF.{4}WEBP) | (?P<BMP> BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0)
    | (?P<TIFF> II(?:[*+]\0|\0\*) | MM(?:\0[*+]|\*\0)) | (?P<PPM> P[1-6f]\s)
    | (?P<ICO> \0\0\x01\0) | (?P<JPEG2000> \xff\x4f\xff\x51 | \0{3}\x0cjP[ ]{2}\r\n\x87\n)
    | (?P<AVIF> .{4}ftyp(?: avi[fs] | m[is]f1.{4,40}?avi[fs]))
    | (?P<HEIF> .{4}ftyp(?: hei[cxms] | hev[cxms] | m[is]f1 ))
    | (?P<DIB> (?: \x0c\0{3}.{4} | [\x28\x34\x38\x40\x6c\x7c]\0{3}.{8} )  # size of the header
        \x01\0 [\x01\x04\x08\x10\x18\x20]\0 )                              # planes, bits per pixel
    """
)
_LOOKS_LIKE = (
    (rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)", "HTML, perhaps an error page"),
    (rb"(?is)(?:\xef\xbb\xbf)?\s*<(?:svg|!doctype svg|\?xml.*<svg)", "SVG, a drawing: no pixels"),
    (rb"version https://git-lfs", "a Git LFS pointer, `git lfs pull` fetches the image"),
    (rb"%PDF", "PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "EPS or PostScript"),
    (rb"8BPS", "PSD"),
    (rb"(?s).{4}ftyp", "a video, MP4 or MOV"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "gzip"),
    (rb"\0{16}", "nothing but zeros"),
)


def format_of(content: bytes) -> str:
    """Return the format of the bytes.

    Raises:
        ImageError: `unsupported` or `empty`; the message says what the bytes look like.
    """
    if not content:
        raise ImageError("empty", "the file is empty: 0 bytes")
    if magic := _MAGIC.match(content):
        return cast("str", magic.lastgroup)
    guess = next((what for form, what in _LOOKS_LIKE if re.match(form, content[:512])), None)
    if not guess and _is_tga(content):
        return "TGA"
    hint = f"looks like {guess}" if guess else f"expected one of {', '.join([*_PLUGINS, 'HEIF'])}"
    first = f"first bytes {content[:12]!r}"
    raise ImageError("unsupported", f"not an image that can be read: {hint}; {first}")


def _is_tga(content: bytes) -> bool:
    """Return whether the bytes have the footer of TGA 2, or a TGA header with valid fields.

    TGA has no magic number, so this check comes last.
    """
    if content.endswith(b"TRUEVISION-XFILE.\0"):
        return True
    if len(content) < 18:
        return False
    has_map, kind, first, colours, entry, _, _, width, height, depth, flags = struct.unpack(
        "<xBBHHBHHHHBB", content[:18]
    )
    depths: dict[int, tuple[int, ...]] = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}
    if kind & ~8 not in depths or depth not in depths[kind & ~8] or not (width and height):
        return False
    if flags & 0xC0 or flags & 15 not in (0, 1, 8):
        return False
    if has_map == 1:
        return bool(colours) and entry in (15, 16, 24, 32)
    return not (has_map or first or colours) and kind & ~8 != 1


@cache
def plugin(name: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Return Pillow's class for the format. It is imported at the first file of its kind."""
    if name == "HEIF":
        return heif_plugin()
    module, kind = _PLUGINS[name]
    try:
        plugin = getattr(import_module(f"PIL.{module}ImagePlugin"), f"{kind}ImageFile")
    except ImportError as error:
        raise ImageError("unsupported", f"{name}: not read by this Pillow", format=name) from error
    return cast("Callable[[io.BytesIO], ImageFile.ImageFile]", plugin)
