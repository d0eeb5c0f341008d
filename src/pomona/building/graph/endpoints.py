"""OpenVINO graph of any source -> graph of an encoder, from pixels to a vector."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.graph.transposes import sink_transposes
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino
from pomona.runtime.parity import probe_vectors
from pomona.runtime.registry import runtime_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "attach_probes",
    "check_integer_types",
    "did_you_mean",
    "encoder_of_graph",
    "flattened",
    "patch_tokens",
    "pooled",
    "pooling",
    "prepend_preprocessing",
    "refuse_map",
    "serialized",
    "with_output",
]

# A vector is divided by its length, or by this if it is shorter, as by PyTorch's `normalize`.
_SHORTEST = 1e-12

# Number types, by their names in OpenVINO and in ONNX.
_UNSIGNED = {"u8", "uint8", "u16", "uint16", "u32", "uint32", "u64", "uint64"}
_SIGNED = {"i16", "int16", "i32", "int32", "i64", "int64"}


def prepend_preprocessing(model: Any, preprocessing: Preprocessing, layout: str) -> Any:
    """Put the preprocessing's arithmetic in front of a graph.

    Args:
        model: an `openvino.Model` with one input, of rank 4.
        preprocessing: the preprocessing of the network.
        layout: layout of the input, NCHW or NHWC.

    Returns:
        A model that takes (1, height, width, 3) RGB pixels. For a grey network the three channels
        are equal, and the model uses the first.
    """
    openvino = import_openvino()
    grey = preprocessing.is_grey
    from openvino.preprocess import PrePostProcessor

    sides = {"N": 1, "H": preprocessing.height, "W": preprocessing.width, "C": 1 if grey else 3}
    model.reshape([sides[axis] for axis in layout])
    processor = PrePostProcessor(model)
    pixels = processor.input()
    pixels.tensor().set_element_type(_pixel_type(preprocessing)).set_layout(openvino.Layout("NHWC"))
    pixels.model().set_layout(openvino.Layout(layout))
    steps = pixels.preprocess().convert_element_type(openvino.Type.f32)
    if preprocessing.channel_order == "BGR":
        steps.reverse_channels()
    if grey:
        steps.mean(preprocessing.mean[0]).scale(preprocessing.std[0])
    else:
        steps.mean(list(preprocessing.mean)).scale(list(preprocessing.std))
    processor.output().tensor().set_element_type(openvino.Type.f32)
    ready = processor.build()
    if grey:
        _take_first_channel(ready, preprocessing)
    sink_transposes(ready)
    return ready


def _pixel_type(preprocessing: Preprocessing) -> Any:
    return import_openvino().Type(np.dtype(preprocessing.pixel_type))


def _take_first_channel(model: Any, preprocessing: Preprocessing) -> None:
    """Let a network of one channel take three."""
    import_openvino()
    from openvino import opset8

    (one,) = model.get_parameters()
    shape = [1, preprocessing.height, preprocessing.width, 3]
    three = opset8.parameter(shape, _pixel_type(preprocessing), "pixels")
    first = opset8.gather(three, np.array([0]), np.array(3))
    one.output(0).replace(first.output(0))
    model.add_parameters([three])
    model.remove_parameter(one)
    model.validate_nodes_and_infer_types()


def check_integer_types(
    path: Path, input_type: str | None, output_type: str | None, preprocessing: Preprocessing
) -> None:
    """Refuse an integer input that cannot represent the pixels, and a quantized output.

    Args:
        path: the name of the network, for errors.
        input_type: the type of its input if that is an integer type: `u8`, `i64`.
        output_type: the type of its output if that is an integer type.
        preprocessing: the preprocessing of its input.

    Raises:
        EncoderError: the input type cannot represent the preprocessed pixels; or the output has
            integers, which need a scale and a zero point.
    """
    if output_type:
        raise EncoderError(
            f"{path} returns integers ({output_type}), as quantized networks do, and features are "
            "floats: choose another layer with `layer`, or convert it with float input and output"
        )
    if input_type is None:
        return
    if input_type not in _UNSIGNED | _SIGNED:
        raise EncoderError(
            f"{path} takes {input_type}, which cannot represent pixels 0..255: convert it with "
            "uint8 or float input"
        )
    is_signed = input_type in _SIGNED  # unsigned numbers would wrap around
    fits = all(mean == (round(mean) if is_signed else 0) for mean in preprocessing.mean)
    if not (fits and all(std == 1 for std in preprocessing.std)):
        raise EncoderError(
            f"{path} takes integers ({input_type}), which cannot represent pixels after this "
            f"preprocessing: give `scale` 1, no `std`, and "
            f"{'an integer' if is_signed else 'no'} `mean`"
        )


def refuse_map(shape: Sequence[int], path: Path, layer: str | None) -> None:
    """Refuse feature maps, unless the user chose the layer by name.

    Raises:
        EncoderError: the output for one image has several sides longer than 1.
    """
    if layer is None and sum(side > 1 for side in shape) > 1:
        raise EncoderError(
            f"{path} has an output of shape {tuple(shape)} for one image, expected one vector: "
            "choose a layer with `layer` (this one too, to flatten its numbers), or turn tokens "
            "into one vector with `pool`"
        )


def with_output(model: Any, name: str) -> Any:
    """Cut a graph off after the operation or the tensor of that name.

    Raises:
        EncoderError: no layer has that name; the message suggests similar ones.
    """
    openvino = import_openvino()
    names: dict[str, Any] = {}
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        for output in operation.outputs():
            names.update(dict.fromkeys(output.get_names(), output))
        names.setdefault(operation.get_friendly_name(), operation.output(0))
    if name not in names:
        raise EncoderError(f"the network has no layer {name!r}{did_you_mean(name, names)}")
    return openvino.Model([names[name]], model.get_parameters())


def pooling(settings: NetworkSettings, rank: int) -> str:
    """Return what `pool` does to an output of a rank, for the fingerprint; "" if nothing."""
    if settings.pool is None or rank not in (3, 4):
        return ""
    if rank == 4:
        return ", mean of the map"
    if settings.pool == "cls":
        return ", first token"
    return f", mean of the tokens after the first {settings.prefix_tokens or 0}"


def patch_tokens(settings: NetworkSettings, count: int) -> NDArray[np.int64]:
    """Return the indices of the tokens, of `count`, that are not prefix tokens.

    Raises:
        EncoderError: there are none.
    """
    first = settings.prefix_tokens or 0
    if first >= count:
        raise EncoderError(
            f"`prefix_tokens` {first} leaves no token of {count}: give the number of class tokens "
            "and registers, such as 1 for a ViT"
        )
    return np.arange(first, count)


def pooled(model: Any, settings: NetworkSettings) -> tuple[Any, str]:
    """Turn tokens (1, N, D), or a map (1, D, height, width), into one vector (1, D).

    Args:
        model: an `openvino.Model` with one output of a static shape.
        settings: with `pool`: `cls` is the first token, `mean` that of the tokens after the first
            `prefix_tokens`, or of all pixels of a map.

    Returns:
        The model, and what was done, for the fingerprint. If the output is no map and no tokens, or
        `pool` is None, the model is the same.
    """
    openvino = import_openvino()
    from openvino import opset8 as ops

    port = model.output(0).get_node().input_value(0)
    rank = len(port.get_partial_shape())
    how = pooling(settings, rank)
    if not how:
        return model, ""
    if rank == 4:
        vector = ops.reduce_mean(port, np.array([2, 3]), keep_dims=False)
    elif settings.pool == "cls":
        vector = ops.gather(port, np.array(0), np.array(1))
    else:
        count = port.get_partial_shape()[1].get_length()
        patches = ops.gather(port, patch_tokens(settings, count), np.array(1))
        vector = ops.reduce_mean(patches, np.array([1]), keep_dims=False)
    return openvino.Model([vector.output(0)], model.get_parameters()), how


def encoder_of_graph(graph: Any, settings: NetworkSettings, **facts: Any) -> Encoder:
    """Flatten a graph, scale its vector if the settings ask for it, and make it an encoder.

    Args:
        graph: an `openvino.Model` from pixels to an output of a static shape.
        settings: with `normalize`.
        facts: the fields of the encoder that the graph does not show.

    Raises:
        EncoderError: as for `attach_probes`.
    """
    graph = flattened(graph, normalize=bool(settings.normalize))
    content, constants = serialized(graph)
    return attach_probes(
        Encoder(
            dimension=graph.output(0).get_shape()[1],
            graph=content,
            constants=constants,
            normalized=bool(settings.normalize),
            **facts,
        )
    )


def flattened(model: Any, *, normalize: bool) -> Any:
    """Reshape the only output of a graph to a vector, (1, D), and scale it to length 1 if asked."""
    openvino = import_openvino()
    from openvino import opset8

    output = model.output(0).get_node().input_value(0)
    vector = opset8.reshape(output, np.array([1, -1]), special_zero=False)
    if normalize:
        vector = opset8.normalize_l2(vector, np.array([1]), _SHORTEST**2, "max")
    return openvino.Model([vector.output(0)], model.get_parameters())


def serialized(model: Any) -> tuple[bytes, bytes]:
    """Return the graph and its constants, in OpenVINO's intermediate representation."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        graph, constants = Path(folder, "encoder.xml"), Path(folder, "encoder.bin")
        openvino.serialize(model, graph, constants)
        return graph.read_bytes(), constants.read_bytes()


def attach_probes(encoder: Encoder) -> Encoder:
    """Compute the probes' vectors, with which workers compare their own.

    Raises:
        EncoderError: a vector has NaN or infinity, or only zeros; or the encoder is too large.
    """
    try:
        encoder.check()
    except ValueError as error:
        raise EncoderError(f"{encoder.model} cannot be an encoder: {error}") from error
    vectors = probe_vectors(runtime_for(encoder))
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise EncoderError(
            f"{encoder.model} with weights {encoder.weights} computes NaN, infinite or all-zero "
            "vectors for drawn images: the weights are damaged or belong to another network, or "
            "the preprocessing differs from that of the training"
        )
    return replace(encoder, probes=vectors.astype("<f4").tobytes())


def did_you_mean(name: str, names: Any) -> str:
    """Return the end of a sentence that suggests similar names, or lists the last few."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    if close:
        return f": did you mean {', '.join(close)}?"
    return f"; the last ones are {', '.join(names[-4:])}"
