"""Images in an object store, on the embedded engine: the same rows as from a local folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

import drawn
import faults
import pomona
import tables
from pomona.errors import RunError, SourceError
from pomona.io import remote
from pomona.job.changes import Changes
from pomona.job.summary import Summary
from pomona.source.remote import RemoteSource
from s3_server import ACCESS_DENIED, EXPIRED_TOKEN, INTERNAL_ERROR, S3, SLOW_DOWN, Request, s3

__all__ = ["s3"]

Run = Callable[..., Summary]


def test_rows_of_a_bucket_equal_those_of_a_folder_and_a_second_run_does_nothing(
    s3: S3, run: Run, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "odd ü%41+.jpg").write_bytes(drawn.encode(drawn.picture(seed=9), "JPEG"))
    s3.put_folder(pictures, "bucket/my stuff/pictures")
    near, far = tmp_path / "near", tmp_path / "far"
    run(pictures, near)
    summary = run("s3://bucket/my stuff/pictures", far)
    again = run("s3://bucket/my stuff/pictures/", far)
    assert tables.without_place(
        tables.read(far), "s3://bucket/my stuff/pictures"
    ) == tables.without_place(tables.read(near), f"file:{pictures}")
    assert (summary.files, again.skipped, again.ok) == (15, 15, 0)
    assert None not in tables.read(far)["modified"].to_pylist()


@pytest.mark.parametrize("source", ["flat", "deep", "archives"])
def test_a_run_lists_a_bucket_once(s3: S3, run: Run, tmp_path: Path, source: str) -> None:
    keys = {
        "flat": [f"{number}.png" for number in range(9)],
        "deep": [f"{number}/{number}.png" for number in range(9)],
        "archives": [f"{number}.tar" for number in range(9)],
    }[source]
    for key in keys:
        s3.put(f"bucket/{source}/{key}", b"no image")
    s3.requests.clear()
    run(f"s3://bucket/{source}", tmp_path / "table")
    asked = [parse_qs(query) for _, _, query in s3.requests if "list-type" in query]
    listed = [query["prefix"][0] for query in asked if query["max-keys"] != ["1"]]
    assert sorted(listed) == sorted(set(listed))
    assert len(asked) - len(listed) <= 3


def test_folders_that_may_not_be_listed_are_reported_once_after_a_look_at_them(
    s3: S3, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put("bucket/photos/a/1.png", b"no image")
    s3.put("bucket/photos/z/1.png", b"no image")

    def refuse(request: Request) -> None:
        if "prefix=photos%2Fa" in request.query:
            raise ACCESS_DENIED

    s3.fault = refuse
    summary = run("s3://bucket/photos", tmp_path / "table")
    assert summary.files == 1
    assert caplog.text.count("cannot list s3://bucket/photos/a") == 1


def test_s3_and_s3a_name_the_same_images(s3: S3, run: Run, pictures: Path, tmp_path: Path) -> None:
    s3.put_folder(pictures, "bucket/photos")
    table = tmp_path / "features"
    run("s3a://bucket/photos", table)
    s3.delete("bucket/photos/Apple Red 1/image 1.png")
    s3.put("bucket/photos/new.png", drawn.encode(drawn.picture(seed=50), "PNG"))
    summary = run("s3://bucket/photos", table, resume=pomona.Resume(prune=True))
    assert (summary.changes.new, summary.changes.unchanged, summary.changes.pruned) == (1, 13, 1)


def test_objects_that_arrive_get_rows(s3: S3, run: Run, tmp_path: Path) -> None:
    for n in range(2):
        s3.put(f"bucket/photos/{n}.png", drawn.encode(drawn.picture(seed=n), "PNG"))
    runs: list[Summary] = []

    def on_run(summary: Summary) -> None:
        runs.append(summary)
        if len(tables.rows(tmp_path / "t")) == 3:
            raise KeyboardInterrupt
        if summary.files == 2:
            s3.delete("bucket/photos/0.png")
            s3.put("bucket/photos/2.png", drawn.encode(drawn.picture(seed=2), "PNG"))

    with pytest.raises(KeyboardInterrupt) as stop:
        run("s3://bucket/photos", tmp_path / "t", follow=pomona.Follow(on_run=on_run, every_s=0.1))
    assert stop.value.__notes__ == [f"3 images of this run are kept in {tmp_path / 't'}"]
    assert sum(summary.ok for summary in runs) == 3


def test_changed_failed_and_deleted_objects_are_handled_like_files(
    s3: S3, run: Run, pictures: Path, tmp_path: Path
) -> None:
    s3.put_folder(pictures, "bucket/photos")
    table, fresh = tmp_path / "features", tmp_path / "fresh"
    run("s3://bucket/photos", table)
    s3.put("bucket/photos/new.png", drawn.encode(drawn.picture(seed=50), "PNG"))
    s3.put("bucket/photos/Apple Red 1/image 3.jpg", drawn.encode(drawn.picture(seed=51), "JPEG"))
    s3.delete("bucket/photos/Apple Red 1/image 1.png")
    more = {"resume": pomona.Resume(retry_failed=True, prune=True)}
    planned = run("s3://bucket/photos", table, dry_run=True, **more)
    done = run("s3://bucket/photos", table, **more)
    assert planned.changes == done.changes == Changes(1, 1, 3, 9, 1, 1, labelled=14)
    run("s3://bucket/photos", fresh)
    assert tables.read(table).equals(tables.read(fresh))


@pytest.mark.parametrize(
    ("glob", "more", "chosen"),
    [
        ("s3://bucket/photos/a/1.png", {}, ["a/1.png"]),
        ("s3://bucket/photos/*/1.png", {}, ["a/1.png", "b/1.png"]),
        ("s3://bucket/photos/{a,c}", {}, ["a/1.png", "a/deep/2.png", "c/3.png"]),
        ("s3://bucket/photos/**/[23].png", {}, ["a/deep/2.png", "c/3.png"]),
        ("s3://bucket/photos", {"exclude": "a/"}, ["b/1.png", "c/3.png"]),
        ("s3://bucket/photos", {"globs": "3.*"}, ["c/3.png", "c/3.txt"]),
    ],
)
def test_files_globs_and_exclusions_choose_among_objects(
    s3: S3, run: Run, tmp_path: Path, glob: str, more: dict[str, str], chosen: list[str]
) -> None:
    picture = drawn.encode(drawn.picture(seed=1), "PNG")
    for name in ("a/1.png", "a/deep/2.png", "b/1.png", "c/3.png", "c/3.txt", "c/.hidden/4.png"):
        s3.put(f"bucket/photos/{name}", picture)
    run(glob, tmp_path / "features", **more)
    found = tables.read(tmp_path / "features")["path"].to_pylist()
    assert sorted(found) == [f"s3://bucket/photos/{name}" for name in chosen]


def test_a_source_that_is_missing_empty_or_forbidden_is_refused_with_one_line(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    s3.put("bucket/notes/a.txt", b"text")
    for source, message in (
        ("s3://bucket/photos", "s3://bucket/photos does not exist"),
        ("s3://no-bucket/photos", "s3://no-bucket/photos does not exist"),
        ("s3://bucket/*.jpg", "matches no file"),
        ("s3://bucket/notes", "has no images"),
        ("wasb://bucket/photos", "add `master` to use Spark"),
    ):
        with pytest.raises(SourceError, match=message):
            run(source, tmp_path / "features")
    s3.fault = answer_all(EXPIRED_TOKEN)
    with pytest.raises(SourceError, match="ExpiredToken.*check the credentials"):
        run("s3://bucket/notes", tmp_path / "features")
    s3.fault = answer_all(ACCESS_DENIED)
    with pytest.raises(SourceError, match=r"ACCESS_DENIED.*check the credentials"):
        run("s3://bucket/notes", tmp_path / "features")
    assert not (tmp_path / "features").exists()


@pytest.mark.skipif("HADOOP_HOME" in os.environ, reason="Arrow may find libhdfs")
def test_hdfs_without_its_library_is_refused_with_what_it_needs(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="add `master` to use Spark, or give webhdfs://"):
        run("hdfs://localhost:9/photos", tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_a_folder_that_may_not_be_listed_keeps_its_rows(
    s3: S3, run: Run, pictures: Path, tmp_path: Path
) -> None:
    s3.put_folder(pictures, "bucket/photos")
    run("s3://bucket/photos", tmp_path / "features")

    def deny(request: Request) -> None:
        if "Apple" in request.query:
            raise ACCESS_DENIED

    s3.fault = deny
    rerun = run("s3://bucket/photos", tmp_path / "features", resume=pomona.Resume(prune=True))
    assert (rerun.changes.pruned, len(tables.rows(tmp_path / "features"))) == (0, 14)


def answer_all(answer: Exception) -> Callable[[Request], None]:
    def fault(_: Request) -> None:
        raise answer

    return fault


def shaky(request: Request, seen: Counter[str]) -> None:
    """Each object's first answers are bad ones."""
    if not request.reads_object:
        return
    seen[request.path] += 1
    kind = sum(map(ord, request.path)) % 4
    if seen[request.path] > 2:
        return
    if kind == 0:
        raise SLOW_DOWN
    if kind == 1:
        raise INTERNAL_ERROR
    if kind == 2:
        request.reset()
    if seen[request.path] == 1:
        time.sleep(4)  # longer than Arrow waits for an answer


