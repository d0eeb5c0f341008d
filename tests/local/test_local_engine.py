from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import drawn
import pomona
import tables
from places import POISON
from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError, RunError, SourceError, TableError
from pomona.local import run as local
from pomona.processes.crash_policy import ENDS_IN_A_ROW
from pomona.processes.worker_client import State, WorkerProcess
from pomona.progress import Snapshot
from pomona.table.writer import TableWriter

STATUSES = {
    "empty.jpg": "empty",
    "half.JPG": "truncated",
    "page.png": "unsupported",
}


def test_every_file_gets_its_row(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    rows = tables.rows(tmp_path / "t")
    assert len(rows) == summary.files == 14
    assert {name: row["status"] for name, row in rows.items() if row["status"] != "ok"} == STATUSES
    assert (summary.ok, summary.failed, summary.skipped) == (11, 3, 0)
    assert rows["image 3.jpg"]["path"] == f"file:{pictures}/Apple Red 1/image 3.jpg"
    assert rows["image 2.webp"]["label"] == "Poire d'été"
    assert rows["image 2.webp"]["format"] == "WEBP"


@pytest.mark.parametrize(
    ("engine", "wrong"),
    [
        (pomona.LocalEngine, {"workers": 0}),
        (pomona.LocalEngine, {"workers": -1}),
        (pomona.LocalEngine, {"image_timeout_s": 0.0}),
        (pomona.LocalEngine, {"image_timeout_s": float("nan")}),
        (pomona.SparkEngine, {"wave_files": 0}),
        (pomona.SparkEngine, {"delivery": "pigeon"}),
    ],
)
def test_invalid_engine_settings_are_refused(
    engine: Callable[..., object], wrong: dict[str, Any]
) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(EngineError, match=f"{name} is {value!r}: give"):
        engine(**wrong)


def test_a_spark_engine_takes_either_a_session_or_a_master() -> None:
    session: Any = object()
    with pytest.raises(EngineError, match=r"`spark` and `master` 'local\[2\]' are given together"):
        pomona.SparkEngine(spark=session, master="local[2]")
    assert pomona.SparkEngine(spark=session).master is None
    url: Any = "local[2]"
    with pytest.raises(EngineError, match="give a session, or a URL as `master`"):
        pomona.SparkEngine(spark=url)
    assert pomona.SparkEngine(master="local[2]").spark is None


def test_a_disk_error_ends_a_run_with_a_pomona_error(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "part.parquet")

    monkeypatch.setattr(TableWriter, "commit", commit)
    with pytest.raises(RunError, match="^part.parquet: Input/output error; rows written so far"):
        pomona.extract(pictures, tmp_path / "t", encoder=encoder)


def test_only_part_files_remain(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2))
    assert {path.suffix for path in (tmp_path / "t").iterdir()} == {".parquet"}


