"""A moved folder is not computed again, and its old rows can be deleted safely."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from pomona.cli.main import main
from pomona.encoder.encoder import Encoder
from pomona.errors import UsageError
from pomona.job.summary import Summary
from pomona.worker.prepare import DecodeOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures and one file that is not an image, each with a different size."""
    folder = tmp_path / "old" / "photos"
    folder.mkdir(parents=True)
    for n in range(3):
        (folder / f"{n}.png").write_bytes(drawn.encode(drawn.picture(12 + n, 9, n), "PNG"))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_moved_folder_is_reused_and_its_old_rows_are_deleted(
    extract: Callable[..., Summary], encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    pomona.extract(folder, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    moved = tmp_path / "new"
    folder.rename(moved)
    for file in moved.iterdir():
        os.utime(file, (1e9, 1e9))  # a copy has a different time
    planned = extract(moved, table, dry_run=True, resume=pomona.Resume(prune=True, missing=True))
    assert tables.read(table).num_rows == 4
    summary = extract(moved, table, resume=pomona.Resume(prune=True, missing=True))
    assert planned.changes == summary.changes
    assert (summary.changes.taken_over, summary.changes.new, summary.changes.missing) == (3, 1, 3)
    assert (summary.ok, summary.failed) == (0, 1)
    # This run computed the file without a vector again, so the next run knows its digest.
    assert (
        extract(moved, table, resume=pomona.Resume(prune=True, missing=True)).changes.missing == 1
    )
    pomona.extract(moved, tmp_path / "fresh", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert tables.read(table).equals(tables.read(tmp_path / "fresh"))


def test_the_network_is_not_loaded_if_all_rows_are_reused(
    extract: Callable[..., Summary], encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").unlink()
    pomona.extract(folder, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    moved = folder.rename(tmp_path / "new")
    summary = extract(moved, tmp_path / "t")
    assert (summary.changes.taken_over, summary.model_loads, summary.ok) == (3, 0, 0)
    assert tables.read(tmp_path / "t").num_rows == 6  # without --prune the old rows stay


def test_files_of_the_same_size_with_other_bytes_are_computed(
    encoder: Encoder, tmp_path: Path
) -> None:
    for n, name in enumerate(["old", "new"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bmp").write_bytes(drawn.encode(drawn.picture(9, 9, n), "BMP"))
    pomona.extract(
        tmp_path / "old", tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    summary = pomona.extract(
        tmp_path / "new", tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    assert (summary.changes.taken_over, summary.changes.new, summary.ok) == (0, 1, 1)


def test_a_vector_is_not_reused_for_an_image_that_is_now_too_large(
    encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    pomona.extract(folder, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    moved = folder.rename(tmp_path / "new")
    small = DecodeOptions(max_pixels=12 * 9)
    summary = pomona.extract(
        moved, tmp_path / "t", encoder=encoder, decode=small, engine=pomona.LocalEngine(workers=1)
    )
    assert (summary.changes.taken_over, summary.by_status["too_large"]) == (1, 2)


def test_rows_below_an_absent_folder_stay_unless_you_name_it(
    encoder: Encoder, folder: Path, pictures: Path, tmp_path: Path
) -> None:
    """The folder may be an unmounted disk: then it is empty or does not exist."""

    def run(**more: object) -> Summary:
        return pomona.extract(
            pictures,
            tmp_path / "t",
            encoder=encoder,
            resume=pomona.Resume(prune=True, missing=True, **more),
        )

    pomona.extract(folder, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    disk = folder.rename(tmp_path / "disk")
    kept = run().changes
    assert (kept.missing, kept.missing_kept) == (0, 4)
    assert dict(kept.absent_folders) == {str(folder.parent): 4}  # this folder is empty now
    folder.mkdir()
    assert run().changes.missing_kept == 4
    folder.rmdir()
    folder.parent.rmdir()
    assert dict(run().changes.absent_folders) == {str(folder.parent): 4}
    shutil.copytree(disk, folder)
    (folder / "0.png").unlink()  # now the disk is mounted, and one file is missing
    one = run().changes
    assert (one.missing, one.pruned, one.missing_kept) == (1, 1, 0)
    shutil.rmtree(folder)
    assert run(gone=[folder.parent]).changes.missing == 3
    assert tables.read(tmp_path / "t")["path"].to_pylist() == [
        path for path in tables.read(tmp_path / "t")["path"].to_pylist() if str(pictures) in path
    ]


def test_rows_of_existing_files_stay_for_any_source(
    encoder: Encoder, folder: Path, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(folder, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    before = tables.read(tmp_path / "t").num_rows
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        resume=pomona.Resume(prune=True, missing=True),
        engine=pomona.LocalEngine(workers=1),
    )
    assert (summary.changes.missing, summary.changes.pruned) == (0, 0)
    assert tables.read(tmp_path / "t").num_rows == before + summary.files


def test_an_empty_name_is_not_an_absent_folder(
    encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="'' is not a folder"):
        pomona.extract(
            folder,
            tmp_path / "t",
            encoder=encoder,
            resume=pomona.Resume(prune=True, gone=[""]),
            engine=pomona.LocalEngine(workers=1),
        )


@pytest.mark.parametrize("more", [{"missing": True}, {"gone": ["/x"]}, {"gone": "/x"}])
def test_options_that_depend_on_each_other_are_required_together(
    encoder: Encoder, folder: Path, tmp_path: Path, more: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="`(missing|gone)` goes with `prune`"):
        pomona.extract(folder, tmp_path / "t", encoder=encoder, resume=pomona.Resume(**more))


def test_a_kept_row_is_reported_with_its_folder_and_without_advice_to_prune(
    encoder: Encoder, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder.save(tmp_path / "e")
    (folder / "a disk").mkdir()
    (folder / "0.png").rename(folder / "a disk" / "0.png")
    command = ["extract", str(folder), str(tmp_path / "t"), "--encoder", str(tmp_path / "e")]
    outputs = []
    for more in ([], ["--prune"]):
        with pytest.raises(SystemExit) as exit_info:
            main([*command, *more])
        assert not exit_info.value.code
        outputs.append(capfd.readouterr().out)
        (folder / "a disk" / "0.png").unlink(missing_ok=True)
    assert "kept: 1 row whose folder does not exist or is empty" in outputs[1]
    assert f"--gone '{folder / 'a disk'}'" in outputs[1]
    assert "--prune" not in outputs[1]


def test_missing_rows_are_found_even_if_all_rows_of_a_part_file_are_recomputed(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    one_worker = pomona.LocalEngine(workers=1)
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=one_worker)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(drawn.encode(drawn.picture(20, 20, 71), "PNG"))
    pomona.extract(other, tmp_path / "t", encoder=encoder, engine=one_worker)
    for path in filter(Path.is_file, pictures.rglob("*")):
        os.utime(path, (1e9, 1e9))
    shutil.rmtree(other)
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        engine=one_worker,
        resume=pomona.Resume(prune=True, missing=True, gone=[other]),
    )
    assert (summary.changes.changed, summary.changes.missing) == (14, 1)
    assert len(tables.rows(tmp_path / "t")) == 14
