"""The server of the page, on this machine only.

Each address begins with a random token, so other users of the machine and other pages in the
browser do not reach it. The page asks for rows by their numbers. The server reads no file that is
not a row, and sends pictures that it draws, never the file.
"""

from __future__ import annotations

import hmac
import http.server
import json
import secrets
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pomona.analysis.figures.thumbnails import as_webp, thumbnail
from pomona.cores import available_cores
from pomona.errors import PomonaError, RunError, UsageError
from pomona.worker.pillow_limits import quiet_codecs

if TYPE_CHECKING:
    from pomona.analysis.look.nearest import Nearest
    from pomona.analysis.look.placing import Placed
    from pomona.analysis.look.rows import ShownRows

__all__ = ["Shown", "start_server"]

_SIDES = {"small": 128, "large": 1024}  # pixels
_PICTURE_BYTES = 64 * 2**20  # of drawn pictures that are kept
_MOST_ROWS = 500  # of one answer
_PAGE = {
    "": ("look.html", "text/html"),
    "look.js": ("look.js", "text/javascript"),
    "drawing.js": ("drawing.js", "text/javascript"),
    "look.css": ("look.css", "text/css"),
}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
_POLICY += "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows.

    Attributes:
        about: name, network and method, as JSON for the page.
        rows: the rows.
        placed: their places.
        nearest: finds near rows.
    """

    about: dict[str, Any]
    rows: ShownRows
    placed: Placed
    nearest: Nearest


class _Pictures:
    """Drawn pictures of rows; the latest are kept."""

    def __init__(self, rows: ShownRows) -> None:
        self._rows = rows
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._at_once = threading.Semaphore(available_cores())  # each holds a decoded picture

    def get(self, row: int, side: int) -> bytes | None:
        """Return a picture as WebP; None if its file is gone or not an image."""
        key = (row, side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._at_once, quiet_codecs():
            image = thumbnail(self._rows.path(row), side)
            content = None if image is None else as_webp(image)
        if content is not None:
            with self._lock:
                if key not in self._kept:
                    self._kept[key] = content
                    self._bytes += len(content)
                while self._bytes > _PICTURE_BYTES:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return content


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers one browser; the class's attributes are the server's."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    shown: ClassVar[Shown]
    pictures: ClassVar[_Pictures]
    token: ClassVar[str]
    port: ClassVar[int]

    def do_GET(self) -> None:
        self._answer(
            {
                "table.json": self._table,
                "points": self._points,
                "rows": self._rows,
                "near": self._near,
                "text": self._text,
                **{kind: partial(self._picture, kind) for kind in _SIDES},
                **{name: partial(self._file, *file) for name, file in _PAGE.items()},
            }
        )

    def do_POST(self) -> None:
        self._answer({"export": self._export})

    def _answer(self, answers: dict[str, Callable[[dict[str, str]], None]]) -> None:
        address = urllib.parse.urlsplit(self.path)
        _, token, *rest = [*address.path.split("/", 2), ""]
        name = rest[0]
        # A page of another origin that points its name here sends its own name as Host.
        host = f"127.0.0.1:{self.port}"
        is_here = self.headers.get("Host") in {host, host.replace("127.0.0.1", "localhost")}
        if not (is_here and hmac.compare_digest(token.encode(), self.token.encode())):
            self._send(404, "text/plain", b"not found")
            return
        answer = answers.get(name)
        if answer is None:
            self._send(404, "text/plain", b"not found")
            return
        try:
            answer(dict(urllib.parse.parse_qsl(address.query)))
        except PomonaError as error:
            self._send(400, "text/plain", str(error).encode())
        except (KeyError, ValueError):
            self._send(400, "text/plain", b"not a request of the page")

    def _table(self, _: dict[str, str]) -> None:
        rows = self.shown.rows
        result = self.shown.about | {
            "placed": rows.placed,
            "rows": len(rows),
            "labels": rows.labels,
            "statuses": rows.statuses,
        }
        self._send(200, "application/json", json.dumps(result).encode())

    def _points(self, _: dict[str, str]) -> None:
        """Send (M,) labels, (N,) x, (N,) y as shares of 65535, (M,) statuses; little-endian."""
        rows = self.shown.rows
        places = np.round(self.shown.placed.places.clip(0, 1) * 65535).astype("<u2")
        parts = [rows.label.astype("<i4"), places[:, 0], places[:, 1], rows.status]
        self._send(200, "application/octet-stream", b"".join(part.tobytes() for part in parts))

    def _rows(self, query: dict[str, str]) -> None:
        rows = [self._row(number) for number in query["ids"].split(",")]
        self._send_json(self.shown.rows.at(rows[:_MOST_ROWS]))

    def _near(self, query: dict[str, str]) -> None:
        row = self._row(query["row"])
        if row >= self.shown.rows.placed:
            raise UsageError("a row without a vector has no near rows")
        self._send_json(self.shown.nearest.to_row(row, min(int(query["k"]), _MOST_ROWS)))

    def _text(self, query: dict[str, str]) -> None:
        found = self.shown.nearest.to_text(query["q"], min(int(query["k"]), _MOST_ROWS))
        self._send_json(found)

    def _picture(self, kind: str, query: dict[str, str]) -> None:
        content = self.pictures.get(self._row(query["row"]), _SIDES[kind])
        # Without a picture: no content, which is no error in the browser's console.
        self._send(200 if content else 204, "image/webp", content or b"")

    def _file(self, name: str, kind: str, _: dict[str, str]) -> None:
        content = resources.files("pomona.analysis.look").joinpath("page", name).read_bytes()
        self._send(200, f"{kind}; charset=utf-8", content)

    def _export(self, query: dict[str, str]) -> None:
        size = int(self.headers.get("Content-Length", "0"))
        if not 0 <= size <= 4 * len(self.shown.rows):
            raise ValueError
        rows = np.frombuffer(self.rfile.read(size), "<u4")
        if len(rows) and rows.max() >= len(self.shown.rows):
            raise ValueError
        text = {"csv": self.shown.rows.csv, "txt": self.shown.rows.lines}[query["as"]](rows)
        # Names of files of this machine may be bytes that are not text.
        self._send(200, "application/octet-stream", text.encode("utf-8", "surrogateescape"))

    def _row(self, text: str) -> int:
        row = int(text)
        if not 0 <= row < len(self.shown.rows):
            raise ValueError
        return row

    def _send_json(self, value: object) -> None:
        self._send(200, "application/json", json.dumps(value).encode())

    def _send(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if code != 204:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")  # the pictures are the user's
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Referrer-Policy", "no-referrer")  # the address has the token
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if content:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing: addresses have the token."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore a browser that closed the connection before the answer."""


def start_server(shown: Shown, port: int) -> tuple[str, Callable[[], None]]:
    """Start the server in a thread of this process.

    Args:
        shown: what the page shows.
        port: 0 for any free port.

    Returns:
        The URL of the page, and a function that stops the server.

    Raises:
        RunError: the port is in use.
    """
    token = secrets.token_urlsafe(24)
    attributes = {"shown": shown, "pictures": _Pictures(shown.rows), "token": token}
    handler: Any = type("Handler", (_Handler,), attributes)
    try:
        server = _Server(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise RunError(f"cannot listen on `port` {port}: {error}") from error

    handler.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, name="pomona look", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return f"http://127.0.0.1:{handler.port}/{token}/", stop
