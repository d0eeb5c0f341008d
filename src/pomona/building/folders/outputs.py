"""Graphs with several inputs and outputs, cut to one input, the image, and one output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.graph.endpoints import with_output
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino

__all__ = ["cut_to_image"]

_OUTPUTS = ("image_embeds", "pooler_output", "last_hidden_state")  # the best first


def cut_to_image(network: Any, path: Path, layer: str | None, *, has_pooler: bool) -> Any:
    """Cut a graph at one output, and remove the inputs that this output does not need.

    The output is `image_embeds`, or else `pooler_output`, or else `last_hidden_state`. A graph of
    CLIP for images and text wants tokens of text, which `image_embeds` does not depend on.

    Args:
        network: an `openvino.Model`.
        path: its file, for errors.
        layer: name of another layer to cut at.
        has_pooler: whether `pooler_output` has trained weights.

    Returns:
        An `openvino.Model` with one input and one output, which has the name of the output.

    Raises:
        EncoderError: there is no such output, or it depends on more than the image.
    """
    openvino = import_openvino()
    if layer is not None:
        port = with_output(network, layer).output(0)
    else:
        port = _best(network, path, [n for n in _OUTPUTS if has_pooler or n != "pooler_output"])
    try:
        return openvino.Model([port.get_node().input_value(0)], [_image(network, path)])
    except RuntimeError as error:
        raise EncoderError(
            f"{path} computes this output from more than the image: choose another one with `layer`"
        ) from error


def _best(network: Any, path: Path, names: list[str]) -> Any:
    outputs = {name: port for port in network.outputs for name in port.get_names()}
    for name in names:
        if name in outputs:
            return outputs[name]
    if "logits" in outputs:
        raise EncoderError(
            f"{path} ends in class scores (logits), which are not features: export the network for "
            "the task feature-extraction, or choose an inner layer with `layer`"
        )
    if len(network.outputs) == 1:
        return network.output()
    raise EncoderError(
        f"{path} has the outputs {', '.join(sorted(outputs))}, expected one of {', '.join(names)}: "
        "name one with `layer`"
    )


def _image(network: Any, path: Path) -> Any:
    images = [
        parameter
        for parameter in network.get_parameters()
        if (rank := parameter.get_partial_shape().rank).is_static and rank.get_length() == 4
    ]
    if len(images) != 1:
        names = ", ".join(sorted(name for port in network.inputs for name in port.get_names()))
        raise EncoderError(f"{path} has the inputs {names}, expected one of rank 4: the image")
    return images[0]
