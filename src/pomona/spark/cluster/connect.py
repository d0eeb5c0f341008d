"""The cluster of a Spark Connect session."""

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

_MOST_CORES = 4096  # the most that are counted


class ConnectCluster:
    """Counts model loads with a column that is observed and dropped, cancels by tag."""

    largest_wave = 100_000  # paths: about 10 MB of a message of at most 128

    def __init__(self, spark: SparkSession) -> None:
        self._spark: Any = spark  # its class has more methods than a classic session's
        self._callers_tags = self._spark.getTags()
        self._tag = f"pomona-{uuid.uuid4()}"
        self._written: Counter[str] = Counter()
        self._loads = 0
        self._observation: Observation | None = None
        self._in_hand = 0  # images of the running query
        self._share = 0.0  # share of its tasks that have ended
        self._thread = 0

    def cores(self) -> int:
        """Return the number of partitions that Spark uses by default."""
        numbers = self._spark.range(_MOST_CORES).select(functions.spark_partition_id())
        return len(set(numbers.collect()))

    def sessions(self) -> list[SparkSession]:
        """Return one: workers belong to a session, and those of a second would load the network."""
        return [self._spark]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Receive the progress of queries."""
        self._spark.registerProgressHandler(self._on_progress)
        try:
            yield
        finally:
            self._spark.removeProgressHandler(self._on_progress)

    def claim_thread(self) -> None:
        """Tag this thread's queries, and keep the caller's tags."""
        for tag in (*self._callers_tags, self._tag):
            self._spark.addTag(tag)

    def cancel(self) -> None:
        """Interrupt the queries with the run's tag."""
        self._spark.interruptTag(self._tag)

    def rows(self, images: DataFrame, task: Task, files: int) -> DataFrame:
        """Let the tasks record their model loads in a column that is not written."""
        self._in_hand, self._share, self._thread = files, 0.0, threading.get_ident()
        rows: Any = feature_rows(images, dataclasses.replace(task, shows_loads=True))
        self._observation = Observation()
        loads = functions.sum(LOADS_COLUMN).alias(LOADS_COLUMN)
        observed: DataFrame = rows.observe(self._observation, loads).drop(LOADS_COLUMN)
        return observed

    def settle(self, written: Counter[str]) -> None:
        """Count the rows, and the model loads of their tasks."""
        self._in_hand = 0
        self._written += written
        if self._observation is not None:
            self._loads += self._observation.get[LOADS_COLUMN] or 0
            self._observation = None

    def done(self) -> Counter[str]:
        """Return the written rows, and the share of the running query whose tasks have ended."""
        return self._written.copy() + Counter(ok=round(self._share * self._in_hand))

    def model_loads(self) -> int:
        """Return the number of models loaded by tasks whose rows were written."""
        return self._loads

    def _on_progress(self, stages: Any, **_: object) -> None:
        """Record progress. Spark calls this for each query, in the thread that waits for it."""
        if threading.get_ident() == self._thread and self._in_hand:
            tasks = sum(stage.num_tasks for stage in stages or ())
            ended = sum(stage.num_completed_tasks for stage in stages or ())
            self._share = ended / tasks if tasks else 0.0
