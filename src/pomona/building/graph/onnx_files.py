"""ONNX files -> encoders that run on ONNX Runtime.

The arithmetic of the preprocessing becomes the first part of the graph, in ONNX itself: the encoder
takes uint8 pixels, like encoders for OpenVINO.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.file_digest import as_text, content_digest, without_links
from pomona.building.graph.classifier_head import check_end, in_onnx
from pomona.building.graph.endpoints import attach_probes, check_integer_types, refuse_map
from pomona.building.graph.image_input import (
    architecture,
    image_layout,
    image_size,
    needed_preprocessing,
    refuse_signature,
)
from pomona.building.graph.onnx_graph import (
    cut_at_output,
    flatten_output,
    inputs,
    pooled,
    prepend_preprocessing,
    sides,
)
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.extras import check_extra
from pomona.messages import one_line
from pomona.runtime.onnxruntime import new_session
from pomona.runtime.parity import TOLERANCE, probe_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["build", "encoder_of", "read_network"]

_LARGEST = 2**31 - 1  # bytes, of any protobuf
_OLDEST_OPSET = 7
_QUANTIZED = {
    *("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    "QuantizeLinear",
}
_INTEGER = {"QGemm", "QLinearConv", "QLinearMatMul"}  # mostly with constant weights
_DYNAMIC = {"ConvInteger", "MatMulInteger"}  # with unsigned activations
_ZERO_POINT, _WEIGHTS = 2, 3  # indices of inputs of _INTEGER
_FLOATS = (1, 10, 11, 16)  # TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16


def build(path: Path, settings: NetworkSettings) -> Encoder:
    """Build an encoder for ONNX Runtime.

    Args:
        path: an `.onnx` file.
        settings: settings of the network that the file does not contain.

    Raises:
        EncoderError: ONNX is not installed; the file cannot be read; the network does not return
            one vector for an image; or its preprocessing is not specified.
    """
    refuse_signature(path, settings.signature)
    digest = content_digest(path)  # also checks that its arrays are in its folder
    return encoder_of(read_network(path), path, settings, digest)


def read_network(path: Path) -> Any:
    """Read an `onnx.ModelProto` of any inputs and outputs, with its arrays.

    Raises:
        EncoderError: ONNX is not installed, or the file cannot be read.
    """
    what = "`runtime` onnxruntime needs ONNX and ONNX Runtime"
    check_extra("onnx", what, "onnx", "onnxruntime", error=EncoderError)
    import onnx

    try:
        with without_links(path) as real:
            model = onnx.load(real)
        if model.ByteSize() <= _LARGEST:  # ONNX checks no larger ones
            _check(model)
    except EncoderError:
        raise
    except Exception as error:  # protobuf, ONNX and the system raise different ones
        raise EncoderError(
            f"ONNX {onnx.__version__} cannot read {path}: {one_line(error)}; is the file complete?"
        ) from error
    return model


def encoder_of(
    model: Any, path: Path, settings: NetworkSettings, digest: str, kind: str | None = None
) -> Encoder:
    """Build an encoder from a graph of ONNX that is in memory.

    Args:
        model: an `onnx.ModelProto` with one input, the image. It is changed.
        path: the file or folder that it was read from, for names and errors.
        settings: settings of the network that the file does not contain.
        digest: SHA-256 (hex) of its files.
        kind: kind of the folder, for the fingerprint; None for a file.

    Raises:
        EncoderError: the network does not return one vector for an image; or its preprocessing is
            not specified.
    """
    _check_version(model, path)
    _refuse_both_signs(model, path)
    image = _image(model, path)
    image_sides = sides(image)
    layout = image_layout(image_sides, path, settings)
    size = image_size(image_sides, layout, path, settings)
    channels = image_sides[layout.index("C")]
    preprocessing = needed_preprocessing(path, settings, size, channels=channels)
    output = cut_at_output(model, image.name, path, settings)
    if settings.layer is None:
        check_end(*in_onnx(model), path)
    only_one = image_sides[:1] == [1]
    prepend_preprocessing(model, image, preprocessing, layout, only_one=only_one)
    if model.ByteSize() > _LARGEST:
        raise EncoderError(f"{path} is larger than 2 GB with its arrays: use `runtime` openvino")
    sample = _output_for_one_image(model, preprocessing, path)
    check_integer_types(path, _integer_type(image), _integer_type_of(sample), preprocessing)
    shape, how = pooled(model, sample.shape, settings)
    refuse_map(shape, path, settings.layer)
    flatten_output(model, normalize=bool(settings.normalize))
    encoder = attach_probes(
        Encoder(
            model=as_text(path.name),
            architecture=architecture(path, image_sides, layout, kind=kind) + how,
            weights=as_text(path.name),
            weights_sha256=digest,
            preprocessing=preprocessing,
            output=output,
            dimension=math.prod(shape),
            precision="int8" if _is_quantized(model) else "f32",
            runtime="onnxruntime",
            graph=model.SerializeToString(),
            constants=b"",
            normalized=bool(settings.normalize),
        )
    )
    if only_one or _is_same_in_batches(encoder):
        return encoder
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return replace(encoder, graph=model.SerializeToString())


def _is_same_in_batches(encoder: Encoder) -> bool:
    """Return whether images computed together get the same vectors as alone.

    A network that declares any batch size may use the first image for all, or their mean.
    """
    spec = encoder.preprocessing
    alone = np.frombuffer(encoder.probes, "<f4").reshape(-1, encoder.dimension)
    session = new_session(encoder.graph, encoder.model)
    probes = probe_images(spec.height, spec.width).astype(spec.pixel_type)
    images = {session.get_inputs()[0].name: probes}
    try:
        together = session.run(None, images)[0]
    except Exception:  # noqa: BLE001 - ONNX Runtime has no common base class
        return False
    if together.shape != alone.shape:
        return False
    return bool(np.abs(together - alone).max() <= TOLERANCE["f32"] * np.abs(alone).max())


def _check(model: Any) -> None:
    """Check a model with ONNX, except the types of its outputs, which ONNX Runtime ignores."""
    import onnx

    for output in model.graph.output:
        anything = onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, [])
        output.CopyFrom(anything)
    onnx.checker.check_model(model)


def _check_version(model: Any, path: Path) -> None:
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx") and used.version < _OLDEST_OPSET:
            raise EncoderError(
                f"{path} uses opset {used.version}, but ONNX Runtime needs {_OLDEST_OPSET} or "
                "later: use `runtime` openvino"
            )


def _refuse_both_signs(model: Any, path: Path) -> None:
    """Refuse graphs with 8-bit operations on both signed and unsigned numbers.

    ONNX Runtime can prevent overflow for either kind, but not for both in one graph
    (`pomona.runtime.onnxruntime`). No common quantizer writes such a graph.
    """
    from onnx import TensorProto

    kinds = {array.name: array.data_type for array in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute:
            kinds[node.output[0]] = node.attribute[0].t.data_type
    signed = [
        kinds.get(node.input[_ZERO_POINT]) == TensorProto.INT8
        for node in model.graph.node
        if node.op_type in _INTEGER and kinds.get(node.input[_WEIGHTS]) == TensorProto.INT8
    ]
    signed += [False for node in model.graph.node if node.op_type in _DYNAMIC]
    if len(set(signed)) > 1:
        raise EncoderError(
            f"{path} computes with signed and unsigned 8-bit numbers, and ONNX Runtime cannot "
            "prevent overflow of both on all processors: quantize it with one type of activations, "
            "or use `runtime` openvino"
        )


def _image(model: Any, path: Path) -> Any:
    found = inputs(model)
    if len(found) != 1:
        names = ", ".join(each.name for each in found)
        raise EncoderError(f"{path} has {len(found)} inputs ({names}), expected one: the image")
    if (rank := len(sides(found[0]))) != 4:
        raise EncoderError(
            f"{path} takes an input of {rank} dimensions, expected 4: number, height, width and "
            "channels, in the order of `layout`"
        )
    return found[0]


def _output_for_one_image(model: Any, preprocessing: Preprocessing, path: Path) -> NDArray[Any]:
    """Return the network's own output, before it is flattened, by running it once."""
    session = new_session(model.SerializeToString(), f"of {path}")
    shape = 1, preprocessing.height, preprocessing.width, 3
    image = np.zeros(shape, preprocessing.pixel_type)
    try:
        vector: NDArray[Any] = session.run(None, {"pomona_pixels": image})[0]
    except Exception as error:  # ONNX Runtime has no common base class
        raise EncoderError(
            f"{path} cannot take one image of {preprocessing.height}x{preprocessing.width}: "
            f"{one_line(error)}"
        ) from error
    if vector.ndim < 1 or len(vector) != 1:
        raise EncoderError(
            f"{path} has an output of shape {vector.shape} for one image, expected one vector: "
            "choose another layer with `layer`"
        )
    return vector


def _kind(image: Any) -> int:
    return int(image.type.tensor_type.elem_type)


def _integer_type(image: Any) -> str | None:
    """Return the number type of an input if it is an integer type."""
    from onnx import TensorProto

    return None if _kind(image) in _FLOATS else TensorProto.DataType.Name(_kind(image)).lower()


def _is_quantized(model: Any) -> bool:
    """Return whether numbers that depend on the image are rounded to few bits."""
    arrays = {array.name for array in model.graph.initializer}
    return any(
        node.op_type in _QUANTIZED and node.input[0] not in arrays for node in model.graph.node
    )


def _integer_type_of(array: NDArray[Any]) -> str | None:
    return None if array.dtype.kind == "f" else str(array.dtype)
