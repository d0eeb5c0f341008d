"""What is asked of the network: losses of its features, with gradients by hand.

Each head is given features (N, D) and what it asks for, and answers a loss, a mean over the batch,
with its gradients by the features and by the head's own parameters, which are one flat array.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SMOOTHING = 0.1
SHARPNESS = 20.0
DESCRIPTION_SCALE = 20.0
_TEMPERATURE = 0.2
_HIDDEN, _PROJECTED = 512, 128
_TINY = 1e-6


@dataclass(frozen=True)
class Asked:
    """A loss, what the log says of it, and gradients by features (N, D) and by parameters."""

    told: dict[str, float]
    by_features: Floats
    by_parameters: Floats


@dataclass(frozen=True)
class Shares:
    """Weights of the losses."""

    classes: float
    descriptions: float
    crops: float


class Heads:
    """All that is asked, its parameters in one flat array."""

    def __init__(self, features: int, classes: int, description: int, seed: int) -> None:
        self._classes = ClassHead(features, classes)
        self._descriptions = DescriptionHead(features, description)
        self._crops = CropHead(features)
        sizes = [self._classes.size, self._descriptions.size, self._crops.size]
        self._ends = list(accumulate(sizes))
        rng = np.random.default_rng([seed, 5])
        self.parameters = np.concatenate([
            rng.normal(0, 0.02, sum(sizes[:2])).astype(np.float32), self._crops.initial(rng)
        ])  # fmt: skip
        self.decays = np.zeros(len(self.parameters), np.float32)

    def loss(
        self, features: Floats, classes: NDArray[np.int64], descriptions: Floats, shares: Shares
    ) -> Asked:
        """Add the losses up, each times its share; a share of 0 is not computed."""
        prototypes, regression, projection = np.split(self.parameters, self._ends[:-1])
        told: dict[str, float] = {}
        by_features, by_parameters = np.zeros_like(features), np.zeros_like(self.parameters)
        parts = np.split(by_parameters, self._ends[:-1])  # views
        for share, part, ask in (
            (shares.classes, parts[0], lambda: self._classes(features, prototypes, classes)),
            (
                shares.descriptions, parts[1],
                lambda: self._descriptions(features, regression, descriptions),
            ),
            (shares.crops, parts[2], lambda: self._crops(features, projection)),
        ):  # fmt: skip
            if share:
                asked = ask()
                told |= asked.told
                by_features += np.float32(share) * asked.by_features
                part[:] = np.float32(share) * asked.by_parameters
        return Asked(told, by_features, by_parameters)


class ClassHead:
    """The class, by the cosine to a prototype of it; cross-entropy with smoothed labels."""

    def __init__(self, features: int, classes: int) -> None:
        self.classes, self.size = classes, features * classes

    def __call__(self, features: Floats, flat: Floats, classes: NDArray[np.int64]) -> Asked:
        """Ask for classes (N,)."""
        count = len(features)
        unit, by_length = _unit(features)
        towards, by_size = _unit(flat.reshape(self.classes, -1))
        chance = _softmax(SHARPNESS * (unit @ towards.T))
        rows = np.arange(count)
        told = {
            "class": float(-np.log(chance[rows, classes] + 1e-12).mean()),
            "right": float((chance.argmax(1) == classes).mean()),
        }
        chance -= np.float32(SMOOTHING / self.classes)
        chance[rows, classes] -= np.float32(1 - SMOOTHING)
        chance *= np.float32(SHARPNESS / count)
        return Asked(told, by_length(chance @ towards), by_size(chance.T @ unit).ravel())


class DescriptionHead:
    """A description of the crop, by linear regression; squared error."""

    def __init__(self, features: int, description: int) -> None:
        self._weights = features * description
        self._description, self.size = description, self._weights + description

    def __call__(self, features: Floats, flat: Floats, descriptions: Floats) -> Asked:
        """Ask for descriptions (N, M)."""
        weights = flat[: self._weights].reshape(-1, self._description)
        error = features @ weights + flat[self._weights :] - descriptions
        told = {"description": float((error**2).mean())}
        error *= np.float32(2 * DESCRIPTION_SCALE / error.size)
        gradient = np.concatenate([(features.T @ error).ravel(), error.sum(0)])
        return Asked(told, error @ weights.T, gradient)


class CropHead:
    """Which crop is of the same picture, among all others of the batch.

    Rows 2i and 2i + 1 are of one picture. InfoNCE behind a projection (Chen et al., *SimCLR*, ICML
    2020).
    """

    def __init__(self, features: int) -> None:
        self._shapes = ((features, _HIDDEN), (1, _HIDDEN), (_HIDDEN, _PROJECTED))
        self._ends = list(accumulate(a * b for a, b in self._shapes))
        self.size = self._ends[-1]

    def initial(self, rng: Generator) -> Floats:
        """Parameters to begin with, scaled as He et al. (ICCV 2015) say."""
        scales = (np.sqrt(2 / self._shapes[0][0]), 0.0, np.sqrt(1 / _HIDDEN))
        return np.concatenate([
            rng.normal(0, scale, shape).astype(np.float32).ravel()
            for scale, shape in zip(scales, self._shapes, strict=True)
        ])  # fmt: skip

    def __call__(self, features: Floats, flat: Floats) -> Asked:
        """Ask which are pairs."""
        count = len(features)
        inner, bias, outer = (
            part.reshape(shape)
            for part, shape in zip(np.split(flat, self._ends[:-1]), self._shapes, strict=True)
        )
        hidden = np.maximum(features @ inner + bias, 0)
        unit, by_length = _unit(hidden @ outer)
        logits = unit @ unit.T / np.float32(_TEMPERATURE)
        rows = np.arange(count)
        logits[rows, rows] = -np.inf
        chance = _softmax(logits)
        pairs = rows ^ 1
        told = {
            "crop": float(-np.log(chance[rows, pairs] + 1e-12).mean()),
            "paired": float((chance.argmax(1) == pairs).mean()),
        }
        chance[rows, pairs] -= 1
        chance *= np.float32(1 / (_TEMPERATURE * count))
        by_projected = by_length((chance + chance.T) @ unit)
        by_hidden = (by_projected @ outer.T) * (hidden > 0)
        gradient = (features.T @ by_hidden, by_hidden.sum(0), hidden.T @ by_projected)
        by_parameters = np.concatenate([part.ravel() for part in gradient])
        return Asked(told, by_hidden @ inner.T, by_parameters)


def _softmax(logits: Floats) -> Floats:
    chance: Floats = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    return chance


def _unit(rows: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Rows of unit length, and what turns a gradient by them into one by the rows given."""
    length = np.linalg.norm(rows, axis=1, keepdims=True) + np.float32(_TINY)
    unit = rows / length

    def back(gradient: Floats) -> Floats:
        result: Floats = (gradient - unit * (unit * gradient).sum(1, keepdims=True)) / length
        return result

    return unit, back
