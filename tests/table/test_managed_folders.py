"""Tables that plain Parquet readers misread: partitions, and folders of another table format.

Delta, Iceberg and Hudi are recognized by the names of their logs, so the logs here are written by
hand. Spark itself writes partitions and streaming sinks in `test_managed_folders_spark.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pomona
import tables
from pomona.analysis.classifier.training import train
from pomona.analysis.inspection import inspect
from pomona.analysis.neighbours.duplicates import find_duplicates
from pomona.analysis.projection import project
from pomona.analysis.vectors import open_vectors
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError
from pomona.schema import FEATURE_SCHEMA
from pomona.table.feature_table import FeatureTable
from pomona.table.parts import partition_values

VECTORS = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
LABELS = ["apple", "apple", "pear", "pear"]


def _delta(root: Path) -> None:
    (root / "_delta_log").mkdir(parents=True)
    removed = {"remove": {"path": "part-000000.parquet", "dataChange": True}}
    (root / "_delta_log" / "00000000000000000000.json").write_text(json.dumps(removed))


def _iceberg(root: Path) -> None:
    (root / "metadata").mkdir(parents=True)
    (root / "metadata" / "00000-0b0c.metadata.json").write_text("{}")


def _hudi(root: Path) -> None:
    (root / ".hoodie").mkdir(parents=True)
    (root / ".hoodie" / "hoodie.properties").write_text("hoodie.table.name=t")


MANAGERS = {"Delta": _delta, "Iceberg": _iceberg, "Hudi": _hudi}
PLACES = {"itself": "", "a partition": "label=apple", "the folder of its data": "data"}

Opener = Callable[[str, Path], Any]
READERS: dict[str, Opener] = {
    "provenance": lambda table, _: FeatureTable.at(table).provenance(),
    "batches": lambda table, _: list(FeatureTable.at(table).batches()),
    "inspect": lambda table, _: inspect(FeatureTable.at(table)),
    "read_features": lambda table, _: pomona.read_features(table),
    "search": lambda table, _: open_vectors(FeatureTable.at(table)),
    "duplicates": lambda table, _: find_duplicates(FeatureTable.at(table)),
    "train": lambda table, _: train(table),
    "project": lambda table, to: project(FeatureTable.at(table), FeatureTable(to), 2),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("manager", ["Iceberg", "Hudi"])
def test_a_table_of_another_format_is_never_read_as_plain_parquet(
    tmp_path: Path, manager: str, place: str
) -> None:
    MANAGERS[manager](tmp_path / "t")
    table = tables.write(tmp_path / "t" / place, VECTORS, LABELS)
    for read in READERS.values():
        with pytest.raises(TableError, match=f"an? {manager} table") as refusal:
            read(str(table), tmp_path / "new")
        assert "pomona.spark.read_features" in str(refusal.value)
        assert "move" not in str(refusal.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("manager", "place"),
    [  # a whole Delta table is written: see tests/local/test_delta_output.py
        (manager, place)
        for manager in [*MANAGERS, "a streaming sink"]
        for place in PLACES.values()
        if (manager, place) != ("Delta", "")
    ],
)
def test_nothing_is_written_into_a_table_of_another_format(
    tmp_path: Path, pictures: Path, encoder: Encoder, manager: str, place: str, overwrite: bool
) -> None:
    name = manager
    if manager == "a streaming sink":
        (tmp_path / "t" / "_spark_metadata").mkdir(parents=True)
        name = "sink of a streaming query"
    else:
        MANAGERS[manager](tmp_path / "t")
    table = tmp_path / "t" / place
    table.mkdir(exist_ok=True)
    before = sorted((tmp_path / "t").rglob("*"))
    for dry_run in (True, False):
        with pytest.raises(TableError, match=name) as refusal:
            pomona.extract(
                pictures,
                table,
                encoder=encoder,
                dry_run=dry_run,
                engine=pomona.LocalEngine(workers=1),
                resume=pomona.Resume(overwrite=overwrite),
            )
        assert "give another TABLE" in str(refusal.value)
        assert "move" not in str(refusal.value)
    assert sorted((tmp_path / "t").rglob("*")) == before


def test_a_folder_named_metadata_does_not_make_an_iceberg_table(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "notes.json").write_text("{}")
    table = tables.write(tmp_path / "features", VECTORS, LABELS)
    assert len(pomona.read_features(table)) == 4


def _sink(root: Path, batches: dict[str, list[dict[str, Any]]]) -> None:
    log = root / "_spark_metadata"
    log.mkdir(parents=True, exist_ok=True)
    for name, entries in batches.items():
        (log / name).write_text("\n".join(["v1", *map(json.dumps, entries)]))
    (log / ".0.crc").write_bytes(b"crc")


def _logged(file: str, action: str = "add") -> dict[str, Any]:
    return {"path": f"hdfs://nn:8020/old%20place/{file}", "size": 1, "action": action}


def test_only_files_named_in_the_log_of_a_streaming_sink_are_read(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "sink", VECTORS, LABELS, parts=4)
    names = sorted(part.name for part in table.glob("*.parquet"))
    _sink(table, {"0": [_logged(names[0])], "1": [_logged(names[2])]})
    kept = pomona.read_features(table)
    assert [p.rpartition("/")[2] for p in kept.paths] == ["0.jpg", "2.jpg"]
    assert inspect(FeatureTable(table)).rows == 2


def test_the_newest_compact_batch_of_a_sink_log_replaces_all_earlier_ones(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "sink", VECTORS, LABELS, parts=4)
    names = sorted(part.name for part in table.glob("*.parquet"))
    _sink(
        table,
        {
            "8": [_logged(names[1])],  # a later batch removed it
            "9.compact": [_logged(names[0])],
            "10": [_logged(names[2]), _logged(names[3])],
            "11": [_logged(names[3], "delete")],
        },
    )
    assert [p.rpartition("/")[2] for p in pomona.read_features(table).paths] == ["0.jpg", "2.jpg"]


def test_a_partition_of_a_streaming_sink_is_refused_with_the_tables_name(tmp_path: Path) -> None:
    _sink(tmp_path / "sink", {"0": []})
    part = tables.write(tmp_path / "sink" / "label=apple", VECTORS, LABELS)
    with pytest.raises(TableError, match=f"give {tmp_path / 'sink'} as TABLE"):
        pomona.read_features(part)


def test_a_missing_file_of_a_sink_log_is_an_error(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "sink", VECTORS, LABELS)
    _sink(table, {"0": [_logged("part-gone.parquet")]})
    with pytest.raises(TableError, match="lacks part-gone.parquet"):
        pomona.read_features(table)


@pytest.mark.parametrize("content", [b"", b"v2\n", b"v1\n{", b"v1\n[]", b'v1\n{"a": 1}', b"\xff"])
def test_an_unreadable_sink_log_is_an_error(tmp_path: Path, content: bytes) -> None:
    table = tables.write(tmp_path / "sink", VECTORS, LABELS)
    _sink(table, {})
    (table / "_spark_metadata" / "0").write_bytes(content)
    with pytest.raises(TableError, match="_spark_metadata/0 is not a log file of Spark"):
        pomona.read_features(table)


def _partitioned(folder: Path, labels: list[str | None], *, outer: str = "") -> Path:
    """A table as Spark's `partitionBy("label")` writes it: the files lack the column."""
    flat = tables.write(folder.parent / "flat", VECTORS[: len(labels)], labels)
    table = pq.read_table(flat)
    for number, label in enumerate(labels):
        name = "__HIVE_DEFAULT_PARTITION__" if label is None else quote(label, safe=" ")
        place = folder / outer / f"label={name}"
        place.mkdir(parents=True, exist_ok=True)
        rows = table.slice(number, 1).drop_columns(["label"])
        pq.write_table(rows, place / f"part-{number}.parquet")
    shutil.rmtree(flat)
    return folder


