"""What lists images and reads them: a folder, one file or a glob on this machine."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from pomona.errors import SourceError
from pomona.labels import LabelRule
from pomona.location import local_path
from pomona.schema import INPUT_SCHEMA

__all__ = [
    "IMAGE_EXTENSIONS",
    "MAX_FILE_BYTES",
    "ImageFile",
    "Listing",
    "Source",
    "is_chosen",
    "is_for_spark",
    "is_hidden",
    "is_hidden_below",
    "is_taken",
    "read_batches",
]

_log = logging.getLogger(__name__)

_NO_TEXT = re.compile("[\udc80-\udcff]")  # bytes of a name that are no UTF-8, as Python shows them

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


BATCH_BYTES = 16 * 2**20
"""A record batch of images is closed when it holds this much: one photo of 40 MB, or many small."""

BATCH_ROWS = 256

MAX_FILE_BYTES = 2**31 - 1
"""What fits into one value of Arrow's binary type, and into one of Java's byte arrays."""


_SPARK_FILE_BYTES = 128 * 2**20
"""The most that Spark is to read of one file: it holds each up to three times on the JVM's heap,
of 1 GiB by default, in every task at once."""

_MODIFIED_MS = range(-62_135_596_800_000, 253_402_300_800_000)  # the years 1 to 9999


class ImageFile(NamedTuple):
    """One file as it was listed.

    Attributes:
        path: absolute path on this machine, or URI of another file system.
        size: bytes; None where the file could not be looked at, or is no regular file.
        modified: milliseconds since 1970 (Hadoop's resolution), UTC; None likewise, and where no
            calendar has that time.
    """

    path: str
    size: int | None
    modified: int | None

    @property
    def has_plain_name(self) -> bool:
        """Whether the name is valid text, so that the URI leads back to the file."""
        return self.uri.removeprefix("file:") == self.path or not self.path.startswith("/")

    @property
    def uri(self) -> str:
        """The string of the feature table: what Spark's `binaryFile` gives, nothing escaped.

        Parquet's strings must be valid text. Where bytes of a name are not, each becomes `%XX` and
        each `%` becomes `%25`, and the URI begins with `file://`, which no other one does: so no
        two files have the same.
        """
        path = self.path
        if not path.startswith("/"):
            return path
        if path.isascii() or not _NO_TEXT.search(path):
            return f"file:{path}"
        escaped = path.replace("%", "%25")
        return "file://" + _NO_TEXT.sub(lambda no: f"%{ord(no[0]) - 0xDC00:02X}", escaped)


@dataclass(frozen=True, slots=True)
class Source:
    """A set of image files on this machine's file system.

    Attributes:
        given: what the user wrote: a folder, a file, or a glob; a `file:` URI also.
        globs: patterns for file names (or, with a slash, for paths below the folder) that choose
            files in place of the known extensions; letter case counts.
        excluded: a folder below the source to leave out: the table, where it lies there.
    """

    given: str
    globs: tuple[str, ...] = ()
    excluded: str | None = None

    def check(self) -> None:
        """Make sure that there is something to list.

        Raises:
            SourceError: missing, or a glob without matches.
        """
        if not self._roots():
            raise SourceError(f"{self.given} does not exist: give a folder, an image or a glob")

    def files(self, on_error: Callable[[OSError], None]) -> Iterator[ImageFile]:
        """List the images, in a fixed order, each once, streaming.

        Hidden names and names that begin with an underscore are left out, as Spark does. Links are
        followed, but never round in a circle.

        Args:
            on_error: is told of each folder that could not be listed.
        """
        for root in self._roots(on_error):
            if os.path.isdir(root):  # noqa: PTH112 - names may be no valid text: stay with os
                yield from self._walk(root, on_error)
            else:
                yield _look_at(root)

    def is_gone(self, uri: str) -> bool:
        """Whether a file of a table's row, which was not listed, lay in the source and is no more.

        A file that cannot be looked at may still be there.
        """
        path = uri.removeprefix("file:")
        if path.startswith("//"):
            path = os.fsdecode(unquote_to_bytes(path[2:]))
        if not path.startswith("/") or not self._would_list(path):
            return False
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def _would_list(self, path: str) -> bool:
        """Whether a file of this path, were it there, would be listed."""
        given = local_path(self.given)
        pattern = os.path.abspath(given)  # noqa: PTH100
        above = [str(parent) for parent in reversed(Path(path).parents)]
        of_folders = given.rpartition("/")[2] in {"", "**"}
        places = above if of_folders else [*above, path]
        if os.path.lexists(given):
            root = pattern if pattern in places else None
        else:
            root = next((place for place in places if _matches(place, pattern)), None)
        return root is not None and self._takes(path, root)

    def _takes(self, path: str, root: str) -> bool:
        """Whether a file is one of those asked for: a root itself always is."""
        below = path[len(root) :].lstrip("/")
        return not below or is_taken(below, self.globs)

    def _roots(self, on_error: Callable[[OSError], None] = lambda _: None) -> list[str]:
        path = local_path(self.given)
        if os.path.lexists(path):
            return [os.path.abspath(path)]  # noqa: PTH100 - links stay as they were given
        found = _expand(path, on_error)
        matches = {os.path.abspath(match) for match in found if not is_hidden_below(match, path)}  # noqa: PTH100
        return sorted(match for match in matches if not _has_parent_in(match, matches))

    def _walk(self, root: str, on_error: Callable[[OSError], None]) -> Iterator[ImageFile]:
        for path, is_folder in _tree(root, on_error, self.excluded):
            if not is_folder and is_chosen(path[len(root) :].lstrip("/"), self.globs):
                yield _look_at(path)


class _Folder(NamedTuple):
    """A folder that is being walked.

    Attributes:
        path: as it was reached.
        identity: the same for every path that leads to it.
        names: what it holds and was not walked so far, in order, and whether each is a folder.
    """

    path: str
    identity: tuple[int, int]
    names: Iterator[tuple[str, bool]]

    @classmethod
    def open(cls, path: str) -> _Folder:
        status = os.stat(path or os.curdir)  # noqa: PTH116
        with os.scandir(path or os.curdir) as listing:
            # Names only: of a million files in one folder, entries would take 300 MB.
            kinds = {entry.name: _is_folder(entry) for entry in listing}
        return cls(path, (status.st_dev, status.st_ino), iter(sorted(kinds.items())))


def _tree(
    root: str, on_error: Callable[[OSError], None], excluded: str | None = None
) -> Iterator[tuple[str, bool]]:
    """A folder and all below it that is not hidden, in a fixed order; whether each is a folder.

    Links are followed, but never round in a circle.
    """
    # A stack of our own: folders may lie deeper than Python's goes.
    above: list[_Folder] = []

    def enter(path: str) -> bool:
        try:
            folder = _Folder.open(path)
        except OSError as error:
            on_error(error)
            return False
        if path == excluded or folder.identity in [f.identity for f in above]:
            return False
        above.append(folder)
        return True

    if enter(root):
        yield root, True
    while above:
        for name, is_folder in above[-1].names:
            if is_hidden(name):
                continue
            path = os.path.join(above[-1].path, name)  # noqa: PTH118 - it is called for every file
            if not is_folder:
                yield path, False
            elif enter(path):
                yield path, True
                break  # what it holds comes before the next name
        else:
            above.pop()


def _expand(pattern: str, on_error: Callable[[OSError], None], folder: str = "") -> Iterator[str]:
    """What a glob finds below a folder, by default the current one.

    Python's own follows links round in circles where it meets `**`.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        for match in glob.iglob(pattern, root_dir=folder or None):  # noqa: PTH207 - nor here
            yield os.path.join(folder, match)  # noqa: PTH118
        return
    at = parts.index("**")
    top = "/".join(parts[:at]) or "/" * at  # nothing before it: the root, or the folder itself
    rest = "/".join(itertools.dropwhile("**".__eq__, parts[at:]))
    for root in _expand(top, on_error, folder) if top else [folder]:
        if not os.path.isdir(root or os.curdir):  # noqa: PTH112
            continue
        if not rest:
            yield root  # and by that all below it
            continue
        for below, is_folder in _tree(root, on_error):
            if is_folder:
                yield from _expand(rest, on_error, below)


class Listing:
    """The images of one run: listed once, streaming.

    Attributes:
        unlisted: folders that could not be listed, each with its reason.
        files_listed: images seen so far.
    """

    def __init__(
        self,
        given: str,
        files: Callable[[Callable[[OSError], None]], Iterator[ImageFile]],
        is_gone: Callable[[str], bool],
    ):
        """Begin the listing.

        Args:
            given: what the user gave as the source.
            files: lists the images, and tells of folders that could not be listed.
            is_gone: whether a file of a table's row, which was not listed, lay in the source and is
                no more.
        """
        self.is_gone = is_gone
        self.unlisted: list[str] = []
        self.files_listed = 0
        self._given = given
        self._files = files(self._note)
        self._first = next(self._files, None)

    def check(self) -> None:
        """Make sure that there is an image.

        Raises:
            SourceError: there is none.
        """
        if self._first is None:
            why = f" ({self.unlisted[0]})" if self.unlisted else ""
            raise SourceError(
                f"{self._given} has no images{why}: known extensions are "
                f"{' '.join(IMAGE_EXTENSIONS)}; choose others with --glob"
            )

    def files(self) -> Iterator[ImageFile]:
        """The images; to be read once."""
        first = (self._first,) if self._first else ()
        for file in itertools.chain(first, self._files):
            self.files_listed += 1
            yield file

    def _note(self, error: OSError) -> None:
        told = f"{error.filename}: {error.strerror}"
        if told in self.unlisted:  # where a glob and the walk meet it
            return
        self.unlisted.append(told)
        _log.warning("cannot list %s: %s", error.filename, error.strerror)


def is_hidden(name: str) -> bool:
    """Whether Spark, and so Pomona, passes over files and folders of this name."""
    return name.startswith((".", "_"))


def is_hidden_below(match: str, pattern: str) -> bool:
    """Whether a hidden name is in that part of a glob's match that the pattern left open."""
    return any(map(is_hidden, filter(None, match.split("/")[len(_fixed_parts(pattern)) :])))


def is_for_spark(file: ImageFile) -> bool:
    """Whether Spark can be asked for a file: not for an empty one, nor for a very large one."""
    return file.modified is not None and 0 < (file.size or 0) <= _SPARK_FILE_BYTES


def is_chosen(relative: str, globs: Sequence[str]) -> bool:
    """Whether a file, by its path below the source, is one of those asked for."""
    name = relative.rpartition("/")[2]
    if not globs:
        return name.lower().endswith(IMAGE_EXTENSIONS)
    return any(
        fnmatch.fnmatchcase(relative if "/" in pattern else name, pattern) for pattern in globs
    )


def is_taken(relative: str, globs: Sequence[str]) -> bool:
    """Whether a file, by its path below the source, is chosen and no part of that is hidden."""
    return not any(map(is_hidden, relative.split("/"))) and is_chosen(relative, globs)


def read_batches(files: Iterable[ImageFile], label: LabelRule) -> Iterator[pa.RecordBatch]:
    """Read local files into record batches for the worker, `pomona.schema.INPUT_SCHEMA`.

    A file that cannot be read gives a row without content and with the reason in `read_error`.
    """
    rows: list[tuple[ImageFile, bytes | None, str | None]] = []
    held = 0
    for file in files:
        content, error = _read(file)
        rows.append((file, content, error))
        held += len(content or b"")
        if held >= BATCH_BYTES or len(rows) >= BATCH_ROWS:
            yield _batch(rows, label)
            rows, held = [], 0
    if rows:
        yield _batch(rows, label)


def _read(file: ImageFile) -> tuple[bytes | None, str | None]:
    try:
        # Not blocking: a named pipe called a.jpg must not hang the run.
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None, "not a regular file"
            if found.st_size > MAX_FILE_BYTES:
                return None, f"holds {found.st_size} bytes: no more than {MAX_FILE_BYTES} are read"
            return opened.read(), None
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"


def _batch(
    rows: Sequence[tuple[ImageFile, bytes | None, str | None]], label: LabelRule
) -> pa.RecordBatch:
    uris = [file.uri for file, _, _ in rows]
    columns = {
        "path": uris,
        "label": [label(uri) for uri in uris],
        "size": [file.size for file, _, _ in rows],
        "modified": [file.modified and file.modified * 1000 for file, _, _ in rows],
        "content": [content for _, content, _ in rows],
        "read_error": [error for _, _, error in rows],
    }
    return pa.RecordBatch.from_pydict(columns, INPUT_SCHEMA)


def _fixed_parts(pattern: str) -> list[str]:
    """The folders that a glob names before its first wildcard."""
    parts = pattern.split("/")
    return list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def _matches(path: str, pattern: str) -> bool:
    """Whether a glob finds a path, were it there; both absolute."""
    if is_hidden_below(path, pattern):
        return False
    return _parts_match(path.split("/"), pattern.split("/"))


def _parts_match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_parts_match(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    if not parts or not fnmatch.fnmatchcase(parts[0], patterns[0]):
        return False
    return _parts_match(parts[1:], patterns[1:])


def _has_parent_in(path: str, folders: Set[str]) -> bool:
    """Whether a folder above the path is among these, so that walking it finds the path."""
    return any(str(parent) in folders for parent in Path(path).parents)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _look_at(path: str) -> ImageFile:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # a broken link still gets its row
        return ImageFile(path, None, None)
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    modified = status.st_mtime_ns // 1_000_000
    return ImageFile(path, size, modified if modified in _MODIFIED_MS else None)
