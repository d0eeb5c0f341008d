"""The Spark session of a run: the caller's if one is active, else Pomona's own."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.errors import EngineError
from pomona.extras import check_extra, install_command
from pomona.messages import one_line
from pomona.spark.errors import ignore_lost_jvm
from pomona.spark.session.connect import borrowed, connect_url, connected, without_token
from pomona.spark.session.start import started

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "active_session",
    "check_spark",
    "clone",
    "functions_of",
    "has_workers_here",
    "is_connect",
    "session",
]

_MASTER = re.compile(r"(local(-cluster)?(\[.*\])?|yarn)$")

_JOB_SETTINGS = {
    # The embedded engine's type. Spark's default is still INT96.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Spark 4's default. 3.5 fails on a file of 1601, where Windows' clock begins.
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    # Shares of a wave are broadcast once the tasks of another leave a core free.
    "spark.sql.broadcastTimeout": "-1",
}


def is_connect(spark: Any) -> bool:
    """Whether a session is Spark Connect's; asking for its class would import gRPC."""
    return any(kind.__module__.startswith("pyspark.sql.connect.") for kind in type(spark).__mro__)


def has_workers_here(spark: SparkSession) -> bool:
    """Whether all workers of a classic session run on the driver's machine: `local[...]`."""
    return str(spark.sparkContext.master).startswith("local")


def functions_of(spark: Any) -> Any:
    """PySpark's functions for a session: a process may have classic and Connect sessions."""
    if is_connect(spark):
        from pyspark.sql.connect import functions as connect_functions

        return connect_functions
    from pyspark.sql import functions

    return functions


def check_spark(given: SparkSession | None, master: str | None) -> None:
    """Check that Spark can run here, before anything is started.

    Raises:
        EngineError: PySpark, gRPC or Java is missing, or the master is invalid.
    """
    check_extra("spark", "the Spark engine needs PySpark", "pyspark", error=EngineError)
    import pyspark

    if is_connect(given) or connect_url(master) or is_connect(active_session()):
        try:
            import pyspark.sql.connect.session  # noqa: F401 - this imports gRPC
        except ImportError as error:
            raise EngineError(
                f"Spark Connect needs more than PySpark ({one_line(error, 100)}): "
                f"{install_command('connect')}"
            ) from error
        return
    if master and "://" not in master and not _MASTER.match(master):
        raise EngineError(
            f"invalid `master` {master!r}: expected local[N], spark://HOST:PORT, yarn, k8s://URL "
            "or, for Spark Connect, sc://HOST:PORT"
        )
    home = os.environ.get("JAVA_HOME")
    has_home = bool(home) and Path(str(home), "bin", "java").exists()
    if home and not has_home and given is None and active_session() is None:
        raise EngineError(
            f"JAVA_HOME is {home}, which has no bin/java: set it to the folder of Java 17 or "
            "later, or unset it"
        )
    if not (shutil.which("java") or has_home):
        raise EngineError(
            "the Spark engine needs Java 17 or later: install a runtime, such as Debian's "
            "openjdk-17-jre-headless, or set JAVA_HOME"
        )


@contextmanager
def session(given: SparkSession | None, master: str | None) -> Iterator[SparkSession]:
    """Yield a session whose SQL settings may be changed.

    If the caller's session is a classic one, the session is a clone that shares its SparkContext.
    If it is of Spark Connect, it is used itself, and its settings are restored on exit. If no
    session is active, one is started, and stopped on exit.

    Args:
        given: the caller's session; by default the active one.
        master: the master of a session that Pomona starts.

    Raises:
        EngineError: Spark cannot start, or is active with another master.
    """
    active = given or active_session()
    if active is not None:
        _check_master(active, master)
        if is_connect(active):
            with borrowed(active, _JOB_SETTINGS) as ours:
                yield ours
        else:
            with _cloned(active) as ours:
                yield ours
    elif url := connect_url(master):
        with connected(url, _JOB_SETTINGS) as ours:
            yield ours
    else:
        with started(master) as own, _cloned(own) as ours:
            yield ours


def active_session() -> SparkSession | None:
    """Return the session that the caller has running, whichever thread started it, or None."""
    from pyspark.sql import SparkSession as Session
    from pyspark.sql.utils import is_remote

    active = Session.getActiveSession()
    if active is None and not is_remote():
        from pyspark import SparkContext

        if SparkContext._active_spark_context is not None:
            return Session.builder.getOrCreate()  # of another thread, or a bare context: not ours
    # PySpark imports this module when it starts a Spark Connect session.
    connect: Any = sys.modules.get("pyspark.sql.connect.session")
    if active is None and connect is not None:
        # Each thread has its own active session. The default session is the process's.
        default: SparkSession | None = connect.SparkSession._get_default_session()
        return default
    return active


def _check_master(active: SparkSession, master: str | None) -> None:
    if master is None:
        return
    if is_connect(active):
        raise EngineError(
            f"a Spark Connect session is active here: leave master {without_token(master)} out, or "
            "stop it first"
        )
    running = active.sparkContext.master
    if master != running:
        raise EngineError(
            f"Spark is already running here on {running}: leave master {without_token(master)} "
            "out, or stop that session first"
        )


@contextmanager
def _cloned(active: SparkSession) -> Iterator[SparkSession]:
    """Clone a session: it inherits the caller's settings, and its own do not reach the caller's."""
    kind, jvm = type(active), active.sparkContext._jvm
    before: Any = kind._activeSession or active
    ours = clone(active)
    for key, value in _JOB_SETTINGS.items():
        ours.conf.set(key, value)
    try:
        yield ours
    finally:  # some calls of PySpark make the session they are called on the active one
        kind._activeSession = before
        with ignore_lost_jvm():
            sessions = getattr(jvm, active._jsparkSession.getClass().getName())
            sessions.setActiveSession(before._jsparkSession)


def clone(spark: SparkSession) -> SparkSession:
    """Return a classic session on the same SparkContext, with a copy of the settings."""
    return type(spark)(spark.sparkContext, spark._jsparkSession.cloneSession())
