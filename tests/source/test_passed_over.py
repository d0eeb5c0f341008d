"""A run counts every file that it skips: what it lists, and what it reports about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import drawn
import pomona
import tables
from pomona.cli.main import app
from pomona.encoder.encoder import Encoder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LISTED = [
    *("_DSC0001.JPG", "_MG_2345.JPG", "_export/a.jpg", "_export/_b.jpg", "__c/_d/_e=1.png"),
    *("a.jfif", "b.JPE", "[_x] {a,b}/_[1] {a,b}*.jpg", "_été/_50% #1?.jpg", "_empty.jpg"),
]
SKIPPED = [
    *("clip.MOV", "x/clip.mov", "raw.cr2", "README", ".hidden.jpg", "x/._DSC0001.JPG"),
    *(".cache/a.jpg", "x/@eaDir/a.jpg", "x/@eaDir/b.jpg", "#recycle/a.jpg", "Thumbs.db"),
    *("_SUCCESS", "_delta_log/0.json", "_temporary/0/a.jpg", "drafts/a.jpg", "x/drafts/b.jpg"),
]
EXPECTED_COUNTS = {
    "passed_over": {".mov": 2, ".cr2": 1, "without extension": 1},
    "excluded": {".*": 3, "drafts/": 2}
    | dict.fromkeys(
        ["#recycle", "@eaDir", "Thumbs.db", "_SUCCESS", "_delta_log/", "_temporary/"], 1
    ),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with names that are listed, each a different picture, and names that are skipped."""
    for number, name in enumerate(LISTED + SKIPPED):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = drawn.encode(drawn.picture(20, 20, number), "JPEG")
        path.write_bytes(b"" if "empty" in name else picture)
    return tmp_path / "source"


def test_the_command_reports_skipped_files_in_text_in_json_and_before_a_run(
    source: Path, encoder_file: Path, tmp_path: Path
) -> None:
    command = ["extract", str(source), str(tmp_path / "t"), "--encoder", str(encoder_file)]
    command += ["--exclude", "drafts/", "--workers", "1"]
    for more in (["--dry-run"], []):
        result = CliRunner().invoke(app, [*command, *more])
        assert result.exit_code == 0, result.output
        assert "skipped: 2 .mov, 1 .cr2, 1 without extension\n" in result.output
        assert "excluded: 3 hidden, 2 drafts/, 1 #recycle, 1 @eaDir, " in result.output
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert {key: found[key] for key in EXPECTED_COUNTS} == EXPECTED_COUNTS
    assert found["skipped"] == len(LISTED)


def test_an_excluded_file_counts_as_deleted(source: Path, encoder: Encoder, tmp_path: Path) -> None:
    def run(**more: object) -> pomona.Summary:
        return pomona.extract(
            source, tmp_path / "t", encoder=encoder, **more, engine=pomona.LocalEngine(workers=1)
        )

    before = run().files
    kept = run(exclude="drafts/")
    assert (before, kept.files, kept.changes.gone, kept.changes.pruned) == (12, 10, 2, 0)
    assert tables.read(tmp_path / "t").num_rows == 12
    assert run(exclude=["drafts/"], resume=pomona.Resume(prune=True)).changes.pruned == 2
    assert tables.read(tmp_path / "t").num_rows == 10


@pytest.mark.spark
def test_both_engines_list_the_same_files_and_count_the_same(
    spark: SparkSession, source: Path, encoder: Encoder, tmp_path: Path, remote: str
) -> None:
    patterns = ["drafts/", "nothing/"]
    here = pomona.extract(
        source,
        tmp_path / "here",
        encoder=encoder,
        exclude=patterns,
        engine=pomona.LocalEngine(workers=1),
    )
    there = pomona.extract(
        source,
        tmp_path / "there",
        encoder=encoder,
        exclude=patterns,
        engine=pomona.SparkEngine(spark=spark),
    )
    far = pomona.extract(
        f"{remote}/source",
        tmp_path / "far",
        encoder=encoder,
        exclude=patterns,
        engine=pomona.SparkEngine(spark=spark),
    )
    expected = EXPECTED_COUNTS | {"excluded": EXPECTED_COUNTS["excluded"] | {"nothing/": 0}}
    for run in (here, there, far):
        assert run.passed_over.to_json() == expected
    rows = tables.read(tmp_path / "here")
    result = {row["path"].removeprefix(f"file:{source}/"): row for row in rows.to_pylist()}
    assert set(result) == set(LISTED)
    assert {row["status"] for name, row in result.items() if "empty" not in name} == {"ok"}
    assert tables.read(tmp_path / "there").equals(rows)
    for name in ("label", "features", "status", "error", "size", "modified", "content_sha256"):
        assert tables.read(tmp_path / "far")[name].equals(rows[name]), name
