"""ONNX files -> encoders that run on ONNX Runtime.

The arithmetic of the preprocessing becomes the first part of the graph, in ONNX itself: the encoder
takes uint8 pixels, like encoders for OpenVINO.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.file_digest import as_text, content_digest
from pomona.building.graph.classifier_head import check_end, in_onnx
from pomona.building.graph.endpoints import attach_probes, check_integer_types, refuse_map
from pomona.building.graph.image_input import (
    architecture,
    image_layout,
    image_size,
    needed_preprocessing,
    refuse_signature,
)
from pomona.building.graph.onnx_graph import cut_at_output, flatten_output, prepend_preprocessing
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

__all__ = ["build"]

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
    what = "`runtime` onnxruntime needs ONNX and ONNX Runtime"
    check_extra("onnx", what, "onnx", "onnxruntime", error=EncoderError)
    import onnx

    refuse_signature(path, settings.signature)
    settings.check_unused("`runtime` onnxruntime", "pool", "prefix_tokens")
    digest = content_digest(path)  # also checks that its arrays are in its folder
    try:
        model = onnx.load(path)
        _check(model)
    except Exception as error:  # protobuf, ONNX and the system raise different ones
        raise EncoderError(
            f"ONNX {onnx.__version__} cannot read {path}: {one_line(error)}; is the file complete?"
        ) from error
    _check_version(model, path)
    _refuse_both_signs(model, path)
    image = _image(model, path)
    sides = _sides(image)
    layout = image_layout(sides, path, settings)
    size = image_size(sides, layout, path, settings)
    channels = sides[layout.index("C")]
    preprocessing = needed_preprocessing(path, settings, size, channels=channels)
    output = cut_at_output(model, image.name, path, settings)
    if settings.layer is None:
        check_end(*in_onnx(model), path)
    flatten_output(model, output, normalize=bool(settings.normalize))
    only_one = sides[:1] == [1]
    prepend_preprocessing(model, image, preprocessing, layout, only_one=only_one)
    if model.ByteSize() > _LARGEST:
        raise EncoderError(f"{path} is larger than 2 GB with its arrays: use `runtime` openvino")
    sample = _output_for_one_image(model, output, preprocessing, path)
    check_integer_types(path, _integer_type(image), _integer_type_of(sample), preprocessing)
    refuse_map(sample.shape, path, settings.layer)
    encoder = attach_probes(
        Encoder(
            model=as_text(path.name),
            architecture=architecture(path, sides, layout),
            weights=as_text(path.name),
            weights_sha256=digest,
            preprocessing=preprocessing,
            output=output,
            dimension=sample.size,
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
    arrays = {array.name for array in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in arrays]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise EncoderError(f"{path} has {len(inputs)} inputs ({names}), expected one: the image")
    if (rank := len(inputs[0].type.tensor_type.shape.dim)) != 4:
        raise EncoderError(
            f"{path} takes an input of {rank} dimensions, expected 4: number, height, width and "
            "channels, in the order of `layout`"
        )
    return inputs[0]


def _sides(value: Any) -> list[int | None]:
    return [side.dim_value or None for side in value.type.tensor_type.shape.dim]


def _output_for_one_image(
    model: Any, output: str, preprocessing: Preprocessing, path: Path
) -> NDArray[Any]:
    """Return the network's own output, before it is flattened, by running it once."""
    from onnx import ModelProto, ValueInfoProto

    both = ModelProto()
    both.CopyFrom(model)
    both.graph.output.append(ValueInfoProto(name=output))  # of any number type
    session = new_session(both.SerializeToString(), f"of {path}")
    shape = 1, preprocessing.height, preprocessing.width, 3
    image = np.zeros(shape, preprocessing.pixel_type)
    try:
        vector: NDArray[Any] = session.run([output], {"pomona_pixels": image})[0]
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
