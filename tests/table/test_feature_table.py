from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tables
from pomona.errors import TableError, UsageError
from pomona.schema import (
    FEATURE_SCHEMA,
    SPARK_FOOTER_KEY,
    failure_row,
    read_provenance,
    schema_with_provenance,
)
from pomona.table.feature_table import FeatureTable, check_output
from pomona.table.part_file import PartWriter, part_name
from pomona.table.writer import writing
from pomona.worker.featurize import vectors_array

A = {"fingerprint": "a" * 64, "model": "tiny", "weights": "by hand", "dimension": "3"}
B = {**A, "fingerprint": "b" * 64, "weights": "others"}


def rows(*names: str) -> pa.RecordBatch:
    count = len(names)
    columns = {
        name: pa.nulls(count, FEATURE_SCHEMA.field(name).type) for name in FEATURE_SCHEMA.names
    }
    columns["path"] = pa.array([f"file:/data/{name}" for name in names])
    columns["status"] = pa.array(["ok"] * count)
    columns["features"] = vectors_array([True] * count, np.ones((count, 3), np.float32))
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=FEATURE_SCHEMA)


def add(folder: Path, provenance: dict[str, str], *names: str, overwrite: bool = False) -> None:
    table = FeatureTable(folder)
    with writing(table, provenance, overwrite=overwrite) as open_table:
        writer = PartWriter(open_table.staging / part_name(), schema_with_provenance(provenance))
        writer.write(rows(*names))
        writer.close()
        open_table.commit(writer.path)


def paths(folder: Path) -> set[str]:
    return set(tables.read(folder)["path"].to_pylist())


