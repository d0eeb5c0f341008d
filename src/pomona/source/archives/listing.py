"""Listing the images in tar and zip files, on this machine or in an object store."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from pomona.errors import SourceError
from pomona.io.location import local_path
from pomona.io.member_uri import ARCHIVE_ENDINGS, is_text, member_of_row, member_uri
from pomona.io.remote import same_scheme
from pomona.source.archives.member import (
    Archive,
    Broken,
    Found,
    HardLink,
    Member,
    NotBytes,
    Packing,
    opened,
)
from pomona.source.archives.reader import MemberReader
from pomona.source.archives.remote import RemoteMemberReader, opened_in
from pomona.source.archives.tar import tar_members
from pomona.source.archives.zip import zip_members
from pomona.source.image_file import ImageFile, milliseconds
from pomona.source.listing import Source
from pomona.source.passed_over import PassedOver
from pomona.source.remote import RemoteSource
from pomona.source.selection import Selected, Selection, SourceGlob

__all__ = ["Archives", "archives_of"]

_log = logging.getLogger(__name__)

_MOST_OF_A_LABEL = 2**16

_PATTERNS = tuple(
    "*" + "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in end)
    for end in ARCHIVE_ENDINGS
)


def archives_of(source: Source | RemoteSource) -> Archives | None:
    """Return the archives of a source; None if its images are files.

    A file or a glob is of archives if its name ends as theirs do. A folder is if it has archives,
    and no image that is a file.
    """
    if isinstance(source, RemoteSource):
        of_archives = _is_archive(source.given) or _has_only_far_archives(source)
        return Archives(source) if of_archives else None
    place = local_path(source.given)
    if not os.path.isdir(place):  # noqa: PTH112 - names may be no valid text: stay with os
        is_of_archives = _is_archive(place)
    else:
        is_of_archives = _has_only_archives(place, source.selection)
    return Archives(source) if is_of_archives else None


@dataclass(frozen=True, slots=True)
class Archives:
    """The images in archives.

    A member has the modification time of its archive. So an archive that was written again is
    computed again, even if its members have the same names, sizes and times.

    Attributes:
        source: the archives, as a set of files with the selection of their members.
    """

    source: Source | RemoteSource
    _whole: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def given(self) -> str:
        """The value of `source`."""
        return self.source.given

    @property
    def reader(self) -> MemberReader | RemoteMemberReader:
        """What reads the members."""
        return RemoteMemberReader() if isinstance(self.source, RemoteSource) else MemberReader()

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that an image has changed: size and time do."""
        return False

    def check(self) -> None:
        """Check that there is an archive.

        Raises:
            SourceError: the source does not exist, or the glob matches nothing.
        """
        self.source.check()

    def files(
        self, on_error: Callable[[OSError], None], passed_over: PassedOver | None = None
    ) -> Iterator[ImageFile]:
        """Yield the images, archive by archive, in the order of their bytes.

        If an archive cannot be read from some point on, its last image has no name, and the reason.

        Args:
            on_error: called with the error of each folder that could not be listed.
            passed_over: counts what is skipped.
        """
        passed_over = passed_over or PassedOver()
        for file in self._archive_files().files(on_error, passed_over):
            yield from self._members(file, passed_over)

    def is_gone(self, uri: str) -> bool:
        """Return whether the image of a row was in an archive of the source and no longer is.

        Only after the listing, and for images that it did not yield. An image does not count as
        gone if its archive could not be read to its end.
        """
        if (member := member_of_row(uri)) is None:
            return False
        archive, name = member
        if name and not self.source.selection.chooses(name):
            return False
        if same_scheme(archive) in self._whole:
            return True
        return self._archive_files().is_gone(ImageFile(archive, None, None).uri)

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of an image's bytes, in hex; None if it cannot be read.

        Images in a compressed tar file are not read: all bytes before them would be unpacked.
        """
        if not isinstance(file.place, Member) or file.place.packing is Packing.IN_STREAM:
            return None
        reader = self.reader
        ((content, _),) = reader.read([file])
        reader.close()
        return None if content is None else hashlib.sha256(content).hexdigest()

    def labels(self, column: str) -> dict[str, str | None]:
        """Return the labels in small files beside the images, by the path of the row.

        An image and such a file have the same name up to the first dot, as in WebDataset's shards.

        Args:
            column: what follows that dot: `cls`, `txt`; for a value in JSON, `json` and a dot
                before its key, as in `json.label`.

        Raises:
            SourceError: there is no such file.
        """
        ending, _, key = column.partition(".")
        beside = replace(
            self.source, selection=Selection((f"*.{ending}",), self.source.selection.exclude)
        )
        files = [
            file
            for file in Archives(beside).files(lambda _: None)
            if isinstance(file.place, Member) and file.place.size <= _MOST_OF_A_LABEL
        ]
        reader = self.reader
        texts = {
            _sample(file.uri): _label(content, key)
            for file, (content, _) in zip(files, reader.read(files), strict=True)
            if content is not None
        }
        reader.close()
        if not texts:
            raise SourceError(
                f"{self.given} has no files '*.{ending}' beside its images: give another `label`"
            )
        uris = (file.uri for file in self.files(lambda _: None))
        return {uri: texts.get(_sample(uri)) for uri in uris}

    def _archive_files(self) -> Source | RemoteSource:
        return replace(self.source, selection=Selection(_PATTERNS, self.source.selection.exclude))

    def _members(self, file: ImageFile, passed_over: PassedOver) -> Iterator[ImageFile]:
        places: dict[str, Found] = {}
        archive, broken = Archive(file.path, file.size or 0, 0), None
        try:
            if isinstance(self.source, RemoteSource):
                opening, archive = opened_in(self.source.place, file.path)
            else:
                opening, archive = opened(file.path)
            with opening:
                self._select(opening, archive, places, passed_over)
            self._whole.add(same_scheme(archive.path))
        except Broken as error:
            broken = str(error)
        except OSError as error:
            broken = f"cannot be read: {error.strerror or error}"
        modified = milliseconds(archive.modified_ns)
        for name, place in places.items():
            size = place.size if isinstance(place, Member) else None
            yield ImageFile(member_uri(archive.path, name), size, modified, place)
        if broken:
            _log.warning("%s %s", archive.path, broken)
            uri = member_uri(archive.path, "")
            yield ImageFile(uri, archive.size, modified, NotBytes(broken))

    def _select(
        self,
        opening: IO[bytes],
        archive: Archive,
        places: dict[str, Found],
        passed_over: PassedOver,
    ) -> None:
        """Add the images of an archive to `places`, by name.

        Raises:
            Broken: the archive cannot be read from some point on.
        """
        root = archive.path
        selected = Selected(self.source.selection, SourceGlob(root, False), root, passed_over)
        is_zip = root.lower().endswith(".zip")
        for name, place in (zip_members if is_zip else tar_members)(opening, archive):
            below = _normal(name)
            if below is None or not (root.startswith("/") or is_text(below)):
                passed_over.file(name)
            elif selected.takes(f"{root}/{below}"):
                # As after unpacking: a name that occurs again is another file.
                if places.pop(below, None):
                    passed_over.replaced()
                places[below] = _resolved(place, places)


def _has_only_far_archives(source: RemoteSource) -> bool:
    """Return whether a folder in an object store has archives, and no image.

    It stops at the first image.
    """
    has_archive = False
    for file in source.look_in():
        if source.selection.chooses(file.path[len(source.given) :].lstrip("/")):
            return False
        has_archive = has_archive or _is_archive(file.path)
    return has_archive


def _normal(name: str) -> str | None:
    """Return where a member is after unpacking, below the folder; None if it would lie outside."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return "/".join(parts) if parts and ".." not in parts else None


