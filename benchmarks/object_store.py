"""Images in an object store on the embedded engine: rate of a run, and time of a listing.

The images are single objects, or packed in one archive.

The store is a small S3 server in a process of its own. Each of its answers takes 25 ms, and a
listing has 1,000 keys in an answer.

    python benchmarks/object_store.py --images 4000 --keys 100000
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import multiprocessing
import os
import re
import statistics
import subprocess
import tempfile
import time
from bisect import bisect_left, bisect_right
from pathlib import Path
from urllib.parse import parse_qs, unquote

import numpy as np
from PIL import Image

import pomona
from pomona.encoder.encoder import Encoder
from pomona.job.job import Job, JobPaths, images_of
from pomona.source.label_rule import Labelling
from pomona.source.listing import Listing
from pomona.table.feature_table import FeatureTable
from pomona.worker.prepare import EXACT

DATE = "2026-01-01T00:00:00.000Z"
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
PACKED = {
    "tar": ["tar", "-cf"],
    "tar.gz": ["tar", "-czf"],
    "zip": ["zip", "-qr"],
}


class Store:
    """An S3 server that only lists and reads; `keys` are sorted.

    It counts the listings (the first number of `counts`) and the other requests.
    """

    def __init__(
        self, folder: Path, keys: list[str], delay_s: float, counts: ctypes.Array[ctypes.c_long]
    ) -> None:
        self._folder, self._keys, self._delay_s, self._counts = folder, keys, delay_s, counts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ")
                headers = {}
                while (header := await reader.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                await asyncio.sleep(self._delay_s)
                path, _, query = target.partition("?")
                writer.write(self._answer(method, unquote(path), query, headers))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answer(self, method: str, path: str, query: str, headers: dict[str, str]) -> bytes:
        key = path.removeprefix("/bucket").lstrip("/")
        self._counts["list-type" not in query] += 1
        if "list-type" in query:
            found = {name: values[0] for name, values in parse_qs(query).items()}
            return _http(200, self._listing(found), method)
        file = self._folder / key
        if not key or not file.is_file():
            return _http(404, b"", method)
        size = file.stat().st_size
        if method == "HEAD":
            return _head(200, size)
        with file.open("rb") as opened:
            if part := re.match(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
                start = opened.seek(int(part[1]))
                return _http(206, opened.read(int(part[2]) + 1 - start), method, start, size)
            return _http(200, opened.read(), method)

    def _listing(self, query: dict[str, str]) -> bytes:
        """List in pages of 1,000 names; a page ends at a folder if there is a delimiter."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", "")
        rows, last, folders = [], "", set()
        at = bisect_right(self._keys, after) if after else bisect_left(self._keys, prefix)
        most = int(query.get("max-keys", "1000"))
        while at < len(self._keys) and len(rows) + len(folders) < most:
            key = self._keys[at]
            if not key.startswith(prefix):
                break
            inner, found, _ = key[len(prefix) :].partition(delimiter or "\0")
            if found:
                folder = prefix + inner + delimiter
                folders.add(folder)
                at = bisect_left(self._keys, folder + "\U0010ffff")
                last = folder + "\U0010ffff"
                continue
            rows.append(
                f"<Contents><Key>{key}</Key><LastModified>{DATE}</LastModified>"
                '<ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag><Size>100000</Size>'
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
            last, at = key, at + 1
        more = at < len(self._keys) and self._keys[at].startswith(prefix)
        rows += [f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in sorted(folders)]
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        head = f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(rows)}</KeyCount>"
        return f"<ListBucketResult>{head}{token}{''.join(rows)}</ListBucketResult>".encode()


def _http(
    status: int, body: bytes, method: str, start: int | None = None, total: int | None = None
) -> bytes:
    more = "" if start is None else f"bytes {start}-{start + len(body) - 1}/{total}"
    head = _head(status, len(body), more)
    return head if method == "HEAD" else head + body


