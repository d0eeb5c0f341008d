"""Locations of files: paths on this machine, and URIs of other file systems."""

from __future__ import annotations

import glob
import os
import re
import shlex
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes

from pomona.errors import PomonaError
from pomona.io.file_systems import arrow_system, open_system
from pomona.messages import one_line

__all__ = [
    "cache_folder",
    "canonical",
    "check_here",
    "check_output_here",
    "check_spelling",
    "check_unambiguous",
    "elsewhere",
    "is_remote",
    "literal_glob",
    "local_path",
    "other_kind",
    "path_of_row",
    "read_file",
    "scheme_of",
    "shell_word",
    "spark_path",
    "without_password",
    "written_whole",
]


_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/")
_WINDOWS = re.compile(r"(?P<drive>[A-Za-z]:)(?:[\\/]|$)|\\\\[^\\/]")
_WEB = {"http", "https", "ftp", "ftps"}
_STORES = {"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "wasb", "wasbs", "oss", "cosn", "obs"}
_HADOOP = _STORES | {"hdfs", "webhdfs", "swebhdfs", "viewfs", "dbfs", "maprfs", "adl", "har", "ofs"}


def cache_folder(kind: str) -> Path:
    """Return the cache folder for a kind of file; it need not exist.

    It is in `$POMONA_CACHE`, or else in `pomona` in the user's cache folder.

    Raises:
        OSError: the user has no home folder.
    """
    if folder := os.environ.get("POMONA_CACHE"):
        return Path(folder, kind)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "pomona", kind)
    try:
        return Path.home() / ".cache" / "pomona" / kind
    except RuntimeError as error:
        raise OSError("this user has no home folder: set POMONA_CACHE") from error


def is_remote(uri: str) -> bool:
    """Return whether a path is a URI of another file system: `s3a://…`, `dbfs:/…`.

    If a file named exactly `scheme:/…` exists here, it is on this machine; `scheme://…` never is.
    """
    return scheme_of(uri) not in {None, "file"} and not _is_here(uri)


def scheme_of(uri: str) -> str | None:
    """Return the scheme of a URI, in lower case; None for a path.

    A single letter is a drive of Windows, and a name such as `a:b` has no slash after the colon.
    """
    match = _URI.match(uri)
    return match["scheme"].lower() if match else None


def canonical(location: str) -> str:
    """Return a URI in the spelling that all libraries read; a path of this machine unchanged.

    Schemes become lower case. `hdfs:/x` becomes `hdfs:///x`. Object stores have no path without a
    bucket, so `s3a:/bucket/x`, as `pathlib` writes it, becomes `s3a://bucket/x`.
    """
    if not is_remote(location):
        return location
    scheme, _, rest = location.partition(":")
    scheme = scheme.lower()
    if not rest.startswith("//"):
        rest = ("/" if scheme in _STORES else "//") + rest
    return f"{scheme}:{rest}"


def check_spelling(location: str, what: str, failure: type[PomonaError]) -> None:
    """Refuse a location that no engine can read or write.

    Args:
        location: the path or URI.
        what: its name in the message, such as "`source`".
        failure: class of the exception.

    Raises:
        failure: it is a path of Windows, a `file:` URI with a host, or a web address.
    """
    if reason := _misspelled(location):
        raise failure(f"{what} {without_password(location)} {reason}")


def check_here(
    location: str,
    what: str,
    failure: type[PomonaError],
    advice: str = "copy it here, and give the copy",
) -> None:
    """Check that a location is on this machine.

    Args:
        location: the path or URI.
        what: its name in the message, such as "`weights`".
        failure: class of the exception.
        advice: what to do if it is on another file system.

    Raises:
        failure: it is on another file system, or `check_spelling` refuses it.
    """
    check_spelling(location, what, failure)
    if is_remote(location):
        reason = elsewhere(location, advice)
        raise failure(f"{what} {without_password(canonical(location))} {reason}")


def check_output_here(file: Path, failure: type[PomonaError]) -> Path:
    """Check that a file to write is on this machine, and return its path.

    Raises:
        failure: it is on another file system.
    """
    check_here(str(file), "the file", failure, "write it here, and copy it there")
    return Path(local_path(str(file)))


def check_unambiguous(location: str, what: str, failure: type[PomonaError]) -> None:
    """Check that a URI with one of Hadoop's known schemes is not also a path of this machine.

    Raises:
        failure: it is both.
    """
    if scheme_of(location) in _HADOOP and not is_remote(location):
        raise failure(
            f"{what} {location} is a path of this machine as well as a URI: write ./{location} for "
            f"the path, or {location.replace(':/', ':///', 1)} for the URI"
        )


def elsewhere(location: str, advice: str) -> str:
    """Return the end of a message: where a remote location is, and what to do."""
    scheme = scheme_of(location)
    if scheme == "dbfs":
        advice += f"; on Databricks, give /dbfs/{location.partition(':')[2].lstrip('/')}"
    elif scheme not in _HADOOP:
        advice += f"; for a path of that name on this machine, give ./{location}"
    return f"is on the file system {scheme!r}, not on this machine: {advice}"


