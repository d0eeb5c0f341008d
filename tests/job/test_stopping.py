"""Ctrl-C and SIGTERM: finished work is kept, and the same command finishes the rest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import drawn
import pomona
import tables
from places import TESTS
from pomona.encoder.encoder import Encoder
from pomona.progress import Snapshot
from pomona.runtime.registry import runtime_for
from pomona.source.image_file import look_at, read_batches
from pomona.source.labels import parse_label_rule
from pomona.worker.featurize import featurize

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

POISON = TESTS / "poison"

# The real command gets real signals: the first once the given number of images is done, and the
# second, if requested, once the run continues after the first.
SCRIPT = """
import os, signal, sys
from contextlib import contextmanager
import pomona.cli.progress

number, done, times, *command = sys.argv[1:]
left = int(times)

def show(snapshot):
    global left
    if left and snapshot.done >= int(done):
        left -= 1
        os.kill(os.getpid(), int(number))

@contextmanager
def bar():
    yield show

pomona.cli.progress.progress_bar = bar
from pomona.cli.main import main
main(command)
"""


def run(
    source: Path, table: Path, *options: str, number: int = signal.SIGINT, done: int, times: int = 1
) -> tuple[int, str]:
    command = ["extract", str(source), str(table), *options]
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(int(number)), str(done), str(times), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def kept(output: str) -> int:
    match = re.search(r"stopped: ([\d,]+) images? of this run (?:is|are) kept", output)
    assert match, output
    return int(match[1].replace(",", ""))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(600):
        (folder / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(30, 20, seed), "PNG"))
    return folder


@pytest.fixture
def encoder_file(encoder: Encoder, tmp_path: Path) -> str:
    encoder.save(tmp_path / "e")
    return str(tmp_path / "e")


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGTERM, 143)],
)
def test_a_signal_in_the_first_minute_keeps_finished_rows(
    pictures: Path, tmp_path: Path, encoder: Encoder, encoder_file: str, number: int, code: int
) -> None:
    table = tmp_path / "t"
    options = ("--encoder", encoder_file, "--workers", "2")
    completed, output = run(pictures, table, *options, number=number, done=20)
    assert completed == code
    assert "a second Ctrl-C or SIGTERM stops at once" in output
    before = tables.read(table)
    assert 20 <= len(before) < 600
    assert len(before) == kept(output)
    assert all(path.suffix == ".parquet" for path in table.iterdir())
    summary = pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=2))
    assert (summary.skipped, summary.ok) == (len(before), 600 - len(before))
    whole = pomona.extract(
        pictures, tmp_path / "whole", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    assert whole.ok == 600
    after, expected = tables.read(table), tables.read(tmp_path / "whole")
    assert after["path"].equals(expected["path"])  # no row is lost or duplicated
    assert after["features"].equals(expected["features"])


def test_a_signal_while_the_run_waits_for_its_workers_keeps_finished_rows(
    pictures: Path, tmp_path: Path, encoder_file: str
) -> None:
    """Ctrl-C nearly always arrives here: between two checks of the progress."""
    now = "os.kill(os.getpid(), int(number))"
    assert now in SCRIPT
    script = SCRIPT.replace(now, f"threading.Timer(0.02, lambda: {now}).start()")
    table = tmp_path / "t"
    command = ["extract", str(pictures), str(table), "--encoder", encoder_file, "--workers", "1"]
    completed = subprocess.run(
        [sys.executable, "-c", "import threading\n" + script, "2", "20", "1", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert completed.returncode == 130, completed.stderr
    assert len(tables.read(table)) == kept(completed.stderr) >= 20


def test_a_second_signal_stops_at_once_and_leaves_complete_files(
    tmp_path: Path, encoder: Encoder, encoder_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image hangs, so the first signal alone would wait for it."""
    source, table = tmp_path / "pictures", tmp_path / "t"
    source.mkdir()
    for seed in range(40):
        (source / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))
    (source / "stuck.png").write_bytes(drawn.encode(drawn.picture(17, 17), "PNG"))
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    options = ("--encoder", encoder_file, "--workers", "1", "--image-timeout", "10000")
    completed, output = run(source, table, *options, done=1, times=2)
    assert completed == 130
    assert "stopped" in output
    assert not list(table.glob("_staging*"))
    assert all(path.suffix == ".parquet" for path in table.glob("*"))
    monkeypatch.delenv("PYTHONPATH")
    pomona.extract(source, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert len(tables.rows(table)) == 41


def test_a_signal_before_the_first_image_reports_that_none_is_kept(
    pictures: Path, tmp_path: Path, encoder_file: str
) -> None:
    completed, output = run(pictures, tmp_path / "t", "--encoder", encoder_file, done=0)
    assert completed == 130
    assert "no image of this run was done" in output
    assert not (tmp_path / "t").exists()


def test_a_signal_to_the_whole_process_group_loses_nothing(
    pictures: Path, tmp_path: Path, encoder_file: str
) -> None:
    """Service managers send signals this way: the workers get them too."""
    table = tmp_path / "t"
    script = SCRIPT.replace("os.kill(os.getpid(), int(number))", "everyone(int(number))")
    script = (
        "import os, subprocess\n"
        "def everyone(number):\n"
        "    found = subprocess.run(['ps', '-o', 'pid=,args=', '--ppid', str(os.getpid())],\n"
        "                           capture_output=True, text=True).stdout\n"
        "    for line in found.splitlines():\n"
        "        if 'worker_main' in line:\n"
        "            os.kill(int(line.split()[0]), number)\n"
        "    os.kill(os.getpid(), number)\n"
    ) + script
    command = ["extract", str(pictures), str(table), "--encoder", encoder_file, "--workers", "2"]
    completed = subprocess.run(
        [sys.executable, "-c", script, str(int(signal.SIGTERM)), "20", "1", *command],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
        timeout=300,
    )
    assert completed.returncode == 143
    assert len(tables.read(table)) == kept(completed.stderr) >= 20


def test_a_single_image_is_reported_in_the_singular(tmp_path: Path, encoder_file: str) -> None:
    source = tmp_path / "one"
    source.mkdir()
    (source / "a.png").write_bytes(drawn.encode(drawn.picture(9, 9), "PNG"))
    completed, output = run(source, tmp_path / "t", "--encoder", encoder_file, done=1)
    assert completed == 130
    assert "1 image of this run is kept in" in output


@pytest.mark.spark
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)],
)
def test_spark_keeps_finished_rows_if_its_whole_process_group_gets_the_signal(
    pictures: Path, tmp_path: Path, encoder: Encoder, encoder_file: str, number: int, code: int
) -> None:
    """Terminals send Ctrl-C this way, and `timeout` SIGTERM."""
    to_all = "os.killpg(0, int(number))"
    completed, output = run_on_spark(pictures, tmp_path / "t", encoder_file, to_all, number)
    assert completed == code, output
    assert "Traceback" not in output
    before = tables.read(tmp_path / "t")
    assert len(before) == kept(output) > 0
    assert all(path.suffix == ".parquet" for path in (tmp_path / "t").iterdir())
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    assert (summary.skipped, summary.ok) == (len(before), 600 - len(before))
    assert len(tables.rows(tmp_path / "t")) == 600


