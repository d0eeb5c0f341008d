"""Getting a Spark session: the caller's as it is, or one of our own that is stopped again."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.errors import EngineError, UsageError
from pomona.extras import check_extra, install_command
from pomona.io.location import cache_folder
from pomona.messages import one_line
from pomona.spark.errors import cause_in_log, cause_of
from pomona.spark.session.class_archive import archive_options
from pomona.spark.session.local_settings import has_java_options, master_in_settings

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
    "unless_the_jvm_has_gone",
]

_log = logging.getLogger(__name__)

_MASTER = re.compile(r"(local(-cluster)?(\[.*\])?|yarn)$")

_CONFIG = {
    "spark.app.name": "pomona",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",  # our own bar shows images, not tasks
    "spark.log.level": "ERROR",
}

# The JVM of local[...] only moves bytes, and shares its cores with the Python workers, which do the
# work. Without the concurrent collector's threads 2,000 images on two cores take 23 s, not 26.
# Without the optimizing compiler's the JVM uses 10 to 18 s less of the cores for 8,000.
_LOCAL_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"

_JOB_CONFIG = {
    # As the embedded engine writes them, not as the INT96 that Spark still defaults to.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # As Spark 4 does: 3.5 gives up over a file of 1601, where Windows' clock begins.
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
}


_CONNECT_WITHIN_S = 20


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
    """Find out, before anything is started, whether Spark can run here.

    Raises:
        EngineError: PySpark or what it needs is missing.
    """
    check_extra("spark", "the Spark engine needs PySpark", "pyspark", error=EngineError)
    import pyspark

    if is_connect(given) or _connect_url(master) or is_connect(active_session()):
        try:
            import pyspark.sql.connect.session  # noqa: F401 - which imports gRPC
        except ImportError as error:
            raise EngineError(
                f"Spark Connect needs more than PySpark ({one_line(error, 100)}): "
                f"{install_command('connect')}"
            ) from error
        return
    if master and "://" not in master and not _MASTER.match(master):
        raise EngineError(
            f"`master` {master} is no master of Spark's: give local[N], spark://HOST:PORT, yarn, "
            "k8s://URL or, for Spark Connect, sc://HOST:PORT"
        )
    home = os.environ.get("JAVA_HOME")
    has_home = bool(home) and Path(str(home), "bin", "java").exists()
    if home and not has_home and given is None and active_session() is None:
        raise EngineError(
            f"JAVA_HOME is {home}, which has no bin/java: let it name the folder of Java 17 or "
            "later, or unset it"
        )
    if not (shutil.which("java") or has_home):
        raise EngineError(
            "the Spark engine needs Java 17 or later: install a runtime, such as Debian's "
            "openjdk-17-jre-headless, or set JAVA_HOME"
        )


@contextmanager
def session(given: SparkSession | None, master: str | None) -> Iterator[SparkSession]:
    """Give a session whose SQL settings may be changed.

    A classic one shares the SparkContext of the caller's session and has a copy of its settings.
    Spark Connect's is the caller's own, and gets its settings back in the end. Where no session is
    active, one is started, and stopped in the end.

    Args:
        given: the caller's session; by default the active one.
        master: for a session of our own.

    Raises:
        EngineError: Spark cannot start, or is active with another master.
    """
    active = given or active_session()
    if active is not None:
        _check_master(active, master)
        with _borrowed(active) if is_connect(active) else _cloned(active) as ours:
            yield ours
    elif url := _connect_url(master):
        with _connected(url) as ours:
            yield ours
    else:
        with _started(master) as ours:
            yield ours


def active_session() -> SparkSession | None:
    """The session that a caller's code has running, whatever thread started it."""
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
            f"a Spark Connect session is active here: leave master {_shown(master)} out, or stop "
            "it first"
        )
    running = active.sparkContext.master
    if master != running:
        raise EngineError(
            f"Spark is already running here on {running}: leave master {_shown(master)} out, "
            "or stop that session first"
        )


def _connect_url(master: str | None) -> str | None:
    """The address of a Spark Connect server, where that is what was asked for."""
    url = master or os.environ.get("SPARK_REMOTE", "")
    return url if url.startswith("sc://") else None


def _shown(url: str) -> str:
    """The address as it may be shown: its parameters may hold a token."""
    return url.partition("/;")[0]


@contextmanager
def _connected(url: str) -> Iterator[SparkSession]:
    """A session of our own on a Spark Connect server."""
    import grpc
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as Session

    try:
        # The session itself would try for ten minutes.
        channel = DefaultChannelBuilder(url).toChannel()
        grpc.channel_ready_future(channel).result(timeout=_CONNECT_WITHIN_S)
        channel.close()
        ours: Any = Session.builder.remote(url).create()
        _set(ours, _JOB_CONFIG)
    except grpc.FutureTimeoutError as error:
        raise EngineError(
            f"no Spark Connect server answers at {_shown(url)} within {_CONNECT_WITHIN_S} s: "
            "is it running, and is the port right (15002 by default)?"
        ) from error
    except (PySparkException, grpc.RpcError) as error:
        raise EngineError(f"cannot connect to {_shown(url)}: {one_line(error)}") from error
    try:
        yield ours
    finally:
        ours.stop()


