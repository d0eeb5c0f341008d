from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

SMALL = Encoder(
    model="tiny",
    architecture="test.Tiny",
    weights="by hand",
    weights_sha256="0" * 64,
    preprocessing=Preprocessing(height=8, width=6, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)),
    output="pool",
    dimension=3,
    precision="f32",
    graph=b"<net/>",
    constants=bytes(range(64)),
)


def test_an_encoder_survives_a_round_trip_through_bytes() -> None:
    assert Encoder.from_bytes(SMALL.to_bytes()) == SMALL


@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject) -> None:
    blob = bytearray(SMALL.to_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(EncoderError):
        Encoder.from_bytes(bytes(blob))


@given(st.integers(0, len(SMALL.to_bytes()) - 1))
def test_a_truncated_blob_is_refused(length: int) -> None:
    with pytest.raises(EncoderError):
        Encoder.from_bytes(SMALL.to_bytes()[:length])


@given(st.binary(max_size=200))
def test_bytes_that_are_not_an_encoder_are_refused(content: bytes) -> None:
    with pytest.raises(EncoderError):
        Encoder.from_bytes(content)


def test_a_file_of_another_kind_is_reported_as_not_an_encoder() -> None:
    with pytest.raises(EncoderError, match="fruit.png is not a Pomona encoder"):
        Encoder.from_bytes(b"\x89PNG\r\n", name="fruit.png")


def test_a_damaged_file_is_reported_as_damaged_and_named(tmp_path: Path) -> None:
    path = tmp_path / "fruit.encoder"
    blob = bytearray(SMALL.to_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(EncoderError, match=r"fruit\.encoder is damaged.*SHA-256"):
        Encoder.load(path)


def test_a_later_layout_is_refused_with_a_remedy() -> None:
    blob = bytearray(SMALL.to_bytes())
    blob[7] = 99
    with pytest.raises(EncoderError, match="layout version 99.*build it again"):
        Encoder.from_bytes(bytes(blob))


def test_saving_leaves_the_complete_file_and_nothing_else(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "fruit.encoder")
    assert [p.name for p in tmp_path.iterdir()] == ["fruit.encoder"]
    assert Encoder.load(tmp_path / "fruit.encoder") == SMALL


def test_saving_into_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot write .*No such file"):
        SMALL.save(tmp_path / "nowhere" / "fruit.encoder")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights_sha256", "1" * 64),
        ("architecture", "test.Other"),
        ("output", "another_layer"),
        ("precision", "bf16"),
        ("quantized_sha256", "2" * 64),
        (
            "preprocessing",
            Preprocessing(height=8, width=6, mean=(1.0, 2.0, 3.5), std=(4.0, 5.0, 6.0)),
        ),
    ],
)
def test_the_fingerprint_depends_on_everything_that_determines_the_features(
    field: str, value: object
) -> None:
    other = dataclasses.replace(SMALL, **{field: value})  # type: ignore[arg-type]
    assert other.fingerprint != SMALL.fingerprint


def test_an_encoder_from_before_precisions_is_read_unchanged() -> None:
    blob = SMALL.to_bytes().replace(b'"calibration": "", ', b"")
    blob = blob.replace(b'"quantized_sha256": "", ', b"")
    start = 8 + 32 + 8  # the start of the header, after mark, digest and length
    length = blob.index(SMALL.graph) - start
    body = struct.pack("<Q", length) + blob[start:]
    old = blob[:8] + hashlib.sha256(body).digest() + body
    assert Encoder.from_bytes(old) == SMALL


@pytest.mark.parametrize("field", ["model", "weights", "calibration"])
def test_the_fingerprint_does_not_depend_on_names(field: str) -> None:
    other = dataclasses.replace(SMALL, **{field: "another name"})
    assert other.fingerprint == SMALL.fingerprint
