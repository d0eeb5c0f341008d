"""Arrow file systems for URIs: those that Arrow has itself, and Hadoop's through a JVM."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from pomona.extras import install_command, is_installed
from pomona.messages import one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem, FileSystemHandler

__all__ = ["arrow_system", "needs_jvm", "open_system", "reach_hadoop_by"]

_ARROW_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}  # other names of a scheme -> Arrow's
_WEBHDFS = {"webhdfs", "swebhdfs"}
_SETTINGS: dict[str, dict[str, object]] = {
    "s3": {"allow_delayed_open": "true"},  # one request for a small file, not three
    # Arrow's default is 15 minutes, and it ignores Ctrl-C and SIGTERM meanwhile.
    "gs": {"retry_limit_seconds": 30},
}


def _no_hadoop() -> FileSystemHandler:
    raise OSError("no JVM is set up")


_hadoop: Callable[[], FileSystemHandler] = _no_hadoop


def reach_hadoop_by(connect: Callable[[], FileSystemHandler]) -> None:
    """Set the access to Hadoop's file systems, so that this module does not depend on Spark.

    Args:
        connect: returns a handler that reads files by their URIs; raises `OSError` if it cannot.
    """
    global _hadoop  # noqa: PLW0603 - set once, when `pomona` is imported
    _hadoop = connect


def arrow_system(uri: str) -> tuple[FileSystem, str]:
    """Return Arrow's own file system for a URI, and the path in it; it needs no JVM.

    The libraries of each file system find credentials in the environment, in their own files, or in
    the machine's role.

    Raises:
        OSError: Arrow does not know the scheme, or cannot load its libraries.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    scheme, _, rest = uri.partition("://")
    if scheme in _WEBHDFS:
        if not (is_installed("fsspec") and is_installed("requests")):
            raise OSError(f"{scheme}:// needs fsspec and requests: {install_command('hdfs')}")
        from pomona.io.webhdfs import webhdfs

        return webhdfs(uri)
    authority, slash, path = rest.partition("/")
    path, question, query = path.partition("?")
    for name, value in _SETTINGS.get(_ARROW_SCHEMES.get(scheme, scheme), {}).items():
        if f"{name}=" not in query:
            question, query = "?", f"{query}{'&' if query else ''}{name}={value}"
    escaped = quote(path, safe="/%+=,@:~")  # names as in Hadoop, for example with spaces
    arrow = f"{_ARROW_SCHEMES.get(scheme, scheme)}://{authority}{slash}{escaped}{question}{query}"
    try:
        found: tuple[FileSystem, str] = FileSystem.from_uri(arrow)
    except pa.ArrowInvalid as error:
        raise OSError(f"{error}; Arrow reads s3, s3a, gs, abfss and hdfs") from error
    except (OSError, pa.ArrowException) as error:
        raise OSError(one_line(error)) from error
    if scheme in {"abfs", "abfss"}:
        return _with_azure_key(found[0], authority), found[1]
    return found


def _with_azure_key(system: FileSystem, authority: str) -> FileSystem:
    """Return a file system of Azure with the key or token of its account, if there is one.

    Arrow ignores the key in a URI, and the environment variables that Azure's own tools read.
    """
    from pyarrow.fs import AzureFileSystem

    in_uri = re.search(r":([^@:]+)@", authority)
    key = unquote(in_uri[1]) if in_uri else os.environ.get("AZURE_STORAGE_KEY")
    token = os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    _, (options, *_) = system.__reduce__()
    if any(options.get(name) for name in ("sas_token", "client_id")) or not (key or token):
        return system
    given = {"account_key": key} if key else {"sas_token": f"?{(token or '').lstrip('?')}"}
    return AzureFileSystem(**(options | given))


def needs_jvm(uri: str) -> bool:
    """Return whether Arrow itself cannot reach a URI's file system on this machine."""
    if uri.partition(":")[0] in {"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss"}:
        return False
    try:
        arrow_system(uri)
    except OSError:
        return True
    return False


def open_system(uri: str) -> tuple[FileSystem, str]:
    """Return the file system for a URI, and the path in it.

    Arrow's own comes first. Others are Hadoop's: HDFS without its native library, and all schemes
    in the Hadoop settings of this machine.

    Raises:
        OSError: neither can reach it; the message has both reasons.
    """
    if not needs_jvm(uri):
        return arrow_system(uri)
    from pyarrow.fs import PyFileSystem

    path = uri.rstrip("/")
    try:
        handler = _hadoop()
        handler.get_file_info([path])
    except OSError as jvm_error:
        try:
            return arrow_system(uri)
        except OSError as arrow_error:
            mount = uri.removeprefix("dbfs:").lstrip("/")
            advice = f"; on Databricks, give /dbfs/{mount}" if uri.startswith("dbfs:") else ""
            # A missing libhdfs is not the reason: a JVM does not need it.
            by_arrow = "" if "libhdfs" in str(arrow_error) else f"{arrow_error}; through Hadoop: "
            raise OSError(f"{by_arrow}{jvm_error}{advice}") from jvm_error
    return PyFileSystem(handler), path
