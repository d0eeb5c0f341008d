"""Keras model with nested models -> one flat list of steps that starts at the image.

A trained model is usually a Sequential of augmentation, rescaling, a network that is itself a
model, pooling and dense layers. In the flat list, all layers have names, also those of nested
models; the input has a fixed size; and the arithmetic before the first weights is visible.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pomona.building.keras.backend import import_keras

__all__ = ["FlatNetwork", "Step", "flatten_model", "name_of", "tensors_in"]

# Layers that do nothing once a network is trained.
_ONLY_TRAINING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "ActivityRegularization", "RandAugment", "AugMix", "MixUp", "CutMix"),
    "StochasticDepth",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a layer or an operation.

    Attributes:
        layer: the `keras.Operation`.
        args: the arguments by position: tensors, numbers, and lists of them.
        kwargs: the arguments by name.
        outputs: the tensor or tensors that it returned.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any

    @property
    def input(self) -> Any:
        """The only tensor among its arguments; None if there are none or several."""
        tensors = list(tensors_in([self.args, self.kwargs]))
        return tensors[0] if len(tensors) == 1 else None

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.layer).__name__


@dataclass(frozen=True, slots=True)
class FlatNetwork:
    """A flat model.

    Attributes:
        image: the input, a `KerasTensor`.
        steps: the steps in the order in which they run.
        results: the model's outputs.
    """

    image: Any
    steps: list[Step]
    results: list[Any]

    def maker(self, tensor: Any) -> Step | None:
        """Return the step that returned a tensor; None for the image."""
        return self._makers().get(id(tensor))

    def before(self, output: Any) -> list[Step]:
        """Return the steps that an output needs, its own last, in an order given by the graph.

        Each step follows the steps that it needs, which are in the order of its arguments. The
        order in the file does not count, because it differs between formats and versions of Keras.
        """
        makers, ordered, seen = self._makers(), [], set()
        waiting = [(makers.get(id(output)), False)]
        while waiting:
            step, is_ready = waiting.pop()
            if step is None or (id(step) in seen and not is_ready):
                continue
            if is_ready:
                ordered.append(step)
                continue
            seen.add(id(step))
            waiting.append((step, True))
            needed = list(tensors_in([step.args, step.kwargs]))
            waiting += [(makers.get(id(tensor)), False) for tensor in reversed(needed)]
        return ordered

    def _makers(self) -> dict[int, Step]:
        return {id(tensor): step for step in self.steps for tensor in tensors_in(step.outputs)}


def flatten_model(network: Any, size: tuple[int, int], layout: str) -> FlatNetwork:
    """Flatten a model with an input of fixed size, without layers that only training needs.

    Layers keep their names. If two nested models have layers of the same name, the later one gets
    the name of its model as a prefix.

    Args:
        network: a `keras.Model` with one input.
        size: height and width of the input, in pixels.
        layout: layout of the input, NHWC or NCHW.

    Raises:
        ValueError, TypeError: the network cannot take an image of this size.
    """
    keras = import_keras()
    owners: dict[str, int] = {}  # the layer that has each name
    steps: list[Step] = []

    def call(layer: Any, *args: Any, within: str, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return run(layer, next(iter((*args, *kwargs.values()))))
        if _does_nothing(layer):
            return args[0]
        if owners.setdefault(layer.name, id(layer)) != id(layer):
            layer.name = f"{within}/{layer.name}"
            owners[layer.name] = id(layer)
        _settle(layer)
        kwargs.pop("training", None)
        steady = {}
        if getattr(layer, "_call_has_training_arg", False):
            steady["training"] = False  # some layers of Keras assume True: RandomCrop
        outputs = layer(*args, **kwargs, **steady)
        steps.append(Step(layer, args, kwargs, outputs))
        return outputs

    def run(model: Any, inputs: Any) -> Any:
        within = functools.partial(call, within=model.name)
        if isinstance(model, keras.Sequential):
            return functools.reduce(
                lambda tensor, layer: within(layer, tensor), model.layers, inputs
            )
        # Keras' own function to walk a graph. `clone_model`, which is public, makes a model of each
        # part, and fails for parts in the middle.
        return model._run_through_graph(inputs, operation_fn=lambda layer: layer, call_fn=within)

    sides = network.inputs[0].shape
    channels = sides[3] if layout == "NHWC" else sides[1]
    shape = (*size, channels) if layout == "NHWC" else (channels, *size)
    image = keras.Input(shape, name="image")
    results = run(network, image)
    return FlatNetwork(image, steps, list(tensors_in(results)))


def tensors_in(value: Any) -> Iterator[Any]:
    """Yield the graph's tensors in a value, including nested lists, tuples and dictionaries."""
    if isinstance(value, import_keras().KerasTensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)


def name_of(tensor: Any) -> str:
    """Return the name of the layer that returned a tensor."""
    return str(tensor._keras_history.operation.name)


def _does_nothing(layer: Any) -> bool:
    kind = type(layer).__name__
    return kind in _ONLY_TRAINING or (kind.startswith("Random") and not _changes_size(kind))


def _changes_size(kind: str) -> bool:
    return kind == "RandomCrop"  # in prediction, it takes the centre of the picture


def _settle(layer: Any) -> None:
    """Make a layer compute with its loaded weights."""
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()  # a Normalization keeps constants that loading an `.h5` leaves old
