"""A feature table on a file system that Hadoop knows: `s3a://`, `hdfs://`, `abfss://`, ...

What `pomona.table_writer` does on this machine, through the driver's JVM and Spark: part files are
written beside the table and renamed in, and what replaces others is written down first.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import groupby, islice
from operator import itemgetter, or_
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.engines.hadoop import hadoop_path, hadoop_system
from pomona.engines.places import write_parquet, written_once
from pomona.errors import TableError
from pomona.part_files import MERGED_BYTES, groups_to_merge
from pomona.row_index import KEY_TYPE, Doomed, IndexBuilder, IndexColumns, RowIndex
from pomona.schema import FEATURE_SCHEMA, SPARK_SCHEMA, column_metadata, provenance_of_column
from pomona.source import is_hidden
from pomona.table import STAGING, check_same_maker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, Row, SparkSession

    from pomona.engines.job import Job

__all__ = ["HadoopRows"]

_RUNNING = "_running-"  # a writer's mark, made anew every few seconds while it lives
_MARK_EVERY_S, _MARK_HOLDS_S = 10.0, 60.0
_INTENTION = "swap.json"
_INDEX_ROWS = 65_536
_KEY = "substring(unhex(sha2(path, 256)), 1, 16)"  # as `path_keys`
_NONE, _NEVER = -1, int(np.iinfo(np.int64).min)  # as `IndexBuilder.add` has them


class HadoopRows:
    """A feature table on a Hadoop file system."""

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table.rstrip("/")
        self._spark = spark
        self._staging = f"{self._table}/{STAGING}{uuid.uuid4().hex[:12]}"
        self._successors: dict[str, list[str]] = {}  # of part files that gave way to others

    def check(self, job: Job) -> None:
        """Check that the folder is a table, and of the job's encoder."""
        strange = [name for name in self._names() if not _belongs(name)]
        if strange:
            raise TableError(
                f"{self._table} exists and is not a feature table (it holds {strange[0]!r}): "
                "give another TABLE"
            )
        if parts := list(self._parts()):
            self._check_provenance(parts, job)

    @contextmanager
    def writing(self, job: Job) -> Iterator[None]:
        """Check the table, and hold it by a mark that goes stale when its holder is no more."""
        self.check(job)
        with self._marked():
            for name in self._names():
                if name.startswith(STAGING):
                    self._finish_swaps(name)
                if name.startswith(STAGING) or name == "_temporary":
                    self._delete(name)
            self.check(job)
            if job.overwrite:
                for name in self._parts():
                    self._delete(name)
            try:
                yield
            finally:
                self._delete(self._staging.rpartition("/")[2])

    def index(self) -> RowIndex:
        """What has a row. Keys are made by the executors: the driver sees no path."""
        builder = IndexBuilder()
        if parts := list(self._parts()):
            rows = self._read(parts).selectExpr(
                "_metadata.file_name as part",
                f"{_KEY} as key",
                f"coalesce(size, {_NONE}) as size",
                f"coalesce(unix_millis(modified), cast('{_NEVER}' as bigint)) as modified",
                "status = 'ok' as ok",
            )
            for part, found in groupby(rows.toLocalIterator(), itemgetter("part")):
                while chunk := list(islice(found, _INDEX_ROWS)):
                    builder.add(part, _columns(chunk))
        return builder.build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """The paths of all rows in some part files, some thousand at a time."""
        if now := self._now(parts):
            rows = self._read(now).select("path").toLocalIterator()
            while chunk := [row["path"] for row in islice(rows, _INDEX_ROWS)]:
                yield chunk

    def remove_rows(self, rows: Doomed) -> None:
        """Take rows out: copies without them take the place of the part files that have some."""
        if not rows:
            return
        parts, sizes = self._now(rows), self._parts()
        if not parts:
            return
        kept = self._read(parts).join(*self._keys_of(rows), "left_anti")
        files = 1 + sum(sizes[name] for name in parts) // MERGED_BYTES
        self._replace(parts, kept.coalesce(files))

    def append(self, rows: DataFrame) -> dict[str, str]:
        """Write with Spark beside the table, look at what was written, and rename it in."""
        wave = f"{self._staging}/wave-{uuid.uuid4().hex[:12]}"
        names = self._write(rows, wave)
        read = self._spark.read.parquet(wave).select("path", "status").collect() if names else []
        written = written_once([row.asDict() for row in read])
        self._rename(wave, names)
        return written

    def append_batches(self, rows: list[pa.RecordBatch], job: Job) -> None:
        """Write a part file beside the others."""
        from pyspark.sql.functions import col

        # As plain rows: Spark 3.5 takes no Arrow table here. They are few.
        plain = [tuple(row.values()) for batch in rows for row in batch.to_pylist()]
        frame = self._spark.createDataFrame(plain, SPARK_SCHEMA)
        metadata = column_metadata(job.provenance())
        features = col("features").alias("features", metadata=metadata)
        named = (features if name == "features" else name for name in FEATURE_SCHEMA.names)
        self.append(frame.select(*named).coalesce(1))

    def merge_small_parts(self) -> None:
        """Merge part files where there are many small ones."""
        for group in groups_to_merge(self._parts()):
            self._replace(group, self._read(group).coalesce(1))

    def _now(self, parts: Iterable[str]) -> list[str]:
        """The part files that have now what some had when the index was made."""
        now: set[str] = set()
        for part in parts:
            successors = self._successors.get(part)
            now.update([part] if successors is None else self._now(successors))
        return sorted(now)

    def _keys_of(self, rows: Doomed) -> tuple[DataFrame, Column]:
        """Keys as a DataFrame that goes to every executor, and the condition to join it by."""
        from pyspark.sql.functions import broadcast, expr

        keys = [(bytearray(key),) for key in sorted(reduce(or_, rows.values()))]
        frame = self._spark.createDataFrame(keys, "wanted binary")
        return broadcast(frame), expr(f"{_KEY} = wanted")

    def _replace(self, old: list[str], rows: DataFrame) -> None:
        """Write rows, then let their files take the place of others.

        The intention is written down in between, so that a swap which was cut off is completed.
        """
        folder = f"{self._staging}/swap-{uuid.uuid4().hex[:12]}"
        new = self._write(rows, folder)
        path = hadoop_path(self._spark, f"{folder}/{_INTENTION}")
        stream = hadoop_system(self._spark, path).create(path, True)
        stream.write(bytearray(json.dumps({"old": old, "new": new}).encode()))
        stream.close()
        self._swap(folder, old, new)

    def _swap(self, folder: str, old: list[str], new: list[str]) -> None:
        for name in old:
            self._delete(name)
            self._successors[name] = new
        self._rename(folder, new)

    def _finish_swaps(self, staging: str) -> None:
        jvm: Any = self._spark.sparkContext._jvm
        pattern = hadoop_path(self._spark, f"{self._table}/{staging}/swap-*/{_INTENTION}")
        system = hadoop_system(self._spark, pattern)
        for status in system.globStatus(pattern) or []:
            stream = system.open(status.getPath())
            told = json.loads(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
            stream.close()
            folder = status.getPath().getParent().toString()
            left = [name for name in told["new"] if self._exists(f"{folder}/{name}")]
            # Where the first was renamed already, the old ones had gone before.
            old = told["old"] if left == told["new"] else []
            self._swap(folder, old, left)

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Hold the table by a mark in its folder, and refuse where there is another fresh one.

        Both of two that start together may be refused; never do both go on.
        """
        mark = hadoop_path(self._spark, f"{self._table}/{_RUNNING}{uuid.uuid4().hex[:12]}")
        system = hadoop_system(self._spark, mark)
        done = threading.Event()

        def make() -> None:
            system.create(mark, True).close()

        def remake() -> None:
            while not done.wait(_MARK_EVERY_S):
                make()

        existed = self._exists(self._table)
        make()
        thread = threading.Thread(target=remake, daemon=True)
        try:
            now = system.getFileStatus(mark).getModificationTime()  # by the clock of the storage
            for status in system.listStatus(mark.getParent()):
                other = status.getPath()
                if not other.getName().startswith(_RUNNING) or other.getName() == mark.getName():
                    continue
                if now - status.getModificationTime() < _MARK_HOLDS_S * 1000:
                    raise TableError(
                        f"another run is writing {self._table}: wait until it has ended, or give "
                        f"another TABLE (a run that was killed holds it for {_MARK_HOLDS_S:g} s)"
                    )
                system.delete(other, False)
            thread.start()
            yield
        finally:
            done.set()
            if thread.is_alive():
                thread.join()
            system.delete(mark, False)
            if not existed and not self._names():
                system.delete(mark.getParent(), False)

    def _check_provenance(self, parts: list[str], job: Job) -> None:
        schema = self._read(parts[:1]).schema
        found = provenance_of_column(
            schema["features"].metadata if "features" in schema.names else {}
        )
        if "fingerprint" not in found:
            raise TableError(f"{self._table} exists and is not a feature table: give another TABLE")
        if not job.overwrite:
            check_same_maker(self._table, found, job.provenance())

    def _write(self, rows: DataFrame, folder: str) -> list[str]:
        """Write a new folder; gives the names of its part files."""
        write_parquet(rows, folder)
        return sorted(name for name in self._statuses(folder) if name.endswith(".parquet"))

    def _read(self, parts: Iterable[str]) -> DataFrame:
        return self._spark.read.parquet(*(f"{self._table}/{name}" for name in parts))

    def _rename(self, folder: str, names: list[str]) -> None:
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

    def _statuses(self, uri: str) -> dict[str, int]:
        """Names in a folder, each with its size in bytes; none where there is no folder."""
        folder = hadoop_path(self._spark, uri)
        system = hadoop_system(self._spark, folder)
        if not system.exists(folder):
            return {}
        found = {s.getPath().getName(): s.getLen() for s in system.listStatus(folder)}
        return dict(sorted(found.items()))


def _columns(rows: list[Row]) -> IndexColumns:
    types = {"key": KEY_TYPE, "size": "i8", "modified": "i8", "ok": "?"}
    columns = (np.array([row[name] for row in rows], kind) for name, kind in types.items())
    return IndexColumns(*columns)


def _belongs(name: str) -> bool:
    return (
        name.endswith((".parquet", ".crc"))
        or name in {"_SUCCESS", "_temporary"}
        or name.startswith((STAGING, _RUNNING))
    )
