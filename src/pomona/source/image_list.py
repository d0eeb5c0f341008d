"""A list of images: a text file with one path in each line, or the column `path` of CSV or Parquet.

The list is read in a stream. A path is relative to the folder of the list.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import RunError, SourceError
from pomona.io.location import is_remote, local_path, scheme_of, without_password
from pomona.messages import one_line
from pomona.source.archives.member import NotBytes
from pomona.source.archives.reader import MemberReader
from pomona.source.image_file import ImageFile, content_digest, look_at, milliseconds
from pomona.source.passed_over import PassedOver

__all__ = ["ImageList", "is_list"]

_ENDINGS = (".txt", ".csv", ".parquet")
_LONGEST_LINE = 2**16
_ROWS = 4096
_KEY = "S16"

_Entry = Mapping[str, Any]


def is_list(source: str) -> bool:
    """Return whether a source is a list of images: a file that can be nothing else."""
    place = local_path(source)
    return place.lower().endswith(_ENDINGS) and os.path.isfile(place)  # noqa: PTH113


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images in a list.

    Attributes:
        given: the value of `source`: a file that `is_list` accepts.
    """

    given: str

    @property
    def reader(self) -> MemberReader:
        """What reads the images."""
        return MemberReader()

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that an image has changed: size and time do."""
        return False

    def check(self) -> None:
        """Check the beginning of the list.

        Raises:
            SourceError: it cannot be read, has no images, or its first path is not on this machine.
        """
        first = next(self._entries(()), None)
        if first is None:
            raise SourceError(f"{self.given} lists no image: expected a path in each line")
        if reason := _elsewhere(first["path"]):
            raise SourceError(
                f"{self.given} lists {without_password(first['path'])}, which {reason}"
            )

    def files(
        self,
        on_error: Callable[[OSError], None],  # noqa: ARG002 - no folder is listed
        passed_over: PassedOver | None = None,
    ) -> Iterator[ImageFile]:
        """Yield the images in the order of the list, each once.

        Raises:
            RunError: the list is damaged.
        """
        passed_over, seen = passed_over or PassedOver(), _Seen()
        try:
            for entries in _groups(self._entries(("size", "modified"))):
                files = [self._file(entry) for entry in entries]
                for file, is_new in zip(files, seen.add([f.uri for f in files]), strict=True):
                    if is_new:
                        yield file
                    else:
                        passed_over.listed_before()
        except SourceError as error:
            raise RunError(f"{error}; rows written so far stay") from error

    def is_gone(self, uri: str) -> bool:  # noqa: ARG002 - nothing records what an earlier list had
        """Return False: a list does not tell which rows came from it."""
        return False

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        return content_digest(file)

    def labels(self, column: str) -> dict[str, str | None]:
        """Return the values of a column as labels, by the path of the row.

        Raises:
            SourceError: there is no such column.
        """
        if not self._is_table():
            raise SourceError(
                f"{self.given} has no columns: give CSV or Parquet, or another `label`"
            )
        found: dict[str, str | None] = {}
        for entry in self._entries((column,), required=("path", column)):
            value = entry[column]
            path = entry["path"]
            uri = path if _elsewhere(path) else ImageFile(self._absolute(path), None, None).uri
            found[uri] = None if value in {None, ""} else str(value)
        return found

    def _file(self, entry: _Entry) -> ImageFile:
        path = entry["path"]
        if reason := _elsewhere(path):
            named = without_password(path).encode(errors="replace").decode()
            return ImageFile(named, None, None, NotBytes(reason))
        place = self._absolute(path)
        size, modified = _size(entry.get("size")), _time(entry.get("modified"))
        if size is None or modified is None:
            return look_at(place)
        return ImageFile(place, size, modified)

    def _absolute(self, path: str) -> str:
        folder = os.path.dirname(os.path.abspath(local_path(self.given)))  # noqa: PTH100, PTH120
        return os.path.abspath(os.path.join(folder, local_path(path)))  # noqa: PTH100, PTH118

    def _is_table(self) -> bool:
        return not self.given.lower().endswith(".txt")

    def _entries(
        self, columns: Iterable[str], required: Iterable[str] = ("path",)
    ) -> Iterator[_Entry]:
        """Yield the entries with a path.

        Raises:
            SourceError: the list cannot be read, or lacks a column.
        """
        ending = os.path.splitext(self.given)[1].lower()  # noqa: PTH122 - no valid text
        read = {".txt": _text, ".csv": _csv, ".parquet": _parquet}[ending]
        wanted = dict.fromkeys([*required, *columns])
        try:
            for number, entry in enumerate(read(local_path(self.given), list(wanted)), 1):
                if missing := [name for name in required if name not in entry]:
                    inside = "for images inside it, give `image_column`"
                    line = "its first line must name the columns, and one of them is path"
                    raise SourceError(
                        f"{self.given} has no column {missing[0]!r} and so is not a list of "
                        f"images: {inside if ending == '.parquet' else line}"
                    )
                path = entry["path"]
                if path and "\0" in path:
                    raise SourceError(f"{self.given} is not a list of paths: see its row {number}")
                if path:
                    yield entry
        except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
            raise SourceError(
                f"{self.given} cannot be read as a list: {one_line(error)}"
            ) from error


def _text(path: str, columns: list[str]) -> Iterator[_Entry]:  # noqa: ARG001 - it has one
    with open(path, "rb") as file:  # noqa: PTH123 - names may be no valid text
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"line {number} has more than {_LONGEST_LINE} bytes")
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield {"path": os.fsdecode(text.rstrip(b"\r\n"))}


def _csv(path: str, columns: list[str]) -> Iterator[_Entry]:  # noqa: ARG001 - all are read
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:  # noqa: PTH123
        yield from csv.DictReader(file)


def _parquet(path: str, columns: list[str]) -> Iterator[_Entry]:
    with pq.ParquetFile(path) as file:
        known = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(_ROWS, columns=known):
            values = [_plain(batch.column(name)).to_pylist() for name in known]
            yield from (dict(zip(known, row, strict=True)) for row in zip(*values, strict=True))
            if not known:
                yield {}


def _plain(column: pa.Array) -> pa.Array:
    """Return a column with values of a common type: Python has no nanoseconds."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return column if is_number else column.cast(pa.string())