def test_the_number_of_workers_does_not_change_the_rows(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(
        pictures, tmp_path / "one", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    pomona.extract(
        pictures, tmp_path / "three", encoder=encoder, engine=pomona.LocalEngine(workers=3)
    )
    assert tables.read(tmp_path / "one").equals(tables.read(tmp_path / "three"))


def test_each_process_loads_the_model_once(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    for seed in range(200):  # many chunks per process
        (pictures / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    assert summary.model_loads == 2
    assert summary.ok == 211


def test_a_second_run_does_only_missing_work(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder)
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    rerun = pomona.extract(pictures, tmp_path / "t", encoder=encoder)
    assert (rerun.files, rerun.ok, rerun.skipped) == (15, 1, 14)
    assert len(tables.rows(tmp_path / "t")) == 15


def test_a_run_with_nothing_to_do_changes_nothing(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder)
    before = sorted((tmp_path / "t").iterdir())
    rerun = pomona.extract(pictures, tmp_path / "t", encoder=encoder)
    assert (rerun.ok, rerun.skipped, sorted((tmp_path / "t").iterdir())) == (0, 14, before)


def test_a_single_pattern_needs_no_list(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    chosen = len(list(pictures.rglob("*.jpeg")))
    assert pomona.extract(pictures, tmp_path / "t", encoder=encoder, globs="*.jpeg").files == chosen


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_a_failure_after_a_stop_does_not_hide_the_stop(
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
) -> None:
    """A signal to the whole process group also ends the JVM of Spark."""

    def extract(*_: object) -> None:
        try:
            raise stop
        finally:
            raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(local, "extract", extract)
    with pytest.raises(type(stop)):
        pomona.extract(pictures, tmp_path / "t", encoder=encoder)


def test_the_table_may_be_inside_the_source(encoder: Encoder, pictures: Path) -> None:
    table = pictures / "features"
    pomona.extract(pictures, table, encoder=encoder, globs=["*"])
    rerun = pomona.extract(pictures, table, encoder=encoder, globs=["*"])
    assert (rerun.files, rerun.ok) == (15, 0)


@pytest.mark.parametrize("at_once", [1, 4])
def test_an_image_that_crashes_its_process_fails_alone(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    monkeypatch.setenv("IMAGES_AT_ONCE", str(at_once))
    for seed in (1, 2):
        poison = drawn.encode(drawn.picture(20, 13, seed), "PNG")
        (pictures / "kind=bad" / f"poison {seed}.png").write_bytes(poison)
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    rows = tables.rows(tmp_path / "t")
    assert len(rows) == summary.files == 16
    assert (summary.ok, summary.by_status["crashed"]) == (11, 2)
    for seed in (1, 2):
        row = rows[f"poison {seed}.png"]
        assert row["status"] == "crashed"
        assert "SIGSEGV" in row["error"]
        assert row["label"] == "kind=bad"


@pytest.mark.parametrize("at_once", [1, 4])
def test_an_image_that_hangs_its_process_is_killed_and_named(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    monkeypatch.setenv("IMAGES_AT_ONCE", str(at_once))
    (pictures / "endless.png").write_bytes(drawn.encode(drawn.picture(20, 17), "PNG"))
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        engine=pomona.LocalEngine(workers=2, image_timeout_s=1.0),
    )
    row = tables.rows(tmp_path / "t")["endless.png"]
    assert (row["status"], summary.ok) == ("crashed", 11)
    assert "one image took longer than 1 s" in row["error"]


def test_a_device_that_computes_large_batches_gives_the_same_rows(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pomona.extract(
        pictures, tmp_path / "one", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    monkeypatch.setenv("IMAGES_AT_ONCE", "5")
    pomona.extract(
        pictures, tmp_path / "many", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    assert tables.read(tmp_path / "many").equals(tables.read(tmp_path / "one"))


def test_on_a_gpu_fewer_processes_decode_with_more_threads(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "available_cores", lambda: 16)
    assert local.workers_for(encoder) == 16
    monkeypatch.setattr(local, "computes_on_gpu", lambda _: True)
    assert local.workers_for(encoder) == 4
    monkeypatch.setattr(local, "available_cores", lambda: 2)
    assert local.workers_for(encoder) == 1


@pytest.mark.parametrize(
    ("state", "in_hand"),
    [
        (State(), []),
        (State(read=3, done=3), []),
        (State(read=3, done=2), [2]),
        (State(read=9, done=2), [2]),  # the other images of its record batch only wait
        (State(read=9, done=2, reading=1), [8]),
        (State(read=9, done=2, at_once=4), [2, 3, 4, 5]),
        (State(read=4, done=2, at_once=4), [2, 3]),
        (State(read=9, done=2, at_once=4, reading=1), [2, 3, 4, 5, 8]),
    ],
)
def test_images_in_progress_follow_from_the_state_of_a_process(
    state: State, in_hand: list[int]
) -> None:
    assert state.in_hand() == in_hand


def children(parent: int) -> list[int]:
    """The worker processes of a run."""
    result = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(None, 1) for line in result.stdout.splitlines()]
    return [int(pid) for pid, command in lines if "pomona.processes.worker_main" in command]


def test_a_killed_worker_loses_no_row(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    for seed in range(300):
        (pictures / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))
    killed: list[int] = []

    def kill_one(snapshot: Snapshot) -> None:
        if not killed and snapshot.done > 20 and (workers := children(os.getpid())):
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])

    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        progress=kill_one,
        engine=pomona.LocalEngine(workers=2),
    )
    assert killed
    assert summary.model_loads == 3
    assert len(tables.rows(tmp_path / "t")) == summary.files == 314
    assert summary.by_status["crashed"] == 0


@pytest.mark.parametrize("moment", ["wait_until_ready", "close_part"])
def test_a_worker_that_dies_between_images_loses_no_row(
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    real, died = getattr(WorkerProcess, moment), []

    def dies_once(self: WorkerProcess) -> object:
        if not died:
            died.append(True)
            self.kill("of the test")
        return real(self)

    monkeypatch.setattr(WorkerProcess, moment, dies_once)
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    assert died
    assert len(tables.rows(tmp_path / "t")) == summary.files == 14
    assert summary.ok == 11


def test_workers_that_die_at_every_write_end_the_run(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: WorkerProcess) -> object:
        self.kill("there is no memory for a whole part")
        return real(self)

    real = WorkerProcess.close_part
    monkeypatch.setattr(WorkerProcess, "close_part", dies)
    with pytest.raises(RunError, match="in a row .* there is no memory for a whole part"):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
        )


def test_a_thread_that_cannot_start_ends_the_run(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        started.append(self)
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
        )
    assert not any(thread.is_alive() for thread in started)


def test_a_file_that_hangs_while_being_read_is_named(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    (pictures / "stalled.png").write_bytes(drawn.encode(drawn.picture(20, 20), "PNG"))
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        engine=pomona.LocalEngine(workers=1, image_timeout_s=1.0),
    )
    rows = tables.rows(tmp_path / "t")
    assert [name for name, row in rows.items() if row["status"] == "crashed"] == ["stalled.png"]
    assert summary.model_loads == 3  # only this image was retried


def crashing_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for seed in range(count):
        content = drawn.encode(drawn.picture(20, 13, seed), "PNG")
        (folder / f"{seed}.png").write_bytes(content)
    return folder


def test_many_consecutive_images_that_crash_their_process_are_all_named(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    source = crashing_pictures(tmp_path / "pictures", ENDS_IN_A_ROW + 1)
    (source / "z.png").write_bytes(drawn.encode(drawn.picture(20, 20), "PNG"))
    summary = pomona.extract(
        source, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    assert summary.by_status == {"crashed": ENDS_IN_A_ROW + 1, "ok": 1}
    assert set(tables.rows(tmp_path / "t")) == {path.name for path in source.iterdir()}


def test_a_failure_of_every_image_ends_the_run_and_marks_none_as_crashed(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    monkeypatch.setenv("EVERY_IMAGE_IS_POISON", "1")
    source = crashing_pictures(tmp_path / "pictures", 30)
    with pytest.raises(RunError, match="the last one over a picture that Pomona drew: .*SIGSEGV"):
        pomona.extract(
            source, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
        )
    assert not (tmp_path / "t").exists()


def test_workers_that_cannot_start_end_the_run_with_the_reason(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "openvino.py").write_text("raise ImportError('half installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(RunError, match="half installed"):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
        )


def test_an_overwrite_without_new_rows_restores_the_old_rows(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder)
    before = tables.read(tmp_path / "t")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "openvino.py").write_text("raise ImportError('half installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(RunError):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, resume=pomona.Resume(overwrite=True)
        )
    assert tables.read(tmp_path / "t").equals(before)


def test_progress_ends_at_the_total(encoder: Encoder, pictures: Path, tmp_path: Path) -> None:
    snapshots: list[Snapshot] = []
    pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        progress=snapshots.append,
        engine=pomona.LocalEngine(workers=2),
    )
    assert snapshots[-1] == Snapshot("extracting", done=14, total=14, failed=3)


def test_ctrl_c_leaves_only_complete_files_and_no_process(pictures: Path, tmp_path: Path) -> None:
    for seed in range(2000):
        (pictures / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))
    command = [sys.executable, "-m", "pomona", "extract", str(pictures), str(tmp_path / "t")]
    process = subprocess.Popen(
        [*command, "--weights", "untrained:7"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("t/_staging-*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped" in errors
    assert "Traceback" not in errors
    left = list(tmp_path.glob("t/*"))
    assert all(path.suffix == ".parquet" for path in left)
    assert workers
    deadline = time.monotonic() + 60
    while (alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert alive == []


def test_a_script_without_a_main_guard_works(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "e")
    script = tmp_path / "script.py"
    script.write_text(
        "import pomona\n"
        f"encoder = pomona.Encoder.load({str(tmp_path / 'e')!r})\n"
        f"print(pomona.extract({str(pictures)!r}, {str(tmp_path / 't')!r}, encoder=encoder).ok)\n"
    )
    completed = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "11\n"


def test_a_missing_source_leaves_no_table(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        pomona.extract(tmp_path / "nowhere", tmp_path / "t", encoder=encoder)
    assert not (tmp_path / "t").exists()


def test_tables_and_images_that_arrow_cannot_reach_need_spark(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="add `master` to use Spark"):
        pomona.extract("viewfs://name/photos", tmp_path / "t", encoder=encoder)
    with pytest.raises(TableError, match="add `master` to use Spark"):
        pomona.extract(pictures, "viewfs://name/t", encoder=encoder)


def test_local_folders_may_have_names_that_look_like_uris_or_drives(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b", "x:/y"):
        Path(name).mkdir(parents=True)
        Path(name, "a.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
        assert (
            pomona.extract(
                name, f"{name} table", encoder=encoder, engine=pomona.LocalEngine(workers=1)
            ).ok
            == 1
        )
        rerun = pomona.extract(
            f"./{name}", f"./{name} table", encoder=encoder, engine=pomona.LocalEngine(workers=1)
        )
        assert rerun.skipped == 1