@pytest.mark.parametrize("outer", ["", "day=2024-01-01", "size=7", "day=1/size=7"])
def test_a_partitioned_table_is_read_like_arrows_dataset(tmp_path: Path, outer: str) -> None:
    labels = ["01", "a/b=c %41 'é'", None, "true"]
    table = _partitioned(tmp_path / "t", labels, outer=outer)
    result = pomona.read_features(table)
    hive = ds.partitioning(pa.schema([FEATURE_SCHEMA.field("label")]), flavor="hive")
    expected = ds.dataset(table, partitioning=hive).to_table(columns=["path", "label", "features"])
    by_arrow = {row["path"]: (row["label"], row["features"]) for row in expected.to_pylist()}
    assert sorted(result.labels, key=str) == sorted(labels, key=str)
    for path, label, vector in zip(result.paths, result.labels, result.vectors, strict=True):
        assert (label, vector.tolist()) == by_arrow[path]
    inspected = inspect(FeatureTable(table))
    assert inspected.check.passed
    assert sorted(inspected.labels, key=str) == sorted(labels, key=str)


def test_a_column_other_than_the_label_may_be_the_partition(tmp_path: Path) -> None:
    flat = pq.read_table(tables.write(tmp_path / "flat", VECTORS, LABELS))
    for status in ("ok", "corrupt"):
        place = tmp_path / "t" / f"status={status}" / "width=100"
        place.mkdir(parents=True)
        rows = flat.slice(0, 2) if status == "ok" else flat.slice(2, 2)
        pq.write_table(rows.drop_columns(["status", "width"]), place / "part-0.parquet")
    assert inspect(FeatureTable(tmp_path / "t")).statuses == {"ok": 2, "corrupt": 2}
    assert tables.read(tmp_path / "t")["width"].to_pylist() == [100] * 4


