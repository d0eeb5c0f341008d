"""What to search with: images and texts, with the vectors of their rows or of the encoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import SourceError
from pomona.io.location import check_spelling, is_remote, local_path, path_of_row, read_file
from pomona.io.member_uri import split_member
from pomona.progress import Progress, Snapshot, no_progress
from pomona.runtime.registry import load_encoder_once
from pomona.runtime.text import text_vectors
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
    """An image or a text to search with.

    Attributes:
        given: the image or text as it was passed.
        path: URI of the image; None for a text.
        label: label of its row; None without a row.
        is_row: whether the table has a row of the image.
        vector: (D,) float32.
    """

    given: str
    path: str | None
    label: str | None
    is_row: bool
    vector: NDArray[np.float32] = field(repr=False)


def find_queries(  # noqa: PLR0913 - images, texts, and how to get their vectors
    vectors: Vectors,
    images: Sequence[str],
    encoder_for: EncoderFor,
    progress: Progress = no_progress,
    *,
    texts: Sequence[str] = (),
    max_pixels: int = MAX_PIXELS,
) -> list[Query]:
    """Return the vectors of images: from their rows, or from the encoder if they have no row.

    Vectors of texts come from the encoder's text tower, and follow those of images.

    An image is a row if it is the URI of the row or its path on this machine. If there is no such
    file, it may also be the last part of the row's path after a slash (`Kiwi/000.jpg`).

    Raises:
        SourceError: an image is neither a row nor a file, cannot be read, or matches several rows.
        EncoderError: the encoder is not available (`encoder_for` raises it), or it has no text
            tower.
    """
    encoder_once = cache(lambda: encoder_for(vectors.provenance))  # for texts and images
    said = _texts(texts, encoder_once)
    rows = _rows_named(vectors.table, images)
    found = _vectors_of(vectors, {path for path, status in rows.values() if status == "ok"})
    queries: dict[str, Query] = {}
    for image, (path, status) in rows.items():
        if status != "ok":
            raise SourceError(
                f"{image} has a row without a vector (status {status}): give another image"
            )
        label, vector = found[path]
        queries[image] = Query(image, path, label, True, vector)
    others = [image for image in dict.fromkeys(images) if image not in queries]
    contents = [_content(image, vectors) for image in others]
    if others:
        encoder = encoder_once()
        options = DecodeOptions(max_pixels, fast=vectors.provenance.get("decode") == "fast")
        for number, (image, content) in enumerate(zip(others, contents, strict=True)):
            progress(Snapshot("encoding", number, len(others)))
            vector = _encode(image, content, encoder, options)
            queries[image] = Query(image, _uri(image), None, False, vector)
    return [queries[image] for image in dict.fromkeys(images)] + said


def _texts(texts: Sequence[str], encoder: Callable[[], Encoder]) -> list[Query]:
    if not texts:
        return []
    each = list(dict.fromkeys(texts))
    found = text_vectors(encoder(), each)
    return [
        Query(text, None, None, False, vector) for text, vector in zip(each, found, strict=True)
    ]


def _uri(image: str) -> str:
    """Return the value of the column `path` for an image."""
    if is_remote(image) or (image.startswith("file:") and split_member(image)):
        return image
    if image.startswith("file:") and ImageFile(path_of_row(image), None, None).uri == image:
        return image  # as in a row
    return ImageFile(os.path.abspath(local_path(image)), None, None).uri  # noqa: PTH100


def _rows_named(table: FeatureTable, images: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return path and status of the row of each image that has one. Vectors are not read."""
    by_uri: dict[str, list[str]] = {}
    for image in dict.fromkeys(images):  # `a.jpg` and `./a.jpg` are one row
        by_uri.setdefault(_uri(image), []).append(image)
    ends = {
        image: "/" + image.removeprefix("./")
        for image in images
        if not (image.startswith(("/", "file:")) or is_remote(image) or Path(image).exists())
    }
    uris = pa.array(list(by_uri), pa.string())
    rows: dict[str, tuple[str, str]] = {}
    for batch in table.batches(["path", "status"]):
        exact = batch.filter(pc.is_in(batch["path"], uris))
        for row in exact.to_pylist():
            rows |= dict.fromkeys(by_uri[row["path"]], (row["path"], row["status"]))
        for image, end in ends.items():
            for row in batch.filter(pc.ends_with(batch["path"], end)).to_pylist():
                if image in rows and rows[image][0] != row["path"]:
                    raise SourceError(
                        f"{image} matches several paths, {rows[image][0]} and "
                        f"{row['path']}: give more of the path"
                    )
                rows[image] = (row["path"], row["status"])
    return rows


def _vectors_of(
    vectors: Vectors, paths: set[str]
) -> dict[str, tuple[str | None, NDArray[np.float32]]]:
    found: dict[str, tuple[str | None, NDArray[np.float32]]] = {}
    if not paths:
        return found
    row_paths = pa.array(sorted(paths), pa.string())
    for block in vectors.blocks():
        for at in np.flatnonzero(pc.is_in(block.paths, row_paths).to_numpy(zero_copy_only=False)):
            found[block.paths[at].as_py()] = (block.labels[at].as_py(), block.vectors[at].copy())
        if len(found) == len(paths):
            break
    return found


def _content(image: str, vectors: Vectors) -> bytes:
    check_spelling(image, "the image", SourceError)
    place = local_path(image)
    if not is_remote(image) and not Path(place).is_file():
        problem = (
            "is a folder: give its images"
            if Path(place).is_dir()
            else (f"is neither a row of {vectors.table} nor a file: give the path of an image")
        )
        raise SourceError(f"{image} {problem}")
    try:
        return read_file(image)
    except OSError as error:
        raise SourceError(f"cannot read {image}: {error.strerror or error}") from error


def _encode(
    image: str, content: bytes, encoder: Encoder, options: DecodeOptions
) -> NDArray[np.float32]:
    """Return the vector of an image: (D,) float32."""
    runtime = load_encoder_once(encoder)
    (row,), features = encode_images(pa.array([content], pa.large_binary()), None, runtime, options)
    if row.status != "ok":
        raise SourceError(f"{image} is {row.status}: {row.error}; give another image")
    vector: NDArray[np.float32] = features[0]
    return vector
