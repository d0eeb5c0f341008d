"""A file that lists images, on this machine or in a bucket, read in a stream."""

from __future__ import annotations

import csv
import gzip
import io
import os
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from pomona.source.kept import NOTHING, kept_columns
from pomona.source.stores import Stores

if TYPE_CHECKING:
    from pyarrow import NativeFile

__all__ = [
    "LIST_ENDINGS",
    "Entry",
    "ListFile",
    "columns_of",
    "entries_of",
    "lines_of",
    "size_of",
    "time_of",
]

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


def columns_of(file: ListFile) -> pa.Schema:
    """Return the columns of a list; those of CSV are text, and lines of text have none.

    Raises:
        SourceError: the list cannot be read.
    """
    kind = _kind(file)
    with _errors_of(file):
        if kind == ".parquet":
            with file.opened() as opened, pq.ParquetFile(opened) as table:
                return table.schema_arrow
        with file.stream() as stream:
            names = csv.DictReader(lines_of(stream)).fieldnames if kind == ".csv" else ()
            return pa.schema((name, pa.string()) for name in names or ())


def entries_of(
    file: ListFile, columns: Iterable[str], required: Iterable[str], kept: pa.Schema = NOTHING
) -> Iterator[Entry]:
    """Yield the entries of a list that have a path.

    Args:
        file: a file whose `ending` is one of `LIST_ENDINGS`.
        columns: columns to read if they are there.
        required: columns that must be there.
        kept: other columns of `columns_of`, whose values are to have these types.

    Raises:
        SourceError: the list cannot be read, or lacks a column.
    """
    kind = _kind(file)
    read = {".txt": _text, ".csv": _csv, ".parquet": _parquet}[kind]
    wanted = list(dict.fromkeys([*required, *columns]))
    with _errors_of(file):
        for number, entry in enumerate(read(file, wanted, kept), 1):
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


def _kind(file: ListFile) -> str:
    return (file.ending or "").removesuffix(".gz")


@contextmanager
def _errors_of(file: ListFile) -> Iterator[None]:
    """Convert an error of a file that cannot be read."""
    try:
        yield
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


def _text(file: ListFile, _: list[str], kept: pa.Schema) -> Iterator[Entry]:  # noqa: ARG001 - none
    with file.stream() as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), b""), 1):
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"line {number} has more than {_LONGEST_LINE} bytes")
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield {"path": os.fsdecode(text.rstrip(b"\r\n"))}


def _csv(file: ListFile, columns: list[str], kept: pa.Schema) -> Iterator[Entry]:
    texts = [name for name in (*columns, *kept.names) if name != "path"]
    with file.stream() as stream:
        for entry in csv.DictReader(lines_of(stream)):
            yield entry | {name: _valid(entry[name]) for name in texts if name in entry}


def _valid(text: str | None) -> str | None:
    """Return a value of CSV as valid text; None if it is empty."""
    return os.fsencode(text).decode(errors="replace") if text else None


def _parquet(file: ListFile, columns: list[str], kept: pa.Schema) -> Iterator[Entry]:
    with file.opened() as opened, pq.ParquetFile(opened) as table:
        known = [name for name in columns if name in table.schema_arrow.names]
        names = [*known, *kept.names]
        for batch in table.iter_batches(_ROWS, columns=names):
            values = [_plain(batch.column(name)).to_pylist() for name in known]
            values += kept_columns(batch, kept)
            yield from (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))
            if not names:
                yield {}
