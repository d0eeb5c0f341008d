from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.schema import FEATURE_SCHEMA
from pomona.table.row_index import FileState, IndexBuilder, RowIndex, path_keys

NAMES = st.text(max_size=8).filter(lambda name: name.isprintable())
SIZES = st.none() | st.integers(0, 3)


def index(*parts: list[dict[str, object]]) -> RowIndex:
    builder = IndexBuilder()
    for number, rows in enumerate(parts):
        full = [{"size": 1, "modified": 5000, "status": "ok", **row} for row in rows]
        builder.add_rows(f"part-{number}", pa.Table.from_pylist(full, FEATURE_SCHEMA))
    return builder.build()


def state_of(
    known: RowIndex, path: str, size: int | None = 1, modified: int | None = 5
) -> FileState:
    (states,) = known.states([path], [size], [modified])
    return states


def test_a_file_without_a_row_is_new() -> None:
    assert state_of(index(), "a") is FileState.NEW
    assert state_of(index([{"path": "b"}]), "a") is FileState.NEW


def test_an_unchanged_file_is_done() -> None:
    assert state_of(index([{"path": "a"}]), "a") is FileState.DONE


@pytest.mark.parametrize("now", [(2, 5), (1, 6), (None, 5), (1, None)])
def test_a_different_size_or_time_is_a_change(now: tuple[int | None, int | None]) -> None:
    assert state_of(index([{"path": "a"}]), "a", *now) is FileState.CHANGED


def test_a_row_without_size_and_time_belongs_to_a_broken_link() -> None:
    known = index([{"path": "a", "size": None, "modified": None, "status": "unreadable"}])
    assert state_of(known, "a", None, None) is FileState.FAILED
    assert state_of(known, "a", 0, 0) is FileState.CHANGED


def test_a_row_without_a_vector_is_failed_or_if_the_file_changed_modified() -> None:
    known = index([{"path": "a", "status": "corrupt"}])
    assert state_of(known, "a") is FileState.FAILED
    assert state_of(known, "a", 2) is FileState.CHANGED


def test_a_path_with_two_rows_is_redone_and_both_rows_are_found() -> None:
    known = index([{"path": "a"}, {"path": "b"}], [{"path": "a"}])
    assert state_of(known, "a") is FileState.CHANGED
    (key,) = path_keys(["a"])
    assert known.rows_of(["a"]) == {"part-0": {key}, "part-1": {key}}


@given(
    rows=st.dictionaries(NAMES, st.tuples(SIZES, SIZES, st.booleans())),
    files=st.dictionaries(NAMES, st.tuples(SIZES, SIZES)),
)
def test_states_equal_those_of_a_dictionary(
    rows: dict[str, tuple[int | None, int | None, bool]],
    files: dict[str, tuple[int | None, int | None]],
) -> None:
    known = index(
        [
            {
                "path": path,
                "size": size,
                "modified": None if time is None else time * 1000,
                "status": "ok" if ok else "corrupt",
            }
            for path, (size, time, ok) in rows.items()
        ]
    )
    states = known.states(
        list(files), [size for size, _ in files.values()], [time for _, time in files.values()]
    )
    for path, state in zip(files, states, strict=True):
        if path not in rows:
            assert state is FileState.NEW
        elif files[path] != rows[path][:2]:
            assert state is FileState.CHANGED
        else:
            assert state is (FileState.DONE if rows[path][2] else FileState.FAILED)
    left = rows.keys() - files.keys()
    assert set(known.unlisted([*rows, *files])) == left
    assert known.parts_with_unlisted() == (["part-0"] if left else [])


def test_keys_that_end_in_zeros_are_not_shortened() -> None:
    path = next(f"{n}" for n in range(10_000) if hashlib.sha256(f"{n}".encode()).digest()[15] == 0)
    (keys,) = index([{"path": path}]).rows_of([path]).values()
    assert keys == {hashlib.sha256(path.encode()).digest()[:16]}


def test_an_index_of_many_rows_uses_little_memory() -> None:
    known = index([{"path": str(n)} for n in range(10_000)])
    arrays = (known._keys, known._sizes, known._modified, known._ok, known._seen)
    assert sum(a.nbytes for a in arrays) + known._part_numbers.nbytes <= 40 * len(known)
