"""Where the Spark engine reads images and writes rows: this machine's file system, or Hadoop's.

Two small protocols, and their form for this machine; `pomona.spark.storage.hadoop` has the other.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import SourceError, TableError
from pomona.io.location import is_remote, local_path
from pomona.io.member_uri import ARCHIVE_ENDINGS
from pomona.io.remote import RemotePlace
from pomona.job.job import Job, JobPaths, images_of
from pomona.job.tables import ChangeableTable, ReadableTable
from pomona.source.image_file import ImageFile, is_too_large_for_worker, read_batches
from pomona.source.inventory import MANIFEST
from pomona.source.list_file import LIST_ENDINGS
from pomona.source.list_reader import ListReader
from pomona.source.listing import Listing
from pomona.spark.file_shares import TASKS_OF_HOST
from pomona.spark.session.session import is_connect
from pomona.spark.storage.parquet import WRITTEN_COLUMNS, Written, written_once
from pomona.table.feature_table import FeatureTable
from pomona.table.label_record import keep_label_rule, read_label_rule
from pomona.table.writer import TableWriter, check_writable, writing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona.source.images import Reader
    from pomona.source.labels import LabelRule
    from pomona.table.row_index import Contents, NewLabels, RowIndex, RowsToDelete

    RowsOrParts = Callable[[str | None], DataFrame]
    """Computes the rows of a wave: with a folder, workers write part files there, and the result is
    `pomona.spark.part_files.PART_SCHEMA`; with None, it has the rows."""

_WAVES = 2  # that run at the same time

__all__ = [
    "ImageStore",
    "LocalImageStore",
    "LocalTableStore",
    "TableStore",
    "choose_stores",
    "is_read_by_hadoop",
]

_READ_BY_WORKERS = (*ARCHIVE_ENDINGS, *LIST_ENDINGS, MANIFEST)


class ImageStore(Protocol):
    """A source of images."""

    reader: Reader | None
    """What reads the images in the workers; None if only Spark's `binaryFile` can."""

    @property
    def listing(self) -> Listing:
        """The images; they can be listed once."""

    def for_workers(self, files: Iterable[ImageFile]) -> list[ImageFile]:
        """Return the files that the workers may read; the driver reads the others."""

    def can_be_opened(self, file: ImageFile) -> bool:
        """Return whether the driver can open a file."""

    def read(self, files: Iterable[ImageFile], label: LabelRule) -> Iterator[pa.RecordBatch]:
        """Read files on the driver that Spark left out, as `pomona.schema.INPUT_SCHEMA`."""


class TableStore(ReadableTable, ChangeableTable, Protocol):
    """A feature table to add rows to."""

    def check(self, job: Job) -> None:
        """Check that the job may write it."""

    def read_label_rule(self) -> str | None:
        """Return the label rule that is stored with the table."""

    def keep_label_rule(self, rule: str) -> None:
        """Store the label rule with the table."""

    def writing(self, job: Job) -> AbstractContextManager[object]:
        """Check the table and hold it for this run."""

    def stop_file(self) -> Path | None:
        """Return a file whose existence stops workers; None if they could not see it."""

    def append(self, rows: RowsOrParts) -> Written:
        """Write rows in one commit."""

    def compact(self) -> None:
        """Merge part files if there are many small ones."""


class LocalImageStore:
    """Images that this machine and the workers reach in the same way, without a JVM.

    They are on this machine's file system, mounted on every machine of the cluster; in archives or
    Parquet files; or named by a list.
    """

    def __init__(self, paths: JobPaths, listing: Listing | None = None) -> None:
        self._images, self._begun = images_of(paths), listing
        self._read = self._images.reader.read
        reader = self._images.reader  # another one: it is pickled
        self.reader: Reader | None = (
            reader.shared_by(_WAVES * TASKS_OF_HOST) if isinstance(reader, ListReader) else reader
        )

    @cached_property
    def listing(self) -> Listing:
        """The listing that was begun, or a new one."""
        return self._begun or Listing.of(self._images)

    def for_workers(self, files: Iterable[ImageFile]) -> list[ImageFile]:
        """Return files that are not very large."""
        return [file for file in files if not is_too_large_for_worker(file)]

    def can_be_opened(self, file: ImageFile) -> bool:
        """Return whether the driver can read a file."""
        ((content, _),) = self._read([file])
        return content is not None

    def read(self, files: Iterable[ImageFile], label: LabelRule) -> Iterator[pa.RecordBatch]:
        """Read files as the embedded engine does."""
        files = list(files)
        return read_batches(files, label, self._read(files))


