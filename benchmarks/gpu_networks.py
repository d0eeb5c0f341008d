"""Writes MobileNetV2 and ResNet50 as ONNX files with seeded weights: python gpu_networks.py FOLDER

The layers, shapes and strides are those of torchvision. Batch normalisation is folded into the
convolutions, as exporters do. Weights are random (He et al. 2015), so features mean nothing, but
they cost as much as trained ones. The networks end with the global average pool.
"""

from __future__ import annotations

import sys
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

    def array(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

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
        kernel = self.array(self._rng.normal(0, deviation, shape))
        bias = self.array(self._rng.normal(0, 0.05, channels[1]))
        options = {"strides": [stride] * 2, "pads": [size // 2] * 4, "group": groups}
        return self.add("Conv", given, kernel, bias, **options)

    def save(self, last: str, dimension: int, path: Path) -> None:
        from onnx import TensorProto, helper, save

        pooled = self.add("GlobalAveragePool", last)
        self.nodes.append(helper.make_node("Flatten", [pooled], ["vector"]))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 224, 224])],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", dimension])],
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
    graph.save(at, 1280, path)


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
    graph.save(at, 2048, path)


def build(folder: Path) -> dict[str, Path]:
    """Write both networks and build their encoders for ONNX Runtime: name -> .encoder file."""
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
    for name, write in (("mobilenet_v2", write_mobilenet_v2), ("resnet50", write_resnet50)):
        write(folder / f"{name}.onnx")
        encoders[name] = folder / f"{name}.encoder"
        build(folder / f"{name}.onnx", settings, runtime="onnxruntime").save(encoders[name])
    return encoders


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