def test_throttling_errors_resets_and_silence_of_the_store_lose_nothing(
    s3: S3, run: Run, pictures: Path, tmp_path: Path
) -> None:
    s3.put_folder(pictures, "bucket/photos")
    run("s3://bucket/photos", tmp_path / "calm")
    seen: Counter[str] = Counter()
    s3.fault = lambda request: shaky(request, seen)
    run("s3://bucket/photos", tmp_path / "shaky")
    assert tables.read(tmp_path / "shaky").equals(tables.read(tmp_path / "calm"))
    assert max(seen.values()) > 2


def test_a_store_that_stays_busy_ends_the_run_without_failed_rows(
    s3: S3, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.0)
    s3.put_folder(pictures, "bucket/photos")

    def busy(request: Request) -> None:
        if request.method == "GET" and request.reads_object:
            raise SLOW_DOWN

    s3.fault = busy
    reader = RemoteSource.at("s3://bucket/photos").reader
    files = list(RemoteSource.at("s3://bucket/photos").files(lambda _: None))
    with pytest.raises(RunError, match=r"cannot read s3://bucket/photos/.*for 0 s.*run it again"):
        list(reader.read(files))


def test_a_missing_or_forbidden_object_gets_a_row_that_says_so(
    s3: S3, run: Run, pictures: Path, tmp_path: Path
) -> None:
    s3.put_folder(pictures, "bucket/photos")

    def hide(request: Request) -> None:
        if request.reads_object and request.path.endswith("image 1.png"):
            s3.delete(request.path.lstrip("/"))
        if request.reads_object and request.path.endswith("image 3.jpg"):
            raise ACCESS_DENIED

    s3.fault = hide
    run("s3://bucket/photos", tmp_path / "features")
    rows = tables.rows(tmp_path / "features")
    assert rows["image 1.png"]["error"] == "cannot be read: it no longer exists"
    assert "ACCESS_DENIED" in rows["image 3.jpg"]["error"]
    assert len(rows) == 14


