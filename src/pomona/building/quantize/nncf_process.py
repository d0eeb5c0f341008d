"""Converts a float32 encoder to int8 with NNCF, in a separate process.

    python -m pomona.building.quantize.nncf_process   < request.json   > answer.json

The settings were measured on MobileNetV2 with ImageNet's weights; docs/precision.md has the table.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.build_process import reply
from pomona.building.graph.endpoints import attach_probes, serialized
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.messages import one_line
from pomona.runtime.openvino import import_openvino

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["answer", "quantize"]


def quantize(encoder: Encoder, pixels: NDArray[np.uint8]) -> Encoder:
    """Quantize a network's weights and activations to 8 bits.

    Args:
        encoder: a float32 encoder.
        pixels: (N, height, width, 3) uint8, RGB: the images that decide the ranges.

    Raises:
        EncoderError: NNCF cannot quantize this network.
    """
    openvino = import_openvino()
    import nncf
    from openvino._offline_transformations import apply_moc_transformations

    constants = openvino.Tensor(np.frombuffer(encoder.constants, np.uint8))
    model = openvino.Core().read_model(encoder.graph, constants)
    # Fold batch normalisation into the convolutions, which Keras' export does not do. Otherwise
    # NNCF quantizes between the two and corrects no bias: cosine 0.72 instead of 0.98.
    apply_moc_transformations(model, cf=False)
    try:
        quantized = nncf.quantize(
            model,
            nncf.Dataset(list(pixels[:, None])),
            subset_size=len(pixels),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=not _is_worth_care(model),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # Weights of 7 bits, so that no sum of products overflows on a CPU without VNNI.
                # With 8 bits, features there are wrong by up to half of their largest number. With
                # 7 bits they are bit-equal, at a cost of 0.006 of cosine.
                overflow_fix=nncf.OverflowFix.ENABLE,
            ),
        )
    except Exception as error:  # NNCF has no common base class
        raise EncoderError(
            f"NNCF {nncf.__version__} cannot quantize {encoder.model}: "
            f"{one_line(error)}; use `precision` f32 or bf16"
        ) from error
    graph, constants = serialized(quantized)
    return attach_probes(
        replace(
            encoder,
            precision="int8",
            graph=graph,
            constants=constants,
            calibration=f"{len(pixels)} images, NNCF {nncf.__version__}",
            quantized_sha256=hashlib.sha256(constants).hexdigest(),
        )
    )


def _is_worth_care(model: Any) -> bool:
    """Return whether to correct biases layer by layer, on images, not by each layer's averages.

    Depthwise convolutions need it: MobileNetV2's cosine is 0.98 instead of 0.95. Other networks
    gain nothing. For networks with many joined branches it takes gigabytes and half an hour.
    """
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    return "GroupConvolution" in kinds and "Concat" not in kinds


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request."""
    # Like OpenVINO, NNCF sends usage data to Google Analytics if it can.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it fails
    encoder = Encoder.load(request["encoder"])
    quantized = quantize(encoder, np.load(request["pixels"]))
    quantized.save(request["quantized"])
    return {"fingerprint": quantized.fingerprint}


if __name__ == "__main__":
    reply(answer)
