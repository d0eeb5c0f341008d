"""Label from path: `parent`, `none`, `regex:PATTERN`, `csv:FILE`."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pomona.errors import UsageError
from pomona.location import check_here, local_path

__all__ = ["LabelRule", "parse_label_rule"]


class LabelRule(Protocol):
    """Gives an image its label. Rules are small and travel to the workers."""

    def __call__(self, path: str) -> str | None:
        """Return the label of the image at the URI `path`; None where it has none."""


@dataclass(frozen=True, slots=True)
class _Parent:
    """The name of the folder that the image lies in."""

    def __call__(self, path: str) -> str | None:
        folders = path.rsplit("/", 2)
        if len(folders) < 3 or not folders[-2]:
            return None
        # See `ImageFile.uri` for names that are no text.
        return folders[-2].replace("%25", "%") if path.startswith("file://") else folders[-2]


@dataclass(frozen=True, slots=True)
class _Nothing:
    """No labels."""

    def __call__(self, path: str) -> str | None:  # noqa: ARG002 - the rule's shape
        return None


@dataclass(frozen=True, slots=True)
class _Regex:
    """The first group of a pattern searched in the path."""

    pattern: re.Pattern[str]

    def __call__(self, path: str) -> str | None:
        match = self.pattern.search(path)
        return match.group(1) if match else None


@dataclass(frozen=True, slots=True)
class _Csv:
    """What a file of `path,label` lines says.

    A path there is a URI, an absolute path, or the end of one from a slash on.
    """

    labels: dict[str, str] = field(repr=False)

    def __call__(self, path: str) -> str | None:
        tail = path.removeprefix("file:")
        if (label := self.labels.get(path)) is not None:
            return label
        while tail:
            if (label := self.labels.get(tail)) is not None:
                return label
            _, slash, tail = tail.partition("/")
            if not slash:
                break
        return None


def parse_label_rule(text: str) -> LabelRule:
    """Read the value of `--label`.

    Raises:
        UsageError: unknown rule, a pattern that is none or has no group, an unreadable CSV file.
    """
    kind, _, rest = text.partition(":")
    if text == "parent":
        return _Parent()
    if text == "none":
        return _Nothing()
    if kind == "regex" and rest:
        return _Regex(_pattern(rest))
    if kind == "csv" and rest:
        check_here(rest, "--label csv:FILE", UsageError)
        return _Csv(_read_csv(Path(local_path(rest))))
    raise UsageError(f"--label {text}: expected parent, none, regex:PATTERN or csv:FILE")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--label regex:{text}: not a regular expression ({error})") from error
    if not pattern.groups:
        raise UsageError(
            f"--label regex:{text}: put the label in a group, as in regex:/([^/]+)/[^/]+$"
        )
    return pattern


def _read_csv(file: Path) -> dict[str, str]:
    labels = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for number, row in enumerate(csv.reader(lines), start=1):
                if not row:
                    continue
                if len(row) != 2:
                    raise UsageError(
                        f"--label csv:{file}: line {number} has {len(row)} fields, expected "
                        "2: path,label"
                    )
                labels[row[0].removeprefix("./")] = row[1]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--label csv:{file}: cannot be read ({error})") from error
    return labels
