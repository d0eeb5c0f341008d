"""The interface of a cluster for a run: cores, progress and cancelling.

`classic` has a SparkContext. `connect` has none, so it has no accumulators and no job groups.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from pomona.spark.session.session import is_connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona.spark.dataframe.task import Task

__all__ = ["Cluster", "cluster_of"]


class Cluster(Protocol):
    """Runs the tasks of a run, and returns their progress."""

    largest_wave: int
    """The largest number of files in one query."""

    def cores(self) -> int:
        """Return how many tasks run at the same time; executors come and go."""

    def sessions(self) -> list[SparkSession]:
        """Return sessions with separate settings, each for one query at a time."""

    def running(self) -> AbstractContextManager[object]:
        """Return the context of the whole run."""

    def claim_thread(self) -> None:
        """Let `cancel` end the queries of this thread."""

    def cancel(self) -> None:
        """Cancel the run's queries, from another thread."""

    def rows(self, images: DataFrame, task: Task, files: int) -> DataFrame:
        """Run a task over images, `files` of them, and count them."""

    def settle(self, written: Counter[str]) -> None:
        """Note that rows are in the table, by status."""

    def done(self) -> Counter[str]:
        """Return the images done so far, by status, for display."""

    def model_loads(self) -> int:
        """Return the number of models loaded by the tasks, in all processes."""


def cluster_of(spark: SparkSession) -> Cluster:
    """Return the cluster of a session, classic or of Spark Connect."""
    if is_connect(spark):
        from pomona.spark.cluster.connect import ConnectCluster

        return ConnectCluster(spark)
    from pomona.spark.cluster.classic import ClassicCluster

    return ClassicCluster(spark)
