"""Shared by the fault tests: pictures, the expected table, and seeded moments.

`make test` takes one moment of most kinds; `make test-faults` takes 20 of all (POMONA_FAULTS). A
kill counts only if it hits a running process. The tests count it in `KILLS`, and print the counts
at the end of their output. If the process ended earlier, the test retries at an earlier moment.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder

MOMENTS = int(os.environ.get("POMONA_FAULTS", "1"))
PICTURES = 240

KILLS: Counter[str] = Counter()
"""Kills that hit a running process, by what was killed."""

# Part files are closed after a fraction of a second instead of a minute.
_EAGER = "import pomona.local.supervisor as local; local._PART_SECONDS = 0.2; "
_MAIN = "import sys; from pomona.cli.main import main; main(sys.argv[1:])"
COMMAND = [sys.executable, "-c", _EAGER + _MAIN]


def draw(folder: Path, pictures: int = PICTURES) -> Path:
    """Pictures in three folders; some are broken, and some are copies of others."""
    for n in range(pictures):
        target = folder / f"class {n % 3}" / f"picture {n}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        content = drawn.encode(drawn.picture(24, 18, n if n % 10 else 0), "PNG")
        target.write_bytes(content[: 60 if n % 40 == 7 else None])
    (folder / "class 1" / "empty.jpg").touch()
    return folder


def expected_table(pictures: Path, table: Path, encoder: Encoder, **options: Any) -> pa.Table:
    """The table that a run without faults produces."""
    pomona.extract(pictures, table, encoder=encoder, **options)
    return tables.read(table)


def moments(seed: int, longest_s: float) -> Iterator[float]:
    """Seconds after which to kill a process, seeded: they are the same in all runs of the tests."""
    rng = random.Random(seed)
    for _ in range(MOMENTS):
        yield rng.uniform(0.0, longest_s)


def kill_at(moment_s: float, what: str, command: Sequence[str], undo: Callable[[], object]) -> None:
    """Run a command and kill it after `moment_s`, or earlier if it ends before that.

    Args:
        moment_s: seconds after its start.
        what: the name under which the kill is counted.
        command: what to run.
        undo: restores the state before a run that ended by itself.
    """
    while True:
        with running(command) as process:
            try:
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                process.kill()
                KILLS[what] += 1
                return
        undo()
        moment_s *= 0.8


def assert_complete(table: Path, expected: pa.Table) -> None:
    """Assert one row per file, every vector correct, and no stray files."""
    result = tables.read(table)
    assert result["path"].to_pylist() == expected["path"].to_pylist()
    assert result.equals(expected)
    assert strange_suffixes(table) == set()


def strange_suffixes(table: Path) -> set[str]:
    """The suffixes of files that are neither part files nor the log of a Delta table."""
    names = (path for path in table.iterdir() if path.name != "_delta_log")
    return {path.suffix for path in names} - {".parquet"}


def assert_consistent(table: Path, expected: pa.Table) -> None:
    """Assert what a killed run may leave: complete part files, no duplicate row, correct rows."""
    if table.is_dir() and pomona.FeatureTable(table).exists():
        result = tables.read(table)
        paths = result["path"].to_pylist()
        assert len(paths) == len(set(paths))
        expected_rows = {row["path"]: row for row in expected.to_pylist()}
        assert all(row == expected_rows[row["path"]] for row in result.to_pylist())


@contextmanager
def running(command: Sequence[str], **more: object) -> Iterator[subprocess.Popen[str]]:
    """Run a process and make sure that it has ended, whatever happens."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Process(NamedTuple):
    """One process of this machine."""

    pid: int
    parent: int
    command: str


def processes() -> list[Process]:
    """All processes that currently run."""
    result = subprocess.run(
        ["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    lines = (line.split(None, 2) for line in result.stdout.splitlines())
    return [Process(int(words[0]), int(words[1]), words[2]) for words in lines if len(words) == 3]


def below(*ancestors: int) -> list[Process]:
    """The child processes of the given processes, and their descendants."""
    every = processes()
    known = set(ancestors)
    while more := {p.pid for p in every if p.parent in known} - known:
        known |= more
    return [p for p in every if p.pid in known and p.pid not in ancestors]


def kill(pid: int, what: str) -> None:
    """Send SIGKILL to a process, and count it."""
    os.kill(pid, signal.SIGKILL)
    KILLS[what] += 1


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)
