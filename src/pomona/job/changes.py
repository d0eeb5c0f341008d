"""How a source differs from its table, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Changes"]


@dataclass(slots=True)
class Changes:
    """How a source differs from its table: numbers of files, or of rows.

    Attributes:
        new: files without a row.
        changed: files that are not as they were when their row was made.
        retried: files whose row has no vector, to be tried again.
        unchanged: files that have their row.
        gone: rows whose file was in the source and no longer exists.
        pruned: those of them that are removed.
        relabelled: files that have their row, and whose label there is changed.
        labels_kept: files whose row keeps a label that the default rule would not give.
        taken_over: files without a row that got the vector of a row with the same bytes.
        missing: rows whose file does not exist, of those that may be deleted for that.
        missing_kept: rows whose file does not exist, and whose folder does not or is empty: they
            stay.
        absent_folders: such folders, each with its number of rows.
        labelled: files that have a label by the run's rule.
    """

    new: int = 0
    changed: int = 0
    retried: int = 0
    unchanged: int = 0
    gone: int = 0
    pruned: int = 0
    relabelled: int = 0
    labels_kept: int = 0
    labelled: int = 0
    taken_over: int = 0
    missing: int = 0
    missing_kept: int = 0
    absent_folders: Counter[str] = field(default_factory=Counter)

    @property
    def to_do(self) -> int:
        """Files to do."""
        return self.new + self.changed + self.retried
