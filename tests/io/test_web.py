"""Fetching from the web, from a real server on the loopback interface."""

from __future__ import annotations

import gc
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import signed
from pomona.io import web as web_module
from pomona.io import web_connection
from pomona.io.web import Fetcher
from pomona.io.web_address import NotFetched, Target, WebLimits, is_public, without_user
from web_server import Answer, Web, redirecting, send, serving

LIMITS = WebLimits(
    private=True, connect_s=2, silence_s=0.6, whole_s=1.5, pause_s=1.2, most_bytes=1000, redirects=3
)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(web_module, "_WAITS_S", (0.01, 0.02))
    with serving() as server:
        yield server


def refused(url: str, limits: WebLimits = LIMITS) -> str:
    with pytest.raises(NotFetched) as error:
        Fetcher(limits).get(url)
    return str(error.value)


def slowly(body: bytes, pause_s: float, count: int = 1000) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(body)
        for _ in range(count):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(pause_s)

    return answer


def test_a_file_is_fetched_with_a_name_and_unpacked(web: Web) -> None:
    web.answers["/a%20%C3%BC.png?x=1&y=%2F"] = b"content"
    assert Fetcher(LIMITS).get(web.url("/a ü.png?x=1&y=%2F")) == b"content"
    assert web.headers["User-Agent"].startswith("Pomona/")
    assert web.headers["Accept-Encoding"] == "identity"
    assert web.headers["Host"] == f"127.0.0.1:{web.port}"


def test_one_connection_serves_several_files(web: Web) -> None:
    web.answers["/a.png"] = b"content"
    fetcher = Fetcher(LIMITS)
    assert [fetcher.get(web.url()) for _ in range(5)] == [b"content"] * 5
    assert web.connections == 1


def test_a_body_without_length_is_read_to_its_end(web: Web) -> None:
    def chunked(handler: BaseHTTPRequestHandler) -> None:
        send(
            handler,
            body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Content_Length=None,
            Transfer_Encoding="chunked",
        )

    web.answers["/a.png"] = chunked
    assert Fetcher(LIMITS).get(web.url()) == b"abcde"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418, 204, 206, 304, 300])
def test_other_answers_give_their_status_after_one_request(web: Web, status: int) -> None:
    web.answers["/a.png"] = lambda handler: send(handler, status)
    assert refused(web.url()).startswith(f"answers {status} ")
    assert web.seen["/a.png"] == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_passing_failures_are_tried_again(web: Web, status: int) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        again = web.seen["/a.png"] > 1
        send(handler, 200 if again else status, b"now" if again else b"", Retry_After=0)

    web.answers["/a.png"] = answer
    assert Fetcher(LIMITS).get(web.url()) == b"now"
    web.answers["/b.png"] = lambda handler: send(handler, status, Retry_After=0)
    assert re.fullmatch(rf"answers {status} .*, 3 times", refused(web.url("/b.png")))


def test_a_host_gets_the_pause_that_it_asks_for(web: Web) -> None:
    web.answers["/b.png"] = b"other"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        busy = web.seen["/a.png"] == 1
        send(handler, 429 if busy else 200, b"" if busy else b"now", Retry_After=1)

    web.answers["/a.png"] = answer
    fetcher, start = Fetcher(LIMITS), time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(fetcher.get, web.url())
        while not web.seen["/a.png"]:
            time.sleep(0.01)
        time.sleep(0.1)
        second = threads.submit(fetcher.get, web.url("/b.png"))
        assert (first.result(), second.result()) == (b"now", b"other")
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize(
    "pause", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"], ids=["seconds", "date"]
)
def test_a_host_that_asks_for_a_long_pause_is_left_alone(web: Web, pause: str) -> None:
    web.answers["/a.png"] = lambda handler: send(handler, 503, Retry_After=pause)
    fetcher = Fetcher(LIMITS)
    for _ in range(3):
        with pytest.raises(NotFetched, match="its host is busy and asked for a pause of"):
            fetcher.get(web.url())
    assert web.seen["/a.png"] == 1


def test_a_host_gets_only_so_many_requests_at_the_same_time(web: Web) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        send(handler, body=b"x")

    web.answers["/a.png"] = answer
    limits = WebLimits(private=True, per_host=3)
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(Fetcher(limits).get, [web.url()] * 24))
    assert found == [b"x"] * 24
    assert web.most <= 3


def test_redirects_are_followed_up_to_a_limit(web: Web) -> None:
    web.answers["/a.png"] = redirecting("b.png?x=ü", 301)
    web.answers["/b.png?x=%C3%BC"] = b"content"
    assert Fetcher(LIMITS).get(web.url()) == b"content"
    web.answers["/loop"] = redirecting("/loop", 307)
    assert refused(web.url("/loop")) == "redirects more than 3 times"
    assert web.seen["/loop"] == 4


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "leads to file://, which is not on the web"),
        ("ftp://x.org/a", "leads to ftp://, which is not on the web"),
        ("http://me:secret@x.org/a", "contains a user name or a password"),
        ("http://[::1/a", "redirects to what is not a valid address"),
        ("http://x.org:99999/a", "is not a valid address"),
    ],
)
def test_redirects_away_from_the_web_are_refused(web: Web, location: str, reason: str) -> None:
    web.answers["/a.png"] = redirecting(location)
    assert reason in refused(web.url())


