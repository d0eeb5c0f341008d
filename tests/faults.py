"""What the fault tests share: pictures, the table that must come out, and seeded moments.

`make test` takes one or two moments of each kind; `make test-faults` sets POMONA_FAULTS to 20.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

import drawn
import pomona
import tables
from pomona.encoder.blob import Encoder

MOMENTS = int(os.environ.get("POMONA_FAULTS", "2"))
SPARK_MOMENTS = MOMENTS if "POMONA_FAULTS" in os.environ else 1  # each takes half a minute
PICTURES = 240

# Part files are closed after a fraction of a second, as they are after a minute of a real run.
_EAGER = "import pomona.engines.local as local; local._PART_SECONDS = 0.2; "
_MAIN = "import sys; from pomona.cli import main; main(sys.argv[1:])"
COMMAND = [sys.executable, "-c", _EAGER + _MAIN]


def draw(folder: Path, pictures: int = PICTURES) -> Path:
    """Pictures in three folders; some are broken, some are copies of others."""
    for n in range(pictures):
        target = folder / f"class {n % 3}" / f"picture {n}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        content = drawn.encode(drawn.picture(24, 18, n if n % 10 else 0), "PNG")
        target.write_bytes(content[: 60 if n % 40 == 7 else None])
    (folder / "class 1" / "empty.jpg").touch()
    return folder


def made_anew(pictures: Path, table: Path, encoder: Encoder) -> pa.Table:
    """The table that a run makes which nothing happens to."""
    pomona.extract(pictures, table, encoder=encoder)
    return tables.read(table)


def moments(seed: int, longest_s: float) -> Iterator[float]:
    """Seconds after which to strike, seeded: no two runs of the tests differ in them."""
    rng = random.Random(seed)
    for _ in range(MOMENTS):
        yield rng.uniform(0.0, longest_s)


def assert_whole(table: Path, expected: pa.Table) -> None:
    """One row per file, every vector right, no stray files."""
    found = tables.read(table)
    assert found["path"].to_pylist() == expected["path"].to_pylist()
    assert found.equals(expected)
    assert {path.suffix for path in table.iterdir()} == {".parquet"}


def assert_sound(table: Path, expected: pa.Table) -> None:
    """What a killed run leaves: whole part files, no row twice, each as it should be."""
    if table.is_dir() and pomona.FeatureTable(table).exists():
        found = tables.read(table)
        paths = found["path"].to_pylist()
        assert len(paths) == len(set(paths))
        right = {row["path"]: row for row in expected.to_pylist()}
        assert all(row == right[row["path"]] for row in found.to_pylist())


@contextmanager
def running(command: Sequence[str], **more: object) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone in the end, whatever happens."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def processes(wanted: Callable[[int, int, str], bool]) -> list[int]:
    """Processes by (pid, parent's pid, command line)."""
    found = subprocess.run(
        ["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 2) for line in found.stdout.splitlines()]
    told = ((int(pid), int(parent), line) for pid, parent, line in filter(_has_three, lines))
    return [process[0] for process in told if wanted(*process)]


def _has_three(words: list[str]) -> bool:
    return len(words) == 3


def kill(pid: int) -> None:
    """End a process as nothing can prevent; it may have ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
