"""Encoder in, encoder of a lower precision out.

Precision is never lowered silently: an encoder computes in float32 unless the user asks for less.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona.building.build_process import ask
from pomona.building.cache import keep
from pomona.building.graph.endpoints import attach_probes
from pomona.building.quantize.calibration import sample_pixels
from pomona.encoder.encoder import PRECISIONS, Encoder
from pomona.errors import EncoderError
from pomona.extras import check_extra

if TYPE_CHECKING:
    from pomona.encoder.preprocessing import Pixels

__all__ = ["check_precision", "convert_encoder", "quantize"]


def check_precision(precision: str, calibrate: str | os.PathLike[str] | None = None) -> None:
    """Check that a precision is possible before anything is built.

    Raises:
        EncoderError: the precision is unknown; int8 without images or without NNCF; images for
            another precision.
    """
    if precision not in PRECISIONS:
        raise EncoderError(f"`precision` is {precision!r}: expected {', '.join(PRECISIONS)}")
    if precision != "int8":
        if calibrate is not None:
            raise EncoderError(
                f"`calibrate` is for `precision` int8, and the precision is {precision}: leave "
                "`calibrate` out, or choose int8"
            )
        return
    if calibrate is None:
        raise EncoderError(
            "`precision` int8 needs images for calibration, similar to those that it will be used "
            "on: give them as `calibrate`"
        )
    check_extra("int8", "`precision` int8 needs NNCF", "nncf", error=EncoderError)


def convert_encoder(
    encoder: Encoder, precision: str, calibrate: str | os.PathLike[str] | None = None
) -> Encoder:
    """Return an encoder that computes the same network in another precision.

    Its features and its fingerprint differ (docs/precision.md has the figures): one encoder
    cannot continue a table of the other.

    Args:
        encoder: a float32 encoder.
        precision: `bf16`, which needs a processor that has it; `int8`, which needs NNCF;
            or `f32`, which changes nothing.
        calibrate: for int8, a folder, a glob or an image. A sample of these images decides the
            range of each layer's numbers.

    Raises:
        EncoderError: the conversion is not possible. The message says why, and what to do.
        SourceError: there are no images at `calibrate`.
    """
    check_precision(precision, calibrate)
    if precision == "f32":
        return encoder
    if encoder.precision != "f32":
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) already has precision "
            f"{encoder.precision}, expected f32: convert the float32 encoder"
        )
    if encoder.runtime != "openvino":
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) runs on {encoder.runtime}, "
            f"but only OpenVINO computes in {precision}: build it with `runtime` openvino"
        )
    if precision == "bf16":
        lowered = attach_probes(replace(encoder, precision="bf16"))
    elif calibrate is not None:
        lowered = quantize(encoder, sample_pixels(calibrate, encoder.preprocessing))
    else:
        return encoder
    keep(lowered)  # 'search' and 'classify' find it by a table's fingerprint
    return lowered


def quantize(encoder: Encoder, pixels: Pixels) -> Encoder:
    """Return the int8 encoder, with ranges from these images.

    NNCF runs in a separate process: it prints a lot, and needs gigabytes for some networks.

    Args:
        encoder: a float32 encoder.
        pixels: (N, height, width, 3), RGB, like the pixels from workers.

    Raises:
        EncoderError: NNCF cannot quantize this network.
        RunError: NNCF's process died.
    """
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        request = {name: str(Path(folder, name)) for name in ("encoder", "quantized")}
        request["pixels"] = str(Path(folder, "pixels.npy"))
        encoder.save(request["encoder"])
        np.save(request["pixels"], pixels)
        ask("pomona.building.quantize.nncf_process", request, f"quantize {encoder.model} with NNCF")
        return Encoder.load(request["quantized"])
