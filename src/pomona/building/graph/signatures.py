"""The signatures of a TensorFlow SavedModel: the inputs of each, and reading one of them.

A signature is one function of the model, with named tensors (`SignatureDef` in TensorFlow's
`meta_graph.proto`). OpenVINO reads `serving_default`, or the only one. For another one, OpenVINO
reads a copy of the folder in which that signature has this name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pomona.building.file_digest import varint
from pomona.errors import EncoderError

__all__ = ["DEFAULT", "chosen", "read_signatures"]

DEFAULT = "serving_default"

_FILE = "saved_model.pb"
_META_GRAPH, _SIGNATURE, _KEY, _VALUE = 2, 5, 1, 2  # numbers of fields
_INPUTS, _TYPE, _SHAPE, _DIMENSION, _SIZE = 1, 2, 3, 2, 1
_STRING = 7
_TYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 6: "int8", _STRING: "string"}
_TYPES |= {9: "int64", 14: "bfloat16", 19: "float16"}


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    raw: bytes  # with its tag
    value: bytes | int


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    kind: int
    sides: tuple[int, ...]

    def __str__(self) -> str:
        sides = ", ".join("?" if side < 0 else str(side) for side in self.sides)
        return f"{self.name}: {_TYPES.get(self.kind, f'type {self.kind}')} [{sides}]"


@contextmanager
def chosen(path: Path, name: str | None) -> Iterator[Path]:
    """Yield a folder in which OpenVINO finds the signature of that name.

    Args:
        path: the SavedModel's folder.
        name: name of the signature; by default `serving_default`, or the only one.

    Raises:
        EncoderError: there is no such signature, or it takes strings, such as the bytes of JPEGs;
            the message lists all signatures with their inputs.
    """
    signatures = read_signatures(path)
    signature = name or (DEFAULT if DEFAULT in signatures else next(iter(signatures), None))
    if signature is None:
        yield path
        return
    listed = "; ".join(
        f"{key} ({', '.join(map(str, signatures[key]))})" for key in sorted(signatures)
    )
    if signature not in signatures:
        raise EncoderError(f"{path} has no signature {signature!r}: it has {listed}")
    if any(tensor.kind == _STRING for tensor in signatures[signature]):
        raise EncoderError(
            f"the signature {signature!r} of {path} takes strings, such as the bytes of images, "
            "but Pomona passes decoded pixels: choose one that takes an image with `signature`, or "
            f"export the model with one; it has {listed}"
        )
    if signature == DEFAULT or len(signatures) == 1:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        for part in path.resolve().iterdir():
            if part.name != _FILE:
                Path(folder, part.name).symlink_to(part)
        Path(folder, _FILE).write_bytes(_renamed(_content(path), signature))
        yield Path(folder)


def read_signatures(path: Path) -> dict[str, list[_Tensor]]:
    """Return the inputs of each signature of a SavedModel, by its name.

    Raises:
        EncoderError: the file is damaged.
    """
    try:
        signatures = {}
        for graph in _all(_content(path), _META_GRAPH):
            for entry in _all(graph, _SIGNATURE):
                name, value = _text(entry), _first(entry, _VALUE)
                if not name.startswith("__"):  # TensorFlow's own, such as __saved_model_init_op
                    signatures[name] = [_tensor(each) for each in _all(value, _INPUTS)]
    except (IndexError, ValueError) as error:
        raise EncoderError(
            f"cannot read {path}: not a SavedModel ({error}); is it complete?"
        ) from error
    return signatures


def _content(path: Path) -> bytes:
    try:
        return (path / _FILE).read_bytes()
    except OSError as error:
        raise EncoderError(f"cannot read {path}: {error.strerror or error}") from error


def _tensor(entry: bytes) -> _Tensor:
    info = _first(entry, _VALUE)
    kind = next((f.value for f in _fields(info) if f.number == _TYPE), 0)
    sides = []
    for dimension in _all(_first(info, _SHAPE), _DIMENSION):
        size = next((f.value for f in _fields(dimension) if f.number == _SIZE), 0)
        sides.append(-1 if not isinstance(size, int) or size >= 2**63 else size)
    return _Tensor(_text(entry), kind if isinstance(kind, int) else 0, tuple(sides))


def _renamed(content: bytes, name: str) -> bytes:
    """Return the same model with only this signature, as `serving_default`."""
    parts = []
    for field in _fields(content):
        if field.number == _META_GRAPH and isinstance(field.value, bytes):
            parts.append(_message(_META_GRAPH, _graph(field.value, name)))
        else:
            parts.append(field.raw)
    return b"".join(parts)


def _graph(content: bytes, name: str) -> bytes:
    parts = []
    for field in _fields(content):
        if field.number != _SIGNATURE or not isinstance(field.value, bytes):
            parts.append(field.raw)
            continue
        key = _text(field.value)
        if key == name:
            value = _first(field.value, _VALUE)
            entry = _message(_KEY, DEFAULT.encode()) + _message(_VALUE, value)
            parts.append(_message(_SIGNATURE, entry))
        elif key.startswith("__"):
            parts.append(field.raw)
    return b"".join(parts)


def _text(entry: bytes) -> str:
    return _first(entry, _KEY).decode("utf-8", "replace")


def _first(message: bytes, number: int) -> bytes:
    return next(_all(message, number), b"")


def _all(message: bytes, number: int) -> Iterator[bytes]:
    for field in _fields(message):
        if field.number == number and isinstance(field.value, bytes):
            yield field.value


def _fields(message: bytes) -> Iterator[_Field]:
    """Yield the fields of a protobuf message.

    Raises:
        IndexError: the message is cut short.
        ValueError: it is not a protobuf message.
    """
    at, view = 0, memoryview(message)
    while at < len(message):
        start = at
        tag, at = varint(view, at)
        value: bytes | int
        if tag & 7 == 2:
            length, at = varint(view, at)
            value, at = message[at : at + length], at + length
        elif tag & 7 == 0:
            value, at = varint(view, at)
        elif tag & 7 in (1, 5):
            length = 8 if tag & 7 == 1 else 4
            value, at = message[at : at + length], at + length
        else:
            raise ValueError("a field of an unknown type")
        if at > len(message):
            raise IndexError("a field continues after the end")
        yield _Field(tag >> 3, message[start:at], value)


def _message(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
