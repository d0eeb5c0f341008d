"""Files at URIs of other file systems, without a JVM: names, and calls that are repeated."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from pomona.io.file_systems import arrow_system
from pomona.io.range_file import RangeFile
from pomona.messages import one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = [
    "Cause",
    "RemotePlace",
    "SteadyFile",
    "StorageError",
    "cause_of",
    "lists_folders",
    "repeated",
    "same_scheme",
]

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

GIVE_UP_S = 60.0  # half of the time that one image may take by default
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 8.0

_SETTINGS = re.compile(r"\?(?=[a-z_]+=)[^*?\[\]{}]*$")  # `?` is also a wildcard
_SAME = {"s3a": "s3", "s3n": "s3", "abfss": "abfs", "gcs": "gs"}


class Cause(Enum):
    """Why a call failed."""

    MISSING = "missing"
    """There is no such file."""
    FORBIDDEN = "forbidden"
    """Access to this file, or with these credentials, is denied."""
    REFUSED = "refused"
    """The storage refuses the request whichever file it is for: its credentials have expired."""
    PASSING = "passing"
    """The storage is busy, or the network failed: it may succeed later."""


_MISSING = re.compile(
    r"NO_SUCH_(KEY|BUCKET|UPLOAD)|RESOURCE_NOT_FOUND|HTTP status 404|\b404 |NotFound\b|"
    r"(Blob|Container|Path)NotFound"
)
_FORBIDDEN = re.compile(
    r"ACCESS_DENIED|INVALID_OBJECT_STATE|HTTP status 403|\b403 |Permission denied|"
    r"PERMISSION_DENIED|Authorization\w*(Mismatch|Failure)",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"HTTP status (301|400|401)|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|ExpiredToken|"
    r"REQUEST_TIME_TOO_SKEWED|INVALID_CLIENT_TOKEN_ID|MISSING_AUTHENTICATION_TOKEN|"
    r"UNAUTHENTICATED|Authentication\w*Exception|InvalidAuthenticationInfo|\b401 |"
    r"Could not create a OAuth2 access token"
)

_REASONS = (
    re.compile(r"Azure Error: (?:\[\] )?(.*?)(?: Request ?ID:|$)", re.IGNORECASE),
    re.compile(r"google::cloud::Status\((.*?)(?: error_info=|$)"),
    re.compile(r"The underlying error message was: (.*)"),
)


class StorageError(OSError):
    """A call that was repeated in vain, or that is not worth repeating."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


@dataclass(frozen=True)
class RemotePlace:
    """A bucket, a container or a host: the top of its URIs.

    It can be pickled, and connects again in each process.

    Attributes:
        top: its URI as in the rows of a table: without credentials, settings and a last slash.
        connection: its URI with them.
    """

    top: str
    connection: str

    @classmethod
    def of(cls, location: str) -> tuple[RemotePlace, str]:
        """Return the place of a URI, and the URI without credentials and settings."""
        scheme, _, rest = location.partition("://")
        found = _SETTINGS.search(rest)
        settings = found[0] if found else ""
        rest = rest.removesuffix(settings)
        authority, slash, path = rest.partition("/")
        top = f"{'gs' if scheme == 'gcs' else scheme}://{_without_credentials(scheme, authority)}"
        return cls(top, f"{scheme}://{authority}/{settings}"), f"{top}{slash}{path}"

    @property
    def lists_folders(self) -> bool:
        """Whether a listing of a folder names the folders in it."""
        return lists_folders(self.top)

    def system(self) -> FileSystem:
        """Return the file system.

        Raises:
            OSError: Arrow cannot reach it.
        """
        return self._connected[0]

    def path(self, uri: str) -> str:
        """Return the path in the file system for a URI below the place."""
        base = self._connected[1]
        return f"{base}{uri[len(self.top) :].rstrip('/')}" or "/"

    def uri(self, path: str) -> str:
        """Return the URI for a path in the file system."""
        return f"{self.top}{path[len(self._connected[1]) :]}"

    @cached_property
    def _connected(self) -> tuple[FileSystem, str]:
        """The file system, and its path for the top."""
        system, path = arrow_system(self.connection)
        return system, path.rstrip("/")

    def __reduce__(self) -> tuple[type[RemotePlace], tuple[str, str]]:
        """Pickle without the connection."""
        return RemotePlace, (self.top, self.connection)


