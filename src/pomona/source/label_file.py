"""A CSV file of labels: its columns of paths and labels, and its lines.

`csv:FILE`, or `csv:FILE:path=COLUMN,label=COLUMN,sep=SEPARATOR` with any of the three. FILE may
contain colons, and column names may contain commas, colons and equals signs: the choice of columns
begins at the first `:path=`, `:label=` or `:sep=` that follows the name of an existing file. If the
whole text is the name of an existing file, it is that file.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pomona.errors import UsageError

__all__ = ["EXPECTED", "LabelFile", "Line", "normal_path", "read_label_file"]

EXPECTED = "csv:FILE, a CSV file with a path and a label in each line"

_SEPARATORS = {"\t": "tab", "|": "|", ";": ";", ",": ","}
_SAMPLE = 200  # lines that decide the separator
_OPTIONS = re.compile(r":(?=(?:path|label|sep)=)")

_PATH_NAMES = {
    *("path", "file", "filename", "file_name", "filepath", "file_path", "fname", "uri", "url"),
    *("image", "image_path", "image_name", "image_file", "image_id", "imageid", "img", "img_path"),
    *("id", "name", "photo", "picture"),
}
_LABEL_NAMES = {
    *("label", "labels", "class", "class_name", "classname", "label_name", "category", "target"),
    *("tag", "annotation"),
}


class Line(NamedTuple):
    """One line: its number, a path and its label, which is None if it is empty."""

    number: int
    path: str
    label: str | None


@dataclass(frozen=True, slots=True)
class _Request:
    """The parts of the value of `label`: a file, and its columns and separator."""

    file: Path
    path: str | None = None
    label: str | None = None
    separator: str | None = None

    def failure(self, reason: object) -> UsageError:
        return UsageError(f"`label` csv:{self.file}: {reason}")


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A CSV file of labels.

    Attributes:
        file: path of the file.
        lines: the line of each path, which has the form of `normal_path`.
    """

    file: Path
    lines: dict[str, Line]


def read_label_file(text: str) -> LabelFile:
    """Read a CSV file of labels.

    Args:
        text: what follows `csv:`.

    Raises:
        UsageError: the file cannot be read, its columns are ambiguous, or two lines contradict.
    """
    request = _parse(text)
    text = _text_of(request)
    first, _, rest = text.partition("\n")
    separator = request.separator
    skipped = 0
    if separator_line := re.fullmatch(r"sep=(.)\r?", first):  # a line that Excel understands
        separator, text, skipped = separator or separator_line[1], rest, 1
    separator = separator or _separator(request, text)
    records = [(number + skipped, row) for number, row in _records(text, separator, request)]
    lines: dict[str, Line] = {}
    for line in _lines(records, request):
        earlier = lines.setdefault(normal_path(line.path), line)
        if earlier.label != line.label:
            raise request.failure(
                f"line {earlier.number} has {line.path!r} with the label {earlier.label!r}, line "
                f"{line.number} has it with {line.label!r}: keep one of them"
            )
    if not lines:
        raise request.failure("it has no line with a path and a label")
    return LabelFile(request.file, lines)


def normal_path(path: str) -> str:
    r"""Return a path of a CSV file in the form in which it is compared with paths of images.

    `./a.jpg`, `../a.jpg` and `sub\a.jpg` are ends of paths; `file:` is removed.
    """
    if path.startswith("file://") and "%" in path:
        path = unquote(path, errors="surrogateescape")
    if path.startswith(("s3://", "s3n://")):  # Hadoop's name of it is `s3a`
        path = f"s3a://{path.partition('://')[2]}"
    if path.startswith("file:"):
        return "/" + path.removeprefix("file:").lstrip("/")
    if "\\" in path and "/" not in path:
        path = path.replace("\\", "/")
    while path.startswith(("./", "../")):
        path = path.partition("/")[2]
    return path


def _parse(text: str) -> _Request:
    splits = [(text[: at.start()], text[at.end() :]) for at in _OPTIONS.finditer(text)]
    if not splits or Path(text).exists():
        return _Request(Path(text))
    file, options = next((split for split in splits if Path(split[0]).exists()), splits[0])
    if not file.strip():
        raise UsageError(f"`label` {f'csv:{text}'!r} has no file: expected {EXPECTED}")
    choices = {}
    for option in re.split(r",(?=(?:path|label|sep)=)", options):
        name, _, value = option.partition("=")
        if not value or name in choices:
            raise UsageError(
                f"`label` csv:{text}: expected csv:FILE:path=COLUMN,label=COLUMN,sep=SEPARATOR"
            )
        choices[name] = value
    separator = choices.get("sep")
    if separator is not None:
        separator = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
        if len(separator) != 1:
            raise UsageError(f"`label` csv:{text}: invalid sep: expected one character, or 'tab'")
    return _Request(Path(file), choices.get("path"), choices.get("label"), separator)


def _text_of(request: _Request) -> str:
    try:
        content = request.file.read_bytes()
    except FileNotFoundError as error:
        place = request.file.absolute()
        raise request.failure(f"{place} does not exist: expected {EXPECTED}") from error
    except IsADirectoryError as error:
        raise request.failure(f"it is a folder: expected {EXPECTED}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise request.failure(f"cannot be read ({reason})") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise request.failure(
            f"cannot be read ({error}): save it as UTF-8, or as UTF-16 with a byte order mark"
        ) from error
    if "\0" in text:
        raise request.failure("cannot be read: it is not a text file, or UTF-16 without a mark")
    return text


