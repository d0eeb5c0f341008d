"""A feature table -> the files or the database of another program: `pomona.export`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from pomona.analysis.vectors import open_vectors
from pomona.errors import UsageError
from pomona.exports.choose import table_name, target_of
from pomona.exports.rows import ROWS_DIGEST, Outgoing
from pomona.exports.send import Counts, send_rows, talking
from pomona.exports.target import Database, FileTarget
from pomona.progress import Progress, no_progress
from pomona.table.differences import differences
from pomona.table.feature_table import FeatureTable

__all__ = ["Exported", "export"]


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of `pomona.export`.

    Attributes:
        table: path of the feature table.
        target: where its rows are now.
        rows: rows of the table with a vector.
        sent: those that were new or changed, so that the target got them.
        unchanged: those that the target had.
        failed: rows without a vector. The target does not get them.
        others: rows of a database that are not rows of the table with a vector. They stay.
        deleted: such rows that `prune` deleted.
        provenance: of the vectors in the target.
    """

    table: str
    target: str
    rows: int
    sent: int
    unchanged: int
    failed: int
    others: int
    deleted: int
    provenance: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona export --json` prints."""
        return {name: getattr(self, name) for name in self.__slots__}


def export(  # noqa: PLR0913 - the options of the command
    table: FeatureTable | str | os.PathLike[str],
    to: str,
    *,
    name: str | None = None,
    float16: bool = False,
    normalize: bool = False,
    overwrite: bool = False,
    prune: bool = False,
    progress: Progress = no_progress,
) -> Exported:
    """Write the vectors of a feature table, with paths and labels, for another program.

        pomona.export("features/", to="npy:vectors")
        vectors = numpy.load("vectors/features.npy", mmap_mode="r")  # (N, D) float32

    The target gets `path`, `label`, `width`, `height`, `format` and `content_sha256` of each row
    that has a vector, and the vector. It also gets the provenance, so that a later export of the
    same table sends only what has changed, and one of another encoder is refused.

    Args:
        table: a feature table, its path or URI.
        to: kind and place of the target: `npy:FOLDER`, `csv:FILE`, `huggingface:FOLDER`,
            `duckdb:FILE`, `lance:FOLDER`, `postgresql://...`, `qdrant:URL`, `chroma:FOLDER`
            or `milvus:URL`.
        name: of the table in a database; by default that of the feature table's folder.
        float16: send 16-bit floats, if the target has them.
        normalize: divide each vector by its length (L2), so that inner products are cosines.
        overwrite: replace rows of another encoder, or in another form.
        prune: delete rows of a database that are not rows of the table with a vector. Files never
            have such rows.
        progress: called with the progress.

    Raises:
        UsageError: the target is unknown or cannot be written, has rows of another encoder, or its
            library is not installed.
        TableError: the table is not a feature table, mixes rows of two encoders, or has a damaged
            vector.
        RunError: a run changed the table during the reading, or the database failed.
    """
    target = target_of(to, table_name(name, table))
    if name is not None and isinstance(target, FileTarget):
        raise UsageError(f"{target} is not a database: leave `name` out")
    if float16 and not target.has_float16:
        raise UsageError(f"{target} has no 16-bit floats: leave `float16` out")
    source = Outgoing(open_vectors(FeatureTable.of(table)), float16=float16, normalize=normalize)
    if isinstance(target, FileTarget):
        counts = _write_files(target, source, progress, overwrite=overwrite)
    else:
        with closing(target):
            with talking(target, opening=True):
                about = target.about()
            is_same = _is_continued(target, about, source.provenance, overwrite=overwrite)
            counts = send_rows(target, source, progress, is_new=not is_same, prune=prune)
    return Exported(
        table=str(table),
        target=str(target),
        rows=source.vectors.rows,
        failed=source.vectors.all_rows - source.vectors.rows,
        provenance=source.provenance,
        **asdict(counts),
    )


def _write_files(
    target: FileTarget, source: Outgoing, progress: Progress, *, overwrite: bool
) -> Counts:
    """Write files, if their rows differ from those of the table."""
    provenance, rows = source.provenance, source.vectors.rows
    about = target.about()
    _is_continued(target, about, provenance, overwrite=overwrite)
    if digest := source.digest():
        provenance[ROWS_DIGEST] = digest
        if about == provenance:
            return Counts(unchanged=rows)
    target.write(source.batches(progress), rows, provenance)
    return Counts(sent=rows)


def _is_continued(
    target: FileTarget | Database,
    there: Mapping[str, str] | None,
    new: Mapping[str, str],
    *,
    overwrite: bool,
) -> bool:
    """Return whether a target has vectors that can be compared with those of the table.

    Raises:
        UsageError: it has other vectors, and they may not be replaced.
    """
    if there is None:
        return False
    if _made_by(there) != _made_by(new):
        if overwrite:
            return False
        raise UsageError(
            f"{target} has vectors of another encoder: they differ in {differences(there, new)}; "
            "give another target, or `overwrite`"
        )
    if _form(there) != _form(new):
        if overwrite:
            return False
        raise UsageError(
            f"{target} has {_form(there)}, and this export {_form(new)}: give the same options as "
            "before, another target, or `overwrite`"
        )
    return True


def _made_by(provenance: Mapping[str, str]) -> tuple[str | None, str]:
    return provenance.get("fingerprint"), provenance.get("decode", "exact")


def _form(provenance: Mapping[str, str]) -> str:
    length = " of length 1" if provenance.get("normalized") == "L2" else ""
    return f"{provenance.get('vector_type')} vectors{length}"
