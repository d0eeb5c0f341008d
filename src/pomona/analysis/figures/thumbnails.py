"""Thumbnails of a table's images, read from their files; None if a file cannot be read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from pomona.cores import available_cores
from pomona.errors import ImageError
from pomona.io.location import is_remote, path_of_row, read_file
from pomona.io.member_uri import member_of_row
from pomona.source.archives.one_member import read_member
from pomona.worker.decode import decode
from pomona.worker.pillow_limits import quiet_codecs

__all__ = ["as_webp", "read_thumbnails", "thumbnail"]

_QUALITY = 70


def thumbnail(path: str, side: int) -> Image.Image | None:
    """Read an image, upright and in RGB, no side longer than `side` pixels.

    Args:
        path: a path or URI, as a feature table has it.
        side: longest side in pixels. A smaller image keeps its size.

    Returns:
        The picture; None if the file no longer exists or is not an image.
    """
    try:
        picture = decode(_content(path), draft=(side, side))
    except (OSError, ValueError, ImageError):
        return None
    image = picture.image
    # Reduce to twice the side first, which is fast, and then filter.
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image if picture.orientation is None else image.transpose(picture.orientation)


def _content(path: str) -> bytes:
    """Read the bytes of a row's image.

    Raises:
        OSError: it cannot be read.
    """
    if member_of_row(path):
        content, reason = read_member(path)
        if content is None:
            raise OSError(reason)
        return content
    place = path_of_row(path)
    if not is_remote(place) and not Path(place).is_file():
        raise OSError("not a regular file")  # on a pipe, reading would block
    return read_file(place)


def read_thumbnails(paths: Iterable[str], side: int) -> Iterator[Image.Image | None]:
    """Read thumbnails in the order of the paths; decoding uses all cores."""
    with quiet_codecs(), ThreadPoolExecutor(available_cores()) as pool:
        yield from pool.map(lambda path: thumbnail(path, side), paths)


def as_webp(image: Image.Image) -> bytes:
    """Return the picture as WebP, which has half of JPEG's size at 100 pixels."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=4)
    return file.getvalue()
