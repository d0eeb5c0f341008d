"""Which files below a source are images of a run: by extension, `globs` and `exclude`."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from pomona.source.exclusions import Exclusions
from pomona.source.passed_over import PassedOver

__all__ = [
    "IMAGE_EXTENSIONS",
    "KNOWN_IMAGES",
    "Selected",
    "Selection",
    "SourceGlob",
    "has_wildcard",
    "without_ranges",
]

IMAGE_EXTENSIONS = (
    *(
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".btf",
        ".dib",
        ".gif",
        ".heic",
        ".heics",
        ".heif",
        ".heifs",
        ".hif",
    ),
    *(".icb", ".ico", ".j2c", ".j2k", ".jfi", ".jfif", ".jif", ".jp2", ".jpc", ".jpe", ".jpeg"),
    *(".jpf", ".jpg", ".jpg2", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".pjp", ".pjpeg", ".png"),
    *(".pnm", ".ppm", ".targa", ".tf8", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp"),
)
"""Extensions of the formats that `pomona.worker.decode` knows, in any letter case."""

_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_MOST_NUMBERS = 100_000  # of a range in braces


def has_wildcard(pattern: str) -> bool:
    """Return whether a name or a path has a wildcard, or a range of numbers in braces."""
    return glob.has_magic(pattern) or len(without_ranges(pattern)) > 1


@lru_cache
def without_ranges(pattern: str) -> list[str]:
    """Return the patterns for which a pattern with ranges stands: `{08..10}` is `08`, `09`, `10`.

    Other braces stay as they are: names of files may contain them.
    """
    found = re.search(rf"\{{({_RANGE.pattern})\}}", pattern)
    if found is None:
        return [pattern]
    start, end = pattern[: found.start()], without_ranges(pattern[found.end() :])
    if (numbers := _numbers(found[1])) == [found[1]]:
        return [start + found[0] + rest for rest in end]
    return [start + number + rest for number in numbers for rest in end]


class SourceGlob(NamedTuple):
    """The value of `source`, as an absolute path or a URI.

    Attributes:
        pattern: a path, or a pattern of paths.
        is_glob: whether it is a pattern, because no file or folder has exactly that name.
        has_braces: whether `{a,b}` is a wildcard too, as for Hadoop. A range of numbers always is.
    """

    pattern: str
    is_glob: bool
    has_braces: bool = False

    @property
    def base(self) -> str:
        """The folders before the first wildcard: paths below the source are relative to them."""
        if not self.is_glob:
            return self.pattern
        parts = self.pattern.split("/")
        return "/".join(itertools.takewhile(lambda part: not self.is_open(part), parts))

    def below(self, path: str) -> str:
        """Return a path relative to the base; empty for the base itself."""
        return path[len(self.base) :].lstrip("/")

    def finds(self, path: str) -> bool:
        """Return whether the glob matches a path itself, and not only a folder above it."""
        if not self.is_glob:
            return path == self.pattern
        return self._found_by(path.split("/"), self.pattern.split("/"))

    def has_open_dot(self, path: str) -> bool:
        """Return whether a wildcard would have to match a leading dot, which it does not."""
        below = self.below(path)
        pairs = zip(filter(None, below.split("/")), self.spelled_out(below), strict=True)
        return any(name.startswith(".") and not spelled_out for name, spelled_out in pairs)

    def spelled_out(self, below: str) -> list[bool]:
        """Return which names of a path below the base the pattern spells out.

        It spells out a name without wildcards, or the leading dot of a name. `**` spells out
        nothing: names before it are compared from the start, names after it from the end.
        """
        if not below:
            return []
        names = below.split("/")
        patterns = self.below(self.pattern).split("/") if self.is_glob else []
        if "**" in patterns:
            first, last = patterns.index("**"), patterns[::-1].index("**")
            open_names = [""] * max(0, len(names) - first - last)
            patterns = patterns[:first] + open_names + patterns[len(patterns) - last :]
        paired = itertools.zip_longest(names, patterns[: len(names)], fillvalue="")
        return [self._spells_out(pattern, name) for name, pattern in paired]

    def _spells_out(self, pattern: str, name: str) -> bool:
        if not self.is_open(pattern):
            return pattern == name
        choices = _choices(pattern) if self.has_braces else without_ranges(pattern)
        return name.startswith(".") and any(choice.startswith(".") for choice in choices)

    def name_matches(self, name: str, pattern: str) -> bool:
        """Return whether a name matches one of the pattern: a wildcard matches no leading dot."""
        choices = _choices(pattern) if self.has_braces else without_ranges(pattern)
        return any(
            fnmatch.fnmatchcase(name, choice)
            and (not name.startswith(".") or choice.startswith("."))
            for choice in choices
        )

    def _found_by(self, parts: Sequence[str], patterns: Sequence[str]) -> bool:
        """Match as `glob` does. `**` also matches a leading dot: exclusions decide."""
        if not patterns:
            return not parts
        if patterns[0] == "**":
            return any(self._found_by(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
        if not parts or not self.name_matches(parts[0], patterns[0]):
            return False
        return self._found_by(parts[1:], patterns[1:])

    def is_open(self, part: str) -> bool:
        """Return whether a name of the pattern has a wildcard."""
        return has_wildcard(part) or (self.has_braces and "{" in part)


@dataclass(frozen=True)
class Selection:
    """Which files below a source are images of a run.

    Attributes:
        globs: patterns for file names (or, with a slash, for paths below a folder) that choose
            files instead of the known extensions; letter case counts.
        exclude: patterns for files and folders to exclude, in addition to the defaults; see
            `pomona.source.exclusions`.
    """

    globs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _exclusions: Exclusions = field(init=False, repr=False, compare=False)
    _dotted: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the patterns.

        Raises:
            UsageError: a pattern of `exclude` is empty.
        """
        parts = {part for pattern in self.globs for part in pattern.split("/")}
        object.__setattr__(self, "_exclusions", Exclusions(self.exclude))
        object.__setattr__(self, "_dotted", tuple(p for p in sorted(parts) if p.startswith(".")))

    def chooses(self, below: str) -> bool:
        """Return whether a path below a folder has a known extension or matches a glob."""
        name = below.rpartition("/")[2]
        if not self.globs:
            return name.lower().endswith(IMAGE_EXTENSIONS)
        return any(
            fnmatch.fnmatchcase(below if "/" in pattern else name, pattern)
            for pattern in self.globs
        )

    def own_exclusion(
        self, below: str, *, is_folder: bool, spelled_out: bool = False
    ) -> str | None:
        """Return the pattern that excludes a path below the source, not considering folders."""
        name = below.rpartition("/")[2]
        named = spelled_out or (
            name.startswith(".") and any(fnmatch.fnmatchcase(name, part) for part in self._dotted)
        )
        return self._exclusions.decide(below, is_folder=is_folder, spelled_out=named)


