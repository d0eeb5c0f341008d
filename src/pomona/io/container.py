"""The file format of encoders and classifiers: a JSON header and sections of bytes, in one file.

The layout, little-endian:

    8 bytes   magic; its last byte is the version of the layout
    32 bytes  SHA-256 of all that follows
    8 bytes   length of the header
    header    JSON, UTF-8, with the length of each section under `sections`
    sections  one after the other

Reading runs no code: no pickle, no archive to unpack. Lengths are checked before use.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pomona.errors import PomonaError

__all__ = ["Container"]

T = TypeVar("T")

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
        error: the exception that `unpack` raises.
        kind: what the file is, with its article, for errors.
        verb: how to make the file again, for errors.
    """

    magic: bytes
    sections: tuple[str, ...]
    error: type[PomonaError]
    kind: str
    verb: str

    def pack(self, header: Mapping[str, Any], sections: Mapping[str, bytes]) -> bytes:
        """Return the content of a file. The same values give the same bytes."""
        lengths = {name: len(sections[name]) for name in self.sections}
        text = json.dumps({**header, "sections": lengths}, sort_keys=True).encode()
        body = b"".join((_LENGTH.pack(len(text)), text, *(sections[n] for n in self.sections)))
        return self.magic + hashlib.sha256(body).digest() + body

    def unpack(
        self, blob: bytes, name: str, make: Callable[[dict[str, Any], dict[str, bytes]], T]
    ) -> T:
        """Read what `pack` returned, after checking its digest.

        Args:
            blob: the bytes of the file.
            name: the name of the file, for errors.
            make: called with the header and the sections. Its errors about values, such as
                `ValueError`, become errors about the file.

        Raises:
            PomonaError: `error`, if the file is of another kind or version, or is damaged.
        """
        if blob[:7] != self.magic[:7] or len(blob) < _MAGIC_BYTES:
            raise self.error(f"{name} is not {self.kind}: it does not begin with its mark")
        if blob[:_MAGIC_BYTES] != self.magic:
            raise self.error(
                f"{name} has layout version {blob[7]}, this Pomona reads {self.magic[7]}: "
                f"{self.verb} it again with this version"
            )
        if hashlib.sha256(memoryview(blob)[_BODY:]).digest() != blob[_MAGIC_BYTES:_BODY]:
            raise self.error(
                f"{name} is damaged: its content does not match its SHA-256; "
                f"copy or {self.verb} it again"
            )
        try:
            return make(*self._parts(blob))
        except (
            *(KeyError, TypeError, ValueError, AttributeError, struct.error),
            *(OverflowError, RecursionError, self.error),
        ) as error:
            reason = " ".join(str(error).split())[:200]
            raise self.error(f"{name} has a header that cannot be read: {reason}") from error

    def _parts(self, blob: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
        (length,) = _LENGTH.unpack_from(blob, _BODY)
        end = _HEADER + length
        if end > len(blob):
            raise ValueError(f"it ends at byte {end} of {len(blob)}")
        header = json.loads(blob[_HEADER:end], object_pairs_hook=_each_once)
        if not isinstance(header, dict):
            raise TypeError(f"it is a {type(header).__name__}, expected an object")
        lengths = header.pop("sections")
        found: dict[str, bytes] = {}
        for name in self.sections:
            if type(lengths[name]) is not int or lengths[name] < 0:
                raise ValueError(f"section {name} is {lengths[name]!r} bytes long")
            start, end = end, end + lengths[name]
            found[name] = blob[start:end]
        if end != len(blob):
            raise ValueError(f"sections end at byte {end} of {len(blob)}")
        return header, found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys all differ."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"it has a key twice: {', '.join(key for key, _ in pairs)[:100]}")
    return found
