"""Real faults on Spark: a driver, executors, Python workers and a whole machine go away."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import faults
import pomona
from pomona.encoder.blob import Encoder

pyspark = pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
pytestmark = pytest.mark.spark

SUBMIT = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.memory": "512m",
    "spark.deploy.maxExecutorRetries": "-1",
}
WAVE = ["--wave-files", "60"]  # of 241 files: five waves


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.draw(tmp_path_factory.mktemp("faults") / "pictures")


@pytest.fixture(scope="module")
def encoder_file(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "encoder"
    encoder.save(path)
    return path


@pytest.fixture(scope="module")
def expected(
    encoder: Encoder, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    return faults.made_anew(pictures, tmp_path_factory.mktemp("right") / "t", encoder)


def environment() -> dict[str, str]:
    under_test = str(Path(pomona.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": under_test, "PYSPARK_PYTHON": sys.executable}


class Cluster:
    """A standalone cluster on the loopback interface: a master, and workers of one core each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.master = "spark://127.0.0.1:" + str(free_port())
        self._processes: list[subprocess.Popen[bytes]] = []
        host, port = self.master.removeprefix("spark://").split(":")
        self._start("master.Master", "--host", host, "--port", port, "--webui-port", "0")
        faults.wait_for(lambda: "New state: ALIVE" in self.log("master.Master"))
        self.workers = [self.add_worker(), self.add_worker()]

    def add_worker(self) -> subprocess.Popen[bytes]:
        arguments = ["--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", "1g"]
        before = self.log("master.Master").count("Registering worker")
        work = ["--work-dir", str(self.folder / "work")]
        worker = self._start("worker.Worker", *arguments, *work, self.master)
        faults.wait_for(lambda: self.log("master.Master").count("Registering worker") > before)
        return worker

    def log(self, what: str) -> str:
        return (self.folder / f"{what}.log").read_text(errors="replace")

    def executors(self) -> list[int]:
        """The processes in which tasks run."""
        workers = {worker.pid for worker in self.workers}
        return faults.processes(
            lambda _, parent, line: parent in workers and "ExecutorBackend" in line
        )

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


def command(pictures: Path, table: Path, encoder_file: Path, master: str) -> list[str]:
    more = ["--encoder", str(encoder_file), "--master", master, *WAVE]
    return [*faults.COMMAND, "extract", str(pictures), str(table), *more]


def submit_settings() -> dict[str, str]:
    words = " ".join(f"--conf {key}={value}" for key, value in SUBMIT.items())
    return {**environment(), "PYSPARK_SUBMIT_ARGS": f"{words} pyspark-shell"}


def strike_during(
    run: list[str], victims: Callable[[], list[int]], rng: random.Random
) -> tuple[int, str]:
    """Run a command, kill one of its helpers at a random moment; gives exit code and stderr."""
    struck: list[int] = []

    def strike() -> None:
        while process.poll() is None and not victims():
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 6))
        if found := victims():
            struck.append(rng.choice(found))
            faults.kill(struck[0])

    with faults.running(run, env=submit_settings()) as process:
        striker = threading.Thread(target=strike)
        striker.start()
        _, said = process.communicate(timeout=240)
        striker.join()
    return process.returncode, said


def python_workers() -> list[int]:
    """The processes that Spark's Python daemons forked."""
    daemons = faults.processes(lambda _pid, _parent, line: "pyspark.daemon" in line)
    return faults.processes(lambda _pid, parent, _line: parent in daemons)


def test_a_killed_driver_costs_no_row_and_either_engine_goes_on(
    expected: pa.Table, encoder: Encoder, pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    rng = random.Random(11)
    for number in range(faults.SPARK_MOMENTS):
        table = tmp_path / f"t{number}"
        run = command(pictures, table, encoder_file, "local[2]")
        with faults.running(run, env=submit_settings()):
            faults.wait_for(lambda table=table: list(table.glob("_staging-*")), 120)
            time.sleep(rng.uniform(0, 12))
        faults.assert_sound(table, expected)
        # At once, while the killed driver's JVM may still be there.
        if number % 2:
            subprocess.run(run, env=submit_settings(), capture_output=True, check=True)
        else:
            pomona.extract(pictures, table, encoder=encoder)
        faults.wait_for(
            lambda table=table: {path.suffix for path in table.iterdir()} == {".parquet"}, 20
        )
        faults.assert_whole(table, expected)


def test_killed_executors_cost_no_row(
    expected: pa.Table, pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    rng = random.Random(12)
    for number in range(faults.SPARK_MOMENTS):
        table = tmp_path / f"t{number}"
        run = command(pictures, table, encoder_file, cluster.master)
        code, said = strike_during(run, cluster.executors, rng)
        assert code == 0, said
        faults.assert_whole(table, expected)


def test_python_workers_that_are_killed_as_for_memory_cost_no_row(
    expected: pa.Table, pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    rng = random.Random(13)
    for number in range(faults.SPARK_MOMENTS):
        for master in (cluster.master, "local[2]"):
            table = tmp_path / f"t{number}{re.sub('[^a-z]', '', master)}"
            run = command(pictures, table, encoder_file, master)
            code, said = strike_during(run, python_workers, rng)
            assert code == 0, said
            faults.assert_whole(table, expected)


def test_a_machine_that_goes_away_costs_no_row(
    expected: pa.Table, pictures: Path, tmp_path: Path, encoder_file: Path, cluster: Cluster
) -> None:
    lost = cluster.add_worker()
    run = command(pictures, tmp_path / "t", encoder_file, cluster.master)

    def machine() -> list[int]:
        """The worker and, with it, its executor and all below."""
        return [lost.pid] if list((tmp_path / "t").glob("*.parquet")) else []

    below: list[int] = []

    def victims() -> list[int]:
        if found := machine():
            below[:] = faults.processes(lambda _pid, parent, _line: parent == lost.pid)
            for pid in below:
                faults.kill(pid)
        return found

    code, said = strike_during(run, victims, random.Random(14))
    assert code == 0, said
    assert below
    faults.assert_whole(tmp_path / "t", expected)
