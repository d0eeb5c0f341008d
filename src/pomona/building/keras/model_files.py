"""Whole Keras models in files -> encoders: `.keras`, and `.h5` of Keras 2 and 3.

file -> checked for code -> loaded -> flattened -> cut before its classifier -> exported
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.file_digest import as_text
from pomona.building.graph.endpoints import (
    encoder_of_graph,
    prepend_preprocessing,
)
from pomona.building.graph.image_input import (
    image_size,
    needed_preprocessing,
    refuse_channels,
    refuse_signature,
    with_channels,
)
from pomona.building.keras.backend import exported, import_keras, weights_digest
from pomona.building.keras.config import objects_in
from pomona.building.keras.feature_tensor import feature_tensor, has_learned_weights
from pomona.building.keras.fingerprint import architecture_digest, layers_in_order
from pomona.building.keras.flatten import FlatNetwork, Step, flatten_model, name_of, tensors_in
from pomona.building.keras.load import load_model, read_config
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import CARDS
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["FeatureNetwork", "build", "describe", "feature_network"]

_OVERFLOWING = ("Add", "Multiply", "Subtract")
_ARITHMETIC = (*_OVERFLOWING, "Divide", "TrueDivide", "Rescaling", "Normalization")
_COLOUR = re.compile(r"\x1b\[\d*m")
_LARGEST_SCALED = 256.0  # the most that pixels 0..255 become in a network trained on them


def build(path: Path, settings: NetworkSettings, trust: bool = False) -> Encoder:
    """Build an encoder from a whole Keras model.

    Args:
        path: a file that Keras wrote.
        settings: settings of the network. The size and the arithmetic of its input are not needed
            if the model itself has them.
        trust: run code in the file, such as a Lambda layer.

    Raises:
        EncoderError: it cannot be read or contains code; the network does not return one vector for
            an image; or its preprocessing is not specified.
    """
    refuse_signature(path, settings.signature)
    settings.check_unused(str(path), "pool", "prefix_tokens")
    found = feature_network(path, settings, trust)
    with _computable(path, found.size):
        preprocessing = _preprocessing(found, path, settings)
        graph = prepend_preprocessing(exported(found.network), preprocessing, found.layout)
    return encoder_of_graph(
        graph,
        settings,
        model=as_text(path.name),
        architecture=found.architecture,
        weights=as_text(path.name),
        weights_sha256=found.weights_sha256,
        preprocessing=preprocessing,
        output=found.output,
        ends_at_output=True,
        precision="f32",
    )


@dataclass(frozen=True)
class FeatureNetwork:
    """A Keras model up to its feature vector.

    Attributes:
        network: the `keras.Model`.
        flat: the whole model.
        steps: the steps of the network.
        layout: layout of its image.
        size: height and width of its image.
        architecture: the network, for the fingerprint.
        weights_sha256: digest of its weights' values.
        output: name of the layer that returns the vector.
    """

    network: Any
    flat: FlatNetwork
    steps: list[Step]
    layout: str
    size: tuple[int, int]
    architecture: str
    weights_sha256: str
    output: str


def feature_network(path: Path, settings: NetworkSettings, trust: bool = False) -> FeatureNetwork:
    """Load a Keras model, and cut it off after its feature vector.

    Raises:
        EncoderError: as for `build`, except for the preprocessing.
    """
    network = load_model(path, trust=trust)
    layout, size = _input(network, path, settings)
    with _computable(path, size):
        flat = flatten_model(network, size, layout)
        output = feature_tensor(flat, path, settings.layer)
        steps = flat.before(output)
        _refuse_overflow(network.inputs[0].dtype, flat, steps, path)
        cut = import_keras().Model(flat.image, output)
    weights = itertools.chain(*(getattr(e, "weights", ()) for e in layers_in_order(steps)))
    return FeatureNetwork(
        network=cut,
        flat=flat,
        steps=steps,
        layout=layout,
        size=size,
        architecture=f"Keras model {architecture_digest(steps, layout)}",
        weights_sha256=weights_digest(weights),
        output=name_of(output),
    )


def describe(path: Path, trust: bool = False) -> dict[str, Any]:
    """Return layers, output shapes (without the batch) and parameter counts of a model.

    Raises:
        EncoderError: it cannot be read, or contains code.
    """
    network = load_model(path, trust=trust)
    is_sized = None not in network.inputs[0].shape[1:]  # a loaded model has inputs
    settings = NetworkSettings() if is_sized else NetworkSettings(size=(224, 224))
    layout, size = _input(network, path, settings)
    steps = flatten_model(network, size, layout).steps
    return {
        "layers": [
            {
                "name": step.layer.name,
                "class": step.kind,
                "shape": list(next(tensors_in(step.outputs)).shape[1:]),
                "parameters": step.layer.count_params() if hasattr(step.layer, "weights") else 0,
            }
            for step in steps
        ],
        "parameters": network.count_params(),
    }


def _input(network: Any, path: Path, settings: NetworkSettings) -> tuple[str, tuple[int, int]]:
    """Return layout and size of the network's image."""
    if len(network.inputs) != 1:
        names = ", ".join(tensor.name for tensor in network.inputs)
        raise EncoderError(
            f"{path} has {len(network.inputs)} inputs ({names}), expected one: the image"
        )
    sides = tuple(network.inputs[0].shape)
    if len(sides) != 4:
        raise EncoderError(f"{path} takes an input of shape {sides}, expected images")
    if not {1, 3}.intersection((sides[1], sides[3])):
        refuse_channels(path, sides)
    channels = 3 if 3 in (sides[1], sides[3]) else 1
    layout = "NHWC" if sides[3] == channels else "NCHW"
    if settings.layout not in (None, layout):
        raise EncoderError(
            f"{path} takes an input of shape {sides}, which is not {settings.layout}"
        )
    return layout, image_size(list(sides), layout, path, settings)


