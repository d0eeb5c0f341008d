"""Encoder -> predict function, on ONNX Runtime: on an NVIDIA GPU if there is one, else the CPU."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.errors import EncoderError
from pomona.extras import check_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.encoder import Encoder
    from pomona.encoder.preprocessing import Pixels

__all__ = ["OnnxRuntime", "gpu_is_here", "import_onnxruntime", "new_session"]

_GPU_BATCH = 128
_CUDA = (
    "CUDAExecutionProvider",
    {
        # TensorFloat-32 keeps 10 bits of each factor, and ONNX Runtime uses it by default.
        "use_tf32": "0",
        # By default each process tries all of cuDNN's algorithms and chooses the fastest at that
        # moment: another process may choose another one, whose sums round differently.
        "cudnn_conv_algo_search": "HEURISTIC",
    },
)
_CPU = "CPUExecutionProvider"
_DRIVER = (
    Path("/proc/driver/nvidia/version"),
    Path("/dev/nvidiactl"),  # gVisor shows no /proc/driver
    Path("/dev/dxg"),  # Windows Subsystem for Linux
)
_CUDA_FAILURE = re.compile(r"CU\w* failure \d+: [^;]*|Failed to allocate memory.*")
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_OLDEST = (1, 23)  # older sessions ignore `enable_fallback` and move to the CPU

# ONNX Runtime multiplies unsigned activations by signed weights. Without VNNI it adds two such
# products in 16 bits, where they overflow. The first setting makes the weights unsigned, and no sum
# overflows. ONNX Runtime then cannot load `QLinearConv` and similar operations with signed
# activations; their sums do not overflow anyway. The second setting is for them: it keeps float32
# between QuantizeLinear and DequantizeLinear. `pomona.building.graph.onnx_files` refuses a graph
# with both kinds.
_EXACT_SUMS: tuple[dict[str, str], ...] = (
    {"session.x64quantprecision": "1"},
    {"session.disable_quant_qdq": "1"},
)


class OnnxRuntime:
    """A loaded network, for one process and one thread.

    On a CPU it computes one image at a time, because small batches stay in the processor's cache
    and a vector cannot depend on its neighbours. On a GPU it computes batches of one size: cuDNN
    chooses its algorithm by the shape, so a vector does not depend on the other images or on the
    end of a run. A batch that does not fit into the GPU's memory is halved.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.preprocessing = encoder.preprocessing
        self.dimension = encoder.dimension
        self._pixel_type = encoder.preprocessing.pixel_type
        self._label = f"{encoder.fingerprint[:12]} ({encoder.model})"
        self._session = new_session(encoder.graph, self._label)
        pixels = self._session.get_inputs()[0]
        self._name = pixels.name
        on_gpu = self._session.get_providers()[0] != _CPU
        self.batch_size = _GPU_BATCH if on_gpu and not isinstance(pixels.shape[0], int) else 1
        self._at_once = self.batch_size

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:
        """Compute feature vectors.

        Args:
            images: (N, height, width, 3), RGB, of the `pixel_type` of the preprocessing.
            features: (N, dimension) float32, written in place.

        Raises:
            EncoderError: not even one image can be computed.
        """
        start = 0
        while start < len(images):
            part = images[start : start + self._at_once]
            full = part
            if len(part) < self._at_once:
                full = np.zeros((self._at_once, *part.shape[1:]), part.dtype)
                full[: len(part)] = part
            vectors = self._computed(full)
            if vectors is not None:
                features[start : start + len(part)] = vectors[: len(part)]
                start += len(part)

    def _computed(self, images: Pixels) -> NDArray[np.float32] | None:
        """Return the vectors; None if the GPU's memory is too small for the batch."""
        try:
            vectors: NDArray[np.float32] = self._session.run(
                None, {self._name: images.astype(self._pixel_type, copy=False)}
            )[0]
        except Exception as error:  # ONNX Runtime has no common base class
            if self._at_once == 1:
                raise EncoderError(
                    f"ONNX Runtime cannot compute encoder {self._label}: {_reason(error)}"
                ) from error
            self._at_once //= 2
            return None
        expected = (len(images), self.dimension)
        if vectors.shape != expected:  # NumPy would silently repeat one vector for all images
            raise EncoderError(
                f"encoder {self._label} returns vectors of shape {vectors.shape}, expected "
                f"{expected}: build the encoder again"
            )
        return vectors


