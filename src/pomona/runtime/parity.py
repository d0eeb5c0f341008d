"""The parity gate: a few drawn images whose vectors were stored when the encoder was built.

A worker computes them again before its first image. If the numbers differ, the job stops, because
wrong features look like right ones.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pomona.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.encoder import Encoder
    from pomona.runtime.runtime import Runtime

__all__ = [
    "TOLERANCE",
    "check_parity",
    "check_vector",
    "first_probe",
    "probe_images",
    "probe_vectors",
    "relative_difference",
    "stored_vectors",
]

TOLERANCE = {"f32": 1e-3, "bf16": 0.03, "int8": 0.1}
"""Largest difference to the stored vector, as a share of its largest number, by precision.

Each value accepts the usual differences between processors and rejects larger ones
(docs/precision.md). Float32 sums in another order differ by about 1e-5 between processors; bf16
instead of f32 differs by up to 1e-1. In bf16, native units and the emulation by AVX-512 differ by
up to 0.014. In int8, AVX2 and VNNI differ by up to 0.033; sums that overflow, by 0.3 and more.
"""

_PROBES = 3
_BUDGET_S = 0.09  # part of a worker's start; the first probe is always computed


def probe_images(height: int, width: int) -> NDArray[np.uint8]:
    """Draw the probes: (3, height, width, 3) uint8, the same on every machine.

    They are waves of three scales in three colours, in integer steps, so that no pixel depends on a
    library's random numbers or on the rounding of a cosine.
    """
    y, x = np.mgrid[:height, :width]
    probes = []
    for number, step in enumerate((3, 11, 37), start=1):
        red = (x * step + y * number) % 256
        green = (y * step + x * (number + 2)) % 256
        blue = ((x // step + y // step) % 2) * 200 + number * 10
        probes.append(np.stack((red, green, blue), axis=-1))
    return np.asarray(probes, dtype=np.uint8)


def probe_vectors(runtime: Runtime) -> NDArray[np.float32]:
    """Compute the vectors of all probes: (3, dimension) float32."""
    spec = runtime.preprocessing
    vectors = np.empty((_PROBES, runtime.dimension), np.float32)
    runtime.predict(probe_images(spec.height, spec.width), vectors)
    return vectors


def check_parity(encoder: Encoder, runtime: Runtime) -> None:
    """Compare this machine's vectors of the probes with those in the encoder.

    Compute as many probes as fit into a tenth of a second, but at least one: a large network needs
    more time for an image.

    Raises:
        EncoderError: the vectors differ by more than `TOLERANCE` (the message has the numbers and
            likely causes), or the encoder has no probes.
    """
    expected = stored_vectors(encoder)
    images = probe_images(encoder.preprocessing.height, encoder.preprocessing.width)
    found = np.empty((1, encoder.dimension), np.float32)
    begun = time.perf_counter()
    for done, (image, vector) in enumerate(zip(images, expected, strict=False), start=1):
        runtime.predict(image[None], found)
        check_vector(
            encoder,
            vector,
            found[0],
            f"likely causes: another version of {encoder.runtime}, {_earlier(encoder)}or a "
            "processor on which it computes in a lower precision: use the version that built the "
            "encoder, or build it again here",
        )
        if (time.perf_counter() - begun) / done * (done + 1) > _BUDGET_S:
            return


def first_probe(encoder: Encoder) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the first probe, (1, height, width, 3) uint8, and its vector in the encoder, (D,).

    Raises:
        EncoderError: the encoder has no probes.
    """
    spec = encoder.preprocessing
    return probe_images(spec.height, spec.width)[:1], stored_vectors(encoder)[0]


def check_vector(
    encoder: Encoder, expected: NDArray[np.float32], found: NDArray[np.float32], advice: str
) -> None:
    """Compare a vector of a probe with the one in the encoder.

    Args:
        encoder: the encoder.
        expected: (D,), from the encoder.
        found: (D,), computed here.
        advice: the causes and what to do, for the message.

    Raises:
        EncoderError: they differ by more than `TOLERANCE`.
    """
    difference = relative_difference(found, expected)
    if not difference <= TOLERANCE[encoder.precision]:  # NaN counts as a difference
        cosine = float(found @ expected / (np.linalg.norm(found) * np.linalg.norm(expected) or 1.0))
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}, {encoder.precision}) has "
            "other features here than where it was built: a probe's vector differs by "
            f"{difference:.2g} of its largest number (limit {TOLERANCE[encoder.precision]:g}), "
            f"cosine {cosine:.4f}; {advice}"
        )


def relative_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference of two vectors, as a share of the largest number expected."""
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found - expected).max()) / scale


def stored_vectors(encoder: Encoder) -> NDArray[np.float32]:
    """Return the vectors of the probes in the encoder: (3, dimension) float32.

    Raises:
        EncoderError: the encoder has no probes.
    """
    if not encoder.probes:
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) has no vectors to compare "
            "others with: build it again"
        )
    return np.frombuffer(encoder.probes, "<f4").reshape(-1, encoder.dimension)


def _earlier(encoder: Encoder) -> str:
    """Return one more cause, for an encoder of a network that was already quantized."""
    if encoder.precision != "int8" or encoder.quantized_sha256:
        return ""
    return "an earlier Pomona that built it where 8-bit sums overflow, "