def test_a_partition_column_may_begin_with_an_underscore(
    tmp_path: Path,
) -> None:
    """Spark reads such a partition: it skips `_name`, but not `_name=value`."""
    table = _partitioned(tmp_path / "t", ["a", "b"], outer="_change_type=insert")
    (tmp_path / "t" / "_temporary").mkdir()
    tables.write(tmp_path / "t" / ".hidden=1", VECTORS, LABELS)
    assert sorted(pomona.read_features(table).labels) == ["a", "b"]


def test_one_partition_is_a_table_with_its_own_label(tmp_path: Path) -> None:
    table = _partitioned(tmp_path / "t", ["a/b", "c"])
    assert pomona.read_features(table / "label=a%2Fb").labels.tolist() == ["a/b"]


def test_partitions_of_two_encoders_are_refused(tmp_path: Path) -> None:
    tables.write(tmp_path / "t" / "label=a", VECTORS, LABELS)
    tables.write(tmp_path / "t" / "label=b", VECTORS, LABELS, fingerprint="b" * 64)
    with pytest.raises(TableError, match="mixes rows of two encoders.*label=b/part-000000"):
        pomona.read_features(tmp_path / "t")


def test_part_files_next_to_partitions_are_refused(tmp_path: Path) -> None:
    _partitioned(tmp_path / "t", ["a", "b"])
    tables.write(tmp_path / "t", VECTORS, LABELS)
    with pytest.raises(TableError, match="has part files and partitions"):
        pomona.read_features(tmp_path / "t")


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_rows_are_added_to_a_partitioned_table(
    tmp_path: Path, pictures: Path, encoder: Encoder, overwrite: bool
) -> None:
    table = _partitioned(tmp_path / "t", ["a", "b"])
    with pytest.raises(TableError, match=r"is partitioned .*give another TABLE"):
        pomona.extract(
            pictures,
            table,
            encoder=encoder,
            engine=pomona.LocalEngine(workers=1),
            resume=pomona.Resume(overwrite=overwrite),
        )
    assert len(pomona.read_features(table)) == 2


@given(st.text(min_size=1))
def test_every_label_survives_the_name_of_its_partition(label: str) -> None:
    try:
        escaped = quote(label, safe="")
    except UnicodeEncodeError:
        return  # a lone surrogate is not valid text
    assert partition_values([f"label={escaped}"]) == {"label": label}
