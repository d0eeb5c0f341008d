"""A minimal S3 service on the loopback interface that lists and serves objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape  # which writes XML and parses nothing

import pytest

from server_threads import running


class ObjectStore:
    """Objects by their path `/bucket/key`, and how often each was opened.

    `then` holds what replaces an object after it was opened: None deletes it.
    """

    def __init__(self, port: int) -> None:
        self.objects: dict[str, bytes | None] = {}
        self.then: dict[str, bytes | None] = {}
        self.opened: Counter[str] = Counter()
        self._port = port

    @property
    def endpoint(self) -> str:
        """The service's address, for `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self._port}"

    def put_folder(self, folder: Path, path: str) -> None:
        """Store all files of a folder as objects below a path."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.objects[f"{path}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()

    def listing(self, bucket: str, prefix: str, delimiter: str) -> bytes:
        """The response of S3's ListObjectsV2."""
        keys, folders = [], set()
        for path, content in sorted(self.objects.items()):
            key = path.removeprefix(f"/{bucket}/")
            if content is None or key == path or not key.startswith(prefix):
                continue
            inner, result, _ = key[len(prefix) :].partition(delimiter or "\0")
            if result:
                folders.add(prefix + inner + delimiter)
            else:
                keys.append((key, len(content)))
        rows = [
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
            "<LastModified>2023-01-02T00:00:00.000Z</LastModified></Contents>"
            for key, size in keys
        ]
        rows += [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in sorted(folders)
        ]
        count = f"<KeyCount>{len(rows)}</KeyCount><IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{count}{''.join(rows)}</ListBucketResult>".encode()

    def uri(self, path: str, scheme: str = "s3a") -> str:
        """The URI of an object; the query tells Arrow to use this server instead of Amazon's."""
        return (
            f"{scheme}://key:secret@{path.lstrip('/')}?endpoint_override=127.0.0.1:{self._port}"
            "&scheme=http&region=us-east-1"
        )


@contextmanager
def serving() -> Iterator[ObjectStore]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.path = unquote(self.path)
            if store.opened[self.path] and self.path in store.then:
                store.objects[self.path] = store.then.pop(self.path)
            content = store.objects.get(self.path)
            store.opened[self.path] += content is not None
            self._answer(404 if content is None else 200, content or b"", send=False)

        def do_GET(self) -> None:
            place, _, query = self.path.partition("?")
            parameters = parse_qs(query, keep_blank_values=True)
            if "list-type" in parameters:
                prefix, delimiter = (parameters.get(n, [""])[0] for n in ("prefix", "delimiter"))
                self._answer(200, store.listing(place.strip("/"), prefix, delimiter))
                return
            self.path = unquote(place)
            content = store.objects.get(self.path)
            if content is None:
                self._answer(404, b"")
                return
            part = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part is None:
                self._answer(200, content)
                return
            start, end = int(part[1]), min(int(part[2]) + 1, len(content))
            self._answer(206, content[start:end], f"bytes {start}-{end - 1}/{len(content)}")

        def _answer(
            self, code: int, body: bytes, content_range: str | None = None, *, send: bool = True
        ) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Mon, 02 Jan 2023 00:00:00 GMT")
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            if send:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store = ObjectStore(server.server_port)
    with running(server):
        yield store


def configure(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the environment variables by which a user's own server is found."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
