"""Real faults on Spark: losing a driver, executors, Python workers and a whole machine."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

import faults
import pomona
from pomona.encoder.encoder import Encoder
from spark_processes import environment, python_workers, submit_settings

pyspark = pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
pytestmark = pytest.mark.spark

WAVE = ["--wave-files", "60"]  # 241 files: five waves


@pytest.fixture(scope="module")
def expected(
    encoder: Encoder, faulty_pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    return faults.expected_table(faulty_pictures, tmp_path_factory.mktemp("right") / "t", encoder)


class Cluster:
    """A standalone cluster on the loopback interface: a master, and workers with one core each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.master = "spark://127.0.0.1:" + str(free_port())
        self._processes: list[subprocess.Popen[bytes]] = []
        host, port = self.master.removeprefix("spark://").split(":")
        self._start("master.Master", "--host", host, "--port", port, "--webui-port", "0")
        faults.wait_for(lambda: "New state: ALIVE" in self.log("master.Master"))
        # Spark speculates on another host only.
        self.workers = [self.add_worker(), self.add_worker("127.0.0.2")]

    def add_worker(self, host: str = "127.0.0.1") -> subprocess.Popen[bytes]:
        arguments = ["--host", host, "--webui-port", "0", "--cores", "1", "--memory", "1g"]
        before = self.log("master.Master").count("Registering worker")
        work = ["--work-dir", str(self.folder / "work")]
        worker = self._start("worker.Worker", *arguments, *work, self.master)
        faults.wait_for(lambda: self.log("master.Master").count("Registering worker") > before)
        return worker

    def log(self, what: str) -> str:
        return (self.folder / f"{what}.log").read_text(errors="replace")

    def executors(self) -> list[int]:
        """The processes that run tasks."""
        below = faults.below(*(worker.pid for worker in self.workers))
        return [p.pid for p in below if "ExecutorBackend" in p.command]

    def python_workers(self) -> list[int]:
        """The processes that the executors' Python daemons forked."""
        return python_workers(*(worker.pid for worker in self.workers))

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{what}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    Path(pyspark.__file__).with_name("bin") / "spark-class",
                    f"org.apache.spark.deploy.{what}",
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                env={**environment(), "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": "127.0.0.1"},
            )
        self._processes.append(process)
        return process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.stop()


def command(
    pictures: Path, table: Path, encoder_file: Path, master: str, *others: str
) -> list[str]:
    more = ["--encoder", str(encoder_file), "--master", master, *WAVE, *others]
    return [*faults.COMMAND, "extract", str(pictures), str(table), *more]


def kill_during(
    run: list[str],
    what: str,
    victims: Callable[[int], list[int]],
    moment_s: float,
    *,
    and_all_below: bool = False,
) -> bool:
    """Run a command to its end, and kill one of its helper processes while it runs.

    Args:
        run: the command; it must succeed.
        what: the name under which the kill is counted.
        victims: returns the helper processes that exist, given the command's process id.
        moment_s: seconds to wait after the first victim appears.
        and_all_below: first kill the victim's own child processes.

    Returns:
        Whether a victim existed at that moment.
    """
    struck: list[int] = []

    def kill_one() -> None:
        while process.poll() is None and not victims(process.pid):
            time.sleep(0.1)
        time.sleep(moment_s)
        if process.poll() is None and (candidates := victims(process.pid)):
            struck.append(random.Random(moment_s).choice(candidates))
            for process_below in faults.below(struck[0]) if and_all_below else []:
                os.kill(process_below.pid, signal.SIGKILL)
            faults.kill(struck[0], what)

    with faults.running(run, env=submit_settings()) as process:
        striker = threading.Thread(target=kill_one)
        striker.start()
        _, errors = process.communicate(timeout=240)
        striker.join()
    assert process.returncode == 0, errors
    return bool(struck)


def kill_until_it_lands(
    run: list[str],
    table: Path,
    what: str,
    victims: Callable[[int], list[int]],
    moment_s: float,
) -> None:
    """Call `kill_during`, and try earlier moments until a victim exists."""
    while not kill_during(run, what, victims, moment_s):
        shutil.rmtree(table)
        moment_s *= 0.7


