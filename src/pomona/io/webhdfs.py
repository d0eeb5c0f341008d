"""HDFS over WebHDFS, its REST API, which needs no JVM and no library of Hadoop."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec.implementations.webhdfs import WebHDFS
from pyarrow.fs import FSSpecHandler, PyFileSystem

__all__ = ["webhdfs"]

_PORT = 9870  # of a NameNode's web server


class _WebHdfs(WebHDFS):  # type: ignore[misc]  # fsspec has no types
    """fsspec's client, with times of files, names as they are, and errors of one kind."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path  # a name may contain # and ?

    @staticmethod
    def _process_info(info: dict[str, Any]) -> dict[str, Any]:
        info["mtime"] = info["modificationTime"] / 1000  # in place: listings use it so
        found: dict[str, Any] = WebHDFS._process_info(info)
        return found

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Rename a file, in place of one that exists: fsspec's would silently do nothing."""
        self._call("RENAME", method="put", path=path1, destination=path2, renameoptions="OVERWRITE")

    def _call(self, *arguments: Any, **more: Any) -> Any:
        try:
            return super()._call(*arguments, **more)
        except (RuntimeError, ValueError) as error:  # what the NameNode says
            raise OSError(str(error)) from error


def webhdfs(uri: str) -> tuple[PyFileSystem, str]:
    """Return the file system of `webhdfs://host:9870/path` or `swebhdfs://...`, and the path.

    The user is that of the URI, or of the environment variable `HADOOP_USER_NAME`.
    """
    place = urlsplit(uri.partition("?")[0].replace("#", "%23"))
    system = _WebHdfs(
        place.hostname,
        place.port or _PORT,
        user=place.username or os.environ.get("HADOOP_USER_NAME"),
        use_https=place.scheme == "swebhdfs",
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return PyFileSystem(FSSpecHandler(system)), unquote(place.path).rstrip("/")
