"""HTTP connections to a model server, kept open from request to request."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from pomona._version import __version__
from pomona.io.web_connection import certificates, phrase_of, retry_after_s
from pomona.messages import one_line
from pomona.runtime.endpoint.dialect import Busy, Refused

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

__all__ = ["TOKEN", "HttpConnection", "NotFound", "token"]

TOKEN = "POMONA_ENDPOINT_TOKEN"  # noqa: S105 - the name of the variable
_PASSING = {408, 425, 429, 502, 503, 504}
_ABSENT = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
_CONNECT_S = 10.0
_REASON = 200  # characters of a server's message


class NotFound(Refused):
    """The server has nothing at this address."""


class HttpConnection:
    """One connection to a server, for one thread.

    Attributes:
        connections: how often it has connected.
    """

    def __init__(self, base: str, timeout_s: float) -> None:
        """Prepare it; the first request connects.

        Args:
            base: the address before the protocol's paths, such as `http://host:8000`.
            timeout_s: seconds to wait for an answer.
        """
        parts = urlsplit(base)
        self.connections = 0
        self._prefix = parts.path.rstrip("/")
        wait = urllib3.Timeout(connect=min(_CONNECT_S, timeout_s), read=timeout_s)
        host, port = str(parts.hostname), parts.port
        self._pool: urllib3.HTTPConnectionPool
        if parts.scheme == "https":
            self._pool = urllib3.HTTPSConnectionPool(
                host, port, timeout=wait, ssl_context=certificates()
            )
        else:
            self._pool = urllib3.HTTPConnectionPool(host, port, timeout=wait)
        self._count_connections()
        self._headers = {"User-Agent": f"Pomona/{__version__}", "Accept-Encoding": "identity"}
        if secret := token():
            self._headers["Authorization"] = f"Bearer {secret}"

    def _count_connections(self) -> None:
        counter, kind = self, self._pool.ConnectionCls

        class Counted(kind):  # type: ignore[misc, valid-type]  # of one pool, with or without TLS
            def connect(self) -> None:
                counter.connections += 1
                super().connect()

        self._pool.ConnectionCls = Counted

    def get(self, path: str) -> Any:
        """Return the JSON value at a path.

        Raises:
            NotFound: there is nothing.
            Busy, Refused: there is no answer, or it is not JSON.
        """
        return as_json(self._answer("GET", path, (), {}).data)

    def post(
        self, path: str, body: Sequence[bytes | memoryview], headers: dict[str, str]
    ) -> BaseHTTPResponse:
        """Send a request, and return its answer.

        Args:
            path: the path below the address of the server.
            body: the parts of the body, which are sent without a copy.
            headers: headers about the body.

        Raises:
            NotFound: there is nothing at that path.
            Busy, Refused: there is no answer.
        """
        return self._answer("POST", path, body, headers)

    def _answer(
        self, method: str, path: str, body: Sequence[bytes | memoryview], headers: dict[str, str]
    ) -> BaseHTTPResponse:
        parts: Any = iter(body) if body else None  # a connection sends any buffers
        length = {"Content-Length": str(sum(map(len, body)))} if body else {}
        try:
            response = self._pool.urlopen(
                method,
                self._prefix + path,
                body=parts,
                headers={**self._headers, **headers, **length},
                retries=False,
                redirect=False,
                assert_same_host=False,
            )
        except SSLError as error:
            raise Refused(f"its secure connection fails: {one_line(error)}") from error
        except (HTTPError, OSError) as error:
            raise Busy(_what_broke(error)) from error
        status = response.status
        if status == HTTPStatus.OK:
            return response
        reason = f"{method} {path} answers {status} {phrase_of(status)}".rstrip() + _message(
            response.data
        )
        if status in _PASSING:
            raise Busy(reason, retry_after_s(response.headers.get("Retry-After")))
        raise (NotFound if status in _ABSENT else Refused)(reason)


def token() -> str:
    """Return the bearer token of this process, or an empty string.

    Raises:
        Refused: it cannot be in a header. The libraries' messages would show it.
    """
    found = os.environ.get(TOKEN, "").strip()
    if not (found.isascii() and (found.isprintable() or not found)):
        raise Refused(f"{TOKEN} contains characters that a token cannot have")
    return found


def as_json(content: bytes | memoryview) -> Any:
    """Return a JSON value.

    Raises:
        Refused: it is not JSON.
    """
    try:
        return json.loads(bytes(content))
    except ValueError as error:
        shown = bytes(content[:60])
        raise Refused(f"it answers {shown!r}, which is not JSON: is it a model server?") from error


def _what_broke(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "it does not accept connections"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it does not answer in time"
    return "it breaks the connection off"


def _message(content: bytes) -> str:
    """Return what a server said in the body of an error, in a few words."""
    text = content[: 4 * _REASON].decode(errors="replace")
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if isinstance(found, dict):
        text = str(next((found[name] for name in ("error", "detail") if name in found), text))
    text = " ".join(text.split())[:_REASON]
    return f" ({text})" if text and not text.startswith("<") else ""
