from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import FileSystemHandler

import object_store
import pomona
from pomona.cli.main import app
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, UsageError
from pomona.io.location import (
    canonical,
    check_here,
    is_remote,
    local_path,
    path_of_row,
    read_file,
    without_password,
    written_whole,
)
from pomona.source.image_file import ImageFile


@pytest.fixture
def store() -> Iterator[object_store.ObjectStore]:
    with object_store.serving() as store:
        yield store


@pytest.mark.parametrize(
    ("uri", "remote"),
    [
        ("photos/", False),
        ("/photos", False),
        ("file:/photos", False),
        ("file:///photos", False),
        ("s3a://bucket/photos", True),
        ("hdfs://name/photos", True),
        ("dbfs:/Volumes/photos", True),
        ("hdfs:/photos", True),
        ("hdfs:///photos", True),
        ("viewfs:/photos", True),
        ("wasbs://c@account.blob.core.windows.net/photos", True),
        ("maprfs:/photos", True),
        ("S3A://bucket/photos", True),
        ("https://example.org/photos", True),
        ("never.heard+of:/photos", True),
        ("FILE:/photos", False),
        ("file://localhost/photos", False),
        ("a:b", False),
        ("a:b/c", False),
        ("photos:2024/x", False),
        ("C:/photos", False),
        ("C:\\photos", False),
        ("./dbfs:/photos", False),
        ("/data/s3a:/photos", False),
    ],
)
def test_only_uris_of_other_file_systems_are_remote(uri: str, remote: bool) -> None:
    assert is_remote(uri) is remote


@pytest.mark.parametrize(
    ("location", "one_spelling"),
    [
        ("hdfs:/x/y", "hdfs:///x/y"),
        ("dbfs:/x", "dbfs:///x"),
        ("HDFS://Name/X", "hdfs://Name/X"),
        ("S3A://Bucket/x", "s3a://Bucket/x"),
        ("s3a:/bucket/x", "s3a://bucket/x"),
        ("viewfs:///x", "viewfs:///x"),
        ("/a:b/c", "/a:b/c"),
        ("photos", "photos"),
        ("file:/x", "file:/x"),
    ],
)
def test_a_location_has_one_canonical_form(location: str, one_spelling: str) -> None:
    assert canonical(location) == canonical(one_spelling) == one_spelling


@pytest.mark.parametrize(
    "location", ["file:/x/y", "file:///x/y", "file://localhost/x/y", "FILE:/x/y", "//x/y", "/x/y"]
)
def test_every_form_of_a_file_uri_gives_its_path(location: str) -> None:
    assert local_path(location) == "/x/y"


