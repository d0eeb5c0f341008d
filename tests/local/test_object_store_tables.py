"""Feature tables in an object store, written by the embedded engine: as safe as on a disk."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import drawn
import faults
import pomona
import stores
from command_line import run as command
from pomona.encoder.encoder import Encoder
from pomona.errors import RunError, TableError
from pomona.io import remote
from pomona.job.summary import Summary
from pomona.table import part_file
from pomona.table.feature_table import FeatureTable
from pomona.table.remote_store import RemoteStore
from s3_server import ACCESS_DENIED, EXPIRED_TOKEN, INTERNAL_ERROR, S3, SLOW_DOWN, Request, s3

__all__ = ["s3"]

TABLE = "s3://bucket/my table/features"


class Runs:
    """Runs of one encoder on one worker."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __call__(self, source: object, table: object = TABLE, **more: Any) -> Summary:
        engine = pomona.LocalEngine(workers=1)
        return pomona.extract(source, table, encoder=self._encoder, engine=engine, **more)


@pytest.fixture
def run(encoder: Encoder) -> Runs:
    return Runs(encoder)


def rows(table: object = TABLE) -> pa.Table:
    """The rows of a table, sorted by path, without when their files changed."""
    found = pa.Table.from_batches(list(FeatureTable.at(str(table)).batches()))
    return found.drop_columns(["modified"]).sort_by("path").combine_chunks()


def names(s3: S3, key: str = "my table/features") -> list[str]:
    """The names below a key, without the mark of the folder itself."""
    found = [name.removeprefix(f"{key}/") for name in s3.stored() if name.startswith(f"{key}/")]
    return sorted(filter(None, found))


def test_a_table_in_a_bucket_equals_one_on_a_disk_and_nothing_else_is_left(
    s3: S3, run: Runs, pictures: Path, tmp_path: Path
) -> None:
    run(pictures, tmp_path / "near")
    first, again = run(pictures), run(pictures, TABLE.replace("s3:", "s3a:"))
    assert rows().equals(rows(tmp_path / "near"))
    assert (first.table, first.ok, again.skipped, again.ok) == (TABLE, 11, 14, 0)
    assert all(name.startswith("part-") for name in names(s3))


def test_images_and_table_may_be_in_one_bucket(s3: S3, run: Runs, pictures: Path) -> None:
    s3.put_folder(pictures, "bucket/photos")
    table = "s3://bucket/photos/features"
    assert (run("s3://bucket/photos", table).files, run("s3a://bucket/photos", table).skipped) == (
        14,
        14,
    )


def test_changed_deleted_and_relabelled_images_replace_their_rows(
    s3: S3, run: Runs, pictures: Path, tmp_path: Path
) -> None:
    for table in (TABLE, tmp_path / "near"):
        run(pictures, table)
    (pictures / "Apple Red 1" / "image 1.png").write_bytes(
        drawn.encode(drawn.picture(seed=9), "PNG")
    )
    (pictures / "Apple Red 1" / "image 2.jpg").unlink(missing_ok=True)
    for table in (TABLE, tmp_path / "near"):
        run(pictures, table, resume=pomona.Resume(prune=True))
        run(pictures, table, label="none")
    assert rows().equals(rows(tmp_path / "near"))
    assert set(rows()["label"].to_pylist()) == {None}
    assert run(pictures).skipped == len(rows())  # the rule is stored with the table
    run(pictures, resume=pomona.Resume(overwrite=True))
    assert rows()["label"].null_count == 0
    assert not [name for name in names(s3) if name.startswith("_")]


def test_many_small_part_files_are_merged(
    s3: S3, run: Runs, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "_SMALL_PARTS", 2)
    images = sorted(path for path in pictures.rglob("*") if path.is_file())[:4]
    for count in range(1, 5):
        given = tmp_path / f"list-{count}.txt"
        given.write_text("".join(f"{image}\n" for image in images[:count]))
        run(given)
    assert len([name for name in names(s3) if name.startswith("part-")]) == 2
    assert len(rows()) == 4


