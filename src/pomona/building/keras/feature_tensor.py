"""Finds the tensor of a Keras model that is its feature vector.

This is the output of a layer that you name, or the input of the classifier at the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.graph.endpoints import did_you_mean
from pomona.building.keras.flatten import FlatNetwork, Step, name_of, tensors_in
from pomona.errors import EncoderError

__all__ = ["feature_tensor", "has_learned_weights"]

# Layers, functions of `keras.ops` and activations that turn a classifier's numbers into scores.
_SCORES = ("Softmax", "Sigmoid", "LogSoftmax", "LogSigmoid", "Sparsemax")
_SCORING = ("softmax", "sigmoid", "log_softmax", "log_sigmoid", "sparsemax", "hard_sigmoid")
# Layers that can follow these numbers at the end of a network.
_AFTER_DENSE = ("Activation", "Flatten", "Reshape", "ReLU", "Identity", "Squeeze")
_NORMALISING = ("BatchNormalization", "LayerNormalization")  # only if the end is a score


def feature_tensor(flat: FlatNetwork, path: Path, layer: str | None) -> Any:
    """Return the tensor that is the feature vector."""
    if layer is not None:
        return _named(flat, layer, path)
    if len(flat.results) > 1:
        names = [name_of(tensor) for tensor in flat.results]
        raise EncoderError(
            f"{path} has {len(names)} outputs ({', '.join(names)}), expected one: name a layer "
            "with `layer`"
        )
    return _before_classifier(flat, path)


def _named(flat: FlatNetwork, name: str, path: Path) -> Any:
    """Return the output tensor of the layer of that name."""
    outputs = [
        tensor for s in flat.steps if s.layer.name == name for tensor in tensors_in(s.outputs)
    ]
    if len(outputs) == 1:
        return outputs[0]
    if outputs:
        raise EncoderError(
            f"{path} has {len(outputs)} tensors of layer {name!r}, which is called more than once "
            "or returns several: choose a layer after them"
        )
    close = did_you_mean(name, [step.layer.name for step in flat.steps])
    raise EncoderError(f"{path} has no layer {name!r}{close}")


def _before_classifier(flat: FlatNetwork, path: Path) -> Any:
    """Return the tensor before a classifier's last layer, or the output if there is no classifier.

    The classifier is the last layer with weights if it is dense or a convolution over one pixel (as
    in MobileNet), and if only activations and reshaping follow it. If the output is a score, any
    layers without weights and normalisations may follow it too, and the classifier may be several
    layers of the same features.

    Raises:
        EncoderError: the network ends in scores, but their features are not clear.
    """
    (end,) = flat.results
    is_score = _is_score(flat, end, {})
    waiting, seen, found = [end], set(), {}
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        step = flat.maker(tensor)
        if step and _is_classifier(step, is_score=is_score):
            found[id(step.input)] = step.input
        elif step and is_score and (step.kind in _NORMALISING or not has_learned_weights(step)):
            waiting += tensors_in([step.args, step.kwargs])
        elif step and step.input is not None and step.kind in _AFTER_DENSE:
            waiting.append(step.input)
        else:
            found[id(None)] = None  # something else, or the image
    features = list(found.values())
    if len(features) == 1 and features[0] is not None:
        return features[0]
    if is_score:
        last = ", ".join(each.layer.name for each in flat.steps[-6:])
        raise EncoderError(
            f"{path} ends in scores, and Pomona finds no dense layers that compute them from one "
            f"vector: choose the layer of its features with `layer`; the last ones are {last}"
        )
    return end


def _is_classifier(step: Step, *, is_score: bool) -> bool:
    kind = type(_wrapped(step)).__name__
    if step.input is None or kind not in ("Dense", "Conv2D", "EinsumDense"):
        return False
    return (kind == "Dense" and not is_score) or _is_one_pixel(step.input)


def _wrapped(step: Step) -> Any:
    """Return the layer itself, or the one in a wrapper such as SpectralNormalization."""
    return getattr(step.layer, "layer", step.layer)


def _is_score(flat: FlatNetwork, tensor: Any, results: dict[int, bool]) -> bool:
    """Return whether a tensor is a score, or depends only on scores without weights."""
    if id(tensor) not in results:
        results[id(tensor)] = False
        step = flat.maker(tensor)
        if step is not None and _scores(step):
            results[id(tensor)] = True
        elif step is not None and not has_learned_weights(step):
            inputs = list(tensors_in([step.args, step.kwargs]))
            results[id(tensor)] = bool(inputs) and all(_is_score(flat, t, results) for t in inputs)
    return results[id(tensor)]


def _scores(step: Step) -> bool:
    activation = getattr(getattr(_wrapped(step), "activation", None), "__name__", None)
    return step.kind in _SCORES or activation in _SCORING


def _is_one_pixel(tensor: Any) -> bool:
    return len([side for side in tensor.shape[1:] if side > 1]) <= 1


def has_learned_weights(step: Step) -> bool:
    """Return whether a layer has trained weights; those of a Normalization are statistics."""
    return bool(getattr(step.layer, "weights", None)) and step.kind != "Normalization"
