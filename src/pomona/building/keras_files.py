"""Whole Keras models in files -> encoders: `.keras`, and `.h5` of Keras 2 and 3.

    file -> checked for code -> loaded -> unnested -> cut before its classifier -> exported

What a person trained is usually a Sequential of augmentation, rescaling, a network that is itself a
model, pooling and dense layers. It is laid out flat first, so that every layer can be named,
whatever model it is in, and so that it can be given an input of fixed size.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.building.graph import flattened, near, serialized, take_pixels, with_probes
from pomona.building.graph_files import needed_preprocessing, raw_pixels
from pomona.building.keras_backend import exported, import_keras, weights_digest
from pomona.building.keras_loading import load_model, objects_in, read_config
from pomona.building.settings import NetworkSettings
from pomona.encoder.blob import Encoder, canonical_digest
from pomona.encoder.cards import CARDS
from pomona.errors import EncoderError

__all__ = ["build", "describe"]

# Layers that do nothing once a network is trained.
_ONLY_TRAINING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "ActivityRegularization", "RandAugment", "AugMix", "MixUp", "CutMix"),
)
# What can stand between a classifier's scores and the end: nothing that has weights.
_AFTER_SCORES = (
    *("Activation", "Softmax", "Flatten", "Reshape", "ReLU", "Identity"),
    *("Sigmoid", "LogSoftmax", "LogSigmoid", "Squeeze"),  # functions of `keras.ops`
)
_ARITHMETIC = (
    *("Rescaling", "Normalization", "Add", "Subtract", "Multiply", "Divide", "TrueDivide"),
)
_UNIMPORTANT = {"build_config", "compile_config", "trainable", "dtype"}
_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def build(path: Path, settings: NetworkSettings, trust: bool = False) -> Encoder:
    """Build an encoder from a whole Keras model.

    Args:
        path: a file that Keras wrote.
        settings: what is said of the network; its input's size and arithmetic need not be, where
            the model itself has them.
        trust: run code that the file holds, such as a Lambda layer's.

    Raises:
        EncoderError: it cannot be read, holds code, does not give one vector for an image, or not
            enough is said of it.
    """
    network = load_model(path, trust=trust)
    config, _ = read_config(path)
    layout, size = _input(network, path, settings)
    try:
        flat = _unnested(network, size, layout)
    except (ValueError, TypeError) as error:
        raise EncoderError(
            f"{path} cannot take one image of {size[0]}x{size[1]}: {_one_line(error)}"
        ) from error
    output = _output(flat, path, settings)
    cut = import_keras().Model(flat.image, output)
    if _scales_itself(cut) and not settings.tells_arithmetic:
        preprocessing = settings.preprocessing(raw_pixels(size))
    else:
        preprocessing = needed_preprocessing(path, settings, size, _hint(config))
    graph = flattened(take_pixels(exported(cut), preprocessing, layout))
    content, constants = serialized(graph)
    return with_probes(
        Encoder(
            model=path.name,
            architecture=f"Keras model {canonical_digest(_architecture(config))}",
            weights=path.name,
            weights_sha256=weights_digest(cut),
            preprocessing=preprocessing,
            output=_name(output),
            dimension=graph.output(0).get_shape()[1],
            precision="f32",
            graph=content,
            constants=constants,
        )
    )


def describe(path: Path, trust: bool = False) -> dict[str, Any]:
    """Layers, output shapes (without the batch) and parameter counts of a model.

    Raises:
        EncoderError: it cannot be read, or holds code.
    """
    network = load_model(path, trust=trust)
    layout, size = _input(network, path, NetworkSettings(size=(224, 224)), describing=True)
    steps = _unnested(network, size, layout).steps
    return {
        "layers": [
            {
                "name": step.layer.name,
                "class": type(step.layer).__name__,
                "shape": list(step.made.shape[1:]),
                "parameters": step.layer.count_params() if hasattr(step.layer, "weights") else 0,
            }
            for step in steps
        ],
        "parameters": network.count_params(),
    }


@dataclass(frozen=True, slots=True)
class _Step:
    """One layer at work: what it was given first, and what it made."""

    layer: Any
    given: Any
    made: Any


@dataclass(frozen=True, slots=True)
class _Flat:
    """A model laid out flat, in the order of its work."""

    image: Any
    steps: list[_Step]
    results: list[Any]


def _input(
    network: Any, path: Path, settings: NetworkSettings, *, describing: bool = False
) -> tuple[str, tuple[int, int]]:
    """Layout and size of the one image that the network takes."""
    if len(network.inputs) != 1:
        names = ", ".join(tensor.name for tensor in network.inputs)
        raise EncoderError(
            f"{path} has {len(network.inputs)} inputs ({names}), expected one: the image"
        )
    sides = tuple(network.inputs[0].shape)
    if len(sides) != 4 or 3 not in (sides[1], sides[3]):
        raise EncoderError(
            f"{path} takes an input of shape {sides}, expected images with 3 channels"
        )
    layout = "NHWC" if sides[3] == 3 else "NCHW"
    if settings.layout not in (None, layout):
        raise EncoderError(f"{path} takes an input of shape {sides}: not {settings.layout}")
    own = sides[1:3] if layout == "NHWC" else sides[2:]
    if settings.size is None or (describing and None not in own):
        if None in own:
            raise EncoderError(f"{path} takes images of any size: say which with --size PIXELS")
        return layout, (own[0], own[1])
    return layout, settings.size


def _unnested(network: Any, size: tuple[int, int], layout: str) -> _Flat:
    """Lay a model out flat, without what only training needs, on an input of fixed size.

    Layers keep their names; where two models within it have one of the same name, the later one
    has that of its model in front.
    """
    keras = import_keras()
    owners: dict[str, int] = {}  # name: which layer has it
    steps: list[_Step] = []

    def call(layer: Any, *args: Any, within: str, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return run(layer, args[0])
        if _does_nothing(layer):
            return args[0]
        if owners.setdefault(layer.name, id(layer)) != id(layer):
            layer.name = f"{within}/{layer.name}"
            owners[layer.name] = id(layer)
        _to_float32(layer)
        kwargs.pop("training", None)
        if getattr(layer, "_call_has_training_arg", False):
            kwargs["training"] = False  # what some of Keras' layers take for true: RandomCrop
        made = layer(*args, **kwargs)
        steps.append(_Step(layer, args[0] if args else None, made))
        return made

    def run(model: Any, given: Any) -> Any:
        within = functools.partial(call, within=model.name)
        if isinstance(model, keras.Sequential):
            return functools.reduce(
                lambda tensor, layer: within(layer, tensor), model.layers, given
            )
        # Keras' own way to walk a graph; `clone_model`, which is public, then insists on making a
        # model of each part, and fails for parts in the middle.
        return model._run_through_graph(given, operation_fn=lambda layer: layer, call_fn=within)

    shape = (*size, 3) if layout == "NHWC" else (3, *size)
    image = keras.Input(shape, name="image")
    results = run(network, image)
    return _Flat(image, steps, results if isinstance(results, list) else [results])


def _does_nothing(layer: Any) -> bool:
    kind = type(layer).__name__
    return kind in _ONLY_TRAINING or _only_augments(kind)


def _only_augments(kind: str) -> bool:
    return kind.startswith("Random") and kind != "RandomCrop"  # after which sizes differ


def _to_float32(layer: Any) -> None:
    """Compute in float32 what was trained in mixed precision: its weights are float32 already."""
    if getattr(layer, "compute_dtype", None) not in (None, "float32"):
        layer.dtype_policy = "float32"


def _output(flat: _Flat, path: Path, settings: NetworkSettings) -> Any:
    """The tensor that is the feature vector."""
    if settings.layer is not None:
        made = {step.layer.name: step.made for step in flat.steps}
        if settings.layer not in made:
            close = near(settings.layer, made)
            raise EncoderError(f"{path} has no layer {settings.layer!r}{close}")
        return made[settings.layer]
    if len(flat.results) > 1:
        names = [_name(tensor) for tensor in flat.results]
        raise EncoderError(
            f"{path} has {len(names)} outputs ({', '.join(names)}), expected one: name a layer "
            "with --layer"
        )
    return _before_classifier(flat)


def _before_classifier(flat: _Flat) -> Any:
    """Step back over a classifier's last layer; a network that has none is taken to its end.

    The classifier is the last layer with weights, if it is dense or a convolution over one pixel
    (MobileNet's), and if nothing but activations and reshaping follows it.
    """
    makers = {id(step.made): step for step in flat.steps}
    (tensor,) = flat.results
    while step := makers.get(id(tensor)):
        kind = type(step.layer).__name__
        if kind == "Dense" or (kind == "Conv2D" and _is_one_pixel(step.given)):
            return step.given
        if kind not in _AFTER_SCORES:
            break
        tensor = step.given
    return flat.results[0]


def _is_one_pixel(tensor: Any) -> bool:
    return len([side for side in tensor.shape[1:] if side > 1]) <= 1


def _scales_itself(network: Any) -> bool:
    """Whether a network's own layers turn pixels 0..255 into what its first weights take."""
    for operation in network.operations:
        if type(operation).__name__ in _ARITHMETIC:
            return True
        if getattr(operation, "weights", None):
            return False
    return False


def _hint(config: dict[str, Any]) -> str:
    """What is known of a network within that was published: advice, not a guess."""
    names = {part.get("config", {}).get("name") for part in objects_in(config)}
    for name in sorted(name for name in names if isinstance(name, str)):
        for card in CARDS.values():
            plain = name.replace("_", "").replace("-", "").lower()
            if plain.startswith(card.keras_class.lower()):
                spec = card.preprocessing
                mean, std = (",".join(f"{v:g}" for v in values) for values in (spec.mean, spec.std))
                return (
                    f" (it has {card.keras_class} in it, whose preprocess_input is --mean {mean} "
                    f"--std {std} --channel-order {spec.channel_order})"
                )
    return ""


def _architecture(part: Any) -> Any:
    """A configuration without what does not decide features: how it was trained and saved."""
    if isinstance(part, dict):
        if part.get("class_name") == "Cast":  # whose kind of number is not how it was trained
            return part
        return {
            key: _architecture(value)
            for key, value in part.items()
            if key not in _UNIMPORTANT and not key.endswith(_TRAINING_ENDINGS)
        }
    return [_architecture(value) for value in part] if isinstance(part, list) else part


def _name(tensor: Any) -> str:
    return str(tensor._keras_history.operation.name)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:240]
