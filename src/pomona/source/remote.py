"""Images in object stores and on other file systems, without a JVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from glob import has_magic

from pomona.errors import SourceError
from pomona.io.remote import RemotePlace, same_scheme
from pomona.source.begun_listing import BegunListing
from pomona.source.image_file import ImageFile
from pomona.source.passed_over import PassedOver
from pomona.source.remote_reader import RemoteReader
from pomona.source.remote_tree import FOLDER, Kind, RemoteTree
from pomona.source.selection import KNOWN_IMAGES, Selected, Selection, SourceGlob
from pomona.source.walk import folders_above

__all__ = ["RemoteSource"]


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A set of image files at a URI.

    Attributes:
        glob: the URI without credentials and settings: a folder, a file or a glob.
        place: the bucket, container or host.
        selection: which files below a folder are images of the run.
        table: the URI of a folder that is skipped: the table, if it is below the source.
        unlisted: URIs of folders that could not be listed.
        begun: the listing that `look_in` began.
    """

    glob: SourceGlob
    place: RemotePlace
    selection: Selection = KNOWN_IMAGES
    table: str | None = None
    unlisted: set[str] = field(default_factory=set)
    begun: BegunListing = field(default_factory=BegunListing, repr=False, compare=False)

    @classmethod
    def at(
        cls, location: str, selection: Selection = KNOWN_IMAGES, table: str | None = None
    ) -> RemoteSource:
        """Return the source at a URI, which may have credentials and settings.

        Raises:
            SourceError: its file system cannot be reached.
        """
        place, given = RemotePlace.of(location)
        try:
            place.system()
        except OSError as error:
            raise SourceError(f"cannot reach `source` {given}: {error}") from error
        may_be_glob = has_magic(given) or "{" in given
        tree = RemoteTree(place, lambda _: None)
        is_glob = may_be_glob and tree.look(given) is None
        glob = SourceGlob(given.rstrip("/"), is_glob, has_braces=True)
        table = RemotePlace.of(table)[1].rstrip("/") if table else None
        return cls(glob, place, selection, table)

    @property
    def given(self) -> str:
        """The URI without credentials and settings."""
        return self.glob.pattern

    @property
    def reader(self) -> RemoteReader:
        """What reads the images."""
        return RemoteReader(self.place)

    def check(self) -> None:
        """Check that there is something to list.

        Raises:
            SourceError: the source does not exist, or the glob matches nothing.
        """
        if next(self._tops(RemoteTree(self.place, lambda _: None)), None) is None:
            why = "matches no file or folder: check the pattern, or give a folder or an image"
            if not self.glob.is_glob:
                why = "does not exist: give a folder, an image or a glob"
            raise SourceError(f"{self.given} {why}")

    def files(
        self, on_error: Callable[[OSError], None], passed_over: PassedOver | None = None
    ) -> Iterator[ImageFile]:
        """Yield the images in a fixed order, each once.

        Args:
            on_error: called with the error of each folder that could not be listed.
            passed_over: counts what is skipped.
        """
        passed_over = passed_over or PassedOver()
        passed_over.expect(self.selection.exclude)

        def note(error: OSError) -> None:
            self.unlisted.add(error.filename)
            on_error(error)

        tree = RemoteTree(self.place, note)
        for top, found in self._tops(tree):
            if isinstance(found, ImageFile):
                if self._selected(top, passed_over).has_root(is_folder=False):
                    yield found
            elif self._is_open:
                yield from self._matched(tree.files(top), passed_over)
            else:
                selected = self._selected(top, passed_over)
                if selected.has_root(is_folder=True):
                    yield from self._below(self.begun.files(tree, top), selected)

    def look_in(self) -> Iterator[ImageFile]:
        """Yield all files of a folder that are not excluded. Then `files` continues this listing.

        A file or a glob yields nothing.
        """
        tree = RemoteTree(self.place, lambda _: None)
        if self.glob.is_glob or tree.look(self.given) is not FOLDER:
            return
        everything = Selection(("*",), self.selection.exclude)
        selected = Selected(everything, self.glob, self.given, PassedOver())
        if selected.has_root(is_folder=True):
            yield from self._below(self.begun.begin(self.place, self.given), selected)

    def _below(self, files: Iterator[ImageFile], selected: Selected) -> Iterator[ImageFile]:
        for file in files:
            if not self._is_of_table(file.path) and selected.takes(file.path):
                yield file

    def is_gone(self, uri: str) -> bool:
        """Return whether the file of a row was in the source and no longer is.

        It is asked for files that were not listed. An excluded file counts as gone, and a file in a
        folder that could not be listed does not.
        """
        if same_scheme(uri).startswith(same_scheme(self.place.top)):
            uri = self.place.top + same_scheme(uri)[len(same_scheme(self.place.top)) :]
        root = self._root_of(uri)
        if root is None or self._is_of_table(uri):
            return False
        if not self.unlisted.isdisjoint(folders_above(uri)):
            return False
        below = uri[len(root) :].lstrip("/")
        return not below or self.selection.chooses(below)

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        return self.reader.digest(file)

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that an image has changed."""
        return False

    @property
    def _is_open(self) -> bool:
        """Whether the glob matches folders at any depth."""
        return self.glob.is_glob and "**" in self.glob.pattern.split("/")

    def _tops(self, tree: RemoteTree) -> Iterator[tuple[str, Kind]]:
        """Yield the files and folders that the names of the glob before `**` match."""
        names = self.glob.below(self.glob.pattern).split("/") if self.glob.is_glob else []
        if self._is_open:
            names = names[: names.index("**")]
        found: dict[str, Kind | None] = {self.glob.base: None}
        for name in filter(None, names):
            if not self.glob.is_open(name):
                found = {f"{uri}/{name}": None for uri in found}
                continue
            uris, found = found, {}
            for uri, what in uris.items():
                if what is None or what is FOLDER:
                    files, folders = tree.entries(uri)
                    entries: dict[str, Kind] = dict.fromkeys(folders, FOLDER)
                    entries |= {file.path: file for file in files}
                    for path, kind in sorted(entries.items()):
                        if self.glob.name_matches(path.rpartition("/")[2], name):
                            found[path] = kind
        for uri, what in found.items():
            if there := what or tree.look(uri):
                yield uri, there

    def _matched(self, files: Iterator[ImageFile], passed_over: PassedOver) -> Iterator[ImageFile]:
        """Yield the images among files that a glob with `**` may match."""
        root, selected = "", None
        for file in files:
            found = self._root_of(file.path)
            if found is None or self._is_of_table(file.path):
                continue
            if selected is None or found != root:
                root, selected = found, self._selected(found, passed_over)
            if (
                selected.has_root(is_folder=False)
                if found == file.path
                else selected.takes(file.path)
            ):
                yield file

    def _root_of(self, uri: str) -> str | None:
        """Return which of the given files and folders is a file or contains it."""
        places = [*reversed([above for above in folders_above(uri) if "://" in above]), uri]
        if self.glob.pattern.endswith("/**"):
            places.pop()
        return next(filter(self.glob.finds, places), None)

    def _selected(self, root: str, passed_over: PassedOver) -> Selected:
        return Selected(self.selection, self.glob, root, passed_over)

    def _is_of_table(self, uri: str) -> bool:
        return self.table is not None and same_scheme(uri).startswith(f"{same_scheme(self.table)}/")
