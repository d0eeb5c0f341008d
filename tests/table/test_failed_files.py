"""A run names the files that failed, on each engine and for each kind of table location."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tables
from pomona.cli.main import main
from pomona.job.summary import Summary
from pomona.table.failed_files import FailedFile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def failed_in(table: Path) -> set[FailedFile]:
    rows = tables.read(table).select(["path", "status", "error"]).to_pylist()
    return {FailedFile(**row) for row in rows if row["status"] != "ok"}


def test_a_run_names_up_to_five_of_its_failed_files(
    extract: Callable[..., Summary], pictures: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    first = extract(pictures, table)
    earlier = failed_in(table)
    assert len(earlier) == first.failed == 3
    assert set(first.failed_files) == earlier
    assert all(file.error for file in earlier)
    for number in range(4):
        (pictures / f"empty {number}.jpg").write_bytes(b"")
        (pictures / f"page {number}.png").write_bytes(b"<html>404</html>" + bytes([number]))
    second = extract(pictures, table)
    assert second.failed == 8
    assert len(set(second.failed_files)) == 5
    assert set(second.failed_files) < failed_in(table) - earlier
    assert extract(pictures, table).failed_files == ()


@pytest.mark.spark
def test_extract_prints_the_failed_files_of_a_remote_table(
    spark: SparkSession,  # noqa: ARG001 - the command uses the active session
    remote: str,
    pictures: Path,
    tmp_path: Path,
    encoder_file: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for number in range(4):
        (pictures / f"page {number}.png").write_bytes(b"<html>404</html>" + bytes([number]))
    command = ["extract", str(pictures), f"{remote}/far", "--encoder", str(encoder_file)]
    with pytest.raises(SystemExit) as exit_info:
        main([*command, "--engine", "spark"])
    assert exit_info.value.code == 0
    lines = capfd.readouterr().out.splitlines()
    possible = {f"  {file.path}: {file.error}" for file in failed_in(tmp_path / "far")}
    assert len(possible) == 7
    assert len(possible.intersection(lines)) == 5
    assert f"  2 more: pomona inspect {remote}/far --failed" in lines
    with pytest.raises(SystemExit):
        main([*command, "--engine", "spark", "--overwrite", "--json"])
    named = json.loads(capfd.readouterr().out)["failed_files"]
    assert len({FailedFile(**file) for file in named} & failed_in(tmp_path / "far")) == 5