@pytest.mark.long
@pytest.mark.spark
def test_kept_rows_are_reported_even_if_the_signal_ends_the_jvm_of_spark(
    pictures: Path, tmp_path: Path, encoder: Encoder, encoder_file: str
) -> None:
    """systemd sends the signal to every process of a service."""
    to_all = "end_the_jvm(); os.kill(os.getpid(), int(number))"
    table = tmp_path / "t"
    completed, output = run_on_spark(
        pictures, table, encoder_file, to_all, signal.SIGTERM, done=250
    )
    assert completed == 143, output
    kept_rows = len(tables.read(table))
    assert kept_rows == kept(output) > 0
    summary = pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=2))
    assert (summary.skipped, len(tables.rows(table))) == (kept_rows, 600)


def run_on_spark(
    source: Path, table: Path, encoder_file: str, how: str, number: int, done: int = 1
) -> tuple[int, str]:
    """Run extract in waves of 100 images; `how` is the code that sends the signal."""
    script = """
def end_the_jvm():
    from pyspark import SparkContext
    process = SparkContext._gateway.proc
    process.terminate()
    process.wait()
""" + SCRIPT.replace("os.kill(os.getpid(), int(number))", how)
    options = ["--encoder", encoder_file, "--master", "local[2]", "--wave-files", "100"]
    completed = subprocess.run(
        [
            *(sys.executable, "-c", script, str(int(number)), str(done), "1"),
            *("extract", str(source), str(table), *options),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        start_new_session=True,
    )
    return completed.returncode, completed.stderr


def test_a_worker_stopped_within_a_batch_returns_its_finished_rows(
    encoder: Encoder, pictures: Path
) -> None:
    """A batch may hold 64 images, for which a slow network needs a minute."""
    files = [look_at(str(path)) for path in sorted(pictures.iterdir())[:9]]
    batches = list(read_batches(files, parse_label_rule("none")))
    asked = iter([False] * 4 + [True] * 100)
    stopped = list(featurize(iter(batches), runtime_for(encoder), stopped=lambda: next(asked)))
    (whole,) = featurize(iter(batches), runtime_for(encoder))
    assert len(batches) == 1
    assert [row.num_rows for row in stopped] == [4]
    assert stopped[0].equals(whole.slice(0, 4))


class _Stop:
    """Progress that stops a run while a task is blocked, and releases that task later.

    Args:
        folder: for files that signal both.
        signals: how many stops to send; the second follows once the run continues after the first.
    """

    def __init__(self, folder: Path, signals: int = 1) -> None:
        self._held, self._released = folder / "held", folder / "released"
        self._left = signals

    def rule(self) -> Callable[[str], str]:
        """A label rule that blocks the task of the very first image until it is released."""
        driver, held, released = os.getpid(), str(self._held), str(self._released)

        class Blocking:  # not importable on the workers, so its code is shipped
            def __call__(self, _path: str) -> str:
                if os.getpid() != driver:
                    try:
                        os.close(os.open(held, os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        return "quick"
                    until = time.monotonic() + 200
                    while not Path(released).exists() and time.monotonic() < until:
                        time.sleep(0.05)
                return "held"

        return Blocking()

    def __call__(self, snapshot: Snapshot) -> None:
        if not self._held.exists() or not snapshot.done:
            return
        if self._left:
            self._left -= 1
            raise KeyboardInterrupt
        self._released.touch()


@pytest.fixture
def stop_remote_run(
    spark: SparkSession,
    remote: str,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Callable[[int], tuple[list[str | None], str]]:
    """Stop and continue a run of 120 images in waves of 20; return kept labels and output."""
    monkeypatch.setattr("pomona.spark.file_shares._SMALLEST_TASK", 2)
    source = tmp_path / "source"
    source.mkdir()
    for seed in range(120):
        (source / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))

    def run(signals: int) -> tuple[list[str | None], str]:
        stop = _Stop(tmp_path, signals)
        with monkeypatch.context() as patched:
            patched.setattr("pomona.source.label_rule.parse_label_rule", lambda _: stop.rule())
            with pytest.raises(KeyboardInterrupt) as caught:
                pomona.extract(
                    source,
                    f"{remote}/far",
                    encoder=encoder,
                    progress=stop,
                    engine=pomona.SparkEngine(spark=spark, wave_files=20),
                )
        kept = tables.read(tmp_path / "far")["label"].to_pylist() if stop_kept(caught) else []
        assert not list((tmp_path / "far").glob("_*"))
        again = pomona.extract(
            source, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )
        done = again.ok + again.changes.taken_over  # some pictures have identical bytes
        assert (again.skipped, done) == (len(kept), 120 - len(kept))
        assert len(tables.rows(tmp_path / "far")) == 120
        (note,) = caught.value.__notes__
        assert note.startswith(f"{len(kept)} images" if kept else "no image"), note
        return kept, caplog.text

    def stop_kept(caught: pytest.ExceptionInfo[KeyboardInterrupt]) -> bool:
        return "kept" in caught.value.__notes__[0]

    return run


@pytest.mark.spark
def test_waves_of_a_local_master_end_early_and_are_kept_in_a_remote_table(
    stop_remote_run: Callable[[int], tuple[list[str | None], str]], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path))
        kept, output = stop_remote_run(1)
        assert not list(tmp_path.glob("pomona-*"))
    assert 0 < len(kept) < 60
    assert set(kept) == {"quick"}  # the blocked task has started no image
    assert "stopping after the images in hand" in output


@pytest.mark.spark
def test_waves_of_a_cluster_finish_and_are_kept_in_a_remote_table(
    stop_remote_run: Callable[[int], tuple[list[str | None], str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pomona.spark.storage.hadoop.table.has_workers_here", lambda _: False)
    kept, output = stop_remote_run(1)
    assert len(kept) in {20, 40, 60}  # whole waves: the running ones and one finished wave
    assert "held" in kept
    match = re.search(r"stopping after the running waves, (\d+) images: .* a second Ctrl-C", output)
    assert match, output
    assert int(match[1]) in {20, 40}


@pytest.mark.spark
def test_a_second_signal_cancels_the_waves_of_a_cluster(
    stop_remote_run: Callable[[int], tuple[list[str | None], str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pomona.spark.storage.hadoop.table.has_workers_here", lambda _: False)
    kept, _ = stop_remote_run(2)
    assert len(kept) in {0, 20, 40}
    assert "held" not in kept