def local_path(uri: str) -> str:
    """Return the path of a `file:` URI or of a plain path.

    Several leading slashes become one: `//photos` is `/photos`, and their rows must be the same.
    """
    rest = uri[5:] if uri[:5].lower() == "file:" else uri
    if rest is not uri and re.match("//localhost(/|$)", rest, re.IGNORECASE):
        rest = rest[len("//localhost") :] or "/"
    return "/" + rest.lstrip("/") if rest.startswith("/") else rest


def _is_here(location: str) -> bool:
    """Return whether a path like `x:/y`, or the base folder of such a glob, exists on this machine.

    A path with two slashes, such as `dbfs://`, is not looked up.
    """
    if "://" in location:
        return False
    if os.path.lexists(location):
        return True
    folder = re.split(r"[*?\[]", location, maxsplit=1)[0].rpartition("/")[0]
    return folder != "" and glob.has_magic(location) and os.path.isdir(folder)  # noqa: PTH112


def _misspelled(location: str) -> str | None:
    """Return the fault in the spelling of a location, and what to write; None if it is correct."""
    drive = _WINDOWS.match(location)
    if drive and os.name != "nt":
        first = location[:2] if drive["drive"] else location
        if os.path.lexists(location) or (drive["drive"] and os.path.isdir(first)):  # noqa: PTH112
            return None
        rest = location[2:].replace("\\", "/").lstrip("/")
        example = f"/mnt/{location[0].lower()}/{rest}" if drive["drive"] else "/mnt/share/photos"
        return (
            f"is a Windows path, which does not exist on this machine: give a path such as "
            f"{example}, or ./{location} for a file of exactly that name"
        )
    scheme = scheme_of(location)
    if scheme in _WEB and is_remote(location):
        return (
            "is a web address, where files can be neither listed nor written: give a path of this "
            "machine, or a URI such as s3a://bucket/x"
        )
    if scheme == "file":
        path = local_path(location)
        if re.match("/[A-Za-z]:[/\\\\]", path) and os.name != "nt" and not os.path.lexists(path):
            return "is a Windows path, which does not exist here: give a path of this machine"
        host = re.match("file://([^/]+)", location, re.IGNORECASE)
        known = host is None or host[1].lower() == "localhost"
        if host and not (known or os.path.isdir(f"/{host[1]}")):  # noqa: PTH112
            return f"names the host {host[1]}: write file:///… for a file of this machine"
    return None


def path_of_row(uri: str) -> str:
    """Return the path on this machine for a row's `path`; on another file system, the URI itself.

    See `pomona.source.image_file.ImageFile.uri`: `file://` is followed by the bytes of a name that
    is not valid text.
    """
    if uri.startswith("file:///"):
        return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return uri.removeprefix("file:")


def literal_glob(path: str) -> str:
    """Return a Hadoop glob that matches only this path: Spark reads all paths as globs."""
    return re.sub(r"[\\{}\[\]*?]", r"\\\g<0>", path)


def spark_path(path: str) -> str:
    """Return a path for Spark: a path of this machine stays one, whatever Spark's default is."""
    if is_remote(path):
        return canonical(path)
    return literal_glob(f"file:{Path(local_path(path)).absolute()}")


def read_file(location: str, mark: bytes = b"", *, by_jvm: bool = True) -> bytes:
    """Read a whole file from a path, or from a URI: see `pomona.io.file_systems.open_system`.

    Args:
        location: the path or URI.
        mark: the expected first bytes; if they differ, the rest of the file is not read.
        by_jvm: whether a JVM may be started for a file system that Arrow cannot reach.

    Raises:
        OSError: it cannot be read.
    """
    if reason := _misspelled(location):
        raise OSError(f"it {reason}")
    if not is_remote(location):
        with Path(local_path(location)).open("rb") as file:
            return _read(file, mark)
    location = canonical(location)
    import pyarrow as pa

    system, path = open_system(location) if by_jvm else arrow_system(location)
    try:
        with system.open_input_file(path) as file:
            return _read(file, mark)
    except (OSError, pa.ArrowException) as error:
        raise OSError(one_line(error)) from error


def _read(file: IO[bytes], mark: bytes) -> bytes:
    start = file.read(len(mark)) if mark else b""
    return start + file.read() if start == mark else start


def other_kind(place: Path) -> str | None:
    """Return what exists in place of a file; None if it is a file, or nothing exists."""
    if not place.exists() or place.is_file():
        return None
    return "a folder" if place.is_dir() else "a device or a pipe"


@contextmanager
def written_whole(file: Path, failure: type[PomonaError]) -> Iterator[Path]:
    """Yield the name of a temporary file to write; it replaces the file if no error occurs.

    The temporary file is hidden, in the same folder, with the extension of the file, because
    libraries decide by it. If the name is a link, its target is written.

    Raises:
        failure: it is a folder or a device, or there was an `OSError`.
    """
    file = check_output_here(file, failure)
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
        with suppress(OSError):  # it would hide the first error
            draft.unlink(missing_ok=True)


def without_password(location: str) -> str:
    """Return the location without a password: `s3://key:secret@bucket` has one."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", location)


def shell_word(path: str) -> str:
    """Return a path as one word of a shell command that is not read as an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
