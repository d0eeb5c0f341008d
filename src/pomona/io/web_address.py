"""Addresses of the web: what a URL says, which addresses are public, and what a fetch may cost."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from pomona.messages import one_line

__all__ = [
    "USUAL_LIMITS",
    "NotFetched",
    "Origin",
    "Target",
    "WebLimits",
    "is_public",
    "without_user",
]


_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


class NotFetched(Exception):  # noqa: N818 - a row of the table, not an error to a user
    """A file that cannot be fetched, for this reason."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What a fetch may cost, and where it may go.

    Attributes:
        private: whether private, loopback and link-local addresses are allowed.
        per_host: number of requests to one host at the same time.
        connect_s: seconds until a connection is there.
        silence_s: seconds without a byte.
        whole_s: seconds for a file, with redirects and repeated requests.
        pause_s: the longest pause that a host may ask for; if it asks for more, its files fail.
        most_bytes: size of the largest file.
        redirects: how many of them are followed.
    """

    private: bool = False
    per_host: int = 8
    connect_s: float = 10.0
    silence_s: float = 20.0
    whole_s: float = 60.0
    pause_s: float = 30.0
    most_bytes: int = 128 * 2**20
    redirects: int = 5


USUAL_LIMITS = WebLimits()


class Origin(NamedTuple):
    """A server."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `authority` is for the header Host."""

    origin: Origin
    authority: str
    path: str

    @property
    def host(self) -> str:
        """The name of the host, or its address."""
        return self.origin.host

    @classmethod
    def of(cls, url: str) -> Target:
        """Return where a URL leads.

        Raises:
            NotFetched: it has credentials, or is no address of the web.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            host = parts.hostname or ""
            host = host if ":" in host else host.encode("idna").decode()
        except (ValueError, UnicodeError) as error:
            raise NotFetched(f"is not a valid address: {one_line(error, 80)}") from error
        if host and not _HOST.fullmatch(host):
            raise NotFetched("is not a valid address: its host has other letters than a name has")
        if parts.scheme not in {"http", "https"} or not host:
            raise NotFetched(f"leads to {parts.scheme}://, which is not on the web")
        if "@" in parts.netloc:
            raise NotFetched("contains a user name or a password")
        usual = {"http": 80, "https": 443}[parts.scheme]
        named = f"[{host}]" if ":" in host else host
        authority = named if port in {None, usual} else f"{named}:{port}"
        path = quote(parts.path or "/", safe="%/:=&~+!$,;'@()*[]")
        query = f"?{quote(parts.query, safe='%/:=&?~+!$,;@()*[]')}" if parts.query else ""
        return cls(Origin(parts.scheme, host, port or usual), authority, path + query)


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet.

    IPv6 addresses that contain one of IPv4 are not: a gateway may lead them into a private network.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or ip.sixtofour or ip.teredo):
        return False
    is_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or is_local)


def without_user(url: str) -> str:
    """Return a URL without a user name and a password: tokens may be in either."""
    return re.sub(r"^([^:/]+://)[^/?#]*@", r"\1", url)