class LocalTableStore:
    """A table on this machine's file system, or one mounted on every machine of the cluster."""

    def __init__(self, table: str, *, delta: bool = False) -> None:
        self._table = FeatureTable(Path(local_path(table)).absolute(), delta=delta)
        self._open: TableWriter | None = None  # until `writing`

    @property
    def _writer(self) -> TableWriter:
        if self._open is None:
            raise RuntimeError("rows are written only while the table is held")
        return self._open

    def check(self, job: Job) -> None:
        """Check the table."""
        check_writable(self._table, job.provenance(), overwrite=job.overwrite, kept=job.kept)

    @contextmanager
    def writing(self, job: Job) -> Iterator[None]:
        """Check the table and lock its folder."""
        with writing(
            self._table, job.provenance(), overwrite=job.overwrite, kept=job.kept
        ) as self._open:
            yield

    def index(self) -> RowIndex:
        """Return the index of the rows."""
        return self._table.index()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """Yield the paths of all rows in some part files."""
        return self._table.paths_in(parts)

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        """Yield the paths of rows and the digests of their contents."""
        return self._table.contents_in(parts)

    def rows_with(self, digests: Mapping[str, Sequence[str]]) -> Iterator[pa.RecordBatch]:
        """Yield rows with a vector, by part file and digests."""
        return self._table.rows_with(digests)

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Delete rows."""
        self._writer.delete_rows(rows)

    def relabel(self, labels: NewLabels) -> None:
        """Change labels."""
        self._writer.relabel(labels)

    def read_label_rule(self) -> str | None:
        """Return the label rule that is stored with the table."""
        return read_label_rule(self._table.store)

    def keep_label_rule(self, rule: str) -> None:
        """Store the label rule with the table."""
        keep_label_rule(self._table.store, rule)

    def stop_file(self) -> Path:
        """Return a path next to the table, where the workers write."""
        return self._writer.staging / "stop"

    def append(self, rows: RowsOrParts) -> Written:
        """Let the workers write next to the table, check rows, and rename files into the table."""
        with self._wave_folder() as wave:
            parts = [wave / row["part"] for row in rows(str(wave)).collect()]
            read = [pq.read_table(part, columns=WRITTEN_COLUMNS) for part in parts]
            written = written_once([row for part in read for row in part.to_pylist()])
            self._writer.commit(*parts)
        return written

    @contextmanager
    def _wave_folder(self) -> Iterator[Path]:
        """Make a folder, and delete it with the files that attempts of tasks leave there."""
        wave = self._writer.staging / f"wave-{uuid.uuid4().hex[:12]}"
        wave.mkdir()
        try:
            yield wave
        finally:
            shutil.rmtree(wave, ignore_errors=True)  # a late task may write; the run's end deletes

    def append_batches(self, rows: list[pa.RecordBatch], provenance: Mapping[str, str]) -> None:
        """Write a part file next to Spark's."""
        self._writer.append_batches(rows, provenance)

    def compact(self) -> None:
        """Merge part files if there are many small ones."""
        self._writer.compact()


def is_read_by_hadoop(paths: JobPaths) -> bool:
    """Return whether Hadoop's file systems list and read the source: files and folders at a URI.

    Workers read archives and Parquet files in a store, and what a list in a store names, through
    Arrow.
    """
    source = paths.source
    if not is_remote(source) or paths.columns is not None:
        return False
    name = RemotePlace.of(source)[1] if "://" in source else source
    return not name.lower().endswith(_READ_BY_WORKERS)


def choose_stores(
    paths: JobPaths, spark: SparkSession, listing: Listing | None = None
) -> tuple[ImageStore, TableStore]:
    """Choose this machine's file system or Hadoop's by the paths.

    Args:
        paths: the source and the table.
        spark: the session.
        listing: a listing of the source that was begun and is to be continued.

    Raises:
        SourceError, TableError: the source is missing, or on Spark Connect one of them is remote.
    """
    if is_connect(spark):
        _refuse_remote(paths)
    from pomona.spark.storage.hadoop.filesystem import HadoopImageStore
    from pomona.spark.storage.hadoop.table import HadoopTableStore

    images: ImageStore
    rows: TableStore
    images = (
        HadoopImageStore(paths, spark)
        if is_read_by_hadoop(paths)
        else LocalImageStore(paths, listing)
    )
    rows = (
        HadoopTableStore(paths.table, spark)
        if is_remote(paths.table)
        else LocalTableStore(paths.table, delta=paths.delta)
    )
    return images, rows


def _refuse_remote(paths: JobPaths) -> None:
    advice = (
        "cannot be listed over Spark Connect, which gives no access to file systems: give a path "
        "that this machine and the workers both see, or use a classic session"
    )
    if is_read_by_hadoop(paths):
        raise SourceError(f"SOURCE {paths.source} {advice}")
    if is_remote(paths.table):
        raise TableError(f"TABLE {paths.table} {advice}")
