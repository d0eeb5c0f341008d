"""Digests of what a network's files hold, whatever they are called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from pomona.errors import EncoderError

__all__ = ["content_digest"]

_CHUNK_BYTES = 2**20
_LOCATION = re.compile(rb"\n\x08location\x12(.)(.{0,127})", re.DOTALL)
"""An entry of ONNX' TensorProto.external_data, in protobuf's encoding: key, length, value."""


def content_digest(path: Path) -> str:
    """SHA-256 over the content of the file, or files, that a network consists of."""
    digest = hashlib.sha256()
    for part in _parts(path):
        digest.update(f"{part.stat().st_size}\n".encode())
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _parts(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield path / "saved_model.pb"
        yield from sorted((path / "variables").glob("variables.*"))
    else:
        yield path
        if path.suffix.lower() == ".xml":
            yield path.with_suffix(".bin")
        elif path.suffix.lower() == ".onnx":
            yield from _external_data(path)


def _external_data(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its large arrays.

    Raises:
        EncoderError: one would lie outside the file's folder.
    """
    names = {
        match[2][: match[1][0]].decode("utf-8", "replace")
        for match in _LOCATION.finditer(path.read_bytes())
    }
    folder = path.parent.resolve()
    found = [(folder / name).resolve() for name in sorted(names)]
    for file in found:
        if not file.is_relative_to(folder):
            raise EncoderError(f"{path} refers to {file}, outside its own folder: refused")
    return [file for file in found if file.is_file()]
