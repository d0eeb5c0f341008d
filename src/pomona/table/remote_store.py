"""The files of a table in an object store, without a JVM."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pomona.io.folders import ArrowFolder, Entry
from pomona.io.remote import Cause, StorageError, repeated

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RemoteStore"]

Result = TypeVar("Result")

_CHUNK_BYTES = 8 * 2**20


class RemoteStore:
    """A folder in an object store. A file is moved by copying and deleting it.

    An object appears whole. Arrow writes one to Azure in several steps, but a copy takes one step
    on every store. So part files are written in a place first, and then moved into the table.
    Calls that fail are repeated for a minute (`pomona.io.remote.repeated`).
    """

    moves_whole: ClassVar[bool] = False

    def __init__(self, folder: ArrowFolder) -> None:
        self._folder = folder
        self._system = folder.system

    def __str__(self) -> str:
        return str(self._folder)

    def entries(self, place: str = "") -> dict[str, Entry]:
        """Return the entries of a place, by name."""
        folder = self._folder.child(place) if place else self._folder
        return self._do("list", place, lambda: {entry.name: entry for entry in folder.entries()})

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self._do("read", name, lambda: self._folder.read(name))

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Create or replace a file."""

        def write() -> None:
            with self._system.open_output_stream(self._path(name)) as stream:
                stream.write(content)  # at once: `close` completes only what was written whole

        self._do("write", name, write)

    def sync(self, names: Iterable[str]) -> None:
        """Do nothing: a written object is on the storage."""

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        """Copy and delete files."""
        for name in names:
            old, new = (f"{place}/{name}".lstrip("/") for place in (source, target))
            copy = partial(self._system.copy_file, self._path(old), self._path(new))
            self._do("write", new, copy)
            self.delete([old])

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; missing files are skipped."""
        for name in names:
            self._delete(name, self._system.delete_file)

    def make_place(self, place: str) -> None:
        """Do nothing: an object store has no folders."""

    def remove_place(self, place: str) -> None:
        """Delete a folder. If the storage fails, the next run deletes it."""
        with suppress(OSError):
            self._delete(place, self._system.delete_dir)

    def send(self, file: Path, name: str) -> None:
        """Create or replace a file with the content of one on this machine."""
        import pyarrow as pa

        with pa.memory_map(str(file)) as content:
            self.write(name, content.read_buffer())

    def fetch(self, name: str, file: Path) -> None:
        """Write the content of a file to one on this machine."""

        def fetch() -> None:
            with self._folder.opened(name) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)

        self._do("read", name, fetch)

    def _delete(self, name: str, delete: Callable[[str], None]) -> None:
        try:
            self._do("delete", name, lambda: delete(self._path(name)))
        except FileNotFoundError:
            return

    def _do(self, act: str, name: str, call: Callable[[], Result]) -> Result:
        """Return the result of a call.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the storage failed for a minute, or refuses the call.
        """
        uri = f"{self}/{name}".rstrip("/")
        try:
            return repeated(call, f"{act} {uri}")
        except StorageError as failure:
            code = errno.ENOENT if failure.cause is Cause.MISSING else errno.EIO
            raise OSError(code, f"cannot {act} it: {failure}", uri) from failure

    def _path(self, name: str) -> str:
        return f"{self._folder.path}/{name}"
