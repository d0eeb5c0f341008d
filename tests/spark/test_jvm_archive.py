"""The archive of Spark's classes, which lets local runs start sooner."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import faults
from pomona.spark.session.jvm_archive import archive_options

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")


def archive_in(folder: Path) -> Path:
    """Where the archive of this machine's Spark is to lie."""
    (note,) = folder.glob("*.seen")
    return note.with_suffix(".jsa")


def lay_archive(path: Path) -> None:
    """Write a file that begins as the JVM's do."""
    path.write_bytes(b"\xf0\x0b\xab\xa8 and more")
    path.chmod(0o444)


def test_the_first_run_on_a_machine_writes_no_archive(tmp_path: Path) -> None:
    assert archive_options(tmp_path / "new") == ""


def test_the_second_run_writes_it_and_later_ones_use_it(tmp_path: Path) -> None:
    archive_options(tmp_path)
    assert f'-XX:ArchiveClassesAtExit="{archive_in(tmp_path)}"' in archive_options(tmp_path)
    lay_archive(archive_in(tmp_path))
    assert f'-XX:SharedArchiveFile="{archive_in(tmp_path)}"' in archive_options(tmp_path)


@pytest.mark.parametrize("cut_off", [b"", bytes(4096)])
def test_an_archive_that_was_cut_off_is_written_again(tmp_path: Path, cut_off: bytes) -> None:
    archive_options(tmp_path)
    archive_in(tmp_path).write_bytes(cut_off)
    assert "ArchiveClassesAtExit" in archive_options(tmp_path)


def test_a_jvm_that_never_comes_to_write_it_is_not_asked_for_ever(tmp_path: Path) -> None:
    assert archive_options(tmp_path) == ""
    assert all("ArchiveClassesAtExit" in archive_options(tmp_path) for _ in range(2))
    assert archive_options(tmp_path) == ""


def test_where_settings_lie_on_the_class_path_the_jvm_would_write_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    monkeypatch.setenv("SPARK_CONF_DIR", str(conf))
    assert archive_options(tmp_path / "cache") == ""
    assert "ArchiveClassesAtExit" in archive_options(tmp_path / "cache")
    (conf / "log4j2.properties").touch()
    assert archive_options(tmp_path / "cache") == ""


@pytest.mark.parametrize("writable", ["folder", "archive"])
def test_an_archive_that_others_can_have_written_is_not_used(tmp_path: Path, writable: str) -> None:
    archive_options(tmp_path)
    archive = archive_in(tmp_path)
    lay_archive(archive)
    assert "SharedArchiveFile" in archive_options(tmp_path)
    if writable == "folder":
        tmp_path.chmod(0o770)
    else:
        archive.chmod(0o664)
    assert archive_options(tmp_path) == ""


def test_an_archive_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_options(tmp_path)
    lay_archive(archive_in(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert archive_options(tmp_path) == ""


def test_another_pyspark_has_an_archive_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_options(tmp_path)
    monkeypatch.setattr("pyspark.__version__", "99.0")
    assert archive_options(tmp_path) == ""
    assert len(list(tmp_path.glob("*.seen"))) == 2


@pytest.mark.parametrize("name", ['a "quoted" cache', "two:caches", "back\\slash"])
def test_a_folder_whose_name_the_jvm_would_misread_has_none(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        assert archive_options(tmp_path / name) == ""
    assert not (tmp_path / name).exists()


def test_no_place_for_the_archive_is_no_error() -> None:
    assert archive_options(Path("/proc/nowhere")) == ""


@pytest.mark.spark
def test_a_local_run_maps_what_the_one_before_it_wrote(tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    program = """
from pathlib import Path
from pomona.spark.session.session import session

with session(None, "local[1]") as spark:
    process = spark.sparkContext._gateway.proc.pid
    print(".jsa" in Path(f"/proc/{process}/maps").read_text().replace("classes.jsa", ""))
"""
    cache = tmp_path / "a cache"
    environment = {**os.environ, "POMONA_CACHE": str(cache), "PYTHONPATH": ":".join(sys.path)}

    def archive_is_mapped() -> str:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def is_written() -> bool:
        archive = archive_in(cache / "jvm")
        return archive.exists() and any(archive.read_bytes()[:4])

    archive_options(cache / "jvm")  # as the first run does
    assert archive_is_mapped() == "False"
    faults.wait_for(is_written, 120)  # nobody waits for the JVM's end
    assert archive_is_mapped() == "True"