@pytest.mark.parametrize("refusal", [EXPIRED_TOKEN, ACCESS_DENIED])
def test_credentials_that_expire_end_the_run_with_one_line_and_another_run_continues(
    s3: S3, run: Run, tmp_path: Path, refusal: Exception
) -> None:
    for number in range(300):
        picture = drawn.encode(drawn.picture(seed=number), "PNG")
        s3.put(f"bucket/photos/{number:03}.png", picture)
    seen: Counter[str] = Counter()

    def expire(request: Request) -> None:
        seen["objects"] += request.reads_object
        if seen["objects"] > 400:
            raise refusal

    s3.fault = expire
    with pytest.raises(RunError, match="s3://bucket no longer accepts requests.*run it again"):
        run("s3://bucket/photos", tmp_path / "features")
    s3.fault = lambda _: None
    run("s3://bucket/photos", tmp_path / "features")
    assert tables.read(tmp_path / "features")["status"].to_pylist() == ["ok"] * 300


def test_an_encoder_may_be_in_the_same_bucket(
    s3: S3, encoder_file: Path, pictures: Path, tmp_path: Path
) -> None:
    s3.put_folder(pictures, "bucket/photos")
    s3.put("bucket/fruit.encoder", encoder_file.read_bytes())
    summary = pomona.extract(
        "s3://bucket/photos",
        tmp_path / "features",
        encoder="s3://bucket/fruit.encoder",
        engine=pomona.LocalEngine(workers=1),
    )
    assert summary.files == 14


def test_credentials_and_settings_in_the_uri_never_reach_the_table(
    s3: S3, run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_folder(pictures, "bucket/photos")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    port = s3.endpoint.rpartition(":")[2]
    settings = f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    run(f"s3://key:secret@bucket/photos{settings}", tmp_path / "features")
    paths = tables.read(tmp_path / "features")["path"].to_pylist()
    assert all(path.startswith("s3://bucket/photos/") for path in paths)


def test_labels_come_from_a_csv_file_with_uris(
    s3: S3, run: Run, pictures: Path, tmp_path: Path
) -> None:
    s3.put_folder(pictures, "bucket/photos")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\ns3://bucket/photos/Apple Red 1/image 1.png,red\n")
    run("s3://bucket/photos", tmp_path / "features", label=f"csv:{labels}")
    found = tables.read(tmp_path / "features")["label"].to_pylist()
    assert Counter(found) == {"red": 1, None: 13}


def test_killed_runs_from_a_bucket_lose_and_double_no_row(
    s3: S3, run: Run, faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    s3.put_folder(faulty_pictures, "bucket/photos")
    started = time.monotonic()
    run("s3://bucket/photos", tmp_path / "calm")
    expected, duration_s = tables.read(tmp_path / "calm"), time.monotonic() - started
    table = tmp_path / "features"
    arguments = ["extract", "s3://bucket/photos", table, "--encoder", encoder_file]
    command = [*faults.COMMAND, *map(str, arguments)]
    for moment in faults.moments(7, 1.5 + duration_s):
        faults.kill_at(moment, "reading a bucket", command, undo=lambda: shutil.rmtree(table))
        faults.assert_consistent(table, expected)
    subprocess.run(command, capture_output=True, check=True)
    faults.assert_complete(table, expected)
