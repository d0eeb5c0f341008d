"""An index file for searching large tables: nearest rows without reading the table.

Up to `FLAT_ROWS` rows, the index is flat and exact: a search compares all vectors. Above, it is
FAISS' inverted file (IVF): k-means divides the vectors into cells, and a search looks into the
nearest cells only. The number of cells is measured when the index is built: as many as it takes to
find `AIMED_RECALL` of what an exact search finds for some of the table's own rows.

An index is one file, a container of `pomona.io.container`. Its header is `About`; its sections are
`rows`, a Parquet file of paths, labels and lengths, `centre`, float32, and `directions`, FAISS' own
format. It contains no pickle.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.analysis.neighbours.exact import Nearest, block_rows, nearest_rows
from pomona.analysis.similarity import Directions, centred_directions
from pomona.analysis.vectors import evenly_spread
from pomona.cores import available_cores
from pomona.encoder.encoder import canonical_digest
from pomona.errors import UsageError
from pomona.extras import check_extra
from pomona.io.container import Container
from pomona.io.location import written_whole
from pomona.messages import count_of
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors
    from pomona.table.feature_table import FeatureTable

__all__ = [
    "AIMED_RECALL",
    "FLAT_ROWS",
    "About",
    "NearestIndex",
    "check_faiss",
    "table_state",
]

FLAT_ROWS = 20_000
"""A flat index of this many rows of 1280 numbers is read and searched within a second."""

AIMED_RECALL = 0.98
_MEASURED_ROWS, _MEASURED_K = 200, 10
_TRAINED_ROWS_PER_CELL = 40  # FAISS warns below 39
_AMONG = 20  # times k: rows whose direction is near a text, among which the nearest are found
_ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("length", pa.float32()),
        ("reach", pa.float32()),
    ]
)
_FILE = Container(
    b"POMINDX\x02",
    ("rows", "centre", "directions"),
    UsageError,
    "a Pomona index",
    "delete it: Pomona builds it again",
)


@dataclass(frozen=True, slots=True)
class About:
    """The header of an index.

    Attributes:
        kind: `flat` or `ivf`.
        rows: number of vectors.
        dimension: length of a vector.
        fingerprint: of the encoder that computed the vectors.
        table_state: of the table that the index was built from: see `table_state`.
        cells: number of cells; 1 if flat.
        probes: number of cells that a search looks into.
        recall: share of the exact 10 nearest that a search finds; 1 if flat.
        measured_rows: number of rows that the recall was measured with.
    """

    kind: str
    rows: int
    dimension: int
    fingerprint: str
    table_state: str
    cells: int = 1
    probes: int = 1
    recall: float = 1.0
    measured_rows: int = 0

    def __str__(self) -> str:
        """Describe the index and its recall in one line."""
        rows = count_of(self.rows, "row")
        if self.kind == "flat":
            return f"flat index of {rows}, exact"
        return (
            f"IVF index of {rows}, looks into {self.probes:,} of {count_of(self.cells, 'cell')}; "
            f"finds {self.recall:.1%} of the exact 10 nearest, measured on "
            f"{count_of(self.measured_rows, 'row')}"
        )


class NearestIndex:
    """The directions of a table in a FAISS index, with the paths and labels of their rows.

    Attributes:
        about: what the index is.
        centre: (D,) float32, of the table.
    """

    def __init__(
        self, about: About, rows: pa.Table, centre: NDArray[np.float32], index: Any
    ) -> None:
        """Use `build` or `load` instead.

        Args:
            about: what the index is.
            rows: path, label, `length` of the vector and `reach`, its distance from the centre.
            centre: (D,) float32.
            index: of FAISS.
        """
        self.about = about
        self.centre = centre
        self._rows = rows
        self._index = index

    @classmethod
    def build(
        cls, vectors: Vectors, progress: Progress = no_progress, flat_rows: int = FLAT_ROWS
    ) -> NearestIndex:
        """Build the index of a table. The table is streamed; only the index is in memory.

        Args:
            vectors: of the table.
            progress: called with the progress.
            flat_rows: build a flat index up to this number of rows.

        Raises:
            UsageError: FAISS is not installed.
        """
        faiss = _faiss()
        directions = centred_directions(vectors, progress)
        about = About(
            "flat" if vectors.rows <= flat_rows else "ivf",
            vectors.rows,
            vectors.dimension,
            vectors.provenance["fingerprint"],
            table_state(vectors.table),
            cells=1 if vectors.rows <= flat_rows else round(4 * vectors.rows**0.5),
        )
        flat = faiss.IndexFlatIP(about.dimension)
        if about.kind == "flat":
            index = flat
        else:
            index = faiss.IndexIVFFlat(
                flat, about.dimension, about.cells, faiss.METRIC_INNER_PRODUCT
            )
            index.cp.spherical = True
            progress(Snapshot("clustering", 0, 1))
            trained = evenly_spread(vectors.rows, about.cells * _TRAINED_ROWS_PER_CELL)
            index.train(directions.matrix(trained))
        rows = [_ROWS.empty_table()]
        for block in vectors.blocks():
            index.add(directions.of(block.vectors))
            lengths = np.linalg.norm(block.vectors, axis=1)
            reaches = np.linalg.norm(block.vectors - directions.centre, axis=1)
            columns = [block.paths, block.labels, lengths, reaches]
            rows.append(pa.table(columns, _ROWS.names).cast(_ROWS))
            progress(Snapshot("indexing", index.ntotal, vectors.rows))
        table = pa.concat_tables(rows).combine_chunks()
        built = cls(about, table, directions.centre, index)
        return built if about.kind == "flat" else built._tuned(directions, progress)

    @classmethod
    def load(cls, file: Path) -> NearestIndex:
        """Read an index that `save` wrote.

        Raises:
            UsageError: the file is not an index, has another layout, or is damaged.
        """
        check_faiss()
        try:
            with file.open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read the index {file}: {error}") from error
        return _FILE.unpack(memoryview(content), str(file), cls._from_parts)

    @classmethod
    def _from_parts(cls, header: dict[str, Any], sections: dict[str, memoryview]) -> NearestIndex:
        faiss = _faiss()
        about = About(**header)
        stored = _Reader(sections["directions"])
        centre = np.frombuffer(sections["centre"], "<f4")
        try:
            rows = pq.read_table(pa.BufferReader(sections["rows"])).select(_ROWS.names)
            index = faiss.read_index(faiss.PyCallbackIOReader(stored.read))
        except (OSError, RuntimeError, pa.ArrowException) as error:
            raise ValueError(str(error)) from error
        is_whole = index.ntotal == rows.num_rows == about.rows
        if not is_whole or not index.d == len(centre) == about.dimension:
            raise ValueError(
                f"{index.ntotal} vectors of {index.d} numbers and {rows.num_rows} paths, "
                f"expected {about.rows} of {about.dimension}"
            )
        return cls(about, rows, centre, index)

    def save(self, file: Path) -> None:
        """Write the file atomically.

        Raises:
            UsageError: the file cannot be written.
        """
        faiss = _faiss()
        rows = pa.BufferOutputStream()
        pq.write_table(self._rows, rows)

        def directions(put: Callable[[bytes], object]) -> None:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(put))

        with written_whole(file, UsageError) as draft, draft.open("xb") as opened:
            sections = {
                "rows": rows.getvalue().to_pybytes(),
                "centre": self.centre.astype("<f4").tobytes(),
                "directions": directions,
            }
            _FILE.write(opened, asdict(self.about), sections)

    def search(
        self, queries: NDArray[np.float32], k: int, without: Sequence[str | None] = ()
    ) -> Nearest:
        """Find the k nearest rows of each query, exactly if the index is flat.

        Args:
            queries: (Q, D) float32, directions from `centre`.
            k: number of rows to find for each query.
            without: for each query the path of the row that it comes from, which is excluded.
        """
        similarity, numbers = self._near(queries, k + 1, self.about.probes)
        for query, path in enumerate(without):
            if path is not None:
                paths = self._rows["path"].take(pa.array(numbers[query])).to_pylist()
                similarity[query, [other == path for other in paths]] = -np.inf
        return self._first(similarity, numbers, k)

    def search_texts(self, texts: NDArray[np.float32], k: int) -> Nearest:
        """Find the k rows with the largest cosine to each text; their centre does not count.

        The search looks into all cells, because texts lie apart from images. It finds the rows
        whose directions are nearest to the text, `_AMONG` times k, and compares these with it.

        Args:
            texts: (Q, D) float32, of length 1.
            k: number of rows to find for each text.
        """
        similarity, numbers = self._near(texts, _AMONG * k, self.about.cells)
        lengths, reaches = (self._rows[name].to_numpy()[numbers] for name in ("length", "reach"))
        # vector @ text = centre @ text + reach * (direction @ text)
        inner = (texts @ self.centre)[:, None] + reaches * similarity
        cosines = np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0)
        return self._first(np.where(np.isfinite(similarity), cosines, -np.inf), numbers, k)

    def _near(
        self, queries: NDArray[np.float32], k: int, probes: int
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return similarities and numbers of rows: (Q, k); -inf and 0 if too few are found."""
        if not self.about.rows:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.intp)
        if self.about.kind == "ivf":
            self._index.nprobe = probes
        similarity, numbers = self._index.search(queries, min(k, self.about.rows))
        return np.where(numbers < 0, -np.inf, similarity), np.maximum(numbers, 0)

    def _first(self, similarity: NDArray[np.float32], numbers: NDArray[np.intp], k: int) -> Nearest:
        """Return the k first of the rows that were found, the nearest first."""
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        chosen = np.take_along_axis(numbers, order, 1)
        rows = self._rows.take(pa.array(chosen.ravel()))
        paths, labels = (
            np.asarray(rows[name].to_pylist(), object).reshape(chosen.shape)
            for name in ("path", "label")
        )
        return Nearest(np.take_along_axis(similarity, order, 1), paths, labels)

    def _tuned(self, directions: Directions, progress: Progress) -> NearestIndex:
        """Return the same index with as many probes as `AIMED_RECALL` needs."""
        queries = directions.matrix(evenly_spread(directions.rows, _MEASURED_ROWS))
        progress(Snapshot("measuring recall", 0, 1))
        blocks = directions.blocks(block_rows(len(queries)))
        exact = nearest_rows(blocks, queries, _MEASURED_K + 1).similarity
        # Rows as near as the last of the exact ones count as found: duplicates may change places.
        # The row itself is always found, in its own cell, and does not count.
        enough = exact[:, -1:] - 1e-5
        probes, recall = 0, 0.0
        while recall < AIMED_RECALL and probes < self.about.cells:
            probes = min(max(1, 2 * probes), self.about.cells)
            self._index.nprobe = probes
            found, _ = self._index.search(queries, _MEASURED_K + 1)
            recall = float(((found >= enough).sum(axis=1) - 1).mean() / _MEASURED_K)
        about = replace(
            self.about, probes=probes, recall=round(recall, 4), measured_rows=len(queries)
        )
        return NearestIndex(about, self._rows, self.centre, self._index)


def table_state(table: FeatureTable) -> str:
    """Return a digest of the part files' names and sizes: it changes if rows are added or removed.

    Names are random. A file that loses rows is replaced by a smaller one of the same name.
    """
    return canonical_digest([[part.name, part.size] for part in table.stored_parts()])


class _Reader:
    """Reads memory piece by piece, as FAISS asks for it."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    def read(self, size: int) -> bytes:
        piece, self._content = self._content[:size], self._content[size:]
        return bytes(piece)


def check_faiss() -> None:
    """Check before the work that an index can be built and searched.

    Raises:
        UsageError: FAISS is not installed.
    """
    check_extra("analysis", "an index needs FAISS", "faiss")


def _faiss() -> Any:
    check_faiss()
    import faiss

    # FAISS has its own OpenMP: use as many threads as this process may.
    faiss.omp_set_num_threads(available_cores())
    return faiss
