"""A feature table on a Hadoop file system: `s3a://`, `hdfs://`, `abfss://`, ...

As `pomona.table.writer` does on this machine, Spark and the driver's JVM write part files in a
staging folder and rename them into the table. A journal records a replacement before it begins.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona._version import __version__
from pomona.errors import TableError
from pomona.schema import (
    FEATURE_SCHEMA,
    SPARK_SCHEMA,
    column_metadata,
)
from pomona.spark.session.session import has_workers_here
from pomona.spark.storage.hadoop.copier import SparkCopier
from pomona.spark.storage.hadoop.filesystem import hadoop_folder
from pomona.spark.storage.hadoop.footers import Footers
from pomona.spark.storage.hadoop.store import HadoopStore
from pomona.spark.storage.parquet import WRITTEN_COLUMNS, Written, written_once
from pomona.table.feature_table import is_table_file, partitioned
from pomona.table.held_table import HeldTable
from pomona.table.hold import held
from pomona.table.label_record import keep_label_rule, read_label_rule
from pomona.table.lease import Lease
from pomona.table.makers import check_same_maker
from pomona.table.managed_folders import managed, refuse_to_write
from pomona.table.parts import stored_parts
from pomona.table.row_index import (
    INDEX_ROWS,
    KEY_IN_SQL,
    KEY_TYPE,
    LABEL_IN_SQL,
    NEVER,
    NO_SIZE,
    Contents,
    IndexBuilder,
    IndexColumns,
    NewLabels,
    RowIndex,
    RowsToDelete,
)
from pomona.table.store import part_entries

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, Row, SparkSession

    from pomona.job.job import Job
    from pomona.spark.storage.choose import RowsOrParts

__all__ = ["HadoopTableStore"]


class HadoopTableStore:
    """A feature table on a Hadoop file system."""

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table.rstrip("/")
        self._spark = spark
        self._store = HadoopStore(table, spark)
        self._copier = SparkCopier(self._store, spark)
        self._footers = Footers(self._table, self._copier, spark)
        self._open: HeldTable | None = None  # until `held`
        self._stop_file: Path | None = None  # until `writing` makes one

    @property
    def _held(self) -> HeldTable:
        if self._open is None:
            raise RuntimeError("rows are written only while the table is held")
        return self._open

    def exists(self) -> bool:
        """Whether there are part files."""
        return bool(part_entries(self._store))

    def check(self, job: Job) -> None:
        """Check that the folder is a feature table, and that the job's encoder made it."""
        self._check(job.provenance(), overwrite=job.overwrite)

    @contextmanager
    def writing(self, job: Job) -> Iterator[None]:
        """Check the table and hold it."""
        with (
            self.held(job.provenance(), overwrite=job.overwrite),
            tempfile.TemporaryDirectory(prefix="pomona-") as folder,
        ):
            self._stop_file = Path(folder) / "stop" if has_workers_here(self._spark) else None
            if job.overwrite:
                self._held.delete_all()
            yield

    @contextmanager
    def held(self, provenance: Mapping[str, str], *, overwrite: bool) -> Iterator[None]:
        """Hold the table with a lease, which expires if its holder dies.

        Args:
            provenance: the provenance of the rows to write.
            overwrite: whether they may replace rows of another encoder.

        Raises:
            TableError: the folder is not a feature table, has rows of another encoder, or another
                run holds it.
        """

        def check() -> None:
            self._check(provenance, overwrite=overwrite)

        self._check_folder()
        with (
            self._store.without_empty_folder(),
            held(self._store, Lease(self._store), check) as (lease, staging),
        ):
            self._staging = staging
            self._open = HeldTable(self._store, self._copier, lease, staging)
            yield

    def _check_folder(self) -> None:
        """Check names only: before `held` finishes a replacement, a part file may be incomplete."""
        folder = hadoop_folder(self._spark, self._table)
        if found := managed(folder):
            raise refuse_to_write(found, folder)
        strange = self._strange_names()
        if strange and (part := next(stored_parts(folder), None)) and "/" in part.name:
            raise TableError(partitioned(self._table, part.name))
        if strange:
            raise TableError(
                f"{self._table} exists and is not a feature table (it holds {strange[0]!r}): "
                "give another TABLE"
            )

    def _check(self, provenance: Mapping[str, str], *, overwrite: bool) -> None:
        self._check_folder()
        made_by, more = self._footers.provenance(part_entries(self._store))
        if made_by and not overwrite:
            check_same_maker(self._table, made_by, provenance)
            if more:
                raise TableError(
                    f"{self._table} has columns that a run does not write ({', '.join(more)}): "
                    "give another TABLE"
                )

    def index(self) -> RowIndex:
        """Return the index of the rows. Executors compute the keys: the driver reads no paths."""
        builder = IndexBuilder()
        if parts := list(part_entries(self._store)):
            rows = self._copier.read(parts).selectExpr(
                "_metadata.file_name as part",
                f"{KEY_IN_SQL} as key",
                f"coalesce(size, {NO_SIZE}) as size",
                f"coalesce(unix_millis(modified), cast('{NEVER}' as bigint)) as modified",
                "status = 'ok' as ok",
                f"{LABEL_IN_SQL} as label",
            )
            for part, found in groupby(rows.toLocalIterator(), itemgetter("part")):
                while chunk := list(islice(found, INDEX_ROWS)):
                    builder.add(part, _columns(chunk))
        return builder.build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """Yield the paths of all rows in some part files, some thousand at a time."""
        if now := self._now(parts):
            rows = self._copier.read(now).select("path").toLocalIterator()
            while chunk := [row["path"] for row in islice(rows, INDEX_ROWS)]:
                yield chunk

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        """Yield the paths of rows and the digests of their contents, some thousand at a time."""
        for part in parts:
            if now := self._now([part]):
                rows = self._copier.read(now).select("path", "content_sha256").toLocalIterator()
                while chunk := list(islice(rows, INDEX_ROWS)):
                    yield part, [row[0] for row in chunk], [row[1] for row in chunk]

    def rows_with(self, digests: Mapping[str, Sequence[str]]) -> Iterator[pa.RecordBatch]:
        """Yield rows with a vector, made by this version of Pomona.

        Args:
            digests: names of part files, each with the digests of the rows to find.
        """
        import pyarrow as pa

        parts = [
            part
            for part in self._now(digests)
            if self._footers.read(part)[0].get("pomona_version") == __version__
        ]
        if not parts:
            return
        wanted = sorted({digest for some in digests.values() for digest in some})
        keys = self._spark.createDataFrame(
            [(digest,) for digest in wanted], "content_sha256 string"
        )
        rows = (
            self._copier.read(parts)
            .where("brightness is not null")  # else it failed, or an earlier version made it
            .join(keys, "content_sha256", "left_semi")
        )
        found = [row.asDict() for row in rows.select(*FEATURE_SCHEMA.names).toLocalIterator()]
        if found:
            yield pa.RecordBatch.from_pylist(found, FEATURE_SCHEMA)

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Delete rows."""
        self._held.delete_rows(rows)

    def relabel(self, labels: NewLabels) -> None:
        """Change labels."""
        self._held.relabel(labels)

    def read_label_rule(self) -> str | None:
        """Return the label rule that is stored with the table."""
        return read_label_rule(self._store)

    def keep_label_rule(self, rule: str) -> None:
        """Store the label rule with the table."""
        keep_label_rule(self._store, rule)

    def stop_file(self) -> Path | None:
        """Return a path in a temporary folder of this machine if the workers run here, else None.

        On other machines, Python workers can read Hadoop file systems only through the JVM.
        """
        return self._stop_file

    def append(self, rows: RowsOrParts) -> Written:
        """Write rows in one commit, with the JVMs: only they have the credentials."""
        return self._append(rows(None))

    def _append(self, rows: DataFrame) -> Written:
        """Write rows with Spark next to the table, check them, and rename their files into it."""
        wave = f"{self._staging}/wave-{uuid.uuid4().hex[:12]}"
        names = self._copier.write(rows, wave)
        read = self._copier.read(names, wave).select(*WRITTEN_COLUMNS).collect() if names else []
        written = written_once([row.asDict() for row in read])
        self._held.add(names, wave)
        return written

    def append_batches(self, rows: list[pa.RecordBatch], provenance: Mapping[str, str]) -> None:
        """Write a part file next to the others."""
        from pyspark.sql.functions import col

        # Plain rows, because Spark 3.5 accepts no Arrow table here. They are few.
        plain = [tuple(row.values()) for batch in rows for row in batch.to_pylist()]
        frame = self._spark.createDataFrame(plain, SPARK_SCHEMA)
        metadata = column_metadata(provenance)
        features = col("features").alias("features", metadata=metadata)
        named = (features if name == "features" else name for name in FEATURE_SCHEMA.names)
        self._append(frame.select(*named).coalesce(1))

    def replace_all(self, rows: DataFrame) -> None:
        """Write rows, and replace all rows of the table with them."""
        place = self._held.new_place()
        self._held.swap(list(part_entries(self._store)), self._copier.write(rows, place), place)

    def compact(self) -> None:
        """Merge part files if there are many small ones."""
        self._held.compact()

    def _now(self, parts: Iterable[str]) -> list[str]:
        """Return the part files that now have the rows of part files of the index."""
        return list(parts) if self._open is None else self._open.now(parts)

    def _strange_names(self) -> list[str]:
        """Return names that no feature table has. Hidden names are allowed."""
        return sorted(
            name
            for name, entry in self._store.entries().items()
            if not name.startswith(".") and not is_table_file(name, is_folder=entry.is_folder)
        )


def _columns(rows: list[Row]) -> IndexColumns:
    types = {"key": KEY_TYPE, "size": "i8", "modified": "i8", "ok": "?", "label": "S8"}
    columns = (np.array([row[name] for row in rows], kind) for name, kind in types.items())
    return IndexColumns(*columns)
