"""Getting a Spark session: the caller's as it is, or one of our own that is stopped again."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pomona.errors import EngineError, RunError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["check_spark", "session"]

_log = logging.getLogger(__name__)

_CONFIG = {
    "spark.app.name": "pomona",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",  # our own bar shows images, not tasks
    "spark.log.level": "ERROR",
}

_LOCAL_CONFIG = {
    # The JVM of local[...] shares its cores with the Python workers, which do the work. Without the
    # concurrent collector's threads 2,000 images on two cores take 23 s, not 26.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
}

_JOB_CONFIG = {
    # As the embedded engine writes them, not as the INT96 that Spark still defaults to.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}


def check_spark() -> None:
    """Find out, before anything is started, whether Spark can run here.

    Raises:
        EngineError: PySpark or Java is missing.
    """
    try:
        import pyspark  # noqa: F401
    except ImportError as error:
        raise EngineError("the Spark engine needs PySpark: pip install 'pomona[spark]'") from error
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java") or (home and Path(home, "bin", "java").exists())):
        raise EngineError(
            "the Spark engine needs Java 17 or later: install a runtime, such as Debian's "
            "openjdk-17-jre-headless, or set JAVA_HOME"
        )


@contextmanager
def session(given: SparkSession | None, master: str | None) -> Iterator[SparkSession]:
    """Give a session whose SQL settings may be changed.

    It shares the SparkContext of the caller's session and has a copy of its settings. Where no
    session is active, one is started, and stopped in the end.

    Args:
        given: the caller's session; by default the active one.
        master: for a session of our own.

    Raises:
        EngineError: Spark cannot start, or is active with another master.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession as Session

    active = given or Session.getActiveSession()
    if active is None and SparkContext._active_spark_context is not None:
        active = Session.builder.getOrCreate()  # of another thread, or a bare context: not ours
    if active is not None:
        running = active.sparkContext.master
        if master is not None and master != running:
            raise EngineError(
                f"Spark is already running here on {running}: leave master {master} out, "
                "or stop that session first"
            )
        with _for_job(active) as ours:
            yield ours
        return
    descriptor, name = tempfile.mkstemp(prefix="pomona-spark-", suffix=".log")
    with os.fdopen(descriptor, "wb") as log:
        own = _start(master, log, name)
    failed = False
    try:
        with _for_job(own) as ours:
            yield ours
    except RunError:
        failed = True
        _log.error("Spark's own log is in %s", name)
        raise
    finally:
        own.stop()
        if not failed:
            Path(name).unlink()


@contextmanager
def _for_job(active: SparkSession) -> Iterator[SparkSession]:
    """Clone a session: the caller's settings hold in ours, and ours stay out of the caller's."""
    kind, jvm = type(active), active.sparkContext._jvm
    before: Any = kind._activeSession or active
    ours = kind(active.sparkContext, active._jsparkSession.cloneSession())
    for key, value in _JOB_CONFIG.items():
        ours.conf.set(key, value)
    try:
        yield ours
    finally:  # some of PySpark's calls make the session that they are called on the active one
        kind._activeSession = before
        sessions = getattr(jvm, active._jsparkSession.getClass().getName())
        sessions.setActiveSession(before._jsparkSession)


def _start(master: str | None, log: IO[bytes], name: str) -> SparkSession:
    from pyspark.sql import SparkSession as Session

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has set what holds
    builder = Session.builder
    if not submitted:
        for key, value in _CONFIG.items():
            builder = builder.config(key, value)
    if master is not None:
        builder = builder.master(master)
    local = master.startswith("local") if master else not submitted
    python = sys.executable if local else None
    if local and "PYSPARK_SUBMIT_ARGS" not in os.environ:
        for key, value in _LOCAL_CONFIG.items():
            builder = builder.config(key, value)
    try:
        with _stderr_into(log), _workers_python(python):
            return builder.getOrCreate()
    except Exception as error:  # py4j, PySpark and the JVM raise what they like
        reason = " ".join(str(error).split())[:200]
        raise EngineError(
            f"Spark could not start{f' on {master}' if master else ''} "
            f"({type(error).__name__}: {reason}); its log is in {name}"
        ) from error


@contextmanager
def _workers_python(executable: str | None) -> Iterator[None]:
    """Let workers on this machine run this very Python, which need not be the PATH's `python3`."""
    if executable is None or "PYSPARK_PYTHON" in os.environ:
        yield
        return
    os.environ["PYSPARK_PYTHON"] = executable
    try:
        yield
    finally:
        del os.environ["PYSPARK_PYTHON"]


@contextmanager
def _stderr_into(log: IO[bytes]) -> Iterator[None]:
    """Let a process that is started here inherit a file as its stderr.

    The JVM and the Python workers below it write there for as long as they live, and not through
    the progress bar.
    """
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
