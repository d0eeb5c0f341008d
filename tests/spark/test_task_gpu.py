"""A task computes on the GPU that Spark assigned to it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

import pyspark

from pomona.spark.task_gpu import take_assigned_gpu


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "any")  # so that monkeypatch restores it at the end
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


def _assign(monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any] | None) -> None:
    task = None if resources is None else SimpleNamespace(resources=lambda: resources)
    monkeypatch.setattr(pyspark.TaskContext, "_taskContext", task)


def test_a_worker_process_sees_the_gpu_that_spark_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    _assign(monkeypatch, {"gpu": SimpleNamespace(addresses=["3"])})
    take_assigned_gpu()
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "3"


def test_the_users_own_choice_of_gpu_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    _assign(monkeypatch, {"gpu": SimpleNamespace(addresses=["3"])})
    take_assigned_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    "resources",
    [None, {}, {"fpga": SimpleNamespace(addresses=["0"])}, {"gpu": SimpleNamespace(addresses=[])}],
)
def test_nothing_changes_without_an_assigned_gpu(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any] | None
) -> None:
    _assign(monkeypatch, resources)
    take_assigned_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
