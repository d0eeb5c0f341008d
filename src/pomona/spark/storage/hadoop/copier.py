"""Copies rows of part files on a Hadoop file system, with Spark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from pomona.errors import RunError
from pomona.io.location import literal_glob
from pomona.spark.storage.parquet import quality_too, write_parquet
from pomona.table.part_file import MERGED_BYTES, groups_to_merge
from pomona.table.parts import is_part_name
from pomona.table.row_index import KEY_IN_SQL
from pomona.table.store import Store

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = ["SparkCopier"]


class SparkCopier:
    """Copies rows with Spark jobs, many part files in one job."""

    def __init__(self, store: Store, spark: SparkSession) -> None:
        self._store = store
        self._spark = spark

    def groups(self, parts: list[str]) -> list[list[str]]:
        """Return one group with all: a job takes long to start."""
        return [parts] if parts else []

    def groups_to_merge(self, sizes: dict[str, int]) -> list[list[str]]:
        """Choose small part files; all of a table have one provenance."""
        return groups_to_merge(sizes)

    def copy(
        self,
        parts: list[str],
        place: str,
        *,
        without: Collection[bytes] = (),
        labels: Mapping[bytes, str | None] | None = None,
    ) -> list[str]:
        """Copy rows, and count them.

        Raises:
            RunError: the copies have fewer or more rows.
        """
        before = self.read(parts)
        rows, count = before, before.count()
        if without:
            count -= before.join(*self._keys(without), "left_semi").count()
            rows = before.join(*self._keys(without), "left_anti")
        if labels:
            rows = self._relabelled(before, labels)
        entries = self._store.entries()
        sizes = (entries[name].size for name in parts if name in entries)
        files = 1 + sum(sizes) // MERGED_BYTES
        new = self.write(rows.coalesce(files), place)
        written = self.read(new, place).count() if new else 0
        if written != count:
            raise RunError(
                f"Spark copied {count} rows within {self._store}, but the copies have {written}: "
                "nothing was changed; check the storage"
            )
        return new

    def read(self, parts: Iterable[str], place: str = "") -> DataFrame:
        """Read part files. An unreadable one is an error, even if the session skips them."""
        reader = self._spark.read.option("ignoreMissingFiles", "false")
        reader = reader.option("ignoreCorruptFiles", "false")
        folder = f"{self._store}/{place}" if place else str(self._store)
        places = [literal_glob(f"{folder}/{name}") for name in parts]
        rows = reader.parquet(*places)
        schema = quality_too(rows.schema)
        return rows if schema == rows.schema else reader.schema(schema).parquet(*places)

    def write(self, rows: DataFrame, place: str) -> list[str]:
        """Write rows to a new place, and return the names of its part files."""
        write_parquet(rows, f"{self._store}/{place}")
        return sorted(filter(is_part_name, self._store.entries(place)))

    def _keys(self, keys: Collection[bytes]) -> tuple[DataFrame, Column]:
        """Return keys as a DataFrame for all executors, and the condition to join it by."""
        from pyspark.sql.functions import broadcast, expr

        rows = [(bytearray(key),) for key in sorted(keys)]
        frame = self._spark.createDataFrame(rows, "wanted binary")
        return broadcast(frame), expr(f"{KEY_IN_SQL} = wanted")

    def _relabelled(self, rows: DataFrame, labels: Mapping[bytes, str | None]) -> DataFrame:
        from pyspark.sql.functions import broadcast, expr

        changes = self._spark.createDataFrame(
            [(bytearray(key), label) for key, label in labels.items()],
            "wanted binary, new_label string",
        )
        joined = rows.join(broadcast(changes), expr(f"{KEY_IN_SQL} = wanted"), "left")
        label = expr("if(wanted is null, label, new_label)").alias("label")
        return joined.select(*(label if name == "label" else name for name in rows.columns))
