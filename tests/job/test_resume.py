"""A second run does the missing work, for any combination of engines."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, RunError, TableError
from pomona.job import plan
from pomona.job.summary import Summary
from pomona.processes.worker_client import WorkerProcess

Extract = Callable[..., Summary]


@pytest.fixture(params=["local", pytest.param("spark", marks=pytest.mark.spark)])
def extract(request: pytest.FixtureRequest, encoder: Encoder) -> Extract:
    """The main job, on each engine."""
    if request.param == "spark":
        pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
        engine = pomona.SparkEngine(spark=request.getfixturevalue("spark"))
    else:
        engine = pomona.LocalEngine(workers=1)
    return lambda *args, **more: pomona.extract(*args, encoder=encoder, engine=engine, **more)


def draw(path: Path, seed: int = 0, *, time: float | None = None) -> None:
    path.write_bytes(drawn.encode(drawn.picture(20, 20, seed), "PNG"))
    if time is not None:
        os.utime(path, (time, time))


def assert_equals_one_run(table: Path, pictures: Path, encoder: Encoder) -> None:
    """Assert that the table equals that of a first run on the current pictures."""
    fresh = table.with_name("fresh")
    pomona.extract(
        pictures,
        fresh,
        encoder=encoder,
        resume=pomona.Resume(overwrite=fresh.exists()),
        engine=pomona.LocalEngine(workers=1),
    )
    assert tables.read(table).equals(tables.read(fresh))


def test_only_new_and_modified_files_are_computed(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    draw(pictures / "new.png", 1)
    draw(pictures / "Apple Red 1" / "image 3.jpg", 2)
    os.utime(pictures / "Apple Red 1" / "image 5.webp", (1e9, 1e9))
    rerun = extract(pictures, tmp_path / "t")
    assert (rerun.changes.new, rerun.changes.changed, rerun.skipped) == (1, 2, 12)
    assert (rerun.ok, rerun.failed, rerun.files) == (3, 0, 15)
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_a_change_of_the_same_size_within_one_second_is_detected(
    extract: Extract, encoder: Encoder, tmp_path: Path
) -> None:
    picture = tmp_path / "p" / "a.bmp"
    picture.parent.mkdir()
    for seed, time in ((1, 1_700_000_000.001), (2, 1_700_000_000.002)):
        picture.write_bytes(drawn.encode(drawn.picture(20, 20, seed), "BMP"))
        os.utime(picture, (time, time))
        summary = extract(picture.parent, tmp_path / "t")
        assert summary.ok == 1
    assert_equals_one_run(tmp_path / "t", picture.parent, encoder)


def test_failed_files_are_retried_only_on_request(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert extract(pictures, tmp_path / "t").ok == 0
    rerun = extract(pictures, tmp_path / "t", resume=pomona.Resume(retry_failed=True))
    assert (rerun.changes.retried, rerun.failed, rerun.skipped) == (3, 3, 11)
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_missing_files_keep_their_rows_unless_pruned(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    shutil.rmtree(pictures / "kind=bad")
    kept = extract(pictures, tmp_path / "t")
    assert (kept.changes.gone, kept.changes.pruned) == (4, 0)
    assert tables.read(tmp_path / "t").num_rows == 14
    pruned = extract(pictures, tmp_path / "t", resume=pomona.Resume(prune=True))
    assert (pruned.changes.gone, pruned.changes.pruned, pruned.ok) == (4, 4, 0)
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_pruning_keeps_the_rows_of_an_unmounted_disk_unless_you_name_it(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    """The mount point of an unmounted disk is an empty folder."""
    disk = pictures / "disk"
    mounted, away = disk / "2019", tmp_path / "away"
    disk.mkdir()
    (pictures / "kind=bad").rename(mounted)
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    mounted.rename(away)
    for dry_run in (True, False):
        kept = extract(
            pictures, tmp_path / "t", dry_run=dry_run, resume=pomona.Resume(prune=True)
        ).changes
        assert (kept.gone, kept.pruned, kept.missing_kept) == (0, 0, 4)
        assert dict(kept.absent_folders) == {str(disk): 4}
    away.rename(mounted)
    assert extract(pictures, tmp_path / "t", resume=pomona.Resume(prune=True)).skipped == 14
    mounted.rename(away)
    assert (
        extract(
            pictures, tmp_path / "t", resume=pomona.Resume(prune=True, gone=[disk])
        ).changes.pruned
        == 4
    )
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_pruning_keeps_the_rows_of_other_sources_and_other_globs(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "others").mkdir()
    draw(tmp_path / "others" / "a.png")
    pomona.extract(
        tmp_path / "others", tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    shutil.rmtree(tmp_path / "others")
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    for source in (pictures, f"{pictures}/P*"):
        summary = extract(
            source, tmp_path / "t", globs=["*.webp", "*.jpg"], resume=pomona.Resume(prune=True)
        )
        assert (summary.changes.gone, summary.changes.pruned) == (0, 0)
    summary = extract(f"{pictures}/A*", tmp_path / "t", resume=pomona.Resume(prune=True))
    assert (summary.changes.gone, summary.changes.pruned) == (1, 1)
    assert "a.png" in tables.rows(tmp_path / "t")
    assert tables.read(tmp_path / "t").num_rows == 14


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read any folder")
def test_pruning_keeps_the_rows_of_folders_that_cannot_be_listed(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    (pictures / "kind=bad").chmod(0)
    try:
        summary = extract(pictures, tmp_path / "t", resume=pomona.Resume(prune=True))
    finally:
        (pictures / "kind=bad").chmod(0o755)
    assert (summary.changes.pruned, len(summary.unlisted)) == (0, 1)
    assert tables.read(tmp_path / "t").num_rows == 14


def test_a_dry_run_reports_the_work_and_changes_nothing(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    draw(pictures / "new.png")
    draw(pictures / "Apple Red 1" / "image 3.jpg", 5)
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    resume = pomona.Resume(retry_failed=True, prune=True)
    planned = extract(pictures, tmp_path / "t", dry_run=True, resume=resume)
    assert {path: path.read_bytes() for path in (tmp_path / "t").iterdir()} == before
    summary = extract(pictures, tmp_path / "t", resume=resume)
    assert planned.changes == summary.changes
    assert (planned.ok, planned.failed, planned.dry_run) == (0, 0, True)
    assert (summary.changes.new, summary.changes.changed, summary.changes.retried) == (1, 1, 3)
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_a_dry_run_for_a_new_table_creates_no_folder(
    extract: Extract, pictures: Path, tmp_path: Path
) -> None:
    assert extract(pictures, tmp_path / "t", dry_run=True).changes.new == 14
    assert not (tmp_path / "t").exists()


def test_a_dry_run_is_refused_if_the_run_would_be(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(encoder, weights_sha256="8" * 64)
    pomona.extract(pictures, tmp_path / "t", encoder=other, engine=pomona.LocalEngine(workers=1))
    with pytest.raises(TableError, match="another encoder"):
        extract(pictures, tmp_path / "t", dry_run=True)
    assert (
        extract(
            pictures, tmp_path / "t", dry_run=True, resume=pomona.Resume(overwrite=True)
        ).changes.new
        == 14
    )


def test_a_path_with_two_rows_gets_one(
    extract: Extract, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    (part,) = (tmp_path / "t").iterdir()
    shutil.copy(part, part.with_name("part-copy.parquet"))
    extract(pictures, tmp_path / "t")
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_many_modified_files_are_set_aside_in_bounded_batches(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_SET_ASIDE", 3)
    monkeypatch.setattr(plan, "_LOOKED_UP", 2)
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    for path in pictures.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    rerun = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    assert (rerun.changes.changed, rerun.skipped) == (14, 0)
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_workers_that_cannot_start_lose_no_row(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    before = tables.read(tmp_path / "t")
    draw(pictures / "Apple Red 1" / "image 3.jpg", 2)
    draw(pictures / "new.png", 1)
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "openvino.py").write_text("raise ImportError('half installed')")
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path / "broken"))
        with pytest.raises(RunError, match="half installed"):
            pomona.extract(
                pictures,
                tmp_path / "t",
                encoder=encoder,
                resume=pomona.Resume(prune=True),
                engine=pomona.LocalEngine(workers=1),
            )
    assert tables.read(tmp_path / "t").equals(before)
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        resume=pomona.Resume(prune=True),
        engine=pomona.LocalEngine(workers=1),
    )
    assert summary.changes.to_do == 2
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_an_encoder_that_fails_its_parity_check_loses_no_row(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    before = tables.read(tmp_path / "t")
    for picture in pictures.rglob("*.*"):
        os.utime(picture, (1e9, 1e9))
    elsewhere = dataclasses.replace(encoder, probes=bytes(len(encoder.probes)))
    with pytest.raises(EncoderError, match="likely causes"):
        pomona.extract(
            pictures, tmp_path / "t", encoder=elsewhere, engine=pomona.LocalEngine(workers=1)
        )
    assert tables.read(tmp_path / "t").equals(before)


def test_a_run_that_fails_after_deleting_rows_loses_only_those(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    draw(pictures / "Apple Red 1" / "image 3.jpg", 2)

    def run(*_: object) -> None:
        raise RunError("it breaks now")

    with monkeypatch.context() as patched:
        patched.setattr(WorkerProcess, "run", run)
        with pytest.raises(RunError, match="it breaks now"):
            pomona.extract(
                pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
            )
    assert tables.read(tmp_path / "t").num_rows == 13
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert_equals_one_run(tmp_path / "t", pictures, encoder)


def test_a_file_replaced_between_listing_and_reading_is_redone_by_the_next_run(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plan.Plan.steps

    def steps(self: plan.Plan) -> object:
        remaining = list(real(self))
        draw(pictures / "Apple Red 1" / "image 3.jpg", 9)  # replaced
        os.truncate(pictures / "Apple Red 1" / "image 1.png", 100)  # cut off
        (pictures / "Apple Red 1" / "image 5.webp").unlink()  # deleted
        return iter(remaining)

    with monkeypatch.context() as patched:
        patched.setattr(plan.Plan, "steps", steps)
        first = pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
        )
    rows = tables.rows(tmp_path / "t")
    assert len(rows) == first.files == 14
    assert rows["image 5.webp"]["error"] == "cannot be read: No such file or directory"
    assert rows["image 1.png"]["status"] == "truncated"
    rerun = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        resume=pomona.Resume(prune=True),
        engine=pomona.LocalEngine(workers=1),
    )
    assert (rerun.changes.changed, rerun.changes.pruned) == (2, 1)
    assert_equals_one_run(tmp_path / "t", pictures, encoder)
