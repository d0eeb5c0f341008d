"""What a file from elsewhere may hold before a library reads it: itself, and in bounds.

HDF5 can point out of its file: links to other files, arrays whose bytes lie in other files, arrays
put together from other files. It can also declare arrays that no memory holds, in a file of 4 kB.
A ZIP archive can unpack to a million times its size. Keras writes none of these.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from pomona.errors import EncoderError

__all__ = ["KERAS_MEMBERS", "check_archive", "check_hdf5", "largest_content"]

KERAS_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
"""What a `.keras` archive holds. Not `model.weights.npz`: older versions of Keras unpickle it."""

_GROWTH = 16  # times its size that a file may unpack to: trained weights do not compress
_SMALL = 64 * 2**20  # bytes, that any file may unpack to: weights that are all zero do compress
_DEEPEST = 64  # groups within groups: Keras needs 4 for each model within a model


def largest_content(path: Path) -> int:
    """The most bytes that a file may unpack to."""
    return path.stat().st_size * _GROWTH + _SMALL


def check_hdf5(file: Any, path: Path, most: int) -> None:
    """Refuse an HDF5 file that reaches out of itself, goes in circles or declares absurd arrays.

    Args:
        file: the open file; no array is read.
        path: what to call it in an error.
        most: bytes that all arrays together may have.

    Raises:
        EncoderError: with what was found, and where.
    """
    import h5py

    waiting, seen, declared = [(file["/"], 0)], set(), 0
    while waiting:
        group, depth = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or depth > _DEEPEST:
            raise EncoderError(f"{path} leads in circles, or too deep, at {group.name!r}: refused")
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise EncoderError(f"{path} has a link to elsewhere, {_at(group, name)}: refused")
            part = group[name]
            if isinstance(part, h5py.Group):
                waiting.append((part, depth + 1))
            elif isinstance(part, h5py.Dataset):
                if part.is_virtual or part.external:
                    raise EncoderError(
                        f"{path} takes the array {_at(group, name)} from another file: refused"
                    )
                declared += int(part.size or 0) * part.dtype.itemsize
        if declared > most:
            raise EncoderError(
                f"{path} declares {declared} bytes of arrays or more, expected no more than "
                f"{most} from a file of its size: refused"
            )


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a `.keras` archive that holds more than a model, or unpacks to an absurd size.

    Raises:
        EncoderError: with the member's name.
    """
    names = set()
    for member in archive.infolist():
        name = member.filename
        odd = name not in KERAS_MEMBERS or stat.S_ISLNK(member.external_attr >> 16)
        if odd and not _is_empty_folder(member):
            raise EncoderError(
                f"{path} holds {name[:80]!r}, expected {', '.join(KERAS_MEMBERS)} and nothing "
                "else: refused"
            )
        if name in names:
            raise EncoderError(f"{path} holds {name!r} twice: refused")
        names.add(name)
    # zipfile itself never unpacks more of a member than is declared here.
    declared, most = sum(m.file_size for m in archive.infolist()), largest_content(path)
    if declared > most:
        raise EncoderError(
            f"{path} unpacks to {declared} bytes, expected no more than {most} from a file of its "
            "size: refused"
        )


def _is_empty_folder(member: zipfile.ZipInfo) -> bool:
    inside = ".." not in PurePosixPath(member.filename).parts and member.filename[:1] != "/"
    return member.is_dir() and member.file_size == 0 and inside


def _at(group: Any, name: str) -> str:
    return repr(f"{group.name.rstrip('/')}/{name}"[:120])
