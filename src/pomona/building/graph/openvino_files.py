"""Networks that OpenVINO reads itself -> encoders: SavedModel, ONNX, TFLite and its own format."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pomona.building.file_digest import as_text, content_digest, without_links
from pomona.building.graph.classifier_head import check_end, in_openvino, tensor_name
from pomona.building.graph.endpoints import (
    check_integer_types,
    encoder_of_graph,
    pooled,
    prepend_preprocessing,
    refuse_map,
    with_output,
)
from pomona.building.graph.image_input import (
    Sides,
    architecture,
    image_layout,
    image_size,
    needed_preprocessing,
    refuse_signature,
)
from pomona.building.graph.signatures import chosen
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.messages import one_line
from pomona.runtime.openvino import import_openvino

__all__ = ["build", "describe", "describe_graph", "encoder_of", "read_network"]


def build(path: Path, settings: NetworkSettings) -> Encoder:
    """Build an encoder from a network in a file, or in a SavedModel's folder.

    Args:
        path: the file or the folder.
        settings: settings of the network that the file does not contain.

    Raises:
        EncoderError: it cannot be read; the network does not return one vector for an image; or its
            preprocessing is not specified.
    """
    network = _read(path, settings.signature)
    return encoder_of(network, path, settings, content_digest(path))


def encoder_of(
    network: Any, path: Path, settings: NetworkSettings, digest: str, kind: str | None = None
) -> Encoder:
    """Build an encoder from a graph of OpenVINO that is in memory.

    Args:
        network: an `openvino.Model` with one input, the image.
        path: the file or folder that it was read from, for names and errors.
        settings: settings of the network that the file does not contain.
        digest: SHA-256 (hex) of its files.
        kind: kind of the folder, for the fingerprint; None for a file or a SavedModel.

    Raises:
        EncoderError: the network does not return one vector for an image; or its preprocessing is
            not specified.
    """
    sides = _sides(network.input())
    layout = image_layout(sides, path, settings)
    size = image_size(sides, layout, path, settings)
    channels = sides[layout.index("C")] if sides else None
    preprocessing = needed_preprocessing(path, settings, size, channels=channels)
    if settings.layer is not None:
        network = with_output(network, settings.layer)
    elif len(network.outputs) > 1:
        names = ", ".join(map(tensor_name, network.outputs))
        raise EncoderError(
            f"{path} has {len(network.outputs)} outputs ({names}), expected one vector for each "
            "image: name one, or a layer, with `layer`"
        )
    (output,) = map(tensor_name, network.outputs)
    input_type, output_type = _integer_type(network.input()), _integer_type(network.output())
    check_integer_types(path, input_type, output_type, preprocessing)
    try:
        graph = prepend_preprocessing(network, preprocessing, layout)
        graph, how = pooled(graph, settings)
        _check_vector(graph, path, settings)
        if settings.layer is None and output != "image_embeds":  # a projection, not a classifier
            check_end(*in_openvino(graph), path)
        return encoder_of_graph(
            graph,
            settings,
            model=as_text(path.name),
            architecture=architecture(path, sides, layout, settings.signature, kind) + how,
            weights=as_text(path.name),
            weights_sha256=digest,
            preprocessing=preprocessing,
            output=settings.layer or output,
            precision="int8" if _is_quantized(network) else "f32",
        )
    except RuntimeError as error:
        raise EncoderError(
            f"{path} cannot take one image of {size[0]}x{size[1]}: {_reason(error)}"
        ) from error


def describe(path: Path) -> dict[str, Any]:
    """Return operations with their output shapes, and the number of constants.

    Raises:
        EncoderError: it cannot be read.
    """
    return describe_graph(_read(path))


def describe_graph(network: Any) -> dict[str, Any]:
    """Return operations with their output shapes, and the number of constants.

    Args:
        network: an `openvino.Model`.
    """
    operations = [o for o in network.get_ordered_ops() if o.get_type_name() != "Constant"]
    constants = [o for o in network.get_ordered_ops() if o.get_type_name() == "Constant"]
    return {
        "layers": [
            {
                "name": tensor_name(operation.output(0)),
                "class": operation.get_type_name(),
                "shape": _sides(operation.output(0))[1:],
                "parameters": 0,
            }
            for operation in operations
            if operation.get_type_name() != "Result"
        ],
        "parameters": sum(math.prod(constant.output(0).get_shape()) for constant in constants),
    }


def _read(path: Path, signature: str | None = None) -> Any:
    """Read a network with one input of rank 4; from a SavedModel, read one signature."""
    if not path.is_dir():
        refuse_signature(path, signature)
        return _with_one_image(read_network(path, path), path)
    with chosen(path, signature) as folder:
        return _with_one_image(read_network(folder, path), path)


def read_network(place: Path, path: Path) -> Any:
    """Read a network of any inputs and outputs.

    Args:
        place: the file, or a folder of a SavedModel.
        path: its name for errors.

    Raises:
        EncoderError: OpenVINO cannot read it.
    """
    if path.suffix.lower() == ".xml":
        _refuse_old_ir(path)
    openvino = import_openvino()
    is_onnx = path.suffix.lower() == ".onnx"
    try:
        with without_links(place) if is_onnx else nullcontext(place) as real:
            return openvino.Core().read_model(real)
    except (RuntimeError, UnicodeError) as error:
        other = ", and `runtime` onnxruntime may" if is_onnx else ""
        raise EncoderError(
            f"OpenVINO {openvino.__version__.split('-')[0]} cannot read {path}: {_reason(error)}; "
            f"is the file complete? If so, OpenVINO does not know all of its operations{other}"
        ) from error


def _with_one_image(network: Any, path: Path) -> Any:
    if len(network.inputs) != 1:
        names = ", ".join(map(tensor_name, network.inputs))
        signature = "; choose another signature with `signature`, if it has others"
        raise EncoderError(
            f"{path} has {len(network.inputs)} inputs ({names}), expected one: the image"
            f"{signature if path.is_dir() else ''}"
        )
    rank = network.input().get_partial_shape().rank
    if rank.is_static and rank.get_length() != 4:
        raise EncoderError(
            f"{path} takes an input of shape {_sides(network.input())}, expected one of rank 4: "
            "images"
        )
    return network


_IR = re.compile(rb"<net\b[^>]*?\bversion\s*=\s*[\"'](\d{1,9})[\"']")
_OLDEST_IR = 10


def _refuse_old_ir(path: Path) -> None:
    """Refuse a file of OpenVINO before 2020: OpenVINO itself does not recognise it as a model."""
    try:
        with path.open("rb") as file:
            found = _IR.search(file.read(2**16))
    except OSError as error:
        raise EncoderError(f"cannot read {path}: {error.strerror or error}") from error
    if found and int(found[1]) < _OLDEST_IR:
        raise EncoderError(
            f"{path} is OpenVINO IR of version {int(found[1])}, and IR before version {_OLDEST_IR} "
            "is no longer read: convert the original model again with OpenVINO 2020.1 or later "
            "(today: 'ovc MODEL')"
        )


def _check_vector(graph: Any, path: Path, settings: NetworkSettings) -> None:
    """Refuse feature maps, unless the user chose the layer by name."""
    shape = graph.output(0).get_partial_shape()
    sides = [1 if side.is_dynamic else side.get_length() for side in shape]
    if shape.is_dynamic or not sides or sides[0] != 1:
        raise EncoderError(
            f"{path} has an output of shape {shape} for one image, expected one vector: choose "
            "another layer with `layer`"
        )
    refuse_map(sides, path, settings.layer)


def _sides(output: Any) -> Sides:
    """Return the shape of a tensor."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [None if side.is_dynamic else side.get_length() for side in shape]


def _integer_type(port: Any) -> str | None:
    """Return the number type of an input or output if it is an integer type."""
    kind = port.get_element_type()
    return str(kind.to_string()) if kind.is_integral() else None


def _is_quantized(network: Any) -> bool:
    """Return whether numbers that depend on the image are rounded to few bits."""
    return any(
        operation.get_type_name() == "FakeQuantize"
        and operation.input_value(0).get_node().get_type_name() != "Constant"
        for operation in network.get_ordered_ops()
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    specific = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return one_line((specific or lines or ["no reason given"])[-1])
