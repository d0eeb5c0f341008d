"""A real S3 service on the loopback interface, `moto`, with faults in front of it."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import object_store

Fault = Callable[["Request"], None]
"""Raises `Answer`, or lets the request pass."""


class Request:
    """A request: its method, the path `/bucket/key`, and the query."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"].encode("latin-1").decode()
        self.query: str = environ.get("QUERY_STRING", "")
        self._socket: socket.socket = environ["werkzeug.socket"]

    @property
    def reads_object(self) -> bool:
        """Whether it reads an object or its size."""
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
EXPIRED_TOKEN = Answer("400 Bad Request", "ExpiredToken")
ACCESS_DENIED = Answer("403 Forbidden", "AccessDenied")


class S3:
    """The service.

    Attributes:
        endpoint: its address, for `AWS_ENDPOINT_URL`.
        requests: the requests so far, each as its method, path and query.
        fault: what happens to a request before the server sees it.
        delay_s: how long each answer takes.
    """

    def __init__(self, app: Any) -> None:
        self.endpoint = ""
        self.requests: list[tuple[str, str, str]] = []
        self.fault: Fault = lambda _: None
        self.delay_s = 0.0
        self._app = app

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
        answered: Iterable[bytes] = self._app(environ, start)
        return answered

    def put(self, path: str, content: bytes) -> None:
        """Store an object at `bucket/key`."""
        self._send("PUT", path, content)

    def delete(self, path: str) -> None:
        """Delete an object."""
        self._send("DELETE", path)

    def put_folder(self, folder: Path, path: str) -> None:
        """Store all files of a folder as objects below a path."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def _send(self, method: str, path: str, content: bytes = b"") -> None:
        connection = http.client.HTTPConnection(self.endpoint.partition("://")[2], timeout=30)
        headers = {
            "Content-Type": "image/x",
            "Content-Length": str(len(content)),
            "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
        }
        connection.request(method, f"/{quote(path)}", content, headers)
        status = connection.getresponse().status
        connection.close()
        assert status < 300, (method, path, status)


@contextmanager
def serving() -> Iterator[S3]:
    """Start the service with a bucket named `bucket`; skip the test if it cannot be had."""
    moto = pytest.importorskip("moto.server", reason="moto[server], an S3 server, is missing")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

    store = S3(moto.DomainDispatcherApplication(moto.create_backend_app))
    try:
        server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Handler)
    except OSError as error:
        pytest.skip(f"moto, an S3 server, cannot start: {error}")
    server.daemon_threads = True
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        store._send("POST", "moto-api/reset")
        store._send("PUT", "bucket")
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The service, configured by environment variables, as a user's own server is."""
    with serving() as store:
        object_store.configure(monkeypatch, store.endpoint)
        yield store
