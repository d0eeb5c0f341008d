"""Fixtures: one encoder for the whole session, folders of drawn pictures, one Spark session."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

import drawn
import faults
import pomona
from places import SHARED_DATA
from pomona.building.build import build_encoder
from pomona.encoder.encoder import Encoder
from pomona.job.summary import Summary

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# No test result depends on timing, because machines may be busy.
settings.register_profile("pomona", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pomona")

JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""Without the optimizing compiler, the Spark tests take a quarter less CPU time."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case of raw bytes by its argument, because xdist needs equal names in all processes.

    Bytes may hold the time at which they were packed, and no reader learns anything from them.
    """
    return argname if isinstance(val, bytes) and not val.isalnum() else None


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache encoders that tests build in a folder of this session."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["POMONA_CACHE"] = str(folder)
    yield folder
    del os.environ["POMONA_CACHE"]


@pytest.fixture(scope="session")
def encoder(cache: Path) -> Encoder:  # noqa: ARG001 - built into the cache of the session
    """The encoder of the goldens: MobileNetV2 with seeded weights, built by Keras on OpenVINO."""
    return build_encoder("mobilenet_v2", "untrained:7")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A tree of 14 files in 3 class folders: 11 valid pictures and 3 invalid files."""
    return drawn.tree(tmp_path / "pictures")


@pytest.fixture(scope="session")
def faulty_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """241 files for runs with faults: pictures, some broken, some duplicate, one empty."""
    return faults.draw(tmp_path_factory.mktemp("faults") / "pictures")


@pytest.fixture(scope="session")
def encoder_file(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder as a file, for command lines."""
    path = tmp_path_factory.mktemp("encoder") / "encoder"
    encoder.save(path)
    return path


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session as a caller would create it, without any setting of Pomona's."""
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    from pyspark.sql import SparkSession as Session

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        Session.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.extraJavaOptions", JAVA)
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
    del os.environ["PYSPARK_PYTHON"]


@pytest.fixture
def remote(spark: SparkSession, tmp_path: Path) -> str:
    """A URI of Hadoop's view file system, which maps to a folder of this machine."""
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    configuration.set("fs.viewfs.mounttable.test.link./data", f"file://{tmp_path}")
    configuration.set("fs.viewfs.impl.disable.cache", "true")
    return "viewfs://test/data"


@pytest.fixture(
    params=["local", *(pytest.param(name, marks=pytest.mark.spark) for name in ("spark", "hadoop"))]
)
def extract(
    request: pytest.FixtureRequest, encoder: Encoder, tmp_path: Path
) -> Callable[..., Summary]:
    """The main job on each engine, and into a table on a Hadoop file system."""
    if request.param == "local":
        return lambda *args, **more: pomona.extract(
            *args, encoder=encoder, **more, engine=pomona.LocalEngine(workers=2)
        )
    pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
    spark = request.getfixturevalue("spark")
    there = request.getfixturevalue("remote") if request.param == "hadoop" else tmp_path

    def run(source: object, table: Path, **more: object) -> Summary:
        return pomona.extract(
            source,
            f"{there}/{table.name}",
            encoder=encoder,
            **more,
            engine=pomona.SparkEngine(spark=spark),
        )

    return run


@pytest.fixture(scope="session")
def connect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Spark Connect server, which PySpark includes."""
    pytest.importorskip("grpc", reason="Spark Connect needs gRPC: pip install '.[connect]'")
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    import pyspark

    under_test = Path(pomona.__file__).parent.parent  # for its workers, which start elsewhere
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # A file system that only the server can reach, mapped to a folder of this machine.
        "spark.hadoop.fs.viewfs.mounttable.far.link./root": "file:///",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("connect-warehouse")),
        "spark.ui.enabled": "false",
    }
    server = subprocess.Popen(
        [
            Path(pyspark.__file__).with_name("bin") / "spark-submit",
            *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
            *("--driver-java-options", JAVA),
            *("--master", "local[2]"),
            *(word for item in settings.items() for word in ("--conf", "=".join(item))),
            "spark-internal",
        ],
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(under_test)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout
    log, pattern = [], re.compile(r"Spark Connect server started at: \S+:(\d+)")
    for line in server.stdout:
        log.append(line)
        if started := pattern.search(line):
            break
    else:
        pytest.fail("the Spark Connect server did not start:\n" + "".join(log[-20:]))
    # Without a reader, a full pipe would block the server.
    reader = threading.Thread(target=server.stdout.read, daemon=True)
    reader.start()
    yield f"sc://127.0.0.1:{started[1]}"
    server.terminate()
    server.wait()
    reader.join()
    server.stdout.close()


@pytest.fixture
def connect(connect_server: str) -> Iterator[SparkSession]:
    """A Spark Connect session as a caller would create it."""
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    session = ConnectSession.builder.remote(connect_server).create()
    yield session
    session.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, real weights and reference vectors, if they are on this machine."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return SHARED_DATA


def pytest_configure() -> None:
    """Restore the handling of Ctrl-C, which a shell disables for background processes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass this worker's count of kills that hit a process to the main process."""
    if output := getattr(session.config, "workeroutput", None):
        output["landed"] = dict(faults.KILLS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up the counts of the worker processes."""
    faults.KILLS.update(node.workeroutput["landed"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many kills hit a running process."""
    if faults.KILLS:
        terminalreporter.section("kills that met a process at work")
        for what, times in sorted(faults.KILLS.items()):
            terminalreporter.line(f"{times:4d}  {what}")
