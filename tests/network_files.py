"""Small network files, and the vectors that their own libraries give for three pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.building import network_files
from pomona.building.keras.backend import import_keras
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.runtime.registry import runtime_for

FILES = Path(__file__).parent / "goldens" / "files"
VECTORS = np.load(FILES / "vectors.npz")
FUNCTIONAL = np.load(FILES / "functional.npz")  # of the same pictures
UNUSUAL = np.load(FILES / "unusual.npz")  # of the same pictures
SCALED = NetworkSettings(resize_mode="squash", mean=127.5, std=127.5)
UNIT = NetworkSettings(resize_mode="squash", scale=1 / 255, mean=0.5)
NO_SETTINGS = NetworkSettings()

RUNTIMES = pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])


def encoder_from(path: Path, settings: NetworkSettings = NO_SETTINGS, **options: Any) -> Encoder:
    return network_files.build(path, settings, **options)


def features(encoder: Encoder) -> np.ndarray:
    vectors = np.empty((3, encoder.dimension), np.float32)
    runtime_for(encoder).predict(VECTORS["images"], vectors)
    return vectors


def assert_gives(encoder: Encoder, expected: np.ndarray) -> None:
    vectors = features(encoder)
    assert vectors.shape == expected.shape
    assert np.abs(vectors - expected).max() < 1e-5 * np.abs(expected).max()


def sequential(path: Path, *layers: object, shape: tuple[int | None, ...] = (32, 32, 3)) -> Path:
    keras = import_keras()
    keras.Sequential([keras.Input(shape), *layers]).save(path)
    return path


def onnx_network(
    path: Path,
    *,
    height: int | str = 32,
    extra_input: bool = False,
    kind: str = "float32",
    end: tuple[str, ...] = (),
) -> np.ndarray:
    """Write a small convolutional network; return its vectors from ONNX's reference evaluator.

    Channels first, as PyTorch exports: convolution, ReLU (`features`), mean (`embedding`), dense.

    Args:
        path: where to write it.
        height: of its input, or the name of that dimension.
        extra_input: whether it has a second input, an age.
        kind: the number type that it computes in.
        end: operations after the dense layer, each with one tensor; the last returns `end`.
    """
    import onnx
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(3)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    arrays = {
        "kernel": rng.normal(size=(8, 3, 3, 3)),
        "bias": rng.normal(size=8),
        "dense": rng.normal(size=(8, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["conv"], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "dense"], ["logits"]),
    ]
    last = "logits"
    for index, operation in enumerate(end, start=1):
        name = "end" if index == len(end) else f"end{index}"
        nodes.append(helper.make_node(operation, [last], [name]))
        last = name
    inputs = [helper.make_tensor_value_info("image", number, ["n", 3, height, 32])]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("age", number, ["n", 5]))
        nodes[-1].output[0] = "scores"
        nodes.append(helper.make_node("Add", ["scores", "age"], ["logits"]))
    end_type = onnx.TensorProto.INT64 if end[-1:] == ("ArgMax",) else number
    shape = [1, 5] if end[-1:] == ("ArgMax",) else ["n", 5]  # the largest value over the batch
    graph = helper.make_graph(
        nodes,
        "small",
        inputs,
        [helper.make_tensor_value_info(last, end_type, shape)],
        [numpy_helper.from_array(a.astype(kind), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    if extra_input:
        return np.empty(0)
    pixels = (VECTORS["images"].transpose(0, 3, 1, 2) / np.float32(255) - 0.5).astype(kind)
    reference = ReferenceEvaluator(model)
    return np.concatenate([reference.run(None, {"image": p[None]})[0] for p in pixels])


def small_network(
    path: Path,
    *nodes: Any,
    shape: tuple[int | str, ...] = ("n", 3, 32, 32),
    kind: str = "float32",
    **arrays: np.ndarray,
) -> Path:
    """Write a network with these nodes, from `image` to `vector`."""
    from onnx import TensorProto, helper, numpy_helper, save

    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", number, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", "d"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
