"""Reads the JSON files of a folder that may be hostile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pomona.building.file_digest import is_own_file
from pomona.errors import EncoderError

__all__ = ["check_keys", "inside", "read_json"]

_LARGEST = 2**22  # bytes: a configuration has some thousand


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises:
        EncoderError: it is a link to a file outside the folder.
    """
    path = folder / name
    if not path.exists() or is_own_file(folder, path):
        return path
    raise EncoderError(f"{path} is a link out of its folder: refused; copy the file here")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a JSON file; an empty dict if there is none.

    Raises:
        EncoderError: it cannot be read, is too large, or is not a JSON object.
    """
    path = inside(folder, name)
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise EncoderError(f"{path} is larger than {_LARGEST} bytes: not a configuration")
        data = json.loads(content)
    except OSError as error:
        raise EncoderError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise EncoderError(f"{path} contains {type(data).__name__}, expected a JSON object")
    return data


def check_keys(data: Mapping[str, Any], known: Iterable[str], file: str) -> None:
    """Refuse a configuration that says more than Pomona understands.

    Raises:
        EncoderError: it has an unknown key with a value; the message names it.
    """
    names = set(known)
    unknown = [key for key, value in data.items() if key not in names and value is not None]
    if unknown:
        raise EncoderError(
            f"{file} has the key {unknown[0]!r}, which may change pixels and which Pomona does not "
            "know: build the encoder from an .onnx file, and give its preprocessing as options"
        )
