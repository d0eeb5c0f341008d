"""One image file, on this machine or another: how it is listed and read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pomona.io.member_uri import escaped_uri, is_text, member_of_row
from pomona.schema import INPUT_SCHEMA
from pomona.source.labels import LabelRule

__all__ = [
    "BATCH_BYTES",
    "MAX_FILE_BYTES",
    "Content",
    "ImageFile",
    "Place",
    "content_digest",
    "is_for_spark",
    "is_too_large_for_worker",
    "look_at",
    "milliseconds",
    "read_batches",
    "read_content",
]

Content = tuple[bytes | None, str | None]
"""The bytes of an image, or None and the reason why it cannot be read."""

BATCH_BYTES = 16 * 2**20
"""A record batch of images is complete at this size: one photo of 40 MB, or many small images."""

_BATCH_ROWS = 16  # so that a worker computes the first images while others are being read

MAX_FILE_BYTES = 2**31 - 1
"""The limit of one value of Arrow's binary type, and of a byte array in Java."""

_WORKER_FILE_BYTES = 128 * 2**20
"""The largest file that a worker of Spark reads: the cluster limits the memory of each. As
`binaryFile`, a task holds its file up to three times on the JVM's heap, which is 1 GiB by default.
"""

_MODIFIED_MS = range(-62_135_596_800_000, 253_402_300_800_000)  # the years 1 to 9999


class Place(NamedTuple):
    """Where an image is that is not a file of its own: a row of a Parquet file."""

    path: str
    group: int
    row: int


class ImageFile(NamedTuple):
    """One image as it was listed.

    Attributes:
        path: absolute path on this machine, or URI of another file system; or a key.
        size: bytes; None if the file could not be examined, or is not a regular file.
        modified: milliseconds since 1970 (Hadoop's resolution), UTC; None if `size` is None or if
            no calendar has that time.
        place: where the source's reader finds it if it is not a file of its own; `path` is then its
            key or its URI.
        kept: the values of the columns that the run keeps.
    """

    path: str
    size: int | None
    modified: int | None
    place: object | None = None
    kept: tuple[Any, ...] = ()

    @property
    def has_name_for_spark(self) -> bool:
        """Whether the name does not look like one of Spark's own files, which Spark skips."""
        name = self.path.rpartition("/")[2]
        return not (name.startswith((".", "_")) or name.endswith("._COPYING_"))

    @property
    def is_unseen(self) -> bool:
        """Whether nothing but fetching it tells its size: it counts as unchanged, on the web."""
        return self.size is None and self.path.startswith(("http://", "https://"))

    @property
    def uri(self) -> str:
        """The string in the feature table: as in Spark's `binaryFile`, with nothing escaped.

        Strings in Parquet must be valid text: see `escaped_uri` for names that are not.
        """
        path = self.path
        if not path.startswith("/") or self.place is not None:
            return path
        if is_text(path) and member_of_row(path) is None:
            return f"file:{path}"
        return escaped_uri(path)


def look_at(path: str) -> ImageFile:
    """Return the current state of a file on this machine."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # a broken link still gets its row
        return ImageFile(path, None, None)
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return ImageFile(path, size, milliseconds(status.st_mtime_ns))


def milliseconds(nanoseconds: int) -> int | None:
    """Return a time in milliseconds since 1970; None if no calendar has it."""
    found = nanoseconds // 1_000_000
    return found if found in _MODIFIED_MS else None


def is_too_large_for_worker(file: ImageFile) -> bool:
    """Return whether a file is too large for a worker of Spark."""
    return (file.size or 0) > _WORKER_FILE_BYTES


def is_for_spark(file: ImageFile) -> bool:
    """Return whether Spark's `binaryFile` can read a file: it is neither empty nor very large."""
    return file.modified is not None and bool(file.size) and not is_too_large_for_worker(file)


def content_digest(file: ImageFile) -> str | None:
    """Return the SHA-256 of a local file's bytes, in hex; None if it cannot be read."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
                return None
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def read_batches(
    files: Sequence[ImageFile], label: LabelRule, contents: Iterable[Content] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read images into record batches for the worker, `pomona.schema.INPUT_SCHEMA`.

    An image that cannot be read becomes a row without content, with the reason in `read_error`.

    Args:
        files: the images.
        label: returns the label of an image.
        contents: the content of each image; by default they are read as files of this machine.
    """
    contents = map(read_content, files) if contents is None else contents
    rows: list[tuple[ImageFile, bytes | None, str | None]] = []
    held = 0
    for file, (content, error) in zip(files, contents, strict=True):
        rows.append((file, content, error))
        held += len(content or b"")
        if held >= BATCH_BYTES or len(rows) >= _BATCH_ROWS:
            yield _batch(rows, label)
            rows, held = [], 0
    if rows:
        yield _batch(rows, label)


def read_content(file: ImageFile) -> Content:
    """Read a local file.

    Returns:
        Its bytes, or None and the reason why it cannot be read.
    """
    try:
        # Do not block: a named pipe called a.jpg must not stop the run.
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None, "not a regular file"
            if found.st_size > MAX_FILE_BYTES:
                return None, f"holds {found.st_size} bytes: no more than {MAX_FILE_BYTES} are read"
            return opened.read(), None
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"


def _batch(
    rows: Sequence[tuple[ImageFile, bytes | None, str | None]], label: LabelRule
) -> pa.RecordBatch:
    uris = [file.uri for file, _, _ in rows]
    columns = {
        "path": uris,
        "label": [label(uri) for uri in uris],
        "size": [
            len(content) if file.size is None and content is not None else file.size
            for file, content, _ in rows
        ],
        "modified": [file.modified and file.modified * 1000 for file, _, _ in rows],
        "content": [content for _, content, _ in rows],
        "read_error": [error for _, _, error in rows],
    }
    return pa.RecordBatch.from_pydict(columns, INPUT_SCHEMA)
