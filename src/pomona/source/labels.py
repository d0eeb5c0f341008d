"""Label from path: `parent`, `none`, `regex:PATTERN`, `csv:FILE`, `column:COLUMN`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pomona.errors import UsageError
from pomona.io.location import check_here, local_path
from pomona.io.member_uri import split_member
from pomona.messages import count_of
from pomona.source.label_file import EXPECTED, Line, normal_path, read_label_file

__all__ = [
    "ColumnLabels",
    "LabelRule",
    "check_label_rule",
    "lasting_label_rule",
    "parse_label_rule",
]


class LabelRule(Protocol):
    """Returns the label of an image. Rules are small and are sent to the workers."""

    def __call__(self, path: str) -> str | None:
        """Return the label of the image at the URI `path`; None if it has no label."""


@dataclass(frozen=True, slots=True)
class _Parent:
    """The name of the folder that contains the image, within its archive if it is in one."""

    def __call__(self, path: str) -> str | None:
        member = split_member(path)
        below = member[1] if member else path
        folders = below.rsplit("/", 2)
        if len(folders) < 2 or not folders[-2] or (len(folders) == 2 and below.startswith("file:")):
            return None
        label = folders[-2]
        if path.startswith("file://"):  # see `escaped_uri`
            label = label.replace("%3A", ":").replace("%25", "%")
        return label


@dataclass(frozen=True, slots=True)
class _Nothing:
    """No labels."""

    def __call__(self, path: str) -> str | None:  # noqa: ARG002 - the signature of a rule
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
    """The label from a file of labels: see `pomona.source.label_file`.

    A path in the file is a URI, an absolute path, or the last names of a path. It may lack the
    extension.

    Attributes:
        file: path of the file.
        lines: the lines by path.
        exact_only: paths that are the complete name of a file, and match no other file.
    """

    file: Path
    lines: dict[str, Line] = field(repr=False)
    exact_only: frozenset[str] = field(default=frozenset(), repr=False)

    def __call__(self, path: str) -> str | None:
        found = self._find(path)
        return None if found is None else self.lines[found[0]].label

    def checked(self, paths: Iterable[str], *, must_match: bool) -> _Csv:
        found: dict[str, tuple[str, bool]] = {}
        twice: dict[str, str] = {}  # paths that match two files
        exact_only: set[str] = set()
        example = None
        for path in paths:
            example = example or path
            match = self._find(path)
            if match is None:
                continue
            key, exact = match
            earlier = found.setdefault(key, (path, exact))
            if earlier[0] == path:
                continue
            if earlier[1] != exact:
                exact_only.add(key)
                twice.pop(key, None)
                if exact:
                    found[key] = (path, exact)
            elif key not in exact_only or exact:
                twice[key] = path
        if twice:
            key, other = next(iter(twice.items()))
            line = self.lines[key]
            raise UsageError(
                f"`label` csv:{self.file}: line {line.number} ({line.path!r}) matches two "
                f"images, {found[key][0]} and {other}: write more of the path there, or choose "
                "images with `globs` or `exclude`"
            )
        if must_match and not found and example:
            line = next(iter(self.lines.values()))
            raise UsageError(
                f"`label` csv:{self.file}: no path in it is an image of `source` "
                f"({count_of(len(self.lines), 'path')}): line {line.number} has {line.path!r}, an "
                f"image is {example}: give that path, or its last part after a slash"
            )
        return replace(self, exact_only=frozenset(exact_only))

    def _find(self, path: str) -> tuple[str, bool] | None:
        """Return the path in the file that matches an image, and whether it has the extension."""
        tails = list(_tails(normal_path(path)))
        for tail in tails:
            if tail in self.lines:
                return tail, True
        for tail in tails:
            stem = _STEM.fullmatch(tail)
            if stem and stem[1] in self.lines and stem[1] not in self.exact_only:
                return stem[1], False
        return None


@dataclass(frozen=True, slots=True)
class ColumnLabels:
    """The labels in a column beside the images.

    Attributes:
        column: its name.
        labels: the labels by key; empty until the source is read.
    """

    column: str
    labels: dict[str, str | None] = field(default_factory=dict, repr=False)

    def __call__(self, path: str) -> str | None:
        """Return the label of the image with a key."""
        return self.labels.get(path)


_STEM = re.compile(r"(.*[^/])\.[^./]*", re.DOTALL)


def _tails(path: str) -> Iterator[str]:
    while path:
        yield path
        _, slash, path = path.partition("/")
        if not slash:
            return


def parse_label_rule(text: str) -> LabelRule:
    """Read the value of `label`.

    Raises:
        UsageError: the rule is unknown, the pattern is invalid or has no group, or the CSV file
            cannot be read.
    """
    kind, _, rest = text.partition(":")
    if text == "parent":
        return _Parent()
    if text == "none":
        return _Nothing()
    if kind == "regex" and rest:
        return _Regex(_pattern(rest))
    if kind == "csv" and rest.strip():
        check_here(rest, "`label` csv:FILE", UsageError)
        read = read_label_file(local_path(rest))
        return _Csv(read.file, read.lines)
    if kind == "csv":
        raise UsageError(f"`label` {text!r} has no file: expected {EXPECTED}")
    if kind == "column" and rest:
        return ColumnLabels(rest)
    raise UsageError(
        f"`label` {text!r}: expected parent, none, regex:PATTERN, csv:FILE or column:COLUMN"
    )


def check_label_rule(
    rule: LabelRule, paths: Callable[[], Iterable[str]], *, must_match: bool = True
) -> LabelRule:
    """Check that a CSV file of labels and the images match; other rules need no check.

    Args:
        rule: a label rule.
        paths: returns the paths of all images, as in the table.
        must_match: whether a file that names no image is an error.

    Returns:
        The rule to use, with the complete names.

    Raises:
        UsageError: no line matches an image, or one matches two.
    """
    return rule.checked(paths(), must_match=must_match) if isinstance(rule, _Csv) else rule


def lasting_label_rule(text: str) -> str:
    """Return the value of `label` in a form that does not depend on the working directory."""
    kind, _, rest = text.partition(":")
    return f"csv:{Path(local_path(rest)).absolute()}" if kind == "csv" else text


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"`label` regex:{text}: not a regular expression ({error})") from error
    if not pattern.groups:
        raise UsageError(
            f"`label` regex:{text}: put the label in a group, as in regex:/([^/]+)/[^/]+$"
        )
    return pattern
