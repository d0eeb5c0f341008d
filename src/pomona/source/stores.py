"""Single objects in stores, named by a list: which store, one look at each, and reading them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import pyarrow as pa

from pomona.errors import RunError
from pomona.io.file_systems import needs_jvm
from pomona.io.location import canonical, scheme_of, without_password
from pomona.io.member_uri import is_text
from pomona.io.remote import Cause, RemotePlace, StorageError, repeated
from pomona.messages import one_line
from pomona.source.archives.member import NotBytes
from pomona.source.image_file import Content, ImageFile
from pomona.source.remote_reader import RemoteReader

__all__ = ["Stores", "is_object"]

_AT_ONCE = 16  # looks
_PLACES = 1024  # buckets whose connections are kept
_REACH_S = 10.0
_AUTHORITY = re.compile(r"[A-Za-z0-9._:@+=%~-]*")  # with credentials, but without settings


def is_object(file: ImageFile) -> bool:
    """Return whether a file is an object in a store."""
    return isinstance(file.place, RemotePlace)


class Stores:
    """The stores of a list, each with its connection.

    A URI in a list names an object and nothing else: `?` is a part of the name, and the credentials
    are those of the environment.
    """

    def __init__(self) -> None:
        self._place = lru_cache(_PLACES)(_itself)
        self._reader = lru_cache(_PLACES)(self._new_reader)
        self._fault = lru_cache(_PLACES)(self._found_fault)

    def named(self, uri: str, known: RemotePlace | None = None) -> ImageFile:
        """Return an object without size and time; `place` says how to read it, or why not.

        Args:
            uri: the URI.
            known: a bucket that is reached in another way: that of the list.

        Raises:
            RunError: the store cannot be reached now.
        """
        scheme, _, rest = canonical(uri).partition("://")
        authority, _, name = rest.partition("/")
        if not _AUTHORITY.fullmatch(authority):
            return _unread(without_password(uri), "names no bucket, container or host")
        place = RemotePlace.of(f"{scheme}://{authority}")[0]
        clean = f"{place.top}/{name}"
        is_known = known is not None and known.top == place.top
        fault = _fault_in(authority, place, name) or (None if is_known else self._fault(place))
        if fault:
            return _unread(clean, fault)
        return ImageFile(clean, None, None, known if is_known else self._place(place))

    def looked_at(
        self, files: Sequence[ImageFile], give_up_s: float | None = None
    ) -> Iterator[ImageFile]:
        """Yield objects with their size and time, in order, after one look at each.

        An object that is missing or forbidden stays without them.

        Args:
            files: the objects.
            give_up_s: how long each look is repeated; by default a minute.

        Raises:
            RunError: a store does not answer, or refuses the credentials.
        """
        if files:
            with ThreadPoolExecutor(_AT_ONCE, "pomona-look") as threads:
                yield from threads.map(partial(self._look, give_up_s), files)

    def read(self, file: ImageFile) -> Content:
        """Return the content of an object, or None and the reason why it cannot be read.

        Raises:
            RunError: the store fails for all objects.
        """
        return self._reader(_place_of(file)).content(file)

    def _look(self, give_up_s: float | None, file: ImageFile) -> ImageFile:
        from pyarrow.fs import FileType

        place = self._place(_place_of(file))
        path = place.path(file.path)
        try:
            what = f"look at {file.path}"
            found = repeated(lambda: place.system().get_file_info(path), what, give_up_s)
        except pa.ArrowInvalid as error:
            return _unread(file.path, f"cannot be read: {one_line(error)}")
        except StorageError as failure:
            if failure.cause in {Cause.MISSING, Cause.FORBIDDEN}:
                return file
            advice = "check the credentials, and " if failure.cause is Cause.REFUSED else ""
            raise RunError(
                f"cannot look at {file.path}: {failure}; rows written so far stay, so {advice}run "
                "it again"
            ) from failure
        if found.type != FileType.File:
            return file
        modified = None if found.mtime_ns is None else found.mtime_ns // 1_000_000
        return file._replace(size=found.size, modified=modified)

    def _new_reader(self, place: RemotePlace) -> RemoteReader:
        return RemoteReader(self._place(place), was_listed=False)

    def _found_fault(self, place: RemotePlace) -> str | None:
        """Return why no object of a place can be read; None if it can be reached.

        Raises:
            RunError: it cannot be reached now.
        """
        if needs_jvm(place.top):
            return f"is on the file system {scheme_of(place.top)!r}, which cannot be read here"
        try:
            self._place(place).system()
        except OSError as error:
            if isinstance(error.__cause__, pa.ArrowInvalid):
                return f"cannot be read: {one_line(error)}"
        try:
            repeated(self._place(place).system, f"reach {place.top}", _REACH_S)
        except StorageError as failure:
            if failure.cause is Cause.PASSING:
                raise RunError(f"cannot reach {place.top}: {failure}") from failure
            return f"cannot be read: {failure}"
        return None


def _fault_in(authority: str, place: RemotePlace, name: str) -> str | None:
    """Return what is wrong in a URI; None if it may name an object."""
    if not place.top.endswith(f"://{authority}"):
        return "contains credentials: remove them, and set them as environment variables"
    if not is_text(name):
        return "is not valid UTF-8"
    return "has an empty name in its path" if "" in name.split("/") else None


def _itself(place: RemotePlace) -> RemotePlace:
    return place


def _place_of(file: ImageFile) -> RemotePlace:
    assert isinstance(file.place, RemotePlace)  # noqa: S101 - for the type checker
    return file.place


def _unread(uri: str, reason: str) -> ImageFile:
    return ImageFile(uri.encode(errors="replace").decode(), None, None, NotBytes(reason))
