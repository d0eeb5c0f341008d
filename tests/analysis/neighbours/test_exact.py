"""Exact neighbours equal those of scikit-learn, and ties those of a plain search."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables
from pomona.analysis.neighbours import exact
from pomona.analysis.neighbours.exact import (
    Neighbours,
    compare_pairs,
    find_neighbours,
    nearest_rows,
)
from pomona.analysis.similarity import centred_directions, plain_directions
from pomona.analysis.vectors import Block, evenly_spread, open_vectors, unit
from pomona.table.feature_table import FeatureTable

KINDS = st.sampled_from(["distinct", "tied"])


def drawn(kind: str, seed: int, rows: int) -> np.ndarray:
    """(rows, 4) float32; tied rows repeat, and many have the same cosine with another row."""
    random = np.random.default_rng(seed)
    if kind == "tied":
        return random.integers(-1, 2, size=(rows, 4)).astype(np.float32) + np.float32([0, 0, 0, 2])
    return random.normal(size=(rows, 4)).astype(np.float32)


def blocks_of(matrix: np.ndarray, size: int) -> list[Block]:
    names = pa.array([str(row) for row in range(len(matrix))])
    whole = Block(names, pa.nulls(len(matrix), pa.string()), matrix)
    return [whole.slice(at, min(at + size, len(matrix))) for at in range(0, len(matrix), size)]


def judged(matrix: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and rows of the k nearest neighbours, by scikit-learn in float64."""
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn judges")
    search = neighbors.NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
    distances, rows = search.fit(matrix.astype(np.float64)).kneighbors(queries.astype(np.float64))
    return 1 - distances, rows


def agree(similarity: np.ndarray, rows: np.ndarray, judge: np.ndarray, all_of: np.ndarray) -> None:
    """Each place has the expected cosine, and so has the row found there: rows may be tied."""
    np.testing.assert_allclose(similarity, judge, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(all_of, rows, 1), judge, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@given(KINDS, st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 12))
def test_neighbours_of_rows_equal_scikit_learns(kind: str, seed: int, rows: int, k: int) -> None:
    matrix = drawn(kind, seed, rows)
    k = min(k, rows - 1)
    result = find_neighbours(unit(matrix), k)
    cosines = unit(matrix).astype(np.float64) @ unit(matrix).T
    expected = np.stack(
        [judged(np.delete(matrix, row, 0), matrix[row : row + 1], k)[0][0] for row in range(rows)]
    )
    agree(result.similarity, result.rows, expected, cosines)
    assert not (result.rows == np.arange(rows)[:, None]).any()
    if kind == "distinct":
        _, judges = judged(matrix, matrix, k + 1)
        np.testing.assert_array_equal(result.rows, judges[:, 1:])


@given(KINDS, st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 12), st.integers(1, 20))
def test_nearest_rows_of_queries_equal_scikit_learns_for_any_block_size(
    kind: str, seed: int, rows: int, k: int, size: int
) -> None:
    matrix, queries = drawn(kind, seed, rows), drawn(kind, seed + 1, 5)
    k = min(k, rows)
    result = nearest_rows(blocks_of(unit(matrix), size), unit(queries), k)
    expected, judges = judged(matrix, queries, k)
    cosines = unit(queries).astype(np.float64) @ unit(matrix).T
    agree(result.similarity, result.paths.astype(int), expected, cosines)
    if kind == "distinct":
        np.testing.assert_array_equal(result.paths.astype(int), judges)


@given(KINDS, st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 70))
def test_pairs_equal_scikit_learns_for_any_memory_limit(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, rows: int, held: int
) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn judges")
    sparse = pytest.importorskip("scipy.sparse.csgraph")
    matrix = drawn(kind, seed, rows)
    folder = tables.write(tmp_path_factory.mktemp("t"), matrix, ["x"] * rows, parts=2)
    result = compare_pairs(
        plain_directions(open_vectors(FeatureTable(folder))), 0.9, held_rows=held
    )
    graph = neighbors.radius_neighbors_graph(
        matrix.astype(np.float64), 0.1, metric="cosine", mode="connectivity", include_self=False
    )
    _, component = sparse.connected_components(graph, directed=False)
    together = result.component[:, None] == result.component
    np.testing.assert_array_equal(together, component[:, None] == component)
    expected, _ = judged(matrix, matrix, 2)
    np.testing.assert_allclose(result.nearest, expected[:, 1], atol=1e-6)


# Which tied rows a search returns, and their order, must not depend on its implementation.


def plain(scores: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns: k of each block by argpartition, merged with the earlier ones, sorted."""
    best = np.full((len(scores[0]), k), -np.inf, np.float32)
    rows = np.full((len(scores[0]), k), -1)
    start = 0
    for block in scores:
        chosen = np.argpartition(block, max(block.shape[1] - k, 0), axis=1)[:, -k:]
        best = np.hstack([best, np.take_along_axis(block, chosen, 1)])
        rows = np.hstack([rows, chosen + start])
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
        start += block.shape[1]
    return best, rows


@given(KINDS, st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 12), st.integers(1, 20))
def test_a_block_search_returns_the_rows_of_a_plain_search(
    kind: str, seed: int, rows: int, k: int, size: int
) -> None:
    matrix, queries = unit(drawn(kind, seed, rows)), unit(drawn(kind, seed + 1, 5))
    blocks = blocks_of(matrix, size)
    itself: list[str | None] = ["0", None, None, str(rows - 1), None]
    scores = [queries @ block.vectors.T for block in blocks]
    scores[0][0, 0] = scores[-1][3, -1] = -np.inf
    result = nearest_rows(blocks, queries, k, itself)
    best, numbers = plain(scores, k)
    np.testing.assert_array_equal(result.similarity, best)
    for mine, theirs in zip(result.paths, numbers, strict=True):
        assert mine.tolist() == [None if row < 0 else str(row) for row in theirs]


@given(KINDS, st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 12))
def test_neighbours_equal_the_rows_of_a_plain_search(
    kind: str, seed: int, rows: int, k: int
) -> None:
    matrix, k = unit(drawn(kind, seed, rows)), min(k, rows - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_QUERIES", 7)
        result = find_neighbours(matrix, k)
    for start in range(0, rows, 7):
        scores = matrix[start : start + 7] @ matrix.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        best, numbers = plain([scores], k)
        np.testing.assert_array_equal(result.similarity[start : start + 7], best)
        np.testing.assert_array_equal(result.rows[start : start + 7], numbers)


def test_a_single_row_has_no_neighbours() -> None:
    result = find_neighbours(np.ones((1, 3), np.float32), 5)
    assert isinstance(result, Neighbours)
    assert result.rows.shape == result.similarity.shape == (1, 0)


@given(st.integers(1, 40), st.integers(1, 50))
def test_rows_by_number_equal_those_of_the_whole_matrix(
    tmp_path_factory: pytest.TempPathFactory, rows: int, most: int
) -> None:
    matrix = drawn("distinct", rows, rows)
    folder = tables.write(tmp_path_factory.mktemp("t"), matrix, ["x"] * rows, parts=2)
    numbers = evenly_spread(rows, most)
    assert len(numbers) == min(rows, most)
    assert numbers[-1] == rows - 1 or most == 1
    for directions_of in (plain_directions, centred_directions):
        directions = directions_of(open_vectors(FeatureTable(folder)))
        expected = unit(matrix[numbers] - directions.centre)
        np.testing.assert_array_equal(directions.matrix(numbers), expected)
