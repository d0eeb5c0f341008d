"""Listing folders of other file systems: several prefixes at once, in a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from pomona.errors import RunError, SourceError
from pomona.io.remote import Cause, RemotePlace, StorageError, repeated
from pomona.source.image_file import ImageFile

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

__all__ = ["FOLDER", "Kind", "RemoteTree"]

FOLDER: Final = "folder"
"""What is at the URI of a folder."""

Kind = ImageFile | Literal["folder"]
"""What is at a URI."""

_AT_ONCE = 16  # requests
_MANY = 8  # subfolders: enough to list each of them whole, at the same time
_LOOK_S = 10.0  # for the first request: the address may be wrong
_DEEPEST = 3  # levels that are listed one by one to find so many


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """The folders of a place.

    Attributes:
        place: the bucket, container or host.
        on_error: called with the error of each folder that could not be listed.
    """

    place: RemotePlace
    on_error: Callable[[OSError], None]

    def look(self, uri: str) -> Kind | None:
        """Return the file at a URI, or whether there is a folder.

        Raises:
            SourceError: the storage refuses to say.
        """
        from pyarrow.fs import FileType

        system, path = self.place.system(), self.place.path(uri)
        try:
            found = repeated(lambda: system.get_file_info(path), f"look at {uri}", _LOOK_S)
        except StorageError as failure:
            if failure.cause is Cause.PASSING:
                raise SourceError(f"cannot reach {uri}: {failure}") from failure
            if failure.cause is Cause.MISSING:
                return None
            return self._look_in(uri)
        if found.type == FileType.File:
            return self.file(found)
        return FOLDER if found.type == FileType.Directory else None

    def _look_in(self, uri: str) -> Literal["folder"] | None:
        """Return whether there is a folder that may be listed, although it may not be looked at.

        A refused listing also says why, which a refused look does not.
        """
        reasons: list[OSError] = []
        files, folders = RemoteTree(self.place, reasons.append).entries(uri)
        if reasons:
            raise SourceError(f"cannot list {uri}: {reasons[0].strerror}: check the credentials")
        return FOLDER if files or folders else None

    def entries(self, uri: str) -> tuple[list[ImageFile], list[str]]:
        """Return the files and the folders in a folder, in the order of their names."""
        return self._listed(uri, recursive=False)

    def files(self, uri: str) -> Iterator[ImageFile]:
        """Yield all files below a folder, in a fixed order.

        A request for 1000 names is answered before the next can be sent. So folders are listed
        at the same time, each whole, as soon as there are enough of them on one level.
        """
        if not self.place.lists_folders:
            yield from self._listed(uri, recursive=True)[0]
            return
        with ThreadPoolExecutor(_AT_ONCE, "pomona-list") as threads:
            yield from self._below(uri, 1, threads)

    def _below(self, uri: str, depth: int, threads: ThreadPoolExecutor) -> Iterator[ImageFile]:
        files, folders = self._listed(uri, recursive=depth > _DEEPEST)
        yield from files
        if len(folders) < _MANY:
            for folder in folders:
                yield from self._below(folder, depth + 1, threads)
            return
        whole = partial(self._listed, recursive=True)
        left = iter(folders)
        waiting = deque(threads.submit(whole, folder) for folder in islice(left, _AT_ONCE))
        try:
            while waiting:
                files, _ = waiting.popleft().result()
                waiting.extend(threads.submit(whole, folder) for folder in islice(left, 1))
                yield from files
        finally:
            for future in waiting:
                future.cancel()

    def _listed(self, uri: str, *, recursive: bool) -> tuple[list[ImageFile], list[str]]:
        from pyarrow.fs import FileSelector, FileType

        if not (recursive or self.place.lists_folders):
            return self._split(uri)
        selector = FileSelector(self.place.path(uri), allow_not_found=True, recursive=recursive)
        try:
            found = repeated(lambda: self.place.system().get_file_info(selector), f"list {uri}")
        except StorageError as failure:
            if failure.cause is Cause.MISSING:
                return [], []
            if failure.cause is Cause.PASSING:
                raise RunError(
                    f"cannot list {uri}: {failure}; rows written so far stay, so run it again"
                ) from failure
            if failure.cause is Cause.REFUSED:
                raise SourceError(
                    f"cannot list {uri}: {failure}: check the credentials and the region"
                ) from failure
            self.on_error(PermissionError(13, str(failure), uri))
            return [], []
        files = [self.file(info) for info in found if info.type == FileType.File]
        folders = [] if recursive else [i.path for i in found if i.type == FileType.Directory]
        return sorted(files), [self.place.uri(path) for path in sorted(folders)]

    def _split(self, uri: str) -> tuple[list[ImageFile], list[str]]:
        """Return the files and the folders in a folder, from the names of all files below it."""
        files, folders = [], set()
        for file in self._listed(uri, recursive=True)[0]:
            name, slash, _ = file.path[len(uri) :].lstrip("/").partition("/")
            if slash:
                folders.add(f"{uri.rstrip('/')}/{name}")
            else:
                files.append(file)
        return files, sorted(folders)

    def file(self, info: FileInfo) -> ImageFile:
        """Return a file as it was listed."""
        modified = None if info.mtime_ns is None else info.mtime_ns // 1_000_000
        return ImageFile(self.place.uri(info.path), info.size, modified)
