"""Search: the images of a table that are most similar to images, or fit texts best."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.neighbours.exact import Nearest, block_rows, nearest_rows
from pomona.analysis.neighbours.faiss_index import check_faiss
from pomona.analysis.neighbours.index_cache import open_index
from pomona.analysis.neighbours.queries import EncoderFor, Query, find_queries
from pomona.analysis.similarity import Directions, centred_directions, plain_directions
from pomona.analysis.table_encoder import encoder_of_table
from pomona.analysis.vectors import open_vectors, unit
from pomona.errors import UsageError
from pomona.io.location import is_remote
from pomona.progress import Progress, Snapshot, no_progress
from pomona.source.list_file import ListFile, entries_of
from pomona.table.feature_table import FeatureTable
from pomona.worker.decode import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.neighbours.faiss_index import NearestIndex
    from pomona.analysis.vectors import Block, Vectors
    from pomona.encoder.encoder import Encoder

__all__ = ["Match", "Query", "SearchResult", "search", "search_with"]


@dataclass(frozen=True, slots=True)
class Match:
    """A near row.

    Attributes:
        path: its URI.
        label: its label, or None.
        similarity: to an image, the cosine of both vectors less the table's centre: about 0 for
            two random images, 1 for equal ones. To a text, the cosine of both vectors, for which
            the text tower was trained.
    """

    path: str
    label: str | None
    similarity: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result for one image or text: the matches, the nearest first."""

    query: Query
    matches: tuple[Match, ...]
    method: str = "exact"

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona search --json` prints for each image or text."""
        return {
            "query": self.query.given,
            "path": self.query.path,
            "label": self.query.label,
            "is_row": self.query.is_row,
            "matches": [
                {"path": m.path, "label": m.label, "similarity": round(m.similarity, 6)}
                for m in self.matches
            ],
        }


def search(  # noqa: PLR0913 - settings, each with a sensible default
    table: FeatureTable | str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    k: int = 10,
    *,
    text: str | Sequence[str] = (),
    encoder: Encoder | str | os.PathLike[str] | None = None,
    model: str | None = None,
    weights: str | None = None,
    index: str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = no_progress,
) -> list[SearchResult]:
    """Find the most similar images of each image, and those that fit each text best.

        for match in pomona.search("features/", "a.jpg", k=5)[0].matches:
            print(match.path, match.similarity)
        pomona.search("features/", text="a red apple")

    Args:
        table: a feature table, its path or URI.
        images: one or several. Each is the path of a row, the last part of such a path after a
            slash, an image file, or a list of images, as `extract` takes it.
        k: number of images to find. A row is not among its own nearest.
        text: one or several texts; the table's encoder needs a text tower.
        encoder: the table's encoder, its path or URI, for texts and for images without a row. By
            default it is found in the cache, or built again by the names in the table's provenance.
        model: the name or file of the table's network, instead of `encoder`.
        weights: the network's weights, instead of `encoder`.
        index: an index file. It is built if it does not exist or if the table has changed. By
            default the search reads the whole table and is exact.
        max_pixels: images with more pixels are not decoded.
        progress: called with the progress.

    Returns:
        A result for each image, then for each text, in their order; one that is given twice has
        one result.

    Raises:
        TableError: it is not a feature table.
        SourceError: an image is neither a row nor a file, or cannot be read.
        EncoderError: the encoder cannot be built or read, has no text tower, or another one made
            the table.
        UsageError: there is nothing to search with; the index belongs to a table of another
            encoder; or FAISS is not installed.
    """
    table = FeatureTable.of(table)
    names = [images] if isinstance(images, (str, os.PathLike)) else images
    paths = [path for image in names for path in _listed(os.fspath(image))]
    texts = [text] if isinstance(text, str) else text
    if not paths and not texts:
        raise UsageError("there is nothing to search with: give an image or a text")

    def encoder_for(provenance: Mapping[str, str]) -> Encoder:
        return encoder_of_table(provenance, encoder=encoder, model=model, weights=weights)

    at = None if index is None else Path(index)
    return search_with(
        table, paths, encoder_for, k, progress, texts=texts, index=at, max_pixels=max_pixels
    )


def _listed(image: str) -> Iterator[str]:
    """Yield the images of a list on this machine; anything else is one image."""
    file = ListFile.at(image) if not is_remote(image) else None
    if file is None or not file.ending or not Path(file.name).is_file():
        yield image
        return
    for entry in entries_of(file, (), ("path",)):
        path = entry["path"]
        yield path if is_remote(path) or path.startswith("file:") else file.beside(path)


def search_with(  # noqa: PLR0913 - settings, each with a sensible default
    table: FeatureTable,
    images: Sequence[str],
    encoder_for: EncoderFor,
    k: int = 10,
    progress: Progress = no_progress,
    *,
    texts: Sequence[str] = (),
    index: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[SearchResult]:
    """Find the nearest images, with a function that returns the table's encoder.

    Args:
        table: the table to search.
        images: paths or URIs of rows, or image files.
        encoder_for: called for texts, and if an image has no row.
        k: number of images to find. A row is not among its own nearest.
        progress: called with the progress.
        texts: texts to search with.
        index: an index file. Without one, the search is exact and streams the table.
        max_pixels: images with more pixels are not decoded.

    Raises:
        TableError: it is not a feature table.
        SourceError: an image is neither a row nor a file, or cannot be read.
        EncoderError: the encoder is not available, or another one made the table.
        UsageError: the index belongs to a table of another encoder, or FAISS is not installed.
    """
    if index:
        check_faiss()
    vectors = open_vectors(table)
    # The queries come first: an index is not built for an image that does not exist.
    queries = find_queries(
        vectors, images, encoder_for, progress, texts=texts, max_pixels=max_pixels
    )
    opened = open_index(index, vectors, progress) if index else None
    pictures = [query for query in queries if query.path is not None]
    words = [query for query in queries if query.path is None]
    return [
        *_results(pictures, _near_images(vectors, opened, pictures, k, progress), opened),
        *_results(words, _near_texts(vectors, opened, words, k, progress), opened),
    ]


def _near_images(
    vectors: Vectors,
    index: NearestIndex | None,
    queries: Sequence[Query],
    k: int,
    progress: Progress,
) -> Nearest:
    if not queries:
        return Nearest.none(0, k)
    matrix = np.stack([query.vector for query in queries])
    itself = [query.path if query.is_row else None for query in queries]
    if index:
        return index.search(unit(matrix - index.centre), k, itself)
    directions = centred_directions(vectors, progress)
    return _in_table(directions, directions.of(matrix), k, progress, itself)


def _near_texts(
    vectors: Vectors,
    index: NearestIndex | None,
    queries: Sequence[Query],
    k: int,
    progress: Progress,
) -> Nearest:
    if not queries:
        return Nearest.none(0, k)
    matrix = unit(np.stack([query.vector for query in queries]))
    if index:
        return index.search_texts(matrix, k)
    return _in_table(plain_directions(vectors), matrix, k, progress)


def _in_table(
    directions: Directions,
    queries: NDArray[np.float32],
    k: int,
    progress: Progress,
    itself: list[str | None] | None = None,
) -> Nearest:
    blocks = _blocks(directions, block_rows(len(queries)), progress)
    return nearest_rows(blocks, queries, min(k, directions.rows), itself)


def _blocks(directions: Directions, size: int, progress: Progress) -> Iterator[Block]:
    done = 0
    for block in directions.blocks(size):
        yield block
        done += len(block)
        progress(Snapshot("comparing", done, directions.rows))


def _results(
    queries: Sequence[Query], nearest: Nearest, index: NearestIndex | None
) -> list[SearchResult]:
    return [
        SearchResult(
            query,
            tuple(
                Match(path, label, float(similarity))
                for path, label, similarity in zip(
                    nearest.paths[at], nearest.labels[at], nearest.similarity[at], strict=True
                )
                if np.isfinite(similarity)
            ),
            index.about.kind if index else "exact",
        )
        for at, query in enumerate(queries)
    ]
