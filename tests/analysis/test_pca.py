"""Projection: the PCA of all rows, a table of its own, and the same result from Spark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tables
from command_line import run
from pomona.analysis.inspection import inspect
from pomona.analysis.pca import fit_projection, principal_places
from pomona.analysis.projection import MapPoints, project
from pomona.analysis.vectors import open_vectors
from pomona.errors import TableError, UsageError
from pomona.schema import FEATURE_SCHEMA
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RANDOM = np.random.default_rng(11)
# Long along some directions, short along others, and far from the origin.
MATRIX = (RANDOM.normal(size=(90, 6)) * [9, 5, 3, 1, 0.5, 0.1] + 400).astype(np.float32)
LABELS = [None if i == 4 else ("$a", "_b", "<script>")[i % 3] for i in range(90)]
FAILED = [("file:/pictures/x/empty.jpg", "empty")]


@pytest.fixture
def source(tmp_path: Path) -> FeatureTable:
    return FeatureTable(tables.write(tmp_path / "t", MATRIX, LABELS, failed=FAILED, parts=3))


def test_the_components_equal_a_singular_value_decomposition(source: FeatureTable) -> None:
    result = fit_projection(open_vectors(source), 4)
    centred = MATRIX.astype(np.float64) - MATRIX.astype(np.float64).mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(result.explained, (sizes**2 / (sizes**2).sum())[:4], rtol=1e-6)
    np.testing.assert_allclose(np.abs(result.components @ directions.T), np.eye(4, 6), atol=1e-6)


def test_it_agrees_with_scikit_learn(source: FeatureTable) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.PCA(3, svd_solver="full").fit(MATRIX.astype(np.float64))
    result = fit_projection(open_vectors(source), 3)
    np.testing.assert_allclose(result.explained, theirs.explained_variance_ratio_, rtol=1e-6)
    ours, other = result.apply(MATRIX), theirs.transform(MATRIX.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(other), atol=1e-3)


@given(st.integers(2, 30), st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32))
def test_in_memory_projections_have_the_variance_that_scikit_learn_finds(
    rows: int, dimension: int, k: int, seed: int
) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    matrix = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    places = principal_places(matrix, k)
    kept = min(k, rows - 1, dimension)  # N centred rows have N - 1 components
    theirs = decomposition.PCA(kept, svd_solver="full").fit_transform(matrix.astype(np.float64))
    products = np.zeros((k, k))
    products[:kept, :kept] = theirs.T @ theirs  # on the diagonal: components are uncorrelated
    scale = products[0, 0]
    np.testing.assert_allclose(places.T.astype(np.float64) @ places, products, atol=1e-5 * scale)
    np.testing.assert_array_equal(principal_places(matrix, k), places)


@pytest.mark.parametrize("rows", [90, 5])  # more and fewer rows than numbers in a vector
def test_in_memory_projections_equal_the_projected_table(tmp_path: Path, rows: int) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:rows], LABELS[:rows])
    projected = fit_projection(open_vectors(FeatureTable(folder)), 2).apply(MATRIX[:rows])
    places = principal_places(MATRIX[:rows], 2)
    np.testing.assert_allclose(np.abs(places), np.abs(projected), atol=1e-3)


def test_identical_rows_project_to_one_point() -> None:
    for shape in ((3, 9), (9, 3), (1, 1)):
        np.testing.assert_array_equal(principal_places(np.ones(shape, np.float32), 2), 0)


def test_signs_do_not_depend_on_the_library(source: FeatureTable) -> None:
    components = fit_projection(open_vectors(source), 5).components
    assert (components[np.arange(5), np.abs(components).argmax(axis=1)] > 0).all()


def test_the_new_table_has_the_same_rows_and_its_own_fingerprint(
    source: FeatureTable, tmp_path: Path
) -> None:
    projection = project(source, FeatureTable(tmp_path / "small"), 2)
    before, after = tables.read(source.folder), tables.read(tmp_path / "small")
    assert after.drop_columns("features").equals(before.drop_columns("features"))
    lengths = {None if v is None else len(v) for v in after["features"].to_pylist()}
    assert lengths == {2, None}
    provenance = FeatureTable(tmp_path / "small").provenance()
    assert provenance["fingerprint"] == projection.fingerprint != source.provenance()["fingerprint"]
    assert provenance["projection_of"] == source.provenance()["fingerprint"]
    assert (provenance["dimension"], provenance["projection_rows"]) == ("2", "90")
    assert inspect(FeatureTable(tmp_path / "small")).check.passed


def test_keeping_all_components_keeps_cosines(source: FeatureTable, tmp_path: Path) -> None:
    project(source, FeatureTable(tmp_path / "all"), 6)
    ours = open_vectors(FeatureTable(tmp_path / "all")).matrix().vectors
    centred = MATRIX - MATRIX.mean(axis=0)
    np.testing.assert_allclose(ours @ ours.T, centred @ centred.T, atol=0.01)


def test_the_same_table_gives_the_same_fingerprint(source: FeatureTable, tmp_path: Path) -> None:
    one = project(source, FeatureTable(tmp_path / "one"), 2).fingerprint
    assert project(source, FeatureTable(tmp_path / "two"), 2).fingerprint == one
    assert project(source, FeatureTable(tmp_path / "other"), 3).fingerprint != one


def test_many_rows_are_written_to_several_part_files(
    source: FeatureTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.analysis.projection._PART_ROWS", 40)
    project(source, FeatureTable(tmp_path / "small"), 2)
    assert len(list(FeatureTable(tmp_path / "small").parts())) == 2
    assert tables.read(tmp_path / "small").num_rows == 91


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [(90, 7, "vectors have 6 numbers: give fewer"), (5, 5, "5 rows with a vector, too few")],
)
def test_too_many_components_are_refused(tmp_path: Path, rows: int, k: int, message: str) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:rows], LABELS[:rows])
    with pytest.raises(UsageError, match=message):
        project(FeatureTable(folder), FeatureTable(tmp_path / "small"), k)
    assert not (tmp_path / "small").exists()


def test_identical_vectors_are_refused(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "t", np.ones((9, 3)), ["x"] * 9)
    with pytest.raises(UsageError, match="all vectors are equal"):
        project(FeatureTable(folder), FeatureTable(tmp_path / "small"), 1)


def test_an_existing_table_is_replaced_only_on_request(
    source: FeatureTable, tmp_path: Path
) -> None:
    small = FeatureTable(tmp_path / "small")
    project(source, small, 2)
    before = sorted(small.folder.iterdir())
    with pytest.raises(TableError, match="exists: give another `target`, or `overwrite`"):
        project(source, small, 3)
    assert sorted(small.folder.iterdir()) == before
    project(source, small, 3, overwrite=True)
    assert small.provenance()["dimension"] == "3"
    assert tables.read(small.folder).num_rows == 91


def test_a_table_never_replaces_itself(source: FeatureTable) -> None:
    with pytest.raises(TableError, match="is the table to project"):
        project(source, FeatureTable(source.folder / ".." / "t"), 2, overwrite=True)


def test_a_failed_run_leaves_nothing(
    source: FeatureTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MapPoints, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        project(source, FeatureTable(tmp_path / "small"), 2)
    assert not (tmp_path / "small").exists()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 40))
def test_a_map_shows_an_evenly_spaced_sample(sizes: list[int], most: int) -> None:
    import pyarrow as pa

    points = MapPoints(sum(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pomona.analysis.projection.MAP_POINTS", most)
        start = 0
        for size in sizes:
            rows = [{"features": [float(start + i), 0.0, 1.0], "label": "x"} for i in range(size)]
            points.take(pa.RecordBatch.from_pylist(rows, FEATURE_SCHEMA))
            start += size
    every = max(1, -(-sum(sizes) // most))
    seen = [int(place) for places in points.places for place in places[:, 0]]
    assert seen == list(range(0, sum(sizes), every))
    assert len(points.labels) == len(seen) <= most


# The command -------------------------------------------------------------------------------------


def test_the_command_writes_next_to_the_table_by_default(
    capfd: pytest.CaptureFixture[str], source: FeatureTable
) -> None:
    code, out, _ = run(capfd, "project", f"{source.folder}/", "-k", 2)
    assert code == 0
    assert out.startswith(f"{source.folder}-pca2: 91 rows, 90 vectors of 2 numbers, with 9")
    assert out.splitlines()[1].split()[0] == "components"


def test_json_contains_the_share_of_each_component(
    capfd: pytest.CaptureFixture[str], source: FeatureTable, tmp_path: Path
) -> None:
    _, out, _ = run(capfd, "project", source.folder, "-k", 3, "-o", tmp_path / "s", "--json")
    result = json.loads(out)
    assert (result["rows"], result["vectors"], result["dimension"], result["of_dimension"]) == (
        91,
        90,
        3,
        6,
    )
    shares = result["explained_variance_by_component"]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(result["explained_variance"], abs=1e-5)


@pytest.mark.parametrize("k", [1, 2])
def test_the_plot_accepts_any_label(
    capfd: pytest.CaptureFixture[str], source: FeatureTable, tmp_path: Path, k: int
) -> None:
    pytest.importorskip("matplotlib", reason="a plot needs pip install '.[analysis]'")
    plot = tmp_path / "pca.svg"
    code, _, err = run(capfd, "project", source.folder, "-k", k, "--plot", plot)
    assert (code, err) == (0, f"pomona: plot: {plot}\n")
    drawing = plot.read_text()
    assert "<script" not in drawing
    assert drawing.rstrip().endswith("</svg>")


def test_an_invalid_target_is_reported_in_one_line(
    capfd: pytest.CaptureFixture[str], source: FeatureTable, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    code, out, err = run(capfd, "project", source.folder, "-k", 2, "-o", tmp_path / "file")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert (tmp_path / "file").read_text() == "mine"


# Spark -------------------------------------------------------------------------------------------


@pytest.mark.spark
def test_spark_writes_the_same_table(
    source: FeatureTable, tmp_path: Path, spark: SparkSession
) -> None:
    from pomona.spark.pca import project_on_spark

    project(source, FeatureTable(tmp_path / "here"), 3)
    projection = project_on_spark(str(source.folder), str(tmp_path / "there"), 3, spark=spark)
    here, there = tables.read(tmp_path / "here"), tables.read(tmp_path / "there")
    assert there.drop_columns("features").equals(here.drop_columns("features"))
    ours = open_vectors(FeatureTable(tmp_path / "here")).matrix()
    theirs = open_vectors(FeatureTable(tmp_path / "there")).matrix()
    order = [theirs.paths.to_pylist().index(path) for path in ours.paths.to_pylist()]
    np.testing.assert_allclose(theirs.vectors[order], ours.vectors, atol=1e-3)
    provenance = FeatureTable(tmp_path / "there").provenance()
    assert provenance["projection"] == "PCA, 3 of 6, by Spark ML"
    assert provenance["fingerprint"] == projection.fingerprint
    assert (projection.rows, len(projection.points.labels)) == (91, 90)


@pytest.mark.spark
def test_spark_replaces_a_table_only_on_request(
    source: FeatureTable, tmp_path: Path, spark: SparkSession
) -> None:
    from pomona.spark.pca import project_on_spark

    project(source, FeatureTable(tmp_path / "small"), 2)
    with pytest.raises(TableError, match="exists"):
        project_on_spark(str(source.folder), str(tmp_path / "small"), 3, spark=spark)
    project_on_spark(str(source.folder), str(tmp_path / "small"), 3, spark=spark, overwrite=True)
    assert FeatureTable(tmp_path / "small").provenance()["dimension"] == "3"
    assert tables.read(tmp_path / "small").num_rows == 91


@pytest.mark.spark
def test_spark_on_hadoop_replaces_only_a_table_and_only_on_request(
    source: FeatureTable, tmp_path: Path, spark: SparkSession, remote: str
) -> None:
    from pomona.spark.pca import project_on_spark

    given, target = str(source.folder), f"{remote}/far"
    project_on_spark(given, target, 2, spark=spark)
    with pytest.raises(TableError, match="far exists: give another `target`, or `overwrite`"):
        project_on_spark(given, target, 3, spark=spark)
    project_on_spark(given, target, 3, spark=spark, overwrite=True)
    assert FeatureTable(tmp_path / "far").provenance()["dimension"] == "3"
    assert tables.read(tmp_path / "far").num_rows == 91
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(TableError, match="not a feature table .it holds 'a.jpg'"):
        project_on_spark(given, f"{remote}/photos", 2, spark=spark, overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"mine"
    with pytest.raises(TableError, match="is the table to project"):
        project_on_spark(target, target, 2, spark=spark, overwrite=True)
    before = tables.read(source.folder)
    with pytest.raises(TableError, match="exists: give another `target`, or `overwrite`"):
        project_on_spark(target, given, 2, spark=spark)
    assert tables.read(source.folder).equals(before)
