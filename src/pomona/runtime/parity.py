"""The parity gate: a few drawn images whose vectors an encoder knows from when it was built.

A worker computes them again before its first image. Where it gets other numbers, the job stops
there: wrong features look like right ones, and nobody finds them later.
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

__all__ = ["TOLERANCE", "check_parity", "probe_images", "probe_vectors"]

TOLERANCE = {"f32": 1e-3, "bf16": 0.03, "int8": 0.1}
"""Largest difference to the stored vector, as a share of its largest number, by precision.

Each lets pass what other processors may do, and stops what they may not (docs/precision.md).
Float32 sums in another order differ by about 1e-5 between processors; bf16 in place of f32 by up to
1e-1. In bf16, units that have it and the emulation by AVX-512 differ by up to 0.014. In int8, AVX2
and VNNI differ by up to 0.033; sums that overflow, by 0.3 and more.
"""

_PROBES = 3
_BUDGET_S = 0.09  # of a worker's start; the first probe is always computed


def probe_images(height: int, width: int) -> NDArray[np.uint8]:
    """Draw the probes: (3, height, width, 3) uint8, the same on every machine.

    Waves of three scales in three colours, in integer steps: no library's random stream and no
    rounding of a cosine decides a pixel.
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
    """Hold this machine's vectors of the probes against those in the encoder.

    As many of the probes are computed as take less than a tenth of a second, and always one: a
    large network takes longer than that for any image.

    Raises:
        EncoderError: they differ by more than `TOLERANCE`; with the numbers and likely causes. Or
            it has none.
    """
    if not encoder.probes:
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) holds no vectors to hold this "
            "machine's against: build it again"
        )
    expected = np.frombuffer(encoder.probes, "<f4").reshape(-1, encoder.dimension)
    images = probe_images(encoder.preprocessing.height, encoder.preprocessing.width)
    found = np.empty((1, encoder.dimension), np.float32)
    begun = time.perf_counter()
    for done, (image, vector) in enumerate(zip(images, expected, strict=False), start=1):
        runtime.predict(image[None], found)
        scale = float(np.abs(vector).max()) or 1.0
        difference = float(np.abs(found[0] - vector).max()) / scale
        if not difference <= TOLERANCE[encoder.precision]:  # a NaN is a difference
            cosine = float(
                found[0] @ vector / (np.linalg.norm(found[0]) * np.linalg.norm(vector) or 1.0)
            )
            raise EncoderError(
                f"encoder {encoder.fingerprint[:12]} ({encoder.model}, {encoder.precision}) gives "
                f"other features here than where it was built: a probe's vector is off by "
                f"{difference:.2g} of its largest number (limit "
                f"{TOLERANCE[encoder.precision]:g}), cosine {cosine:.4f}; likely causes: another "
                f"version of {encoder.runtime}, {_earlier(encoder)}or a processor on which it "
                "computes in a lower precision: use the version that built the encoder, or build "
                "it again here"
            )
        if (time.perf_counter() - begun) / done * (done + 1) > _BUDGET_S:
            return


def _earlier(encoder: Encoder) -> str:
    """One more cause, of an encoder whose network was quantized before Pomona got it."""
    if encoder.precision != "int8" or encoder.quantized_sha256:
        return ""
    return "an earlier Pomona that built it where 8-bit sums overflow, "
