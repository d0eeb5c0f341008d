"""Lists of URLs on the embedded engine, against a real web server on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import SourceError
from pomona.job.summary import Summary
from web_server import Web, redirecting, send, serving

Run = Callable[..., Summary]


@pytest.fixture
def run(encoder: Encoder) -> Run:
    def extract(source: object, table: object, **more: object) -> Summary:
        more = {"private_urls": True} | more
        return pomona.extract(
            source, table, encoder=encoder, engine=pomona.LocalEngine(workers=1), **more
        )

    return extract


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def picture(seed: int) -> bytes:
    return drawn.encode(drawn.picture(seed=seed), "PNG")


def rows_by_path(table: Path) -> dict[str, dict[str, object]]:
    return {row["path"]: row for row in tables.read(table).to_pylist()}


def test_urls_are_rows_and_failures_have_a_reason(web: Web, run: Run, tmp_path: Path) -> None:
    web.answers |= {"/red/1.png": picture(1), "/2": redirecting("/red/1.png"), "/3": b"<html>"}
    (tmp_path / "4.png").write_bytes(picture(4))
    lines = [web.url(path) for path in ("/red/1.png", "/2", "/3", "/missing")]
    again = [web.url("/red/1.png#top")]
    (tmp_path / "l.txt").write_text("\n".join([*lines, "4.png", *again]))
    summary = run(tmp_path / "l.txt", tmp_path / "t")
    rows = rows_by_path(tmp_path / "t")
    assert set(rows) == {*lines, f"file:{tmp_path}/4.png"}
    assert [rows[url]["status"] for url in lines] == ["ok", "ok", "unsupported", "unreadable"]
    first = rows[lines[0]]
    assert (first["label"], first["size"], first["modified"]) == ("red", len(picture(1)), None)
    assert rows[lines[3]]["error"] == "cannot be fetched: answers 404 Not Found"
    assert first["features"] == rows[lines[1]]["features"]
    assert (summary.files, summary.passed_over.by_extension) == (5, {"listed before": 1})


def test_a_url_with_a_row_is_not_fetched_again_unless_it_failed(
    web: Web, run: Run, tmp_path: Path
) -> None:
    web.answers["/1.png"] = picture(1)
    (tmp_path / "l.txt").write_text(f"{web.url('/1.png')}\n{web.url('/2.png')}")
    run(tmp_path / "l.txt", tmp_path / "t")
    web.answers["/2.png"] = picture(2)
    web.seen.clear()
    again = run(tmp_path / "l.txt", tmp_path / "t")
    assert (again.changes.unchanged, again.changes.to_do, web.seen.total()) == (2, 0, 0)
    retried = run(tmp_path / "l.txt", tmp_path / "t", resume=pomona.Resume(retry_failed=True))
    assert (retried.ok, dict(web.seen)) == (1, {"/2.png": 1})


def test_size_and_time_in_a_list_tell_that_a_url_has_changed(
    web: Web, run: Run, tmp_path: Path
) -> None:
    web.answers["/1.png"] = picture(1)
    for day in ("01", "01", "02"):
        line = f"{web.url('/1.png')},{len(picture(1))},2024-05-{day}"
        (tmp_path / "l.csv").write_text(f"path,size,modified\n{line}\n")
        run(tmp_path / "l.csv", tmp_path / "t")
    assert web.seen == {"/1.png": 2}


def test_private_addresses_are_refused_unless_allowed(web: Web, run: Run, tmp_path: Path) -> None:
    web.answers["/1.png"] = picture(1)
    (tmp_path / "l.txt").write_text(web.url("/1.png"))
    run(tmp_path / "l.txt", tmp_path / "t", private_urls=False)
    ((_, row),) = rows_by_path(tmp_path / "t").items()
    assert row["error"] == "cannot be fetched: is at 127.0.0.1, which is not a public address"
    assert not web.seen


def test_credentials_in_a_url_are_refused_and_in_no_row(web: Web, run: Run, tmp_path: Path) -> None:
    web.answers["/1.png"] = picture(1)
    far = web.url("/1.png").replace("//", "//me:secret@")
    (tmp_path / "l.txt").write_text(f"{web.url('/1.png')}\n{far.replace('1.png', '2.png')}")
    run(tmp_path / "l.txt", tmp_path / "t")
    row = rows_by_path(tmp_path / "t")[web.url("/2.png")]
    assert row["error"] == "contains a user name or a password"
    (tmp_path / "first.txt").write_text(far)
    with pytest.raises(SourceError, match="which contains a user name or a password") as error:
        run(tmp_path / "first.txt", tmp_path / "u")
    assert "secret" not in str(error.value)


def test_workers_share_what_a_host_gets_at_once(web: Web, encoder: Encoder, tmp_path: Path) -> None:
    slow = picture(1)

    def answer(handler: object) -> None:
        import time

        time.sleep(0.1)
        send(handler, body=slow)  # type: ignore[arg-type]

    web.answers |= {f"/{n}.png": answer for n in range(40)}
    (tmp_path / "l.txt").write_text("\n".join(web.url(f"/{n}.png") for n in range(40)))
    engine = pomona.LocalEngine(workers=2)
    pomona.extract(
        tmp_path / "l.txt", tmp_path / "t", encoder=encoder, engine=engine, private_urls=True
    )
    assert 1 < web.most <= 8
