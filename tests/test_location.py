from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import object_store
import pomona
from pomona.encoder.blob import Encoder
from pomona.errors import EncoderError
from pomona.location import is_remote, read_file, without_password


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
    ],
)
def test_only_uris_of_other_file_systems_are_remote(uri: str, remote: bool) -> None:
    assert is_remote(uri) is remote


@pytest.mark.parametrize("prefix", ["", "file:", "file://"])
def test_a_file_of_this_machine_is_read_by_path_and_by_uri(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "a b%20c").write_bytes(b"whole")
    assert read_file(f"{prefix}{tmp_path}/a b%20c") == b"whole"


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_an_object_is_read_whole_by_any_of_its_schemes(
    scheme: str, store: object_store.ObjectStore
) -> None:
    store.objects["/bucket/a.encoder"] = bytes(range(256)) * 4096
    assert read_file(store.uri("/bucket/a.encoder", scheme)) == bytes(range(256)) * 4096


def test_the_embedded_engine_takes_an_encoder_from_a_uri(
    store: object_store.ObjectStore, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    store.objects["/bucket/fruit.encoder"] = encoder.to_bytes()
    uri = store.uri("/bucket/fruit.encoder")
    assert pomona.extract(pictures, tmp_path / "t", encoder=uri, workers=1).ok == 11


def test_a_missing_object_is_one_clear_error_without_the_secret(
    store: object_store.ObjectStore,
) -> None:
    with pytest.raises(EncoderError, match=r"cannot read the encoder s3a://key:\*\*\*@bucket/none"):
        Encoder.load(store.uri("/bucket/none"))


def test_a_scheme_that_arrow_does_not_know_is_answered_with_those_it_does() -> None:
    with pytest.raises(EncoderError, match="wasbs://c/x: .*Arrow reads s3, s3a, gs, abfss and"):
        Encoder.load("wasbs://c/x")


def test_a_location_without_a_password_is_shown_as_it_is() -> None:
    for location in ("/a:b@c/d", "s3a://bucket/a:b@c", "abfss://container@account/x"):
        assert without_password(location) == location
