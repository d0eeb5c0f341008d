"""The GPU that Spark assigned to a task, if it schedules GPUs as resources."""

from __future__ import annotations

import os
import sys

__all__ = ["take_assigned_gpu"]


def take_assigned_gpu() -> None:
    """Let this worker process see only the GPU that Spark assigned to its task.

    Spark assigns addresses (`spark.task.resource.gpu.amount`), but does not enforce them. Without
    such a resource, outside of a task, or if `CUDA_VISIBLE_DEVICES` is set, nothing changes. CUDA
    reads the variable when the process first uses a GPU, so a process keeps its first GPU.
    """
    if "pyspark" not in sys.modules or "CUDA_VISIBLE_DEVICES" in os.environ:
        return
    from pyspark import TaskContext

    task = TaskContext.get()
    assigned = task.resources().get("gpu") if task is not None else None
    if assigned is not None and assigned.addresses:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(assigned.addresses)
