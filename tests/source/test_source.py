from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pomona.errors import SourceError, UsageError
from pomona.source.image_file import BATCH_BYTES, ImageFile, is_for_spark, read_batches
from pomona.source.labels import parse_label_rule
from pomona.source.listing import Listing, Source
from pomona.source.passed_over import PassedOver
from pomona.source.selection import IMAGE_EXTENSIONS, Selection

PARENT = parse_label_rule("parent")


DECODED = {
    *("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "ICO", "JPEG2000", "AVIF"),
    "TGA",
}


def listed(
    location: object, *globs: str, table: str | None = None, exclude: Sequence[str] = ()
) -> list[ImageFile]:
    source = Source(str(location), Selection(globs, tuple(exclude)), table)
    source.check()
    return list(Listing(str(location), source.files, source.is_gone).files())


def passed_over(location: object, *globs: str, exclude: Sequence[str] = ()) -> PassedOver:
    source = Source(str(location), Selection(globs, tuple(exclude)))
    listing = Listing(str(location), source.files, source.is_gone)
    list(listing.files())
    return listing.passed_over


def listing_of(folder: Path) -> Listing:
    source = Source(str(folder))
    return Listing(str(folder), source.files, source.is_gone)


def names(files: list[ImageFile]) -> list[str]:
    return [Path(file.path).name for file in files]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_known_extensions_are_listed_in_any_letter_case(tmp_path: Path) -> None:
    good = ["a.jpg", "b.JPEG", "c.Png", "d.webp", "e.GIF", "f.bmp", "g.tif", "h.TIFF"]
    touch(*(tmp_path / name for name in [*good, "i.txt", "j.jpg.bak", "jpg"]))
    assert names(listed(tmp_path)) == good


def test_every_extension_of_a_decoded_format_is_known() -> None:
    Image.init()
    every = {ending for ending, form in Image.registered_extensions().items() if form in DECODED}
    assert every <= set(IMAGE_EXTENSIONS)
    assert {".jif", ".jfi", ".jpg2", ".btf", ".tf8", ".targa"} <= set(IMAGE_EXTENSIONS)
    assert {".heic", ".heif", ".hif", ".jxl"} & set(IMAGE_EXTENSIONS) == {".heic", ".heif", ".hif"}


def test_camera_names_that_begin_with_an_underscore_are_listed(tmp_path: Path) -> None:
    cameras = ["_DSC0001.JPG", "_MG_2345.JPG", "_x=1.jpg", "__a.png", "_SUCCESS.jpg"]
    touch(*(tmp_path / name for name in cameras))
    for folder in ("_export", "_metadata", "_SUCCESS", "_temporary.jpg", "a._COPYING_"):
        touch(tmp_path / folder / "b.jpg")
    assert names(listed(tmp_path)).count("b.jpg") == 5
    assert set(cameras) < set(names(listed(tmp_path)))
    assert names(listed(tmp_path / "_*.JPG")) == ["_DSC0001.JPG", "_MG_2345.JPG"]
    assert names(listed(tmp_path / "_export")) == ["b.jpg"]
    assert names(listed(tmp_path / "_e*" / "**")) == ["b.jpg"]
    assert names(listed(tmp_path, "_M*")) == ["_MG_2345.JPG"]


MARKERS = [
    *("_SUCCESS", "_metadata", "_common_metadata", "_committed_7251339312", "_started_7251339312"),
    *("_committed_vacuum7251339312", "_temporary/0/a.jpg", "_delta_log/a.png"),
    "_spark_metadata/b.jpg",
]


def test_spark_metadata_files_are_not_images_even_if_a_glob_matches_them(
    tmp_path: Path,
) -> None:
    touch(tmp_path / "a.jpg", *(tmp_path / name for name in MARKERS))
    assert names(listed(tmp_path, "*")) == ["a.jpg"]
    assert sum(passed_over(tmp_path).excluded.values()) == len(MARKERS)


def test_hidden_files_and_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / ".b.jpg", tmp_path / "x" / "._c.jpg")
    touch(tmp_path / ".cache" / "d.jpg", tmp_path / ".cache" / "e.jpg")
    assert names(listed(tmp_path)) == names(listed(tmp_path, "*.jpg")) == ["a.jpg"]
    assert passed_over(tmp_path).excluded == {".*": 3}
    assert passed_over(tmp_path).in_words() == ["excluded: 3 hidden"]