@pytest.mark.usefixtures("s3")
def test_the_store_satisfies_the_contract_of_stores() -> None:
    stores.check_contract(FeatureTable.at(TABLE).store)


def test_a_second_writer_is_refused_while_a_run_writes(s3: S3, run: Runs, pictures: Path) -> None:
    s3.put("bucket/my table/features/_running-of-another", b"")
    with pytest.raises(TableError, match="another run is writing s3://.* wait until it has ended"):
        run(pictures)
    assert names(s3) == ["_running-of-another"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("notes.txt", "exists and is not a feature table .it holds 'notes.txt'"),
        ("label=apple/part-0.parquet", "is partitioned"),
        ("_delta_log/0.json", "is a Delta table"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_stays_as_it_is(
    s3: S3, run: Runs, pictures: Path, key: str, reason: str
) -> None:
    s3.put(f"bucket/my table/features/{key}", b"precious")
    with pytest.raises(TableError, match=reason):
        run(pictures)
    assert names(s3) == [key]


def test_rows_of_another_encoder_are_refused(
    s3: S3, run: Runs, pictures: Path, encoder: Encoder
) -> None:
    run(pictures)
    other_encoder = dataclasses.replace(encoder, weights_sha256="8" * 64)
    before = names(s3)
    with pytest.raises(TableError, match="s3://bucket/my table/features .*another encoder"):
        Runs(other_encoder)(pictures)
    assert names(s3) == before


def test_a_table_that_may_not_be_written_is_refused_in_one_line(
    s3: S3, encoder_file: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def read_only(request: Request) -> None:
        if request.method not in {"GET", "HEAD"}:
            raise ACCESS_DENIED

    s3.fault = read_only
    arguments = ["extract", pictures, TABLE, "--encoder", encoder_file]
    code, _, err = command(capfd, *map(str, arguments))
    assert (code, err.count("\n")) == (2, 1), err
    assert f"cannot write TABLE {TABLE}" in err
    code, _, err = command(
        capfd, "extract", pictures, "s3://no-such-bucket/features", "--encoder", encoder_file
    )
    assert (code, err.count("\n")) == (2, 1), err


def writes(request: Request) -> bool:
    return request.method in {"PUT", "POST", "DELETE"}


def test_throttling_errors_and_resets_while_writing_lose_nothing(
    s3: S3, run: Runs, pictures: Path, tmp_path: Path
) -> None:
    run(pictures, tmp_path / "calm")
    seen: Counter[str] = Counter()

    def shaky(request: Request) -> None:
        if not writes(request):
            return
        name = f"{request.method} {request.path}"
        seen[name] += 1
        kind = sum(map(ord, name)) % 3
        if seen[name] == 1 and kind == 0:
            raise SLOW_DOWN
        if seen[name] == 1 and kind == 1:
            raise INTERNAL_ERROR
        if seen[name] == 1:
            request.reset()

    s3.fault = shaky
    run(pictures)
    s3.fault = lambda _: None
    assert rows().equals(rows(tmp_path / "calm"))
    assert len(seen) >= 6
    assert not [name for name in names(s3) if name.startswith("_")]


def test_an_upload_that_is_cut_off_leaves_no_part_file_and_another_run_continues(
    s3: S3, run: Runs, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.5)

    def cut(request: Request) -> None:
        if writes(request) and "part-" in request.path:
            request.reset()

    s3.fault = cut
    with pytest.raises(RunError, match=r"cannot write it: .*rows written so far stay"):
        run(pictures)
    s3.fault = lambda _: None
    assert not [name for name in names(s3) if "part-" in name]
    run(pictures)
    run(pictures, tmp_path / "near")
    assert rows().equals(rows(tmp_path / "near"))


def test_a_large_upload_that_fails_in_its_middle_leaves_no_file(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.5)
    (tmp_path / "large").write_bytes(os.urandom(24 * 2**20))
    store = FeatureTable.at(TABLE).store
    assert isinstance(store, RemoteStore)

    def fail(request: Request) -> None:
        if "partNumber=2" in request.query:
            raise INTERNAL_ERROR

    s3.fault = fail
    with pytest.raises(OSError, match="cannot write it"):
        store.send(tmp_path / "large", "part-1.parquet")
    assert store.entries() == {}
    s3.fault = lambda _: None
    store.send(tmp_path / "large", "part-1.parquet")
    assert store.read("part-1.parquet") == (tmp_path / "large").read_bytes()


def test_credentials_that_expire_end_the_run_and_another_run_continues(
    s3: S3, run: Runs, pictures: Path
) -> None:
    expired: list[str] = []

    def expire(request: Request) -> None:
        if writes(request) and "part-" in request.path:
            expired.append(request.path)
        if expired:
            raise EXPIRED_TOKEN

    s3.fault = expire
    with pytest.raises(RunError, match=r"cannot write it: .*rows written so far stay"):
        run(pictures)
    s3.fault = lambda _: None
    for name in names(s3):  # the lease of the failed run, which it could not delete
        s3.delete(f"bucket/my table/features/{name}")
    assert run(pictures).files == 14


def test_a_store_that_fails_while_a_table_is_read_is_not_taken_for_a_damaged_file(
    s3: S3, run: Runs, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures)
    seen: Counter[str] = Counter()

    def shaky(request: Request) -> None:
        if request.reads_object and "part-" in request.path:
            seen[request.path] += 1
            if seen[request.path] <= 4:  # Arrow itself repeats a request fewer times
                raise SLOW_DOWN

    s3.fault = shaky
    assert len(rows()) == 14
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.0)

    def busy(request: Request) -> None:
        if request.reads_object and "part-" in request.path:
            raise SLOW_DOWN

    s3.fault = busy
    with pytest.raises(TableError, match="cannot read s3://.*part-"):
        rows()


@pytest.mark.usefixtures("s3")
def test_every_command_that_writes_a_table_writes_it_in_a_bucket(
    run: Runs, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(pictures, tmp_path / "near")
    code, _, err = command(
        capfd, "project", str(tmp_path / "near"), "-k", "2", "-o", "s3://bucket/small"
    )
    assert code == 0, err
    small = rows("s3://bucket/small")
    assert {len(vector) for vector in small["features"].to_pylist() if vector} == {2}
    code, _, err = command(capfd, "project", TABLE, "-k", "2", "-o", TABLE)
    assert code == 2


def test_a_dry_run_writes_nothing(s3: S3, run: Runs, pictures: Path) -> None:
    summary = run(pictures, dry_run=True)
    assert summary.changes.new == 14
    assert not s3.stored()


def test_killed_runs_lose_and_double_no_row(
    s3: S3, run: Runs, faulty_pictures: Path, encoder_file: Path
) -> None:
    started = time.monotonic()
    run(faulty_pictures, "s3://bucket/calm")
    expected, duration_s = rows("s3://bucket/calm"), time.monotonic() - started
    arguments = ["extract", faulty_pictures, TABLE, "--encoder", encoder_file]
    words = [*faults.COMMAND, *map(str, arguments)]
    for moment in faults.moments(4, 1.5 + duration_s):
        faults.kill_at(moment, "writing a bucket", words, undo=lambda: empty(s3))
        found = rows()["path"].to_pylist() if FeatureTable.at(TABLE).exists() else []
        assert len(found) == len(set(found))
        let_leases_expire(s3)
    subprocess.run(words, capture_output=True, check=True)
    assert rows().equals(expected)
    assert not [name for name in names(s3) if name.startswith("_")]


def let_leases_expire(s3: S3) -> None:
    """Delete the mark of a killed run, as if a minute had passed."""
    for name in names(s3):
        if name.startswith("_running-"):
            s3.delete(f"bucket/my table/features/{name}")


def empty(s3: S3) -> None:
    for key in s3.stored():
        if key.startswith("my table/"):
            s3.delete(f"bucket/{key}")
