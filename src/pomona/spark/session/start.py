"""Starting a classic Spark session, with a JVM whose output goes into a log file."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.errors import EngineError, UsageError
from pomona.io.location import cache_folder
from pomona.spark.errors import cause_in_log, cause_of, ignore_lost_jvm
from pomona.spark.session.class_archive import archive_options
from pomona.spark.session.connect import without_token
from pomona.spark.session.local_settings import has_java_options, master_in_settings
from pomona.spark.signals import delayed_signals

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["started"]

_log = logging.getLogger(__name__)

_CONFIG = {
    "spark.app.name": "pomona",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",  # Pomona's bar shows images, not tasks
    "spark.log.level": "ERROR",
}

# The JVM of local[...] only moves bytes, and shares its cores with the Python workers, which do the
# work. Without threads of the concurrent collector, 2,000 images on two cores take 23 s, not 26.
# Without threads of the optimizing compiler, the JVM uses 10 to 18 s less CPU time for 8,000.
_LOCAL_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


@contextmanager
def started(master: str | None) -> Iterator[SparkSession]:
    """Start a classic session, and stop it on exit.

    Raises:
        EngineError: Spark cannot start.
    """
    session = _start(master)
    try:
        yield session
    except UsageError:
        raise
    except Exception:
        if log := _jvm_log.keep():
            _log.error("Spark's own log is in %s", log)
        raise
    finally:
        with ignore_lost_jvm():
            session.stop()


class _JvmLog:
    """The file with the output of the JVM that this process starts, and of its workers.

    The output must not break the progress bar, and a reader of our standard output must not wait
    for the JVM to end. The JVM outlives sessions, so the file is deleted when the process ends,
    unless a run failed.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def open(self) -> int:
        """Create the file, and return its descriptor."""
        descriptor, name = tempfile.mkstemp(prefix="pomona-spark-", suffix=".log")
        self._path = Path(name)
        atexit.register(self._remove, self._path)
        return descriptor

    def keep(self) -> Path | None:
        """Keep the file, and return its path, or None if this process started no JVM."""
        atexit.unregister(self._remove)
        return self._path

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)


_jvm_log = _JvmLog()


def _start(master: str | None) -> SparkSession:
    from pyspark.sql import SparkSession as Session

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has made the settings
    config = {} if submitted else dict(_CONFIG)
    if master is not None:
        config["spark.master"] = master
    # Without a master, Spark's own default is local[*].
    local = not submitted and (master or master_in_settings() or "local").startswith("local")
    if local and not has_java_options():
        java = [_LOCAL_JAVA]
        with suppress(OSError):  # no folder for an archive
            java.append(archive_options(cache_folder("jvm")))
        config["spark.driver.extraJavaOptions"] = " ".join(java)
    builder = Session.builder
    for key, value in config.items():
        builder = builder.config(key, value)
    # Workers on this machine run this Python, which may not be the PATH's `python3`.
    python = {"PYSPARK_PYTHON": sys.executable}
    try:
        with _environment(python if local and "PYSPARK_PYTHON" not in os.environ else {}):
            if not submitted:
                _start_jvm(config)
            return builder.getOrCreate()
    except Exception as error:  # py4j, PySpark and the JVM have no common exception
        log = _jvm_log.keep()
        reason = cause_of(str(error))
        if "stopped SparkContext" in reason:  # Spark stops its context if the master refuses it
            reason = "no master answers there, or its version of Spark is another one"
        if log and "JAVA_GATEWAY_EXITED" in reason:  # PySpark gives no cause
            reason = cause_in_log(log.read_text(errors="replace")) or reason
        raise EngineError(
            f"Spark could not start{f' on {without_token(master)}' if master else ''} "
            f"({reason}){f'; its log is in {log}' if log else ''}"
        ) from error


def _start_jvm(config: dict[str, str]) -> None:
    """Start the JVM with its output in a file, unless an earlier session has left one running.

    The JVM gets its own process group: `timeout` and shells send SIGTERM to all of ours, and the
    JVM must still commit finished work. It ends with this process, which holds its standard input.
    A signal that interrupts PySpark here would leave a JVM that waits for ever.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._gateway is not None:
        return
    conf = SparkConf().setAll(list(config.items()))
    launch: Any = launch_gateway  # it has no types
    # In the locale C, Java finds no files whose names are not ASCII. Python uses UTF-8 by itself
    # if the locale is unset, but not if `LC_ALL` is C (PEP 538).
    is_ascii = os.environ.get("LC_ALL") in {"C", "POSIX"}
    utf8 = _environment({"LC_ALL": "C.UTF-8"} if is_ascii else {})
    with os.fdopen(_jvm_log.open(), "wb") as log, utf8, delayed_signals():
        gateway = launch(conf, {"stdout": log, "stderr": log, "process_group": 0})
        SparkContext._ensure_initialized(gateway=gateway)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and restore them on exit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
