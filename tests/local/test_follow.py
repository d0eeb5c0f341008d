"""`--follow`: images become rows as they arrive, with the guarantees of a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import faults
import pomona
import tables
from command_line import run as run_command
from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError, PomonaError, SourceError, TableError, UsageError
from pomona.job.summary import Summary
from pomona.local import follow as following


class Stopped(Exception):  # noqa: N818 - the tests stop following with it
    pass


def arrive(path: Path, seed: int, age_s: float = 60) -> None:
    """A picture that another program has finished writing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(drawn.encode(drawn.picture(24, 18, seed), "PNG"))
    moment = time.time() - age_s
    os.utime(path, (moment, moment))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise TimeoutError("no run changed the table in time")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


Follow = Callable[..., list[Summary]]


@pytest.fixture
def follow(encoder: Encoder, tmp_path: Path) -> Follow:
    def follow(source: object, *steps: Callable[[], object], **more: object) -> list[Summary]:
        """Follow a source: take a step after each run, and stop after the last."""
        runs: list[Summary] = []
        left = iter(steps)

        def on_run(summary: Summary) -> None:
            runs.append(summary)
            step = next(left, None)
            if step is None:
                raise Stopped
            step()

        with within(60), pytest.raises(Stopped):
            pomona.extract(
                source,  # type: ignore[arg-type]
                tmp_path / "t",
                encoder=encoder,
                engine=pomona.LocalEngine(workers=1),
                follow=pomona.Follow(on_run=on_run, every_s=0.1),
                **more,  # type: ignore[arg-type]
            )
        return runs

    return follow


