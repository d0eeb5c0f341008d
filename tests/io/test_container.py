"""The file format of encoders, classifiers and search indexes."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.analysis.classifier.classifier import Classifier
from pomona.analysis.neighbours import faiss_index
from pomona.analysis.neighbours.faiss_index import NearestIndex
from pomona.encoder.encoder import Encoder
from pomona.errors import ClassifierError, EncoderError, UsageError
from pomona.io.container import Container

FILE = Container(b"TESTING\x01", ("one", "two"), EncoderError, "a test", "write it again")


def index_from_bytes(blob: bytes) -> NearestIndex:
    pytest.importorskip("faiss")
    return faiss_index._FILE.unpack(memoryview(blob), "i", NearestIndex._from_parts)


KINDS = [
    (Encoder.from_bytes, EncoderError, b"POMONA\x00\x01", ("graph", "constants", "probes")),
    (
        Classifier.from_bytes,
        ClassifierError,
        b"POMCLAS\x01",
        ("mean", "scale", "coefficients", "intercept", "encoder"),
    ),
    (index_from_bytes, UsageError, b"POMINDX\x01", ("rows", "vectors")),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def written(magic: bytes, header: bytes, rest: bytes) -> bytes:
    """Write a file of the documented layout by hand."""
    body = struct.pack("<Q", len(header)) + header + rest
    return magic + hashlib.sha256(body).digest() + body


def test_the_layout_is_the_documented_one() -> None:
    header = b'{"a": 1, "sections": {"one": 2, "two": 3}, "z": "\\u00e9"}'
    packed = FILE.pack({"z": "é", "a": 1}, {"two": b"345", "one": b"12"})
    assert packed == written(FILE.magic, header, b"12345")
    result: Any = FILE.unpack(packed, "f", lambda *parts: parts)
    assert result == ({"a": 1, "z": "é"}, {"one": b"12", "two": b"345"})


@given(st.binary(max_size=40), st.lists(st.binary(max_size=9), max_size=9))
def test_a_section_written_in_pieces_equals_one_written_at_once(
    one: bytes, two: list[bytes]
) -> None:
    def in_pieces(put: Callable[[bytes], object]) -> None:
        for piece in two:
            put(piece)

    file = io.BytesIO()
    FILE.write(file, {"a": 1}, {"one": one, "two": in_pieces})
    assert file.getvalue() == FILE.pack({"a": 1}, {"one": one, "two": b"".join(two)})


def test_sections_of_a_memoryview_are_not_copied() -> None:
    packed = FILE.pack({}, {"one": b"12", "two": b"345"})
    _, sections = FILE.unpack(memoryview(packed), "f", lambda *parts: parts)
    assert sections["two"].obj is packed
    assert sections["two"] == b"345"


@pytest.mark.parametrize("length", [-1, 1.0, True, "2", None, 2**70])
def test_a_section_with_an_impossible_length_is_refused(length: object) -> None:
    header = json.dumps({"sections": {"one": length, "two": 0}}).encode()
    with pytest.raises(EncoderError, match="header that cannot be read"):
        FILE.unpack(written(FILE.magic, header, b"1"), "f", lambda *parts: parts)


@pytest.mark.parametrize(("read", "error", "magic", "sections"), KINDS)
@given(header=st.dictionaries(st.text(max_size=9), JSON), lengths=st.lists(JSON, max_size=5))
def test_any_header_with_a_valid_digest_is_refused_with_the_formats_own_error(
    read: Any, error: Any, magic: bytes, sections: Any, header: dict[str, Any], lengths: list[Any]
) -> None:
    header["sections"] = dict.fromkeys(sections, 0) | dict(zip(sections, lengths, strict=False))
    with pytest.raises(error):
        read(written(magic, json.dumps(header).encode(), b""))


@pytest.mark.parametrize(("read", "error", "magic", "sections"), KINDS)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_refused_with_the_formats_own_error(
    read: Any, error: Any, magic: bytes, sections: Any, content: bytes
) -> None:
    del sections
    for blob in (content, magic + content, written(magic, content, b"")):
        with pytest.raises(error):
            read(blob)