@pytest.mark.parametrize(
    "name", ["a:b", "x:/y", "C:/photos", "C:\\photos", "foo:/bar", "\\\\nas\\x"]
)
def test_an_existing_local_path_that_looks_like_a_uri_is_local(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    for location in (name, f"{name}/*.jpg"):
        assert not is_remote(location)
        assert canonical(location) == location
    check_here(name, "SOURCE", UsageError)


REFUSED = [
    (
        "dbfs:/Volumes/x",
        "is on the file system 'dbfs', not on this machine: .* give /dbfs/Volumes/x",
    ),
    ("hdfs:/x", "is on the file system 'hdfs', not on this machine"),
    ("viewfs:/x", "is on the file system 'viewfs'"),
    ("maprfs:/x", "is on the file system 'maprfs'"),
    ("wasbs://c@a.blob.core.windows.net/x", "is on the file system 'wasbs'"),
    ("COSN://bucket/x", "is on the file system 'cosn'"),
    ("foo:/x", "is on the file system 'foo', .*give ./foo:/x"),
    ("https://example.org/x", "is a web address.*give a path of this machine"),
    ("C:\\photos\\x", "is a Windows path.*/mnt/c/photos/x"),
    ("d:/photos", "is a Windows path.*/mnt/d/photos"),
    ("\\\\nas\\photos", "is a Windows path"),
    ("file:///C:/photos", "is a Windows path"),
    ("file://nas/photos", "names the host nas: write file:///"),
]


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(("location", "message"), REFUSED)
def test_a_location_that_is_not_local_is_refused_with_a_remedy_and_nothing_is_written(
    location: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        check_here(location, "--weights", UsageError)
    for source, table in ((location, "t"), ("pictures", location)):
        with pytest.raises(UsageError, match=message):
            pomona.extract(source, table, engine=pomona.LocalEngine(workers=1))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("location", ["dbfs:/Volumes/x", "C:\\photos\\x", "file:///C:/x"])
@pytest.mark.parametrize(
    "command",
    [
        *("extract {} t", "extract pictures {}", "extract pictures t --label csv:{}"),
        *("extract pictures t --model {}.onnx", "extract pictures t --weights {}.h5"),
        "encoder build mobilenet_v2 --weights untrained:7 -o {}",
    ],
)
def test_every_command_refuses_a_location_that_is_not_local(
    command: str, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, [word.replace("{}", location) for word in command.split()])
    assert isinstance(result.exception, UsageError), result.output
    assert re.search("not on this machine: |is a Windows path", str(result.exception))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("location", ["C:\\photos\\x", "file:///C:/x", "https://example.org/x"])
def test_images_encoders_and_tables_at_unsupported_addresses_are_refused(
    location: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is a Windows path|is a web address"):
        pomona.FeatureTable.at(location)
    with pytest.raises(UsageError, match="is a Windows path|is a web address"):
        pomona.build_encoder("mobilenet_v2", location)
    with pytest.raises(OSError, match="is a Windows path|is a web address"):
        read_file(location)
    assert not list(tmp_path.iterdir())


def test_an_output_file_may_be_a_file_uri_but_not_a_remote_uri(
    tmp_path: Path,
) -> None:
    for number, prefix in enumerate(("file:", "file://")):
        with written_whole(Path(f"{prefix}{tmp_path}/{number}"), UsageError) as draft:
            draft.write_text("new")
        assert (tmp_path / str(number)).read_text() == "new"
    message = "the file s3a://bucket/x .*: write it here, and copy it there"
    with (
        pytest.raises(UsageError, match=message),
        written_whole(Path("s3a://bucket/x"), UsageError),
    ):
        pass


@pytest.mark.parametrize("prefix", ["", "file:", "file://"])
def test_a_local_file_is_read_by_path_and_by_uri(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "a b%20c").write_bytes(b"whole")
    assert read_file(f"{prefix}{tmp_path}/a b%20c") == b"whole"


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_an_object_is_read_completely_under_each_of_its_schemes(
    scheme: str, store: object_store.ObjectStore
) -> None:
    store.objects["/bucket/a.encoder"] = bytes(range(256)) * 4096
    assert read_file(store.uri("/bucket/a.encoder", scheme)) == bytes(range(256)) * 4096


def test_the_embedded_engine_accepts_an_encoder_uri(
    store: object_store.ObjectStore, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    store.objects["/bucket/fruit.encoder"] = encoder.to_bytes()
    uri = store.uri("/bucket/fruit.encoder")
    assert (
        pomona.extract(
            pictures, tmp_path / "t", encoder=uri, engine=pomona.LocalEngine(workers=1)
        ).ok
        == 11
    )


def test_a_missing_object_is_one_clear_error_without_the_secret(
    store: object_store.ObjectStore,
) -> None:
    with pytest.raises(EncoderError, match=r"cannot read the encoder s3a://key:\*\*\*@bucket/none"):
        Encoder.load(store.uri("/bucket/none"))


def test_the_error_for_a_scheme_unknown_to_arrow_lists_the_known_ones() -> None:
    with pytest.raises(EncoderError, match="wasbs://c/x: .*Arrow reads s3, s3a, gs, abfss and"):
        Encoder.load("wasbs://c/x")


@pytest.mark.parametrize("times", [1, 2])
def test_a_missing_libhdfs_does_not_hide_the_reason_of_hadoop(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    def no_host() -> FileSystemHandler:
        raise OSError("java.net.UnknownHostException: nohost")

    monkeypatch.setattr("pomona.io.file_systems._hadoop", no_host)
    for _ in range(times):  # Arrow gives a different reason from the second call on
        with pytest.raises(EncoderError) as refusal:
            Encoder.load("hdfs://nohost:9000/x")
        expected = (
            "cannot read the encoder hdfs://nohost:9000/x: java.net.UnknownHostException: nohost"
        )
        assert str(refusal.value) == expected


def test_a_location_without_a_password_is_displayed_unchanged() -> None:
    for location in ("/a:b@c/d", "s3a://bucket/a:b@c", "abfss://container@account/x"):
        assert without_password(location) == location


@given(st.binary(min_size=1, max_size=50).filter(lambda name: b"\0" not in name))
def test_every_path_of_a_row_resolves_to_its_file(name: bytes) -> None:
    path = "/" + os.fsdecode(name).lstrip("/")
    assert path_of_row(ImageFile(path, None, None).uri) == path


def test_writing_to_a_link_writes_its_target_and_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    with written_whole(tmp_path / "link", UsageError) as draft:
        draft.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "old").read_text() == "new"


def test_a_pipe_or_a_folder_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for name in ("pipe", "folder"):
        with (
            pytest.raises(UsageError, match=f"cannot write .*{name}: it is"),
            written_whole(tmp_path / name, UsageError) as draft,
        ):
            draft.write_text("x")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("scheme", ["", "file:"])
def test_reading_a_file_without_the_magic_bytes_stops_after_them(
    tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "a").write_bytes(b"POMONA and the rest")
    (tmp_path / "b").write_bytes(b"PK\3\4 and gigabytes")
    assert read_file(f"{scheme}{tmp_path}/a", b"POMONA") == b"POMONA and the rest"
    assert read_file(f"{scheme}{tmp_path}/b", b"POMONA") == b"PK\3\4 a"
    assert read_file(f"{scheme}{tmp_path}/b") == b"PK\3\4 and gigabytes"