def _refuse_overflow(dtype: str, flat: FlatNetwork, steps: list[Step], path: Path) -> None:
    """Refuse sums of bytes, which wrap around in TensorFlow, but would be float32 here."""
    for step in steps:
        if "int" in dtype and step.input is flat.image and step.kind in _OVERFLOWING:
            raise EncoderError(
                f"{path} has {step.layer.name!r} compute in {dtype}, which overflows: cast the "
                "image to float32 before it, and save the model again"
            )


def _preprocessing(found: FeatureNetwork, path: Path, settings: NetworkSettings) -> Preprocessing:
    """Return the preprocessing; a network that scales pixels itself needs no arithmetic.

    The default of `resize_mode` is that of `keras.utils.image_dataset_from_directory`.
    """
    settings = settings.over(NetworkSettings(resize_mode="squash"))
    own = _own_range(found.flat, found.steps)
    channels = 3 if 3 in found.flat.image.shape[1::2] else 1
    if settings.has_arithmetic or (own and max(map(abs, own)) <= _LARGEST_SCALED):
        return with_channels(path, settings, found.size, channels)
    hint = _hint(path, own) if channels == 3 else ""
    return needed_preprocessing(path, settings, found.size, hint, channels)


def _own_range(flat: FlatNetwork, steps: list[Step]) -> tuple[float, float] | None:
    """Return the range of pixels 0..255 after a network's own arithmetic, before its first weights.

    Returns:
        The smallest and the largest number; None if there is no such arithmetic.
    """
    before = list(itertools.takewhile(lambda step: not has_learned_weights(step), steps))
    if not any(step.kind in _ARITHMETIC for step in before):
        return None
    front = import_keras().Model(flat.image, before[-1].outputs)
    shape = flat.image.shape[1:]
    pixels = np.stack([np.zeros(shape, np.float32), np.full(shape, 255, np.float32)])
    numbers = np.asarray(import_keras().ops.convert_to_numpy(front(pixels)))
    return float(numbers.min()), float(numbers.max())


@contextmanager
def _computable(path: Path, size: tuple[int, int]) -> Iterator[None]:
    """Convert all exceptions of Keras and OpenVINO about a network into one error."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:  # layers and backends may raise anything
        raise EncoderError(
            f"{path} cannot take one image of {size[0]}x{size[1]}: {_one_line(error)}"
        ) from error


def _hint(path: Path, own: tuple[float, float] | None) -> str:
    """Return known facts about a published network in the model, as advice for an error."""
    if own is not None:
        return (
            f" (its own layers would turn pixels 0..255 into {own[0]:g}..{own[1]:g}, so it was not "
            "trained on pixels 0..255)"
        )
    config, _ = read_config(path)
    names = {part.get("config", {}).get("name") for part in objects_in(config)}
    for name in sorted(name for name in names if isinstance(name, str)):
        for card in CARDS.values():
            plain = name.replace("_", "").replace("-", "").lower()
            if card.keras_class and plain.startswith(card.keras_class.lower()):
                spec = card.preprocessing
                mean, std = (",".join(f"{v:g}" for v in values) for values in (spec.mean, spec.std))
                return (
                    f" (it contains {card.keras_class}, whose preprocess_input is `mean` {mean} "
                    f"`std` {std} `channel_order` {spec.channel_order})"
                )
    return ""


def _one_line(error: BaseException) -> str:
    reason = str(error).rpartition("Exception encountered when calling ")[2]
    return one_line(_COLOUR.sub("", reason), 240)