@contextmanager
def _borrowed(active: SparkSession) -> Iterator[SparkSession]:
    """The caller's Spark Connect session itself, since its artifacts and workers are its own."""
    from pyspark.errors import PySparkException

    before = active.conf.getAll
    _set(active, _JOB_CONFIG)
    try:
        yield active
    finally:
        try:
            after = active.conf.getAll
            for key in after.keys() - before.keys():
                active.conf.unset(key)
            _set(active, {key: value for key, value in before.items() if after.get(key) != value})
        except PySparkException as error:  # the server has gone, which the run has said
            _log.warning("the session's settings could not be restored: %s", error)


def _set(spark: SparkSession, config: dict[str, str]) -> None:
    for key, value in config.items():
        spark.conf.set(key, value)


@contextmanager
def _started(master: str | None) -> Iterator[SparkSession]:
    """A classic session of our own."""
    own = _start(master)
    try:
        with _cloned(own) as ours:
            yield ours
    except UsageError:
        raise
    except Exception:
        if log := _jvm_log.keep():
            _log.error("Spark's own log is in %s", log)
        raise
    finally:
        with unless_the_jvm_has_gone():
            own.stop()


class _JvmLog:
    """The file that takes what the JVM says which this process has started, and its workers.

    It must not come between the lines of the progress bar, nor must a reader of our standard output
    have to wait for the JVM's end. The JVM outlives sessions, so the file goes with the process,
    unless a run has failed.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def open(self) -> int:
        """Make the file; gives its descriptor."""
        descriptor, name = tempfile.mkstemp(prefix="pomona-spark-", suffix=".log")
        self._path = Path(name)
        atexit.register(self._remove, self._path)
        return descriptor

    def keep(self) -> Path | None:
        """Have the file stay; gives its path, or None where the JVM is not ours."""
        atexit.unregister(self._remove)
        return self._path

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)


_jvm_log = _JvmLog()


@contextmanager
def unless_the_jvm_has_gone() -> Iterator[None]:
    """Let cleaning up not hide what went wrong: where the JVM has died, the run has said so."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a call that a signal broke into leaves its answer
        _log.debug("Spark's JVM has gone: %s", error)


@contextmanager
def _cloned(active: SparkSession) -> Iterator[SparkSession]:
    """Clone a session: the caller's settings hold in ours, and ours stay out of the caller's."""
    kind, jvm = type(active), active.sparkContext._jvm
    before: Any = kind._activeSession or active
    ours = clone(active)
    _set(ours, _JOB_CONFIG)
    try:
        yield ours
    finally:  # some of PySpark's calls make the session that they are called on the active one
        kind._activeSession = before
        with unless_the_jvm_has_gone():
            sessions = getattr(jvm, active._jsparkSession.getClass().getName())
            sessions.setActiveSession(before._jsparkSession)


def clone(spark: SparkSession) -> SparkSession:
    """A classic session on the same SparkContext, with a copy of the settings."""
    return type(spark)(spark.sparkContext, spark._jsparkSession.cloneSession())


def _start(master: str | None) -> SparkSession:
    from pyspark.sql import SparkSession as Session

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has set what holds
    config = {} if submitted else dict(_CONFIG)
    if master is not None:
        config["spark.master"] = master
    # Where nobody names a master, Spark's own default is local[*].
    local = not submitted and (master or master_in_settings() or "local").startswith("local")
    python = sys.executable if local else None
    if local and not has_java_options():
        java = [_LOCAL_JAVA]
        with suppress(OSError):  # no place for an archive
            java.append(archive_options(cache_folder("jvm")))
        config["spark.driver.extraJavaOptions"] = " ".join(java)
    builder = Session.builder
    for key, value in config.items():
        builder = builder.config(key, value)
    try:
        with _workers_python(python):
            if not submitted:
                _start_jvm(config)
            return builder.getOrCreate()
    except Exception as error:  # py4j, PySpark and the JVM raise what they like
        log = _jvm_log.keep()
        reason = cause_of(str(error))
        if "stopped SparkContext" in reason:  # which Spark stops where it is refused
            reason = "no master answers there, or it is one of another version"
        if log and "JAVA_GATEWAY_EXITED" in reason:  # PySpark does not look why
            reason = cause_in_log(log.read_text(errors="replace")) or reason
        raise EngineError(
            f"Spark could not start{f' on {_shown(master)}' if master else ''} "
            f"({reason}){f'; its log is in {log}' if log else ''}"
        ) from error


def _start_jvm(config: dict[str, str]) -> None:
    """Start the JVM, unless a former session has left one, with its output going into a file.

    It gets a process group of its own: `timeout` and shells send SIGTERM to all of ours, and the
    JVM has to commit what is done. It ends with this process, which holds its standard input.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._gateway is None:
        conf = SparkConf().setAll(list(config.items()))
        launch: Any = launch_gateway  # which has no types
        with os.fdopen(_jvm_log.open(), "wb") as log, _names_in_utf8(), _signals_wait():
            gateway = launch(conf, {"stdout": log, "stderr": log, "process_group": 0})
            SparkContext._ensure_initialized(gateway=gateway)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the JVM's first word, some seconds.

    PySpark forgets a JVM that it is about to start, and that one then waits for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # to which no signal comes
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def _names_in_utf8() -> Iterator[None]:
    """Let the JVM find files whose names are not ASCII: in the locale C it would not.

    Python itself does where a locale is unset, and not where `LC_ALL` asks for C (PEP 538).
    """
    if (before := os.environ.get("LC_ALL")) not in {"C", "POSIX"}:
        yield
        return
    os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        os.environ["LC_ALL"] = before or ""


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