class SteadyFile(RangeFile):
    """A file of an object store. A read that fails is repeated, as `repeated` does."""

    def __init__(self, system: FileSystem, path: str) -> None:
        """Open a file.

        Raises:
            OSError: there is no such file, or it cannot be opened.
        """
        self._path = path
        self._file = repeated(lambda: system.open_input_file(path), f"open {path}")
        super().__init__(self._file.size())

    def read_range(self, start: int, count: int) -> bytes:
        """Return bytes from a position on."""
        content: bytes = repeated(lambda: self._file.read_at(count, start), f"read {self._path}")
        return content

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def lists_folders(uri: str) -> bool:
    """Return whether Arrow's listing of a folder names the folders in it.

    In Google's storage, it names only those that have an object of their own.
    """
    return not same_scheme(uri).startswith("gs:")


def same_scheme(uri: str) -> str:
    """Return a URI with one scheme for all that name the same storage: `s3` for `s3a` and `s3n`."""
    scheme, colon, rest = uri.partition("://")
    return f"{_SAME.get(scheme, scheme)}{colon}{rest}"


def cause_of(error: Exception) -> Cause:
    """Return why a call to a file system failed.

    Arrow reports most failures only as text (`arrow/filesystem/s3_internal.h`). A failure that is
    not known counts as passing.
    """
    if isinstance(error, StorageError):
        return error.cause
    text = str(error)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or _MISSING.search(text):
        return Cause.MISSING
    if isinstance(error, PermissionError) or _FORBIDDEN.search(text):
        return Cause.FORBIDDEN
    return Cause.REFUSED if _REFUSED.search(text) else Cause.PASSING


def repeated(call: Callable[[], Result], what: str, give_up_s: float | None = None) -> Result:
    """Return the result of a call; repeat it with growing waits if the failure may pass.

    Args:
        call: the call.
        what: what it does, for the log: `read s3://bucket/a.jpg`.
        give_up_s: how long to repeat it; by default a minute.

    Raises:
        StorageError: it failed for so long, or repeating it makes no sense.
    """
    give_up_s = GIVE_UP_S if give_up_s is None else give_up_s
    end, wait_s = time.monotonic() + give_up_s, _FIRST_WAIT_S
    while True:
        try:
            return call()
        except pa.ArrowInvalid:  # the name is wrong
            raise
        except (OSError, pa.ArrowException) as error:
            if (cause := cause_of(error)) is not Cause.PASSING:
                raise StorageError(cause, _reason(error)) from error
            pause_s = wait_s * random.uniform(0.5, 1.5)  # noqa: S311 - so that readers spread out
            if time.monotonic() + pause_s > end:
                reason = f"tried for {give_up_s:g} s: {_reason(error)}"
                raise StorageError(cause, reason) from error
            _log.info("cannot %s now, waiting %.1f s: %s", what, pause_s, _reason(error))
            time.sleep(pause_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _reason(error: Exception) -> str:
    """Return the part of an error that says why, in one line."""
    text = one_line(error, 5000)
    for pattern in _REASONS:
        if found := pattern.search(text):
            text = found[1]
    return one_line(text)


def _without_credentials(scheme: str, authority: str) -> str:
    if _SAME.get(scheme, scheme) in {"s3", "gs"}:  # in `gs://anonymous@bucket`, it is a setting
        return authority.rpartition("@")[2]
    return re.sub(r":[^@/]*@", "@", authority).removeprefix("@")
