"""Known networks: one frozen card each, with what its authors trained it with."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from pomona.errors import EncoderError
from pomona.preprocess import Preprocessing

__all__ = ["CARDS", "DEFAULT_MODEL", "NetworkCard", "find_card"]

DEFAULT_MODEL = "mobilenet_v2"


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """What Pomona knows of one network of `keras.applications`.

    Attributes:
        name: the word for `--model`.
        keras_class: the function of `keras.applications` that builds it.
        preprocessing: input size and arithmetic that its ImageNet weights were trained with.
        dimension: length of the feature vector, the output of global average pooling.
        parameters: number of weights without the classification layer.
        licence: licence of the ImageNet weights that Keras publishes.
        reference: the paper that describes the network.
    """

    name: str
    keras_class: str
    preprocessing: Preprocessing
    dimension: int
    parameters: int
    licence: str
    reference: str

    @property
    def architecture(self) -> str:
        """The network's name as the fingerprint takes it: stable across Keras versions."""
        return f"keras.applications.{self.keras_class}"

    def to_json(self) -> dict[str, Any]:
        """The card as `pomona models --json` prints it."""
        return asdict(self)


# `mode="tf"` of keras.applications.imagenet_utils.preprocess_input: x / 127.5 - 1.
_HALF = (127.5, 127.5, 127.5)

CARDS: dict[str, NetworkCard] = {
    card.name: card
    for card in (
        NetworkCard(
            name="mobilenet_v2",
            keras_class="MobileNetV2",
            preprocessing=Preprocessing(height=224, width=224, mean=_HALF, std=_HALF),
            dimension=1280,
            parameters=2_257_984,
            licence="Apache-2.0",
            reference="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, "
            "CVPR 2018",
        ),
    )
}


def find_card(name: str) -> NetworkCard:
    """Return the card of the network called `name`.

    Raises:
        EncoderError: no such network; the message names near ones.
    """
    if card := CARDS.get(name):
        return card
    near = difflib.get_close_matches(name, CARDS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(CARDS)}"
    raise EncoderError(f"unknown model {name!r}: {hint} ('pomona models' lists them)")
