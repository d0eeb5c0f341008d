"""Where a file lies: on this machine, or behind a URI of another file system."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes

from pomona.errors import PomonaError
from pomona.file_systems import arrow_system, open_system

__all__ = [
    "cache_folder",
    "is_remote",
    "literal_glob",
    "local_path",
    "other_kind",
    "path_of_row",
    "read_file",
    "spark_path",
    "without_password",
    "written_whole",
]


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept that can be made again; it need not exist.

    In `$POMONA_CACHE`, else in `pomona` in the user's cache folder.

    Raises:
        OSError: the user has no home folder.
    """
    if given := os.environ.get("POMONA_CACHE"):
        return Path(given, kind)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "pomona", kind)
    try:
        return Path.home() / ".cache" / "pomona" / kind
    except RuntimeError as error:
        raise OSError("this user has no home folder: set POMONA_CACHE") from error


def is_remote(uri: str) -> bool:
    """Whether a path names another file system than this machine's: `s3a://…`, `hdfs://…`."""
    scheme, colon, _ = uri.partition("://")
    return bool(colon) and scheme != "file" and not Path(uri).exists()


def local_path(uri: str) -> str:
    """The file system's path of a `file:` URI, or of a plain path.

    Several slashes in front are one: `//photos` is `/photos`, and their rows must be the same.
    """
    rest = uri.removeprefix("file:")
    return "/" + rest.lstrip("/") if rest.startswith("/") else rest


def path_of_row(uri: str) -> str:
    """The path of this machine that a row's `path` stands for; of another system, the URI itself.

    See `pomona.image_file.ImageFile.uri`: behind `file://` stand bytes of a name that is no text.
    """
    if uri.startswith("file:///"):
        return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return uri.removeprefix("file:")


def literal_glob(path: str) -> str:
    """A glob of Hadoop's that means this path and no other: Spark takes every path for a glob."""
    return re.sub(r"[\\{}\[\]*?]", r"\\\g<0>", path)


def spark_path(path: str) -> str:
    """Where Spark is to read: a path of this machine stays one, whatever Spark's default is."""
    if is_remote(path):
        return path
    return literal_glob(f"file:{Path(local_path(path)).absolute()}")


def read_file(location: str, mark: bytes = b"", *, by_jvm: bool = True) -> bytes:
    """Read a whole file from a path, or from a URI: see `pomona.file_systems.open_system`.

    Args:
        location: where it is.
        mark: what it should begin with; of a file that does not, only so many bytes are read.
        by_jvm: whether a JVM may be started for a file system that Arrow cannot reach.

    Raises:
        OSError: it cannot be read.
    """
    if not is_remote(location):
        with Path(local_path(location)).open("rb") as file:
            return _read(file, mark)
    import pyarrow as pa

    system, path = open_system(location) if by_jvm else arrow_system(location)
    try:
        with system.open_input_file(path) as file:
            return _read(file, mark)
    except (OSError, pa.ArrowException) as error:
        raise OSError(" ".join(str(error).split())[:200]) from error


def _read(file: IO[bytes], mark: bytes) -> bytes:
    start = file.read(len(mark)) if mark else b""
    return start + file.read() if start == mark else start


def other_kind(place: Path) -> str | None:
    """What is there in place of a file; None where there is one, or nothing."""
    if not place.exists() or place.is_file():
        return None
    return "a folder" if place.is_dir() else "no file but a device or a pipe"


@contextmanager
def written_whole(file: Path, failure: type[PomonaError]) -> Iterator[Path]:
    """Give the name of a draft to write; it takes the file's place if all went well.

    The draft lies beside the file, hidden, and ends as the file does, since libraries go by that.
    Where the name is a link, what it leads to is written.

    Raises:
        failure: it is a folder or a device; or an `OSError`, here or on the way, in one line.
    """
    place = Path(os.path.realpath(file))
    if kind := other_kind(place):
        raise failure(f"cannot write {file}: it is {kind}; give the name of a file")
    draft = place.with_name(f".{uuid.uuid4().hex}{file.suffix}")
    try:
        yield draft
        draft.replace(place)
    except OSError as error:
        raise failure(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # which would hide what went wrong
            draft.unlink(missing_ok=True)


def without_password(location: str) -> str:
    """The location as it may be shown: `s3://key:secret@bucket` holds a secret."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", location)
