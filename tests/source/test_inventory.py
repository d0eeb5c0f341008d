"""S3 Inventory: manifests as in Amazon's user guide, with CSV, and Parquet and ORC from Java."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import object_store
from pomona.errors import PomonaError, RunError, SourceError
from pomona.io.remote import RemotePlace
from pomona.job.job import JobPaths, images_of
from pomona.source import list_file
from pomona.source.image_file import ImageFile
from pomona.source.inventory import Inventory, is_inventory
from pomona.source.listing import Listing
from pomona.source.selection import Selection

GOLDENS = Path(__file__).parents[1] / "goldens" / "inventory"
KEY = "Inventory/bucket/daily/data/939c6d46-85a9-4ba8-87bd-9db705a579ce.csv.gz"
TIME = "2024-05-06T07:08:09.123Z"
MILLISECONDS = int(datetime(2024, 5, 6, 7, 8, 9, 123000, UTC).timestamp() * 1000)
BRIEF = "Bucket, Key, Size, LastModifiedDate, ETag"
VERSIONS = (
    "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
)


@pytest.fixture(autouse=True)
def _offline_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that nothing may ask: the address refuses connections."""
    object_store.configure(monkeypatch, "http://127.0.0.1:9")


def in_csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return gzip.compress(text.getvalue().encode())


def manifest(folder: Path, kind: str, schema: str, files: dict[str, int]) -> Path:
    """Write a manifest with the fields of Amazon's example."""
    said = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::destination",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": kind,
        "fileSchema": schema,
        "files": [
            {"key": key, "size": size, "MD5checksum": "f11166069f1990abeb9c97ace9cdfabc"}
            for key, size in files.items()
        ],
    }
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "manifest.json").write_text(json.dumps(said, indent=4))
    return folder / "manifest.json"


def inventory(folder: Path, content: bytes, schema: str = BRIEF) -> Path:
    """Write an inventory in CSV with one file, which is beside its manifest."""
    path = manifest(folder, "CSV", schema, {KEY: len(content)})
    (folder / Path(KEY).name).write_bytes(content)
    return path


def listed(path: Path, selection: Selection | None = None) -> tuple[list[ImageFile], list[str]]:
    listing = Listing.of(Inventory(str(path), selection or Selection()))
    return list(listing.files()), listing.passed_over.in_words()


EXPECTED = [
    ("s3://bucket/photos/1 b+ü.png", 11, MILLISECONDS),
    ("s3://bucket/photos/2%41.jpg", 44, MILLISECONDS),
]
SKIPPED = "skipped: 2 old versions and delete markers, 1 .txt, 1 folder markers"


def test_keys_in_csv_are_decoded_and_only_current_versions_of_images_count(tmp_path: Path) -> None:
    rows = [
        ("photos/", "v0", "true", "false", "0"),
        ("photos/1 b+ü.png", "v1", "true", "false", "11"),
        ("photos/1 b+ü.png", "v2", "false", "false", "22"),
        ("photos/gone.png", "v3", "true", "true", ""),
        ("photos/notes.txt", "v4", "true", "false", "33"),
        ("photos/2%41.jpg", "", "true", "false", "44"),
    ]
    content = in_csv(
        ("bucket", quote_plus(key, safe="/"), *more, TIME, "e", "STANDARD") for key, *more in rows
    )
    assert b"1+b%2B%C3%BC" in gzip.decompress(content)
    files, skipped = listed(inventory(tmp_path, content, VERSIONS))
    assert [file[:3] for file in files] == EXPECTED
    assert skipped == [SKIPPED]
    assert files[0].place == RemotePlace("s3://bucket", "s3://bucket/")


@pytest.mark.parametrize("kind", ["Parquet", "ORC"])
def test_files_of_javas_libraries_are_read_and_their_keys_are_plain(
    tmp_path: Path, kind: str
) -> None:
    name = f"files.{kind.lower()}"
    key = f"inventory/bucket/data/{name}"
    path = manifest(tmp_path, kind, "ignored", {key: (GOLDENS / name).stat().st_size})
    shutil.copy(GOLDENS / name, tmp_path)
    files, skipped = listed(path)
    assert [file[:3] for file in files] == EXPECTED
    assert skipped == [SKIPPED]


def test_globs_and_exclusions_choose_among_the_objects(tmp_path: Path) -> None:
    keys = ["a/1.png", "a/2.jpg", "b/3.png", "c/.git/4.png"]
    path = inventory(tmp_path, in_csv(("bucket", key, 1, TIME, "e") for key in keys))
    files, skipped = listed(path, Selection(("*.png",), ("b/",)))
    assert [file.path for file in files] == ["s3://bucket/a/1.png"]
    assert skipped == ["skipped: 1 .jpg", "excluded: 1 b/, 1 hidden"]


@pytest.mark.parametrize("folder", [".", "data", "../data"])
def test_the_files_may_be_beside_the_manifest_or_as_amazon_lays_them_out(
    tmp_path: Path, folder: str
) -> None:
    path = inventory(tmp_path / "2016-11-06T21-32Z", in_csv([("bucket", "1.png", 1, TIME, "e")]))
    there = path.parent / folder / Path(KEY).name
    there.parent.mkdir(exist_ok=True)
    (path.parent / Path(KEY).name).rename(there)
    assert [file.path for file in listed(path)[0]] == ["s3://bucket/1.png"]