PRIVATE = [
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "[fe80::1]",
    "[fd00::1]",
    "[2002:7f00:1::]",
    "[64:ff9b::7f00:1]",
    "224.0.0.1",
    "[fec0::1]",
    "255.255.255.255",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_get_no_connection(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(web_module, "_WAITS_S", ())
    monkeypatch.setattr(socket.socket, "connect", connected)
    try:
        reason = refused(f"http://{host}/a.png", WebLimits())
    except OSError as error:  # this machine has no IPv6
        pytest.skip(str(error))
    assert "not a public address" in reason or "has no known address" in reason


def named(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[list[str]]]) -> None:
    """Let names have addresses: the first time the first list, then the next."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: object, **more: object) -> list[object]:
        if host not in names:
            return real(host, port, *rest, **more)  # type: ignore[arg-type,return-value]
        lists = names[host]
        found = lists.pop(0) if len(lists) > 1 else lists[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_redirect_to_a_private_address_is_refused(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/a.png"] = redirecting(web.url("/secret"))
    web.answers["/secret"] = b"secret"
    named(monkeypatch, {"public.test": [["127.0.0.1"]]})
    known = is_public
    allowed = {"first": True}

    def public_once(address: str) -> bool:
        return allowed.pop("first", False) or known(address)

    monkeypatch.setattr(web_module, "is_public", public_once)
    assert refused(web.url(host="public.test"), WebLimits()) == (
        "is at 127.0.0.1, which is not a public address"
    )
    assert (web.seen["/a.png"], web.seen["/secret"]) == (1, 0)


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/a.png"] = b"secret"
    connected: list[str] = []

    def connect(_: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    named(monkeypatch, {"rebinding.test": [["8.8.8.8"], ["127.0.0.1"]]})
    reason = refused(web.url(host="rebinding.test"), WebLimits())
    assert connected == ["8.8.8.8"]
    assert "127.0.0.1, which is not a public address" in reason


def test_only_the_public_addresses_of_a_name_are_tried_one_after_the_other(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "is_public", lambda address: address != "127.0.0.3")
    named(monkeypatch, {"several.test": [["127.0.0.3", "127.0.0.2", "127.0.0.1"]]})
    web.answers["/a.png"] = b"content"  # listens at 127.0.0.1 only
    assert Fetcher(WebLimits()).get(web.url(host="several.test")) == b"content"
    assert web.headers["Host"] == f"several.test:{web.port}"


def test_bytes_that_drip_end_after_the_time_for_a_file(web: Web) -> None:
    web.answers["/body"] = slowly(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", 0.05)
    web.answers["/headers"] = slowly(b"HTTP/1.1 200 OK\r\nX: ", 0.05)
    for path in web.answers:
        start = time.monotonic()
        assert refused(web.url(path)) == "took more than 1.5 s"
        assert time.monotonic() - start < 10


def test_silence_is_a_passing_failure(web: Web) -> None:
    web.answers["/a.png"] = lambda _: time.sleep(2)
    limits = WebLimits(private=True, silence_s=0.2)
    assert refused(web.url(), limits) == "sends nothing for 0.2 s, 3 times"


def test_an_endless_body_ends_at_the_size_limit(web: Web) -> None:
    web.answers["/a.png"] = slowly(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(900), 0, 10_000)
    assert refused(web.url()) == "holds more than 1000 bytes"
    web.answers["/b.png"] = slowly(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", 1)
    assert refused(web.url("/b.png")) == "holds more than 1000 bytes"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # http.client's
def test_a_broken_answer_is_a_reason(web: Web, raw: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(raw)
        handler.close_connection = True

    web.answers["/a.png"] = answer
    assert refused(web.url()) == "breaks the connection off, 3 times"
    gc.collect()  # so that its warnings come here


def test_a_packed_answer_is_not_unpacked(web: Web) -> None:
    web.answers["/a.png"] = lambda handler: send(handler, body=b"x", Content_Encoding="gzip")
    assert refused(web.url()) == "is packed as 'gzip', which was not asked for"


def test_hosts_that_cannot_be_reached_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "_WAITS_S", (0.01, 0.02))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert refused(f"http://127.0.0.1:{port}/") == "does not accept connections, 3 times"

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert refused("http://nowhere.test/") == (
        "its host nowhere.test has no known address, 3 times"
    )


def test_certificates_are_checked_for_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = signed(tmp_path, "fruit.test")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    named(monkeypatch, {"fruit.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    with serving(server) as web:
        web.answers["/a.png"] = b"content"
        assert "its secure connection fails" in refused(web.url(host="fruit.test"))
        trusting = ssl.create_default_context(cafile=certificate)
        monkeypatch.setattr(web_connection, "certificates", lambda: trusting)
        assert Fetcher(LIMITS).get(web.url(host="fruit.test")) == b"content"
        assert "its secure connection fails" in refused(web.url(host="other.test"))
        assert "its secure connection fails" in refused(web.url())


@given(st.one_of(st.ip_addresses(), st.ip_addresses(network="64:ff9b::/96")))
def test_no_private_address_is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast:
        assert not is_public(str(ip))


def test_public_addresses_are_public() -> None:
    assert is_public("8.8.8.8")
    assert is_public("2606:4700:4700::1111")


@given(st.text(), st.text(), st.text())
def test_any_text_as_a_url_gives_a_target_or_a_reason(host: str, path: str, query: str) -> None:
    for url in (f"http://{host}/{path}?{query}", f"https:{host}", path):
        try:
            target = Target.of(url)
        except NotFetched:
            continue
        line = f"GET {target.path} HTTP/1.1 {target.authority}"
        assert line.isascii()
        assert line.isprintable()
        assert line.count(" ") == 3
        assert "@" not in target.authority


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@x.org/a@b", "https://x.org/a@b"),
        ("http://token@x.org", "http://x.org"),
        ("http://a:b:c@d@x.org?q=@", "http://x.org?q=@"),
        ("https://x.org/a:b@c", "https://x.org/a:b@c"),
    ],
)
def test_a_user_name_and_a_password_are_left_out_of_a_url(url: str, shown: str) -> None:
    assert without_user(url) == shown
