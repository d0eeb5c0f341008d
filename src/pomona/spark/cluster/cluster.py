"""The cluster as a run sees it, beside its DataFrames.

`classic` has a SparkContext. `connect` has none, and so neither accumulators nor job groups.
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
    """What runs the tasks of a run and tells how far they are."""

    largest_wave: int
    """Files that may be named in one query."""

    def cores(self) -> int:
        """Tasks that run at the same time; executors come and go."""

    def sessions(self) -> list[SparkSession]:
        """Sessions with settings of their own, each for one query at a time."""

    def running(self) -> AbstractContextManager[object]:
        """For as long as the run lasts."""

    def claim_thread(self) -> None:
        """Make the queries of this thread those of the run, which `cancel` ends."""

    def cancel(self) -> None:
        """End the run's queries, from another thread."""

    def rows(self, images: DataFrame, task: Task, files: int) -> DataFrame:
        """Run a task over so many images, to be counted."""

    def settle(self, written: Counter[str]) -> None:
        """Take note that rows are in the table, by status."""

    def done(self) -> Counter[str]:
        """Images done so far, by status: for show."""

    def model_loads(self) -> int:
        """Models loaded by the tasks, over all processes."""


def cluster_of(spark: SparkSession) -> Cluster:
    """The cluster of a session, classic or Spark Connect's."""
    if is_connect(spark):
        from pomona.spark.cluster.connect import ConnectCluster

        return ConnectCluster(spark)
    from pomona.spark.cluster.classic import ClassicCluster

    return ClassicCluster(spark)
