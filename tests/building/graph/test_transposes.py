"""Transposes are moved and cancelled without changing what the graph computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openvino import opset8 as ops

from pomona.building.graph.transposes import sink_transposes

FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # to channels first, and to channels last
PICTURE = np.random.default_rng(0).random((1, 6, 5, 3), np.float32)


def transposes(model: Any) -> int:
    return [operation.get_type_name() for operation in model.get_ops()].count("Transpose")


def run(model: Any, picture: np.ndarray = PICTURE) -> np.ndarray:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([picture])[0]


def turn(x: Any, axes: list[int]) -> Any:
    return ops.transpose(x, ops.constant(axes))


def convolution(x: Any, channels: int = 3) -> Any:
    """A convolution as Keras exports it in channels-last layout, between two transposes."""
    kernel = np.random.default_rng(1).random((channels, channels, 1, 1), np.float32)
    output = ops.convolution(turn(x, FIRST), ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    return turn(output, LAST)


def batch_normalization(x: Any) -> Any:
    """Batch normalisation as Keras exports it: it transposes height and width."""
    vectors = np.random.default_rng(2).random((4, 3), np.float32) + 0.5
    swapped = turn(x, [0, 3, 2, 1])
    gamma, beta, mean, variance = map(ops.constant, vectors)
    output = ops.batch_norm_inference(swapped, gamma, beta, mean, variance, 1e-3)
    return turn(output, [0, 3, 2, 1])


def gate(x: Any) -> Any:
    """Squeeze-and-excitation: multiply each channel by a number computed from its mean."""
    mean = ops.reduce_mean(x, ops.constant([1, 2]), keep_dims=False)
    scale = ops.sigmoid(ops.reshape(mean, ops.constant([1, 1, 1, 3]), special_zero=False))
    return ops.multiply(x, scale)


NOTHING = ops.constant(np.float32(0))
STEPS: dict[str, Callable[[Any], Any]] = {
    "relu": ops.relu,
    "clamp": lambda x: ops.clamp(x, 0.1, 0.8),
    "bias": lambda x: ops.add(x, ops.constant(np.float32([0.1, 0.2, 0.3]))),
    "scalar": lambda x: ops.multiply(x, ops.constant(np.float32(3))),
    "normalization": batch_normalization,
    "gate": gate,
    "residual": lambda x: ops.add(x, convolution(x)),
    "both": lambda x: convolution(ops.concat([x, convolution(x)], 3), 6),
    "pad": lambda x: ops.pad(
        x, [0, 1, 0, 0], [0, 0, 2, 0], "constant", ops.constant(np.float32(0))
    ),
    "mean": lambda x: ops.reduce_mean(x, ops.constant([1, 2]), keep_dims=True),
    "width": lambda x: ops.reduce_max(x, ops.constant([-2]), keep_dims=True),
    "flat": lambda x: ops.reshape(x, ops.constant([1, -1]), special_zero=False),
    "pooled": lambda x: ops.reduce_sum(x, ops.constant([1, 2]), keep_dims=False),
    "number": lambda x: ops.reduce_mean(x, ops.constant([0, 1, 2, 3]), keep_dims=False),
    "rows": lambda x: ops.reduce_sum(x, ops.constant([3]), keep_dims=False),
}


def built(names: list[str]) -> Any:
    image = ops.parameter([1, 6, 5, 3], np.float32)
    x = convolution(image)
    for name in names:
        x = STEPS[name](x)
    return openvino.Model([x], [image])


@pytest.mark.parametrize("name", STEPS)
def test_the_result_is_unchanged(name: str) -> None:
    model = built([name])
    before = run(model)
    sink_transposes(model)
    after = run(model)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-5)


LASTING = [name for name in STEPS if name not in ("flat", "number", "pooled", "rows", "both")]


@given(st.lists(st.sampled_from(LASTING), max_size=5), st.sampled_from(sorted(STEPS)))
def test_sinking_transposes_keeps_the_result_for_any_order_of_layers(
    names: list[str], last: str
) -> None:
    model = built([*names, last])
    before = run(model)
    sink_transposes(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-4, atol=1e-5)


def test_of_many_transposes_one_remains() -> None:
    model = built(["normalization", "relu", "residual", "bias", "gate", "normalization", "pooled"])
    assert transposes(model) == 8
    sink_transposes(model)
    # One transposes the picture. A gate's vector may need another, which costs nothing.
    assert transposes(model) <= 2


def test_an_operation_on_the_last_axis_keeps_its_transpose() -> None:
    image = ops.parameter([1, 6, 5, 3], np.float32)
    dense = ops.matmul(
        convolution(image), ops.constant(np.eye(3, 4, dtype=np.float32)), False, False
    )
    model = openvino.Model([dense], [image])
    before = run(model)
    sink_transposes(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-5)
    assert transposes(model) == 2
