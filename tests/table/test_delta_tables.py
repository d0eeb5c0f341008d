"""Feature tables that are Delta tables, which deltalake wrote."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pomona
import tables
from places import TESTS
from pomona.analysis.inspection import inspect
from pomona.errors import TableError
from pomona.table.feature_table import FeatureTable
from s3_server import S3, s3

deltalake = pytest.importorskip("deltalake")

__all__ = ["s3"]

VECTORS = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
LABELS = ["apple", "a/b c", "pear", None]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tables.write(tmp_path / "plain", VECTORS, LABELS)


def delta(plain: Path, folder: Path, **options: object) -> Path:
    deltalake.write_deltalake(folder, pq.read_table(plain), **options)
    return folder


@pytest.mark.parametrize("partitions", [[], ["label"], ["label", "width"]])
def test_a_delta_table_has_the_rows_of_the_plain_table(
    tmp_path: Path, plain: Path, partitions: list[str]
) -> None:
    table = delta(plain, tmp_path / "t", partition_by=partitions)
    by_path = [("path", "ascending")]
    assert tables.read(table).sort_by(by_path).equals(tables.read(plain).sort_by(by_path))
    there, here = FeatureTable(table), FeatureTable(plain)
    assert there.provenance() == here.provenance()
    assert inspect(there).labels == inspect(here).labels
    assert inspect(there).check.passed
    assert len(pomona.read_features(table)) == 4


def test_rows_that_the_log_deleted_or_replaced_are_not_read(tmp_path: Path, plain: Path) -> None:
    table = delta(plain, tmp_path / "t")
    opened = deltalake.DeltaTable(table)
    opened.delete("label = 'apple'")
    opened.update(predicate="label = 'pear'", new_values={"label": "plum"})
    opened.optimize.compact()
    shutil.copy(next(table.glob("*.parquet")), table / "not-committed.parquet")
    assert sorted(pomona.read_features(table).labels, key=str) == [None, "a/b c", "plum"]
    assert FeatureTable(table).provenance() == FeatureTable(plain).provenance()


def test_a_delta_table_in_a_bucket_is_read(s3: S3, tmp_path: Path, plain: Path) -> None:
    s3.put_folder(delta(plain, tmp_path / "t", partition_by=["label"]), "bucket/t")
    features = pomona.read_features("s3://bucket/t")
    assert sorted(features.labels, key=str) == sorted(LABELS, key=str)


def test_deleted_rows_that_a_file_still_contains_are_refused() -> None:
    with pytest.raises(TableError, match="has deleted rows that .*: purge them"):
        pomona.read_features(TESTS / "goldens" / "delta")


def test_a_part_of_a_delta_table_is_refused_with_the_whole_table(
    tmp_path: Path, plain: Path
) -> None:
    table = delta(plain, tmp_path / "t", partition_by=["label"])
    with pytest.raises(TableError, match=f"is in a Delta table.*give {table} as TABLE"):
        pomona.read_features(table / "label=pear")


def test_without_the_package_the_error_says_how_to_install_it(
    tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = delta(plain, tmp_path / "t")
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(TableError, match=r"needs deltalake: .*pip install '\.\[delta\]'"):
        pomona.read_features(table)


def test_a_delta_table_that_holds_no_features_is_refused(tmp_path: Path) -> None:
    deltalake.write_deltalake(tmp_path / "t", pa.table({"a": [1]}))
    with pytest.raises(TableError, match="t"):
        inspect(FeatureTable(tmp_path / "t"))
