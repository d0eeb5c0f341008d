"""Images in tar and zip files: how they are listed and read, without an engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pomona.errors import SourceError
from pomona.io.member_uri import file_of_row, member_of_row, member_uri
from pomona.source.archives.listing import Archives, archives_of
from pomona.source.archives.one_member import read_member
from pomona.source.archives.reader import MemberReader
from pomona.source.image_file import ImageFile
from pomona.source.labels import parse_label_rule
from pomona.source.listing import Listing, Source
from pomona.source.missing_files import is_missing
from pomona.source.selection import Selection

GOLDENS = Path(__file__).parents[1] / "goldens"
PARENT = parse_label_rule("parent")
FILES = {"red/a.jpg": b"A" * 3000, "red/b.png": b"B" * 70, "blue/c.jpg": b"", "d.jpg": b"D" * 513}


def archives(location: object, *globs: str, exclude: Sequence[str] = ()) -> Archives:
    found = archives_of(Source(str(location), Selection(globs, tuple(exclude))))
    assert found is not None
    return found


def listed(location: object, *globs: str, exclude: Sequence[str] = ()) -> list[ImageFile]:
    return list(Listing.of(archives(location, *globs, exclude=exclude)).files())


def skipped(location: object, *globs: str, exclude: Sequence[str] = ()) -> list[str]:
    listing = Listing.of(archives(location, *globs, exclude=exclude))
    list(listing.files())
    return listing.passed_over.in_words()


def contents(location: object, *globs: str) -> dict[str, bytes | str | None]:
    """The bytes of each image by name, or the reason why there are none."""
    files = listed(location, *globs)
    reader = pickle.loads(pickle.dumps(MemberReader()))
    read = list(reader.read(pickle.loads(pickle.dumps(files))))
    names = [file.uri.partition("::")[2] for file in files]
    assert len(set(names)) == len(names)
    return {
        name: reason if content is None else content
        for name, (content, reason) in zip(names, read, strict=True)
    }


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def on_disk(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def gnu_tar(path: Path, folder: Path, *options: str) -> Path:
    subprocess.run(["tar", *options, "-C", folder, "-cf", path, "."], check=True)
    return path


def info_zip(path: Path, folder: Path, *options: str) -> Path:
    subprocess.run(["zip", "-qr", *options, path, "."], cwd=folder, check=True)
    return path


def streamed_zip(path: Path, folder: Path) -> Path:
    with path.open("wb") as file:
        subprocess.run(["zip", "-qr", "-", "."], cwd=folder, stdout=file, check=True)
    return path


WRITERS: dict[str, Callable[[Path, Path], Path]] = {
    "gnu.tar": gnu_tar,
    "posix.tar": lambda path, folder: gnu_tar(path, folder, "--format=posix"),
    "v7.tar": lambda path, folder: gnu_tar(path, folder, "--format=v7"),
    "gnu.tar.gz": lambda path, folder: gnu_tar(path, folder, "-z"),
    "GNU.TGZ": lambda path, folder: gnu_tar(path, folder, "-z"),
    "packed.tar": lambda path, folder: gnu_tar(path, folder, "-z"),
    "plain.tgz": gnu_tar,
    "python.tar": lambda path, _: tar_of(path, FILES),
    "python.zip": lambda path, _: zip_of(path, FILES),
    "stored.zip": lambda path, _: zip_of(path, FILES, zipfile.ZIP_STORED),
    "info.zip": info_zip,
    "streamed.zip": streamed_zip,
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_archive_of_any_tool_has_the_images_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = on_disk(tmp_path / "folder", FILES | {"notes.txt": b"text", ".hidden/x.jpg": b"x"})
    archive = WRITERS[name](tmp_path / name, folder)
    assert contents(archive) == FILES
    labels = {file.uri.rpartition("/")[2]: PARENT(file.uri) for file in listed(archive)}
    assert {labels.pop(name) for name in ("a.jpg", "b.png")} == {"red"}
    assert labels == {"c.jpg": "blue", f"{name}::d.jpg": None}


def test_a_member_has_its_own_size_and_the_time_of_its_archive(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "s.tar", FILES)
    os.utime(archive, ns=(0, 1_700_000_000_123_456_789))
    (file, *_) = listed(archive)
    assert file[:3] == (f"file:{archive}::red/a.jpg", 3000, 1_700_000_000_123)


def test_a_folder_of_archives_and_a_glob_of_archives_are_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    tar_of(tmp_path / "0.tar", {"a.jpg": b"a"})
    zip_of(tmp_path / "sub" / "1.zip", {"b.jpg": b"b"})
    (tmp_path / "README.md").touch()
    assert len(listed(tmp_path)) == 2
    assert len(listed(tmp_path / "*.tar")) == 1
    assert len(listed(tmp_path / "**" / "*.zip")) == 1
    assert len(listed(tmp_path, exclude=["0.tar"])) == 1
    assert skipped(tmp_path) == ["skipped: 1 .md"]


def test_archives_beside_images_are_not_opened(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", {"a.jpg": b"a"})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jpg").touch()
    assert archives_of(Source(str(tmp_path))) is None
    assert archives_of(Source(str(tmp_path), Selection(exclude=("sub/",)))) is not None
    assert archives_of(Source(str(tmp_path / "0.tar"))) is not None


def test_a_folder_whose_name_ends_like_an_archive_is_a_folder(tmp_path: Path) -> None:
    on_disk(tmp_path / "photos.zip")
    assert archives_of(Source(str(tmp_path / "photos.zip"))) is None


def test_patterns_apply_below_the_archive(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "s.tar", FILES | {"red/x.dat": b"x", "inner.tar": b""})
    assert len(listed(archive, "*.dat")) == 1
    assert len(listed(archive, "red/*.jpg")) == 1
    assert len(listed(archive, exclude=["red/"])) == 2
    assert skipped(archive) == ["skipped: 1 .dat, 1 .tar"]
    assert skipped(archive, exclude=["blue/*.jpg", "gone"]) == [
        "skipped: 1 .dat, 1 .tar",
        "excluded: 1 blue/*.jpg",
        "`exclude` 'gone' matches nothing; a path there starts below `source`",
    ]


def test_names_are_where_unpacking_would_put_the_members(tmp_path: Path) -> None:
    odd = {"./a.jpg": b"1", "/etc/b.jpg": b"2", "x//./c.jpg": b"3", "../d.jpg": b"4"}
    odd |= {"x/../../e.jpg": b"5", "f::g/h.jpg": b"6", "new\nline %20é.jpg": b"7"}
    for archive in (tar_of(tmp_path / "s.tar", odd), zip_of(tmp_path / "s.zip", odd)):
        assert contents(archive) == {
            "a.jpg": b"1",
            "etc/b.jpg": b"2",
            "x/c.jpg": b"3",
            "f::g/h.jpg": b"6",
            "new\nline %20é.jpg": b"7",
        }
        assert skipped(archive) == ["skipped: 2 .jpg"]


def test_a_member_without_a_name_is_skipped(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "s.tar", {"": b"1", "a.jpg": b"2"})
    assert contents(archive, "*") == {"a.jpg": b"2"}
    archive = zip_of(tmp_path / "s.zip", {"12345": b"1", "a.jpg": b"2"})
    raw = archive.read_bytes().replace(b"12345", b"\x99\x99\x01\0z")  # becomes an extra field
    at = raw.index(b"PK\1\2") + 28
    archive.write_bytes(raw[:at] + struct.pack("<HH", 0, 5) + raw[at + 4 :])
    assert contents(archive, "*") == {"a.jpg": b"2"}


def test_a_member_whose_name_is_not_text_has_an_escaped_path(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "s.tar", {"r\udce9d/50%.jpg": b"x"})
    (file,) = listed(archive)
    assert file.uri == f"file://{archive}::r%E9d/50%25.jpg"
    assert PARENT(file.uri) == "r%E9d"
    assert member_of_row(file.uri) == (str(archive), "r\udce9d/50%.jpg")


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
odd_names = st.lists(
    st.one_of(names, st.sampled_from(["::", ":", ".tar", ".zip::", "%3A", "%", "\udce9"])),
    min_size=1,
).map("".join)
odd_paths = st.lists(odd_names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(odd_paths, odd_names, odd_paths)
def test_paths_of_members_and_files_are_never_confused(folder: str, name: str, file: str) -> None:
    archive = f"{folder}/x.tar"
    uri = member_uri(archive, name)
    uri.encode()
    assert member_of_row(uri) == (archive, name)
    plain = ImageFile(file, None, None).uri
    plain.encode()
    assert member_of_row(plain) is None
    assert file_of_row(plain) == file
    assert plain != uri


def test_the_last_of_several_members_with_one_name_counts(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "s.tar", {"a.jpg": b"old", "b.jpg": b"b"})
    tar_of(archive, {"./a.jpg": b"new"}, mode="a")
    assert contents(archive) == {"b.jpg": b"b", "a.jpg": b"new"}
    assert skipped(archive) == ["skipped: 1 with the name of a later member"]


def test_links_and_devices_in_a_tar_file_are_rows_with_a_reason(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "s.tar", {"a.jpg": b"a"})
    kinds = {"hard.jpg": (tarfile.LNKTYPE, "./a.jpg"), "lost.jpg": (tarfile.LNKTYPE, "no.jpg")}
    kinds |= {"soft.jpg": (tarfile.SYMTYPE, "/etc/passwd"), "dir.jpg": (tarfile.DIRTYPE, "")}
    kinds |= {"pipe.jpg": (tarfile.FIFOTYPE, ""), "dev.jpg": (tarfile.CHRTYPE, "")}
    with tarfile.open(path, "a") as archive:
        for name, (kind, target) in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    assert contents(path) == {
        "a.jpg": b"a",
        "hard.jpg": b"a",
        "lost.jpg": "is a link to 'no.jpg', which is not an image before it",
        "soft.jpg": "is a link to '/etc/passwd': links in archives are not followed",
        "pipe.jpg": "not a regular file",
        "dev.jpg": "not a regular file",
    }


def test_links_encryption_and_rare_methods_in_a_zip_file_are_rows_with_a_reason(
    tmp_path: Path,
) -> None:
    path = zip_of(tmp_path / "s.zip", {"a.jpg": b"a"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("soft.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bz.jpg", b"x", zipfile.ZIP_BZIP2)
    (tmp_path / "p.jpg").write_bytes(b"p")
    subprocess.run(["zip", "-qP", "secret", "s.zip", "p.jpg"], cwd=tmp_path, check=True)
    assert contents(path) == {
        "a.jpg": b"a",
        "soft.jpg": "is a link: links in archives are not followed",
        "bz.jpg": "is compressed by method 12 of zip: expected stored or deflated",
        "p.jpg": "is encrypted: unpack the archive to read it",
    }


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_tar_file_gives_its_readable_members(tmp_path: Path, mode: str) -> None:
    noise = {f"{n}.jpg": os.urandom(40_000) for n in range(20)}
    path = tar_of(tmp_path / "s.tar", noise, mode)
    path.write_bytes(path.read_bytes()[:500_000])
    read = contents(path)
    rest = read.pop("")
    whole = {name: content for name, content in read.items() if isinstance(content, bytes)}
    assert list(whole.items()) == list(noise.items())[: len(whole)]
    assert len(whole) >= 8
    assert len(read) - len(whole) <= 1
    assert isinstance(rest, str)
    assert rest.startswith("cannot be read after byte 4")


@pytest.mark.parametrize("cut", [0, 1, 100, 512, 700, 1024, 1536, 5120])
def test_a_tar_file_cut_at_any_place_says_so(tmp_path: Path, cut: int) -> None:
    path = tar_of(tmp_path / "s.tar", FILES)
    path.write_bytes(path.read_bytes()[:cut])
    assert "" in contents(path)


def test_a_damaged_header_ends_a_tar_file_there(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "s.tar", {"a.jpg": b"a" * 512, "b.jpg": b"b", "c.jpg": b"c"})
    damaged = bytearray(path.read_bytes())
    damaged[1024 + 150] ^= 0xFF  # the checksum of the second header
    path.write_bytes(damaged)
    assert contents(path) == {
        "a.jpg": b"a" * 512,
        "": "cannot be read after byte 512: no header follows",
    }


def test_a_second_archive_behind_the_first_is_reported(tmp_path: Path) -> None:
    one, two = tar_of(tmp_path / "1.tar", {"a.jpg": b"a"}), tar_of(tmp_path / "2.tar", FILES)
    one.write_bytes(one.read_bytes().rstrip(b"\0") + bytes(1535 - 512 + 512) + two.read_bytes())
    found = contents(one)
    assert found["a.jpg"] == b"a"
    assert "another archive follows its end" in str(found[""])


def test_a_damaged_gzip_stream_is_reported(tmp_path: Path) -> None:
    noise = {f"{n}.jpg": os.urandom(400_000) for n in range(8)}
    path = tar_of(tmp_path / "s.tar.gz", noise, "w:gz")
    damaged = bytearray(path.read_bytes())
    damaged[1_600_000:1_600_100] = bytes(100)
    path.write_bytes(damaged)
    found = contents(path)
    assert isinstance(found.pop(""), str)
    assert [name for name in found if found[name] != noise[name]] == ["3.jpg"]


def test_a_wrong_checksum_of_gzip_is_reported(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "s.tar.gz", FILES, "w:gz")
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 0xFF
    path.write_bytes(damaged)
    found = contents(path)
    assert "CRC" in str(found.pop(""))
    assert found == FILES


def test_a_damaged_member_of_a_zip_file_fails_alone(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "s.zip", FILES, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"B" * 70, b"B" * 69 + b"C"))
    assert contents(path) == FILES | {"red/b.png": "is damaged: its checksum does not match"}


def test_a_truncated_zip_file_is_one_row_with_a_reason(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "s.zip", FILES)
    path.write_bytes(path.read_bytes()[:-30])
    assert contents(path) == {"": "cannot be read: File is not a zip file"}


def test_an_archive_that_is_no_file_is_one_row_with_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.tar")
    (tmp_path / "lost.zip").symlink_to(tmp_path / "nowhere")
    found = listed(tmp_path)
    assert [file.uri.rpartition("/")[2] for file in found] == ["lost.zip::", "p.tar::"]
    reasons = [reason for _, reason in MemberReader().read(found)]
    assert reasons == [
        "cannot be read: No such file or directory",
        "cannot be read: not a regular file",
    ]


def test_an_archive_that_changes_during_a_run_is_not_read(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "s.tar", {"a.jpg": b"a", "b.jpg": b"b"})
    files = listed(path)
    tar_of(path, {"b.jpg": b"b", "a.jpg": b"a"})
    os.utime(path, ns=(0, 5))
    reason = "cannot be read: its archive has changed during the run"
    assert list(MemberReader().read(files)) == [(None, reason)] * 2
    path.unlink()
    ((_, gone), _) = MemberReader().read(files)
    assert gone == "cannot be read from its archive: No such file or directory"


def test_rows_are_gone_only_if_their_archive_was_read_to_its_end(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "whole.tar", {"a.jpg": b"a"})
    cut = tar_of(tmp_path / "cut.tar", {"a.jpg": b"a" * 600, "b.jpg": b"b"})
    cut.write_bytes(cut.read_bytes()[:1800])
    images = archives(tmp_path)
    list(Listing.of(images).files())
    assert images.is_gone(f"file:{whole}::b.jpg")
    assert images.is_gone(f"file:{whole}::")
    assert not images.is_gone(f"file:{whole}::notes.txt")
    assert not images.is_gone(f"file:{cut}::b.jpg")
    assert images.is_gone(f"file:{tmp_path}/deleted.tar::b.jpg")
    assert not images.is_gone(f"file:{tmp_path}/b.jpg")
    assert not images.is_gone("file:/elsewhere/deleted.tar::b.jpg")
    assert not Source(str(tmp_path)).is_gone(f"file:{whole}::b.jpg")


def test_an_image_exists_if_its_archive_does(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "s.tar", FILES)
    assert is_missing(member_uri(str(archive), "red/a.jpg")) is False
    assert is_missing(member_uri(str(tmp_path / "t.tar"), "red/a.jpg")) is True


def test_members_of_tar_and_zip_have_digests(tmp_path: Path) -> None:
    for path in (tar_of(tmp_path / "s.tar", FILES), zip_of(tmp_path / "s.zip", FILES)):
        images = archives(path)
        first, *_, last = images.files(lambda _: None)
        assert images.digest(first) == hashlib.sha256(b"A" * 3000).hexdigest()
        assert images.digest(last) == hashlib.sha256(b"D" * 513).hexdigest()


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bombs_take_little_memory_and_are_rows_with_a_reason(tmp_path: Path) -> None:
    zeros = bytes(200 * 2**20)
    small = {"a.jpg": b"a"}
    bomb = small | {"bomb.jpg": zeros}
    packed = tar_of(tmp_path / "s.tar.gz", bomb, "w:gz")
    zipped = zip_of(tmp_path / "s.zip", bomb)
    reason = "would unpack to more than 100 times its size"

    def check() -> None:
        found = contents(packed)
        assert found.pop("") == f"cannot be read after byte 1536: it {reason}"
        assert found == small | {"bomb.jpg": f"the archive {reason}"}
        assert contents(zipped) == small | {"bomb.jpg": reason}

    assert peak_of(check) < 20 * 2**20


def header(kind: bytes, size: bytes) -> bytes:
    """A header of tar with any size."""
    block = bytearray(tarfile.TarInfo("a.jpg").tobuf())
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"S", b"\0"])
@pytest.mark.parametrize(
    "size",
    [
        b"77777777777",
        b"\x80" + (2**50).to_bytes(11),
        b"\xff" * 11 + b"\0",
        b"\xff" * 10 + b"\xfe\0",
        b"-1000",
    ],
    ids=["most", "large", "minus 256", "minus 512", "no number"],
)
def test_absurd_sizes_in_headers_end_an_archive_at_once(
    tmp_path: Path, kind: bytes, size: bytes
) -> None:
    first = header(b"0", b"0")
    for name, pack in (("s.tar", bytes), ("s.tar.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(first + header(kind, size) + bytes(2**20)))
        peak = peak_of(lambda name=name: contents(tmp_path / name))  # type: ignore[misc]
        assert peak < 8 * 2**20
        found = contents(tmp_path / name)
        assert len(found) == 1 or "" in found
        assert {type(content) for content in found.values()} & {str}


def test_a_directory_of_zip_with_an_absurd_size_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "s.zip", FILES)
    raw = bytearray(path.read_bytes())
    end = raw.rfind(b"PK\5\6")
    raw[end + 12 : end + 16] = struct.pack("<L", 2**31)
    path.write_bytes(raw)
    assert list(contents(path)) == [""]


whole_archives = st.sampled_from(["s.tar", "s.tar.gz", "s.zip"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(whole_archives, st.data())
def test_damaged_archives_of_any_kind_give_rows(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    path = tmp_path / name
    if name == "s.zip":
        zip_of(path, FILES)
    else:
        tar_of(path, FILES, "w:gz" if name.endswith("gz") else "w")
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        part = data.draw(st.binary(max_size=20))
        raw[at : at + data.draw(st.integers(0, 20))] = part
        raw = raw or bytearray(b"x")
    path.write_bytes(raw)
    for content, reason in zip(contents(path).values(), range(99), strict=False):
        assert content is not None, reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(whole_archives, st.binary(max_size=2000))
def test_any_bytes_as_an_archive_give_one_row_with_a_reason(
    tmp_path: Path, name: str, raw: bytes
) -> None:
    (tmp_path / name).write_bytes(raw)
    assert [type(found) for found in contents(tmp_path / name).values()] == [str]


def test_labels_may_be_in_files_beside_the_images(tmp_path: Path) -> None:
    files = {
        "0.cls": b"7\n",
        "0.jpg": b"a",
        "0.json": b'{"label": "red", "n": 1}',
        "1.seg.png": b"b",
        "1.cls": b"",
        "1.json": b"no json",
        "x.y/2.jpg": b"c",
        "x.y/2.cls": "é".encode(),
    }
    tar_of(tmp_path / "a.tar", files)
    tar_of(tmp_path / "b.tar.gz", {"0.jpg": b"d", "0.cls": b"8"}, "w:gz")
    assert archives(tmp_path).labels("cls") == {
        f"file:{tmp_path}/a.tar::0.jpg": "7",
        f"file:{tmp_path}/a.tar::1.seg.png": None,
        f"file:{tmp_path}/a.tar::x.y/2.jpg": "é",
        f"file:{tmp_path}/b.tar.gz::0.jpg": "8",
    }
    json = archives(tmp_path / "a.tar").labels("json.label")
    assert json == {
        f"file:{tmp_path}/a.tar::0.jpg": "red",
        f"file:{tmp_path}/a.tar::1.seg.png": None,
        f"file:{tmp_path}/a.tar::x.y/2.jpg": None,
    }
    with pytest.raises(SourceError, match=r"has no files '\*.txt' beside its images"):
        archives(tmp_path).labels("txt")


def test_a_shard_by_webdataset_has_its_images_and_labels() -> None:
    shard = GOLDENS / "webdataset.tar"  # tests/goldens/regenerate_webdataset.py
    keys = ["part0/000000", "part1/000001", "part0/000002"]
    assert contents(shard) == {f"{key}.pgm": b"P5 1 1 255 %c" % n for n, key in enumerate(keys)}
    uris = [f"file:{shard}::{key}.pgm" for key in keys]
    assert archives(shard).labels("cls") == dict(zip(uris, ["5", "6", "7"], strict=True))
    named = dict(zip(uris, ["colour 0", "colour 1", "colour 2"], strict=True))
    assert archives(shard).labels("json.class") == named


def test_single_members_are_read_by_the_paths_of_their_rows(tmp_path: Path) -> None:
    files = FILES | {".odd [1]\udce9/x.dat": b"x"}
    path = tar_of(tmp_path / "s [1].tar", files)
    for name, content in files.items():
        known = None if name.startswith(".") else content
        assert read_member(member_uri(str(path), name))[0] == known
    tar_of(path, {"red/a.jpg": b"new"})
    assert read_member(member_uri(str(path), "red/a.jpg")) == (b"new", None)
    assert read_member(member_uri(str(path), "d.jpg")) == (None, "is not in its archive")
    packed = tar_of(tmp_path / "s.tgz", FILES, "w:gz")
    assert read_member(member_uri(str(packed), "d.jpg")) == (None, "is in a compressed tar file")
    missing = member_uri(str(tmp_path / "t.tar"), "d.jpg")
    assert read_member(missing) == (None, "is not in its archive")


def test_a_range_of_numbers_chooses_among_archives_and_finds_their_gone_members(
    tmp_path: Path,
) -> None:
    for number in ("08", "09", "10", "11", "9"):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("a.jpg"))
    (tmp_path / "shard-{08..09}.zip").touch()
    source = archives(f"{tmp_path}/shard-{{08..10}}.tar")
    found = [file.path for file in source.files(lambda _: None)]
    assert found == [f"file:{tmp_path}/shard-{number}.tar::a.jpg" for number in ("08", "09", "10")]
    assert source.is_gone(f"file:{tmp_path}/shard-09.tar::b.jpg")
    assert not source.is_gone(f"file:{tmp_path}/shard-11.tar::b.jpg")
    literal = archives(f"{tmp_path}/shard-{{08..09}}.zip")
    assert len(list(literal.files(lambda _: None))) == 1
    with pytest.raises(SourceError, match="matches no file"):
        archives(f"{tmp_path}/shard-{{20..30}}.tar").check()
