"""A file that lists images, on this machine or in a bucket, read in a stream."""

from __future__ import annotations

import csv
import gzip
import io
import os
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import RunError, SourceError
from pomona.io.location import is_remote, local_path
from pomona.io.remote import RemotePlace
from pomona.messages import one_line
from pomona.source.image_file import ImageFile, look_at, milliseconds
from pomona.source.stores import Stores

if TYPE_CHECKING:
    from pyarrow import NativeFile

__all__ = ["LIST_ENDINGS", "Entry", "ListFile", "entries_of", "lines_of", "size_of", "time_of"]

LIST_ENDINGS = (".txt", ".txt.gz", ".csv", ".csv.gz", ".parquet")
"""The last letters of a list's name, in any letter case."""

_LONGEST_LINE = 2**16
_LONGEST_CSV_LINE = 2**20
_ROWS = 4096
_LOOK_S = 10.0  # the address may be wrong

Entry = Mapping[str, Any]
"""The columns of a line."""


@dataclass(frozen=True, slots=True)
class ListFile:
    """A file that lists images.

    Attributes:
        name: its path on this machine, or its URI without credentials and settings.
        place: its bucket; None on this machine.
    """

    name: str
    place: RemotePlace | None = None

    @classmethod
    def at(cls, location: str) -> ListFile:
        """Return the file at a path or a URI."""
        if not is_remote(location):
            return cls(local_path(location))
        place, uri = RemotePlace.of(location)
        return cls(uri, place)

    @property
    def ending(self) -> str | None:
        """Which of `LIST_ENDINGS` its name has."""
        return next(filter(self.name.lower().endswith, sorted(LIST_ENDINGS, key=len)[::-1]), None)

    def bytes_there(self) -> int | None:
        """Return its size in bytes; None if there is no such file.

        Raises:
            SourceError: the store cannot be reached.
        """
        if self.place is None:
            return look_at(self.name).size
        far = ImageFile(self.name, None, None, self.place)
        try:
            (found,) = Stores().looked_at([far], _LOOK_S)
        except RunError as error:
            raise SourceError(f"cannot reach {self.name}: {error.__cause__}") from error
        return found.size

    def opened(self) -> IO[bytes] | NativeFile:
        """Return the file, open for reading at any position.

        Raises:
            OSError: it cannot be read.
        """
        if self.place is None:
            return open(self.name, "rb")  # noqa: PTH123 - names may be no valid text
        return self.place.system().open_input_file(self.place.path(self.name))

    def stream(self) -> io.BufferedReader:
        """Return its bytes in order, unpacked if its name ends in `.gz`.

        Raises:
            OSError: it cannot be read.
        """
        file: Any = self.opened()
        if self.name.lower().endswith(".gz"):
            file = _Unpacked(fileobj=file)
        return io.BufferedReader(file)

    def beside(self, path: str) -> str:
        """Return the absolute path or the URI of a path that starts at the folder of the file."""
        if path.startswith("/") or self.place is None:
            folder = os.path.dirname(os.path.abspath(self.name)) if self.place is None else "/"  # noqa: PTH100, PTH120
            return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118
        folder = posixpath.dirname(self.name[len(self.place.top) :]) or "/"
        return self.place.top + posixpath.normpath(posixpath.join(folder, path))


class _Unpacked(gzip.GzipFile):
    """A gzip file that closes what it reads."""

    def close(self) -> None:
        """Close both files."""
        packed: Any = self.fileobj
        super().close()
        if packed is not None:
            packed.close()


def entries_of(file: ListFile, columns: Iterable[str], required: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of a list that have a path.

    Args:
        file: a file whose `ending` is one of `LIST_ENDINGS`.
        columns: columns to read if they are there.
        required: columns that must be there.

    Raises:
        SourceError: the list cannot be read, or lacks a column.
    """
    kind = (file.ending or "").removesuffix(".gz")
    read = {".txt": _text, ".csv": _csv, ".parquet": _parquet}[kind]
    wanted = list(dict.fromkeys([*required, *columns]))
    try:
        for number, entry in enumerate(read(file, wanted), 1):
            if missing := [name for name in required if name not in entry]:
                inside = "for images inside it, give `image_column`"
                line = "its first line must name the columns, and one of them is path"
                raise SourceError(
                    f"{file.name} has no column {missing[0]!r} and so is not a list of "
                    f"images: {inside if kind == '.parquet' else line}"
                )
            path = entry["path"]
            if path and "\0" in path:
                raise SourceError(f"{file.name} is not a list of paths: see its row {number}")
            if path:
                yield entry
    except (OSError, EOFError, ValueError, zlib.error, csv.Error, pa.ArrowException) as error:
        raise SourceError(f"{file.name} cannot be read as a list: {one_line(error)}") from error


def _plain(column: pa.Array) -> pa.Array:
    """Return a column with values of a common type: Python has no nanoseconds."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return column if is_number else column.cast(pa.string())


def size_of(value: object) -> int | None:
    """Return a number of bytes; None if the value is not one."""
    try:
        size = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return size if 0 <= size < 2**63 else None


def time_of(value: object) -> int | None:
    """Return milliseconds since 1970 for a timestamp, or for text in ISO 8601; UTC by default."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(time, datetime):
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return milliseconds(round(time.timestamp() * 1000) * 1_000_000)


def lines_of(stream: io.BufferedReader) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, for the reader of CSV.

    Raises:
        ValueError: a line is too long.
    """
    with io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
        for number, line in enumerate(iter(lambda: text.readline(_LONGEST_CSV_LINE), ""), 1):
            if len(line) == _LONGEST_CSV_LINE:
                raise ValueError(f"line {number} has {_LONGEST_CSV_LINE} letters or more")
            yield line


def _text(file: ListFile, columns: list[str]) -> Iterator[Entry]:  # noqa: ARG001 - it has one
    with file.stream() as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), b""), 1):
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"line {number} has more than {_LONGEST_LINE} bytes")
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield {"path": os.fsdecode(text.rstrip(b"\r\n"))}


def _csv(file: ListFile, columns: list[str]) -> Iterator[Entry]:  # noqa: ARG001 - all are read
    with file.stream() as stream:
        yield from csv.DictReader(lines_of(stream))


def _parquet(file: ListFile, columns: list[str]) -> Iterator[Entry]:
    with file.opened() as opened, pq.ParquetFile(opened) as table:
        known = [name for name in columns if name in table.schema_arrow.names]
        for batch in table.iter_batches(_ROWS, columns=known):
            values = [_plain(batch.column(name)).to_pylist() for name in known]
            yield from (dict(zip(known, row, strict=True)) for row in zip(*values, strict=True))
            if not known:
                yield {}
