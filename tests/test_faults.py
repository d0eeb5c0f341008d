"""Real faults on the embedded engine: kills at random moments, full disks, closed doors."""

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
import pytest

import drawn
import faults
import pomona
import tables
from pomona.encoder.blob import Encoder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.draw(tmp_path_factory.mktemp("faults") / "pictures")


@pytest.fixture(scope="module")
def encoder_file(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "encoder"
    encoder.save(path)
    return path


@pytest.fixture(scope="module")
def expected(
    encoder: Encoder, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pa.Table, float]:
    """The right rows, and the seconds that a run takes."""
    started = time.monotonic()
    found = faults.made_anew(pictures, tmp_path_factory.mktemp("right") / "t", encoder)
    return found, time.monotonic() - started


def command(pictures: Path, table: Path, encoder_file: Path) -> list[str]:
    return [*faults.COMMAND, "extract", str(pictures), str(table), "--encoder", str(encoder_file)]


def test_a_killed_parent_costs_no_row(
    expected: tuple[pa.Table, float], pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    right, lasts_s = expected
    for number, moment in enumerate(faults.moments(1, 1.5 + lasts_s)):
        table = tmp_path / f"t{number}"
        with faults.running(command(pictures, table, encoder_file)):
            time.sleep(moment)
        faults.assert_sound(table, right)
        # Its workers may still be there: they must not disturb the run that follows at once.
        subprocess.run(command(pictures, table, encoder_file), capture_output=True, check=True)
        faults.assert_whole(table, right)


def test_killed_again_and_again_a_run_still_comes_to_its_end(
    expected: tuple[pa.Table, float], pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    right, lasts_s = expected
    for moment in faults.moments(2, 1.5 + lasts_s):
        with faults.running(command(pictures, tmp_path / "t", encoder_file)):
            time.sleep(moment)
        faults.assert_sound(tmp_path / "t", right)
    subprocess.run(command(pictures, tmp_path / "t", encoder_file), capture_output=True, check=True)
    faults.assert_whole(tmp_path / "t", right)


def test_killed_workers_cost_no_row(
    expected: tuple[pa.Table, float], encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    right, lasts_s = expected
    rng = random.Random(3)
    for number, moment in enumerate(faults.moments(3, lasts_s)):
        killed: list[int] = []

        def strike(after_s: float, killed: list[int] = killed) -> None:
            time.sleep(after_s)
            workers = faults.processes(
                lambda _, parent, line: parent == os.getpid() and "worker_main" in line
            )
            if workers:
                killed.append(rng.choice(workers))
                faults.kill(killed[0])

        striker = threading.Thread(target=strike, args=(moment,))
        striker.start()
        table = tmp_path / f"t{number}"
        summary = pomona.extract(pictures, table, encoder=encoder, workers=2)
        striker.join()
        assert summary.by_status["crashed"] == 0
        faults.assert_whole(table, right)


def test_a_kill_while_changed_rows_are_replaced_costs_no_row(
    encoder: Encoder, tmp_path: Path, encoder_file: Path
) -> None:
    pictures = faults.draw(tmp_path / "pictures", 120)
    for number, moment in enumerate(faults.moments(4, 3.0)):
        pomona.extract(pictures, tmp_path / "t", encoder=encoder)
        for n in range(0, 120, 7):
            path = pictures / f"class {n % 3}" / f"picture {n}.png"
            path.write_bytes(drawn.encode(drawn.picture(24, 18, 1000 * number + n), "PNG"))
            os.utime(path, (1e9 + number, 1e9 + number))
        right = faults.made_anew(pictures, tmp_path / f"right{number}", encoder)
        with faults.running(command(pictures, tmp_path / "t", encoder_file)):
            time.sleep(moment)
        subprocess.run(
            command(pictures, tmp_path / "t", encoder_file), capture_output=True, check=True
        )
        faults.assert_whole(tmp_path / "t", right)


def test_of_two_runs_on_one_table_one_is_refused_and_the_other_ends_well(
    expected: tuple[pa.Table, float], pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    both = command(pictures, tmp_path / "t", encoder_file)
    with faults.running(both) as first:
        faults.wait_for(lambda: list(tmp_path.glob("t/_staging-*")))
        second = subprocess.run(both, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "another run is writing" in second.stderr
        _, said = first.communicate()
        assert first.returncode == 0, said
    faults.assert_whole(tmp_path / "t", expected[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB: room for the encoder, and not for all rows."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_costs_no_row(
    expected: tuple[pa.Table, float], pictures: Path, small_disk: Path, encoder_file: Path
) -> None:
    ballast = small_disk / "ballast"
    room = shutil.disk_usage(small_disk).free - encoder_file.stat().st_size
    ballast.write_bytes(bytes(room - 700_000))
    table = small_disk / "t"
    first = subprocess.run(
        command(pictures, table, encoder_file), capture_output=True, text=True, check=False
    )
    assert first.returncode == 1
    assert first.stderr.count("\n") == 1
    assert "No space left on device" in first.stderr
    faults.assert_sound(table, expected[0])
    assert not list(small_disk.glob("t/_staging-*"))
    ballast.unlink()
    subprocess.run(command(pictures, table, encoder_file), capture_output=True, check=True)
    faults.assert_whole(table, expected[0])


def test_a_read_only_target_is_refused_in_one_line(
    pictures: Path, small_disk: Path, encoder_file: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = subprocess.run(
        command(pictures, small_disk / "t", encoder_file),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no permission to write" in done.stderr


def test_a_folder_that_may_not_be_listed_is_named_and_keeps_its_rows(
    encoder: Encoder, tmp_path: Path, encoder_file: Path
) -> None:
    pictures = faults.draw(tmp_path / "pictures", 30)
    right = faults.made_anew(pictures, tmp_path / "t", encoder)
    secret = pictures / "class 2"
    # Root may look into any folder, unless it gives that up.
    plainly = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may look into any folder, and setpriv is not here")
    prefix = plainly if os.geteuid() == 0 else []
    (pictures / "class 1" / "picture 1.png").unlink()
    secret.chmod(0)
    try:
        done = subprocess.run(
            [*prefix, *command(pictures, tmp_path / "t", encoder_file), "--prune", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        secret.chmod(0o755)
    assert f"cannot list {secret}: Permission denied" in done.stderr
    assert f'"unlisted": ["{secret}: Permission denied"]' in done.stdout
    assert '"pruned": 1' in done.stdout
    assert tables.read(tmp_path / "t").num_rows == right.num_rows - 1
