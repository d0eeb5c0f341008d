"""Network in a folder -> encoder, for either runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.file_digest import content_digest
from pomona.building.folders.kinds import NetworkFolder, read_folder
from pomona.building.folders.outputs import image_input, vector_output
from pomona.building.folders.weights import network_of_weights
from pomona.building.graph import onnx_files, onnx_graph, openvino_files
from pomona.building.graph.classifier_head import tensor_name
from pomona.building.graph.endpoints import with_output
from pomona.building.graph.image_input import refuse_signature
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino

__all__ = ["build", "describe"]


def build(
    path: Path, settings: NetworkSettings, runtime: str = "openvino", *, trust: bool = False
) -> Encoder:
    """Build an encoder.

    Args:
        path: the folder.
        settings: settings that differ from those of the folder.
        runtime: `openvino` or `onnxruntime`.
        trust: read weights that are pickles.

    Raises:
        EncoderError: the folder is not one that Pomona knows, or is incomplete; or the network does
            not return one vector for an image.
    """
    refuse_signature(path, settings.signature)
    folder = read_folder(path)
    if folder.library:
        return _of_weights(path, folder, settings, runtime, trust=trust)
    chosen = settings.over(folder.settings)
    if runtime == "onnxruntime":
        model = _cut_onnx(onnx_files.read_network(folder.graph), folder, chosen)
        return onnx_files.encoder_of(model, path, chosen, content_digest(path), folder.kind)
    network = openvino_files.read_network(folder.graph, folder.graph)
    network = _cut_openvino(network, folder, chosen)
    return openvino_files.encoder_of(network, path, chosen, content_digest(path), folder.kind)


def describe(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Return operations with their output shapes, and the number of constants.

    Raises:
        EncoderError: the folder is not one that Pomona knows, or is incomplete.
    """
    folder = read_folder(path)
    if not folder.library:
        return openvino_files.describe(folder.graph)
    network, _ = network_of_weights(path, folder, NetworkSettings(), trust=trust)
    return openvino_files.describe_graph(network)


def _of_weights(
    path: Path, folder: NetworkFolder, settings: NetworkSettings, runtime: str, *, trust: bool
) -> Encoder:
    if runtime != "openvino":
        raise EncoderError(
            f"`runtime` {runtime} requires an ONNX graph, and {path} has only weights: export the "
            "network to ONNX, or leave `runtime` out"
        )
    network, chosen = network_of_weights(path, folder, settings, trust=trust)
    vector_output(network.output().get_names(), folder, chosen)  # refuses other outputs
    return openvino_files.encoder_of(network, path, chosen, content_digest(path), folder.kind)


def _cut_openvino(network: Any, folder: NetworkFolder, settings: NetworkSettings) -> Any:
    """Cut an `openvino.Model` to one input and one output.

    Raises:
        EncoderError: there is no such output, or it depends on more than the image.
    """
    openvino = import_openvino()
    inputs = {tensor_name(each.output(0)): each for each in network.get_parameters()}
    ranks = {name: each.get_partial_shape().rank for name, each in inputs.items()}
    image = image_input(
        {name: rank.get_length() if rank.is_static else None for name, rank in ranks.items()},
        folder.graph,
    )
    outputs = [name for port in network.outputs for name in port.get_names()]
    port = with_output(network, vector_output(outputs, folder, settings)).output(0)
    try:
        return openvino.Model([port.get_node().input_value(0)], [inputs[image]])
    except RuntimeError as error:
        raise _needs_more(folder.graph) from error


def _cut_onnx(model: Any, folder: NetworkFolder, settings: NetworkSettings) -> Any:
    """Cut an `onnx.ModelProto`, in place, to one input and one output.

    Raises:
        EncoderError: there is no such output, or it depends on more than the image.
    """
    ranks = {each.name: len(onnx_graph.sides(each)) for each in onnx_graph.inputs(model)}
    image = image_input(ranks, folder.graph)
    outputs = [each.name for each in model.graph.output]
    onnx_graph.cut(model, vector_output(outputs, folder, settings), folder.graph)
    if {each.name for each in onnx_graph.inputs(model)} - {image}:
        raise _needs_more(folder.graph)
    return model


def _needs_more(path: Path) -> EncoderError:
    return EncoderError(
        f"{path} computes this output from more than the image: choose another one with `layer`"
    )
