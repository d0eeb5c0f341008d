"""Batches of ONNX Runtime on a GPU, which the CPU simulates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from network_files import (
    UNIT,
    VECTORS,
    encoder_from,
    onnx_network,
    small_network,
)
from pomona.errors import EncoderError
from pomona.runtime.registry import runtime_for


class Device:
    """A session of ONNX Runtime on a simulated GPU with memory for `room` images."""

    def __init__(self, session: Any, room: int) -> None:
        self._session, self._room = session, room
        self.sizes: list[int] = []

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> Any:
        (images,) = inputs.values()
        self.sizes.append(len(images))
        if len(images) > self._room:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        return self._session.run(names, inputs)


def on_a_device(path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> tuple[Any, Device]:
    from pomona.runtime import onnxruntime

    encoder = encoder_from(path, UNIT, runtime="onnxruntime")
    device = Device(onnxruntime.new_session(encoder.graph, "it"), room)
    monkeypatch.setattr(onnxruntime, "new_session", lambda *_: device)
    monkeypatch.setattr(onnxruntime, "_GPU_BATCH", 8)
    return runtime_for(encoder), device


@pytest.mark.parametrize("images", [1, 3, 8, 9])
def test_a_gpu_gets_batches_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx")
    runtime, device = on_a_device(tmp_path / "fruit.onnx", monkeypatch, room=8)
    assert runtime.batch_size == 8
    result = np.empty((images, 5), np.float32)
    which = np.arange(images) % 3
    runtime.predict(VECTORS["images"][which], result)
    assert np.abs(result - expected[which]).max() < 1e-5 * np.abs(expected).max()
    assert device.sizes == [8] * -(-images // 8)


def test_a_batch_too_large_for_gpu_memory_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx")
    runtime, device = on_a_device(tmp_path / "fruit.onnx", monkeypatch, room=2)
    for _ in range(2):
        result = np.empty((3, 5), np.float32)
        runtime.predict(VECTORS["images"], result)
        assert np.abs(result - expected).max() < 1e-5 * np.abs(expected).max()
    assert device.sizes == [8, 4, 2, 2, 2, 2]


def test_a_gpu_without_memory_for_one_image_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    runtime, _ = on_a_device(tmp_path / "fruit.onnx", monkeypatch, room=0)
    with pytest.raises(EncoderError, match="cannot compute encoder .*Failed to allocate memory"):
        runtime.predict(VECTORS["images"], np.empty((3, 5), np.float32))


@pytest.mark.parametrize("kind", ["first", "mean", "one row"])
def test_a_network_that_mixes_its_images_gets_one_image_at_a_time(
    tmp_path: Path, kind: str
) -> None:
    import onnx
    from onnx import helper

    pooled = helper.make_node("ReduceMean", ["image"], ["pooled"], axes=[2, 3], keepdims=0)
    ends = {
        "first": [
            helper.make_node("Gather", ["pooled", "zero"], ["one"], axis=0),
            helper.make_node("Reshape", ["one", "row"], ["vector"]),
        ],
        "mean": [
            helper.make_node("ReduceMean", ["pooled"], ["all"], axes=[0], keepdims=1),
            helper.make_node("Add", ["pooled", "all"], ["vector"]),
        ],
        "one row": [helper.make_node("Reshape", ["pooled", "row"], ["vector"])],
    }
    arrays = {"zero": np.array([0]), "row": np.array([1, -1])}
    path = small_network(tmp_path / "mixing.onnx", pooled, *ends[kind], **arrays)

    def images_at_once(file: Path) -> Any:
        graph = encoder_from(file, UNIT, runtime="onnxruntime").graph
        (pixels,) = onnx.load_from_string(graph).graph.input
        return pixels.type.tensor_type.shape.dim[0]

    assert images_at_once(path).dim_value == 1
    onnx_network(tmp_path / "usual.onnx")
    assert images_at_once(tmp_path / "usual.onnx").dim_param == "N"


def test_a_device_that_returns_one_vector_for_many_images_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    encoder = encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")
    runtime = runtime_for(encoder)
    one = type("Session", (), {"run": lambda *_: [np.ones((1, 5), np.float32)]})
    monkeypatch.setattr(runtime, "_session", one())
    monkeypatch.setattr(runtime, "_at_once", 3)
    with pytest.raises(EncoderError, match=r"of shape \(1, 5\), expected \(3, 5\)"):
        runtime.predict(VECTORS["images"], np.empty((3, 5), np.float32))
