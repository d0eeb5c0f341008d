"""The cluster behind a Spark Connect session."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyspark.sql.connect import functions
from pyspark.sql.connect.observation import Observation

from pomona.spark.dataframe.task import LOADS_COLUMN, Task, feature_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

__all__ = ["ConnectCluster"]

_MOST_CORES = 4096  # that are told apart


class ConnectCluster:
    """Counts loads with a column that is observed and dropped, cancels by tag."""

    largest_wave = 100_000  # paths: some 10 MB of a message that may have 128

    def __init__(self, spark: SparkSession) -> None:
        self._spark: Any = spark  # of another class than classic sessions, with more to it
        self._callers_tags = self._spark.getTags()
        self._tag = f"pomona-{uuid.uuid4()}"
        self._written: Counter[str] = Counter()
        self._loads = 0
        self._observation: Observation | None = None
        self._in_hand = 0  # images of the query that runs
        self._share = 0.0  # of its tasks that have ended
        self._thread = 0

    def cores(self) -> int:
        """Into how many partitions Spark divides what has no partitions of its own."""
        numbers = self._spark.range(_MOST_CORES).select(functions.spark_partition_id())
        return len(set(numbers.collect()))

    def sessions(self) -> list[SparkSession]:
        """One: workers belong to a session, and those of another would load the network again."""
        return [self._spark]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hear how far queries are."""
        self._spark.registerProgressHandler(self._on_progress)
        try:
            yield
        finally:
            self._spark.removeProgressHandler(self._on_progress)

    def claim_thread(self) -> None:
        """Tag this thread's queries, with the caller's tags also."""
        for tag in (*self._callers_tags, self._tag):
            self._spark.addTag(tag)

    def cancel(self) -> None:
        """Interrupt what has the run's tag."""
        self._spark.interruptTag(self._tag)

    def rows(self, images: DataFrame, task: Task, files: int) -> DataFrame:
        """Let the tasks show their loads in a column of its own, which is not written."""
        self._in_hand, self._share, self._thread = files, 0.0, threading.get_ident()
        rows: Any = feature_rows(images, dataclasses.replace(task, shows_loads=True))
        self._observation = Observation()
        loads = functions.sum(LOADS_COLUMN).alias(LOADS_COLUMN)
        observed: DataFrame = rows.observe(self._observation, loads).drop(LOADS_COLUMN)
        return observed

    def settle(self, written: Counter[str]) -> None:
        """Count the rows, and the loads behind them."""
        self._in_hand = 0
        self._written += written
        if self._observation is not None:
            self._loads += self._observation.get[LOADS_COLUMN] or 0
            self._observation = None

    def done(self) -> Counter[str]:
        """Rows that were written, and a share of those in hand: that of the tasks that ended."""
        return self._written.copy() + Counter(ok=round(self._share * self._in_hand))

    def model_loads(self) -> int:
        """Models loaded by tasks whose rows were written."""
        return self._loads

    def _on_progress(self, stages: Any, **_: object) -> None:
        """Spark tells of all queries of the session, each in the thread that waits for it."""
        if threading.get_ident() == self._thread and self._in_hand:
            tasks = sum(stage.num_tasks for stage in stages or ())
            ended = sum(stage.num_completed_tasks for stage in stages or ())
            self._share = ended / tasks if tasks else 0.0
