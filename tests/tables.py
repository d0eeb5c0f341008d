"""Feature tables in tests: read them, and write some with the given vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from pomona.schema import FEATURE_SCHEMA, schema_with_provenance
from pomona.table.feature_table import FeatureTable


def read(folder: Path) -> pa.Table:
    """All rows, sorted by path."""
    batches = list(FeatureTable(folder).batches())
    return pa.Table.from_batches(batches, FEATURE_SCHEMA).sort_by("path")


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows by file name."""
    return {row["path"].rpartition("/")[2]: row for row in read(folder).to_pylist()}


def write(
    folder: Path,
    vectors: ArrayLike,
    labels: Sequence[str | None],
    paths: Sequence[str] | None = None,
    failed: Sequence[tuple[str, str]] = (),
    fingerprint: str = "a" * 64,
    parts: int = 1,
    contents: Sequence[str] | None = None,
) -> Path:
    """Write a feature table of the given vectors, as if an encoder had computed them.

    Args:
        folder: of the table; part files are added to it.
        vectors: (N, D).
        labels: N of them.
        paths: N of them; by default `file:/pictures/<label>/<number>.jpg`.
        failed: path and status of rows without a vector, inserted between the others.
        fingerprint: of the encoder.
        parts: the number of part files.
        contents: N digests of the images; by default none.
    """
    matrix = np.asarray(vectors, np.float32)
    names = paths or [f"file:/pictures/{label}/{i}.jpg" for i, label in enumerate(labels)]
    digests = contents or [None] * len(names)
    table = [
        {"path": path, "label": label, "features": vector, "status": "ok", "content_sha256": digest}
        for path, label, vector, digest in zip(names, labels, matrix, digests, strict=True)
    ]
    for i, (path, status) in enumerate(failed):
        label = path.rpartition("/")[0].rpartition("/")[2]
        row = {"path": path, "label": label, "status": status, "error": f"drawn as {status}"}
        table.insert(i * 2 + 1, row)
    provenance = {
        "fingerprint": fingerprint,
        "model": "drawn",
        "weights": "untrained:0",
        "dimension": str(matrix.shape[1]),
        "decode": "exact",
        "pomona_version": "0",
    }
    schema = schema_with_provenance(provenance)
    folder.mkdir(parents=True, exist_ok=True)
    already = len(list(folder.iterdir()))
    for part, chunk in enumerate(np.array_split(np.arange(len(table)), parts)):
        rows_of_part = pa.Table.from_pylist([table[i] for i in chunk], schema)
        pq.write_table(rows_of_part, folder / f"part-{already + part:06d}.parquet")
    return folder


def without_place(table: pa.Table, source: object) -> list[dict[str, object]]:
    """The rows without the source in their paths, and without times."""
    found = table.drop_columns(["modified"]).to_pylist()
    found = [{**row, "path": row["path"].removeprefix(str(source))} for row in found]
    return sorted(found, key=lambda row: row["path"])
