"""Real faults in a streaming program: it loses its driver, its Java machine or its workers.

After each kill, the program starts again with the same checkpoint.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import drawn
import faults
import tables
from places import POISON
from pomona.encoder.encoder import Encoder
from spark_processes import environment, python_workers, virtual_machines
from streams import Stream

pytest.importorskip("pyspark", reason="streaming queries need PySpark")
pytestmark = [pytest.mark.spark, pytest.mark.long]


@pytest.fixture(scope="module")
def expected(
    encoder: Encoder, faulty_pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    """The rows of `extract`, without that of the empty file, which Spark's source leaves out."""
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    table = tmp_path_factory.mktemp("right") / "t"
    rows = faults.expected_table(faulty_pictures, table, encoder)
    return rows.filter(pc.not_equal(rows["status"], "empty"))


def kill(
    stream: Stream,
    what: str,
    victims: Callable[[int], list[int]],
    moment_s: float,
    expected: pa.Table,
) -> int:
    """Call `Stream.kill`, and check the rows that the program leaves; return its exit status."""
    status = stream.kill(
        what, victims, moment_s, at_end=lambda: assert_exactly_once(stream, expected)
    )
    faults.assert_consistent(stream.sink, expected)
    return status


def assert_exactly_once(stream: Stream, expected: pa.Table) -> None:
    """Assert that a program that has read all files wrote each row once, bit for bit."""
    assert tables.read(stream.sink).equals(expected)


def test_a_streaming_program_killed_again_and_again_loses_and_doubles_no_row(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    rng = random.Random(21)
    stream = Stream(tmp_path, faulty_pictures, encoder_file)
    for _ in range(faults.MOMENTS):
        for what, victims in (
            ("Java machine of a stream", virtual_machines),
            # The program starts again at once, while its old Java machine may still run.
            ("Python driver of a stream", lambda pid: [pid]),
        ):
            kill(stream, what, victims, rng.uniform(0, 4), expected)
    assert stream.run().returncode == 0
    assert_exactly_once(stream, expected)


def test_a_stream_that_loses_python_workers_again_and_again_loses_and_doubles_no_row(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    rng = random.Random(22)
    what = "Python worker of a stream"
    stream = Stream(tmp_path, faulty_pictures, encoder_file)
    for _ in range(faults.MOMENTS):
        kill(stream, what, python_workers, rng.uniform(0, 4), expected)
    assert stream.run().returncode == 0
    assert_exactly_once(stream, expected)


def test_a_stream_that_may_repeat_tasks_survives_the_loss_of_a_python_worker(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    rng = random.Random(23)
    what = "Python worker of a stream that repeats tasks"
    repeats = {"spark.master": "local[2,4]"}
    for number in range(max(1, faults.MOMENTS // 2)):
        folder = tmp_path / str(number)
        stream = Stream(folder, faulty_pictures, encoder_file, settings=repeats)
        assert kill(stream, what, python_workers, rng.uniform(0, 4), expected) == 0
        assert_exactly_once(stream, expected)


def test_a_stream_that_an_image_stops_continues_if_it_is_isolated(
    tmp_path: Path, encoder_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for seed, height in enumerate((30, 13, 31)):  # 13: see tests/poison
        content = drawn.encode(drawn.picture(20, height, seed), "PNG")
        (inbox / f"{seed}.png").write_bytes(content)
    stream = Stream(tmp_path, inbox, encoder_file)
    python_path = os.pathsep.join([str(POISON), environment()["PYTHONPATH"]])
    monkeypatch.setitem(stream.env, "PYTHONPATH", python_path)
    assert stream.run().returncode == 1
    assert stream.run("--isolated").returncode == 0
    assert {name: row["status"] for name, row in tables.rows(stream.sink).items()} == {
        "0.png": "ok",
        "1.png": "crashed",
        "2.png": "ok",
    }