def test_hidden_files_are_listed_on_request(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / ".b.jpg", tmp_path / ".h" / "c.jpg", tmp_path / "x/.d.jpg")
    assert names(listed(tmp_path / ".b.jpg")) == [".b.jpg"]
    assert names(listed(tmp_path / ".h")) == ["c.jpg"]
    assert names(listed(tmp_path / ".*.jpg")) == [".b.jpg"]
    assert names(listed(tmp_path / "*" / ".d.jpg")) == [".d.jpg"]
    assert names(listed(tmp_path / "**" / ".*.jpg")) == [".b.jpg", ".d.jpg"]
    assert names(listed(tmp_path, ".*.jpg")) == [".b.jpg", ".d.jpg"]
    assert names(listed(tmp_path, ".h/*.jpg")) == ["c.jpg"]
    assert names(listed(tmp_path, exclude=["!.*"])) == [".b.jpg", "c.jpg", "a.jpg", ".d.jpg"]


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", ".thumbnails", "#recycle", "__MACOSX", ".Trash-1000"),
        "$RECYCLE.BIN",
        ".@__thumb",
    ],
)
def test_thumbnail_and_trash_folders_are_skipped_and_counted(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / "x" / "a.jpg", tmp_path / "x" / folder / "y" / "a.jpg")
    touch(tmp_path / folder / "b.jpg", tmp_path / "Thumbs.db", tmp_path / ".DS_Store")
    for source in (tmp_path, tmp_path / "*", tmp_path / "**" / "*.jpg", tmp_path / "x" / "**"):
        assert names(listed(source)) == ["a.jpg"], source
    pattern = ".Trash*" if folder.startswith(".Trash") else folder
    assert passed_over(tmp_path).excluded == {pattern: 2, "Thumbs.db": 1, ".DS_Store": 1}
    assert passed_over(tmp_path / "**").excluded == passed_over(tmp_path).excluded
    assert names(listed(tmp_path / folder)) == ["b.jpg"]
    assert names(listed(tmp_path / "*" / folder)) == ["a.jpg"]
    assert len(listed(tmp_path, exclude=[f"!{pattern}"])) == 3


def test_exclusion_works_by_name_by_path_and_by_pattern(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "x" / "a.jpg", tmp_path / "x/y/c.jpg")

    def left(*patterns: str, source: str = "") -> set[str]:
        result = listed(f"{tmp_path}{source}", exclude=patterns)
        return {file.path.removeprefix(f"{tmp_path}/") for file in result}

    every = {"a.jpg", "b.png", "x/a.jpg", "x/y/c.jpg"}
    assert left() == left("A.JPG") == every
    assert left("a.jpg") == {"b.png", "x/y/c.jpg"}
    assert left("*.png") == every - {"b.png"}
    assert (
        left("x") == left("x/") == left("/x") == left("./x/") == left("x/**") == {"a.jpg", "b.png"}
    )
    assert left("y") == left("x/y") == left("**/y") == left("x/*/") == every - {"x/y/c.jpg"}
    assert left("/a.jpg") == left("./a.jpg") == every - {"a.jpg"}
    assert left("x/*.jpg") == left("*/a.jpg") == every - {"x/a.jpg"}
    assert left("x/**/*.jpg") == {"a.jpg", "b.png"}
    assert left("a.jpg/") == every
    assert left("*.jpg", "!a.jpg") == every - {"x/y/c.jpg"}
    assert left("x", "!x/a.jpg") == {"a.jpg", "b.png"}  # an excluded folder is not entered
    assert left("x", source="/*") == {"a.jpg", "b.png"}
    assert left("y", source="/**/*.jpg") == left("y/", source="/**/*") - {"b.png"}
    assert passed_over(tmp_path, exclude=["x", "*.png"]).excluded == {"x": 1, "*.png": 1}
    assert passed_over(tmp_path / "**" / "*", exclude=["y"]).excluded == {"y": 1}