def test_images_that_arrive_get_rows_without_loading_the_encoder_again(
    follow: Follow, encoder: Encoder, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    arrive(photos / "a" / "0.png", 0)
    first, second, third = follow(
        photos, lambda: arrive(photos / "a" / "1.png", 1), lambda: arrive(photos / "b" / "2.png", 2)
    )
    assert [run.ok for run in (first, second, third)] == [1, 1, 1]
    assert [run.model_loads for run in (first, second, third)] == [1, 0, 0]
    faults.assert_complete(
        tmp_path / "t", faults.expected_table(photos, tmp_path / "right", encoder)
    )


def test_a_list_with_columns_of_other_types_is_waited_for(
    follow: Follow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(*values: object) -> None:
        paths = [f"{n}.png" for n in range(len(values))]
        pq.write_table(pa.table({"path": paths, "site": values}), tmp_path / "new.parquet")
        (tmp_path / "new.parquet").rename(tmp_path / "l.parquet")

    def write_twice() -> None:
        write(1, 2)
        Timer(1, lambda: write("a", "b")).start()

    for n in range(2):
        arrive(tmp_path / f"{n}.png", n)
    write("a")
    follow(tmp_path / "l.parquet", write_twice, keep="site")
    assert "of other types than before; waiting for it" in caplog.text
    rows = pq.read_table(tmp_path / "t").sort_by("path")
    assert rows["site"].to_pylist() == ["a", "b"]


def test_an_empty_folder_can_be_followed(follow: Follow, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    first, second = follow(tmp_path / "photos", lambda: arrive(tmp_path / "photos" / "0.png", 0))
    assert (first.files, second.ok) == (0, 1)


def test_a_young_file_is_taken_once_it_does_not_change(follow: Follow, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    follow(tmp_path / "photos", lambda: arrive(tmp_path / "photos" / "0.png", 0, age_s=0))
    assert tables.rows(tmp_path / "t")["0.png"]["status"] == "ok"


def test_an_image_that_was_read_half_written_is_not_broken_for_good(
    follow: Follow, tmp_path: Path
) -> None:
    path = tmp_path / "photos" / "0.png"
    arrive(path, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    os.utime(path, (1e9, 1e9))  # its writer has paused for longer than Pomona waits
    first, second = follow(path.parent, lambda: path.write_bytes(whole))
    assert (first.by_status["truncated"], second.ok, second.changes.changed) == (1, 1, 1)
    assert tables.rows(tmp_path / "t")["0.png"]["status"] == "ok"


@pytest.mark.parametrize("prune", [True, False])
def test_rows_of_deleted_images_go_if_requested(
    follow: Follow, tmp_path: Path, prune: bool
) -> None:
    photos = tmp_path / "photos"
    for n in range(3):
        arrive(photos / f"{n}.png", n)
    steps = [(photos / "1.png").unlink, lambda: arrive(photos / "3.png", 3)]
    if not prune:  # a deleted image alone changes nothing
        steps = [lambda: (photos / "1.png").unlink() or arrive(photos / "3.png", 3)]
    follow(photos, *steps, resume=pomona.Resume(prune=prune))
    kept = {"0.png", "2.png", "3.png"}
    assert tables.rows(tmp_path / "t").keys() == (kept if prune else kept | {"1.png"})


def test_overwrite_and_retry_failed_hold_for_the_first_run_only(
    follow: Follow, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    arrive(photos / "0.png", 0)
    (photos / "broken.png").write_bytes(b"not an image")
    os.utime(photos / "broken.png", (1e9, 1e9))
    follow(photos)
    replaced, added = follow(
        photos, lambda: arrive(photos / "1.png", 1), resume=pomona.Resume(overwrite=True)
    )
    assert (replaced.changes.new, added.changes.new, added.skipped) == (2, 1, 2)
    retried, added = follow(
        photos, lambda: arrive(photos / "2.png", 2), resume=pomona.Resume(retry_failed=True)
    )
    assert (retried.changes.retried, added.changes.retried, added.changes.new) == (1, 0, 1)
    assert len(tables.rows(tmp_path / "t")) == 4


def test_a_source_that_disappears_is_waited_for(
    follow: Follow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos, away = tmp_path / "photos", tmp_path / "away"
    arrive(photos / "0.png", 0)

    def unmount_for_a_while() -> None:
        photos.rename(away)
        look = following._Follower._look_again
        looks = 0

        def look_again(self: object, writer: object) -> float:
            nonlocal looks
            looks += 1
            if looks == 4:
                away.rename(photos)
                arrive(photos / "1.png", 1)
            return look(self, writer)  # type: ignore[arg-type]

        patch.setattr(following._Follower, "_look_again", look_again)

    with pytest.MonkeyPatch.context() as patch:
        runs = follow(photos, unmount_for_a_while, resume=pomona.Resume(prune=True))
    assert [(run.ok, run.changes.pruned) for run in runs] == [(1, 0), (1, 0)]
    assert [line.getMessage() for line in caplog.records] == [
        f"{photos} does not exist: give a folder, an image or a glob; waiting for it"
    ]


def test_a_damaged_archive_is_reported_once_and_read_again_when_it_is_repaired(
    follow: Follow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    arrive(tmp_path / "0.png", 0)

    def add(name: str, cut: int | None = None) -> None:
        with zipfile.ZipFile(tmp_path / "made.zip", "w") as made:
            made.write(tmp_path / "0.png", "kiwi/0.png")
        (shards / name).write_bytes((tmp_path / "made.zip").read_bytes()[:cut])
        os.utime(shards / name, (1e9, 1e9 + (cut or 0)))

    add("0.zip")
    runs = follow(
        shards, lambda: add("1.zip", 50), lambda: add("1.zip"), resume=pomona.Resume(prune=True)
    )
    assert [run.failed for run in runs] == [0, 1, 0]
    paths = tables.read(tmp_path / "t")["path"].to_pylist()
    assert [path.rpartition("/shards/")[2] for path in paths] == [
        "0.zip::kiwi/0.png",
        "1.zip::kiwi/0.png",
    ]
    assert len([line for line in caplog.records if "1.zip" in line.getMessage()]) == 1


def test_the_labels_of_a_list_are_read_again(follow: Follow, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    for n in range(2):
        arrive(tmp_path / f"{n}.png", n)
    listed.write_text("path,kind\n0.png,kiwi\n")
    follow(
        listed,
        lambda: listed.write_text("path,kind\n0.png,kiwi\n1.png,plum\n"),
        lambda: listed.write_text("path,kind\n0.png,pear\n1.png,plum\n"),
        label="column:kind",
    )
    found = {name: row["label"] for name, row in tables.rows(tmp_path / "t").items()}
    assert found == {"0.png": "pear", "1.png": "plum"}


def test_a_worker_that_was_killed_while_it_waited_is_replaced(
    follow: Follow, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    arrive(photos / "0.png", 0)

    def kill_workers() -> None:
        workers = [p.pid for p in faults.below(os.getpid()) if "worker_main" in p.command]
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert workers
        arrive(photos / "1.png", 1)

    _, second = follow(photos, kill_workers)
    assert (second.ok, second.by_status["crashed"], second.model_loads) == (1, 0, 1)


def test_no_worker_survives(follow: Follow, tmp_path: Path) -> None:
    arrive(tmp_path / "photos" / "0.png", 0)
    follow(tmp_path / "photos")
    assert [p for p in faults.below(os.getpid()) if "worker_main" in p.command] == []


def test_many_small_parts_are_merged(
    follow: Follow, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_MOST_SMALL_PARTS", 9)
    photos, parts = tmp_path / "photos", []

    def add_another(number: int) -> None:
        parts.append(len(list((tmp_path / "t").glob("*.parquet"))))
        arrive(photos / f"{number}.png", number)

    add_another(0)
    follow(photos, *(lambda n=n: add_another(n) for n in range(1, 13)))  # type: ignore[misc]
    assert parts[1:] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]
    faults.assert_complete(
        tmp_path / "t", faults.expected_table(photos, tmp_path / "right", encoder)
    )


def test_readers_may_read_and_writers_are_refused_meanwhile(
    follow: Follow, encoder: Encoder, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    arrive(photos / "0.png", 0)

    def read_and_write() -> None:
        assert pomona.inspect(tmp_path / "t").rows == 1
        with pytest.raises(TableError, match="another run is writing"):
            pomona.extract(photos, tmp_path / "t", encoder=encoder)
        arrive(photos / "1.png", 1)

    _, second = follow(photos, read_and_write)
    assert second.ok == 1


def test_looking_takes_at_most_a_tenth_of_the_time() -> None:
    arriving = following.Arriving()
    follower = object.__new__(following._Follower)
    follower._arriving = arriving
    follower._how = pomona.Follow(on_run=print, every_s=10)
    assert [follower._pause(look_s) for look_s in (0.01, 1.0, 5.0)] == [10, 10, 45]
    arriving._held_back = {"file:/young.jpg"}
    assert [follower._pause(look_s) for look_s in (0.01, 1.0)] == [2, 9]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": pomona.SparkEngine()}, EngineError, "streaming DataFrame to pomona.featurize"),
        ({"image_column": "image"}, SourceError, "each look would read all images"),
        ({"dry_run": True}, UsageError, "`dry_run`"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    pictures: Path,
    tmp_path: Path,
    options: dict[str, object],
    error: type[PomonaError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        pomona.extract(pictures, tmp_path / "t", follow=pomona.Follow(on_run=print), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_must_be_valid(every_s: float) -> None:
    with pytest.raises(UsageError, match="every_s"):
        pomona.Follow(on_run=print, every_s=every_s)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--follow", "photos", "t"], "put --follow after SOURCE and TABLE"),
        (["photos", "t", "--follow", "0"], "expected seconds from 0.1 up"),
        (
            ["photos", "t", "--follow", "--master", "local[1]"],
            "--follow is for the embedded engine",
        ),
    ],
)
def test_the_command_refuses_in_one_line(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arrive(tmp_path / "photos" / "0.png", 0)
    code, _, err = run_command(capfd, "extract", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def command(photos: Path, table: Path, encoder_file: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pomona", "extract", str(photos), str(table)),
        *("--encoder", str(encoder_file), "--workers", "1", "--follow", "0.2", *options),
    ]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)],
)
def test_the_command_adds_rows_and_stops_on_a_signal(
    encoder: Encoder, encoder_file: Path, tmp_path: Path, number: int, code: int
) -> None:
    photos, table = tmp_path / "photos", tmp_path / "t"
    arrive(photos / "0.png", 0)
    with faults.running(command(photos, table, encoder_file)) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("1 image in ")
        process.stdout.readline()  # table
        process.stdout.readline()  # next
        for n in range(1, 4):
            arrive(photos / f"{n}.png", n, age_s=0)
            assert process.stdout.readline().endswith(" 1 image: 1 ok\n")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.splitlines() == [
        f"pomona: following {photos}: Ctrl-C or SIGTERM stops",
        f"pomona: stopped: 4 images of this run are kept in {table}; the same command continues",
    ]
    faults.assert_complete(table, faults.expected_table(photos, tmp_path / "right", encoder))


def test_with_json_each_run_is_a_line_and_a_closed_stdout_stops(
    encoder_file: Path, tmp_path: Path
) -> None:
    photos, table = tmp_path / "photos", tmp_path / "t"
    photos.mkdir()
    with faults.running(command(photos, table, encoder_file, "--json")) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["files"] == 0
        arrive(photos / "0.png", 0)
        assert json.loads(process.stdout.readline())["new"] == 1
        process.stdout.close()
        arrive(photos / "1.png", 1)
        assert process.wait(60) == 141
        assert process.stderr
        assert process.stderr.read().splitlines()[1:] == [
            f"pomona: stopped: 2 images of this run are kept in {table}; the same command continues"
        ]
    assert len(tables.rows(table)) == 2


def test_a_kill_while_images_arrive_loses_no_row(
    encoder: Encoder, encoder_file: Path, faulty_pictures: Path, tmp_path: Path
) -> None:
    files = sorted(path for path in faulty_pictures.rglob("*") if path.is_file())[::2]
    for attempt, moment in enumerate(faults.moments(11, 3.0)):
        photos, table = tmp_path / f"photos{attempt}", tmp_path / f"t{attempt}"
        photos.mkdir()
        fresh = command(photos, table, encoder_file, "--prune")
        with faults.running(fresh) as process:
            killed_at = time.monotonic() + 1.5 + moment
            for number, path in enumerate(files):
                shutil.copy(path, photos / f"{number}{path.suffix}")
                if number % 10 == 9:
                    (photos / f"{number - 9}{files[number - 9].suffix}").unlink()
                time.sleep(max(0.0, min(0.04, killed_at - time.monotonic())))
            time.sleep(max(0.0, killed_at - time.monotonic()))
            assert process.poll() is None
            faults.kill(process.pid, "parent that follows")
        correct_rows = faults.expected_table(photos, tmp_path / f"right{attempt}", encoder)
        if table.is_dir() and pomona.FeatureTable(table).exists():
            paths = tables.read(table)["path"].to_pylist()
            assert len(paths) == len(set(paths))
        subprocess.run(
            [word for word in fresh if word not in {"--follow", "0.2"}],
            capture_output=True,
            check=True,
        )
        faults.assert_complete(table, correct_rows)
