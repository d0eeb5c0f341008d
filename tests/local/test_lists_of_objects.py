"""Lists of objects in stores, on the embedded engine, against a real S3 server."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import tables
from pomona.errors import RunError, SourceError
from pomona.io.location import read_file
from pomona.job.summary import Summary
from pomona.source.image_list import ImageList
from pomona.source.listing import Listing
from s3_server import ACCESS_DENIED, EXPIRED_TOKEN, S3, Request, s3

__all__ = ["s3"]

Run = Callable[..., Summary]
TIME = "2024-05-06T07:08:09.123Z"


def picture(seed: int) -> bytes:
    return drawn.encode(drawn.picture(seed=seed), "PNG")


def in_csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def rows_by_path(table: Path) -> dict[str, dict[str, object]]:
    return {row["path"]: row for row in tables.read(table).to_pylist()}


def test_a_list_may_mix_buckets_and_files_of_this_machine(s3: S3, run: Run, tmp_path: Path) -> None:
    s3._send("PUT", "other")
    s3.put("bucket/a b+%41ü?x=1.png", picture(1))
    s3.put("other/2.png", picture(2))
    (tmp_path / "3.png").write_bytes(picture(3))
    names = ["s3://bucket/a b+%41ü?x=1.png", "s3a://other/2.png", "3.png", "s3://bucket/no.png"]
    (tmp_path / "l.txt").write_text("\n".join([*names, "s3n://other/2.png"]))
    summary = run(tmp_path / "l.txt", tmp_path / "t")
    rows = rows_by_path(tmp_path / "t")
    names[2] = f"file:{tmp_path}/3.png"
    assert set(rows) == set(names)
    assert [rows[name]["status"] for name in names] == ["ok", "ok", "ok", "unreadable"]
    assert rows[names[1]]["size"] == len(picture(2))
    assert summary.passed_over.by_extension == {"listed before": 1}
    s3.put("other/2.png", picture(4))
    again = run(tmp_path / "l.txt", tmp_path / "t")
    assert (again.changes.changed, again.changes.unchanged) == (1, 3)


def test_size_and_time_in_a_list_save_all_looks(s3: S3, tmp_path: Path) -> None:
    s3.put("bucket/1.png", picture(1))
    lines = [["path", "size", "modified"]]
    lines += [[f"s3://bucket/{n}.png", str(n), "2024-05-06T07:08:09Z"] for n in range(1, 100)]
    (tmp_path / "l.csv").write_bytes(in_csv(lines))
    s3.requests.clear()
    files = list(Listing.of(ImageList(str(tmp_path / "l.csv"))).files())
    assert [file.size for file in files] == list(range(1, 100))
    assert not [path for _, path, _ in s3.requests if path.endswith(".png")]


def test_objects_without_size_and_time_are_looked_at_once_and_in_parallel(
    s3: S3, tmp_path: Path
) -> None:
    for n in range(40):
        s3.put(f"bucket/{n}.png", bytes(n))
    (tmp_path / "l.txt").write_text("\n".join(f"s3://bucket/{n}.png" for n in range(40)))
    s3.requests.clear()
    files = list(Listing.of(ImageList(str(tmp_path / "l.txt"))).files())
    assert [file.size for file in files] == list(range(40))
    looks = [path for method, path, _ in s3.requests if method == "HEAD" and "png" in path]
    assert len(looks) == len(set(looks)) == 40


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "csv.gz", "parquet"])
def test_a_list_may_be_in_a_bucket_and_its_paths_start_there(
    s3: S3, run: Run, tmp_path: Path, kind: str
) -> None:
    s3.put("bucket/lists/1.png", picture(1))
    s3.put("bucket/2.png", picture(2))
    names = ["1.png", "../2.png"]
    text = "\n".join(["path", *names] if "csv" in kind else names).encode()
    content = gzip.compress(text) if "gz" in kind else text
    if kind == "parquet":
        pq.write_table(pa.table({"path": names}), tmp_path / "l.parquet")
        content = (tmp_path / "l.parquet").read_bytes()
    s3.put(f"bucket/lists/l.{kind}", content)
    run(f"s3://bucket/lists/l.{kind}", tmp_path / "t")
    rows = rows_by_path(tmp_path / "t")
    assert {path: row["status"] for path, row in rows.items()} == {
        "s3://bucket/lists/1.png": "ok",
        "s3://bucket/2.png": "ok",
    }


def test_settings_in_the_uri_of_a_list_reach_its_bucket_and_not_the_table(
    s3: S3, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("bucket/lists/1.png", picture(1))
    s3.put("bucket/lists/l.csv", b"path\n1.png\n")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    host = s3.endpoint.partition("://")[2]
    settings = f"?endpoint_override={host}&scheme=http&region=us-east-1"
    run(f"s3://key:secret@bucket/lists/l.csv{settings}", tmp_path / "t")
    assert list(rows_by_path(tmp_path / "t")) == ["s3://bucket/lists/1.png"]


@pytest.mark.parametrize(
    ("entry", "path", "reason"),
    [
        ("s3://key:secret@bucket/1.png", "s3://bucket/1.png", "contains credentials"),
        ("s3://b?endpoint_override=10.0.0.1/x", None, "names no bucket"),
        ("s3:///1.png", None, "cannot be read: Missing bucket name"),
        ("s3://bucket/a//1.png", None, "has an empty name"),
        ("s3://bucket/", None, "has an empty name"),
        ("gopher://x/1.png", None, "is on the file system 'gopher', which cannot be read here"),
    ],
)
def test_entries_that_no_store_can_have_are_rows_without_secrets(
    s3: S3, run: Run, tmp_path: Path, entry: str, path: str | None, reason: str
) -> None:
    s3.put("bucket/2.png", picture(1))
    (tmp_path / "l.txt").write_text(f"s3://bucket/2.png\n{entry}\n")
    run(tmp_path / "l.txt", tmp_path / "t")
    rows = rows_by_path(tmp_path / "t")
    assert rows.pop("s3://bucket/2.png")["status"] == "ok"
    ((found, row),) = rows.items()
    assert found == (path or entry)
    assert row["status"] == "unreadable"
    assert reason in str(row["error"])
    (tmp_path / "first.txt").write_text(entry)
    with pytest.raises(SourceError, match="first.txt lists .*, which") as error:
        run(tmp_path / "first.txt", tmp_path / "u")
    assert "secret" not in str(error.value)


def test_objects_that_may_not_be_read_or_listed_are_rows(s3: S3, run: Run, tmp_path: Path) -> None:
    def fault(request: Request) -> None:
        if "secret" in request.path or "list-type" in request.query:
            raise ACCESS_DENIED

    for name in ("1", "secret", "2"):
        s3.put(f"bucket/{name}.png", picture(1))
    s3.fault = fault
    (tmp_path / "l.txt").write_text("\n".join(f"s3://bucket/{n}.png" for n in ("1", "secret", "2")))
    run(tmp_path / "l.txt", tmp_path / "t")
    rows = rows_by_path(tmp_path / "t")
    assert [rows[f"s3://bucket/{n}.png"]["status"] for n in ("1", "2")] == ["ok", "ok"]
    assert "ACCESS_DENIED" in str(rows["s3://bucket/secret.png"]["error"])


def test_credentials_that_expire_end_the_run_and_make_no_row(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    s3.put("bucket/1.png", picture(1))
    (tmp_path / "l.txt").write_text("s3://bucket/1.png")

    def fault(request: Request) -> None:
        if request.reads_object:
            raise EXPIRED_TOKEN

    s3.fault = fault
    with pytest.raises(RunError, match="cannot look at s3://bucket/1.png.*check the credentials"):
        run(tmp_path / "l.txt", tmp_path / "t")


def test_a_run_with_s3a_in_the_list_continues_one_with_s3(s3: S3, run: Run, tmp_path: Path) -> None:
    for n in (1, 2):
        s3.put(f"bucket/{n}.png", picture(n))
    (tmp_path / "l.txt").write_text("s3://bucket/1.png\ns3://bucket/2.png")
    (tmp_path / "a.txt").write_text("s3a://bucket/1.png\ns3n://bucket/2.png")
    run(tmp_path / "l.txt", tmp_path / "t")
    again = run(tmp_path / "a.txt", tmp_path / "t")
    assert (again.changes.unchanged, again.changes.to_do) == (2, 0)


def put_inventory(s3: S3, columns: str, rows: list[list[object]]) -> str:
    """Store an inventory as Amazon lays it out, and return the manifest's URI."""
    key = "inventory/bucket/daily/data/d794c570.csv.gz"
    content = gzip.compress(in_csv(rows))
    said = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::bucket",
        "fileFormat": "CSV",
        "fileSchema": columns,
        "files": [{"key": key, "size": len(content), "MD5checksum": "f1"}],
    }
    s3.put(f"bucket/{key}", content)
    folder = "bucket/inventory/bucket/daily/2016-11-06T21-32Z"
    s3.put(f"{folder}/manifest.json", json.dumps(said).encode())
    return f"s3://{folder}/manifest.json"


