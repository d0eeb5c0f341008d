"""Feature tables that the embedded engine writes as Delta tables; deltalake and Arrow read them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import pomona
import tables
from command_line import run as command
from delta_tables import by_deltalake, check_that_uncommitted_part_files_do_not_count, version
from pomona.analysis.inspection import inspect
from pomona.encoder.encoder import Encoder
from pomona.errors import PomonaError, RunError, TableError
from pomona.job.summary import Summary
from pomona.schema import FEATURE_SCHEMA
from pomona.table.delta_store import DeltaStore
from pomona.table.feature_table import FeatureTable

deltalake = pytest.importorskip("deltalake")

Run = Callable[..., Summary]


@pytest.fixture
def extract(encoder: Encoder, pictures: Path) -> Run:
    def run(table: Path, **options: object) -> Summary:
        engine = pomona.LocalEngine(workers=2)
        return pomona.extract(pictures, table, encoder=encoder, engine=engine, **options)

    return run


def test_each_kind_of_change_leaves_the_rows_of_a_plain_table(
    extract: Run, pictures: Path, tmp_path: Path
) -> None:
    plain, table = tmp_path / "plain", tmp_path / "delta"
    extract(plain)
    extract(table, table_format="delta")

    def both(**options: object) -> Summary:
        extract(plain, **options)
        summary = extract(table, **options)
        assert tables.read(table).equals(tables.read(plain))
        assert by_deltalake(table).equals(tables.read(plain))
        return summary

    assert both().changes.to_do == 0
    (pictures / "later").mkdir()
    (pictures / "later" / "late.png").write_bytes(drawn.encode(drawn.picture(9, 9, 5), "PNG"))
    changed = next(pictures.rglob("image 1.png"))
    changed.write_bytes(drawn.encode(drawn.picture(20, 20, 7), "PNG"))
    next(pictures.rglob("image 3.jpg")).unlink()
    changes = both(resume=pomona.Resume(prune=True)).changes
    assert (changes.new, changes.changed, changes.pruned) == (1, 1, 1)
    assert both(label="none").changes.relabelled == 14
    assert both().changes.relabelled == 0
    both(resume=pomona.Resume(overwrite=True))
    assert inspect(FeatureTable(table)).check.passed
    assert FeatureTable(table).provenance() == FeatureTable(plain).provenance()


def test_one_commit_adds_deletes_or_replaces_the_rows_of_a_part_file(
    extract: Run, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    extract(table, table_format="delta")
    before, rows = version(table), tables.read(table)
    parts = len(deltalake.DeltaTable(table).file_uris())
    extract(table, label="none")
    assert version(table) == before + parts
    for number in range(before, version(table) + 1):
        earlier = deltalake.DeltaTable(table, version=number)
        assert sum(pa.table(earlier.get_add_actions())["num_records"].to_pylist()) == len(rows)


def test_the_columns_of_the_table_record_the_encoder_and_follow_an_overwrite(
    tmp_path: Path, encoder: Encoder
) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    content = drawn.encode(drawn.picture(), "PNG")
    pq.write_table(pa.table({"id": ["a"], "data": [content], "site": ["north"]}), source)

    def run(**options: object) -> None:
        pomona.extract(
            source,
            table,
            encoder=encoder,
            image_column="data",
            key_column="id",
            table_format="delta",
            engine=pomona.LocalEngine(workers=1),
            **options,
        )

    run()
    run(keep="site", resume=pomona.Resume(overwrite=True))
    schema = pa.schema(deltalake.DeltaTable(table).schema().to_arrow())
    assert schema.names == [*FEATURE_SCHEMA.names, "site"]
    about = schema.field("features").metadata
    assert about[b"pomona.fingerprint"].decode() == encoder.fingerprint
    run(keep="site")
    (row,) = (
        row for batch in FeatureTable(table).batches(["path", "site"]) for row in batch.to_pylist()
    )
    assert row == {"path": "a", "site": "north"}


def test_a_table_of_an_earlier_version_gets_the_columns_of_quality(
    extract: Run, pictures: Path, tmp_path: Path
) -> None:
    table, quality = tmp_path / "t", ["brightness", "sharpness"]
    extract(table)
    for part in table.glob("part-*"):
        pq.write_table(pq.read_table(part).drop_columns(quality), part)
    deltalake.convert_to_deltalake(table)
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(9, 9, 5), "PNG"))
    extract(table)
    columns = pa.schema(deltalake.DeltaTable(table).schema().to_arrow()).names
    assert columns == FEATURE_SCHEMA.names
    rows = tables.read(table)
    assert rows["brightness"].null_count == len(rows) - 1


def test_a_part_file_that_was_not_committed_does_not_count(
    extract: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_that_uncommitted_part_files_do_not_count(
        extract, tmp_path / "t", monkeypatch, table_format="delta"
    )


def test_a_table_that_another_program_rewrote_is_continued(extract: Run, tmp_path: Path) -> None:
    table = tmp_path / "t"
    extract(table, table_format="delta")
    rows = tables.read(table)
    opened = deltalake.DeltaTable(table)
    opened.optimize.compact()
    opened.vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert extract(table).changes.to_do == 0
    assert tables.read(table).equals(rows)
    opened.delete("status <> 'ok'")
    assert extract(table).changes.new == 3


def test_rows_that_another_program_replaces_meanwhile_end_the_run_without_a_commit(
    extract: Run, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    extract(table, table_format="delta")
    store = FeatureTable(table).store
    assert isinstance(store, DeltaStore)
    (name, *_) = [n for n in store.entries() if n.endswith(".parquet")]
    deltalake.DeltaTable(table).delete("status <> 'no such'")
    before = version(table)
    with pytest.raises(RunError, match="another program has replaced"):
        store.delete([name])
    assert version(table) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta.enableChangeDataFeed": "true"}, "the writer version 4"),
        ({"delta.enableDeletionVectors": "true"}, "deletionVectors"),
        ({"delta.appendOnly": "true"}, "appendOnly"),
        ({}, "constraints on columns"),
    ],
)
def test_a_table_with_demands_on_its_writers_is_refused(
    extract: Run, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    rows = pq.read_table(tables.write(tmp_path / "plain", [[1.0]], ["a"]))
    if not settings:
        at = rows.schema.get_field_index("label")
        rows = rows.cast(rows.schema.set(at, rows.schema.field(at).with_nullable(False)))
    deltalake.write_deltalake(tmp_path / "t", rows, configuration=settings)
    with pytest.raises(TableError, match=f"with .*{message}.*, which.*give another TABLE"):
        extract(tmp_path / "t")


def test_what_cannot_become_a_delta_table_is_refused(extract: Run, tmp_path: Path) -> None:
    plain = tables.write(tmp_path / "plain", [[1.0]], ["a"])
    with pytest.raises(TableError, match="plain Parquet files: leave `table_format` out"):
        extract(plain, table_format="delta")
    with pytest.raises(TableError, match="is not on this machine"):
        extract("s3://bucket/t", table_format="delta")
    with pytest.raises(PomonaError, match="expected parquet or delta"):
        extract(tmp_path / "t", table_format="iceberg")


def test_the_command_names_the_option_and_the_missing_package(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    code, _, err = command(capfd, "extract", tmp_path, tmp_path / "t", "--format", "delta")
    assert (code, err.count("\n")) == (2, 1)
    assert "--format delta needs deltalake" in err
    assert "pip install '.[delta]'" in err
