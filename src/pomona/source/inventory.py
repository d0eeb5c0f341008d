"""The images of a bucket in S3 Inventory: SOURCE is its `manifest.json`, and nothing is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from pomona.errors import RunError, SourceError
from pomona.io.location import scheme_of
from pomona.io.member_uri import is_text
from pomona.io.remote import RemotePlace
from pomona.source.image_file import ImageFile
from pomona.source.inventory_files import InventoryObject, Manifest, objects_in, read_manifest
from pomona.source.list_file import ListFile
from pomona.source.list_reader import ListReader
from pomona.source.passed_over import PassedOver
from pomona.source.selection import KNOWN_IMAGES, Selected, Selection, SourceGlob
from pomona.source.stores import Stores, is_object

__all__ = ["MANIFEST", "Inventory", "is_inventory"]

MANIFEST = "manifest.json"
"""The last letters of a manifest's name."""

_GROUP = 1024  # objects that are looked at together if the inventory has no sizes or times


def is_inventory(source: str) -> bool:
    """Return whether a source is a manifest of S3 Inventory.

    Raises:
        SourceError: its store cannot be reached.
    """
    file = ListFile.at(source)
    return file.name.endswith(MANIFEST) and file.bytes_there() is not None


@dataclass(frozen=True, slots=True)
class Inventory:
    """The images in an inventory. It names each object once, so nothing is held in memory.

    Attributes:
        given: the value of `source`: a manifest that `is_inventory` accepts.
        selection: which objects are images of the run.
    """

    given: str
    selection: Selection = KNOWN_IMAGES
    _stores: Stores = field(default_factory=Stores, init=False, repr=False, compare=False)

    @property
    def reader(self) -> ListReader:
        """What reads the images."""
        return ListReader()

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that an image has changed: size and time do."""
        return False

    def check(self) -> None:
        """Check the manifest, and that its first file is there.

        Raises:
            SourceError: it is not a manifest, or the file is missing.
        """
        manifest = read_manifest(self._file)
        if not manifest.files:
            raise SourceError(f"{self._file.name} lists no files: the inventory is empty")
        try:
            self._located(manifest, *manifest.files[0])
        except RunError as error:
            raise SourceError(str(error)) from error

    def files(
        self,
        on_error: Callable[[OSError], None],  # noqa: ARG002 - no folder is listed
        passed_over: PassedOver | None = None,
    ) -> Iterator[ImageFile]:
        """Yield the images in the order of the inventory.

        Raises:
            RunError: a file of the inventory is missing or damaged.
        """
        passed_over = passed_over or PassedOver()
        passed_over.expect(self.selection.exclude)
        manifest = read_manifest(self._file)
        try:
            for key, size in manifest.files:
                file = self._located(manifest, key, size)
                yield from self._images(objects_in(file, manifest), passed_over)
        except SourceError as error:
            raise RunError(f"{error}; rows written so far stay") from error

    def is_gone(self, uri: str) -> bool:  # noqa: ARG002 - it may cover a prefix, and is a day old
        """Return False: an inventory does not tell that an object no longer exists."""
        return False

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of an object's bytes, in hex; None if it cannot be read."""
        return self.reader.digest(file)

    @property
    def _file(self) -> ListFile:
        return ListFile.at(self.given)

    def _images(
        self, objects: Iterator[InventoryObject], passed_over: PassedOver
    ) -> Iterator[ImageFile]:
        scheme = scheme_of(self.given) if self._file.place else "s3"
        for bucket, some in groupby(objects, itemgetter(0)):
            root = f"{scheme}://{bucket}"
            selected = Selected(self.selection, SourceGlob(root, False), root, passed_over)
            example = self._stores.named(f"{root}/_", self._file.place)
            unknown: list[ImageFile] = []
            for found in some:
                uri = f"{root}/{found.key}"
                if not found.is_current or found.key.endswith("/"):
                    passed_over.not_an_object(is_folder=found.is_current)
                elif selected.takes(uri):
                    file = example._replace(path=uri, size=found.size, modified=found.modified)
                    if "" in found.key.split("/") or not is_text(found.key):
                        file = self._stores.named(uri, self._file.place)
                    if is_object(file) and None in {file.size, file.modified}:
                        unknown.append(file)
                    else:
                        yield file
                if len(unknown) >= _GROUP:
                    yield from self._stores.looked_at(unknown)
                    unknown = []
            yield from self._stores.looked_at(unknown)

    def _located(self, manifest: Manifest, key: str, size: int | None) -> ListFile:
        """Return a file of the inventory: beside the manifest, or in the bucket.

        Raises:
            SourceError: it is missing, or is not the file that the manifest names.
        """
        for file in self._places(manifest, key):
            there = file.bytes_there()
            if there is not None:
                if size not in {None, there}:
                    raise SourceError(
                        f"{file.name} has {there} bytes, and {self._file.name} says {size}: copy "
                        "both again"
                    )
                return file
        raise SourceError(
            f"{self._file.name} lists {key}, which does not exist: copy the files of the inventory "
            "beside the manifest, or give the URI of the manifest"
        )

    def _places(self, manifest: Manifest, key: str) -> Iterator[ListFile]:
        """Yield where a file of the inventory may be."""
        place, name = self._file.place, key.rpartition("/")[2]
        if place is not None:
            yield ListFile(f"{place.top}/{key}", place)
        for path in (name, f"data/{name}", f"../data/{name}"):
            yield ListFile(self._file.beside(path), place)
        if place is None:
            far = self._stores.named(f"s3://{manifest.destination}/{key}")
            if isinstance(far.place, RemotePlace):
                yield ListFile(far.path, far.place)
