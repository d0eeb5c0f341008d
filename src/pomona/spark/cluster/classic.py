"""The cluster of a classic Spark session."""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pyspark.accumulators import AccumulatorParam

from pomona.spark.dataframe.task import LOADS_COLUMN, Task, feature_rows
from pomona.spark.errors import ignore_lost_jvm
from pomona.spark.session.session import clone

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["ClassicCluster"]


class ClassicCluster:
    """Counts with an accumulator, cancels by job group."""

    largest_wave = 200_000  # the driver holds their list, and reads back their paths

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._context = spark.sparkContext
        self._group = (
            self._context.getLocalProperty("spark.jobGroup.id") or f"pomona-{uuid.uuid4()}"
        )
        self._tally: Accumulator[Counter[str]] = self._context.accumulator(Counter(), _Sum())

    def cores(self) -> int:
        """Return Spark's default parallelism."""
        return self._context.defaultParallelism

    def sessions(self) -> list[SparkSession]:
        """Return two: tasks of one query use cores that the last tasks of the other leave idle."""
        return [self._spark, clone(self._spark)]

    def running(self) -> AbstractContextManager[object]:
        """Do nothing: there are no settings to restore."""
        return nullcontext()

    def claim_thread(self) -> None:
        """Set the job group: the caller's if there is one."""
        self._context.setJobGroup(self._group, "pomona extract", True)

    def cancel(self) -> None:
        """Cancel the job group."""
        with ignore_lost_jvm():
            self._context.cancelJobGroup(self._group)

    def rows(self, images: DataFrame, task: Task, files: int) -> DataFrame:  # noqa: ARG002
        """Let each task add its counts to the accumulator when it ends."""
        return feature_rows(images, dataclasses.replace(task, tally=self._tally))

    def settle(self, written: Counter[str]) -> None:
        """Do nothing: tasks add their counts when they end."""

    def done(self) -> Counter[str]:
        """Return the images of tasks that have ended, by status."""
        done = self._tally.value.copy()  # a PySpark thread adds to it
        del done[LOADS_COLUMN]
        return done

    def model_loads(self) -> int:
        """Return the number of models loaded by tasks that have ended."""
        loads: int = self._tally.value[LOADS_COLUMN]
        return loads


class _Sum(AccumulatorParam[Counter[str]]):
    """Adds up the counters of tasks, for display only: a task that ran twice counts twice."""

    def zero(self, value: Counter[str]) -> Counter[str]:  # noqa: ARG002 - PySpark's protocol
        return Counter()

    def addInPlace(self, value1: Counter[str], value2: Counter[str]) -> Counter[str]:  # noqa: N802
        value1.update(value2)
        return value1