@pytest.mark.parametrize(
    "footer", ["{}", "[]", '"x"', '{"fields": [1]}', '{"fields": 1}', "{", "[" * 100_000]
)
def test_an_invalid_spark_footer_is_a_damaged_part(tmp_path: Path, footer: str) -> None:
    add(tmp_path / "t", A, "a.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    plain = pa.table(pq.read_table(part).to_pydict())
    pq.write_table(plain.replace_schema_metadata({SPARK_FOOTER_KEY: footer}), part)
    with pytest.raises(TableError, match=f"{part.name} is not a readable Parquet file"):
        FeatureTable(tmp_path / "t").provenance()


@pytest.mark.parametrize("dropped", ["label", "status"])
def test_a_part_file_with_missing_columns_is_refused_by_name(tmp_path: Path, dropped: str) -> None:
    add(tmp_path / "t", A, "a.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    pq.write_table(pq.read_table(part).drop_columns([dropped]), part)
    with pytest.raises(TableError, match=f"{part.name} is not part .* no column '{dropped}'"):
        list(FeatureTable(tmp_path / "t").batches())


def test_a_row_without_a_path_is_reported_with_a_remedy(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    rows = pq.read_table(part)
    pq.write_table(rows.set_column(0, "path", pa.array([None], pa.string())), part)
    with pytest.raises(TableError, match=f"{part.name} has a row without a path: write .*coalesce"):
        FeatureTable(tmp_path / "t").index()


@pytest.mark.parametrize(
    ("column", "values"),
    [("path", [["a.jpg"]]), ("size", ["large"]), ("modified", [[1]])],
)
def test_a_part_file_with_invalid_values_is_named(
    tmp_path: Path, column: str, values: list[Any]
) -> None:
    add(tmp_path / "t", A, "a.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    rows = pq.read_table(part)
    changed = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
    pq.write_table(changed, part)
    with pytest.raises(TableError, match=f"{part.name} is not a readable Parquet file"):
        FeatureTable(tmp_path / "t").index()


def test_a_part_file_with_damaged_pages_is_named(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg", "b.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    content = bytearray(part.read_bytes())
    content[4:200] = b"\xff" * 196
    part.write_bytes(content)
    table = FeatureTable(tmp_path / "t")
    with pytest.raises(TableError, match=f"{part.name} is not a readable Parquet file"):
        list(table.batches())
    with pytest.raises(TableError, match=f"{part.name} is not a readable Parquet file"):
        table.index()


def test_a_part_file_that_disappears_during_reading_is_named(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    part.unlink()
    with pytest.raises(TableError, match=f"{part.name} disappeared"):
        list(FeatureTable(tmp_path / "t").paths_in([part.name]))


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(TableError, match="cannot lock .*No locks available"):
        add(tmp_path / "t", A, "a.jpg")


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg", "b.jpg")
    (batch,) = FeatureTable(tmp_path / "t").batches()
    assert batch.equals(rows("a.jpg", "b.jpg"))


def test_provenance_reads_back_from_footers_of_arrow_and_of_spark(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    (part,) = FeatureTable(tmp_path / "t").parts()
    schema = pq.read_schema(part)
    assert schema.field("features").metadata[b"pomona.fingerprint"] == b"a" * 64
    struct = json.loads(schema.metadata[b"org.apache.spark.sql.parquet.row.metadata"])
    (features,) = (field for field in struct["fields"] if field["name"] == "features")
    assert features["metadata"]["pomona.fingerprint"] == "a" * 64
    without_arrow = schema.set(2, schema.field("features").remove_metadata())
    assert read_provenance(schema) == read_provenance(without_arrow) == A


def test_the_same_encoder_continues_a_table(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    add(tmp_path / "t", A, "b.jpg")
    assert paths(tmp_path / "t") == {"file:/data/a.jpg", "file:/data/b.jpg"}


def test_a_different_encoder_is_refused_and_both_are_named(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    with pytest.raises(TableError, match=r"by hand \(aaaaaaaaaaaa\).*others \(bbbbbbbbbbbb\)"):
        add(tmp_path / "t", B, "b.jpg")
    assert paths(tmp_path / "t") == {"file:/data/a.jpg"}


def test_a_different_way_of_decoding_is_refused(tmp_path: Path) -> None:
    add(tmp_path / "t", {**A, "decode": "exact"}, "a.jpg")
    with pytest.raises(TableError, match="made with `decode` exact, this run has `decode` fast"):
        add(tmp_path / "t", {**A, "decode": "fast"}, "b.jpg")


def test_overwrite_replaces_rows_of_any_encoder(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    add(tmp_path / "t", B, "b.jpg", overwrite=True)
    assert paths(tmp_path / "t") == {"file:/data/b.jpg"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_table_is_never_changed(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(TableError, match=r"not a feature table \(it holds 'thesis.docx'\)"):
        add(tmp_path, A, "a.jpg", overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_files_that_desktops_and_notebooks_create_are_allowed(tmp_path: Path) -> None:
    add(tmp_path, A, "a.jpg")
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    add(tmp_path, A, "b.jpg", overwrite=True)
    assert paths(tmp_path) == {"file:/data/b.jpg"}
    assert (tmp_path / ".DS_Store").exists()


@pytest.mark.parametrize("name", ["", "a\nb", "\udce9"])
def test_an_invalid_folder_name_is_refused(name: str) -> None:
    with pytest.raises(TableError, match="is not a valid folder name"):
        FeatureTable.at(name)


def test_a_name_too_long_for_the_file_system_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="File name too long"):
        FeatureTable(tmp_path / ("x" * 300)).check()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_parquet_files_is_never_changed(tmp_path: Path, overwrite: bool) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "sales.parquet")
    with pytest.raises(TableError, match="sales.parquet does not say which encoder"):
        add(tmp_path, A, "a.jpg", overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["sales.parquet"]


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("")
    with pytest.raises(TableError, match="is a file: TABLE must be a new or existing folder"):
        FeatureTable(tmp_path / "t").check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TableError, match="no permission to write"):
        FeatureTable(tmp_path / "t").check()


def test_a_folder_that_cannot_be_created_is_one_clear_error() -> None:
    with pytest.raises(TableError, match="cannot create /proc/t"):
        add(Path("/proc/t"), A, "a.jpg")


def test_a_table_contains_no_other_table_and_no_other_file(tmp_path: Path) -> None:
    add(tmp_path / "t", A, "a.jpg")
    with pytest.raises(TableError, match="is in a feature table"):
        add(tmp_path / "t" / "below", A, "a.jpg")
    with pytest.raises(UsageError, match="is in a feature table, which contains only rows"):
        check_output(tmp_path / "t" / "report.html")
    check_output(tmp_path / "report.html")
    (tmp_path / "t" / "near.index").touch()
    with pytest.raises(TableError, match=r"is a feature table that also contains 'near.index'"):
        add(tmp_path / "t", A, "b.jpg")


def test_a_table_may_be_next_to_other_parquet_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "mine.parquet")
    add(tmp_path / "t", A, "a.jpg")
    assert paths(FeatureTable.at(tmp_path / "t").folder) == {"file:/data/a.jpg"}


def test_readers_refuse_two_encoders_in_one_folder(tmp_path: Path) -> None:
    add(tmp_path / "one", A, "a.jpg")
    add(tmp_path / "two", B, "b.jpg")
    (part,) = FeatureTable(tmp_path / "two").parts()
    part.rename(tmp_path / "one" / part.name)
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        FeatureTable(tmp_path / "one").provenance()


def test_a_second_writer_is_refused_while_the_first_one_works(tmp_path: Path) -> None:
    table = FeatureTable(tmp_path / "t")
    with (
        writing(table, A, overwrite=False),
        pytest.raises(TableError, match="another run is writing"),
        writing(table, A, overwrite=False),
    ):
        pass


def test_the_lock_and_the_staging_folder_of_a_killed_writer_do_not_block(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from pomona.table.feature_table import FeatureTable\n"
        "from pomona.table.writer import writing\n"
        "with writing(FeatureTable(Path(sys.argv[1])), {}, overwrite=False) as open_table:\n"
        "    (open_table.staging / 'half').write_text('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "t")], check=False)
    assert list((tmp_path / "t").glob("_staging-*/half"))
    add(tmp_path / "t", A, "a.jpg")
    assert [p.suffix for p in (tmp_path / "t").iterdir()] == [".parquet"]


@pytest.mark.parametrize("below", ["t", "new/newer/t"])
def test_a_writer_that_wrote_nothing_leaves_no_folder(tmp_path: Path, below: str) -> None:
    with writing(FeatureTable(tmp_path / below), A, overwrite=False):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "t" / "mine").mkdir(parents=True)
    with writing(FeatureTable(tmp_path / "t" / "mine" / "new" / "t"), A, overwrite=False):
        pass
    assert list((tmp_path / "t" / "mine").iterdir()) == []


def test_a_part_file_is_invisible_until_it_is_complete(tmp_path: Path) -> None:
    table = FeatureTable(tmp_path)
    with writing(table, A, overwrite=False) as open_table:
        writer = PartWriter(open_table.staging / part_name(), schema_with_provenance(A))
        writer.write(rows("a.jpg"))
        assert not table.exists()
        writer.close()
        assert not table.exists()
        open_table.commit(writer.path)
        assert table.exists()


def test_a_failure_row_has_the_listed_values_and_the_reason() -> None:
    (row,) = failure_row(
        path="file:/a.jpg", label="x", size=9, modified_ms=1500, status="crashed", error="SIGSEGV"
    ).to_pylist()
    assert (row["path"], row["status"], row["error"]) == ("file:/a.jpg", "crashed", "SIGSEGV")
    assert row["modified"].timestamp() == 1.5
    assert row["features"] is None
