"""The files of a network, and digests of their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pomona.errors import EncoderError

__all__ = [
    "JOINT_GRAPHS",
    "TEXT_GRAPHS",
    "TOKENIZERS",
    "as_text",
    "content_digest",
    "digest_of",
    "first_file",
    "graph_in",
    "is_own_file",
    "network_files",
    "text_files",
    "varint",
    "weights_in",
    "without_links",
]

JOINT_GRAPHS = ("onnx/model.onnx", "model.onnx")
"""Graphs of images, or of images and texts, in a folder of Hugging Face."""

TEXT_GRAPHS = ("onnx/text_model.onnx", "text_model.onnx", "textual/model.onnx")
"""Graphs of texts in a folder of Hugging Face or Immich."""

TOKENIZERS = ("tokenizer.json", "textual/tokenizer.json")
"""Tokenizers in such a folder."""

_GRAPHS = (
    *("onnx/vision_model.onnx", "onnx/model.onnx", "vision_model.onnx", "model.onnx"),
    "visual/model.onnx",
)
_CONFIGURATIONS = (
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    "visual/preprocess_cfg.json",
)

# Weights of PyTorch, the best first: safetensors, then pickles.
_WEIGHTS = (
    *("open_clip_model.safetensors", "model.safetensors", "model.safetensors.index.json"),
    *("open_clip_pytorch_model.bin", "pytorch_model.bin"),
)

_CHUNK_BYTES = 2**20
_DEEPEST = 64  # graphs within graphs

# Paths to the tensors of an ONNX file: message -> field number -> nested message (onnx.proto).
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _ENTRY, _FUNCTION, _TRAINING = range(9)
_WITHIN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _TENSOR: {13: _ENTRY},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
}


def as_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text. Bytes that are not valid text are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def content_digest(path: Path) -> str:
    """Return the SHA-256 over the content of all files of a network.

    Raises:
        OSError: a file cannot be read; the error names it.
        EncoderError: an ONNX file is damaged, or refers to a file outside its folder.
    """
    return digest_of(network_files(path))


def digest_of(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the content of files.

    Raises:
        OSError: a file cannot be read; the error names it.
    """
    digest = hashlib.sha256()
    for part in files:
        digest.update(f"{part.stat().st_size}\n".encode())
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def network_files(path: Path) -> Iterator[Path]:
    """Return the files of a network.

    Raises:
        EncoderError: an ONNX file is damaged, or refers to a file outside its folder.
    """
    if (path / "saved_model.pb").is_file():
        yield path / "saved_model.pb"
        yield from sorted((path / "variables").glob("variables.*"))
    elif path.is_dir():
        yield from (path / name for name in _CONFIGURATIONS if (path / name).is_file())
        if graph := graph_in(path):
            yield from network_files(graph)
        else:
            config = path / "open_clip_config.json"
            yield from (file for file in (config, *weights_in(path)) if file.is_file())
    else:
        yield path
        if path.suffix.lower() == ".xml":
            yield path.with_suffix(".bin")
        elif path.suffix.lower() == ".onnx":
            yield from _external_data(path)


def is_own_file(folder: Path, file: Path) -> bool:
    """Return whether a file is in a folder, after following links.

    In the cache of Hugging Face, `snapshots/REVISION/config.json` is a link to a file in `blobs`.
    """
    own, target = folder.resolve(), file.resolve()
    revisions = [place for place in (own, *own.parents) if place.parent.name == "snapshots"]
    places = own, *(revision.parents[1] / "blobs" for revision in revisions)
    return any(target.is_relative_to(place) for place in places)


@contextlib.contextmanager
def without_links(path: Path) -> Iterator[Path]:
    """Yield a path at which an ONNX file and its arrays are no links: a copy, if they are.

    OpenVINO and ONNX refuse arrays in links, which all files in the cache of Hugging Face are, and
    ONNX also refuses hard links.

    Raises:
        EncoderError: the ONNX file is damaged, or refers to a file outside its folder; or the disk
            is full.
    """
    files = list(network_files(path))
    if not any(file.is_symlink() for file in files[1:]):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        for file in files:
            place = Path(folder, file.relative_to(path.parent))
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
            except OSError as error:
                raise EncoderError(f"cannot copy {file} to {place}: {error.strerror}") from error
        yield Path(folder, path.name)


def text_files(folder: Path) -> Iterator[Path]:
    """Return the files of a folder that decide its text tower only.

    Raises:
        EncoderError: an ONNX file is damaged, or refers to a file outside its folder.
    """
    if tokenizer := first_file(folder, TOKENIZERS):
        yield tokenizer
        if (file := tokenizer.with_name("tokenizer_config.json")).is_file():
            yield file
    for names in (TEXT_GRAPHS, JOINT_GRAPHS):
        if found := first_file(folder, names):
            yield from network_files(found)


def graph_in(folder: Path) -> Path | None:
    """Return the ONNX file that a folder of Hugging Face or Immich has for images."""
    return first_file(folder, _GRAPHS)


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of several files that exists."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def weights_in(folder: Path) -> list[Path]:
    """Return the files of PyTorch's weights in a folder; none if it has none.

    If there are several files, the first one is the JSON file that lists the others.
    """
    found = first_file(folder, _WEIGHTS)
    if found is None:
        return []
    parts = folder.glob("model-*-of-*.safetensors") if found.suffix == ".json" else ()
    return [found, *sorted(parts)]


def _external_data(path: Path) -> list[Path]:
    """Return the additional files of an ONNX file that hold its large arrays.

    Raises:
        EncoderError: a file would be outside the folder, or the ONNX file is damaged.
    """
    try:
        names = set(_locations(memoryview(path.read_bytes()), _MODEL))
        found = [path.parent / os.path.normpath(name) for name in sorted(names)]
        for file in found:
            if not (file.is_relative_to(path.parent) and is_own_file(path.parent, file)):
                raise EncoderError(
                    f"{path} refers to {file.resolve()}, outside its own folder: refused"
                )
    except (IndexError, ValueError) as error:
        raise EncoderError(
            f"cannot read {path}: not ONNX ({error}); is the file complete?"
        ) from error
    return [file for file in found if file.is_file()]


def _locations(message: memoryview, kind: int, depth: int = 0) -> Iterator[str]:
    """Yield the files that the tensors of a message name (`location` in external_data)."""
    if depth > _DEEPEST:
        raise ValueError("graphs are nested too deeply")
    for number, part in _parts_of(message):
        inner = _WITHIN[kind].get(number)
        if inner == _ENTRY:
            entry = dict(_parts_of(part))
            if bytes(entry.get(1, b"")) == b"location":
                yield bytes(entry.get(2, b"")).decode("utf-8", "surrogateescape")
        elif inner is not None:
            yield from _locations(part, inner, depth + 1)


def _parts_of(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and bytes of each length-delimited field of a protobuf message.

    Raises:
        IndexError: the message is cut short.
        ValueError: it is not a protobuf message.
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 2:
            length, at = varint(message, at)
            if at + length > len(message):
                raise IndexError("a field continues after the end")
            yield tag >> 3, message[at : at + length]
            at += length
        elif tag & 7 == 0:
            _, at = varint(message, at)
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            raise ValueError("a field type that ONNX does not use")


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number in protobuf's encoding, and the index after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise ValueError("a number of more than 64 bits")
