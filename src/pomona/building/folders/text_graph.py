"""Graphs of texts: cut to one input, the tokens, and one output, the vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pomona.errors import EncoderError
from pomona.messages import one_line
from pomona.runtime.openvino import import_openvino

__all__ = ["cut_to_text", "fitted_scores", "is_for_text", "known_tokens"]

_TOKENS = ("input_ids", "text")
_MASK = "attention_mask"
_SAME_ROWS = ("Convert", "Reshape", "Squeeze", "Unsqueeze")
_SCORED = ("logits_per_image", "image_embeds", "text_embeds")
_LARGEST_MISFIT = 1e-3  # of a score, as a share of the scale


def is_for_text(network: Any) -> bool:
    """Return whether a graph takes tokens."""
    return any(name in _inputs(network) for name in _TOKENS)


def cut_to_text(network: Any, path: Path, outputs: Sequence[str], context: int) -> Any:
    """Cut a graph to one input, the tokens (1, context) int64, and one output.

    A mask of attention is replaced by ones: SigLIP is trained without a mask, and in CLIP no token
    before the end of the text attends to those after it.

    Args:
        network: an `openvino.Model`, which is changed.
        path: its file, for errors.
        outputs: names of the output, the best first; empty for the only one.
        context: number of tokens.

    Raises:
        EncoderError: there is no such output, or it depends on more than the tokens.
    """
    openvino = import_openvino()
    ports = {name: port for port in network.outputs for name in port.get_names()}
    port = next((ports[name] for name in outputs if name in ports), None)
    if port is None and not outputs and len(network.outputs) == 1:
        port = network.output()
    if port is None:
        raise EncoderError(
            f"{path} has the outputs {', '.join(sorted(ports))}, expected "
            f"{' or '.join(outputs) or 'one'} for texts: export the text model with its "
            "projection, or remove tokenizer.json to build an encoder for images only"
        )
    inputs = _inputs(network)
    tokens = next(inputs[name] for name in _TOKENS if name in inputs)
    if _MASK in inputs:
        _replace_by_ones(inputs[_MASK], context)
    try:
        model = openvino.Model([port.get_node().input_value(0)], [tokens])
        model.reshape([1, context])
        return _with_int64(model)
    except RuntimeError as error:
        raise EncoderError(
            f"{path} does not make a vector of {context} tokens alone: {_reason(error)}; export "
            "it again, or remove tokenizer.json to build an encoder for images only"
        ) from error


def known_tokens(model: Any) -> int | None:
    """Return the number of tokens that a graph of texts has vectors for; None if not found."""
    (tokens,) = model.get_parameters()
    reached = {tokens.get_name()}
    for operation in model.get_ordered_ops():
        sources = [value.get_node().get_name() for value in operation.input_values()]
        kind = operation.get_type_name()
        if kind in _SAME_ROWS and sources[0] in reached:
            reached.add(operation.get_name())
        if kind == "Gather" and sources[1] in reached:
            table = operation.input_value(0).get_partial_shape()
            if len(table) == 2 and table.is_static:
                return int(table[0].get_length())
    return None


def fitted_scores(
    network: Any, path: Path, tokens: Sequence[Sequence[int]], size: tuple[int, int], *, bias: bool
) -> tuple[float, float] | None:
    """Return scale and bias of the scores that a graph of images and texts computes.

        logits_per_image = scale * cosine(image, text) + bias

    Args:
        network: an `openvino.Model`, which is changed.
        path: its file, for errors.
        tokens: those of some texts, at least three, all of one length.
        size: height and width of its images.
        bias: whether the model has a bias.

    Returns:
        Scale and bias; None if the graph has no scores.

    Raises:
        EncoderError: the graph cannot be computed, or its scores are of another form.
    """
    openvino = import_openvino()
    ports = {name: port for port in network.outputs for name in port.get_names()}
    inputs = _inputs(network)
    images = [one for one in inputs.values() if len(one.get_partial_shape()) == 4]
    if not (is_for_text(network) and images and all(name in ports for name in _SCORED)):
        return None
    text = next(inputs[name] for name in _TOKENS if name in inputs)
    if _MASK in inputs:
        _replace_by_ones(inputs[_MASK], len(tokens[0]))
    try:
        sources = [ports[name].get_node().input_value(0) for name in _SCORED]
        model = openvino.Model(sources, [text, images[0]])
        model.reshape({0: [1, len(tokens[0])], 1: [1, 3, *size]})
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        pixels = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
        found = [compiled([np.array([each]), pixels]) for each in tokens]
    except RuntimeError as error:
        raise EncoderError(f"{path} cannot be computed: {_reason(error)}") from error
    scores = np.array([float(one[0].item()) for one in found])
    cosines = np.array([_cosine(one[1], one[2]) for one in found])
    columns = np.stack([cosines, np.full(len(cosines), float(bias))], axis=1)
    (scale, offset), *_ = np.linalg.lstsq(columns, scores)
    if not np.abs(columns @ (scale, offset) - scores).max() <= _LARGEST_MISFIT * abs(scale):
        raise EncoderError(
            f"{path} has logits_per_image that are not a multiple of the cosine: give `logit_scale`"
        )
    return float(scale), float(offset)


def _cosine(first: Any, second: Any) -> float:
    a, b = np.ravel(first).astype(np.float64), np.ravel(second).astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))


def _inputs(network: Any) -> dict[str, Any]:
    return {
        name: parameter
        for parameter in network.get_parameters()
        for name in parameter.output(0).get_names()
    }


def _replace_by_ones(parameter: Any, context: int) -> None:
    import_openvino()
    from openvino import opset8

    kind = parameter.get_element_type()
    ones = opset8.constant(np.ones((1, context)), kind)
    parameter.output(0).replace(ones.output(0))


def _with_int64(model: Any) -> Any:
    """Let a graph take tokens as int64."""
    openvino = import_openvino()
    from openvino.preprocess import PrePostProcessor

    processor = PrePostProcessor(model)
    processor.input().tensor().set_element_type(openvino.Type.i64)
    processor.output().tensor().set_element_type(openvino.Type.f32)
    return processor.build()


def _reason(error: Exception) -> str:
    return one_line(str(error).strip().splitlines()[-1])
