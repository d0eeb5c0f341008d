"""The Parquet files with a table's rows: in the folder, in its partitions, or named by a log.

features/part-0.parquet                 written by Pomona
features/label=apple/part-0.parquet     written by Spark's partitionBy("label") (Hive's layout)
features/_spark_metadata/7              written by a streaming query: a log of the files
features/_delta_log/00000000000000000007.json   the log of a Delta table, written by its library
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import TableError
from pomona.io.delta_log import read_delta_log
from pomona.io.folders import ArrowFolder, Entry, Folder, LocalFolder
from pomona.table.managed_folders import DELTA, SINK, Managed, managed, refuse_to_read

__all__ = ["Part", "is_part_name", "is_partition", "partition_values", "stored_parts"]

_NULL = "__HIVE_DEFAULT_PARTITION__"  # Spark's name for nulls and empty strings


@dataclass(frozen=True, slots=True)
class Part:
    """A part file to read.

    Attributes:
        folder: the folder that contains it.
        name: its path relative to the table's folder.
        size: size in bytes.
        modified: in seconds since 1970.
        values: values of partition columns, as strings.
    """

    folder: Folder
    name: str
    size: int = 0
    modified: float = 0.0
    values: dict[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.folder}/{self.name.rpartition('/')[2]}"

    def opened(self) -> Path | pa.NativeFile:
        """Return the file in a form that PyArrow's readers accept.

        Raises:
            OSError: it cannot be opened.
        """
        return self.folder.opened(self.name.rpartition("/")[2])

    def parquet(self, *, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
        """Open the file to read rows. The footer of an unchanged local file is parsed only once.

        Args:
            read_dictionary: columns to read as dictionaries.

        Raises:
            OSError, pa.ArrowException: it cannot be opened, or is not a Parquet file.
        """
        source = self.opened()
        if not isinstance(source, Path):
            return pq.ParquetFile(source, read_dictionary=read_dictionary)
        found = _identity(source)
        footer = _footer(source, found)
        file = pq.ParquetFile(source, metadata=footer, read_dictionary=read_dictionary)
        if _identity(source) == found:
            return file
        file.close()  # another run has replaced it
        return pq.ParquetFile(source, read_dictionary=read_dictionary)

    @classmethod
    def of(cls, file: Path) -> Part:
        """Return a part file on this machine."""
        return cls(LocalFolder(file.parent), file.name)


def _identity(file: Path) -> tuple[int, ...]:
    stat = file.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(1024)
def _footer(file: Path, _: tuple[int, ...]) -> pq.FileMetaData:
    return pq.read_metadata(file)


def is_part_name(name: str) -> bool:
    """Return whether a name is that of a part file: it does not begin with `_` or `.`."""
    return name.endswith(".parquet") and not name.startswith((".", "_"))


def is_partition(name: str) -> bool:
    """Return whether a name is that of a partition: `label=apple`; as in Spark, also `_key=1`."""
    return "=" in name[1:] and not name.startswith(".")


def partition_values(names: list[str]) -> dict[str, str | None]:
    """Return the values in the names of partitions: `label=a%2Fb` -> `{"label": "a/b"}`."""
    pairs = (name.split("=", 1) for name in names)
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}


def stored_parts(folder: Folder) -> Iterator[Part]:
    """Yield the part files of a table, in the order of their names.

    Raises:
        TableError: another system manages the folder; or it has part files and partitions.
        OSError: the folder cannot be read.
    """
    found = managed(folder)
    if found is None:
        yield from _below(folder, _partitions_above(folder), "")
    elif found.kind is SINK and found.is_whole(folder):
        yield from _in_log(folder)
    elif found.kind is DELTA and found.is_whole(folder):
        yield from _in_delta_log(folder)
    else:
        raise refuse_to_read(found, folder)


def _below(folder: Folder, partitions: list[str], prefix: str) -> Iterator[Part]:
    entries = list(folder.entries())
    parts = [e for e in entries if not e.is_folder and is_part_name(e.name)]
    inner = [e.name for e in entries if e.is_folder and is_partition(e.name)]
    values = partition_values(partitions)
    for entry in parts:
        yield Part(folder, prefix + entry.name, entry.size, entry.modified, values)
    for name in inner:
        for part in _below(folder.child(name), [*partitions, name], f"{prefix}{name}/"):
            if parts:
                raise TableError(
                    f"{folder} has part files and partitions, {parts[0].name} and {part.name}: "
                    "rows may be in it twice; move one of the two kinds to another folder"
                )
            yield part


def _partitions_above(folder: Folder) -> list[str]:
    """Return the names of the partitions that contain a folder, its own name last."""
    names: list[str] = []
    at: Folder | None = folder
    while at is not None and is_partition(name := str(at).rpartition("/")[2]):
        names.insert(0, name)
        at = at.parent()
    return names


def _in_log(folder: Folder) -> Iterator[Part]:
    """Yield the files in the log of a streaming query's sink.

    The log has a file for each batch, named by its number: `v1`, then one JSON object per line.
    Every tenth file is called `N.compact` and repeats the earlier ones (`FileStreamSinkLog`).
    """
    log = folder.child(SINK.marker)
    batches = dict(sorted(_batches(log.entries())))
    start = max((n for n, name in batches.items() if name.endswith(".compact")), default=-1)
    named: dict[str, list[str]] = {}  # file -> the partitions that contain it
    for name in (name for n, name in batches.items() if n >= start):
        for file, partitions, is_there in _logged(log, name):
            if is_there:
                named[file] = partitions
            else:
                named.pop(file, None)
    yield from sorted(_found(folder, named), key=lambda part: part.name)


def _in_delta_log(folder: Folder) -> Iterator[Part]:
    """Yield the files in the log of a Delta table."""
    if not isinstance(folder, LocalFolder | ArrowFolder):
        raise refuse_to_read(Managed(DELTA, str(folder)), folder)
    for file in read_delta_log(folder, TableError)[1]:
        if file.is_there is not None:
            raise TableError(
                f"{folder} has deleted rows that {file.name} still contains: purge them, with "
                "REORG TABLE ... APPLY (PURGE) on Spark, or read the table there"
            )
        below = file.name.rpartition("/")[0]
        place = folder.child(below) if below else folder
        values = {key: v.cast(pa.string()).as_py() for key, v in file.values.items()}
        yield Part(place, file.name, file.size, file.modified, values)


def _batches(entries: Iterator[Entry]) -> Iterator[tuple[int, str]]:
    for entry in entries:
        number = entry.name.removesuffix(".compact")
        if number.isdecimal():
            yield int(number), entry.name


def _logged(log: Folder, name: str) -> Iterator[tuple[str, list[str], bool]]:
    """Yield the files of a batch of the log, their partitions, and whether the batch adds them.

    Paths in the log are absolute. Only their end is used, so that a table can be read after it was
    moved, or through another mount.
    """
    try:
        version, *lines = log.read(name).decode().splitlines()
        if version != "v1":
            raise ValueError(f"its version is {version[:20]!r}")
        for line in filter(None, lines):
            entry = json.loads(line)
            *folders, file = unquote(entry["path"]).split("/")
            partitions: list[str] = []
            while folders and is_partition(folders[-1]):
                partitions.insert(0, folders.pop())
            yield "/".join([*partitions, file]), partitions, entry.get("action", "add") == "add"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TableError(
            f"{log}/{name} is not a log file of Spark ({error}): read the table with Spark"
        ) from error


def _found(folder: Folder, named: dict[str, list[str]]) -> Iterator[Part]:
    places: dict[tuple[str, ...], dict[str, Entry]] = {}
    for path, partitions in named.items():
        key = tuple(partitions)
        place = folder
        for name in partitions:
            place = place.child(name)
        if key not in places:
            places[key] = {entry.name: entry for entry in place.entries()}
        file = path.rpartition("/")[2]
        if (entry := places[key].get(file)) is None:
            raise TableError(
                f"{folder} lacks {path}, which the log of its streaming query names: restore it, "
                "or let the query write to a new folder"
            )
        yield Part(place, path, entry.size, entry.modified, partition_values(partitions))
