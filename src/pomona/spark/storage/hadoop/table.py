"""A feature table on a file system that Hadoop knows: `s3a://`, `hdfs://`, `abfss://`, ...

What `pomona.table.writer` does on this machine, through the driver's JVM and Spark: part files are
written beside the table and renamed in, and what replaces others is written down first.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona._version import __version__
from pomona.errors import TableError
from pomona.schema import (
    ENCODER_COLUMN,
    FEATURE_SCHEMA,
    SPARK_FOOTER_KEY,
    SPARK_SCHEMA,
    column_metadata,
    columns_of_footer,
    provenance_of_footer,
)
from pomona.spark.row_provenance import one_encoder
from pomona.spark.session.session import has_workers_here
from pomona.spark.storage.hadoop.copier import SparkCopier
from pomona.spark.storage.hadoop.filesystem import hadoop_folder, hadoop_path
from pomona.spark.storage.hadoop.lease import Lease
from pomona.spark.storage.hadoop.store import HadoopStore
from pomona.spark.storage.parquet import WRITTEN_COLUMNS, Written, written_once
from pomona.table.feature_table import is_table_file, partitioned
from pomona.table.held_table import HeldTable
from pomona.table.hold import held
from pomona.table.label_record import keep_label_rule, read_label_rule
from pomona.table.makers import check_same_maker, one_provenance
from pomona.table.managed_folders import managed, refuse_to_write
from pomona.table.part_file import damaged
from pomona.table.parts import is_part_name, stored_parts
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

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, Row, SparkSession

    from pomona.job.job import Job

__all__ = ["HadoopTableStore"]

_ASKING = 16  # threads that read footers


class HadoopTableStore:
    """A feature table on a Hadoop file system."""

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table.rstrip("/")
        self._spark = spark
        self._store = HadoopStore(table, spark)
        self._copier = SparkCopier(self._store, spark)
        self._open: HeldTable | None = None  # until `held`
        self._stop_file: Path | None = None  # until `writing` makes one

    @property
    def _held(self) -> HeldTable:
        if self._open is None:
            raise RuntimeError("rows are written only while the table is held")
        return self._open

    def exists(self) -> bool:
        """Whether there are part files."""
        return bool(self._parts())

    def check(self, job: Job) -> None:
        """Check that the folder is a table, and of the job's encoder."""
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
        """Hold the table by a mark that goes stale when its holder is no more.

        Args:
            provenance: of the rows that are to join.
            overwrite: whether they may take the place of others.

        Raises:
            TableError: the folder is no table, has rows of another encoder, or is held.
        """

        def check() -> None:
            self._check(provenance, overwrite=overwrite)

        self._check_folder()
        with held(self._store, Lease(self._table, self._spark), check) as (lease, staging):
            self._staging = staging
            self._open = HeldTable(self._store, self._copier, lease, staging)
            yield

    def _check_folder(self) -> None:
        """Check by names only: a part file may be cut off until the swap that left it is done."""
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
        made_by, more = self._provenance()
        if made_by and not overwrite:
            check_same_maker(self._table, made_by, provenance)
            if more:
                raise TableError(
                    f"{self._table} has columns that a run does not write ({', '.join(more)}): "
                    "give another TABLE"
                )

    def index(self) -> RowIndex:
        """What has a row. Keys are made by the executors: the driver sees no path."""
        builder = IndexBuilder()
        if parts := list(self._parts()):
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
        """The paths of all rows in some part files, some thousand at a time."""
        if now := self._now(parts):
            rows = self._copier.read(now).select("path").toLocalIterator()
            while chunk := [row["path"] for row in islice(rows, INDEX_ROWS)]:
                yield chunk

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        """The paths of rows and the digests of their contents; some thousand at a time."""
        for part in parts:
            if now := self._now([part]):
                rows = self._copier.read(now).select("path", "content_sha256").toLocalIterator()
                while chunk := list(islice(rows, INDEX_ROWS)):
                    yield part, [row[0] for row in chunk], [row[1] for row in chunk]

    def rows_with(self, digests: Mapping[str, Sequence[str]]) -> Iterator[pa.RecordBatch]:
        """Rows with a vector that this version of Pomona made, by part file and digests."""
        import pyarrow as pa

        parts = [
            part
            for part in self._now(digests)
            if self._footer(part)[0].get("pomona_version") == __version__
        ]
        if not parts:
            return
        wanted = sorted({digest for some in digests.values() for digest in some})
        keys = self._spark.createDataFrame(
            [(digest,) for digest in wanted], "content_sha256 string"
        )
        rows = (
            self._copier.read(parts)
            .where("status = 'ok'")
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
        """The label rule that was written down with the table."""
        return read_label_rule(self._store)

    def keep_label_rule(self, rule: str) -> None:
        """Write the label rule down with the table."""
        keep_label_rule(self._store, rule)

    def stop_file(self) -> Path | None:
        """In a temporary folder of this machine, if the workers run here.

        Python workers read Hadoop's file systems through the JVM only, so elsewhere there is none.
        """
        return self._stop_file

    def append(self, rows: DataFrame) -> Written:
        """Write with Spark beside the table, look at what was written, and rename it in."""
        wave = f"{self._staging}/wave-{uuid.uuid4().hex[:12]}"
        names = self._copier.write(rows, wave)
        read = self._copier.read(names, wave).select(*WRITTEN_COLUMNS).collect() if names else []
        written = written_once([row.asDict() for row in read])
        self._held.add(names, wave)
        return written

    def append_batches(self, rows: list[pa.RecordBatch], provenance: Mapping[str, str]) -> None:
        """Write a part file beside the others."""
        from pyspark.sql.functions import col

        # As plain rows: Spark 3.5 takes no Arrow table here. They are few.
        plain = [tuple(row.values()) for batch in rows for row in batch.to_pylist()]
        frame = self._spark.createDataFrame(plain, SPARK_SCHEMA)
        metadata = column_metadata(provenance)
        features = col("features").alias("features", metadata=metadata)
        named = (features if name == "features" else name for name in FEATURE_SCHEMA.names)
        self.append(frame.select(*named).coalesce(1))

    def replace_all(self, rows: DataFrame) -> None:
        """Write rows, and let them take the place of all that the table has."""
        place = self._held.new_place()
        self._held.swap(list(self._parts()), self._copier.write(rows, place), place)

    def compact(self) -> None:
        """Merge part files if there are many small ones."""
        self._held.compact()

    def _provenance(self) -> tuple[dict[str, str] | None, list[str]]:
        """What made the rows of all part files, None if there are none; and a caller's columns."""
        parts = list(self._parts())
        with ThreadPoolExecutor(_ASKING) as threads:
            footers = list(threads.map(self._footer, parts))
        found = one_provenance(
            self._table,
            (
                (part, maker)
                for part, (footer, names) in zip(parts, footers, strict=True)
                for maker in (footer, self._by_rows(part) if ENCODER_COLUMN in names else footer)
            ),
        )
        known = {*FEATURE_SCHEMA.names, ENCODER_COLUMN}
        return found, sorted({name for _, names in footers for name in names if name not in known})

    def _by_rows(self, part: str) -> dict[str, str]:
        return one_encoder(self._copier.read([part]), ENCODER_COLUMN, f"{self._table}/{part}")

    def _footer(self, name: str) -> tuple[dict[str, str], list[str]]:
        """What the footer of a part file says: its maker, and its columns."""
        from py4j.protocol import Py4JJavaError

        parquet: Any = self._spark.sparkContext._jvm.org.apache.parquet.hadoop  # type: ignore[union-attr]
        path = hadoop_path(self._spark, f"{self._table}/{name}")
        settings = self._spark._jsparkSession.sessionState().newHadoopConf()
        try:
            file = parquet.util.HadoopInputFile.fromPath(path, settings)
            reader = parquet.ParquetFileReader.open(file)
            entries = reader.getFooter().getFileMetaData().getKeyValueMetaData()
            reader.close()
            struct = entries.get(SPARK_FOOTER_KEY)
            return provenance_of_footer(struct), columns_of_footer(struct)
        except Py4JJavaError as error:
            reason = str(error.java_exception.getMessage()).split("\n")[0][:200]
            raise TableError(damaged(f"{self._table}/{name}", reason)) from error
        except ValueError as error:
            raise TableError(damaged(f"{self._table}/{name}", error)) from error

    def _parts(self) -> dict[str, int]:
        """Names of the part files, each with its size in bytes."""
        entries = self._store.entries().values()
        return {e.name: e.size for e in entries if not e.is_folder and is_part_name(e.name)}

    def _now(self, parts: Iterable[str]) -> list[str]:
        """The part files that have now what some had when the index was made."""
        return list(parts) if self._open is None else self._open.now(parts)

    def _strange_names(self) -> list[str]:
        """Names that no feature table has. Hidden names are allowed."""
        return sorted(
            name
            for name, entry in self._store.entries().items()
            if not name.startswith(".") and not is_table_file(name, is_folder=entry.is_folder)
        )


def _columns(rows: list[Row]) -> IndexColumns:
    types = {"key": KEY_TYPE, "size": "i8", "modified": "i8", "ok": "?", "label": "S8"}
    columns = (np.array([row[name] for row in rows], kind) for name, kind in types.items())
    return IndexColumns(*columns)