def test_a_pattern_that_excludes_nothing_is_reported(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.jpg", tmp_path / "b.mov")
    inside = f"{tmp_path}/x"  # a pattern with a slash is a path below the source
    result = passed_over(tmp_path, exclude=[inside, "*.mov", "!kept", "raw/"])
    assert result.to_json()["excluded"] == {"*.mov": 1, inside: 0, "raw/": 0}
    assert result.in_words() == [
        "excluded: 1 *.mov",
        f"`exclude` {inside!r}, 'raw/' matches nothing; a path there starts below `source`",
    ]
    many = passed_over(tmp_path, exclude=[f"{number}.x" for number in range(99)])
    assert many.in_words()[-1].count(".x") == 10
    assert passed_over(tmp_path).in_words() == ["skipped: 1 .mov"]


@pytest.mark.parametrize("pattern", ["", "/", "!", "./", "!/"])
def test_an_empty_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is empty: expected a name such as"):
        Selection(exclude=(pattern,))


def test_skipped_files_are_counted_by_extension_most_frequent_first(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", *(tmp_path / f"{n}.MOV" for n in range(1_000)))
    touch(tmp_path / "b.mov", *(tmp_path / "x" / f"{n}.cr2" for n in range(3)), tmp_path / "README")
    touch(tmp_path / "Dr. No", tmp_path / "a.xmp", tmp_path / "b.gz.xmp", tmp_path / "end.")
    result = passed_over(tmp_path)
    assert result.by_extension == {".mov": 1_001, ".cr2": 3, ".xmp": 2, "without extension": 3}
    assert result.in_words() == ["skipped: 1,001 .mov, 3 .cr2, 3 without extension, 2 .xmp"]
    assert list(result.to_json()["passed_over"]) == [".mov", ".cr2", "without extension", ".xmp"]
    assert passed_over(tmp_path, "*.cr2").by_extension[".jpg"] == 1


def test_the_list_of_skipped_extensions_is_bounded_in_text_and_in_number() -> None:
    few, many = PassedOver(), PassedOver()
    for number in range(12):
        few.file(f"a.{number:02d}")
    assert few.in_words()[0].endswith("1 .09, and 2 of 2 other kinds")
    for number in range(5_000):
        many.file(f"a.{number}")
    assert len(many.by_extension) == 1_001
    assert many.by_extension.total() == 5_000


@given(st.binary(min_size=1, max_size=30))
def test_any_skipped_name_can_be_printed(name: bytes) -> None:
    result = PassedOver()
    result.file(os.fsdecode(name.replace(b"/", b"") or b"x"))
    (line,) = result.in_words()
    assert line.isprintable()
    assert line.encode()


def test_a_glob_selects_by_name_or_by_path_below_the_source(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.dat", tmp_path / "x" / "b.jpg", tmp_path / "y" / "c.dat")
    assert names(listed(tmp_path, "*.dat")) == ["a.dat", "c.dat"]
    assert names(listed(tmp_path, "x/*.dat", "*.jpg")) == ["a.dat", "b.jpg"]


def test_the_source_may_be_a_single_file_with_any_name(tmp_path: Path) -> None:
    touch(tmp_path / "photo[1].dat")
    assert names(listed(tmp_path / "photo[1].dat")) == ["photo[1].dat"]


def test_the_source_may_be_a_glob(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.jpg", tmp_path / "y" / "b.jpg", tmp_path / "z" / "c.jpg")
    assert names(listed(tmp_path / "[xy]")) == ["a.jpg", "b.jpg"]
    assert names(listed(tmp_path / "*" / "*.jpg")) == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_recursive_glob_lists_each_image_once_and_nothing_hidden(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "y" / "a.jpg", tmp_path / "x" / "b.jpg", tmp_path / "c.jpg")
    touch(tmp_path / ".hidden" / "d.jpg", tmp_path / "x" / ".hidden" / "e.jpg")
    every = ["a.jpg", "b.jpg", "c.jpg"]
    assert sorted(names(listed(tmp_path / "**"))) == every
    assert sorted(names(listed(tmp_path / "**" / "*"))) == every
    assert sorted(names(listed(tmp_path / "**" / "*.jpg"))) == every


def test_the_source_may_be_a_file_uri(tmp_path: Path) -> None:
    touch(tmp_path / "a b" / "c.jpg")
    assert [f.uri for f in listed(f"file:{tmp_path}")] == [f"file:{tmp_path}/a b/c.jpg"]
    assert len(listed(f"file://{tmp_path}")) == 1


def test_size_and_modified_are_those_of_the_file(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_234_567_890_123_456_789))
    (file,) = listed(tmp_path)
    assert (file.size, file.modified) == (1, 1_234_567_890_123)


@pytest.mark.parametrize("seconds", [10**13, -(10**13)])
def test_a_time_outside_the_calendar_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    touch(tmp_path / "a.jpg")
    real = os.stat

    def stat(path: Any, **more: Any) -> Any:
        result = real(path, **more)
        if not str(path).endswith("a.jpg"):
            return result
        times = {"st_mtime_ns": seconds * 10**9}
        return SimpleNamespace(st_mode=result.st_mode, st_size=result.st_size, **times)

    monkeypatch.setattr(os, "stat", stat)
    (file,) = listed(tmp_path)
    assert (file.size, file.modified) == (1, None)
    assert not is_for_spark(file)  # its time is out of range


def test_a_cycle_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.jpg")
    (tmp_path / "x" / "round").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(listed(tmp_path)) == ["a.jpg"]


@pytest.mark.parametrize("pattern", ["**/*.jpg", "**", "*/**", "**/x/**/*.jpg", "**/**/a.jpg"])
def test_a_recursive_glob_follows_no_cycle_of_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    touch(tmp_path / "x" / "a.jpg")
    for name in ("here", "there"):  # with two links, the number of paths doubles at every level
        (tmp_path / "x" / name).symlink_to(tmp_path / "x")
    assert names(listed(f"{tmp_path}/{pattern}")) == ["a.jpg"]
    monkeypatch.chdir(tmp_path)
    assert names(listed(pattern)) == ["a.jpg"]


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    assert names(listed(tmp_path / "source")) == ["file.jpg", "a.jpg"]


def test_a_broken_link_gets_a_row_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    files = listed(tmp_path)
    (batch,) = read_batches(files, PARENT)
    assert batch["content"].to_pylist() == [None]
    assert batch["read_error"].to_pylist() == ["cannot be read: No such file or directory"]


def test_a_named_pipe_does_not_block_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (batch,) = read_batches(listed(tmp_path), PARENT)
    assert batch["read_error"].to_pylist() == ["not a regular file"]


def test_a_name_that_is_not_utf8_is_listed_and_read(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"latin")
    (batch,) = read_batches(listed(tmp_path), PARENT)
    assert batch["path"].to_pylist() == [f"file://{tmp_path}/caf%E9.jpg"]
    assert batch["content"].to_pylist() == [b"latin"]


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_valid_name_is_unchanged_in_the_uri(name: str) -> None:
    assert ImageFile(f"/data/{name}", 0, 0).uri == f"file:/data/{name}"


def test_a_table_inside_the_source_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "table" / "b.jpg")
    assert names(listed(tmp_path, table=str(tmp_path / "table"))) == ["a.jpg"]


def test_batches_are_bounded_in_bytes(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(BATCH_BYTES // 2))
    sizes = [batch.num_rows for batch in read_batches(listed(tmp_path), PARENT)]
    assert sizes == [2, 2, 2]


def test_the_error_for_a_missing_source_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist: give a folder, an image or a glob"):
        Source(str(tmp_path / "nowhere")).check()


def test_the_error_for_a_source_without_images_lists_the_known_extensions(tmp_path: Path) -> None:
    touch(tmp_path / "a.txt")
    with pytest.raises(
        SourceError,
        match=r"has no images \(skipped: 1 \.txt\): known extensions are \.apng .*`globs`",
    ):
        listing_of(tmp_path).check()


@pytest.mark.parametrize("location", ["{}", "{}/", "{}/*", "{}/**/*.jpg", "{}/**"])
def test_a_file_is_deleted_if_it_was_in_the_source_and_no_longer_exists(
    tmp_path: Path, location: str
) -> None:
    touch(tmp_path / "in" / "there.jpg", tmp_path / "in" / "x" / "there.jpg")
    (tmp_path / "in" / "broken.jpg").symlink_to("nowhere")
    source = Source(location.format(tmp_path / "in"))
    assert source.is_gone(f"file:{tmp_path}/in/gone.jpg")
    assert source.is_gone(f"file:{tmp_path}/in/x/gone.jpg")
    assert not source.is_gone(f"file:{tmp_path}/in/there.jpg")
    assert not source.is_gone(f"file:{tmp_path}/in/broken.jpg")
    assert not source.is_gone(f"file:{tmp_path}/inn/gone.jpg")
    assert not source.is_gone("s3a://bucket/gone.jpg")


FOLDERS = st.lists(st.sampled_from(["a", "b", ".h", "_u"]), max_size=3)
FILES = st.sampled_from(["a.jpg", "b.png", "c.txt", "_d.jpg", "e.h.jpg"])
PATTERNS = [
    *(
        "",
        "/",
        "/*",
        "/**",
        "/*/**",
        "/*/",
        "/*/*",
        "/a",
        "/a/*",
        "/a*",
        "/?/b",
        "/[ab]/**",
        "/**/*.jpg",
    ),
    *("/**/a", "/.h/*", "/*/.h", "/**/b/**/*.png", "/a/a.jpg"),
]
GLOBS = st.sampled_from([(), ("*.png",), ("a/*.txt",), ("*.txt", "*.jpg"), ("_*",), (".h/*.jpg",)])


@settings(max_examples=300)
@given(
    files=st.sets(st.tuples(FOLDERS.map("/".join), FILES), min_size=1, max_size=8),
    pattern=st.sampled_from(PATTERNS),
    globs=GLOBS,
)
def test_only_removed_and_excluded_files_count_as_deleted(
    tmp_path_factory: pytest.TempPathFactory,
    files: set[tuple[str, str]],
    pattern: str,
    globs: tuple[str, ...],
) -> None:
    folder = tmp_path_factory.mktemp("tree") / "in"
    paths = [folder / above / name for above, name in files]
    touch(*paths)
    uris = {f"file:{path}" for path in paths}

    def listing(*exclude: str) -> set[str]:
        source = Source(f"{folder}{pattern}", Selection(globs, exclude))
        return {file.uri for file in Listing("", source.files, source.is_gone).files()}

    source = Source(f"{folder}{pattern}", Selection(globs))
    was_listed, with_excluded = listing(), listing("!*")
    assert set(filter(source.is_gone, uris)) == with_excluded - was_listed
    shutil.rmtree(folder)
    folder.mkdir()
    assert set(filter(source.is_gone, uris)) == with_excluded >= was_listed


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """1,500 nested folders, with a picture in the last."""
    names = ["d"] * 1_500
    path = tmp_path
    for name in names:
        path.mkdir(exist_ok=True)
        path /= name
    path.mkdir()
    touch(path / "a.jpg")
    yield tmp_path
    (path / "a.jpg").unlink()
    for _ in names:  # neither shutil nor pytest can remove it
        path.rmdir()
        path = path.parent


def test_folders_may_be_deeper_than_pythons_stack(deep_folder: Path) -> None:
    assert names(listed(deep_folder)) == ["a.jpg"]


@pytest.mark.parametrize("slashes", ["//", "///", "file:/", "file://", "file:///"])
def test_a_file_has_one_uri_for_any_number_of_leading_slashes(tmp_path: Path, slashes: str) -> None:
    touch(tmp_path / "a.jpg")
    location = slashes + str(tmp_path).lstrip("/")
    assert [file.uri for file in listed(location)] == [f"file:{tmp_path}/a.jpg"]
    assert [file.uri for file in listed(f"{location}/*.jpg")] == [f"file:{tmp_path}/a.jpg"]
    assert Source(location).is_gone(f"file:{tmp_path}/gone.jpg")


def test_an_existing_file_whose_name_is_not_utf8_does_not_count_as_deleted(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    Path(path).touch()
    (file,) = listed(tmp_path)
    assert not Source(str(tmp_path)).is_gone(file.uri)
    Path(path).unlink()
    assert Source(str(tmp_path)).is_gone(file.uri)


def test_a_relative_glob_detects_deleted_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Source("*.jpg").is_gone(f"file:{tmp_path}/gone.jpg")
    assert not Source("*.jpg").is_gone("file:/elsewhere/gone.jpg")


@given(names=st.lists(st.binary(min_size=1, max_size=4), min_size=2, max_size=2, unique=True))
def test_no_two_files_have_the_same_uri(names: list[bytes]) -> None:
    alphabet = [b"a", b"%", b"E", b"9", b"\xe9", b"\xc3", b"\xa9"]
    paths = ["/" + os.fsdecode(b"".join(alphabet[b % 7] for b in name)) for name in names]
    one, other = (ImageFile(path, 1, 1).uri for path in paths)
    assert (one == other) == (paths[0] == paths[1])


def test_a_name_that_is_not_utf8_and_its_escaped_look_alike_are_two_rows(tmp_path: Path) -> None:
    (tmp_path / "100%").mkdir()
    for name in (b"caf\xe9.png", b"caf%E9.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/100%/" + name)).touch()
    files = listed(tmp_path)
    assert {file.uri for file in files} == {
        f"file://{tmp_path}/100%25/caf%E9.png",
        f"file:{tmp_path}/100%/caf%E9.png",
    }
    assert {PARENT(file.uri) for file in files} == {"100%"}


def test_the_error_for_a_source_without_images_gives_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"\*\.xyz matches no file or folder: check the pattern"):
        Source(f"{tmp_path}/*.xyz").check()
    with pytest.raises(SourceError, match="a.jpg/ is a file, not a folder: remove the slash"):
        Source(f"{tmp_path}/a.jpg/").check()
