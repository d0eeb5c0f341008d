"""The file format of encoders, classifiers and search indexes: a JSON header and sections of bytes.

The layout, little-endian:

    8 bytes   magic; its last byte is the version of the layout
    32 bytes  SHA-256 of all that follows
    8 bytes   length of the header
    header    JSON, UTF-8, with the length of each section under `sections`
    sections  one after the other

Reading runs no code: there is no pickle and no archive to unpack. Lengths are checked before use.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from pomona.errors import PomonaError
from pomona.messages import one_line

__all__ = ["Container"]

T = TypeVar("T")
Content = TypeVar("Content", bytes, memoryview)
Writer = Callable[[Callable[[bytes], object]], object]
"""Writes a section piece by piece: it is called with a function that writes bytes."""

_LENGTH = struct.Struct("<Q")
_MAGIC_BYTES = 8
_BODY = _MAGIC_BYTES + 32
_HEADER = _BODY + _LENGTH.size


@dataclass(frozen=True, slots=True)
class Container:
    """One kind of file.

    Attributes:
        magic: 8 bytes; the last one is the version.
        sections: their names, in the order of the file.
        optional: names of the sections after these, which a file may lack.
        error: the exception that `unpack` raises.
        kind: what the file is, with its article, for errors.
        remedy: how to make the file again, for errors.
    """

    magic: bytes
    sections: tuple[str, ...]
    error: type[PomonaError]
    kind: str
    remedy: str
    optional: tuple[str, ...] = ()

    def pack(self, header: Mapping[str, Any], sections: Mapping[str, bytes]) -> bytes:
        """Return the content of a file. The same values give the same bytes."""
        file = io.BytesIO()
        self.write(file, header, sections)
        return file.getvalue()

    def write(
        self, file: BinaryIO, header: Mapping[str, Any], sections: Mapping[str, bytes | Writer]
    ) -> None:
        """Write a file that `pack` would return, without holding it in memory.

        Args:
            file: a new file.
            header: values that JSON has.
            sections: bytes, or functions that write them: called twice, first to learn the length.
        """
        names = [*self.sections, *(name for name in self.optional if name in sections)]
        lengths = {name: _length(sections[name]) for name in names}
        text = json.dumps({**header, "sections": lengths}, sort_keys=True).encode()
        digest = hashlib.sha256()

        def put(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        file.write(self.magic + bytes(digest.digest_size))
        put(_LENGTH.pack(len(text)) + text)
        for name in names:
            _put(sections[name], put)
        file.seek(_MAGIC_BYTES)
        file.write(digest.digest())

    def unpack(
        self,
        blob: Content,
        name: str,
        make: Callable[[dict[str, Any], dict[str, Content]], T],
    ) -> T:
        """Read what `pack` returned or `write` wrote, after checking its digest.

        Args:
            blob: the bytes of the file. Sections of a memoryview are views of the same memory.
            name: the name of the file, for errors.
            make: called with the header and the sections. Its errors about values, such as
                `ValueError`, become errors about the file.

        Raises:
            PomonaError: `error`, if the file is of another kind or version, or is damaged.
        """
        if blob[:7] != self.magic[:7] or len(blob) < _MAGIC_BYTES:
            raise self.error(
                f"{name} is not {self.kind}: its first bytes differ; give another file"
            )
        if blob[:_MAGIC_BYTES] != self.magic:
            raise self.error(
                f"{name} has layout version {blob[7]}, this Pomona reads {self.magic[7]}: "
                f"{self.remedy}"
            )
        if hashlib.sha256(memoryview(blob)[_BODY:]).digest() != blob[_MAGIC_BYTES:_BODY]:
            raise self.error(
                f"{name} is damaged: its content does not match its SHA-256; copy it again, or "
                f"{self.remedy}"
            )
        try:
            return make(*self._parts(blob))
        except (
            *(KeyError, TypeError, ValueError, AttributeError, struct.error),
            *(OverflowError, RecursionError, self.error),
        ) as error:
            reason = one_line(error)
            raise self.error(f"{name} has a header that cannot be read: {reason}") from error

    def _parts(self, blob: Content) -> tuple[dict[str, Any], dict[str, Content]]:
        (length,) = _LENGTH.unpack_from(blob, _BODY)
        end = _HEADER + length
        if end > len(blob):
            raise ValueError(f"it ends at byte {end} of {len(blob)}")
        header = json.loads(bytes(blob[_HEADER:end]), object_pairs_hook=_each_once)
        if not isinstance(header, dict):
            raise TypeError(f"it is a {type(header).__name__}, expected an object")
        lengths: dict[str, Any] = header.pop("sections")
        found: dict[str, Content] = {}
        for name in (*self.sections, *(each for each in self.optional if each in lengths)):
            if type(lengths[name]) is not int or lengths[name] < 0:
                raise ValueError(f"section {name} is {lengths[name]!r} bytes long")
            start, end = end, end + lengths[name]
            found[name] = blob[start:end]
        if end != len(blob):
            raise ValueError(f"sections end at byte {end} of {len(blob)}")
        return header, found


def _length(section: bytes | Writer) -> int:
    length = 0

    def count(piece: bytes) -> None:
        nonlocal length
        length += len(piece)

    _put(section, count)
    return length


def _put(section: bytes | Writer, put: Callable[[bytes], object]) -> None:
    if callable(section):
        section(put)
    else:
        put(section)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys all differ."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"it has a key twice: {', '.join(key for key, _ in pairs)[:100]}")
    return found
