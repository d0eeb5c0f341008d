"""The differences between a source and its table, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Changes"]


@dataclass(slots=True)
class Changes:
    """The differences between a source and its table: numbers of files or of rows.

    Attributes:
        new: files without a row.
        changed: files that have changed since their row was made.
        retried: files whose row has no vector and that are computed again.
        unchanged: files with a current row.
        gone: rows whose file was in the source and no longer exists.
        pruned: rows among `gone` that are deleted.
        relabelled: files with a current row whose label changes.
        labels_kept: files whose row keeps a label that differs from the default rule's.
        taken_over: files without a row that get the vector of a row with the same bytes.
        missing: rows whose file does not exist, among those that may be deleted for that reason.
        missing_kept: rows that stay although their file does not exist, because its folder is
            missing or empty.
        absent_folders: these folders, each with its number of rows.
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
        """The number of files to compute."""
        return self.new + self.changed + self.retried
