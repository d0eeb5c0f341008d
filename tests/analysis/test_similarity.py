"""Similarity is the cosine less the table's centre, and means the same for every network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables
from pomona.analysis.similarity import centred_directions, plain_directions
from pomona.analysis.vectors import open_vectors
from pomona.table.feature_table import FeatureTable


def similarities(folder: Path) -> np.ndarray:
    directions = centred_directions(open_vectors(FeatureTable(folder)))
    matrix = directions.matrix(np.arange(directions.rows))
    return matrix @ matrix.T


def test_it_equals_scikit_learns_cosine_of_centred_vectors(tmp_path: Path) -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise", reason="scikit-learn judges")
    matrix = np.random.default_rng(1).normal(2, size=(50, 7)).astype(np.float32)
    folder = tables.write(tmp_path / "t", matrix, ["x"] * 50, parts=3)
    counted = np.concatenate([matrix, np.zeros((3, 7))])
    expected = pairwise.cosine_similarity(matrix - counted.mean(axis=0))
    np.testing.assert_allclose(similarities(folder), expected, atol=1e-5)


@pytest.mark.parametrize("shift", [0, 5, 20])
def test_two_random_images_have_a_similarity_near_0_however_narrow_the_cone_of_the_network(
    tmp_path: Path, shift: float
) -> None:
    random = np.random.default_rng(2)
    matrix = (random.normal(size=(2000, 64)) + shift).astype(np.float32)
    found = similarities(tables.write(tmp_path / "t", matrix, ["x"] * 2000))
    assert abs(np.median(found)) < 0.01
    assert np.quantile(found, 0.9) < 0.2


@given(st.integers(2, 40), st.floats(1e-3, 1e3))
def test_equal_images_have_a_similarity_of_1_even_if_a_table_has_no_others(
    tmp_path_factory: pytest.TempPathFactory, rows: int, scale: float
) -> None:
    matrix = np.tile(np.random.default_rng(rows).random(8) * scale, (rows, 1))
    folder = tables.write(tmp_path_factory.mktemp("t"), matrix, ["x"] * rows)
    np.testing.assert_allclose(similarities(folder), 1, atol=1e-5)


def test_two_images_are_not_opposites(tmp_path: Path) -> None:
    matrix = np.array([[1, 0.9], [0.9, 1]], np.float32)
    assert similarities(tables.write(tmp_path / "t", matrix, ["x"] * 2))[0, 1] > 0.9


def test_directions_from_0_are_plain_cosines(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "t", np.array([[3, 4], [8, 6]]), ["x"] * 2)
    matrix = plain_directions(open_vectors(FeatureTable(folder))).matrix(np.arange(2))
    np.testing.assert_allclose(matrix, [[0.6, 0.8], [0.8, 0.6]], atol=1e-7)