def gpu_is_here() -> bool:
    """Return whether this machine has an NVIDIA GPU and an ONNX Runtime that computes on it.

    An empty `CUDA_VISIBLE_DEVICES`, or -1, hides the GPUs, as it does from all CUDA programs.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return False
    try:
        onnxruntime = import_onnxruntime()
    except ImportError:
        return False
    has_cuda = _CUDA[0] in onnxruntime.get_available_providers()
    return has_cuda and any(path.exists() for path in _DRIVER)


def new_session(graph: bytes, name: str) -> Any:
    """Load a graph: on the GPU if `gpu_is_here`, else on the CPU, in one thread.

    Args:
        graph: an ONNX model.
        name: the name of the encoder, for errors.

    Raises:
        EncoderError: ONNX Runtime is not installed or is too old, cannot load the graph, or
            cannot start CUDA.
    """
    check_extra(
        "onnx",
        f"encoder {name} needs ONNX Runtime",
        "onnxruntime",
        error=EncoderError,
        instead=", or onnxruntime-gpu, on every worker",
    )
    onnxruntime = import_onnxruntime()
    version = onnxruntime.__version__
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise EncoderError(
            f"encoder {name} needs ONNX Runtime {'.'.join(map(str, _OLDEST))} or later, found "
            f"{version}: upgrade onnxruntime or onnxruntime-gpu on every worker"
        )
    on_gpu = gpu_is_here()
    providers: list[Any] = [_CUDA, _CPU] if on_gpu else [_CPU]
    missing = _load_cuda(onnxruntime) if on_gpu else ""
    failed: Exception | None = None
    for exact in _EXACT_SUMS:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, not printed
        for key, value in exact.items():
            options.add_session_config_entry(key, value)
        try:
            # Otherwise, if CUDA fails, a session prints this and continues on the CPU.
            session = onnxruntime.InferenceSession(graph, options, providers, enable_fallback=0)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has no common base class
            failed = failed or error
            continue
        if on_gpu and session.get_providers()[0] != _CUDA[0]:
            raise _cuda_error(version, name, missing or "unknown reason")
        return session
    if on_gpu and _CUDA_FAILURE.search(str(failed)):
        raise _cuda_error(version, name, failed) from failed
    raise EncoderError(
        f"ONNX Runtime {version} cannot load encoder {name}: {_reason(failed)}"
    ) from failed


def _load_cuda(onnxruntime: Any) -> str:
    """Load the libraries of NVIDIA's Python packages, which the dynamic linker does not find.

    Returns:
        The first library that could not be loaded, in ONNX Runtime's words; "" if all were loaded.
    """
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        onnxruntime.preload_dlls()
    return output.getvalue().partition("\n")[0]


def _reason(error: object) -> str:
    """Return the reason in one line, without the C++ signature at the start of CUDA's errors."""
    text = " ".join(str(error).split())
    failure = _CUDA_FAILURE.search(text)
    return (failure[0].strip() if failure else text)[:200]


def _cuda_error(version: str, name: str, reason: object) -> EncoderError:
    """Return the error that prevents a run on the CPU, which would be many times slower."""
    return EncoderError(
        f"ONNX Runtime {version} cannot start CUDA for encoder {name}: {_reason(reason)}; if the "
        "GPU's memory is full, free it or use fewer workers; if libraries are missing, install "
        "'onnxruntime-gpu[cuda,cudnn]'; CUDA_VISIBLE_DEVICES=-1 computes on the CPU"
    )


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry.

    On import, ONNX Runtime writes a device id and a queue of events into the home folder. It reads
    `ORT_DISABLE_TELEMETRY` at that moment only, so the variable is set during this import only. A
    value that you set yourself stays in force.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    if "onnxruntime" not in sys.modules and _NO_TELEMETRY not in os.environ:
        os.environ[_NO_TELEMETRY] = "1"
        try:
            import onnxruntime
        finally:
            del os.environ[_NO_TELEMETRY]
    import onnxruntime

    return onnxruntime
