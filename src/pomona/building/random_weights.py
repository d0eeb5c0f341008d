"""Random weights from a seed, for untrained networks.

Features of such a network mean little, but they are the same everywhere and need no download. They
are for trying Pomona, measuring it, and comparing engines.
"""

from __future__ import annotations

import math
import re
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
# ConvNeXt's LayerScale adds its array without a name: Keras calls it variable, variable_1, ...
_LAYER_SCALE = re.compile(r"layer_scale/variable(_\d+)?$")
# Squeeze-and-excitation: two 1x1 convolutions whose sigmoid multiplies the block. With He's kernels
# the sigmoid is driven hard to 0 or 1, and 1e-7 of rounding grows to 60 % in EfficientNetV2-S.
_GATE = re.compile(r"_se_(reduce|expand)/|_squeeze_excite_conv(_1)?/")
_GATE_OPENS = re.compile(r"(_se_expand|_squeeze_excite_conv_1)/bias$")
_OPEN = 1.5  # sigmoid(1.5) = 0.82
_DAMPING = 0.25

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def seeded_weights(
    shapes: Sequence[tuple[str, tuple[int, ...]]], seed: int, closing: str | None = None
) -> list[NDArray[np.float32]]:
    """Draw a network's weights.

    The same names, shapes and seed give the same bits under every version of NumPy, because NEP 19
    freezes the stream of `RandomState`, and on every machine, because only its uniform draws are
    used: those are exact, where normal ones pass through the C library's logarithm.

    Kernels have zero mean and variance 2 / fan_in, which keeps activations in range from the first
    layer to the last (He et al., "Delving Deep into Rectifiers", 2015, equation 10).

    Args:
        shapes: path or name, and shape, of each weight, in the order of Keras' `model.weights`.
            The part after the last slash is the kind of the weight: `Conv1/kernel` is a kernel.
        seed: a whole number from 0 to 2**32 - 1.
        closing: pattern of the weights that close residual branches, drawn four times smaller. In
            deep networks the sum of full branches amplifies every rounding: an untrained ResNet152
            ends at 1e12.

    Returns:
        One float32 array for each of `shapes`, in their order, for `model.set_weights`.

    Raises:
        EncoderError: the seed is out of range, or the kind of a weight is unknown.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _HIGHEST_SEED:
        raise EncoderError(
            f"untrained weights cannot be drawn from the seed {seed!r}: "
            f"give a whole number from 0 to {_HIGHEST_SEED}"
        )
    closes = re.compile(closing) if closing else None
    stream = np.random.RandomState(seed)
    weights = []
    for name, shape in shapes:
        centre, half_width = _distribution(name, shape)
        if closes and closes.search(name):
            centre, half_width = centre * _DAMPING, half_width * _DAMPING
        # Separate steps on arrays: RandomState.uniform leaves scale and shift to the C compiler,
        # which on some processors fuses them and rounds once instead of twice.
        unit = stream.random_sample(shape) * 2.0 - 1.0  # [-1, 1), exact
        weights.append((centre + half_width * unit).astype(np.float32))
    return weights


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return centre and half width of the uniform distribution of a weight."""
    kind = name.rpartition("/")[2]
    if _LAYER_SCALE.search(name):
        return _VECTORS["gamma"]
    if kind in _KERNELS:
        half_width = math.sqrt(3.0 * 2.0 / _fan_in(shape))  # variance = half width squared / 3
        return 0.0, half_width * _DAMPING if _GATE.search(name) else half_width
    if kind in _VECTORS:
        centre, half_width = _VECTORS[kind]
        return (_OPEN, half_width) if _GATE_OPENS.search(name) else (centre, half_width)
    raise EncoderError(
        f"untrained weights cannot be drawn for {name!r}: known kinds of weights are "
        f"{', '.join([*_KERNELS, *_VECTORS])}; give a weights file for this network"
    )


def _fan_in(shape: tuple[int, ...]) -> int:
    """Return the number of inputs of one output."""
    # Kernels of convolutions are (height, width, inputs, outputs). Those of depthwise ones, which
    # compute each channel separately, are (height, width, channels, 1), also called `kernel`.
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
            f"`weights` {weights}: expected a whole number from 0 to {_HIGHEST_SEED} after "
            "'untrained:', as in untrained:0"
        )
    return int(seed)
