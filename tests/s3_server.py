"""A real S3 service on the loopback interface, `moto`, with faults in front of it."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote_plus

import pytest

import faulty_server
import object_store
from faulty_server import INTERNAL_ERROR, SLOW_DOWN, Answer, FaultyServer, Request

__all__ = [
    "ACCESS_DENIED",
    "EXPIRED_TOKEN",
    "INTERNAL_ERROR",
    "S3",
    "SLOW_DOWN",
    "Request",
    "s3",
    "serving",
]

EXPIRED_TOKEN = Answer("400 Bad Request", "ExpiredToken")
ACCESS_DENIED = Answer("403 Forbidden", "AccessDenied")


class S3(FaultyServer):
    """The service; `endpoint` is for `AWS_ENDPOINT_URL`."""

    def put(self, path: str, content: bytes) -> None:
        """Store an object at `bucket/key`."""
        self._send("PUT", path, content)

    def delete(self, path: str) -> None:
        """Delete an object."""
        self._send("DELETE", path)

    def stored(self, bucket: str = "bucket") -> list[str]:
        """Return the keys of all objects in a bucket."""
        listing = self._send("GET", bucket, query="?list-type=2&encoding-type=url")
        return [unquote_plus(key) for key in re.findall("<Key>(.*?)</Key>", listing)]

    def put_folder(self, folder: Path, path: str) -> None:
        """Store all files of a folder as objects below a path."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def _send(self, method: str, path: str, content: bytes = b"", query: str = "") -> str:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        headers = {
            "Content-Type": "image/x",
            "Content-Length": str(len(content)),
            "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
        }
        connection.request(method, f"/{quote(path)}{query}", content, headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        connection.close()
        assert answer.status < 300, (method, path, answer.status)
        return body


@contextmanager
def serving() -> Iterator[S3]:
    """Start the service with a bucket named `bucket`; skip the test if it cannot be had."""
    moto = pytest.importorskip("moto.server", reason="moto[server], an S3 server, is missing")
    store = S3(moto.DomainDispatcherApplication(moto.create_backend_app))
    with faulty_server.serving(store):
        store._send("POST", "moto-api/reset")
        store._send("PUT", "bucket")
        yield store


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The service, configured by environment variables, as a user's own server is."""
    with serving() as store:
        object_store.configure(monkeypatch, store.endpoint)
        yield store
