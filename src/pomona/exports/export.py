"""A feature table -> the files or the database of another program: `pomona.export`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pomona.analysis.vectors import open_vectors
from pomona.errors import UsageError
from pomona.exports.choose import target_of
from pomona.exports.rows import ROWS_DIGEST, Outgoing, Rows
from pomona.exports.target import FileTarget
from pomona.progress import Progress, Snapshot, no_progress
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
        provenance: of the vectors in the target.
    """

    table: str
    target: str
    rows: int
    sent: int
    unchanged: int
    failed: int
    provenance: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona export --json` prints."""
        return {name: getattr(self, name) for name in self.__slots__}


def export(  # noqa: PLR0913 - the options of the command
    table: FeatureTable | str | os.PathLike[str],
    to: str,
    *,
    float16: bool = False,
    normalize: bool = False,
    overwrite: bool = False,
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
        to: kind and place of the target: `npy:FOLDER` or `csv:FILE`.
        float16: send 16-bit floats, if the target has them.
        normalize: divide each vector by its length (L2), so that inner products are cosines.
        overwrite: replace rows of another encoder, or in another form.
        progress: called with the progress.

    Raises:
        UsageError: the target is unknown or cannot be written, or has rows of another encoder.
        TableError: the table is not a feature table, mixes rows of two encoders, or has a damaged
            vector.
        RunError: a run changed the table during the reading.
    """
    target = target_of(to)
    if float16 and not target.has_float16:
        raise UsageError(f"{target} has no 16-bit floats: leave `float16` out")
    source = Outgoing(open_vectors(FeatureTable.of(table)), float16=float16, normalize=normalize)
    about = target.about()
    if about is not None and not overwrite:
        _check_same_vectors(target, about, source.provenance)
    sent = _write(target, about, source, progress)
    rows = source.vectors.rows
    return Exported(
        table=str(table),
        target=str(target),
        rows=rows,
        sent=sent,
        unchanged=rows - sent,
        failed=source.vectors.all_rows - rows,
        provenance=source.provenance,
    )


def _write(
    target: FileTarget, about: Mapping[str, str] | None, source: Outgoing, progress: Progress
) -> int:
    """Write files whose rows differ from those of the table, and return how many rows they got."""
    provenance, digest = source.provenance, source.digest()
    if digest is not None:
        provenance[ROWS_DIGEST] = digest
        if about == provenance:
            return 0
    target.write(_counted(source, progress), source.vectors.rows, provenance)
    return source.vectors.rows


def _counted(source: Outgoing, progress: Progress) -> Iterator[Rows]:
    done = 0
    for rows in source.batches():
        yield rows
        done += len(rows)
        progress(Snapshot("exporting", done, source.vectors.rows))


def _check_same_vectors(
    target: FileTarget, there: Mapping[str, str], new: Mapping[str, str]
) -> None:
    """Check that the vectors of a target and of a table can be compared.

    Raises:
        UsageError: encoder, decode mode or form differ.
    """
    if any(there.get(key) != new.get(key) for key in ("fingerprint", "decode")):
        raise UsageError(
            f"{target} has vectors of another encoder: they differ in {differences(there, new)}; "
            "give another target, or `overwrite`"
        )
    if _form(there) != _form(new):
        raise UsageError(
            f"{target} has {_form(there)}, and this export {_form(new)}: give the same options as "
            "before, another target, or `overwrite`"
        )


def _form(provenance: Mapping[str, str]) -> str:
    length = " of length 1" if provenance.get("normalized") == "L2" else ""
    return f"{provenance.get('vector_type')} vectors{length}"
