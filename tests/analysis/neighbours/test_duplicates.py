"""Duplicates: identical bytes, similar vectors, and the meaning of the threshold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables
from command_line import run
from pomona.analysis.neighbours.duplicates import find_duplicates
from pomona.analysis.neighbours.exact import compare_pairs
from pomona.analysis.similarity import plain_directions
from pomona.analysis.vectors import open_vectors
from pomona.errors import UsageError
from pomona.table.feature_table import FeatureTable

RANDOM = np.random.default_rng(3)


def components(cosines: np.ndarray, threshold: float) -> list[set[int]]:
    """Connected components by brute force: grow each set until nothing can be added."""
    left, result = set(range(len(cosines))), []
    while left:
        group = {left.pop()}
        while joining := {b for a in group for b in left if cosines[a, b] >= threshold}:
            group |= joining
            left -= joining
        result.append(group)
    return result


def cosines_of(matrix: np.ndarray) -> np.ndarray:
    rows = matrix.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


@given(
    rows=st.integers(2, 60),
    held=st.integers(1, 70),
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 0.8, 0.95]),
)
def test_groups_equal_brute_force_for_any_memory_limit(
    tmp_path_factory: pytest.TempPathFactory, rows: int, held: int, threshold: float
) -> None:
    matrix = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    folder = tables.write(tmp_path_factory.mktemp("pairs"), matrix, ["x"] * rows, parts=2)
    result = compare_pairs(
        plain_directions(open_vectors(FeatureTable(folder))), threshold, held_rows=held
    )
    cosines = cosines_of(matrix)
    by_component: dict[int, set[int]] = {}
    for row, component in enumerate(result.component):
        by_component.setdefault(int(component), set()).add(row)
    assert sorted(map(sorted, by_component.values())) == sorted(
        map(sorted, components(cosines, threshold))
    )
    np.fill_diagonal(cosines, -np.inf)
    np.testing.assert_allclose(result.nearest, cosines.max(axis=1), atol=1e-6)


def test_tables_wider_than_a_tile_are_compared_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.analysis.neighbours.exact._TILE_ROWS", 7)
    monkeypatch.setattr("pomona.analysis.neighbours.exact._TILE_COLUMNS", 5)
    monkeypatch.setattr("pomona.analysis.neighbours.groups._EDGES", 3)
    matrix = RANDOM.normal(size=(40, 3)).astype(np.float32)
    folder = tables.write(tmp_path / "t", matrix, ["x"] * 40)
    result = compare_pairs(plain_directions(open_vectors(FeatureTable(folder))), 0.9, held_rows=17)
    assert len(set(result.component)) == len(components(cosines_of(matrix), 0.9))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pairs of near images, one pair with identical bytes, two empty files, and others."""
    matrix = RANDOM.normal(size=(12, 32)).astype(np.float32)
    matrix[3] = matrix[1] + 0.01  # near 1
    matrix[8] = matrix[5] - 0.02  # near 5
    matrix[11] = matrix[10]  # identical bytes give identical vectors
    labels = ["a"] * 8 + ["b"] * 4
    failed = [("file:/e/1.jpg", "empty"), ("file:/e/2.jpg", "empty")]
    folder = tables.write(tmp_path / "t", matrix, labels, failed=failed)
    (part,) = folder.glob("*.parquet")
    table = pq.read_table(part)
    digest = ["0" * 64 if p.startswith("file:/e/") else p for p in table["path"].to_pylist()]
    digest = ["d" * 64 if p.endswith(("/10.jpg", "/11.jpg")) else p for p in digest]
    at = table.schema.get_field_index("content_sha256")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(digest)), part)
    return folder


def paths(groups: list) -> list[list[str]]:
    return [[member.path.rpartition("/")[2] for member in group.members] for group in groups]


def test_identical_bytes_are_exact_duplicates_and_not_also_near_ones(folder: Path) -> None:
    result = find_duplicates(FeatureTable(folder), 0.99)
    assert paths(result.exact) == [["10.jpg", "11.jpg"]]
    assert paths(result.near) == [["1.jpg", "3.jpg"], ["5.jpg", "8.jpg"]]


