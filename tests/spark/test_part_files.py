"""Spark's workers write part files; only those whose names the driver receives join the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import DataFrame, SparkSession

import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import RunError, TableError
from pomona.schema import FEATURE_SCHEMA
from pomona.spark import part_files
from pomona.spark.part_files import write_part
from pomona.spark.storage.choose import LocalTableStore, Written

pytestmark = pytest.mark.spark

ROW = pa.RecordBatch.from_pylist([{"path": "/a.jpg", "status": "ok"}], FEATURE_SCHEMA)


def test_other_attempts_of_tasks_add_no_row_and_leave_no_file(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spark starts a task again if it fails, loses its executor or is slow."""
    real, table = LocalTableStore.append, tmp_path / "t"

    def append(self: LocalTableStore, rows: Callable[[str | None], DataFrame]) -> Written:
        def again(folder: str | None) -> DataFrame:
            assert folder
            assert rows(folder).count() == 1  # an attempt that ends, and whose result is lost
            (Path(folder) / "part-0.parquet").write_bytes(b"PAR1")  # and a killed one
            return rows(folder)

        written = real(self, again)
        assert not list(table.glob("_staging-*/wave-*"))
        return written

    monkeypatch.setattr(LocalTableStore, "append", append)
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    paths = tables.read(table)["path"].to_pylist()
    assert (len(paths), len(set(paths))) == (14, 14)
    assert {path.suffix for path in table.iterdir()} == {".parquet"}


def test_a_table_that_only_the_driver_can_write_ends_the_run_in_one_line(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This happens on a cluster if TABLE is a folder of one machine."""

    @contextmanager
    def elsewhere(_: LocalTableStore) -> Iterator[Path]:
        yield tmp_path / "of the driver"

    monkeypatch.setattr(LocalTableStore, "_wave_folder", elsewhere)
    with pytest.raises(RunError) as caught:
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )
    assert str(caught.value).startswith("Spark could not continue: a worker on ")
    assert str(caught.value).endswith(
        f"cannot write in {tmp_path}/of the driver (No such file or directory): "
        "put TABLE where Spark's workers can write it"
    )
    assert not (tmp_path / "t").exists()


def test_a_full_disk_of_a_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr(part_files, "part_name", lambda: "full")
    with pytest.raises(TableError, match=r"cannot write in \S+ \(No space left on device\)$"):
        list(write_part([(ROW, 1)], tmp_path, {}))


def test_an_error_of_the_images_is_not_one_of_the_table(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[pa.RecordBatch, int]]:
        yield ROW, 1
        raise PermissionError("of the images")

    with pytest.raises(PermissionError, match="of the images"):
        list(write_part(broken(), tmp_path, {}))


def test_a_task_without_rows_writes_no_file(tmp_path: Path) -> None:
    assert not list(write_part([(ROW.slice(0, 0), 0)], tmp_path, {}))
    assert not list(tmp_path.iterdir())
