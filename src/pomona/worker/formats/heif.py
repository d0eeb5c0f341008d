"""HEIF and HEIC, read by an optional package."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import cast

from PIL import ImageFile

from pomona.errors import ImageError

__all__ = ["ends_early", "heif_plugin"]


def heif_plugin() -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Return pillow-heif's class for Pillow.

    Raises:
        ImageError: `unsupported`: it is not installed.
    """
    try:
        plugin = import_module("pillow_heif").HeifImageFile
    except ImportError as error:
        reason = "HEIF: to read HEIC and HEIF, install the extra 'heif' (the package pillow-heif)"
        raise ImageError("unsupported", reason, format="HEIF") from error
    return cast("Callable[[io.BytesIO], ImageFile.ImageFile]", plugin)


def ends_early(content: bytes) -> bool:
    """Return whether a file of boxes (HEIF, AVIF) is shorter than its boxes or lacks the data."""
    at = 0
    names = set()
    while at < len(content):
        size, name = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16])
        if size == 0 and len(name) == 4:  # to the end of the file
            return False
        names.add(name)
        at += max(size, 8)
        if at > len(content):
            return len(name) < 4 or name.isalnum()
    return b"mdat" not in names
