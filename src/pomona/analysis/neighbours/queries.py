"""The images to search with: their vectors, from their rows or from the table's encoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import SourceError
from pomona.io.location import check_spelling, is_remote, local_path, path_of_row, read_file
from pomona.progress import Progress, Snapshot, no_progress
from pomona.runtime.registry import load_once
from pomona.source.image_file import ImageFile
from pomona.worker.decode import MAX_PIXELS
from pomona.worker.featurize import encode_images
from pomona.worker.prepare import DecodeOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors
    from pomona.encoder.encoder import Encoder
    from pomona.table.feature_table import FeatureTable

__all__ = ["EncoderFor", "Query", "find_queries"]

EncoderFor = Callable[[Mapping[str, str]], "Encoder"]
"""Returns the encoder of a table by its provenance. Called only if an image must be encoded."""


@dataclass(frozen=True, slots=True)
class Query:
    """An image to search with.

    Attributes:
        given: the name that the user gave.
        path: URI of the image: of its row, or of the file.
        label: of its row.
        is_row: whether the table has a row of the image.
        vector: (D,) float32.
    """

    given: str
    path: str
    label: str | None
    is_row: bool
    vector: NDArray[np.float32] = field(repr=False)


def find_queries(
    vectors: Vectors,
    images: Sequence[str],
    encoder_for: EncoderFor,
    progress: Progress = no_progress,
    *,
    max_pixels: int = MAX_PIXELS,
) -> list[Query]:
    """Return the vectors of images: from their rows, or from the encoder if they have no row.

    An image is a row if it is the URI of the row or its path on this machine. If there is no such
    file, it may also be the end of the row's path from a slash on (`Kiwi/000.jpg`).

    Raises:
        SourceError: an image is neither a row nor a file, cannot be read, or ends several paths.
        EncoderError: `encoder_for` raises it.
    """
    rows = _rows_named(vectors.table, images)
    found = _vectors_of(vectors, {path for path, status in rows.values() if status == "ok"})
    queries: dict[str, Query] = {}
    for given, (path, status) in rows.items():
        if status != "ok":
            raise SourceError(
                f"{given} has a row without a vector (status {status}): give another image"
            )
        label, vector = found[path]
        queries[given] = Query(given, path, label, True, vector)
    others = [given for given in dict.fromkeys(images) if given not in queries]
    contents = [_content(given, vectors) for given in others]
    if others:
        encoder = encoder_for(vectors.provenance)
        options = DecodeOptions(max_pixels, fast=vectors.provenance.get("decode") == "fast")
        for number, (given, content) in enumerate(zip(others, contents, strict=True)):
            progress(Snapshot("encoding", number, len(others)))
            vector = _encode(given, content, encoder, options)
            queries[given] = Query(given, _uri(given), None, False, vector)
    return [queries[given] for given in dict.fromkeys(images)]


def _uri(given: str) -> str:
    """The value of the column `path` for an image."""
    if is_remote(given):
        return given
    if given.startswith("file:") and ImageFile(path_of_row(given), None, None).uri == given:
        return given  # as a row has it
    return ImageFile(os.path.abspath(local_path(given)), None, None).uri  # noqa: PTH100


def _rows_named(table: FeatureTable, images: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Path and status of the row of each image that has one. Vectors are not read."""
    by_uri: dict[str, list[str]] = {}
    for given in dict.fromkeys(images):  # `a.jpg` and `./a.jpg` are one row
        by_uri.setdefault(_uri(given), []).append(given)
    ends = {
        given: "/" + given.removeprefix("./")
        for given in images
        if not (given.startswith(("/", "file:")) or is_remote(given) or Path(given).exists())
    }
    wanted = pa.array(list(by_uri), pa.string())
    rows: dict[str, tuple[str, str]] = {}
    for batch in table.batches(["path", "status"]):
        exact = batch.filter(pc.is_in(batch["path"], wanted))
        for row in exact.to_pylist():
            rows |= dict.fromkeys(by_uri[row["path"]], (row["path"], row["status"]))
        for given, end in ends.items():
            for row in batch.filter(pc.ends_with(batch["path"], end)).to_pylist():
                if given in rows and rows[given][0] != row["path"]:
                    raise SourceError(
                        f"{given} is the end of several paths, {rows[given][0]} and "
                        f"{row['path']}: give more of the path"
                    )
                rows[given] = (row["path"], row["status"])
    return rows


def _vectors_of(
    vectors: Vectors, paths: set[str]
) -> dict[str, tuple[str | None, NDArray[np.float32]]]:
    found: dict[str, tuple[str | None, NDArray[np.float32]]] = {}
    if not paths:
        return found
    wanted = pa.array(sorted(paths), pa.string())
    for block in vectors.blocks():
        for at in np.flatnonzero(pc.is_in(block.paths, wanted).to_numpy(zero_copy_only=False)):
            found[block.paths[at].as_py()] = (block.labels[at].as_py(), block.vectors[at].copy())
        if len(found) == len(paths):
            break
    return found


def _content(given: str, vectors: Vectors) -> bytes:
    check_spelling(given, "the image", SourceError)
    place = local_path(given)
    if not is_remote(given) and not Path(place).is_file():
        what = (
            "is a folder: give its images"
            if Path(place).is_dir()
            else (f"is neither a row of {vectors.table} nor a file: give the path of an image")
        )
        raise SourceError(f"{given} {what}")
    try:
        return read_file(given)
    except OSError as error:
        raise SourceError(f"cannot read {given}: {error.strerror or error}") from error


def _encode(
    given: str, content: bytes, encoder: Encoder, options: DecodeOptions
) -> NDArray[np.float32]:
    """(D,) float32."""
    runtime = load_once(encoder.fingerprint, lambda: encoder)
    (row,), features = encode_images(pa.array([content], pa.large_binary()), None, runtime, options)
    if row.status != "ok":
        raise SourceError(f"{given} is {row.status}: {row.error}; give another image")
    vector: NDArray[np.float32] = features[0]
    return vector
