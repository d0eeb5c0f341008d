"""The plan of a run, tested without an engine: planning reads and changes nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drawn
import pomona
from pomona.encoder.encoder import Encoder
from pomona.io.location import path_of_row
from pomona.job.apply import files_to_compute
from pomona.job.dry_run import EarlyPlan
from pomona.job.gone_rows import Missing
from pomona.job.job import Job, JobPaths
from pomona.job.plan import Compute, Delete, Plan, Relabel, TakeOver
from pomona.job.tables import NO_ROWS
from pomona.schema import FEATURE_SCHEMA
from pomona.source.image_file import ImageFile
from pomona.source.labels import parse_label_rule
from pomona.source.listing import Listing, Source
from pomona.table.feature_table import FeatureTable
from pomona.table.row_index import INDEX_COLUMNS, IndexBuilder, RowIndex, keys_of
from pomona.worker.prepare import EXACT

PARTS = ["0.parquet", "1.parquet", "2.parquet"]


class Rows:
    """A table in memory: path -> (size, modified, status)."""

    def __init__(self, rows: dict[str, tuple[int, int, str]]) -> None:
        self.rows = rows

    def index(self) -> RowIndex:
        builder = IndexBuilder()
        for part in PARTS:
            (paths,) = self.paths_in([part])
            result = [
                (size, modified * 1000, status)  # in microseconds
                for size, modified, status in map(self.rows.__getitem__, paths)
            ]
            columns = (
                [paths, *zip(*result, strict=True), [None] * len(paths)] if paths else [[]] * 5
            )
            types = [FEATURE_SCHEMA.field(name).type for name in INDEX_COLUMNS]
            arrays = [pa.array(*column) for column in zip(columns, types, strict=True)]
            builder.add_rows(part, pa.table(arrays, INDEX_COLUMNS))
        return builder.build()

    def paths_in(self, parts: Any) -> Iterator[list[str]]:
        for part in parts:
            yield list(self.rows)[PARTS.index(part) :: len(PARTS)]

    def contents_in(self, parts: Any) -> Iterator[Any]:
        for part, paths in zip(parts, self.paths_in(parts), strict=True):
            yield part, paths, [None] * len(paths)

    def rows_with(self, _: Any) -> Iterator[Any]:
        return iter(())


def listing(files: list[ImageFile]) -> Listing:
    listed = {file.uri for file in files}
    return Listing("/photos", lambda *_: iter(files), lambda path: path not in listed)


def plan(files: list[ImageFile], rows: Any, **options: Any) -> Plan:
    chosen = {"relabel": False, "retry_failed": False, "prune": False, "missing": Missing()}
    return Plan(
        listing(files),
        rows,
        parse_label_rule("none"),
        provenance={},
        max_pixels=10**9,
        **(chosen | options),
    )


states = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["ok", "corrupt"]))
paths = st.sampled_from([f"file:/p/{number}.jpg" for number in range(12)])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(paths, states),
    st.dictionaries(paths, st.tuples(st.integers(1, 3), st.integers(1, 3))),
    st.booleans(),
    st.booleans(),
)
def test_the_steps_leave_each_listed_file_with_one_current_row(
    rows: dict[str, tuple[int, int, str]],
    source: dict[str, tuple[int, int]],
    retry_failed: bool,
    prune: bool,
) -> None:
    files = [
        ImageFile(path_of_row(path), size, modified) for path, (size, modified) in source.items()
    ]
    planned = plan(files, Rows(rows), retry_failed=retry_failed, prune=prune)
    left = dict(rows)

    def delete(keys: set[bytes]) -> None:
        for path in [path for path in left if keys_of([path])[0] in keys]:
            del left[path]

    for step in planned.steps():
        assert not isinstance(step, TakeOver | Relabel)
        if step.rows:
            delete(set().union(*step.rows.values()))
        for file in step.files if isinstance(step, Compute) else ():
            assert file.uri not in left
            left[file.uri] = (file.size or 0, file.modified or 0, "computed")
    expected = {
        path: (*state, "computed")
        if path not in rows or rows[path][:2] != state or (retry_failed and rows[path][2] != "ok")
        else rows[path]
        for path, state in source.items()
    }
    gone = {path: row for path, row in rows.items() if path not in source}
    assert left == expected | ({} if prune else gone)
    changes = planned.changes
    assert changes.new + changes.changed + changes.retried + changes.unchanged == len(source)
    assert changes.gone == len(gone)


def test_rows_of_deleted_files_are_deleted_last() -> None:
    rows = Rows({"file:/p/1.jpg": (1, 1, "ok"), "file:/p/2.jpg": (1, 1, "ok")})
    files = [ImageFile("/p/2.jpg", 9, 1), ImageFile("/p/3.jpg", 8, 1)]
    steps = list(plan(files, rows, prune=True).steps())
    assert [type(step) for step in steps] == [Compute, Compute, Delete]
    assert steps[-1].follows_work


def test_asking_whether_a_plan_has_steps_loses_none() -> None:
    planned = plan([ImageFile(f"/p/{n}.jpg", 1, 1) for n in range(5)], NO_ROWS)
    assert planned.has_steps()
    assert planned.has_steps()
    assert [file.path for step in planned.steps() for file in step.files] == [
        f"/p/{n}.jpg" for n in range(5)
    ]
    assert not planned.has_steps()


# On a disk ---------------------------------------------------------------------------------------


def job(pictures: Path, table: Path, encoder: Encoder, **options: Any) -> Job:
    paths = JobPaths(str(pictures), str(table))
    return Job(paths, encoder, parse_label_rule("parent"), EXACT, **options)


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def add(pictures: Path, name: str, seed: int) -> Path:
    path = pictures / name
    path.write_bytes(drawn.encode(drawn.picture(20, 20, seed), "PNG"))
    return path


def test_a_plan_changes_nothing_on_disk(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "t"
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    add(pictures, "new.png", 71)
    moved = next(pictures.rglob("image 3.jpg"))
    moved.rename(pictures / "moved.jpg")
    next(pictures.rglob("image 1.png")).write_bytes(b"changed")
    before = content(tmp_path)
    early = EarlyPlan.of(job(pictures, table, encoder, prune=True, retry_failed=True))
    kinds = Counter(type(step) for step in early.plan.steps())
    assert kinds == {Compute: 2, TakeOver: 1, Delete: 1}
    assert content(tmp_path) == before
    assert early.holds()


def test_an_early_plan_is_valid_until_another_run_changes_the_table(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert not EarlyPlan.of(job(pictures, table, encoder)).has_work()
    add(pictures, "new.png", 71)
    early = EarlyPlan.of(job(pictures, table, encoder))
    assert early.has_work()
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert not early.holds()
    assert EarlyPlan.of(job(pictures, table, encoder, overwrite=True)).holds()


def test_a_run_lists_its_source_once_and_reads_each_footer_once(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t"
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    parts = [part.absolute() for part in FeatureTable.at(table).parts()]
    add(pictures, "new.png", 71)
    read: Counter[Path] = Counter()
    seen: list[ImageFile] = []
    read_metadata, files = pq.read_metadata, Source.files

    def counted(file: Path, **more: Any) -> pq.FileMetaData:
        read[file] += 1
        return read_metadata(file, **more)

    def listing_counted(self: Source, *args: Any) -> Iterator[ImageFile]:
        for file in files(self, *args):
            seen.append(file)
            yield file

    monkeypatch.setattr(pq, "read_metadata", counted)
    monkeypatch.setattr(Source, "files", listing_counted)
    summary = pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert len(seen) == summary.files
    assert {part: read[part] for part in parts} == dict.fromkeys(parts, 1)


def test_steps_run_in_order() -> None:
    steps: list[str] = []

    class Table:
        def delete_rows(self, _: object) -> None:
            steps.append("delete")

    rows = Rows({"file:/p/1.jpg": (1, 1, "ok"), "file:/p/2.jpg": (1, 1, "ok")})
    files = [ImageFile("/p/2.jpg", 9, 1), ImageFile("/p/3.jpg", 8, 1)]

    def check() -> None:
        steps.append("check")

    table: Any = Table()
    planned = plan(files, rows, prune=True)
    for file in files_to_compute(planned, table, check):
        steps.append(file.path)  # noqa: PERF401 - the order relative to the other steps counts
    assert steps == ["/p/3.jpg", "check", "delete", "/p/2.jpg", "check", "delete"]
