"""Writes networks with seeded weights and builds their encoders.

    python gpu_networks.py FOLDER [NAME ...]

MobileNetV2 and ResNet50 become ONNX files. Their layers, shapes and strides are those of
torchvision, and they end with the global average pool. Batch normalisation is folded into the
convolutions, as exporters do. DINOv2-small, a ViT-S/14, becomes a folder as Hugging Face publishes
it. Weights are random, so features mean nothing, but they cost as much as trained ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

# expansion, channels, blocks, stride of the first: table 2 of Sandler et al. 2018
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_RESNET50 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


class _Graph:
    """Nodes and arrays of a network that takes `image`, (n, 3, 224, 224) float32."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def array(self, values: np.ndarray | float) -> str:
        return self._constant(np.asarray(values, np.float32))

    def shape(self, *sides: int) -> str:
        return self._constant(np.array(sides, np.int64))

    def _constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(values, name))
        return name

    def random(self, *sides: int, deviation: float) -> str:
        return self.array(self._rng.normal(0, deviation, sides))

    def dense(self, given: str, inputs: int, outputs: int) -> str:
        kernel = self.random(inputs, outputs, deviation=inputs**-0.5)
        bias = self.random(outputs, deviation=0.05)
        return self.add("Add", self.add("MatMul", given, kernel), bias)

    def convolution(
        self,
        given: str,
        channels: tuple[int, int],
        size: int,
        stride: int = 1,
        *,
        groups: int = 1,
        gain: float = 2.0,
    ) -> str:
        shape = (channels[1], channels[0] // groups, size, size)
        deviation = np.sqrt(gain / (shape[1] * size * size))
        kernel = self.random(*shape, deviation=deviation)
        bias = self.random(channels[1], deviation=0.05)
        options = {"strides": [stride] * 2, "pads": [size // 2] * 4, "group": groups}
        return self.add("Conv", given, kernel, bias, **options)

    def save_pooled(self, last: str, dimension: int, path: Path) -> None:
        pooled = self.add("GlobalAveragePool", last)
        self.save(self.add("Flatten", pooled), "vector", ["n", dimension], path)

    def save(self, last: str, name: str, shape: list[str | int], path: Path) -> None:
        from onnx import TensorProto, helper, save

        self.nodes.append(helper.make_node("Identity", [last], [name]))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 224, 224])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
            self.arrays,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        save(model, path)


def write_mobilenet_v2(path: Path) -> None:
    """Write the network; its vectors have 1,280 numbers."""
    graph = _Graph(seed=1)
    low, high = graph.array(np.array(0)), graph.array(np.array(6))

    def relu6(given: str) -> str:
        return graph.add("Clip", given, low, high)

    at, channels = relu6(graph.convolution("image", (3, 32), 3, 2)), 32
    for expansion, width, blocks, first_stride in _MOBILENET_V2:
        for block in range(blocks):
            stride, before, inner = (1 if block else first_stride), at, channels * expansion
            if expansion > 1:
                at = relu6(graph.convolution(at, (channels, inner), 1))
            at = relu6(graph.convolution(at, (inner, inner), 3, stride, groups=inner))
            at = graph.convolution(at, (inner, width), 1, gain=1.0)
            if stride == 1 and channels == width:
                at = graph.add("Add", before, at)
            channels = width
    at = relu6(graph.convolution(at, (channels, 1280), 1))
    graph.save_pooled(at, 1280, path)


def write_resnet50(path: Path) -> None:
    """Write the network; its vectors have 2,048 numbers."""
    graph = _Graph(seed=2)
    at = graph.add("Relu", graph.convolution("image", (3, 64), 7, 2))
    at = graph.add("MaxPool", at, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, blocks, first_stride in _RESNET50:
        for block in range(blocks):
            stride, before = (1 if block else first_stride), at
            at = graph.add("Relu", graph.convolution(at, (channels, width), 1))
            at = graph.add("Relu", graph.convolution(at, (width, width), 3, stride))
            at = graph.convolution(at, (width, 4 * width), 1, gain=0.2)
            if not block:
                before = graph.convolution(before, (channels, 4 * width), 1, stride, gain=1.0)
            at = graph.add("Relu", graph.add("Add", before, at))
            channels = 4 * width
    graph.save_pooled(at, 2048, path)


def write_dinov2_small(folder: Path) -> None:
    """Write the folder; its tokens have 384 numbers. The graph is like that of PyTorch's exporter.

    Oquab et al. 2023: 12 blocks with 6 heads and layer scale, patches of 14x14.
    """
    width, heads, patches = 384, 6, (224 // 14) ** 2
    graph = _Graph(seed=3)

    def normalized(given: str) -> str:
        ones, none = graph.array(np.ones(width)), graph.array(np.zeros(width))
        return graph.add("LayerNormalization", given, ones, none, axis=-1, epsilon=1e-6)

    def split(given: str, order: list[int]) -> str:
        apart = graph.add("Reshape", given, graph.shape(0, 0, heads, width // heads))
        return graph.add("Transpose", apart, perm=order)

    def attention(given: str) -> str:
        query, key, value = (graph.dense(given, width, width) for _ in range(3))
        scores = graph.add("MatMul", split(query, [0, 2, 1, 3]), split(key, [0, 2, 3, 1]))
        scaled = graph.add("Mul", scores, graph.array((width // heads) ** -0.5))
        weights = graph.add("Softmax", scaled, axis=-1)
        mixed = graph.add("MatMul", weights, split(value, [0, 2, 1, 3]))
        mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.dense(graph.add("Reshape", mixed, graph.shape(0, 0, width)), width, width)

    def perceptron(given: str) -> str:
        inner = graph.dense(given, width, 4 * width)
        error = graph.add("Erf", graph.add("Div", inner, graph.array(2**0.5)))
        gate = graph.add("Mul", inner, graph.add("Add", error, graph.array(1)))
        return graph.dense(graph.add("Mul", gate, graph.array(0.5)), 4 * width, width)

    kernel = graph.random(width, 3, 14, 14, deviation=(3 * 14 * 14) ** -0.5)
    at = graph.add("Conv", "image", kernel, strides=[14, 14])
    at = graph.add("Reshape", at, graph.shape(0, width, patches))
    at = graph.add("Transpose", at, perm=[0, 2, 1])
    count = graph.add("Shape", "image", start=0, end=1)
    shape = graph.add("Concat", count, graph.shape(1, width), axis=0)
    first = graph.add("Expand", graph.random(1, 1, width, deviation=0.02), shape)
    at = graph.add("Concat", first, at, axis=1)
    at = graph.add("Add", at, graph.random(1, patches + 1, width, deviation=0.02))
    for _ in range(12):
        for branch in (attention, perceptron):
            scale = graph.array(np.full(width, 0.3))
            at = graph.add("Add", at, graph.add("Mul", branch(normalized(at)), scale))
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    shape_of_tokens: list[str | int] = ["n", patches + 1, width]
    path = folder / "onnx" / "model.onnx"
    graph.save(normalized(at), "last_hidden_state", shape_of_tokens, path)
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    processor = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


_CONVOLUTIONAL: dict[str, Callable[[Path], None]] = {
    "mobilenet_v2": write_mobilenet_v2,
    "resnet50": write_resnet50,
}
NETWORKS = (*_CONVOLUTIONAL, "dinov2_small")


def build(folder: Path, names: Iterable[str] = NETWORKS) -> dict[str, Path]:
    """Write networks and build their encoders for ONNX Runtime: name -> .encoder file."""
    from pomona.building.network_files import build
    from pomona.building.network_settings import NetworkSettings

    folder.mkdir(parents=True, exist_ok=True)
    settings = NetworkSettings(
        resize_mode="squash",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize="bicubic",
    )
    encoders = {}
    for name in names:
        encoders[name] = folder / f"{name}.encoder"
        if name in _CONVOLUTIONAL:
            _CONVOLUTIONAL[name](folder / f"{name}.onnx")
            encoder = build(folder / f"{name}.onnx", settings, runtime="onnxruntime")
        else:
            write_dinov2_small(folder / name)
            encoder = build(folder / name, NetworkSettings(), runtime="onnxruntime")
        encoder.save(encoders[name])
    return encoders


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), sys.argv[2:] or NETWORKS))
