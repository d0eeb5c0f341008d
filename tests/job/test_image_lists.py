"""Lists of images, on each engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import SourceError, UsageError
from pomona.job.summary import Summary

Extract = Callable[..., Summary]


def test_a_list_gives_the_rows_of_its_images(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "all", encoder=encoder)
    known = tables.read(tmp_path / "all").to_pylist()
    paths = [row["path"].removeprefix("file:") for row in known]
    lines = [*paths, "missing.jpg", "https://me@x.org/a.jpg", paths[0]]
    (tmp_path / "l.txt").write_text("\n".join(lines))
    summary = extract(tmp_path / "l.txt", tmp_path / "t")
    rows = {row["path"]: row for row in tables.read(tmp_path / "t").to_pylist()}
    assert rows.pop(f"file:{tmp_path}/missing.jpg")["status"] == "unreadable"
    web = rows.pop("https://x.org/a.jpg")
    assert web["status"] == "unreadable"
    assert list(rows.values()) == sorted(known, key=lambda row: list(rows).index(row["path"]))
    assert summary.files == len(lines) - 1
    again = extract(tmp_path / "l.txt", tmp_path / "t")
    assert (again.ok, again.failed, again.skipped) == (0, 0, len(lines) - 1)


def test_labels_may_be_in_a_column_of_the_list(
    extract: Extract, pictures: Path, tmp_path: Path
) -> None:
    images = sorted(pictures.rglob("image*"))[:3]
    lines = [f"{path},colour {number}" for number, path in enumerate(images)]
    (tmp_path / "l.csv").write_text("\n".join(["path,label", *lines]))
    extract(tmp_path / "l.csv", tmp_path / "t", label="column:label")
    labels = {row["path"]: row["label"] for row in tables.read(tmp_path / "t").to_pylist()}
    assert labels == {f"file:{path}": f"colour {n}" for n, path in enumerate(images)}


def test_patterns_for_files_do_not_apply_to_a_list(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a.jpg")
    with pytest.raises(SourceError, match="choose files in folders, and not entries of a list"):
        pomona.extract(tmp_path / "l.txt", tmp_path / "t", encoder=encoder, globs="*.jpg")


def test_a_column_of_labels_needs_a_list_an_archive_or_a_table(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is for images in Parquet files, archives or lists"):
        pomona.extract(pictures, tmp_path / "t", encoder=encoder, label="column:label")