def test_files_of_an_inventory_are_opened_one_after_the_other(tmp_path: Path) -> None:
    content = in_csv([("bucket", f"{n}.png", 1, TIME, "e") for n in range(3)])
    path = inventory(tmp_path, content)
    manifest(tmp_path, "CSV", BRIEF, {KEY: len(content), "x/second.csv.gz": 7})
    (tmp_path / "second.csv.gz").write_bytes(b"damaged")
    files = Listing.of(Inventory(str(path))).files()
    assert [next(files).path for _ in range(3)] == [f"s3://bucket/{n}.png" for n in range(3)]
    with pytest.raises(RunError, match="second.csv.gz cannot be read as a file.*rows written so"):
        next(files)


def test_an_object_with_an_odd_key_is_a_row(tmp_path: Path) -> None:
    content = in_csv(("bucket", key, 1, TIME, "e") for key in ("a//1.png", "/2.png", "3%FF.png"))
    files, _ = listed(inventory(tmp_path, content))
    assert [file.path for file in files] == [
        "s3://bucket/a//1.png",
        "s3://bucket//2.png",
        "s3://bucket/3\N{REPLACEMENT CHARACTER}.png",
    ]
    reasons = [getattr(file.place, "reason", None) for file in files]
    assert reasons == ["has an empty name in its path"] * 2 + [None]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"path\n", "cannot be read as a file of S3 Inventory: Not a gzipped file"),
        (in_csv([("bucket", "1.png")]), "row 1 has 2 columns instead of 5"),
        (in_csv([("bucket", "1.png", 1, TIME, "e")])[:-9], "ended before the end-of-stream"),
    ],
)
def test_damaged_files_end_the_run_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(RunError, match=reason) as error:
        listed(inventory(tmp_path, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "is not a manifest of S3 Inventory: it lacks 'fileFormat'"),
        ("[1]", "is not a manifest of S3 Inventory"),
        ("[" * 100_000, "is not a manifest of S3 Inventory"),
        ("\0", "is not a manifest of S3 Inventory"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert is_inventory(str(tmp_path / "manifest.json"))
    with pytest.raises(SourceError, match=reason) as error:
        listed(tmp_path / "manifest.json")
    assert "\n" not in str(error.value)


def test_a_manifest_with_another_format_without_keys_or_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the format 'Avro': expected CSV, Parquet or ORC"):
        listed(manifest(tmp_path, "Avro", BRIEF, {KEY: 1}))
    with pytest.raises(SourceError, match="its files have no Key"):
        listed(manifest(tmp_path, "CSV", "Bucket, Size", {KEY: 1}))
    with pytest.raises(SourceError, match="lists no files"):
        listed(manifest(tmp_path, "CSV", BRIEF, {}))


def test_a_file_of_another_size_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    path = inventory(tmp_path, in_csv([("bucket", "1.png", 1, TIME, "e")]))
    (tmp_path / Path(KEY).name).write_bytes(b"short")
    with pytest.raises(SourceError, match="has 5 bytes, and .*manifest.json says .*: copy both"):
        listed(path)


def test_a_manifest_cannot_choose_the_server(tmp_path: Path) -> None:
    path = manifest(tmp_path, "CSV", BRIEF, {KEY: 1})
    evil = "arn:aws:s3:::x?endpoint_override=127.0.0.1:1"
    path.write_text(path.read_text().replace("arn:aws:s3:::destination", evil))
    with pytest.raises(SourceError, match="which does not exist: copy the files"):
        listed(path)
    path = inventory(tmp_path, in_csv([("x?endpoint_override=h", "1.png", 1, TIME, "e")]))
    ((file,), _) = listed(path)
    assert getattr(file.place, "reason", None) == "names no bucket, container or host"


@pytest.mark.parametrize("name", ["manifest.json", "l.csv"])
def test_a_list_in_a_store_that_does_not_answer_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_file, "_LOOK_S", 0.0)
    with pytest.raises(SourceError, match=f"^cannot reach s3://bucket/{name}: tried for 0 s"):
        images_of(JobPaths(f"s3://bucket/{name}", "t"))


def test_a_manifest_is_a_source(tmp_path: Path) -> None:
    path = inventory(tmp_path, in_csv([("bucket", "1.png", 1, TIME, "e")]))
    assert isinstance(images_of(JobPaths(str(path), "t")), Inventory)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.just("bucket"),
            st.one_of(st.text(), st.binary().map(lambda key: quote_plus(key) + ".png")),
            st.one_of(st.text(), st.integers()),
            st.one_of(st.text(), st.just(TIME)),
        )
    ),
    st.binary(),
)
def test_any_rows_give_images_or_one_error(
    tmp_path: Path, rows: list[tuple[object, ...]], damage: bytes
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    content = gzip.compress(text.getvalue().encode(errors="replace") + damage)
    schema = "Bucket, Key, Size, LastModifiedDate"
    images = Inventory(str(inventory(tmp_path, content, schema)), Selection(("*",)))
    object.__setattr__(images, "_stores", Unreached())
    try:
        files = list(Listing.of(images).files())
    except PomonaError:
        return
    for file in files:
        file.uri.encode()
        assert file.size is None or 0 <= file.size < 2**63


class Unreached(type(Inventory("x")._stores)):  # type: ignore[misc]
    """Stores that are not asked."""

    def looked_at(self, files: list[ImageFile], _: object = None) -> list[ImageFile]:
        return files
