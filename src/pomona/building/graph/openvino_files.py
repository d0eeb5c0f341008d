"""Networks that OpenVINO reads itself -> encoders: SavedModel, ONNX, TFLite and its own format."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pomona.building.file_digest import as_text, content_digest
from pomona.building.graph.classifier_head import check_end, in_openvino, tensor_name
from pomona.building.graph.endpoints import (
    attach_probes,
    flattened,
    prepend_preprocessing,
    refuse_map,
    refuse_whole_numbers,
    serialized,
    with_output,
)
from pomona.building.graph.signatures import DEFAULT, chosen
from pomona.building.network_settings import LAYOUTS, NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino

__all__ = [
    "architecture",
    "build",
    "describe",
    "image_layout",
    "image_size",
    "needed_preprocessing",
    "refuse_channels",
    "refuse_signature",
    "with_channels",
]

_CHANNELS = (3, 1)  # RGB, grey

Sides = list[int | None]  # a shape: None for a side that is not fixed, empty if its rank is not


def build(path: Path, settings: NetworkSettings, trust: bool = False) -> Encoder:  # noqa: ARG001
    """Build an encoder from a network in a file, or in a SavedModel's folder.

    Args:
        path: the file or the folder.
        settings: settings of the network that the file does not contain.
        trust: has no effect: none of these formats runs code here.

    Raises:
        EncoderError: it cannot be read; the network does not return one vector for an image; or its
            preprocessing is not specified.
    """
    network = _read(path, settings.signature)
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
    taken, given = _whole(network.input()), _whole(network.output())
    refuse_whole_numbers(path, taken, given, preprocessing)
    try:
        graph = prepend_preprocessing(network, preprocessing, layout)
        _check_vector(graph, path, settings)
        if settings.layer is None:
            check_end(*in_openvino(graph), path)
        graph = flattened(graph)
        content, constants = serialized(graph)
        return attach_probes(
            Encoder(
                model=as_text(path.name),
                architecture=architecture(path, sides, layout, settings.signature),
                weights=as_text(path.name),
                weights_sha256=content_digest(path),
                preprocessing=preprocessing,
                output=settings.layer or output,
                dimension=graph.output(0).get_shape()[1],
                precision="int8" if _is_quantized(network) else "f32",
                graph=content,
                constants=constants,
            )
        )
    except RuntimeError as error:
        raise EncoderError(
            f"{path} cannot take one image of {size[0]}x{size[1]}: {_reason(error)}"
        ) from error


def describe(path: Path, trust: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return operations with their output shapes, and the number of constants.

    Raises:
        EncoderError: it cannot be read.
    """
    network = _read(path)
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


def needed_preprocessing(
    path: Path,
    settings: NetworkSettings,
    size: tuple[int, int],
    hint: str = "",
    channels: int | None = 3,
) -> Preprocessing:
    """Return the specified preprocessing; nothing is guessed.

    Args:
        path: the name of the network, for errors.
        settings: the settings of the network.
        size: height and width of its input, in pixels.
        hint: known facts about such networks, for errors.
        channels: channels of its input, 1 or 3; None if that is not fixed.

    Raises:
        EncoderError: the arithmetic is not specified; the message shows how to specify it.
    """
    if not settings.tells_arithmetic:
        raise EncoderError(
            f"{path} does not record the preprocessing of its input: give `scale`, `mean` and "
            "`std` (input = (pixel * scale - mean) / std, pixels 0..255), or write them into "
            f"{path.name}.toml next to it{hint}; for example scale = 1 for a network that takes "
            "unchanged pixels, scale = 0.00392156862745098 for 0..1, mean = 127.5 and std = 127.5 "
            "for -1..1"
        )
    return with_channels(path, settings, size, channels)


