"""Checks of untrusted files before a library reads them: no references outside, and limited sizes.

HDF5 can refer to other files: by links, by arrays whose bytes are in other files, and by arrays
that combine other files. It can also declare arrays that fit into no memory, in a file of 4 kB. A
ZIP archive can expand to a million times its size. Keras writes none of these.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from pomona.errors import EncoderError

__all__ = ["KERAS_MEMBERS", "check_archive", "check_hdf5", "largest_content"]

KERAS_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
"""Members of a `.keras` archive. `model.weights.npz` is not allowed: old Keras unpickles it."""

_GROWTH = 16  # largest ratio of expanded size to file size: trained weights do not compress
_SMALL = 64 * 2**20  # bytes that any file may expand to: weights that are all zero do compress
_DEEPEST = 64  # nested groups: Keras needs 4 for each nested model


def largest_content(path: Path) -> int:
    """Return the most bytes that a file may expand to."""
    return path.stat().st_size * _GROWTH + _SMALL


def check_hdf5(file: Any, path: Path, most: int) -> None:
    """Refuse an HDF5 file with references to other files, circular links or extreme arrays.

    Args:
        file: the open file; no array is read.
        path: the name of the file, for errors.
        most: largest number of bytes of all arrays together.

    Raises:
        EncoderError: the file is refused; the message has the reason and the place.
    """
    import h5py

    waiting, seen, declared = [(file["/"], 0)], set(), 0
    while waiting:
        group, depth = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or depth > _DEEPEST:
            raise EncoderError(
                f"{path} is circular or nested too deeply at {group.name!r}: refused"
            )
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise EncoderError(
                    f"{path} has a link to another file, {_at(group, name)}: refused"
                )
            part = group[name]
            if isinstance(part, h5py.Group):
                waiting.append((part, depth + 1))
            elif isinstance(part, h5py.Dataset):
                if part.is_virtual or part.external:
                    raise EncoderError(
                        f"{path} reads the array {_at(group, name)} from another file: refused"
                    )
                declared += int(part.size or 0) * part.dtype.itemsize
        if declared > most:
            raise EncoderError(
                f"{path} declares {declared} bytes of arrays or more, expected no more than "
                f"{most} from a file of its size: refused"
            )


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a `.keras` archive with other members than a model's, or with an extreme size.

    Raises:
        EncoderError: the archive is refused; the message has the name of the member.
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
            f"{path} expands to {declared} bytes, expected no more than {most} from a file of its "
            "size: refused"
        )


def _is_empty_folder(member: zipfile.ZipInfo) -> bool:
    inside = ".." not in PurePosixPath(member.filename).parts and member.filename[:1] != "/"
    return member.is_dir() and member.file_size == 0 and inside


def _at(group: Any, name: str) -> str:
    return repr(f"{group.name.rstrip('/')}/{name}"[:120])
