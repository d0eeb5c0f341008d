"""Lists of images: text, CSV and Parquet."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pomona.errors import PomonaError, RunError, SourceError
from pomona.source.image_file import ImageFile
from pomona.source.image_list import ImageList, is_list
from pomona.source.listing import Listing
from pomona.source.seen_paths import SeenPaths


def listed(path: Path) -> list[ImageFile]:
    return list(Listing.of(ImageList(str(path))).files())


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_only_files_that_can_be_nothing_else_are_lists(tmp_path: Path) -> None:
    for name in ("a.txt", "b.CSV", "c.parquet"):
        assert is_list(str(written(tmp_path / name, "")))
        assert not is_list(str(tmp_path / f"missing-{name}"))
    (tmp_path / "d.txt").mkdir()
    assert not is_list(str(tmp_path / "d.txt"))
    assert not is_list(str(written(tmp_path / "e.jpg", "")))


def test_paths_in_text_are_relative_to_the_list_and_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"bb")
    lines = b"\xef\xbb\xbfb.jpg\r\n\nsub/../a \xe9.jpg\n/x/c.jpg\nfile:/x/d.jpg\n../e.jpg"
    files = listed(written(tmp_path / "l.txt", lines))
    assert [file.path for file in files] == [
        f"{tmp_path}/b.jpg",
        f"{tmp_path}/a \udce9.jpg",
        "/x/c.jpg",
        "/x/d.jpg",
        f"{tmp_path.parent}/e.jpg",
    ]
    assert [file.size for file in files] == [2, None, None, None, None]


def test_size_and_time_in_a_csv_file_save_a_look_at_the_file(tmp_path: Path) -> None:
    text = "size,path,modified\n7,a.jpg,2024-05-06T07:08:09.123Z\n,b.jpg,\nx,c.jpg,yesterday\n"
    first, *others = listed(written(tmp_path / "l.csv", text))
    time = datetime(2024, 5, 6, 7, 8, 9, 123000, UTC)
    assert first == ImageFile(f"{tmp_path}/a.jpg", 7, int(time.timestamp() * 1000))
    assert [file.size for file in others] == [None, None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_parquet_file_may_list_images(tmp_path: Path, unit: str) -> None:
    time = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    columns = {
        "label": ["red", None],
        "path": pa.array(["a.jpg", "/b.jpg"]).dictionary_encode(),
        "size": pa.array([1, 2], pa.int32()),
        "modified": pa.array([time, time], pa.timestamp(unit, "Europe/Paris")),
    }
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    first, second = listed(tmp_path / "l.parquet")
    assert first == ImageFile(f"{tmp_path}/a.jpg", 1, int(time.timestamp() * 1000))
    assert second.path == "/b.jpg"
    labels = ImageList(str(tmp_path / "l.parquet")).labels("label")
    assert labels == {f"file:{tmp_path}/a.jpg": "red", "file:/b.jpg": None}


def test_values_of_a_csv_file_are_valid_text(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"path,label\na\xe9.jpg,caf\xe9\nb.jpg,\n")
    first, second = ImageList(str(tmp_path / "l.csv")).labels("label").values()
    assert (first, second) == ("caf\ufffd", None)
    assert listed(tmp_path / "l.csv")[0].path == f"{tmp_path}/a\udce9.jpg"


def test_an_image_that_is_listed_again_counts_once(tmp_path: Path) -> None:
    listing = Listing.of(ImageList(str(written(tmp_path / "l.txt", "a\n./a\nb\nx/../a\nb\n"))))
    assert [Path(file.path).name for file in listing.files()] == ["a", "b"]
    assert listing.passed_over.in_words() == ["skipped: 3 listed before"]


@given(st.lists(st.lists(st.integers(0, 40).map(str), min_size=1, max_size=9), max_size=30))
def test_each_path_is_new_once(groups: list[list[str]]) -> None:
    seen, known = SeenPaths(), set[str]()
    for group in groups:
        for path, is_new in zip(group, seen.add(group), strict=True):
            assert is_new == (path not in known)
            known.add(path)


def test_images_elsewhere_are_rows_with_a_reason_and_refused_at_the_beginning(
    tmp_path: Path,
) -> None:
    far = "https://me:secret@x.org/a.jpg"
    with pytest.raises(SourceError, match="lists https://x.org/a.jpg, which contains a user name"):
        listed(written(tmp_path / "l.txt", far))
    (_, web, other) = listed(written(tmp_path / "l.txt", f"a.jpg\n{far}\ndbfs:/c.jpg\n"))
    reader = ImageList(str(tmp_path / "l.txt")).reader
    assert [reason for _, reason in reader.read([web, other])] == [
        "contains a user name or a password",
        "is on the file system 'dbfs', which cannot be read here",
    ]
    assert web.uri == "https://x.org/a.jpg"


@pytest.mark.parametrize("name", ["l.txt.gz", "l.CSV.GZ"])
def test_a_list_may_be_packed_with_gzip(tmp_path: Path, name: str) -> None:
    text = b"path\n/a.jpg\n/b.jpg\n"
    packed = subprocess.run(["gzip"], input=text, stdout=subprocess.PIPE, check=True).stdout
    files = listed(written(tmp_path / name, packed))
    assert [file.path for file in files][-2:] == ["/a.jpg", "/b.jpg"]
    with pytest.raises(PomonaError, match="cannot be read as a list"):
        listed(written(tmp_path / name, packed[:-12]))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("l.txt", "\n\n", "lists no image"),
        ("l.txt", "x" * 70_000, "line 1 has more than 65536 bytes"),
        ("l.txt", "a\0b", "is not a list of paths"),
        ("l.csv", "", "lists no image"),
        ("l.csv", "a.jpg\nb.jpg\n", "has no column 'path'"),
        ("l.csv.gz", "path\na.jpg\n", "cannot be read as a list: Not a gzipped file"),
        ("l.csv", 'path\n"' + "x" * 2_000_000, "line 2 has 1048576 letters or more"),
        ("l.csv", 'path\n"' + "x" * 200_000, "field larger than field limit"),
        ("l.parquet", "path\na.jpg\n", "cannot be read as a list"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    with pytest.raises(SourceError, match=reason) as error:
        ImageList(str(written(tmp_path / name, content))).check()
    assert "\n" not in str(error.value)


def test_a_list_without_the_column_of_the_label_is_refused(tmp_path: Path) -> None:
    images = ImageList(str(written(tmp_path / "l.csv", "path\na.jpg\n")))
    with pytest.raises(SourceError, match="has no column 'colour'"):
        images.labels("colour")
    with pytest.raises(SourceError, match="has no columns"):
        ImageList(str(written(tmp_path / "l.txt", "a.jpg"))).labels("colour")


def test_a_list_that_is_damaged_further_on_ends_the_run(tmp_path: Path) -> None:
    listing = Listing.of(ImageList(str(written(tmp_path / "l.txt", "a.jpg\n" * 9 + "b\0"))))
    with pytest.raises(RunError, match="rows written so far stay"):
        list(listing.files())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["l.txt", "l.csv", "l.csv.gz", "l.parquet"]),
    st.one_of(
        st.binary(),
        st.text().map(lambda text: f"path,size,modified\n{text}".encode(errors="replace")),
    ),
)
def test_any_bytes_as_a_list_give_rows_or_one_error(
    tmp_path: Path, name: str, content: bytes
) -> None:
    try:
        files = listed(written(tmp_path / name, content))
    except PomonaError:
        return
    for file in files:
        file.uri.encode()
    assert len({os.fsencode(file.path) for file in files}) == len(files)