def _groups(entries: Iterator[_Entry]) -> Iterator[list[_Entry]]:
    group: list[_Entry] = []
    size = 1  # the first image does not wait for others
    for entry in entries:
        group.append(entry)
        if len(group) >= size:
            yield group
            group, size = [], _ROWS
    if group:
        yield group


def _elsewhere(path: str) -> str | None:
    """Return why an image is not read; None if it is on this machine."""
    scheme = scheme_of(path)
    if scheme in {"http", "https"} and is_remote(path):
        return "is a web address: download the image, and list the file"
    if is_remote(path):
        return f"is on the file system {scheme!r}: a list names files of this machine"
    return None


def _size(value: object) -> int | None:
    try:
        size = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    return size if size >= 0 else None


def _time(value: object) -> int | None:
    """Return milliseconds since 1970 for a timestamp, or for text in ISO 8601; UTC by default."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(time, datetime):
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return milliseconds(round(time.timestamp() * 1000) * 1_000_000)


class _Seen:
    """The paths that were listed: 16 bytes for each."""

    def __init__(self) -> None:
        self._sorted: list[np.ndarray[Any, np.dtype[np.bytes_]]] = []  # the largest first

    def add(self, paths: list[str]) -> list[bool]:
        """Add paths, and return for each whether it is new."""
        digests = [
            hashlib.blake2b(path.encode(), digest_size=15).digest() + b"." for path in paths
        ]  # the last byte is not zero: numpy would cut it off
        keys = np.array(digests, _KEY)
        fresh, first = np.unique(keys, return_index=True)
        is_new = np.zeros(len(keys), bool)
        is_new[first] = True
        for known in self._sorted:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            is_new &= known[at] != keys
        while self._sorted and len(self._sorted[-1]) <= len(fresh):
            fresh = np.union1d(self._sorted.pop(), fresh)
        self._sorted.append(fresh)
        return [bool(new) for new in is_new]