def test_empty_files_are_not_duplicates(folder: Path) -> None:
    result = find_duplicates(FeatureTable(folder), None)
    assert not any(name.startswith("file:/e/") for group in paths(result.exact) for name in group)
    assert result.near == []


def test_different_labels_within_a_group_are_detected(folder: Path) -> None:
    result = find_duplicates(FeatureTable(folder), 0.99).to_json()
    assert [group["labels_differ"] for group in result["near"]] == [False, True]


def test_a_near_copy_joins_the_group_with_identical_bytes(folder: Path) -> None:
    matrix = tables.read(folder).filter(pa.compute.equal(tables.read(folder)["status"], "ok"))
    vector = dict(zip(matrix["path"].to_pylist(), matrix["features"].to_pylist(), strict=True))
    near = np.asarray(vector["file:/pictures/b/10.jpg"])[None] + 0.01
    tables.write(folder, near, ["c"], ["file:/pictures/c/near.jpg"])
    result = find_duplicates(FeatureTable(folder), 0.99)
    assert ["10.jpg", "11.jpg", "near.jpg"] in paths(result.near)
    assert paths(result.exact) == [["10.jpg", "11.jpg"]]


def pictured(folder: Path, matrix: np.ndarray, sizes: list[tuple[int, int, int]]) -> FeatureTable:
    """A table of images /0.jpg, /1.jpg, ... with widths, heights and bytes."""
    paths = [f"file:/{number}.jpg" for number in range(len(sizes))]
    tables.write(folder, matrix, [None] * len(sizes), paths)
    (part,) = folder.glob("*.parquet")
    table = pq.read_table(part)
    for name, values in zip(("width", "height", "size"), zip(*sizes, strict=True), strict=True):
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(values, field.type))
    pq.write_table(table, part)
    return FeatureTable(folder)


def turned(degrees: list[float]) -> np.ndarray:
    """Directions in a plane, with others far away, so that the centre is near 0."""
    angles = np.radians([*degrees, *(angle + 180 for angle in degrees)])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_image_to_keep_is_the_largest_and_then_the_least_compressed(tmp_path: Path) -> None:
    sizes = [(100, 50, 900), (50, 100, 950), (40, 40, 999), (100, 50, 950)]
    table = pictured(tmp_path / "t", np.eye(8)[[0, 0, 0, 0]], sizes)
    (group,) = find_duplicates(table).near
    assert group.members[0].path == "file:/1.jpg"
    assert group.to_json()["keep"] == "file:/1.jpg"
    assert paths([group]) == [["1.jpg", "3.jpg", "0.jpg", "2.jpg"]]


def test_images_without_sizes_have_a_group_too(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "t", np.eye(3)[[0, 0]], ["x"] * 2)
    (group,) = find_duplicates(FeatureTable(folder)).near
    assert paths([group]) == [["0.jpg", "1.jpg"]]


def test_members_follow_in_the_order_of_their_likeness_to_the_first(tmp_path: Path) -> None:
    degrees = [0.0, 9, 3, 6]
    sizes = [(10, 10, 5)] + [(5, 5, 5)] * 3 + [(1, 1, number) for number in (1, 2, 3, 4)]
    table = pictured(tmp_path / "t", turned(degrees), sizes)
    first = find_duplicates(table, float(np.cos(np.radians(10)))).near[0]
    assert paths([first]) == [["0.jpg", "2.jpg", "3.jpg", "1.jpg"]]
    expected = np.cos(np.radians([0, 3, 6, 9]))
    assert [m.similarity for m in first.members] == pytest.approx(expected, abs=1e-6)


def test_groups_are_the_same_if_their_vectors_do_not_fit_into_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = find_duplicates(FeatureTable(folder)).near
    monkeypatch.setattr("pomona.analysis.neighbours.duplicates.HELD_BYTES", 0)
    assert find_duplicates(FeatureTable(folder)).near == expected


