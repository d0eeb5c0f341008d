"""Images in archives, on each engine: the same rows as from the files in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import drawn
import faults
import pomona
import tables
from pomona.analysis.figures.thumbnails import thumbnail
from pomona.encoder.encoder import Encoder
from pomona.io.member_uri import member_uri
from pomona.job.summary import Summary

Extract = Callable[..., Summary]


def pack(folder: Path, archive: Path) -> Path:
    """Pack a folder by GNU tar or Info-ZIP."""
    if archive.suffix == ".zip":
        command: list[object] = ["zip", "-qr", archive, "."]
    else:
        command = ["tar", "-caf", archive, "."]
    subprocess.run(list(map(str, command)), cwd=folder, check=True)
    return archive


def rows(table: Path) -> dict[str, dict[str, Any]]:
    """The rows by path below the folder or the archive, without the columns of the file."""
    found = {}
    for row in tables.read(table).to_pylist():
        path = row.pop("path")
        del row["modified"]
        found[path.partition("::")[2] or path.partition("/pictures/")[2]] = row
    return found


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.zip"])
def test_an_archive_gives_the_rows_of_the_folder(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path, name: str
) -> None:
    archive = pack(pictures, tmp_path / name)
    extract(archive, tmp_path / "packed")
    pomona.extract(pictures, tmp_path / "unpacked", encoder=encoder)
    assert rows(tmp_path / "packed") == rows(tmp_path / "unpacked")
    again = extract(archive, tmp_path / "packed")
    assert (again.ok, again.failed, again.skipped) == (0, 0, 14)


def test_a_damaged_archive_gives_its_images_and_one_failed_row(
    extract: Extract, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for seed in range(6):
            path = tmp_path / f"{seed}.png"
            path.write_bytes(drawn.encode(drawn.picture(40, 40, seed), "PNG"))
            archive.add(path, path.name)
            path.unlink()
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.png"
        archive.addfile(link)
    raw = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(raw[: raw.index(b"link.png") + 300])
    summary = extract(tmp_path, tmp_path / "t")
    assert (summary.ok, summary.failed) == (6, 1)
    assert summary.by_status["unreadable"] == 1
    (failed,) = summary.failed_files
    assert failed.path == f"file:{tmp_path}/s.tar::"
    assert failed.error is not None
    assert failed.error.startswith("cannot be read after byte ")


def test_an_archive_that_was_written_again_is_computed_again(
    encoder: Encoder, tmp_path: Path
) -> None:
    def write(seed: int) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            for name in ("a.bmp", "b.bmp"):
                content = drawn.encode(drawn.picture(30, 30, seed), "BMP")
                archive.writestr(zipfile.ZipInfo(name), content)  # always of the same time and size
                seed += 1

    write(0)
    pomona.extract(tmp_path / "s.zip", tmp_path / "t", encoder=encoder)
    first = rows(tmp_path / "t")
    write(1)
    os.utime(tmp_path / "s.zip", (1, 1))
    summary = pomona.extract(tmp_path / "s.zip", tmp_path / "t", encoder=encoder)
    assert summary.changes.changed == 2
    assert rows(tmp_path / "t")["a.bmp"] == first["b.bmp"]


def test_a_run_over_archives_keeps_rows_of_files_and_the_other_way_round(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    pack(pictures, tmp_path / "x" / "s.tar")
    prune = pomona.Resume(prune=True)
    table = tmp_path / "t"
    pomona.extract(tmp_path / "x" / "*.tar", table, encoder=encoder)
    (tmp_path / "x" / "new.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    summary = pomona.extract(tmp_path / "x", table, encoder=encoder, resume=prune)
    assert (summary.files, summary.changes.gone) == (1, 0)
    summary = pomona.extract(tmp_path / "x" / "*.tar", table, encoder=encoder, resume=prune)
    assert (summary.skipped, summary.changes.gone) == (14, 0)
    (tmp_path / "x" / "s.tar").unlink()
    pack(pictures, tmp_path / "x" / "t.tar")
    summary = pomona.extract(tmp_path / "x" / "*.tar", table, encoder=encoder, resume=prune)
    assert summary.changes.pruned == 14
    assert summary.changes.taken_over == 11
    assert len(tables.read(table)) == 15


def test_images_that_no_longer_are_in_an_archive_are_gone(encoder: Encoder, tmp_path: Path) -> None:
    def write(*names: str) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            for seed, name in enumerate(names):
                archive.writestr(name, drawn.encode(drawn.picture(30, 30, seed), "PNG"))

    write("a.png", "b.png")
    pomona.extract(tmp_path / "s.zip", tmp_path / "t", encoder=encoder)
    write("a.png")
    summary = pomona.extract(tmp_path / "s.zip", tmp_path / "t", encoder=encoder)
    assert summary.changes.gone == 1
    (tmp_path / "s.zip").write_bytes(b"broken")
    prune = pomona.Resume(prune=True)
    summary = pomona.extract(tmp_path / "s.zip", tmp_path / "t", encoder=encoder, resume=prune)
    assert summary.changes.pruned == 0


@pytest.mark.parametrize("name", ["s.tar", "s.zip"])
def test_pages_show_images_in_archives(pictures: Path, tmp_path: Path, name: str) -> None:
    archive = pack(pictures, tmp_path / name)
    below = "Apple Red 1/image 3.jpg"
    packed = thumbnail(member_uri(str(archive), below), 16)
    unpacked = thumbnail(f"file:{pictures}/{below}", 16)
    assert packed is not None
    assert unpacked is not None
    assert packed.tobytes() == unpacked.tobytes()
    assert thumbnail(member_uri(str(archive), "no.jpg"), 16) is None


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_a_killed_run_over_an_archive_loses_and_doubles_no_row(
    encoder: Encoder, faulty_pictures: Path, tmp_path: Path, encoder_file: Path, name: str
) -> None:
    archive = pack(faulty_pictures, tmp_path / name)
    started = time.monotonic()
    expected = faults.expected_table(archive, tmp_path / "right", encoder)
    duration_s = time.monotonic() - started
    command = [*faults.COMMAND, "extract", archive, tmp_path / "t", "--encoder", encoder_file]
    arguments = list(map(str, command))
    for moment in faults.moments(5, 1.5 + duration_s):
        undo = partial(shutil.rmtree, tmp_path / "t")
        faults.kill_at(moment, "parent, archive", arguments, undo=undo)
        faults.assert_consistent(tmp_path / "t", expected)
    subprocess.run(arguments, capture_output=True, check=True)
    faults.assert_complete(tmp_path / "t", expected)
