"""Images in archives in an object store, on the embedded engine."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from faulty_server import three_of_four_reads_fail
from pomona.errors import RunError
from pomona.io import remote
from pomona.job.job import JobPaths, images_of
from pomona.job.summary import Summary
from pomona.source.archives.listing import archives_of
from pomona.source.image_file import Content, ImageFile
from pomona.source.images import Images
from pomona.source.remote import RemoteSource
from s3_server import S3, SLOW_DOWN, Request, s3

__all__ = ["s3"]

Run = Callable[..., Summary]

IMAGES = {
    f"{label}/{number}.png": drawn.encode(drawn.picture(seed=number), "PNG")
    for number, label in enumerate(["red", "red", "blue", "blue"])
} | {"red/0.cls": b"7", "broken.png": b"no image"}


def packed(name: str, images: dict[str, bytes] = IMAGES) -> bytes:
    """An archive of the kind that its name says."""
    file = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
            for member, content in images.items():
                zipped.writestr(member, content)
        return file.getvalue()
    with tarfile.open(fileobj=file, mode="w:gz" if name.endswith("gz") else "w") as tar:
        for member, content in images.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz", "shard.zip"])
def test_rows_of_an_archive_in_a_bucket_equal_those_of_one_here_and_a_second_run_does_nothing(
    s3: S3, run: Run, tmp_path: Path, name: str
) -> None:
    content = packed(name)
    s3.put(f"bucket/shards/{name}", content)
    (tmp_path / name).write_bytes(content)
    near, far = tmp_path / "near", tmp_path / "far"
    run(tmp_path / name, near)
    first = run(f"s3://bucket/shards/{name}", far)
    again = run(f"s3://bucket/shards/{name}", far)
    here, there = tables.read(near), tables.read(far)
    for column in ("label", "features", "status", "size", "content_sha256"):
        assert there[column].equals(here[column]), column
    assert there["path"].to_pylist() == [
        path.replace(f"file:{tmp_path}", "s3://bucket/shards") for path in here["path"].to_pylist()
    ]
    assert (first.files, first.ok, again.skipped) == (5, 4, 5)


@pytest.mark.parametrize(
    ("source", "shards"),
    [
        ("shards", ["000", "001", "010"]),
        ("shards/*.tar", ["000", "001", "010"]),
        ("shards/shard-{000..009}.tar", ["000", "001"]),
        ("shards/shard-{001,010}.tar", ["001", "010"]),
    ],
)
def test_a_folder_a_glob_or_a_range_chooses_among_archives_in_a_bucket(
    s3: S3, run: Run, tmp_path: Path, source: str, shards: list[str]
) -> None:
    for number in ("000", "001", "010"):
        s3.put(f"bucket/shards/shard-{number}.tar", packed("a.tar", {"a.png": IMAGES["red/0.png"]}))
    run(f"s3://bucket/{source}", tmp_path / "features")
    assert tables.read(tmp_path / "features")["path"].to_pylist() == [
        f"s3://bucket/shards/shard-{number}.tar::a.png" for number in shards
    ]


def test_a_folder_with_images_in_a_bucket_is_read_without_its_archives(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    s3.put("bucket/photos/all.zip", packed("all.zip"))
    s3.put("bucket/photos/deep/a.png", IMAGES["red/0.png"])
    run("s3://bucket/photos", tmp_path / "features")
    paths = tables.read(tmp_path / "features")["path"].to_pylist()
    assert paths == ["s3://bucket/photos/deep/a.png"]


def test_a_changed_archive_is_computed_again_and_gone_members_are_pruned(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    for name in ("a.tar", "b.tar"):
        s3.put(f"bucket/shards/{name}", packed(name))
    table = tmp_path / "features"
    run("s3a://bucket/shards", table)
    left = {name: content for name, content in IMAGES.items() if name != "red/1.png"}
    s3.put("bucket/shards/b.tar", packed("b.tar", left))
    done = run("s3://bucket/shards", table, resume=pomona.Resume(prune=True)).changes
    assert (done.unchanged, done.changed, done.pruned) == (5, 4, 1)


def test_a_run_continues_within_an_archive(s3: S3, run: Run, tmp_path: Path) -> None:
    s3.put("bucket/a.tar", packed("a.tar"))
    run("s3://bucket/a.tar", tmp_path / "features", globs="red/*")
    rest = run("s3://bucket/a.tar", tmp_path / "features", globs="*.png")
    assert (rest.changes.unchanged, rest.changes.new) == (2, 3)


def test_labels_come_from_files_beside_the_images(s3: S3, run: Run, tmp_path: Path) -> None:
    s3.put("bucket/a.tar", packed("a.tar"))
    run("s3://bucket/a.tar", tmp_path / "features", label="column:cls")
    assert Counter(tables.read(tmp_path / "features")["label"].to_pylist()) == {"7": 1, None: 4}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_throttling_errors_and_resets_lose_no_member(
    s3: S3, run: Run, tmp_path: Path, name: str
) -> None:
    s3.put(f"bucket/{name}", packed(name))
    run(f"s3://bucket/{name}", tmp_path / "calm")
    seen: list[str] = []
    s3.fault = three_of_four_reads_fail(seen)
    run(f"s3://bucket/{name}", tmp_path / "shaky")
    assert tables.read(tmp_path / "shaky").equals(tables.read(tmp_path / "calm"))
    assert len(seen) > 8


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_a_store_that_stays_busy_ends_the_run_and_no_row_says_that_an_archive_is_damaged(
    s3: S3, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.0)
    s3.put(f"bucket/{name}", packed(name))

    def busy(request: Request) -> None:
        if request.method == "GET" and request.reads_object:
            raise SLOW_DOWN

    archives = archives_of(RemoteSource.at(f"s3://bucket/{name}"))
    assert archives is not None
    files = list(archives.files(lambda _: None))
    reader = archives.reader
    s3.fault = busy
    with pytest.raises(RunError, match=f"cannot read s3://bucket/{name}.*run it again"):
        list(archives.files(lambda _: None))
    with pytest.raises(RunError, match=f"cannot read s3://bucket/{name}.*run it again"):
        list(reader.read(files[:1]))  # others would go on in threads


def test_a_truncated_archive_gives_the_members_before_and_one_failed_row(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    content = packed("a.tar")
    s3.put("bucket/a.tar", content[: 512 + len(IMAGES["red/0.png"]) + 700])
    run("s3://bucket/a.tar", tmp_path / "features")
    rows = tables.read(tmp_path / "features").select(["path", "status"]).to_pylist()
    assert {row["path"]: row["status"] for row in rows} == {
        "s3://bucket/a.tar::": "unreadable",
        "s3://bucket/a.tar::red/0.png": "ok",
    }


def listed(s3: S3, name: str, content: bytes) -> tuple[Images, list[ImageFile]]:
    """An archive in the bucket, and its members."""
    s3.put(f"bucket/{name}", content)
    images = images_of(JobPaths(f"s3://bucket/{name}", "none"))
    return images, list(images.files(lambda _: None))


def read_from(s3: S3, images: Images, files: list[ImageFile]) -> tuple[list[Content], list[int]]:
    """The contents of members, and how many bytes each request for them asks for."""
    sizes: list[int] = []

    def note(request: Request) -> None:
        if request.range:
            first, last = request.range.split("-")
            sizes.append(int(last) + 1 - int(first))

    s3.fault = note
    contents = list(images.reader.read(files))
    s3.fault = lambda _: None
    return contents, sizes


@pytest.mark.parametrize("name", ["shard.tar", "shard.zip"])
def test_neighbours_in_an_archive_are_read_by_one_request(s3: S3, name: str) -> None:
    members = {f"{number}.png": bytes([number]) * 5000 for number in range(40)}
    images, files = listed(s3, name, packed(name, members))
    contents, sizes = read_from(s3, images, files)
    assert contents == [(content, None) for content in members.values()]
    assert len(sizes) == 1


def test_one_request_reads_no_more_than_4_mib(s3: S3) -> None:
    members = {f"{number}.png": bytes([number]) * 2**20 for number in range(10)}
    members["large.png"] = b"x" * 5 * 2**20
    images, files = listed(s3, "shard.tar", packed("shard.tar", members))
    contents, sizes = read_from(s3, images, files)
    assert contents == [(content, None) for content in members.values()]
    assert sorted(sizes)[-1] == 5 * 2**20
    assert all(size <= 4 * 2**20 for size in sorted(sizes)[:-1])
    assert len(sizes) == 5


@pytest.mark.parametrize("name", ["shard.tar", "shard.zip"])
def test_members_that_have_rows_are_not_read_again(s3: S3, name: str) -> None:
    members = {f"{number:02}.png": os.urandom(100_000) for number in range(20)}
    images, files = listed(s3, name, packed(name, members))
    contents, sizes = read_from(s3, images, [*files[:2], *files[9:10], *files[19:]])
    expected = [members[f"{number:02}.png"] for number in (0, 1, 9, 19)]
    assert contents == [(content, None) for content in expected]
    assert sum(sizes) < 4 * 100_000 + 10_000


def test_an_archive_that_is_deleted_after_the_listing_gives_each_member_the_reason(s3: S3) -> None:
    images, files = listed(s3, "shard.tar", packed("shard.tar"))
    s3.delete("bucket/shard.tar")
    contents, _ = read_from(s3, images, files)
    reason = "cannot be read from its archive: it no longer exists"
    assert contents == [(None, reason)] * 5


def test_a_member_that_is_damaged_spoils_no_neighbour(s3: S3) -> None:
    members = {f"{number}.png": bytes([number]) * 5000 for number in range(1, 4)}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for member, data in members.items():
            zipped.writestr(member, data)
    damaged = content.getvalue().replace(b"\2" * 5000, b"\2" * 4999 + b"x")
    images, files = listed(s3, "shard.zip", damaged)
    (first, _), (second, reason), (third, _) = read_from(s3, images, files)[0]
    assert (first, second, third) == (members["1.png"], None, members["3.png"])
    assert reason == "is damaged: its checksum does not match"