def _records(text: str, separator: str, request: _Request) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not empty, each with its number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield number, [field.strip() for field in row]
            number = reader.line_num + 1
    except csv.Error as error:
        raise request.failure(f"line {number} cannot be read ({error})") from error


def _separator(request: _Request, text: str) -> str:
    """Return the separator with which all lines have the same number of columns.

    If there are several, it is the one with which the first line names the columns, or else the one
    with which the first column contains none of the others.

    Raises:
        UsageError: there is no such separator, or several fit equally well.
    """
    sample = "".join(text.splitlines(keepends=True)[:_SAMPLE])
    is_cut = len(sample) < len(text)
    found: dict[str, list[list[str]]] = {}
    for separator in _SEPARATORS:
        rows: list[list[str]] = []
        try:
            for _, row in _records(sample, separator, request):
                rows.append(row)
        except UsageError:
            if not is_cut:  # the end of the sample may cut a quoted field, which is valid
                continue
        if rows and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
            found[separator] = rows
    if len(found) > 1:
        named_columns = {name for name in (request.path, request.label) if name is not None}
        names = named_columns or _PATH_NAMES | _LABEL_NAMES
        named = [s for s, rows in found.items() if sum(_is_known(n, names) for n in rows[0]) >= 1]
        named = named or [
            separator
            for separator, rows in found.items()
            if not any(other in row[0] for row in rows for other in found if other != separator)
        ]
        found = {separator: found[separator] for separator in named or found}
    if len(found) == 1:
        return next(iter(found))
    if found:
        several = " or ".join(repr(_SEPARATORS[separator]) for separator in found)
        raise request.failure(
            f"its separator can be {several}: specify it, as in csv:{request.file}:sep=;"
        )
    return _separator_of_most(request, sample)


def _separator_of_most(request: _Request, sample: str) -> str:
    """Return the separator of a file whose lines differ in their number of columns.

    Raises:
        UsageError: no separator fits.
    """
    lines = sample.splitlines()
    counts = {s: sum(s in line for line in lines) for s in _SEPARATORS}
    best = max(counts, key=lambda separator: counts[separator])
    if not counts[best]:
        raise request.failure(
            "found no separator: expected lines of path,label (comma, semicolon, tab or |)"
        )
    return best


def _lines(records: Sequence[tuple[int, list[str]]], request: _Request) -> Iterator[Line]:
    if not records:
        return
    first_number, first = records[0]
    for number, row in records:
        if len(row) != len(first):
            raise request.failure(
                f"line {number} has {len(row)} fields, line {first_number} has {len(first)}: quote "
                "fields that contain the separator"
            )
    used = [i for i in range(len(first)) if any(row[i] for _, row in records)]
    path, label, has_header = _columns(first, used, request)
    for number, row in records[1:] if has_header else records:
        if row[path]:
            yield Line(number, row[path], row[label] or None)


def _columns(first: list[str], used: list[int], request: _Request) -> tuple[int, int, bool]:
    """Return the columns of paths and labels, and whether the first line names the columns."""
    if request.path is not None and request.label is not None:
        return _named(first, request.path, request), _named(first, request.label, request), True
    paths = [i for i in used if _is_known(first[i], _PATH_NAMES)]
    labels = [i for i in used if _is_known(first[i], _LABEL_NAMES)]
    if request.path is not None:
        paths = [_named(first, request.path, request)]
        labels = [i for i in labels if i not in paths]
    if request.label is not None:
        labels = [_named(first, request.label, request)]
        paths = [i for i in paths if i not in labels]
    if len(used) == 2 and (paths or labels):
        # One known name determines the other column, unless the line is about an image.
        if len(paths) == 1 and not labels:
            labels = [i for i in used if i not in paths]
        elif len(labels) == 1 and not paths and not _is_file_name(first, used, labels):
            paths = [i for i in used if i not in labels]
    if len(paths) == 1 and len(labels) == 1 and paths != labels:
        return paths[0], labels[0], True
    if len(used) == 2 and not (paths and labels) and request.path is request.label is None:
        return used[0], used[1], False
    if len(used) < 2:
        raise request.failure("has one column: expected two, path and label")
    raise request.failure(
        f"cannot tell which of its columns {', '.join(map(repr, first))} are the path and the "
        f"label: specify them, as in csv:{request.file}:path=COLUMN,label=COLUMN; if its first "
        "line does not name the columns, add a line that does"
    )


def _is_file_name(first: list[str], used: list[int], labels: list[int]) -> bool:
    return any("." in first[i] or "/" in first[i] for i in used if i not in labels)


def _named(first: list[str], name: str, request: _Request) -> int:
    found = [i for i, column in enumerate(first) if column == name]
    found = found or [i for i, column in enumerate(first) if _is_known(column, {name})]
    if len(found) != 1:
        what = "no column" if not found else "several columns"
        raise request.failure(
            f"it has {what} {name!r}: its first line is {', '.join(map(repr, first))}"
        )
    return found[0]


def _is_known(column: str, names: set[str]) -> bool:
    return column.casefold() in {name.casefold() for name in names}
