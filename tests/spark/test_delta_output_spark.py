"""Feature tables that Spark writes as Delta tables, without a jar for Delta in its JVM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from delta_tables import (
    by_deltalake,
    check_that_uncommitted_part_files_do_not_count,
    rows_of_versions,
)
from pomona.analysis.inspection import inspect
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError
from pomona.job.summary import Summary
from pomona.table.feature_table import FeatureTable

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
pytest.importorskip("deltalake")

from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

LOCAL = pomona.LocalEngine(workers=2)
Run = Callable[..., Summary]


@pytest.fixture
def extract(spark: SparkSession, encoder: Encoder, pictures: Path) -> Run:
    def run(table: object, **options: object) -> Summary:
        settings = {"engine": pomona.SparkEngine(spark=spark), "encoder": encoder, **options}
        return pomona.extract(pictures, table, **settings)

    return run


def test_engines_take_turns_on_a_delta_table_and_leave_the_rows_of_a_plain_one(
    extract: Run, pictures: Path, tmp_path: Path
) -> None:
    plain, table = tmp_path / "plain", tmp_path / "delta"
    on_spark: dict[str, object] = {}
    embedded: dict[str, object] = {"engine": LOCAL}

    def both(engine: dict[str, object], **options: object) -> Summary:
        extract(plain, engine=LOCAL, **options)
        summary = extract(table, **engine, **options)
        assert by_deltalake(table).equals(tables.read(plain))
        assert tables.read(table).equals(tables.read(plain))
        return summary

    both({"table_format": "delta"})
    assert both(embedded).changes.to_do == 0
    (pictures / "later").mkdir()
    (pictures / "later" / "late.png").write_bytes(drawn.encode(drawn.picture(9, 9, 5), "PNG"))
    changed = next(pictures.rglob("image 1.png"))
    changed.write_bytes(drawn.encode(drawn.picture(20, 20, 7), "PNG"))
    next(pictures.rglob("image 3.jpg")).unlink()
    changes = both(on_spark, resume=pomona.Resume(prune=True)).changes
    assert (changes.new, changes.changed, changes.pruned) == (1, 1, 1)
    assert both(on_spark, label="none").changes.relabelled == 14
    both(embedded, resume=pomona.Resume(overwrite=True))
    assert both(on_spark, label="none").changes.relabelled == 14
    both(on_spark, resume=pomona.Resume(overwrite=True))
    assert both(embedded).changes.to_do == 0
    assert inspect(FeatureTable(table)).check.passed
    assert FeatureTable(table).provenance() == FeatureTable(plain).provenance()


def test_one_commit_adds_the_rows_of_a_wave(
    extract: Run, spark: SparkSession, tmp_path: Path
) -> None:
    engine = pomona.SparkEngine(spark=spark, wave_files=14)
    extract(tmp_path / "one", table_format="delta", engine=engine)
    assert rows_of_versions(tmp_path / "one") == [0, 14]
    engine = pomona.SparkEngine(spark=spark, wave_files=5)
    extract(tmp_path / "three", table_format="delta", engine=engine)
    rows = rows_of_versions(tmp_path / "three")
    added = [now - before for before, now in pairwise(rows)]
    assert sorted(added) == [4, 5, 5]


def test_relabelling_keeps_all_rows_in_each_version(extract: Run, tmp_path: Path) -> None:
    extract(tmp_path / "t", table_format="delta")
    assert extract(tmp_path / "t", label="none").changes.relabelled == 14
    assert set(rows_of_versions(tmp_path / "t")[1:]) == {14}


def test_part_files_that_were_not_committed_do_not_count(
    extract: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_that_uncommitted_part_files_do_not_count(extract, tmp_path / "t", monkeypatch)


def test_a_table_of_a_hadoop_file_system_does_not_become_a_delta_table(
    extract: Run, remote: str
) -> None:
    with pytest.raises(TableError, match="only here: give a path, or on Spark.*pomona.featurize"):
        extract(f"{remote}/t", table_format="delta")
