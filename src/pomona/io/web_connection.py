"""Connections to the web: to an address that was checked, and with an end."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import InvalidHeader

from pomona.io.web_address import Origin

__all__ = ["certificates", "ended_at", "phrase_of", "pool_for", "retry_after_s"]

_watched = threading.local()  # the connection of the request of this thread


class _Connection(HTTPConnection):
    """A connection that `ended_at` can end."""

    def connect(self) -> None:
        """Connect."""
        _watched.connection = self
        super().connect()

    def request(self, *arguments: Any, **more: Any) -> None:
        """Send a request."""
        _watched.connection = self
        super().request(*arguments, **more)


class _SafeConnection(_Connection, HTTPSConnection):
    """The same with TLS: `connect` and `request` then call those of `HTTPSConnection`."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SafePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SafeConnection


@contextmanager
def ended_at(deadline: float) -> Iterator[None]:
    """End the connection of this thread at a deadline: each byte would reset a time-out."""
    _watched.connection = None
    here = _watched.__dict__

    def end() -> None:
        with suppress(OSError, AttributeError):  # it has ended
            here["connection"].sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def pool_for(origin: Origin, address: str, at_once: int) -> urllib3.HTTPConnectionPool:
    """Return connections to one address of a host, whose name its certificate must have."""
    if origin.scheme == "http":
        return _Pool(address, origin.port, maxsize=at_once)
    return _SafePool(
        address,
        origin.port,
        maxsize=at_once,
        ssl_context=certificates(),
        server_hostname=origin.host,
        assert_hostname=origin.host,
    )


@cache
def certificates() -> ssl.SSLContext:
    """Return a context with the system's certificates, or those of `SSL_CERT_FILE`.

    Loading them takes 20 ms.
    """
    return ssl.create_default_context()


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds that Retry-After asks for, a number or a date; None if it is neither."""
    try:
        return None if header is None else max(0.0, urllib3.Retry().parse_retry_after(header))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def phrase_of(status: int) -> str:
    """Return the words for a status of HTTP, or an empty string."""
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