def test_a_group_is_no_chain(tmp_path: Path) -> None:
    """Frames of a turn: each is near the next, and the ends are far apart."""
    degrees = [5.0 * number for number in range(12)]
    table = pictured(tmp_path / "t", turned(degrees), [(9, 9, 99 - n) for n in range(24)])
    threshold = float(np.cos(np.radians(11)))
    near = find_duplicates(table, threshold).near
    assert len(near) > 4
    assert all(member.similarity >= threshold for group in near for member in group.members)


def test_shares_explain_the_threshold(folder: Path) -> None:
    result = find_duplicates(FeatureTable(folder), 0.99)
    assert result.share == 6 / 12
    assert result.by_chance == 3 / 66  # all pairs of 12, because there are so few


@pytest.mark.parametrize("threshold", [1.5, -2, float("nan")])
def test_a_threshold_that_is_no_similarity_is_refused(folder: Path, threshold: float) -> None:
    with pytest.raises(UsageError, match="`threshold` .*: expected a similarity"):
        find_duplicates(FeatureTable(folder), threshold)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_with_nothing_to_compare_has_no_duplicates(tmp_path: Path, rows: int) -> None:
    failed = [("file:/e/1.jpg", "empty")]
    folder = tables.write(tmp_path / "t", np.ones((rows, 3)), ["x"] * rows, failed=failed)
    result = find_duplicates(FeatureTable(folder))
    assert (result.exact, result.near, result.share, result.rows) == ([], [], 0, rows + 1)


# The command -------------------------------------------------------------------------------------


def test_the_command_reports_counts_and_the_meaning_of_the_threshold(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, out, err = run(capfd, "duplicates", folder, "--threshold", "0.99", "--groups", 1)
    assert (code, err) == (0, "")
    assert f"{folder}: exact duplicates: 1 group, 1 redundant image" in out
    assert f"{folder}: near duplicates: 2 groups, 2 redundant images; labels differ in 1" in out
    assert "... 1 more group:" in out
    assert "threshold 0.99: 50.0% of the images have another one this near" in out


@pytest.mark.parametrize(("threshold", "advised"), [("0.9", True), ("1", False)])
def test_a_higher_threshold_is_suggested_only_if_one_exists(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, *, threshold: str, advised: bool
) -> None:
    alike = tables.write(tmp_path / "t", np.eye(3)[[0, 0, 0, 0]], ["x"] * 4)
    _, out, _ = run(capfd, "duplicates", alike, "--threshold", threshold)
    assert f"threshold {threshold}: 100.0% of the images" in out
    assert ("a higher --threshold" in out) == advised


def test_json_contains_every_group(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    _, out, _ = run(capfd, "duplicates", folder, "--threshold", "0.99", "--groups", 0, "--json")
    result = json.loads(out)
    assert [len(result["exact"]), len(result["near"])] == [1, 2]
    assert result["near"][0]["members"][0] == {
        "path": "file:/pictures/a/1.jpg",
        "label": "a",
        "similarity": 1.0,
    }


def test_the_plot_and_the_sheet_are_images(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="a plot needs pip install '.[analysis]'")
    plot, sheet = tmp_path / "p.svg", tmp_path / "s.png"
    code, _, err = run(capfd, "duplicates", folder, "--plot", plot, "--sheet", sheet)
    assert (code, err) == (0, f"pomona: plot: {plot}\npomona: contact sheet: {sheet}\n")
    assert plot.read_text().lstrip().startswith("<?xml")
    assert sheet.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "p.txt"], "expected the name of a .pdf, .png, .svg file"),
        (["--plot", "no/such/p.png"], "there is no folder"),
        (["--exact", "--plot", "p.png"], "leave one out"),
        (["--threshold", "7"], "expected a similarity"),
    ],
)
def test_invalid_options_are_refused_in_one_line(
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    pytest.importorskip("matplotlib", reason="a plot needs pip install '.[analysis]'")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = run(capfd, "duplicates", folder, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_without_matplotlib_the_error_names_the_extra(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run(capfd, "duplicates", folder, "--plot", "p.png")
    assert code == 2
    assert "pip install '.[analysis]'" in err