def _head(status: int, size: int, part: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {size}", f"Last-Modified: {MODIFIED}"]
    if part:
        lines.append(f"Content-Range: {part}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def serve(
    folder: Path,
    keys: list[str],
    delay_s: float,
    port: object,
    counts: ctypes.Array[ctypes.c_long],
) -> None:
    """Run the server in this process."""

    async def run() -> None:
        server = await asyncio.start_server(
            Store(folder, keys, delay_s, counts).serve, "127.0.0.1", 0
        )
        port.put(server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        await server.serve_forever()

    asyncio.run(run())


def draw(folder: Path, count: int) -> list[str]:
    """Draw JPEGs of 1024 x 768 in ten folders, and return their keys."""
    noise = np.random.default_rng(0)
    names = []
    for number in range(count):
        name = f"photos/c{number % 10}/{number:06}.jpg"
        names.append(name)
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        small = noise.integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(small).resize((1024, 768), Image.Resampling.BICUBIC).save(file, quality=85)
    return sorted(names)


def rate(source: str, encoder: Encoder, workers: int) -> float:
    """Return the images per second of a run, without starting workers and loading the encoder."""
    with tempfile.TemporaryDirectory() as table:
        begun: list[tuple[float, int]] = []

        def note(now: object) -> None:
            if now.done:  # type: ignore[attr-defined]
                begun.append((time.monotonic(), now.done))  # type: ignore[attr-defined]

        engine = pomona.LocalEngine(workers=workers)
        pomona.extract(source, table, encoder=encoder, engine=engine, progress=note)
        (start, first), (end, last) = begun[0], next(x for x in begun if x[1] == begun[-1][1])
        return (last - first) / (end - start)


def read_alone(source: str, counts: ctypes.Array[ctypes.c_long]) -> str:
    """Return how fast one process reads an archive without decoding, and by how many requests."""
    images = images_of(JobPaths(source, "none"))
    before, started = counts[1], time.monotonic()
    files = list(images.files(lambda _: None))
    listed, at = counts[1] - before, time.monotonic()
    for content, error in images.reader.read(files):
        assert content, error
    seconds = time.monotonic() - at
    return (
        f"listed in {at - started:.1f} s by {listed} requests, read at "
        f"{len(files) / seconds:,.0f} images/s by {counts[1] - before - listed}"
    )


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=25)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["objects", *PACKED])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = draw(folder, given.images)
        flat = [f"flat/{n:08}.jpg" for n in range(given.keys)]
        deep = [f"deep/{n % 100:03}/{n:08}.jpg" for n in range(given.keys)]
        (folder / "shards").mkdir()
        for kind in set(given.kinds) & set(PACKED):
            archive = folder / f"shards/photos.{kind}"
            subprocess.run([*PACKED[kind], archive, "."], cwd=folder / "photos", check=True)
        port: multiprocessing.Queue[int] = multiprocessing.Queue()
        counts = multiprocessing.Array(ctypes.c_long, 2, lock=False)
        every = sorted([*keys, *flat, *deep])
        server = multiprocessing.Process(
            target=serve, args=(folder, every, given.delay_ms / 1000, port, counts), daemon=True
        )
        server.start()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.get()}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        encoder = pomona.build_encoder("mobilenet_v2", "untrained:0")
        for place in ("flat", "deep"):
            started, before = time.monotonic(), counts[0]
            listing = Listing.of(images_of(JobPaths(f"s3://bucket/{place}", "none")))
            job = Job(
                JobPaths(f"s3://bucket/{place}", "none"),
                encoder,
                Labelling.choose("parent", lambda: None).rule,
                EXACT,
            )
            plan = job.plan(listing, FeatureTable(folder / "none"))
            plan.count()
            seconds = time.monotonic() - started
            print(
                f"listed and compared {plan.changes.new:,} objects ({place}): {seconds:.1f} s, "
                f"{counts[0] - before} listing requests"
            )
        for kind in given.kinds:
            source = "photos" if kind == "objects" else f"shards/photos.{kind}"
            near, far = [], []
            for _ in range(given.repeats):
                near.append(rate(str(folder / source), encoder, given.workers))
                far.append(rate(f"s3://bucket/{source}", encoder, given.workers))
            share = statistics.median(f / n for f, n in zip(far, near, strict=True))
            print(
                f"{kind}: {statistics.median(near):.1f} images/s from a disk, "
                f"{statistics.median(far):.1f} at {given.delay_ms:g} ms an answer: {share:.0%}"
            )
            if kind != "objects":
                print(f"  {read_alone(f's3://bucket/{source}', counts)}")
        server.terminate()


if __name__ == "__main__":
    main()
