"""Weights out of a seed, for networks that nobody trained.

Features of such a network mean little, but they are the same everywhere, and nothing has to be
downloaded: enough to try Pomona, to measure it, and to hold one engine against another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pomona.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["parse_seed", "seeded_weights"]

_HIGHEST_SEED = 2**32 - 1

# kind -> (centre, half width) of a uniform distribution. Kernels are not here: theirs depends on
# their shape. None of these is trivial (1 or 0), so that a batch normalisation that is folded,
# reordered or left out shows in the features.
_VECTORS = {
    "gamma": (1.0, 0.2),
    "beta": (0.0, 0.1),
    "bias": (0.0, 0.1),
    "moving_mean": (0.0, 0.1),
    "moving_variance": (1.0, 0.2),
}
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def seeded_weights(
    shapes: Sequence[tuple[str, tuple[int, ...]]], seed: int
) -> list[NDArray[np.float32]]:
    """Draw a network's weights.

    The same names, shapes and seed give the same bits under every version of NumPy, because NEP 19
    freezes the stream of `RandomState`, and on every machine, because only its uniform draws are
    used: those are exact, where normal ones pass through the C library's logarithm.

    Kernels have zero mean and variance 2 / fan_in, which keeps activations in range from the first
    layer to the last (He et al., "Delving Deep into Rectifiers", 2015, equation 10).

    Args:
        shapes: path or name, and shape, of each weight, in the order of Keras' `model.weights`.
            What follows the last slash says what a weight is: `Conv1/kernel` is a kernel.
        seed: a whole number from 0 to 2**32 - 1.

    Returns:
        One float32 array for each of `shapes`, in their order, fit for `model.set_weights`.

    Raises:
        EncoderError: the seed is out of range, or a weight is of a kind not known here.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _HIGHEST_SEED:
        raise EncoderError(
            f"untrained weights cannot be drawn from the seed {seed!r}: "
            f"give a whole number from 0 to {_HIGHEST_SEED}"
        )
    stream = np.random.RandomState(seed)
    weights = []
    for name, shape in shapes:
        centre, half_width = _distribution(name, shape)
        # Separate steps on arrays: RandomState.uniform leaves scale and shift to the C compiler,
        # which on some processors fuses them and rounds once instead of twice.
        unit = stream.random_sample(shape) * 2.0 - 1.0  # [-1, 1), exact
        weights.append((centre + half_width * unit).astype(np.float32))
    return weights


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Centre and half width of the uniform distribution that a weight is drawn from."""
    kind = name.rpartition("/")[2]
    if kind in _KERNELS:
        return 0.0, math.sqrt(3.0 * 2.0 / _fan_in(shape))  # variance = half width squared / 3
    if kind in _VECTORS:
        return _VECTORS[kind]
    raise EncoderError(
        f"untrained weights cannot be drawn for {name!r}: known kinds of weights are "
        f"{', '.join([*_KERNELS, *_VECTORS])}; give a weights file for this network"
    )


def _fan_in(shape: tuple[int, ...]) -> int:
    """How many inputs one output sums over."""
    # Keras writes convolutions (height, width, inputs, outputs), and depthwise ones, where each
    # channel sees itself alone, (height, width, channels, 1), by the name `kernel` as well.
    depthwise = len(shape) == 4 and shape[-1] == 1
    return math.prod(shape[:2] if depthwise else shape[:-1])


def parse_seed(weights: str) -> int:
    """Read the seed in `untrained:SEED`.

    Raises:
        EncoderError: no whole number from 0 to 2**32 - 1 follows the colon.
    """
    seed = weights.removeprefix("untrained:")
    if not (seed.isascii() and seed.isdigit() and int(seed) <= _HIGHEST_SEED):
        raise EncoderError(
            f"--weights {weights}: expected a whole number from 0 to {_HIGHEST_SEED} after "
            "'untrained:', as in untrained:0"
        )
    return int(seed)
