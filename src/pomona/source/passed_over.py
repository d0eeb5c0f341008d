"""Counts of what a listing skips: files by extension, and excluded paths by pattern."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from pomona.source.exclusions import HIDDEN

__all__ = ["PassedOver"]

_WITHOUT = "without extension"
_OTHER = "other"
_AGAIN = "listed before"
_REPLACED = "with the name of a later member"
_OLD_VERSIONS = "old versions and delete markers"
_FOLDERS = "folder markers"
_EXTENSION = re.compile(r"\.[^\s.]{1,16}")  # a longer end, or one with blanks, is part of the name
_MOST_KINDS = 1000  # that are counted separately, because names may end in anything
_SHOWN = 10


class PassedOver:
    """The files and folders below a source that are not images of the run.

    Attributes:
        by_extension: files that were not chosen, by lower-case extension.
        excluded: excluded files and folders, by pattern. A folder counts once. A given pattern that
            excludes nothing counts 0.
    """

    def __init__(self) -> None:
        self.by_extension: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self._counted: set[str] = set()

    def expect(self, patterns: Sequence[str]) -> None:
        """Remember the given patterns, so that one that excludes nothing is reported."""
        for pattern in patterns:
            if not pattern.startswith("!"):
                self.excluded.setdefault(pattern, 0)

    def exclude(self, pattern: str, path: str | None = None) -> None:
        """Count an excluded file or folder; one with a path is counted only once."""
        if path is not None:
            if path in self._counted:
                return
            self._counted.add(path)
        self.excluded[pattern] += 1

    def file(self, name: str) -> None:
        """Count a file that was not chosen."""
        extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - it is called for every file
        if not (_EXTENSION.fullmatch(extension) and extension.isprintable()):
            extension = _WITHOUT
        if extension not in self.by_extension and len(self.by_extension) >= _MOST_KINDS:
            extension = _OTHER
        self.by_extension[extension] += 1

    def replaced(self) -> None:
        """Count a member of an archive that a later member of the same name replaces."""
        self.by_extension[_REPLACED] += 1

    def listed_before(self) -> None:
        """Count an entry of a list that names an image again."""
        self.by_extension[_AGAIN] += 1

    def not_an_object(self, *, is_folder: bool) -> None:
        """Count an entry of an inventory without bytes to read: no current version, or a folder."""
        self.by_extension[_FOLDERS if is_folder else _OLD_VERSIONS] += 1

    def to_json(self) -> dict[str, dict[str, int]]:
        """Return both counts, the most frequent first."""
        return {
            "passed_over": dict(_sorted(self.by_extension)),
            "excluded": dict(_sorted(self.excluded)),
        }

    def in_words(self) -> list[str]:
        """Return a line for each count that is not empty, and one for patterns without effect."""
        lines = []
        if self.by_extension:
            lines.append(f"skipped: {_counts_in_words(self.by_extension)}")
        if named := Counter({_named(pattern): n for pattern, n in self.excluded.items() if n}):
            lines.append(f"excluded: {_counts_in_words(named)}")
        if unused := [repr(pattern) for pattern, n in self.excluded.items() if not n]:
            patterns = ", ".join(unused[:_SHOWN]) + ", ..." * (len(unused) > _SHOWN)
            lines.append(
                f"`exclude` {patterns} matches nothing; a path there starts below `source`"
            )
        return lines


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _counts_in_words(counts: Counter[str]) -> str:
    kinds = _sorted(counts)
    text = ", ".join(f"{count:,} {kind}" for kind, count in kinds[:_SHOWN])
    if rest := kinds[_SHOWN:]:
        kinds_left = f"{len(rest):,} other kind" + "s" * (len(rest) > 1)
        text += f", and {sum(count for _, count in rest):,} of {kinds_left}"
    return text


def _named(pattern: str) -> str:
    return "hidden" if pattern == HIDDEN else pattern
