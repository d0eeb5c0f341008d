"""Fetching files from the web: politely, within limits, and from public addresses only.

A name is resolved once for each request, and the connection goes to an address that was checked. So
a name whose address changes between a check and a connection gains nothing.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from http import HTTPStatus
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from pomona._version import __version__
from pomona.io.web_address import NotFetched, Target, WebLimits, is_public
from pomona.io.web_connection import ended_at, phrase_of, pool_for, retry_after_s
from pomona.messages import one_line

__all__ = ["Fetcher"]

_AGENT = f"Pomona/{__version__} (computes features of images)"
_HEADERS = {"User-Agent": _AGENT, "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
_REDIRECTS = {301, 302, 303, 307, 308}
_BUSY = {429, 503}
_PASSING = {408, 500, 502, 504}
_WAITS_S = (0.5, 2.0)  # before a request is repeated
_ADDRESSES = 3  # of one name that are tried
_CHUNK = 2**16
_HOSTS = 4096  # whose turns and pauses are remembered
_POOLS = 256  # of open connections


class _Passing(Exception):  # noqa: N818 - caught here
    """A request that may succeed later, for this reason."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class _Host:
    """A host: whose turn it is, and until when it asked for a pause."""

    def __init__(self, at_once: int) -> None:
        self.paused_until = 0.0
        self._at_once = at_once
        self._came = self._went = 0
        self._changed = threading.Condition()

    def pause(self, seconds: float) -> None:
        """Send no request for so long."""
        self.paused_until = max(self.paused_until, time.monotonic() + seconds)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until it is this request's turn, in the order in which they came."""
        with self._changed:
            ticket = self._came
            self._came += 1
            while ticket >= self._went + self._at_once:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._went += 1
                self._changed.notify_all()


class Fetcher:
    """Fetches files; several threads may use it."""

    def __init__(self, limits: WebLimits) -> None:
        self._limits = limits
        self._hosts = lru_cache(_HOSTS)(lambda _: _Host(limits.per_host))
        self._pools = lru_cache(_POOLS)(partial(pool_for, at_once=limits.per_host))

    def get(self, url: str) -> bytes:
        """Return the content of a file.

        Raises:
            NotFetched: it cannot be fetched.
        """
        deadline: float | None = None
        for _ in range(self._limits.redirects + 1):
            found, deadline = self._answered(Target.of(url), deadline)
            if isinstance(found, bytes):
                return found
            try:
                url = urljoin(url, found)
            except ValueError as error:
                raise NotFetched("redirects to what is not a valid address") from error
        raise NotFetched(f"redirects more than {self._limits.redirects} times")

    def _answered(self, target: Target, deadline: float | None) -> tuple[bytes | str, float]:
        """Return the content or the address of a redirect, and when the time for the file ends."""
        host, waits = self._hosts(target.host), list(_WAITS_S)
        while True:
            with host.turn():
                self._sit_out_pause(host)
                deadline = deadline or time.monotonic() + self._limits.whole_s
                try:
                    return self._once(target, deadline), deadline
                except _Passing as failure:
                    if not waits:
                        raise NotFetched(f"{failure}, {len(_WAITS_S) + 1} times") from failure
                    wait_s = waits.pop(0)
                    if failure.after_s is not None:
                        host.pause(failure.after_s)
            if time.monotonic() + wait_s >= deadline:
                raise NotFetched(f"took more than {self._limits.whole_s:g} s")
            time.sleep(wait_s)

    def _sit_out_pause(self, host: _Host) -> None:
        pause_s = host.paused_until - time.monotonic()
        if pause_s > self._limits.pause_s:
            raise NotFetched(f"its host is busy and asked for a pause of {pause_s:.0f} s")
        if pause_s > 0:
            time.sleep(pause_s)

    def _once(self, target: Target, deadline: float) -> bytes | str:
        """Send one request, and return the content or the address of a redirect."""
        reason = ""
        for address in self._addresses(target):
            with ended_at(deadline):
                try:
                    return self._requested(target, address, deadline)
                except (NewConnectionError, ConnectTimeoutError) as error:
                    reason = "does not accept connections"
                    if not isinstance(error, NewConnectionError):
                        reason = f"does not answer within {self._limits.connect_s:g} s"
                except SSLError as error:
                    raise NotFetched(f"its secure connection fails: {one_line(error)}") from error
                except (HTTPError, OSError, ValueError) as error:
                    if time.monotonic() >= deadline:
                        raise NotFetched(f"took more than {self._limits.whole_s:g} s") from error
                    if isinstance(error, ReadTimeoutError):
                        silence = f"sends nothing for {self._limits.silence_s:g} s"
                        raise _Passing(silence) from error
                    raise _Passing("breaks the connection off") from error
        raise _Passing(reason)

    def _addresses(self, target: Target) -> list[str]:
        """Return the addresses of a host that may be connected to."""
        try:
            found = socket.getaddrinfo(target.host, target.origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _Passing(f"its host {target.host} has no known address") from error
        known = list(dict.fromkeys(str(place[0]) for *_, place in found))
        allowed = [one for one in known if self._limits.private or is_public(one)]
        if not allowed:
            raise NotFetched(f"is at {known[0]}, which is not a public address")
        return allowed[:_ADDRESSES]

    def _requested(self, target: Target, address: str, deadline: float) -> bytes | str:
        limits = self._limits
        left_s = max(0.1, deadline - time.monotonic())
        response = self._pools(target.origin, address).urlopen(
            "GET",
            target.path,
            headers={**_HEADERS, "Host": target.authority},
            timeout=urllib3.Timeout(
                connect=min(limits.connect_s, left_s), read=min(limits.silence_s, left_s)
            ),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            status, headers = response.status, response.headers
            if status == HTTPStatus.OK:
                encoding = headers.get("Content-Encoding", "identity").lower()
                if encoding not in {"", "identity"}:
                    raise NotFetched(f"is packed as {encoding[:20]!r}, which was not asked for")
                return _body(response, limits, deadline)
        finally:
            response.close()  # unless its connection was released for the next request
        if status in _REDIRECTS and (location := headers.get("Location")):
            return location
        reason = f"answers {status} {phrase_of(status)}".rstrip()
        if status in _BUSY:
            pause_s = retry_after_s(headers.get("Retry-After"))
            raise _Passing(reason, 1.0 if pause_s is None else pause_s)
        if status in _PASSING:
            raise _Passing(reason)
        raise NotFetched(reason)


def _body(response: urllib3.BaseHTTPResponse, limits: WebLimits, deadline: float) -> bytes:
    """Return the content, if it is neither too large nor too slow."""
    too_large = NotFetched(f"holds more than {limits.most_bytes} bytes")
    said = response.headers.get("Content-Length", "")
    if said.isdecimal() and len(said) < 20 and int(said) > limits.most_bytes:
        raise too_large
    content = bytearray()
    chunk: bytes | None = None
    while chunk != b"":
        chunk = response.read1(_CHUNK, decode_content=False)
        content += chunk
        if len(content) > limits.most_bytes:
            raise too_large
        if time.monotonic() >= deadline:  # also at the end: `ended_at` makes one
            raise NotFetched(f"took more than {limits.whole_s:g} s")
    response.release_conn()
    return bytes(content)
