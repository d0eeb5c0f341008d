"""`pomona check`: each planted fault is in its list, the clearest first."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import drawn
import pomona
import tables
from command_line import run
from pomona.analysis.check.check import Checks, check
from pomona.errors import TableError, UsageError

RANDOM = np.random.default_rng(4)
CLASSES = ("Kiwi", "Plum", "Pear")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images in train/ and test/; a broken file, a leak, a wrong label, an outlier."""
    root = tmp_path_factory.mktemp("check")
    centres = RANDOM.normal(size=(3, 24))
    vectors = centres[np.arange(60) % 3] + RANDOM.normal(size=(60, 24))
    labels = [CLASSES[number % 3] for number in range(60)]
    labels[9] = "Plum"
    vectors[31] = vectors[1] + 0.02  # in test/, and a copy of one in train/
    vectors[20] = -4 * centres.mean(axis=0)
    paths = []
    for number in range(60):
        part = "train" if number < 30 else "test"
        file = root / part / labels[number] / f"<{number}>.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(drawn.encode(drawn.picture(40, 30, number), "JPEG"))
        paths.append(file.as_uri().replace("%3C", "<").replace("%3E", ">"))
    failed = [("file:/x/Kiwi/half.jpg", "truncated")]
    return tables.write(root / "features", vectors, labels, paths, failed=failed)


@pytest.fixture(scope="module")
def found(folder: Path) -> Checks:
    return check(folder, split="train/test")


def numbers(found: Checks, name: str) -> list[int]:
    paths = found[name].rows["path"].to_pylist()
    return [int(path.rpartition("<")[2].partition(">")[0]) for path in paths]


def test_each_planted_fault_is_in_its_list(found: Checks) -> None:
    assert found["broken"].to_json() == [
        {"path": "file:/x/Kiwi/half.jpg", "status": "truncated", "error": "drawn as truncated"}
    ]
    assert set(numbers(found, "leaks")) == {1, 31}
    assert set(found["leaks"].rows["part"].to_pylist()) == {"train", "test"}
    assert numbers(found, "mislabels")[0] == 9
    assert found["mislabels"].rows["nearer_to"][0].as_py() == "Kiwi"
    assert numbers(found, "outliers") == [20]


def test_the_image_to_keep_is_marked_once_in_each_group(found: Checks) -> None:
    rows = found["near_duplicates"].to_json()
    groups = {row["group"] for row in rows}
    assert [sum(row["keep"] for row in rows if row["group"] == g) for g in groups] == [1] * len(
        groups
    )


def test_classes_that_look_alike_are_counted_both_ways(tmp_path: Path) -> None:
    vectors = np.eye(4)[[0, 0, 1, 1, 2, 2]] + RANDOM.normal(scale=0.01, size=(6, 4))
    labels = ["a", "b", "b", "a", "c", "c"]
    found = check(tables.write(tmp_path / "t", vectors, labels))
    assert found["overlaps"].to_json() == [
        {"label": "a", "other": "b", "confused": 4, "images": 4, "share": 1.0}
    ]


def test_leaks_need_a_split(folder: Path) -> None:
    assert "leaks" not in check(folder).lists
    with pytest.raises(UsageError, match="expected two folder names separated by a slash"):
        check(folder, split="train")


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_tables_without_labels_are_checked(tmp_path: Path, rows: int) -> None:
    found = check(tables.write(tmp_path / "t", np.eye(2)[:rows], [None] * rows))
    assert len(found["mislabels"]) == len(found["overlaps"]) == 0


def test_a_table_without_vectors_is_refused(tmp_path: Path) -> None:
    none = tables.write(tmp_path / "t", np.empty((0, 3)), [], failed=[("file:/e.jpg", "empty")])
    with pytest.raises(TableError, match="has no row with a vector"):
        pomona.check(none)


def test_lists_are_data_frames_and_pictures_in_notebooks(found: Checks) -> None:
    pytest.importorskip("pandas", reason="a DataFrame needs pandas")
    assert found["outliers"].to_pandas()["label"].tolist() == ["Pear"]
    html = found["outliers"]._repr_html_()
    assert "data:image/webp;base64," in html
    assert "<20>" not in html


# The command --------------------------------------------------------------------------------------


def test_the_command_writes_a_page_and_a_csv_for_each_question(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2", reason="a page needs pip install '.[analysis]'")
    code, out, err = run(capfd, "check", folder, "--split", "train/test", "-o", tmp_path / "c")
    assert (code, err) == (0, "")
    assert f"page: {tmp_path / 'c' / 'check.html'}" in out
    names = {"broken", "exact_duplicates", "near_duplicates", "leaks"}
    names |= {"mislabels", "outliers", "overlaps"}
    names |= {"dark", "bright", "blurred", "odd_aspect", "tiny"}
    assert {file.stem for file in (tmp_path / "c").glob("*.csv")} == names
    with (tmp_path / "c" / "outliers.csv").open(newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert row["path"].endswith("<20>.jpg")
    page = (tmp_path / "c" / "check.html").read_text()
    assert "&lt;20&gt;.jpg" in page
    assert "<20>" not in page
    assert "data:image/webp;base64," in page
    assert "http" not in page.replace("http-equiv", "")


def test_json_has_every_list(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = run(capfd, "check", folder, "--json")
    found = json.loads(out)
    assert (code, found["rows"], found["compared"]) == (0, 61, 60)
    assert found["broken"][0]["status"] == "truncated"
    assert found["mislabels"][0]["nearer_to"] == "Kiwi"


def test_an_unwritable_folder_is_refused_before_the_work(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    for output in (folder / "c", tmp_path / "no" / "c"):
        code, out, err = run(capfd, "check", folder, "-o", output)
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert not list(tmp_path.iterdir())
