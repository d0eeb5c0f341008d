"""Deleting rows and merging part files: no interruption loses or duplicates a row."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tables
from pomona.errors import TableError
from pomona.schema import FEATURE_SCHEMA, schema_with_provenance
from pomona.table import part_file
from pomona.table.feature_table import FeatureTable
from pomona.table.hold import FolderLock
from pomona.table.journal import PutAway, recover
from pomona.table.part_file import PartWriter, groups_to_merge, part_name
from pomona.table.store import LocalStore
from pomona.table.writer import TableWriter, writing
from pomona.worker.featurize import vectors_array
from stores import Killed

MADE_BY = {"fingerprint": "a" * 64, "model": "tiny", "weights": "by hand", "dimension": "3"}


def rows(*names: str) -> pa.RecordBatch:
    """Rows whose vectors start with the length of their name in bytes."""
    count = len(names)
    columns = {f.name: pa.nulls(count, f.type) for f in FEATURE_SCHEMA}
    columns["path"] = pa.array(names, pa.string())
    columns["status"] = pa.array(["ok"] * count)
    vectors = np.array([[len(name), 2, 3] for name in names], np.float32)
    columns["features"] = vectors_array([True] * count, vectors)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=FEATURE_SCHEMA)


def add(writer: TableWriter, *names: str) -> None:
    part = PartWriter(writer.staging / part_name(), schema_with_provenance(MADE_BY))
    part.write(rows(*names))
    part.close()
    writer.commit(part.path)


def paths(folder: Path) -> list[str]:
    return tables.read(folder)["path"].to_pylist()


def paths_in(folder: Path) -> list[str]:
    """The paths of a folder, which may have no part files."""
    return paths(folder) if FeatureTable(folder).exists() else []


def open_table(folder: Path) -> object:
    return writing(FeatureTable(folder), MADE_BY, overwrite=False)


def test_deleted_rows_are_gone_and_all_others_are_unchanged(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a", "bb", "ccc")
        add(writer, "dddd", "eeeee")
        add(writer, "f")
        before = tables.read(tmp_path)
        index = writer.table.index()
        writer.delete_rows(index.rows_of(["bb", "f"]))
    after = tables.read(tmp_path)
    kept = before.filter(pa.array([path not in ("bb", "f") for path in before["path"].to_pylist()]))
    assert after.equals(kept)
    assert len(list(FeatureTable(tmp_path).parts())) == 2
    assert FeatureTable(tmp_path).provenance() == MADE_BY


@settings(max_examples=30)
@given(
    parts=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), min_size=1, max_size=5),
    to_delete=st.sets(st.integers(0, 30)),
)
def test_only_the_rows_to_delete_are_deleted(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], to_delete: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("t")
    with open_table(folder) as writer:
        for part in parts:
            add(writer, *(str(n) for n in part))
        index = writer.table.index()
        writer.delete_rows(index.rows_of([str(n) for n in sorted(to_delete)]))
    left = [str(n) for part in parts for n in part if n not in to_delete]
    assert sorted(paths(folder)) == sorted(left)


def test_paths_are_found_part_by_part(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a", "b")
        add(writer, "c")
        add(writer, "d", "e")
        index = writer.table.index()
        index.states(["b", "c"], [None] * 2, [None] * 2)
        parts = index.parts_with_unlisted()
        assert list(writer.table.paths_in(parts)) == [["a", "b"], ["d", "e"]]
        assert list(index.unlisted(["a", "b", "c", "d", "e", "new"])) == ["a", "d", "e"]


def test_a_few_small_part_files_are_not_merged() -> None:
    assert groups_to_merge({f"{n}": 1000 for n in range(8)}) == []


def test_many_small_part_files_are_merged_and_large_ones_stay() -> None:
    mega = 2**20
    sizes = {f"{n:02d}": 20 * mega for n in range(20)} | {"large": 64 * mega}
    groups = groups_to_merge(sizes)
    assert [len(group) for group in groups] == [6, 6, 6, 2]
    assert {name for group in groups for name in group} == sizes.keys() - {"large"}


def merged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> TableWriter:
    """Write a table of four part files that is about to be merged."""
    monkeypatch.setattr(part_file, "_SMALL_PARTS", 2)
    with open_table(folder) as writer:
        for name in ("a", "bb", "ccc", "dddd"):
            add(writer, name)
        return writer


def test_merging_keeps_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(tmp_path, monkeypatch)
    before = tables.read(tmp_path)
    with open_table(tmp_path) as writer:
        writer.compact()
    assert tables.read(tmp_path).equals(before)
    (part,) = tmp_path.iterdir()
    assert FeatureTable(tmp_path).provenance() == MADE_BY
    assert part.suffix == ".parquet"


def killed_after(
    monkeypatch: pytest.MonkeyPatch, call: str, after: int, work: Callable[[], object]
) -> bool:
    """Run an action until the given call of a method of `Path`; return whether it was reached."""
    real, calls = getattr(Path, call), []

    def until_killed(self: Path, *arguments: object, **more: object) -> object:
        if len(calls) >= after:
            raise Killed
        calls.append(self)
        return real(self, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, until_killed)
        try:
            work()
        except Killed:
            return True
    return False


def leave_staging_of_a_killed_run(folder: Path) -> Path:
    staging = folder / "_staging-of-the-killed"
    staging.mkdir()
    return staging


# Every call made by a merge of four part files.
MERGE_CALLS = [
    ("open", 0),
    *(("replace", n) for n in range(2)),
    *(("unlink", n) for n in range(5)),
]


@pytest.mark.parametrize(("call", "after"), MERGE_CALLS)
def test_an_interrupted_merge_is_completed_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    merged(tmp_path, monkeypatch)
    before = tables.read(tmp_path)
    writer = TableWriter(
        FeatureTable(tmp_path), FolderLock(tmp_path), leave_staging_of_a_killed_run(tmp_path).name
    )
    assert killed_after(monkeypatch, call, after, writer.compact)
    seen = paths(tmp_path)
    assert len(seen) == len(set(seen))  # no row is duplicated at any moment
    with open_table(tmp_path):
        pass
    assert tables.read(tmp_path).equals(before)
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}


@pytest.mark.parametrize("after", range(3))
def test_an_interrupted_deletion_leaves_rows_to_redo_and_duplicates_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a", "b")
        add(writer, "c", "d")
        rows = writer.table.index().rows_of(["a", "c"])
        real, calls = Path.replace, []

        def until_killed(self: Path, target: Path) -> Path:
            if len(calls) >= after:
                raise Killed
            calls.append(self)
            return real(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", until_killed)
            if after < 2:
                with pytest.raises(Killed):
                    writer.delete_rows(rows)
            else:
                writer.delete_rows(rows)
    result = paths(tmp_path)
    assert len(result) == len(set(result))
    assert {"b", "d"} <= set(result)


# Every call made by setting three part files aside.
SET_ASIDE_CALLS = [("mkdir", 0), ("open", 0), *(("replace", n) for n in range(4))]


def table_of_three_parts(folder: Path) -> pa.Table:
    """Write a table of three parts; return its rows."""
    with open_table(folder) as writer:
        for names in ("ab", "c", "d"):
            add(writer, *names)
    return tables.read(folder)


@pytest.mark.parametrize(("call", "after"), SET_ASIDE_CALLS)
def test_rows_that_a_killed_overwrite_set_aside_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    before = table_of_three_parts(tmp_path)
    staging = leave_staging_of_a_killed_run(tmp_path)
    assert killed_after(
        monkeypatch, call, after, lambda: PutAway.do(LocalStore(tmp_path), staging.name)
    )
    with open_table(tmp_path):
        pass
    assert tables.read(tmp_path).equals(before)
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}


@pytest.mark.parametrize(("call", "after"), [*(("replace", n) for n in range(3)), ("unlink", 0)])
def test_rows_come_back_even_if_restoring_them_is_interrupted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    before = table_of_three_parts(tmp_path)
    PutAway.do(LocalStore(tmp_path), leave_staging_of_a_killed_run(tmp_path).name)
    assert paths_in(tmp_path) == []
    assert killed_after(monkeypatch, call, after, lambda: recover(LocalStore(tmp_path)))
    with open_table(tmp_path):
        pass
    assert tables.read(tmp_path).equals(before)


@pytest.mark.parametrize("file", ["swap.json", "put-away.json"])
@pytest.mark.parametrize(
    "written",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"names": ["ROOT/precious.parquet"]}',
        '{"names": ["../precious.parquet"]}',
        '{"names": ["notes.txt"]}',
        '{"names": "part-0.parquet"}',
        '{"names": [{}]}',
        '{"old": ["ROOT/precious.parquet"], "new": []}',
        '{"old": ["../precious.parquet"], "new": []}',
        '{"old": [], "new": ["../precious.parquet"]}',
        '{"old": [".."], "new": []}',
        '{"old": [], "new": [], "more": []}',
    ],
)
def test_a_journal_that_names_files_outside_the_table_is_refused(
    tmp_path: Path, file: str, written: str
) -> None:
    outside_file = tmp_path / "precious.parquet"
    outside_file.touch()
    folder = tmp_path / "table"
    folder.mkdir()
    staging = leave_staging_of_a_killed_run(folder)
    (folder / "notes.txt").touch()
    (staging / file).write_text(written.replace("ROOT", str(tmp_path)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TableError, match=f"{file} does not say which of the table's files"):
        recover(LocalStore(folder))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_a_foreign_staging_folder_moves_nothing_of_another_folder(
    tmp_path: Path,
) -> None:
    outside_file = tmp_path / "datasets" / "data.parquet"
    outside_file.parent.mkdir()
    outside_file.touch()
    folder = tmp_path / "table"
    folder.mkdir()
    staging = leave_staging_of_a_killed_run(folder)
    (staging / "put-away.json").write_text('{"names": ["data.parquet"]}')
    (staging / "replaced").symlink_to(outside_file.parent)
    with pytest.raises(TableError, match="replaced is a link, which no run creates"):
        recover(LocalStore(folder))
    assert outside_file.exists()


def test_a_link_in_place_of_a_staging_folder_is_not_part_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "_staging-x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TableError, match="not a feature table .it holds '_staging-x'"):
        FeatureTable(folder).check_folder()


def test_hadoop_checksum_files_are_deleted_with_their_files(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a", "b")
        add(writer, "c")
        for part in FeatureTable(tmp_path).parts():
            part.with_name(f".{part.name}.crc").touch()
        writer.delete_rows(writer.table.index().rows_of(["a", "c"]))
    assert paths(tmp_path) == ["b"]
    assert not list(tmp_path.glob(".*.crc"))


def test_deleting_rows_from_a_damaged_part_file_names_the_file(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a", "b")
        (part,) = FeatureTable(tmp_path).parts()
        rows = writer.table.index().rows_of(["a"])
        content = bytearray(part.read_bytes())
        content[4:100] = b"\xff" * 96
        part.write_bytes(content)
        with pytest.raises(TableError, match=f"{part.name} is not a readable Parquet file"):
            writer.delete_rows(rows)
        assert part.read_bytes() == content


def test_set_aside_rows_are_deleted_once_new_rows_exist(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a")
    staging = leave_staging_of_a_killed_run(tmp_path)
    PutAway.do(LocalStore(tmp_path), staging.name)
    add(TableWriter(FeatureTable(tmp_path), FolderLock(tmp_path), staging.name), "new")
    with open_table(tmp_path):
        pass
    assert paths(tmp_path) == ["new"]
    assert not staging.exists()


def test_an_overwrite_that_writes_nothing_leaves_the_table_unchanged(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a")
        add(writer, "b")
    with writing(FeatureTable(tmp_path), MADE_BY, overwrite=True):
        assert paths_in(tmp_path) == []
    assert sorted(paths(tmp_path)) == ["a", "b"]


def test_the_lock_is_on_the_current_folder_and_not_on_a_removed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may remove the folder that it created between our open and our lock."""
    folder = tmp_path / "t"
    real = fcntl.flock
    removed = []

    def flock(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(folder.rmdir())
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_table(folder) as writer:
        add(writer, "a")
        with pytest.raises(TableError, match="another run is writing"), open_table(folder):
            pass
    assert paths(folder) == ["a"]


def test_a_damaged_part_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        add(writer, "a")
    (part,) = FeatureTable(tmp_path).parts()
    os.truncate(part, 20)
    with (
        pytest.raises(Exception, match="delete it, and the next run computes its images again"),
        open_table(tmp_path),
    ):
        pass
