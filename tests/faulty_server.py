"""A storage server on the loopback interface with faults in front of it."""

from __future__ import annotations

import http.client
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from server_threads import running

Fault = Callable[["Request"], None]
"""Raises `Answer`, or lets the request pass."""

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

Server = TypeVar("Server", bound="FaultyServer")


class Request:
    """A request: its method, its path, the query, and the first and last byte that it asks for."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"].encode("latin-1").decode()
        self.query: str = environ.get("QUERY_STRING", "")
        self.range: str = environ.get("HTTP_RANGE", "").removeprefix("bytes=")
        self._socket: socket.socket = environ["werkzeug.socket"]

    @property
    def reads_object(self) -> bool:
        """Whether it reads an object or its size; in S3's API, the path is `/bucket/key`."""
        return self.method in {"GET", "HEAD"} and self.path.count("/") > 1

    def reset(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        raise ConnectionResetError


class Answer(Exception):  # noqa: N818 - it is not an error of the test
    """An answer instead of the server's."""

    def __init__(self, status: str, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


SLOW_DOWN = Answer("503 Slow Down", "SlowDown")
INTERNAL_ERROR = Answer("500 Internal Server Error", "InternalError")


class FaultyServer:
    """The server.

    Attributes:
        endpoint: its address.
        requests: the requests so far, each as its method, path and query.
        fault: what happens to a request before the server sees it.
        delay_s: how long each answer takes.
    """

    def __init__(self, app: App) -> None:
        self.endpoint = ""
        self.requests: list[tuple[str, str, str]] = []
        self.fault: Fault = lambda _: None
        self.delay_s = 0.0
        self._app = app

    @property
    def address(self) -> str:
        """Its host and port."""
        return self.endpoint.partition("://")[2]

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        self.requests.append((request.method, request.path, request.query))
        time.sleep(self.delay_s)
        try:
            self.fault(request)
        except Answer as answer:
            start(answer.status, [("Content-Length", str(len(answer.body)))])
            return [answer.body if request.method != "HEAD" else b""]
        return self._app(environ, start)


@contextmanager
def serving(store: Server) -> Iterator[Server]:
    """Serve requests; skip the test if that is not possible."""
    serving = pytest.importorskip("werkzeug.serving", reason="moto[server] is missing")

    class Handler(serving.WSGIRequestHandler):  # type: ignore[name-defined,misc] # of a module
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

        def make_environ(self) -> dict[str, Any]:
            environ: dict[str, Any] = super().make_environ()
            return {**environ, "headers": list(self.headers.items())}  # WSGI changes their names

        def handle_expect_100(self) -> bool:
            return True  # werkzeug answers it too

        def connection_dropped(self, *_: object) -> None:
            self.close_connection = True  # `reset` only takes effect then

    try:
        server = serving.make_server("127.0.0.1", 0, store, threaded=True, request_handler=Handler)
    except OSError as error:
        pytest.skip(f"a storage server cannot start: {error}")
    server.daemon_threads = True
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    with running(server):
        yield store


def three_of_four_reads_fail(seen: list[str]) -> Fault:
    """Return a fault of each kind in turn, before each fourth read of an object.

    Args:
        seen: gets the paths of the reads.
    """

    def fault(request: Request) -> None:
        if request.reads_object:
            seen.append(request.path)
            if len(seen) % 4 == 1:
                raise SLOW_DOWN
            if len(seen) % 4 == 2:
                raise INTERNAL_ERROR
            if len(seen) % 4 == 3:
                request.reset()

    return fault


def forwarding_to(address: str) -> App:
    """Return an application that sends requests to another server, and returns its answers."""

    def forward(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        connection = http.client.HTTPConnection(address, timeout=60)
        left_out = {"connection", "expect"}
        headers = {name: v for name, v in environ["headers"] if name.lower() not in left_out}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        connection.request(environ["REQUEST_METHOD"], environ["REQUEST_URI"], body, headers)
        answer = connection.getresponse()
        content = answer.read()
        left_out = {"connection", "transfer-encoding", "content-length", "keep-alive"}
        kept = [pair for pair in answer.getheaders() if pair[0].lower() not in left_out]
        length = answer.getheader("Content-Length") or str(len(content))
        connection.close()
        start(f"{answer.status} {answer.reason}", [*kept, ("Content-Length", length)])
        return [content]

    return forward
