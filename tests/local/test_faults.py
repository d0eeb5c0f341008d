"""Real faults on the embedded engine: kills at random moments, full disks, missing permissions."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import faults
import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.source.labels import parse_label_rule
from pomona.table.writer import writing
from pomona.worker.prepare import EXACT


@pytest.fixture(scope="module")
def expected(
    encoder: Encoder, faulty_pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pa.Table, float]:
    """The correct rows, and the duration of a run in seconds."""
    started = time.monotonic()
    table = faults.expected_table(faulty_pictures, tmp_path_factory.mktemp("right") / "t", encoder)
    return table, time.monotonic() - started


def command(pictures: Path, table: Path, encoder_file: Path) -> list[str]:
    return [*faults.COMMAND, "extract", str(pictures), str(table), "--encoder", str(encoder_file)]


def run(pictures: Path, table: Path, encoder_file: Path) -> None:
    """A run without faults."""
    subprocess.run(command(pictures, table, encoder_file), capture_output=True, check=True)


def test_a_killed_parent_loses_no_row(
    expected: tuple[pa.Table, float], faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    correct_rows, duration_s = expected
    for number, moment in enumerate(faults.moments(1, 1.5 + duration_s)):
        table = tmp_path / f"t{number}"
        fresh = command(faulty_pictures, table, encoder_file)
        faults.kill_at(moment, "parent", fresh, undo=lambda table=table: shutil.rmtree(table))
        faults.assert_consistent(table, correct_rows)
        # Its workers may still run: they must not disturb a run that follows at once.
        run(faulty_pictures, table, encoder_file)
        faults.assert_complete(table, correct_rows)


def test_a_run_killed_repeatedly_still_finishes(
    expected: tuple[pa.Table, float], faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    correct_rows, duration_s = expected
    table = tmp_path / "t"
    for moment in faults.moments(2, 1.5 + duration_s):
        fresh = command(faulty_pictures, table, encoder_file)
        faults.kill_at(moment, "parent, again", fresh, undo=lambda: shutil.rmtree(table))
        faults.assert_consistent(table, correct_rows)
    run(faulty_pictures, table, encoder_file)
    faults.assert_complete(table, correct_rows)


def test_a_killed_run_over_images_in_parquet_loses_no_row(
    encoder: Encoder, faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    paths = sorted(path for path in faulty_pictures.rglob("*") if path.is_file())
    names = [str(path.relative_to(faulty_pictures)) for path in paths]
    contents = pa.array([path.read_bytes() for path in paths], pa.binary())
    images, table = tmp_path / "images.parquet", tmp_path / "t"
    pq.write_table(pa.table({"id": names, "data": contents}), images, row_group_size=50)
    columns = {"image_column": "data", "key_column": "id"}
    started = time.monotonic()
    correct_rows = faults.expected_table(images, tmp_path / "right", encoder, **columns)
    duration_s = time.monotonic() - started
    options = ["--image-column", "data", "--key-column", "id"]
    fresh = command(images, table, encoder_file) + options
    for moment in faults.moments(8, 1.5 + duration_s):
        faults.kill_at(moment, "parent over Parquet", fresh, undo=lambda: shutil.rmtree(table))
        faults.assert_consistent(table, correct_rows)
    subprocess.run(fresh, capture_output=True, check=True)
    faults.assert_complete(table, correct_rows)


def test_killed_workers_lose_no_row(
    expected: tuple[pa.Table, float], encoder: Encoder, faulty_pictures: Path, tmp_path: Path
) -> None:
    correct_rows, duration_s = expected
    rng = random.Random(3)

    def workers() -> list[int]:
        here = faults.below(os.getpid())
        return [p.pid for p in here if "worker_main" in p.command]

    def kill_one(after_s: float, killed: list[int]) -> None:
        faults.wait_for(workers)
        time.sleep(after_s)
        if candidates := workers():
            killed.append(rng.choice(candidates))
            faults.kill(killed[0], "worker")

    for number, first_moment in enumerate(faults.moments(3, duration_s)):
        table, moment, killed = tmp_path / f"t{number}", first_moment, []
        while not killed:
            shutil.rmtree(table, ignore_errors=True)
            striker = threading.Thread(target=kill_one, args=(moment, killed))
            striker.start()
            summary = pomona.extract(
                faulty_pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=2)
            )
            striker.join()
            moment *= 0.8
        assert summary.by_status["crashed"] == 0
        faults.assert_complete(table, correct_rows)


def test_a_kill_during_replacement_of_changed_rows_loses_no_row(
    encoder: Encoder, tmp_path: Path, encoder_file: Path
) -> None:
    pictures = faults.draw(tmp_path / "pictures", 120)
    table = tmp_path / "t"
    for number, moment in enumerate(faults.moments(4, 3.0)):
        pomona.extract(pictures, table, encoder=encoder)
        shutil.copytree(table, tmp_path / f"old{number}")
        for n in range(0, 120, 7):
            path = pictures / f"class {n % 3}" / f"picture {n}.png"
            path.write_bytes(drawn.encode(drawn.picture(24, 18, 1000 * number + n), "PNG"))
            os.utime(path, (1e9 + number, 1e9 + number))
        correct_rows = faults.expected_table(pictures, tmp_path / f"right{number}", encoder)

        def undo(number: int = number) -> None:
            shutil.rmtree(table)
            shutil.copytree(tmp_path / f"old{number}", table)

        fresh = command(pictures, table, encoder_file)
        faults.kill_at(moment, "parent that replaces rows", fresh, undo=undo)
        run(pictures, table, encoder_file)
        faults.assert_complete(table, correct_rows)


def test_a_kill_during_relabelling_neither_loses_nor_duplicates_rows(
    expected: tuple[pa.Table, float], faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    table, correct_rows = tmp_path / "t", expected[0]
    run(faulty_pictures, table, encoder_file)
    rules = ["parent", r"regex:(\d+)"]
    for number, moment in enumerate(faults.moments(6, 1.5)):
        rule = rules[1 - number % 2]
        shutil.rmtree(tmp_path / "before", ignore_errors=True)
        shutil.copytree(table, tmp_path / "before")

        def undo() -> None:
            shutil.rmtree(table)
            shutil.copytree(tmp_path / "before", table)

        change = [*command(faulty_pictures, table, encoder_file), "--label", rule]
        faults.kill_at(moment, "parent that changes labels", change, undo=undo)
        rows = tables.read(table)
        assert rows.drop_columns("label").equals(correct_rows.drop_columns("label"))
        subprocess.run(change, capture_output=True, check=True)
        rule_of = parse_label_rule(rule)
        rows = tables.read(table)
        assert rows["label"].to_pylist() == [rule_of(path) for path in rows["path"].to_pylist()]
        assert rows.drop_columns("label").equals(correct_rows.drop_columns("label"))
        assert {path.suffix for path in table.iterdir()} <= {".parquet", ".json"}


def test_a_kill_during_overwrite_leaves_old_rows_or_new_ones(
    encoder: Encoder, tmp_path: Path, encoder_file: Path
) -> None:
    """The kill decides which of the two; the next run without --overwrite completes either."""
    pictures = faults.draw(tmp_path / "pictures", 120)
    old = faults.expected_table(pictures, tmp_path / "old", encoder)
    for number, moment in enumerate(faults.moments(5, 3.0)):
        table = tmp_path / f"t{number}"

        def again(table: Path = table) -> None:
            shutil.rmtree(table, ignore_errors=True)
            shutil.copytree(tmp_path / "old", table)

        again()
        fresh = [*command(pictures, table, encoder_file), "--overwrite"]
        faults.kill_at(moment, "parent that overwrites", fresh, undo=again)
        faults.assert_consistent(table, old)
        run(pictures, table, encoder_file)
        faults.assert_complete(table, old)


def test_of_two_runs_on_one_table_one_is_refused_and_the_other_succeeds(
    encoder: Encoder, faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    made_by = {**encoder.provenance(), **EXACT.provenance()}
    with writing(pomona.FeatureTable(tmp_path / "t"), made_by, overwrite=False):
        second = subprocess.run(
            command(faulty_pictures, tmp_path / "t", encoder_file),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert "another run is writing" in second.stderr
    run(faulty_pictures, tmp_path / "t", encoder_file)
    assert tables.read(tmp_path / "t").num_rows == faults.PICTURES + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB: enough for the encoder, but not for all rows."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_the_run_with_one_line_and_loses_no_row(
    expected: tuple[pa.Table, float], faulty_pictures: Path, small_disk: Path, encoder_file: Path
) -> None:
    ballast = small_disk / "ballast"
    room = shutil.disk_usage(small_disk).free - encoder_file.stat().st_size
    ballast.write_bytes(bytes(room - 700_000))
    table = small_disk / "t"
    first = subprocess.run(
        command(faulty_pictures, table, encoder_file), capture_output=True, text=True, check=False
    )
    assert first.returncode == 1
    assert first.stderr.count("\n") == 1
    assert "No space left on device" in first.stderr
    faults.assert_consistent(table, expected[0])
    assert not list(small_disk.glob("t/_staging-*"))
    ballast.unlink()
    subprocess.run(command(faulty_pictures, table, encoder_file), capture_output=True, check=True)
    faults.assert_complete(table, expected[0])


def test_a_read_only_target_is_refused_in_one_line(
    faulty_pictures: Path, small_disk: Path, encoder_file: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    completed = subprocess.run(
        command(faulty_pictures, small_disk / "t", encoder_file),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (completed.returncode, completed.stderr.count("\n")) == (2, 1)
    assert "no permission to write" in completed.stderr


def test_an_unreadable_folder_is_named_and_keeps_its_rows(
    encoder: Encoder, tmp_path: Path, encoder_file: Path
) -> None:
    pictures = faults.draw(tmp_path / "pictures", 30)
    correct_rows = faults.expected_table(pictures, tmp_path / "t", encoder)
    secret = pictures / "class 2"
    # Root can read any folder unless it drops this capability.
    plainly = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may look into any folder, and setpriv is not here")
    prefix = plainly if os.geteuid() == 0 else []
    (pictures / "class 1" / "picture 1.png").unlink()
    secret.chmod(0)
    try:
        completed = subprocess.run(
            [*prefix, *command(pictures, tmp_path / "t", encoder_file), "--prune", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        secret.chmod(0o755)
    assert f"cannot list {secret}: Permission denied" in completed.stderr
    assert f'"unlisted": ["{secret}: Permission denied"]' in completed.stdout
    assert '"pruned": 1' in completed.stdout
    assert tables.read(tmp_path / "t").num_rows == correct_rows.num_rows - 1
