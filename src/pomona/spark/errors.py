"""The cause of an error in Spark, in one line, with advice if there is some."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pomona.errors import PomonaError

__all__ = [
    "cause_in_log",
    "cause_of",
    "ignore_lost_jvm",
    "lost_a_worker",
    "names_a_forbidden_file",
    "names_a_missing_path",
    "quiet_analysis",
    "spark_errors",
]

_log = logging.getLogger(__name__)


@contextmanager
def spark_errors(kind: type[PomonaError], what: str) -> Iterator[None]:
    """Convert Spark's exceptions to one of Pomona's, with the cause in one line."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError
    except ImportError:  # PySpark for Spark Connect only
        Py4JError = PySparkException  # noqa: N806

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise kind(f"{what}: {cause_of(str(error))}") from error


@contextmanager
def ignore_lost_jvm() -> Iterator[None]:
    """Ignore errors of cleaning up: if the JVM has died, the run has already reported it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - an interrupted call leaves its answer to the next call
        _log.debug("Spark's JVM did not answer: %s", error)


@contextmanager
def quiet_analysis() -> Iterator[None]:
    """Keep PySpark from logging analysis errors that the caller converts to its own.

    PySpark 4 writes each of them to stderr as a JSON object with its stack trace.
    """
    try:
        from pyspark.logger import PySparkLogger
    except ImportError:  # PySpark 3.5 logs none
        yield
        return
    logger = PySparkLogger.getLogger("DataFrameQueryContextLogger")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def cause_of(text: str) -> str:
    """Find the cause in the text of one of Spark's exceptions, which is mostly stack traces.

    The cause is the last line of a Python traceback; else the innermost Java exception, or an outer
    one whose message contains its message; else the first line. Known advice is appended.
    """
    cause = _in_traceback(text) or _in_stack_trace(text)
    return f"{cause}{_advice(cause)}"


# Lines of `java` and of Spark's script that follow the reason why `java` does not start.
_FOLLOWING = re.compile(
    r"Error: (Could not create the Java Virtual Machine|A fatal exception has occurred)"
    r"|\S*spark-class: line \d+: CMD: bad array subscript"
)


def cause_in_log(log: str) -> str:
    """Find the cause in the output of a JVM that did not start; empty if there is no output.

    The cause is the first line with an error and the line after it, or the cause in a stack trace.
    """
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("WARNING:", "NOTE:", "Picked up "))]
    lines = [line for line in lines if not _FOLLOWING.match(line)] or lines
    starts = (n for n, line in enumerate(lines) if re.search(r"Error|Exception", line))
    excerpt = lines[next(starts, max(len(lines) - 2, 0)) :]
    if any(line.startswith("\tat ") for line in excerpt):
        return cause_of(re.sub(r"^Exception in thread \S+ ", "", "\n".join(excerpt)))
    cause = " ".join(line.strip() for line in excerpt[:2])[:300]
    return f"{cause}{_advice(cause)}"


def _in_traceback(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if "Traceback (most recent call" in line]
    if not starts:
        return ""
    after = lines[starts[-1] + 1 :]
    cause = next((line for line in after if not line.startswith(" ")), lines[0])
    # Pomona's own errors need no class name.
    return re.sub(r"^pomona\.errors\.\w+: ", "", cause)[:400]


def _in_stack_trace(text: str) -> str:
    # The first line of py4j names the failed call; the exception follows a colon.
    text = re.sub(r"^An error occurred while calling \S+\n: ", "", text)
    # On Spark Connect the message comes first, then the class again with its stack.
    text = re.sub(r"\s*JVM stacktrace:\s*\S+(?=\n\tat )", "", text)
    if "\n\tat " not in text:
        return (text.strip().splitlines() or [""])[0][:300]
    # The messages of the chain, the outermost first: each ends where its stack begins.
    chain = re.split(r"^Caused by: ", text, flags=re.MULTILINE)
    messages = [" ".join(part.split("\n\tat ")[0].split()) for part in chain]
    cause = messages.pop()
    for outer in reversed(messages):
        if _without_class(cause) not in outer or len(outer) > 300:
            break
        if _without_class(cause) != _without_class(outer):  # otherwise it only adds a class name
            cause = outer
    return cause[:300]


def _without_class(message: str) -> str:
    return re.sub(r"^([\w.$]+(Exception|Error)\w*: )+", "", message)


_RECIPES = "as docs/spark-recipes.md shows"
_ADVICE = {
    r'No FileSystem for scheme "?s3n?"?$': "write s3a:// instead, and give Spark HADOOP_AWS",
    r"fs\.s3a\.S3AFileSystem not found": f"give Spark HADOOP_AWS, {_RECIPES}",
    r"No FileSystem for scheme|Class \S*(fs|gcs)\.\S+ not found": (
        "give Spark the package that has this file system, with --packages or --jars"
    ),
    r"ModuleNotFoundError|ImportError|PACKAGE_NOT_INSTALLED": (
        "a worker's Python lacks it: set PYSPARK_PYTHON to one that has Pomona on every machine, "
        f"or send one with --archives, {_RECIPES}"
    ),
    r'PYTHON_VERSION_MISMATCH|Cannot run program "': (
        "set PYSPARK_PYTHON to the same version of Python as here, on every machine, or send one "
        f"with --archives, {_RECIPES}"
    ),
    "UnsupportedClassVersionError": "Spark needs Java 17 or later: set JAVA_HOME to one",
}
"""Pattern of a cause -> advice."""


def _advice(cause: str) -> str:
    advice = next((text for pattern, text in _ADVICE.items() if re.search(pattern, cause)), None)
    return f"; {advice.replace('HADOOP_AWS', _hadoop_aws())}" if advice else ""


def _hadoop_aws() -> str:
    """Return the option for the S3 package, in the Hadoop version of this Spark."""
    import pyspark

    home = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    jar = next((home / "jars").glob("hadoop-client-api-*.jar"), None)
    version = jar.stem.removeprefix("hadoop-client-api-") if jar else "VERSION (that of its Hadoop)"
    return f"--packages org.apache.hadoop:hadoop-aws:{version}"


def lost_a_worker(error: Exception) -> bool:
    """Return whether Spark failed because a Python worker ended in a task, or ran out of memory."""
    text = str(error)
    return "Python worker exited unexpectedly" in text or bool(re.search(r"\bMemoryError\b", text))


def names_a_missing_path(error: Exception) -> bool:
    """Return whether Spark refused a query because one of its files no longer exists."""
    return "PATH_NOT_FOUND" in str(error)


def names_a_forbidden_file(error: Exception) -> bool:
    """Return whether Spark failed because a file may not be read, as on HDFS.

    Even if it ignores unreadable files, Spark raises Hadoop's `AccessControlException`
    (`FileScanRDD`).
    """
    return "AccessControlException" in str(error)