def kill_driver(run: list[str], table: Path, moment_s: float) -> None:
    """Kill a run `moment_s` after it starts to write, or earlier if it ends before that."""
    while True:
        with faults.running(run, env=submit_settings()) as process:
            faults.wait_for(lambda: list(table.glob("_staging-*")), 120)
            try:
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                faults.kill(process.pid, "Spark driver")
                return
        shutil.rmtree(table)
        moment_s *= 0.7


@pytest.mark.long
@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_a_killed_driver_loses_no_row_and_either_engine_continues(
    expected: pa.Table,
    encoder: Encoder,
    faulty_pictures: Path,
    tmp_path: Path,
    encoder_file: Path,
    kind: str,
) -> None:
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    rng = random.Random(11)
    for number in range(faults.MOMENTS):
        table = tmp_path / f"t{number}"
        run = command(faulty_pictures, table, encoder_file, "local[2]", "--format", kind)
        kill_driver(run, table, rng.uniform(0, 12))
        faults.assert_consistent(table, expected)
        # Start at once, while the JVM of the killed driver may still run.
        if number % 2:
            subprocess.run(run, env=submit_settings(), capture_output=True, check=True)
        else:
            pomona.extract(
                faulty_pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1)
            )
        faults.wait_for(lambda table=table: not faults.strange_suffixes(table), 20)
        faults.assert_complete(table, expected)


@pytest.mark.long
def test_killed_executors_lose_no_row(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    rng = random.Random(12)
    for number in range(faults.MOMENTS):
        table = tmp_path / f"t{number}"
        run = command(faulty_pictures, table, encoder_file, cluster.master)
        kill_until_it_lands(
            run, table, "Spark executor", lambda _: cluster.executors(), rng.uniform(0, 6)
        )
        faults.assert_complete(table, expected)


@pytest.mark.long
def test_python_workers_killed_as_if_out_of_memory_lose_no_row(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    rng = random.Random(13)
    kinds = (("local[2]", python_workers), (cluster.master, lambda _: cluster.python_workers()))
    for number in range(faults.MOMENTS):
        for master, victims in kinds if faults.MOMENTS > 1 else kinds[:1]:
            table = tmp_path / f"t{number}{re.sub('[^a-z]', '', master)}"
            run = command(faulty_pictures, table, encoder_file, master)
            what = "Python worker of Spark"
            kill_until_it_lands(run, table, what, victims, rng.uniform(0, 6))
            faults.assert_complete(table, expected)


@pytest.mark.long
def test_a_lost_machine_loses_no_row(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    rng = random.Random(14)
    for number in range(max(1, faults.MOMENTS // 4)):
        lost = cluster.add_worker()
        table = tmp_path / f"t{number}"

        def machine(_: int, lost: subprocess.Popen[bytes] = lost, table: Path = table) -> list[int]:
            """The worker, once it has work and the table has rows."""
            at_work = faults.below(lost.pid) and list(table.glob("*.parquet"))
            return [lost.pid] if at_work else []

        run = command(faulty_pictures, table, encoder_file, cluster.master)
        moment = rng.uniform(0, 1)
        assert kill_during(run, "machine of Spark", machine, moment, and_all_below=True)
        faults.assert_complete(table, expected)


@pytest.mark.long
def test_a_task_that_spark_runs_twice_doubles_no_row(
    expected: pa.Table, faulty_pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    """A worker stops in a task: the run ends only if another one does the same task."""
    stopped: list[int] = []
    table, work = tmp_path / "t", cluster.folder / "work"
    before = set(work.glob("*/*/stderr"))

    def stop_one() -> None:
        while process.poll() is None and not list(table.glob("_staging-*/wave-*/*")):
            time.sleep(0.02)
        stopped.extend(cluster.python_workers()[:1])
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    speculation = {
        "spark.speculation": "true",
        "spark.speculation.interval": "200ms",
        "spark.speculation.task.duration.threshold": "3s",  # a wave here has one task
    }
    run = command(faulty_pictures, table, encoder_file, cluster.master)
    try:
        with faults.running(run, env=submit_settings(speculation)) as process:
            stopper = threading.Thread(target=stop_one)
            stopper.start()
            _, errors = process.communicate(timeout=120)
            stopper.join()
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):  # its executor has ended
                os.kill(pid, signal.SIGCONT)
    assert process.returncode == 0, errors
    logs = set(work.glob("*/*/stderr")) - before
    assert any("Running task 0.1 in stage" in log.read_text() for log in logs)
    faults.assert_complete(table, expected)
