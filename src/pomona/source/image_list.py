"""A list of images: paths and URIs in a text file, or in the column `path` of CSV or Parquet.

The list is read in a stream. A path is relative to the folder of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from pomona.errors import RunError, SourceError
from pomona.io.location import is_remote, local_path
from pomona.io.web_address import USUAL_LIMITS, WebLimits
from pomona.source.archives.member import NotBytes
from pomona.source.image_file import ImageFile, look_at
from pomona.source.kept import NOTHING, check_kept_names, kept_field
from pomona.source.list_file import Entry, ListFile, columns_of, entries_of, size_of, time_of
from pomona.source.list_reader import ListReader
from pomona.source.passed_over import PassedOver
from pomona.source.seen_paths import SeenPaths
from pomona.source.stores import Stores, is_object
from pomona.source.urls import is_url, named_url

__all__ = ["ImageList", "is_list"]

_GROUP = 1024  # entries: one look each if need be, 16 at a time


def is_list(source: str) -> bool:
    """Return whether a source is a list of images: a file that can be nothing else.

    Raises:
        SourceError: its store cannot be reached.
    """
    file = ListFile.at(source)
    return file.ending is not None and file.bytes_there() is not None


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images in a list.

    Attributes:
        given: the value of `source`, on this machine or in a bucket: a file that `is_list` accepts.
        web: what fetching from the web may cost.
        keep: columns that the run copies into the table.
    """

    given: str
    web: WebLimits = USUAL_LIMITS
    keep: tuple[str, ...] = ()
    _stores: Stores = field(default_factory=Stores, init=False, repr=False, compare=False)

    @property
    def reader(self) -> ListReader:
        """What reads the images."""
        return ListReader(self.web)

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that an image has changed: size and time do."""
        return False

    def check(self) -> None:
        """Check the beginning of the list.

        Raises:
            SourceError: it cannot be read, has no images, its first image cannot be reached, or it
                lacks a column to keep.
        """
        self.kept()
        first = next(self._entries(()), None)
        if first is None:
            raise SourceError(f"{self.name} lists no image: expected a path in each line")
        try:
            file = self._named(first["path"])
        except RunError as error:
            raise SourceError(str(error)) from error
        if isinstance(file.place, NotBytes):
            raise SourceError(f"{self.name} lists {file.path}, which {file.place.reason}")

    def files(
        self,
        on_error: Callable[[OSError], None],  # noqa: ARG002 - no folder is listed
        passed_over: PassedOver | None = None,
    ) -> Iterator[ImageFile]:
        """Yield the images in the order of the list, each once.

        Raises:
            RunError: the list is damaged.
        """
        passed_over, seen = passed_over or PassedOver(), SeenPaths()
        try:
            kept = self.kept()
            for entries in _groups(self._entries(("size", "modified"), kept=kept)):
                files = self._looked_at(entries)
                if kept.names:
                    files = [
                        file._replace(kept=tuple(entry[name] for name in kept.names))
                        for file, entry in zip(files, entries, strict=True)
                    ]
                for file, is_new in zip(files, seen.add([f.uri for f in files]), strict=True):
                    if is_new:
                        yield file
                    else:
                        passed_over.listed_before()
        except SourceError as error:
            raise RunError(f"{error}; rows written so far stay") from error

    def is_gone(self, uri: str) -> bool:  # noqa: ARG002 - nothing records what an earlier list had
        """Return False: a list does not tell which rows came from it."""
        return False

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        return self.reader.digest(file)

    def kept(self) -> pa.Schema:
        """Return the columns to keep, as the feature table has them.

        Raises:
            SourceError: the list lacks one, or it has a type or a name that the table cannot have.
        """
        if self.keep:
            self._check_is_table("leave `keep` out")
        check_kept_names(self.keep)
        columns = columns_of(self._list) if self.keep else NOTHING
        return pa.schema(kept_field(self.name, columns, name) for name in self.keep)

    def labels(self, column: str) -> dict[str, str | None]:
        """Return the values of a column as labels, by the path of the row.

        Raises:
            SourceError: there is no such column.
        """
        self._check_is_table("another `label`")
        found: dict[str, str | None] = {}
        for entry in self._entries((column,), required=("path", column)):
            value = entry[column]
            uri = self._named(entry["path"]).uri
            found[uri] = None if value in {None, ""} else str(value)
        return found

    @property
    def name(self) -> str:
        """The path or the URI of the list, without credentials."""
        return self._list.name

    @property
    def _list(self) -> ListFile:
        return ListFile.at(self.given)

    def _looked_at(self, entries: list[Entry]) -> list[ImageFile]:
        """Return the images of some entries. Objects without size and time are looked at."""
        files = [self._file(entry) for entry in entries]
        at = [
            number for number, file in enumerate(files) if is_object(file) and file.modified is None
        ]
        found = self._stores.looked_at([files[number] for number in at])
        for number, file in zip(at, found, strict=True):
            files[number] = file
        return files

    def _file(self, entry: Entry) -> ImageFile:
        file = self._named(entry["path"])
        size, modified = size_of(entry.get("size")), time_of(entry.get("modified"))
        if size is not None and modified is not None and not isinstance(file.place, NotBytes):
            return file._replace(size=size, modified=modified)
        return look_at(file.path) if file.place is None else file

    def _named(self, path: str) -> ImageFile:
        """Return the image at a path or a URI of the list, without size and time."""
        if is_url(path):
            return named_url(path)
        known = self._list.place
        place = path if is_remote(path) else self._list.beside(local_path(path))
        if place.startswith("/"):
            return ImageFile(place, None, None)
        return self._stores.named(place, known)

    def _check_is_table(self, advice: str) -> None:
        if (self._list.ending or "").startswith(".txt"):
            raise SourceError(f"{self.name} has no columns: give CSV or Parquet, or {advice}")

    def _entries(
        self,
        columns: Iterable[str],
        required: Iterable[str] = ("path",),
        kept: pa.Schema = NOTHING,
    ) -> Iterator[Entry]:
        return entries_of(self._list, columns, required, kept)


def _groups(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 1  # the first image does not wait for others
    for entry in entries:
        group.append(entry)
        if len(group) >= size:
            yield group
            group, size = [], _GROUP
    if group:
        yield group