def with_channels(
    path: Path, settings: NetworkSettings, size: tuple[int, int], channels: int | None
) -> Preprocessing:
    """Return the preprocessing in the settings; by default it is RGB, or grey for one channel.

    Raises:
        EncoderError: the network does not have the channel order of the settings.
    """
    told = settings.channel_order
    if channels is not None and told is not None and (channels == 1) != (told == "grey"):
        raise EncoderError(
            f"{path} takes images of {channels} channel{'s' if channels > 1 else ''}, and the "
            f"channel order is {told}: "
            + ("leave it out" if channels == 1 else "give RGB or BGR, or leave it out")
        )
    height, width = size
    raw = Preprocessing(
        height=height,
        width=width,
        channel_order="grey" if channels == 1 else "RGB",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    return settings.preprocessing(raw)


_FORMAT_NAMES = {".onnx": "ONNX", ".tflite": "TensorFlow Lite", ".xml": "OpenVINO"}


def architecture(path: Path, sides: Sides, layout: str, signature: str | None = None) -> str:
    """Return an encoder's words for its network: the format, and the layout if it was specified.

    A signature other than the default one is part of it.

    The rest of it is in the digest of the file.
    """
    known = "TensorFlow SavedModel" if path.is_dir() else _FORMAT_NAMES[path.suffix.lower()]
    if signature not in (None, DEFAULT):
        known += f", signature {signature}"
    return known if _layouts_shown(sides) == [layout] else f"{known}, {layout}"


def _read(path: Path, signature: str | None = None) -> Any:
    """Read a network with one input of rank 4; from a SavedModel, read one signature."""
    if not path.is_dir():
        refuse_signature(path, signature)
        return _read_file(path, path)
    with chosen(path, signature) as folder:
        return _read_file(folder, path)


def refuse_signature(path: Path, signature: str | None) -> None:
    """Refuse a signature for a network that has none.

    Raises:
        EncoderError: one is named.
    """
    if signature is not None:
        raise EncoderError(
            f"`signature` {signature} is for TensorFlow SavedModels, which {path} is not: leave it "
            "out, or name an output with `layer`"
        )


def _read_file(place: Path, path: Path) -> Any:
    if path.suffix.lower() == ".xml":
        _refuse_old_ir(path)
    openvino = import_openvino()
    try:
        network = openvino.Core().read_model(place)
    except (RuntimeError, UnicodeError) as error:
        other = ", and `runtime` onnxruntime may" if path.suffix.lower() == ".onnx" else ""
        raise EncoderError(
            f"OpenVINO {openvino.__version__.split('-')[0]} cannot read {path}: {_reason(error)}; "
            f"is the file complete? If so, OpenVINO does not know all of its operations{other}"
        ) from error
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
            told = _IR.search(file.read(2**16))
    except OSError as error:
        raise EncoderError(f"cannot read {path}: {error.strerror or error}") from error
    if told and int(told[1]) < _OLDEST_IR:
        raise EncoderError(
            f"{path} is OpenVINO IR of version {int(told[1])}, and IR before version {_OLDEST_IR} "
            "is no longer read: convert the original model again with OpenVINO 2020.1 or later "
            "(today: 'ovc MODEL')"
        )


def image_layout(sides: Sides, path: Path, settings: NetworkSettings) -> str:
    """Return the layout of a network's input, NCHW or NHWC, from its shape and the settings.

    Raises:
        EncoderError: there are neither three channels nor one, or both layouts are possible.
    """
    possible = [
        layout for layout in LAYOUTS if not sides or sides[layout.index("C")] in (*_CHANNELS, None)
    ]
    if not possible:
        refuse_channels(path, sides)
    shown = _layouts_shown(sides)
    if settings.layout is not None:
        if settings.layout not in (shown or possible):
            raise EncoderError(f"{path} takes an input of shape {sides}: not {settings.layout}")
        return settings.layout
    if len(shown) == 1:
        return shown[0]
    raise EncoderError(
        f"{path} takes an input of shape {sides or 'unknown'}, which does not show its layout: "
        f"give `layout` NCHW or NHWC, or write layout into {path.name}.toml next to it"
    )


def refuse_channels(path: Path, sides: Sequence[int | None]) -> NoReturn:
    """Refuse a network that takes other images than Pomona has.

    Raises:
        EncoderError: always.
    """
    raise EncoderError(
        f"{path} takes an input of shape {list(sides)}, which has neither 3 channels (RGB) nor 1 "
        "(grey): Pomona has no others, such as alpha, depth or infrared; export a network that "
        "takes RGB or grey images"
    )


def _layouts_shown(sides: Sides) -> list[str]:
    """Return the possible layouts; those of one channel only if none has three."""
    for channels in _CHANNELS if sides else ():
        if shown := [each for each in LAYOUTS if sides[each.index("C")] == channels]:
            return shown
    return []


def image_size(sides: Sides, layout: str, path: Path, settings: NetworkSettings) -> tuple[int, int]:
    """Return height and width of a network's input, from its shape and the settings.

    Raises:
        EncoderError: neither has them.
    """
    height, width = ((sides or [None] * 4)[layout.index(axis)] for axis in "HW")
    if settings.size is not None:
        return settings.size
    if height is None or width is None:
        raise EncoderError(
            f"{path} takes images of any size: give `size`, or write size into {path.name}.toml "
            "next to it"
        )
    return height, width


def _check_vector(graph: Any, path: Path, settings: NetworkSettings) -> None:
    """Refuse feature maps, unless the user chose the layer by name."""
    shape = graph.output(0).get_partial_shape()
    sides = [1 if side.is_dynamic else side.get_length() for side in shape]
    if shape.is_dynamic or not sides or sides[0] != 1:
        raise EncoderError(
            f"{path} has an output of shape {shape} for one image, expected one vector: name "
            "another layer with `layer`"
        )
    refuse_map(sides, path, settings.layer)


def _sides(output: Any) -> Sides:
    """Return the shape of a tensor."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [None if side.is_dynamic else side.get_length() for side in shape]


def _whole(port: Any) -> str | None:
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
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join((telling or lines or ["no reason given"])[-1].split())[:200]
