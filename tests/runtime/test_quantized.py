"""Quantized network files give the same vectors with VNNI and without it.

Without VNNI, 8-bit kernels add the products of two pairs of numbers in 16 bits. With 8-bit weights
these sums overflow. `ONEDNN_MAX_CPU_ISA` makes OpenVINO compute as on such a processor. ONNX
Runtime has no such variable: its tests check the setting that prevents the overflow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from network_files import RUNTIMES, UNIT, encoder_from
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino
from pomona.runtime.parity import check_parity
from pomona.runtime.registry import runtime_for
from pomona.worker.resize import resize_to

ZERO_TO_ONE = NetworkSettings(resize_mode="squash", scale=1 / 255)
IMAGES = np.random.default_rng(5).integers(150, 256, (3, 32, 32, 3), np.uint8)
NO_VNNI = ["AVX2", "AVX512_CORE"]

RUN = """
import sys
from pathlib import Path
import numpy as np
from pomona.building.network_files import build
from pomona.building.network_settings import NetworkSettings
from pomona.runtime.registry import load_once
folder, settings = Path(sys.argv[1]), NetworkSettings(**eval(sys.argv[2]))
encoder = build(Path(sys.argv[3]), settings)
images = np.load(folder / "images.npy")
vectors = np.empty((len(images), encoder.dimension), np.float32)
load_once(encoder.fingerprint, lambda: encoder).predict(images, vectors)
np.save(folder / "vectors.npy", vectors)
encoder.save(folder / "built.encoder")
"""


def quantized_network(
    path: Path, style: str, *, signed: bool = False, also_signed: bool = False
) -> np.ndarray:
    """Write a convolution with 8-bit weights; return its vectors from ONNX's reference evaluator.

    Args:
        path: where to write it.
        style: `qdq` (floats between QuantizeLinear and DequantizeLinear), `qoperator`
            (QLinearConv), or `dynamic` (DynamicQuantizeLinear and MatMulInteger).
        signed: whether activations are signed.
        also_signed: whether a second convolution has signed activations.
    """
    from onnx import TensorProto, helper, numpy_helper, save
    from onnx.reference import ReferenceEvaluator

    node = helper.make_node
    rng = np.random.default_rng(3)
    kernel = (np.sign(rng.normal(size=(8, 3, 3, 3))) * 127).astype(np.int8)
    kernel[::2] = 127  # products have the largest magnitude and the same sign
    number, zero = (np.int8, -128) if signed else (np.uint8, 0)
    arrays: dict[str, Any] = {
        "scale": np.float32(1 / 255),
        "zero": number(zero),
        "kernel": kernel,
        "kernel_scale": np.float32(0.01),
        "kernel_zero": np.int8(0),
        "made_scale": np.float32(0.3),
        "made_zero": number(zero + 128),
    }
    first = node("QuantizeLinear", ["image", "scale", "zero"], ["rounded"])
    pooled = [
        node("DequantizeLinear", ["made", "made_scale", "made_zero"], ["map"]),
        node("GlobalAveragePool", ["map"], ["pooled"]),
        node("Flatten", ["pooled"], ["vector"]),
    ]
    if style == "qdq":
        nodes = [
            first,
            node("DequantizeLinear", ["rounded", "scale", "zero"], ["floats"]),
            node("DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["weights"]),
            node("Conv", ["floats", "weights"], ["sums"], strides=[2, 2]),
            node("QuantizeLinear", ["sums", "made_scale", "made_zero"], ["made"]),
            *pooled,
        ]
    elif style == "qoperator":
        inputs = ["rounded", "scale", "zero", "kernel", "kernel_scale", "kernel_zero"]
        inputs += ["made_scale", "made_zero"]
        nodes = [first, node("QLinearConv", inputs, ["made"], strides=[2, 2]), *pooled]
    else:
        dense = (np.sign(rng.normal(size=(3072, 8))) * 127).astype(np.int8)
        dense[:, ::2] = 127
        arrays = {"dense": dense, "dense_zero": np.int8(0), "dense_scale": np.float32(0.01)}
        nodes = [
            node("Flatten", ["image"], ["flat"]),
            node("DynamicQuantizeLinear", ["flat"], ["rounded", "scale", "zero"]),
            node("MatMulInteger", ["rounded", "dense", "zero", "dense_zero"], ["sums"]),
            node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
            node("Mul", ["floats", "scale"], ["scaled"]),
            node("Mul", ["scaled", "dense_scale"], ["vector"]),
        ]
    if also_signed:
        arrays |= {"other_zero": np.int8(0), "other": np.ones((8, 8, 1, 1), np.int8)}
        inputs = ["again", "made_scale", "other_zero", "other", "kernel_scale", "kernel_zero"]
        nodes[2:2] = [
            node("DequantizeLinear", ["made", "made_scale", "made_zero"], ["between"]),
            node("QuantizeLinear", ["between", "made_scale", "other_zero"], ["again"]),
            node("QLinearConv", [*inputs, "made_scale", "other_zero"], ["signed"]),
        ]
        nodes[5] = node("DequantizeLinear", ["signed", "made_scale", "other_zero"], ["map"])
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    save(model, path)
    pixels = IMAGES.transpose(0, 3, 1, 2) / np.float32(255)
    reference = ReferenceEvaluator(model)
    return np.concatenate([reference.run(None, {"image": each[None]})[0] for each in pixels])


def features(encoder: Encoder) -> np.ndarray:
    vectors = np.empty((len(IMAGES), encoder.dimension), np.float32)
    runtime_for(encoder).predict(IMAGES, vectors)
    return vectors


def without_vnni(
    folder: Path, path: Path, settings: str, images: np.ndarray, instructions: str
) -> tuple[np.ndarray, Encoder]:
    """Build and compute in a process limited to `instructions`; return vectors and encoder."""
    folder.mkdir()
    np.save(folder / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", RUN, folder, settings, path],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        check=True,
    )
    return np.load(folder / "vectors.npy"), Encoder.load(folder / "built.encoder")


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


STYLES = pytest.mark.parametrize(
    ("style", "signed"),
    [("qdq", False), ("qdq", True), ("qoperator", False), ("qoperator", True), ("dynamic", False)],
)


@RUNTIMES
@STYLES
def test_a_quantized_network_gives_the_vectors_of_the_reference(
    tmp_path: Path, runtime: str, style: str, *, signed: bool
) -> None:
    if runtime == "onnxruntime":
        pytest.importorskip("onnxruntime")
    path = tmp_path / "quantized.onnx"
    expected = quantized_network(path, style, signed=signed)
    encoder = encoder_from(path, ZERO_TO_ONE, runtime=runtime)
    assert difference(features(encoder), expected) < 0.005  # ties may round either way


@pytest.mark.parametrize("instructions", NO_VNNI)
@STYLES
def test_openvino_gives_the_same_vectors_and_probes_without_vnni(
    tmp_path: Path, style: str, instructions: str, *, signed: bool
) -> None:
    path = tmp_path / "quantized.onnx"
    expected = quantized_network(path, style, signed=signed)
    vectors, built = without_vnni(
        tmp_path / "a", path, "{'resize_mode': 'squash', 'scale': 1 / 255}", IMAGES, instructions
    )
    assert difference(vectors, expected) < 0.005
    here = encoder_from(path, ZERO_TO_ONE)
    assert built.fingerprint == here.fingerprint
    probes = [np.frombuffer(each.probes, np.float32) for each in (built, here)]
    assert difference(*probes) < 0.005


def test_openvino_alone_would_overflow_without_vnni(tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    expected = quantized_network(path, "qdq")
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from pomona.runtime.openvino import import_openvino\n"
        "model = import_openvino().compile_model(sys.argv[1], 'CPU')\n"
        "pixels = np.load(sys.argv[2]).transpose(0, 3, 1, 2) / np.float32(255)\n"
        "np.save(sys.argv[2], list(model(pixels).values())[0])\n"
    )
    np.save(tmp_path / "a.npy", IMAGES)
    subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "a.npy"],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        check=True,
    )
    assert difference(np.load(tmp_path / "a.npy"), expected) > 0.2


@pytest.mark.parametrize("style", ["qdq", "qoperator", "dynamic"])
def test_onnx_runtime_is_configured_not_to_overflow(tmp_path: Path, style: str) -> None:
    pytest.importorskip("onnxruntime")
    from pomona.runtime.onnxruntime import OnnxRuntime

    quantized_network(tmp_path / "quantized.onnx", style)
    encoder = encoder_from(tmp_path / "quantized.onnx", ZERO_TO_ONE, runtime="onnxruntime")
    options = OnnxRuntime(encoder)._session.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_onnx_runtime_refuses_mixed_signed_and_unsigned_numbers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    quantized_network(tmp_path / "both.onnx", "qoperator", also_signed=True)
    with pytest.raises(EncoderError, match="quantize it with one type of activations, or use"):
        encoder_from(tmp_path / "both.onnx", ZERO_TO_ONE, runtime="onnxruntime")


def test_an_encoder_with_overflowed_probes_is_refused_with_the_cause(
    tmp_path: Path,
) -> None:
    quantized_network(tmp_path / "quantized.onnx", "qdq")
    valid = encoder_from(tmp_path / "quantized.onnx", ZERO_TO_ONE)
    overflowed = replace(valid, probes=(np.frombuffer(valid.probes, "<f4") * 0.7).tobytes())
    with pytest.raises(EncoderError, match="built it where 8-bit sums overflow.* build it again"):
        check_parity(overflowed, runtime_for(overflowed))


@pytest.mark.parametrize("instructions", [None, "AVX2"])
def test_a_dense_layer_with_8_bit_weights_computes_in_float32(
    tmp_path: Path, instructions: str | None
) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    dense = np.random.default_rng(1).integers(-127, 128, (3072, 8)).astype(np.int8)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("DequantizeLinear", ["dense", "scale"], ["weights"]),
        helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes,
        "compressed",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 8])],
        [
            numpy_helper.from_array(np.float32(0.01), "scale"),
            numpy_helper.from_array(dense, "dense"),
        ],
    )
    path = tmp_path / "dense.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    flat = (IMAGES.transpose(0, 3, 1, 2) / 255 - 0.5).reshape(3, -1)
    expected = flat @ (dense * 0.01)
    if instructions is None:
        vectors = features(encoder_from(path, UNIT))
    else:
        settings = "{'resize_mode': 'squash', 'scale': 1 / 255, 'mean': 0.5}"
        vectors, _ = without_vnni(tmp_path / "a", path, settings, IMAGES, instructions)
    assert difference(vectors, expected) < 1e-5


def test_pomonas_own_int8_computes_a_product_of_activations_in_float32() -> None:
    openvino = import_openvino()
    from openvino import opset8

    from pomona.runtime.openvino import _fits_16_bits

    def network(product: Callable[[Any], Any]) -> Any:
        pixels = opset8.parameter([1, 4, 4], np.float32)
        return openvino.Model([product(pixels)], [pixels])

    weights = opset8.convert(opset8.constant(np.ones((4, 4), np.int8)), "f32")
    assert _fits_16_bits(network(lambda x: opset8.matmul(x, weights, False, False)))
    assert not _fits_16_bits(network(lambda x: opset8.matmul(x, x, False, True)))


@pytest.mark.parametrize("instructions", [*NO_VNNI, "AVX512_CORE_VNNI", "ALL"])
def test_a_quantized_tflite_network_gives_the_vector_of_tflite(
    tmp_path: Path, shared_data: Path, instructions: str
) -> None:
    trials = shared_data / "trials"
    path = trials / "networks" / "quantized_add.tflite"
    if not path.exists():
        pytest.skip("the shared data is not on this machine")
    from pomona.worker.decode import decode

    picture = decode((trials / "png-crc" / "0_whole.png").read_bytes())
    settings = "{'resize_mode': 'squash', 'mean': 127.5, 'std': 127.5}"
    images = resize_to(picture, 96, 96, "bicubic")[None]
    (vector,), _ = without_vnni(tmp_path / "a", path, settings, images, instructions)
    expected = np.loadtxt(trials / "networks" / "quantized_add_by_tflite.txt")
    assert vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected) > 0.999
