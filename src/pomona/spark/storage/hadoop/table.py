"""A feature table on a file system that Hadoop knows: `s3a://`, `hdfs://`, `abfss://`, ...

What `pomona.table.writer` does on this machine, through the driver's JVM and Spark: part files are
written beside the table and renamed in, and what replaces others is written down first.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from itertools import groupby, islice
from operator import itemgetter, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona._version import __version__
from pomona.errors import RunError, TableError
from pomona.io.location import literal_glob
from pomona.schema import (
    ENCODER_COLUMN,
    FEATURE_SCHEMA,
    SPARK_FOOTER_KEY,
    SPARK_SCHEMA,
    column_metadata,
    columns_of_footer,
    provenance_of_footer,
)
from pomona.source.walk import is_hidden
from pomona.spark.row_provenance import one_encoder
from pomona.spark.session.session import has_workers_here
from pomona.spark.storage.hadoop.filesystem import hadoop_folder, hadoop_path, hadoop_system
from pomona.spark.storage.hadoop.lease import Lease
from pomona.spark.storage.parquet import WRITTEN_COLUMNS, Written, write_parquet, written_once
from pomona.table.feature_table import (
    STAGING,
    check_same_maker,
    is_table_file,
    one_provenance,
    partitioned,
)
from pomona.table.label_record import LABEL_RULE, needs_writing, rule_written_down, written_rule
from pomona.table.managed_folders import managed, refuse_to_write
from pomona.table.part_file import MERGED_BYTES, damaged, groups_to_merge
from pomona.table.parts import stored_parts
from pomona.table.recovery import SWAP, names_written_down
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
    from pyspark.sql import Column, DataFrame, Row, SparkSession

    from pomona.job.job import Job

__all__ = ["HadoopTableStore"]

_ASKING = 16  # threads that read footers


class HadoopTableStore:
    """A feature table on a Hadoop file system."""

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table.rstrip("/")
        self._spark = spark
        self._staging = f"{self._table}/{STAGING}{uuid.uuid4().hex[:12]}"
        self._mark: Lease | None = None  # until `writing` makes one
        self._stop_file: Path | None = None  # until `writing` makes one
        self._successors: dict[str, list[str]] = {}  # of part files that gave way to others

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
                for name in self._parts():
                    self._delete(name)
            yield

    @contextmanager
    def held(self, provenance: Mapping[str, str], *, overwrite: bool) -> Iterator[None]:
        """Hold the table by a mark that goes stale when its holder is no more.

        What a writer left that was killed is completed, or removed.

        Args:
            provenance: of the rows that are to join.
            overwrite: whether they may take the place of others.

        Raises:
            TableError: the folder is no table, has rows of another encoder, or is held.
        """
        self._check(provenance, overwrite=overwrite)
        with Lease(self._table, self._spark) as self._mark:
            for name in self._names():
                if name.startswith(STAGING):
                    self._finish_swaps(name)
                if name.startswith(STAGING) or name == "_temporary":
                    self._delete(name)
            self._check(provenance, overwrite=overwrite)
            try:
                yield
            finally:
                staging = self._staging.rpartition("/")[2]
                self._finish_swaps(staging)  # where this fails, the next writer does it
                self._delete(staging)

    def _check(self, provenance: Mapping[str, str], *, overwrite: bool) -> None:
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
            rows = self._read(parts).selectExpr(
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
            rows = self._read(now).select("path").toLocalIterator()
            while chunk := [row["path"] for row in islice(rows, INDEX_ROWS)]:
                yield chunk

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        """The paths of rows and the digests of their contents; some thousand at a time."""
        for part in parts:
            if now := self._now([part]):
                rows = self._read(now).select("path", "content_sha256").toLocalIterator()
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
        rows = self._read(parts).where("status = 'ok'").join(keys, "content_sha256", "left_semi")
        found = [row.asDict() for row in rows.select(*FEATURE_SCHEMA.names).toLocalIterator()]
        if found:
            yield pa.RecordBatch.from_pylist(found, FEATURE_SCHEMA)

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Take rows out: copies without them take the place of the part files that have some."""
        if not rows:
            return
        parts, sizes = self._now(rows), self._parts()
        if not parts:
            return
        before = self._read(parts)
        doomed = before.join(*self._keys_of(rows), "left_semi").count()
        kept = before.join(*self._keys_of(rows), "left_anti")
        files = 1 + sum(sizes[name] for name in parts) // MERGED_BYTES
        self._replace(parts, kept.coalesce(files), before.count() - doomed)

    def relabel(self, labels: NewLabels) -> None:
        """Change labels: copies with the new ones take the place of the part files."""
        from pyspark.sql.functions import broadcast, expr

        parts, sizes = self._now(labels), self._parts()
        wanted = {key: label for some in labels.values() for key, label in some.items()}
        if not parts or not wanted:
            return
        before = self._read(parts)
        changes = self._spark.createDataFrame(
            [(bytearray(key), label) for key, label in wanted.items()],
            "wanted binary, new_label string",
        )
        joined = before.join(broadcast(changes), expr(f"{KEY_IN_SQL} = wanted"), "left")
        label = expr("if(wanted is null, label, new_label)").alias("label")
        named = [label if name == "label" else name for name in before.columns]
        files = 1 + sum(sizes[name] for name in parts) // MERGED_BYTES
        self._replace(parts, joined.select(*named).coalesce(files), before.count())

    def read_label_rule(self) -> str | None:
        """The label rule that was written down with the table."""
        path = hadoop_path(self._spark, f"{self._table}/{LABEL_RULE}")
        system = hadoop_system(self._spark, path)
        if not system.exists(path):
            return None
        jvm: Any = self._spark.sparkContext._jvm
        stream = system.open(path)
        written = jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")
        stream.close()
        return rule_written_down(written, path.toString())

    def keep_label_rule(self, rule: str) -> None:
        """Write the label rule down with the table."""
        if not needs_writing(rule, self.read_label_rule()):
            return
        path = hadoop_path(self._spark, f"{self._table}/{LABEL_RULE}")
        stream = hadoop_system(self._spark, path).create(path, True)
        stream.write(bytearray(written_rule(rule).encode()))
        stream.close()

    def stop_file(self) -> Path | None:
        """In a temporary folder of this machine, if the workers run here.

        Python workers read Hadoop's file systems through the JVM only, so elsewhere there is none.
        """
        return self._stop_file

    def append(self, rows: DataFrame) -> Written:
        """Write with Spark beside the table, look at what was written, and rename it in."""
        wave = f"{self._staging}/wave-{uuid.uuid4().hex[:12]}"
        names = self._write(rows, wave)
        read = self._read(names, wave).select(*WRITTEN_COLUMNS).collect() if names else []
        written = written_once([row.asDict() for row in read])
        self._rename(wave, names)
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
        self._replace(list(self._parts()), rows)

    def compact(self) -> None:
        """Merge part files where there are many small ones."""
        for group in groups_to_merge(self._parts()):
            rows = self._read(group)
            self._replace(group, rows.coalesce(1), rows.count())

    def _now(self, parts: Iterable[str]) -> list[str]:
        """The part files that have now what some had when the index was made."""
        now: set[str] = set()
        for part in parts:
            successors = self._successors.get(part)
            now.update([part] if successors is None else self._now(successors))
        return sorted(now)

    def _keys_of(self, rows: RowsToDelete) -> tuple[DataFrame, Column]:
        """Keys as a DataFrame that goes to every executor, and the condition to join it by."""
        from pyspark.sql.functions import broadcast, expr

        keys = [(bytearray(key),) for key in sorted(reduce(or_, rows.values()))]
        frame = self._spark.createDataFrame(keys, "wanted binary")
        return broadcast(frame), expr(f"{KEY_IN_SQL} = wanted")

    def _replace(self, old: list[str], rows: DataFrame, count: int | None = None) -> None:
        """Write rows, so many where that is known, then let them take the place of others.

        The intention is written down in between, so that a swap which was cut off is completed.
        """
        folder = f"{self._staging}/swap-{uuid.uuid4().hex[:12]}"
        new = self._write(rows, folder)
        if count is not None:
            written = self._read(new, folder).count() if new else 0
            if written != count:
                raise RunError(
                    f"of {count} rows that were copied within {self._table}, {written} came out: "
                    "nothing was changed; see whether its storage is sound"
                )
        path = hadoop_path(self._spark, f"{folder}/{SWAP}")
        draft = hadoop_path(self._spark, f"{folder}/{SWAP}.partial")
        system = hadoop_system(self._spark, path)
        stream = system.create(draft, True)
        stream.write(bytearray(json.dumps({"old": old, "new": new}).encode()))
        stream.close()
        if not system.rename(draft, path):
            raise TableError(f"cannot rename {draft.toString()} to {SWAP}: nothing was changed")
        self._swap(folder, old, new)

    def _swap(self, folder: str, old: list[str], new: list[str]) -> None:
        self._check_mark()
        for name in old:
            self._delete(name)
            self._successors[name] = new
        self._rename(folder, new)
        written = hadoop_path(self._spark, f"{folder}/{SWAP}")
        hadoop_system(self._spark, written).delete(written, False)

    def _finish_swaps(self, staging: str) -> None:
        jvm: Any = self._spark.sparkContext._jvm
        swaps = f"{literal_glob(f'{self._table}/{staging}')}/swap-*/{SWAP}"
        pattern = hadoop_path(self._spark, swaps)
        system = hadoop_system(self._spark, pattern)
        for status in system.globStatus(pattern) or []:
            stream = system.open(status.getPath())
            written = jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")
            stream.close()
            if not _is_json(written):
                continue  # cut off: nothing was done yet
            told = names_written_down(written, ("old", "new"), status.getPath().toString())
            folder = status.getPath().getParent().toString()
            left = [name for name in told["new"] if self._exists(f"{folder}/{name}")]
            # Where the first was renamed already, the old ones had gone before.
            old = told["old"] if left == told["new"] else []
            self._swap(folder, old, left)

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
        return one_encoder(self._read([part]), ENCODER_COLUMN, f"{self._table}/{part}")

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

    def _write(self, rows: DataFrame, folder: str) -> list[str]:
        """Write a new folder; gives the names of its part files."""
        write_parquet(rows, folder)
        return sorted(name for name in self._statuses(folder) if name.endswith(".parquet"))

    def _read(self, parts: Iterable[str], folder: str | None = None) -> DataFrame:
        """Read part files, whatever the caller's session says of such that cannot be read."""
        reader = self._spark.read.option("ignoreMissingFiles", "false")
        reader = reader.option("ignoreCorruptFiles", "false")
        return reader.parquet(*(literal_glob(f"{folder or self._table}/{name}") for name in parts))

    def _check_mark(self) -> None:
        if self._mark:
            self._mark.check()

    def _rename(self, folder: str, names: list[str]) -> None:
        self._check_mark()
        for name in names:
            source = hadoop_path(self._spark, f"{folder}/{name}")
            target = hadoop_path(self._spark, f"{self._table}/{name}")
            if not hadoop_system(self._spark, source).rename(source, target):
                raise TableError(f"cannot rename {source.toString()} into {self._table}")

    def _delete(self, name: str) -> None:
        path = hadoop_path(self._spark, f"{self._table}/{name}")
        hadoop_system(self._spark, path).delete(path, True)

    def _exists(self, uri: str) -> bool:
        path = hadoop_path(self._spark, uri)
        found: bool = hadoop_system(self._spark, path).exists(path)
        return found

    def _parts(self) -> dict[str, int]:
        """Names of the part files, each with its size in bytes."""
        found = self._statuses(self._table)
        return {n: size for n, size in found.items() if n.endswith(".parquet") and not is_hidden(n)}

    def _names(self) -> list[str]:
        return list(self._statuses(self._table))

    def _strange_names(self) -> list[str]:
        """Names that no feature table has; hidden ones are left in peace."""
        names = {s.getPath().getName(): s.isDirectory() for s in self._listed(self._table)}
        return sorted(
            name
            for name, is_folder in names.items()
            if not name.startswith(".") and not is_table_file(name, is_folder=is_folder)
        )

    def _statuses(self, uri: str) -> dict[str, int]:
        """Names in a folder, each with its size in bytes; none where there is no folder."""
        found = {s.getPath().getName(): s.getLen() for s in self._listed(uri)}
        return dict(sorted(found.items()))

    def _listed(self, uri: str) -> list[Any]:
        """Hadoop's statuses of what is in a folder."""
        folder = hadoop_path(self._spark, uri)
        system = hadoop_system(self._spark, folder)
        return list(system.listStatus(folder)) if system.exists(folder) else []


def _columns(rows: list[Row]) -> IndexColumns:
    types = {"key": KEY_TYPE, "size": "i8", "modified": "i8", "ok": "?", "label": "S8"}
    columns = (np.array([row[name] for row in rows], kind) for name, kind in types.items())
    return IndexColumns(*columns)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
