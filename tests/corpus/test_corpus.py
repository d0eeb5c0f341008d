"""Every reported kind of file, extracted by both engines into one table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pomona
import tables
from corpus import Case, all_cases
from pomona.encoder.encoder import Encoder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CASES = [pytest.param(subject, case, id=f"{subject}-{case.name}") for subject, case in all_cases()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all cases and their right counterparts."""
    root = tmp_path_factory.mktemp("corpus") / "files"
    for subject, case in all_cases():
        _write(root / "reported" / subject / case.name, case.content)
        if case.right is not None:
            _write(root / "right" / subject / case.right_name, case.right)
    return root


@pytest.fixture(scope="module")
def table(files: Path, encoder: Encoder) -> Path:
    """The table that the embedded engine writes for the folder."""
    pomona.extract(files, files.parent / "table", encoder=encoder)
    return files.parent / "table"


@pytest.fixture(scope="module")
def rows(files: Path, table: Path) -> dict[str, dict[str, Any]]:
    """The rows of that table by path, relative to the folder."""
    prefix = f"file:{files}/"
    return {row["path"].removeprefix(prefix): row for row in tables.read(table).to_pylist()}


def test_every_file_has_one_row(files: Path, rows: dict[str, dict[str, Any]]) -> None:
    expected = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
    assert set(rows) == expected


def test_no_two_cases_have_the_same_name() -> None:
    names = Counter((subject, case.name) for subject, case in all_cases())
    names.update((subject, case.right_name) for subject, case in all_cases())
    assert max(names.values()) == 1


@pytest.mark.parametrize(("subject", "case"), CASES)
def test_reported_file_has_the_correct_row(
    subject: str, case: Case, rows: dict[str, dict[str, Any]]
) -> None:
    row = rows[f"reported/{subject}/{case.name}"]
    assert row["status"] == case.status, row["error"]
    assert case.error in (row["error"] or "")
    if case.right is not None:
        right = rows[f"right/{subject}/{case.right_name}"]
        assert right["status"] == "ok", right["error"]
        assert row["features"] == right["features"]
        assert (row["width"], row["height"]) == (right["width"], right["height"])


@pytest.mark.spark
def test_spark_gives_the_same_rows(
    spark: SparkSession, files: Path, table: Path, encoder: Encoder, tmp_path: Path
) -> None:
    pomona.extract(
        files, tmp_path / "table", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert tables.read(tmp_path / "table").equals(tables.read(table))


def test_the_reported_files_themselves_are_among_the_cases(shared_data: Path) -> None:
    assert (shared_data / "trials").is_dir()
    assert any(subject == "trials" for subject, _ in all_cases())


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
