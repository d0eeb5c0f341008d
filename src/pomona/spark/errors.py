"""What went wrong in Spark, in one line: the cause, and what to do if that is known."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pomona.errors import PomonaError

__all__ = [
    "NAMES_IN_UTF8",
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

NAMES_IN_UTF8 = (
    "set LC_ALL=C.UTF-8 where Spark's JVMs start, for Java to know the names that are not ASCII"
)


@contextmanager
def spark_errors(kind: type[PomonaError], what: str) -> Iterator[None]:
    """Turn Spark's exceptions into one of ours, with the cause in one line."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError
    except ImportError:  # where PySpark is there for Spark Connect only
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
    except Exception as error:  # noqa: BLE001 - an interrupted call leaves its answer to the next
        _log.debug("Spark's JVM did not answer: %s", error)


@contextmanager
def quiet_analysis() -> Iterator[None]:
    """Keep PySpark from logging errors of analysis that the caller turns into one of ours.

    PySpark 4 writes each of them to stderr as an object of JSON with its stack trace.
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


def cause_of(story: str) -> str:
    """Find the cause in the text of one of Spark's exceptions, which is mostly stack traces.

    That is the last line of a Python traceback; else the innermost Java exception, or one further
    out that says the same and more; else the first line. Advice follows if there is some.
    """
    cause = _in_traceback(story) or _in_stack_trace(story)
    return f"{cause}{_advice(cause)}"


# What `java`, and the script that starts it, say after `java` has said why it does not start.
_SAYS_NO_MORE = re.compile(
    r"Error: (Could not create the Java Virtual Machine|A fatal exception has occurred)"
    r"|\S*spark-class: line \d+: CMD: bad array subscript"
)


def cause_in_log(log: str) -> str:
    """Find the cause in what a JVM wrote that did not start; empty if it wrote nothing.

    That is the first line that speaks of an error, with the next one; or what its stack trace says.
    """
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("WARNING:", "NOTE:", "Picked up "))]
    lines = [line for line in lines if not _SAYS_NO_MORE.match(line)] or lines
    speaks = (n for n, line in enumerate(lines) if re.search(r"Error|Exception", line))
    story = lines[next(speaks, max(len(lines) - 2, 0)) :]
    if any(line.startswith("\tat ") for line in story):
        return cause_of(re.sub(r"^Exception in thread \S+ ", "", "\n".join(story)))
    cause = " ".join(line.strip() for line in story[:2])[:300]
    return f"{cause}{_advice(cause)}"


def _in_traceback(story: str) -> str:
    lines = [line.rstrip() for line in story.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if "Traceback (most recent call" in line]
    if not starts:
        return ""
    after = lines[starts[-1] + 1 :]
    cause = next((line for line in after if not line.startswith(" ")), lines[0])
    # Our own errors say all that there is to say.
    return re.sub(r"^pomona\.errors\.\w+: ", "", cause)[:400]


def _in_stack_trace(story: str) -> str:
    # py4j's own first line says which of its calls failed; the exception follows a colon.
    story = re.sub(r"^An error occurred while calling \S+\n: ", "", story)
    # Over Spark Connect the message comes first, and then the class again with its stack.
    story = re.sub(r"\s*JVM stacktrace:\s*\S+(?=\n\tat )", "", story)
    if "\n\tat " not in story:
        return (story.strip().splitlines() or [""])[0][:300]
    # The messages of the chain, the outermost first: each ends where its stack begins.
    chain = re.split(r"^Caused by: ", story, flags=re.MULTILINE)
    messages = [" ".join(part.split("\n\tat ")[0].split()) for part in chain]
    cause = messages.pop()
    for outer in reversed(messages):
        if _without_class(cause) not in outer or len(outer) > 300:
            break
        if _without_class(cause) != _without_class(outer):  # else it adds the name of a class
            cause = outer
    return cause[:300]


def _without_class(message: str) -> str:
    return re.sub(r"^([\w.$]+(Exception|Error)\w*: )+", "", message)


_RECIPES = "as docs/spark-recipes.md shows"
_ADVICE = {
    r'No FileSystem for scheme "?s3n?"?$': "write s3a:// in its place, and give Spark HADOOP_AWS",
    r"fs\.s3a\.S3AFileSystem not found": f"give Spark HADOOP_AWS, {_RECIPES}",
    r"No FileSystem for scheme|Class \S*(fs|gcs)\.\S+ not found": (
        "give Spark the package that has this file system, with --packages or --jars"
    ),
    r"ModuleNotFoundError|ImportError|PACKAGE_NOT_INSTALLED": (
        "a worker's Python lacks it: let PYSPARK_PYTHON name one that has Pomona on every machine, "
        f"or send one with --archives, {_RECIPES}"
    ),
    r'PYTHON_VERSION_MISMATCH|Cannot run program "': (
        "let PYSPARK_PYTHON name the same version of Python as here, on every machine, or send one "
        f"with --archives, {_RECIPES}"
    ),
    "UnsupportedClassVersionError": "Spark needs Java 17 or later: let JAVA_HOME name one",
}
"""What to do about some causes: pattern -> advice."""


def _advice(cause: str) -> str:
    advice = next((told for pattern, told in _ADVICE.items() if re.search(pattern, cause)), None)
    return f"; {advice.replace('HADOOP_AWS', _hadoop_aws())}" if advice else ""


def _hadoop_aws() -> str:
    """The package with S3, in the version of the Hadoop that this Spark has."""
    import pyspark

    home = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    jar = next((home / "jars").glob("hadoop-client-api-*.jar"), None)
    version = jar.stem.removeprefix("hadoop-client-api-") if jar else "VERSION (that of its Hadoop)"
    return f"--packages org.apache.hadoop:hadoop-aws:{version}"


def lost_a_worker(error: Exception) -> bool:
    """Whether Spark gave up because a Python worker ended within a task, or was out of memory."""
    told = str(error)
    return "Python worker exited unexpectedly" in told or bool(re.search(r"\bMemoryError\b", told))


def names_a_missing_path(error: Exception) -> bool:
    """Whether Spark refused a query because a file that it names is no more."""
    return "PATH_NOT_FOUND" in str(error)


def names_a_forbidden_file(error: Exception) -> bool:
    """Whether Spark gave up on a file that may not be read, as it does on HDFS.

    Asked to ignore files that cannot be read, it makes an exception for Hadoop's
    `AccessControlException` (its `FileScanRDD`).
    """
    return "AccessControlException" in str(error)
