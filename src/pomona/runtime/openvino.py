"""Encoder -> predict function, on OpenVINO's CPU plugin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.encoder import Encoder
    from pomona.encoder.preprocessing import Pixels

__all__ = ["OpenVinoRuntime", "compiled_on_cpu", "import_openvino", "read_graph", "vector_settings"]

# Both settings were measured (docs/architecture.md). The first is one thread per process, because
# processes scale better. Without the second, all processes of a machine pin themselves to core 0,
# and half of the cores are idle.
_THREADS = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}

# This keeps a dense layer with 8-bit weights in float32: by default, and if the processor can,
# OpenVINO rounds the input of such a layer to 8 bits, which changes a vector by 0.006 of its
# largest number.
_EXACT = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}

# Precision of the encoder -> precision of OpenVINO. OpenVINO never chooses it: it would use bf16 if
# the CPU has it, which changes MobileNetV2's features by 20 % (in norm). An int8 graph itself
# declares what is int8; the rest stays in float32.
_HINTS = {"f32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoRuntime:
    """A compiled network, for one process and one thread.

    It computes one image at a time: small batches stay in the processor's cache (267 images/s
    instead of 198 in batches of 32), and a vector cannot depend on its neighbours.
    """

    batch_size = 1

    def __init__(self, encoder: Encoder) -> None:
        openvino = import_openvino()
        self.preprocessing = encoder.preprocessing
        self.dimension = encoder.dimension
        try:
            model = read_graph(encoder)
            settings = vector_settings(encoder, model)
            compiled = openvino.Core().compile_model(model, "CPU", _THREADS | settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EncoderError(
                f"OpenVINO {openvino.__version__} cannot load {_name(encoder)}: {reason}"
            ) from error
        # OpenVINO silently uses float32 if a CPU has neither bf16 nor AVX-512.
        actual = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        hint = settings["INFERENCE_PRECISION_HINT"]
        if actual != hint:
            raise EncoderError(
                f"{_name(encoder)} computes in {hint}, which this processor cannot: OpenVINO would "
                f"use {actual}, with other features; use an encoder of `precision` f32 or int8"
            )
        shape = (1, self.preprocessing.height, self.preprocessing.width, 3)
        _check_shapes(encoder, compiled, shape)
        self._request = compiled.create_infer_request()
        self._input: Pixels = np.zeros(shape, encoder.preprocessing.pixel_type)
        self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=True))

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:
        """Compute feature vectors.

        Args:
            images: (N, height, width, 3), RGB, of the `pixel_type` of the preprocessing.
            features: (N, dimension) float32, written in place.

        Raises:
            EncoderError: the output of OpenVINO does not fit the encoder.
        """
        for row, image in enumerate(images):
            self._input[0] = image
            self._request.infer()
            vector = self._request.get_output_tensor().data
            if vector.size != self.dimension:  # NumPy would repeat one number in the whole row
                raise EncoderError(
                    f"OpenVINO returns {vector.size} numbers for an image, expected "
                    f"{self.dimension}: build the encoder again"
                )
            features[row] = vector.reshape(-1)


def read_graph(encoder: Encoder) -> Any:
    """Return the graph of an encoder, OpenVINO's or ONNX, as an `openvino.Model`.

    Raises:
        RuntimeError: OpenVINO cannot read it.
    """
    openvino = import_openvino()
    constants = _constants_tensor(openvino, encoder.constants) if encoder.constants else None
    return openvino.Core().read_model(encoder.graph, constants)


def vector_settings(encoder: Encoder, model: Any) -> dict[str, Any]:
    """Return the settings of OpenVINO that an encoder's vectors depend on.

    Args:
        encoder: the encoder.
        model: its graph, an `openvino.Model`.

    Raises:
        EncoderError: this version does not know the precision of the encoder.
    """
    hint = _HINTS.get(encoder.precision)
    if hint is None:
        raise EncoderError(
            f"{_name(encoder)} has precision {encoder.precision!r}, this version computes "
            f"{', '.join(_HINTS)}: build the encoder again with this version"
        )
    return {
        **_EXACT,
        "INFERENCE_PRECISION_HINT": hint,
        "LP_TRANSFORMS_MODE": bool(encoder.quantized_sha256) and _fits_16_bits(model),
    }


def compiled_on_cpu(graph: bytes, constants: bytes) -> Any:
    """Return a float32 graph, compiled for one thread: an `openvino.CompiledModel`.

    Raises:
        RuntimeError: OpenVINO cannot read or compile it.
    """
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(graph, _constants_tensor(openvino, constants))
    return core.compile_model(
        model, "CPU", {**_THREADS, **_EXACT, "INFERENCE_PRECISION_HINT": "f32"}
    )


def _check_shapes(encoder: Encoder, compiled: Any, shape: tuple[int, ...]) -> None:
    """Refuse a graph whose input or output does not fit its encoder.

    NumPy would silently repeat one number in a whole row.
    """
    inputs = [
        tuple(port.get_partial_shape().to_shape())
        for port in compiled.inputs
        if port.get_partial_shape().is_static
    ]
    outputs = [
        tuple(port.get_partial_shape().to_shape())
        for port in compiled.outputs
        if port.get_partial_shape().is_static
    ]
    if inputs != [shape] or outputs != [(1, encoder.dimension)]:
        raise EncoderError(
            f"{_name(encoder)} contains a graph from {inputs} to {outputs}, expected one from "
            f"{shape} to {(1, encoder.dimension)}: build the encoder again"
        )


def _fits_16_bits(model: Any) -> bool:
    """Return whether a graph that Pomona quantized can be computed in 8 bits on any processor.

    Without VNNI, OpenVINO adds the products of two pairs of 8-bit numbers in 16 bits, where they
    overflow. Pomona's own weights have 7 bits and fit. A product of two activations does not.
    Other quantized graphs have weights of 8 bits. `LP_TRANSFORMS_MODE`, which turns rounded float32
    into 8-bit integers, is off for them: their numbers are still rounded to 8 bits, and the sums
    are float32.
    """
    constant: set[str] = set()
    for operation in model.get_ordered_ops():
        fixed = [each.get_node().get_name() in constant for each in operation.input_values()]
        if operation.get_type_name() == "Constant" or (fixed and all(fixed)):
            constant.add(operation.get_name())
        if operation.get_type_name() == "MatMul" and not any(fixed):
            return False
    return True


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    `import openvino` reports each import to Google Analytics, from each worker process, and writes
    a client id into the home folder. It does neither if its telemetry package cannot be imported.
    That package is hidden during this import only: imports of the caller's own code do not change.
    """
    if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an ImportError
        try:
            import openvino
        finally:
            del sys.modules["openvino_telemetry"]
    import openvino

    return openvino


def _name(encoder: Encoder) -> str:
    return f"encoder {encoder.fingerprint[:12]} ({encoder.model})"


def _constants_tensor(openvino: Any, constants: bytes) -> Any:
    # OpenVINO keeps a view, so the array has to exist as long as the tensor of read_model.
    return openvino.Tensor(np.frombuffer(constants, np.uint8))
