"""What went wrong in Spark, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pomona.errors import PomonaError

__all__ = [
    "NAMES_IN_UTF8",
    "cause_of",
    "lost_a_worker",
    "names_a_forbidden_file",
    "names_a_missing_path",
    "spark_errors",
]

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


def cause_of(story: str) -> str:
    """Find the cause in the text of one of Spark's exceptions, which is mostly stack traces.

    That is the last line of a Python traceback, else the last `Caused by:`, else the first line.
    """
    lines = [line.rstrip() for line in story.splitlines() if line.strip()]
    traceback = [n for n, line in enumerate(lines) if "Traceback (most recent call" in line]
    if traceback:
        after = lines[traceback[-1] + 1 :]
        cause = next((line for line in after if not line.startswith(" ")), lines[0])
        # Our own errors say all that there is to say.
        return re.sub(r"^pomona\.errors\.\w+: ", "", cause)[:400]
    causes = [line.strip() for line in lines if line.strip().startswith("Caused by:")]
    return (causes[-1].removeprefix("Caused by: ") if causes else lines[0])[:300]


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
