"""The manifest of S3 Inventory, and its files with the objects of a bucket, as Amazon writes them.

The format is in Amazon's user guide: "Locating your inventory list" and "Amazon S3 Inventory list".
Everything is read in a stream, because a bucket may have a billion objects.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import SourceError
from pomona.messages import one_line
from pomona.source.image_file import milliseconds
from pomona.source.list_file import ListFile, lines_of, size_of, time_of

__all__ = ["InventoryObject", "Manifest", "objects_in", "read_manifest"]

_ROWS = 16_384
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, csv.Error, pa.ArrowException)


class Manifest(NamedTuple):
    """What a manifest says.

    Attributes:
        bucket: the bucket whose objects are listed.
        destination: the bucket that the files were written to.
        kind: `csv`, `parquet` or `orc`.
        columns: the columns of CSV, whose files have no line with names.
        files: key of each file, and its bytes if the manifest says them.
    """

    bucket: str
    destination: str
    kind: str
    columns: list[str]
    files: list[tuple[str, int | None]]


class InventoryObject(NamedTuple):
    """An object as it is listed: `modified` in milliseconds since 1970."""

    bucket: str
    key: str
    size: int | None
    modified: int | None
    is_current: bool


def read_manifest(file: ListFile) -> Manifest:
    """Return what the manifest says.

    Raises:
        SourceError: it is not a manifest of S3 Inventory.
    """
    name = file.name
    try:
        with file.stream() as stream:
            found = json.load(stream)
        kind = str(found["fileFormat"]).lower()
        columns = [_plain_name(column) for column in str(found["fileSchema"]).split(",")]
        files = [(str(part["key"]), size_of(part.get("size"))) for part in found["files"]]
        destination = str(found["destinationBucket"]).rpartition(":::")[2]
        manifest = Manifest(str(found["sourceBucket"]), destination, kind, columns, files)
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {one_line(error)}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise SourceError(f"{name} is not a manifest of S3 Inventory: {reason}") from error
    if kind not in _READERS:
        raise SourceError(
            f"{name} lists files of the format {found['fileFormat']!r}: expected CSV, Parquet "
            "or ORC"
        )
    if kind == "csv" and "key" not in columns:
        raise SourceError(f"{name} is not a manifest of S3 Inventory: its files have no Key")
    return manifest


def objects_in(file: ListFile, manifest: Manifest) -> Iterator[InventoryObject]:
    """Yield the objects that a file of an inventory lists.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        yield from _READERS[manifest.kind](file, manifest)
    except _UNREADABLE as error:
        raise SourceError(
            f"{file.name} cannot be read as a file of S3 Inventory: {one_line(error)}"
        ) from error


def _plain_name(column: str) -> str:
    """Return one name for `LastModifiedDate` of CSV and `last_modified_date` of the others."""
    return column.strip().replace("_", "").lower()


def _csv(file: ListFile, manifest: Manifest) -> Iterator[InventoryObject]:
    """Read CSV, whose keys are URL-encoded, with `+` for a space."""
    at = {name: number for number, name in enumerate(manifest.columns)}
    count, key_at = len(at), at["key"]
    bucket_at, size_at, time_at = at.get("bucket"), at.get("size"), at.get("lastmodifieddate")
    latest_at, marker_at = at.get("islatest"), at.get("isdeletemarker")
    with file.stream() as stream:
        for number, row in enumerate(csv.reader(lines_of(stream)), 1):
            if len(row) != count:
                raise ValueError(f"row {number} has {len(row)} columns instead of {count}")
            yield InventoryObject(
                manifest.bucket if bucket_at is None else row[bucket_at],
                unquote_plus(row[key_at]),
                None if size_at is None else size_of(row[size_at]),
                None if time_at is None else time_of(row[time_at]),
                (latest_at is None or row[latest_at].lower() != "false")
                and (marker_at is None or row[marker_at].lower() != "true"),
            )


def _parquet(file: ListFile, manifest: Manifest) -> Iterator[InventoryObject]:
    with file.opened() as opened, pq.ParquetFile(opened) as table:
        names = _names(table.schema_arrow)
        for batch in table.iter_batches(_ROWS, columns=list(names.values())):
            yield from _rows(batch, names, manifest)


def _orc(file: ListFile, manifest: Manifest) -> Iterator[InventoryObject]:
    from pyarrow import orc

    with file.opened() as opened:
        table = orc.ORCFile(opened)
        names = _names(table.schema)
        for stripe in range(table.nstripes):
            batch = table.read_stripe(stripe, columns=list(names.values()))
            for start in range(0, batch.num_rows, _ROWS):
                yield from _rows(batch.slice(start, _ROWS), names, manifest)


_READERS: dict[str, Callable[[ListFile, Manifest], Iterator[InventoryObject]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "orc": _orc,
}


def _names(schema: pa.Schema) -> dict[str, str]:
    """Return the columns that are read, by their plain names."""
    wanted = {"bucket", "key", "size", "lastmodifieddate", "islatest", "isdeletemarker"}
    names = {_plain_name(name): name for name in schema.names}
    if "key" not in names:
        raise ValueError("it has no column key")
    return {plain: name for plain, name in names.items() if plain in wanted}


def _rows(
    batch: pa.RecordBatch, names: dict[str, str], manifest: Manifest
) -> Iterator[InventoryObject]:
    def values(plain: str, kind: pa.DataType, default: object) -> list[Any]:
        if plain not in names:
            return [default] * batch.num_rows
        column = batch.column(names[plain]).cast(kind, safe=False)
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.int64())
        found: list[Any] = column.to_pylist()
        return found

    for bucket, key, size, time, latest, marker in zip(
        values("bucket", pa.string(), manifest.bucket),
        values("key", pa.string(), None),
        values("size", pa.int64(), None),
        values("lastmodifieddate", pa.timestamp("ms"), None),
        values("islatest", pa.bool_(), True),
        values("isdeletemarker", pa.bool_(), False),
        strict=True,
    ):
        if key is None:
            raise ValueError("it has a row without a key")
        modified = None if time is None else milliseconds(time * 1_000_000)
        is_current = latest is not False and marker is not True
        yield InventoryObject(bucket or manifest.bucket, key, size_of(size), modified, is_current)