KNOWN_IMAGES = Selection()
"""Every file of a known extension that no default pattern excludes."""


class Selected:
    """The selection below one root of a source. Paths are passed in the order of a listing."""

    def __init__(
        self, selection: Selection, source: SourceGlob, root: str, passed_over: PassedOver
    ) -> None:
        """Begin with a root.

        Args:
            selection: which files are images of the run.
            source: the value of `source`.
            root: a file or a folder of the source.
            passed_over: counts what is skipped.
        """
        self._selection = selection
        self._source = source
        self._root = root
        self._passed_over = passed_over
        self._spelled_out = source.spelled_out(source.below(root))
        self._folder: tuple[str, bool] = ("", False)  # the last one, and whether it is excluded

    def has_root(self, *, is_folder: bool) -> bool:
        """Return whether the root itself is not excluded, and count it if it is."""
        return not self._is_excluded(self._root, is_folder=is_folder)

    def takes(self, path: str) -> bool:
        """Return whether a file below the root is selected. If not, count it or its folder."""
        folder, _, name = path.rpartition("/")
        if folder != self._folder[0]:
            self._folder = folder, self._is_excluded(folder, is_folder=True)
        if self._folder[1]:
            return False
        below = self._source.below(path)
        if pattern := self._selection.own_exclusion(below, is_folder=False):
            self._passed_over.exclude(pattern)
            return False
        if self._selection.chooses(path[len(self._root) :].lstrip("/")):
            return True
        self._passed_over.file(name)
        return False

    def excludes(self, path: str, *, is_folder: bool) -> bool:
        """Return whether a path or a folder above it is excluded."""
        return self._exclusion(path, is_folder=is_folder) is not None

    def _is_excluded(self, path: str, *, is_folder: bool) -> bool:
        found = self._exclusion(path, is_folder=is_folder)
        if found is not None:
            self._passed_over.exclude(*found)
        return found is not None

    def _exclusion(self, path: str, *, is_folder: bool) -> tuple[str, str] | None:
        """Return the excluding pattern, and the path or the folder above it that it excludes."""
        if not (below := self._source.below(path)):
            return None
        names, above = below.split("/"), path[: len(path) - len(below)]
        named = itertools.chain(self._spelled_out, itertools.repeat(False))
        for depth, spelled_out in zip(range(1, len(names) + 1), named, strict=False):
            upto = "/".join(names[:depth])
            folder = is_folder or depth < len(names)
            pattern = self._selection.own_exclusion(upto, is_folder=folder, spelled_out=spelled_out)
            if pattern is not None:
                return pattern, above + upto
        return None


@lru_cache
def _choices(pattern: str) -> list[str]:
    """Return the patterns that a pattern with braces stands for.

    `a{b,c}` stands for `ab` and `ac`, and `{08..10}` for `08`, `09` and `10`.
    """
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern]
    start, end = pattern[: braces.start()], pattern[braces.end() :]
    inner = [text for part in braces[1].split(",") for text in _numbers(part)]
    return [found for text in inner for found in _choices(start + text + end)]


def _numbers(text: str) -> list[str]:
    """Return the numbers of a range such as `000..099`; of other text, only the text."""
    ends = _RANGE.fullmatch(text)
    if ends is None or not 0 <= int(ends[2]) - int(ends[1]) < _MOST_NUMBERS:
        return [text]
    return [str(n).zfill(len(ends[1])) for n in range(int(ends[1]), int(ends[2]) + 1)]
