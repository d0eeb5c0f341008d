"""Which files and folders below a source are excluded by name: the defaults, and `exclude`.

A pattern without a slash matches the name of a file or a folder at any depth. A pattern with a
slash matches a path below the source. A slash at the end matches folders only. `*`, `?` and `[...]`
match within one name, `**` matches any number of folders, letter case counts. The listing does not
enter an excluded folder. If several patterns match, the last one decides; a pattern that begins
with `!` includes what an earlier pattern excludes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pomona.errors import UsageError

__all__ = ["HIDDEN", "Exclusions", "parts_match"]

HIDDEN = ".*"
"""The default pattern for hidden files and folders."""

_DEFAULTS = (
    # Files that Spark and Databricks write next to data. Folders of such names are not excluded.
    *("_SUCCESS", "_metadata", "_common_metadata", "_committed_*[0-9][0-9]"),
    *("_started_*[0-9][0-9]", "!_*/", "_temporary/", "_spark_metadata/", "_delta_log/"),
    HIDDEN,
    # Thumbnails, recycle bins and snapshots of desktops, camera software and network storage.
    *("@eaDir", ".thumbnails", ".@__thumb", "__MACOSX", ".DS_Store", "Thumbs.db"),
    *("#recycle", "@Recycle", ".Trash*", "$RECYCLE.BIN", "#snapshot", "@Recently-Snapshot"),
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One pattern.

    Attributes:
        text: the pattern as the user wrote it.
        parts: what the names of a path must match, from the source on; one for a pattern without a
            slash, which matches the last name of a path.
        anchored: whether the pattern is for a whole path.
        takes_back: whether it begins with `!`.
        folders_only: whether it ends with a slash.
        is_default: whether it is one of the defaults.
    """

    text: str
    parts: tuple[str, ...]
    anchored: bool
    takes_back: bool
    folders_only: bool
    is_default: bool

    @classmethod
    def parse(cls, text: str, *, is_default: bool = False) -> _Rule:
        pattern = text.removeprefix("!")
        inner = pattern.removeprefix("./").strip("/")
        if not inner:
            raise UsageError(
                f"`exclude` {text!r} is empty: expected a name such as '@eaDir', a pattern "
                "such as '*.mov', or a path below `source` such as 'drafts/*.jpg'"
            )
        return cls(
            text,
            tuple(part for part in inner.split("/") if part),
            anchored="/" in pattern.rstrip("/"),
            takes_back=text.startswith("!"),
            folders_only=pattern.endswith("/"),
            is_default=is_default,
        )

    def matches(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        if self.anchored:
            return parts_match(parts, self.parts)
        return fnmatch.fnmatchcase(parts[-1], self.parts[0])


class Exclusions:
    """The patterns of a run: the defaults, then those of the user."""

    def __init__(self, given: Sequence[str] = ()) -> None:
        """Read the patterns.

        Raises:
            UsageError: one of them is empty.
        """
        rules = [_Rule.parse(text, is_default=True) for text in _DEFAULTS]
        rules += [_Rule.parse(text) for text in given]
        self._last_first = rules[::-1]
        # Nearly all names of a large source match no pattern: one search finds that out.
        self._may_match = re.compile(
            "|".join(".*" if r.anchored else fnmatch.translate(r.parts[0]) for r in rules),
            re.DOTALL,
        )

    def decide(self, below: str, *, is_folder: bool, spelled_out: bool = False) -> str | None:
        """Return the pattern that excludes a file or a folder, not considering folders above it.

        Args:
            below: its path below the source.
            is_folder: whether it is a folder.
            spelled_out: whether the user named it. If so, no default pattern excludes it.
        """
        if not self._may_match.fullmatch(below, below.rfind("/") + 1):
            return None
        parts = below.split("/")
        for rule in self._last_first:
            if spelled_out and rule.is_default:
                return None
            if rule.matches(parts, is_folder=is_folder):
                return None if rule.takes_back else rule.text
        return None


def parts_match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether each name of a path matches its pattern; `**` matches any number of names."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(parts_match(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    if not parts or not fnmatch.fnmatchcase(parts[0], patterns[0]):
        return False
    return parts_match(parts[1:], patterns[1:])
