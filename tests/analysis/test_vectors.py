"""The vectors of a table: which rows, in which blocks, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables
from pomona.analysis.neighbours.exact import compare_pairs
from pomona.analysis.similarity import centred_directions, plain_directions
from pomona.analysis.vectors import Vectors, open_vectors
from pomona.errors import RunError, TableError
from pomona.table.feature_table import FeatureTable

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(23, 4)).astype(np.float32)
LABELS = [None if i == 5 else "ab"[i % 2] for i in range(23)]
FAILED = [("file:/pictures/a/empty.jpg", "empty"), ("file:/pictures/b/half.jpg", "truncated")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables.write(tmp_path_factory.mktemp("vectors"), MATRIX, LABELS, failed=FAILED, parts=3)


def test_rows_without_a_vector_are_skipped(folder: Path) -> None:
    vectors = open_vectors(FeatureTable(folder))
    assert (vectors.rows, vectors.all_rows, vectors.dimension) == (23, 25, 4)
    whole = vectors.matrix()
    np.testing.assert_array_equal(whole.vectors, MATRIX)
    assert whole.labels.to_pylist() == LABELS
    assert not any("empty" in path for path in whole.paths.to_pylist())


@given(size=st.integers(1, 30))
def test_blocks_of_any_size_contain_the_same_rows_in_the_same_order(
    folder: Path, size: int
) -> None:
    blocks = list(open_vectors(FeatureTable(folder)).blocks(size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert all(len(block.paths) == len(block.labels) == len(block) for block in blocks)
    np.testing.assert_array_equal(np.concatenate([b.vectors for b in blocks]), MATRIX)
    assert [label for b in blocks for label in b.labels.to_pylist()] == LABELS


def test_a_batch_without_failures_is_not_copied(tmp_path: Path) -> None:
    tables.write(tmp_path, MATRIX, LABELS)
    (block,) = open_vectors(FeatureTable(tmp_path)).blocks()
    assert not block.vectors.flags.owndata
    assert not block.vectors.flags.writeable  # Arrow's memory, which is read-only


def test_rows_of_two_encoders_are_refused(tmp_path: Path) -> None:
    tables.write(tmp_path, MATRIX, LABELS, fingerprint="a" * 64)
    tables.write(tmp_path, MATRIX, LABELS, fingerprint="b" * 64)
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        open_vectors(FeatureTable(tmp_path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    matrix = MATRIX.copy()
    matrix[7, 2] = value
    tables.write(tmp_path, matrix, LABELS)
    with pytest.raises(TableError, match="b/7.jpg is ok and has no vector of 4 finite numbers"):
        list(open_vectors(FeatureTable(tmp_path)).blocks())


def test_a_vector_of_a_different_length_is_named(tmp_path: Path) -> None:
    tables.write(tmp_path, MATRIX, LABELS)
    (part,) = tmp_path.glob("*.parquet")
    table = pq.read_table(part).to_pylist()
    table[3]["features"] = [1.0]
    pq.write_table(pq.read_table(part).from_pylist(table, pq.read_schema(part)), part)
    with pytest.raises(TableError, match="b/3.jpg is ok and has no vector"):
        open_vectors(FeatureTable(tmp_path)).matrix()


def test_a_vector_that_contains_a_null_is_named(tmp_path: Path) -> None:
    tables.write(tmp_path, MATRIX, LABELS)
    (part,) = tmp_path.glob("*.parquet")
    table = pq.read_table(part).to_pylist()
    table[4]["features"] = [1.0, None, 2.0, 3.0]
    pq.write_table(pq.read_table(part).from_pylist(table, pq.read_schema(part)), part)
    with pytest.raises(TableError, match="a/4.jpg is ok and has no vector"):
        open_vectors(FeatureTable(tmp_path)).matrix()


READERS: list[Callable[[Vectors], object]] = [
    Vectors.matrix,
    lambda vectors: list(vectors.blocks(5)),
    lambda vectors: list(vectors.words()),
    lambda vectors: compare_pairs(plain_directions(vectors), 0.9),
    lambda vectors: compare_pairs(plain_directions(vectors), 0.9, held_rows=4),
    lambda vectors: plain_directions(vectors).matrix(np.array([0, 11, 22])),
    centred_directions,
    lambda vectors: vectors.columns_at(np.array([0, 11, 22]), ["path"]),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_table_that_grows_or_shrinks_during_reading_is_one_clear_error(
    tmp_path: Path, by: int, read: Callable[[Vectors], object]
) -> None:
    folder = tables.write(tmp_path / "t", MATRIX, LABELS, parts=23)
    vectors = open_vectors(FeatureTable(folder))
    if by > 0:
        tables.write(folder, MATRIX[:1], ["c"])
    else:
        next(folder.glob("*.parquet")).unlink()
    with pytest.raises(RunError, match="changed while it was read"):
        read(vectors)


def test_a_table_without_vectors_gives_an_empty_matrix(tmp_path: Path) -> None:
    tables.write(tmp_path, np.empty((0, 4)), [], failed=FAILED[:1])
    vectors = open_vectors(FeatureTable(tmp_path))
    assert vectors.matrix().vectors.shape == (0, 4)
    assert list(vectors.blocks()) == []