def test_an_inventory_gives_the_rows_of_the_bucket_and_lists_nothing(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    names = ["photos/a b+ü.png", "photos/sub/2.png"]
    for number, name in enumerate(names):
        s3.put(f"bucket/{name}", picture(number))
    known = [len(picture(0)), len(picture(1))]
    rows = [["bucket", quote_plus(n), known[i], TIME] for i, n in enumerate(names)]
    rows.append(["bucket", "notes.txt", 5, TIME])
    manifest = put_inventory(s3, "Bucket, Key, Size, LastModifiedDate", rows)
    s3.requests.clear()
    summary = run(manifest, tmp_path / "t")
    assert not [query for _, _, query in s3.requests if "list-type" in query]
    assert summary.passed_over.by_extension == {".txt": 1}
    found = rows_by_path(tmp_path / "t")
    assert {path: row["status"] for path, row in found.items()} == {
        f"s3://bucket/{name}": "ok" for name in names
    }
    (tmp_path / "manifest.json").write_bytes(read_file(manifest))
    again = run(tmp_path / "manifest.json", tmp_path / "t")
    assert (again.changes.unchanged, again.changes.to_do) == (2, 0)


def test_objects_of_an_inventory_without_sizes_are_looked_at(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    s3.put("bucket/1.png", picture(1))
    run(put_inventory(s3, "Bucket, Key", [["bucket", "1.png"]]), tmp_path / "t")
    row = rows_by_path(tmp_path / "t")["s3://bucket/1.png"]
    assert row["size"] == len(picture(1))
    assert row["modified"] is not None
