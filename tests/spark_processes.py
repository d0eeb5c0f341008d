"""Processes of Spark in tests: the settings with which they start, and how to find them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import faults
import pomona

SUBMIT = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.memory": "512m",
    "spark.deploy.maxExecutorRetries": "-1",
}


def environment() -> dict[str, str]:
    """The environment of a process that imports the Pomona under test, also in Spark's workers."""
    under_test = str(Path(pomona.__file__).parent.parent)
    path = [under_test, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYSPARK_PYTHON": sys.executable,
    }


def submit_settings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a driver whose session has the settings `SUBMIT`, and others."""
    settings = {**SUBMIT, **(more or {})}
    words = " ".join(f"--conf {key}={value}" for key, value in settings.items())
    return {**environment(), "PYSPARK_SUBMIT_ARGS": f"{words} pyspark-shell"}


def python_workers(*ancestors: int) -> list[int]:
    """The processes that the Python daemons of Spark forked, below the given processes."""
    below = faults.below(*ancestors)
    daemons = {p.pid for p in below if "pyspark.daemon" in p.command}
    return [p.pid for p in below if p.parent in daemons]


def virtual_machines(*ancestors: int) -> list[int]:
    """The Java virtual machines of drivers, below the given processes."""
    return [p.pid for p in faults.below(*ancestors) if "SparkSubmit" in p.command]
