"""The class archive (CDS) of a local Spark JVM, which Java 19 and later maintain themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import faults
from pomona.spark.session.class_archive import archive_options, java_version

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")


def set_java(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Make JAVA_HOME a JDK of that version."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch()
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    monkeypatch.setenv("JAVA_HOME", str(folder))


@pytest.fixture
def java_21(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_java(tmp_path / "jdk", monkeypatch, "21.0.2")


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "17.0.15", "18.0.1"])
def test_java_before_19_gets_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    set_java(tmp_path / "jdk", monkeypatch, version)
    assert java_version() == int(version.split(".", maxsplit=1)[0])
    assert archive_options(tmp_path / "cache") == ""
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("version", ["19", "21.0.2", "25-ea"])
def test_java_19_or_later_gets_the_automatic_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    set_java(tmp_path / "jdk", monkeypatch, version)
    options = archive_options(tmp_path / "cache")
    assert "-XX:+AutoCreateSharedArchive" in options
    assert f'-XX:SharedArchiveFile="{tmp_path}/cache/spark-' in options


def test_java_of_unknown_version_gets_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_version() is None
    assert archive_options(tmp_path / "cache") == ""


@pytest.mark.usefixtures("java_21")
def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o770)
    assert archive_options(cache) == ""


@pytest.mark.usefixtures("java_21")
def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert archive_options(tmp_path) == ""


@pytest.mark.usefixtures("java_21")
@pytest.mark.parametrize("name", ['a "quoted" cache', "two:caches", "back\\slash"])
def test_a_folder_name_that_the_jvm_would_misparse_is_not_used(tmp_path: Path, name: str) -> None:
    assert archive_options(tmp_path / name) == ""
    assert not (tmp_path / name).exists()


@pytest.mark.usefixtures("java_21")
def test_a_folder_that_cannot_be_created_is_not_an_error() -> None:
    assert archive_options(Path("/proc/nowhere")) == ""


@pytest.mark.spark
def test_a_local_run_maps_the_archive_of_the_previous_run(tmp_path: Path) -> None:
    if (java_version() or 0) < 19:
        pytest.skip("needs Java 19 or later")
    program = """
from pathlib import Path
from pomona.spark.session.session import session

with session(None, "local[1]") as spark:
    process = spark.sparkContext._gateway.proc.pid
    print("/spark-" in "".join(
        line for line in Path(f"/proc/{process}/maps").open() if ".jsa" in line))
"""
    environment = {**os.environ, "POMONA_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}

    def archive_is_mapped() -> str:
        command = [sys.executable, "-c", program]
        completed = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        return completed.stdout.strip()

    assert archive_is_mapped() == "False"
    # No run waits for its JVM to exit.
    faults.wait_for(lambda: any((tmp_path / "jvm").glob("*.jsa")), 120)
    assert archive_is_mapped() == "True"