def _resolved(place: Found, places: dict[str, Found]) -> Found:
    if not isinstance(place, HardLink):
        return place
    target = places.get(_normal(place.target) or "")
    return target or NotBytes(f"is a link to {place.target!r}, which is not an image before it")


def _sample(uri: str) -> str:
    """Return what an image and the files beside it have in common."""
    folder, slash, name = uri.rpartition("/")
    archive, colons, name = name.rpartition("::")
    return folder + slash + archive + colons + name.partition(".")[0]


def _label(content: bytes, key: str) -> str | None:
    text = content.decode(errors="replace").strip()
    if key:
        try:
            found = json.loads(text).get(key)
        except (ValueError, AttributeError, RecursionError):
            return None
        return None if found is None else str(found)
    return text or None


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_ENDINGS)


def _has_only_archives(folder: str, selection: Selection) -> bool:
    """Return whether a folder has archives, and no image. It stops at the first image."""
    has_archive = False
    folders, seen = [folder], set[tuple[int, int]]()
    while folders:
        path = folders.pop()
        try:
            status = os.stat(path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    below = entry.path[len(folder) :].lstrip("/")
                    if entry.is_dir():
                        if not selection.own_exclusion(below, is_folder=True):
                            folders.append(entry.path)
                    elif not selection.own_exclusion(below, is_folder=False):
                        if selection.chooses(below):
                            return False
                        has_archive = has_archive or _is_archive(entry.name)
        except OSError:  # the listing reports it
            continue
    return has_archive
