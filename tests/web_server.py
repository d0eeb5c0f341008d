"""A web server on the loopback interface, whose answers a test chooses."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from server_threads import running

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """The server.

    Attributes:
        answers: what it answers, by path; a path that is not here is 404.
        seen: number of requests, by path.
        headers: the headers of the last request.
        most: the largest number of requests at the same time.
    """

    def __init__(self, scheme: str, port: int) -> None:
        self.answers: dict[str, bytes | Answer] = {}
        self.seen: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.most = self._now = 0
        self.connections = 0
        self.port = port
        self._scheme = scheme
        self._lock = threading.Lock()

    def url(self, path: str = "/a.png", host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    @contextmanager
    def answering(self, handler: BaseHTTPRequestHandler) -> Iterator[bytes | Answer | None]:
        with self._lock:
            self.seen[handler.path] += 1
            self.headers = dict(handler.headers)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield self.answers.get(handler.path)
        finally:
            with self._lock:
                self._now -= 1


def send(
    handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = b"", **headers: object
) -> None:
    """Send an answer; `Retry_After=1` is the header `Retry-After: 1`."""
    handler.send_response(status)
    for name, value in ({"Content-Length": len(body)} | headers).items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def redirecting(location: str, status: int = 302) -> Answer:
    """An answer that leads elsewhere."""
    return lambda handler: send(handler, status, Location=location)


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Start the server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            web.connections += 1

        def do_GET(self) -> None:
            with web.answering(self) as answer, suppress(OSError):
                if callable(answer):
                    answer(self)
                else:
                    send(self, 404 if answer is None else 200, answer or b"")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web = Web("https" if context else "http", server.server_port)
    with running(server, 0.05):
        yield web
