"""Encoder -> predict function, on ONNX Runtime: NVIDIA's CUDA where it is there, else the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.blob import Encoder

__all__ = ["OnnxRuntime", "new_session"]

_GPU_BATCH = 32
# TensorFloat-32 keeps 10 bits of each factor, and ONNX Runtime takes it by default.
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
_CPU = "CPUExecutionProvider"


class OnnxRuntime:
    """A loaded network, for one process and one thread.

    On a CPU it takes one image at a time, as `OpenVinoRuntime` does and for the same reasons. On a
    GPU it takes batches; worker processes beside it decode.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.preprocessing = encoder.preprocessing
        self.dimension = encoder.dimension
        self._session = new_session(encoder.graph, f"{encoder.fingerprint[:12]} ({encoder.model})")
        pixels = self._session.get_inputs()[0]
        self._name = pixels.name
        on_gpu = self._session.get_providers()[0] != _CPU
        self.batch_size = _GPU_BATCH if on_gpu and not isinstance(pixels.shape[0], int) else 1

    def predict(self, images: NDArray[np.uint8], features: NDArray[np.float32]) -> None:
        """Compute feature vectors.

        Args:
            images: (N, height, width, 3) uint8, RGB.
            features: (N, dimension) float32, written in place.
        """
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            features[part] = self._session.run(None, {self._name: images[part]})[0]


def new_session(graph: bytes, name: str) -> Any:
    """Load a graph: on the GPU where ONNX Runtime has one, else on the CPU, in one thread.

    Args:
        graph: an ONNX model.
        name: what to call it in an error.

    Raises:
        EncoderError: ONNX Runtime is not installed, or cannot load the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError(
            f"encoder {name} needs ONNX Runtime: pip install 'pomona[onnx]', or onnxruntime-gpu, "
            "on every worker"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, not printed
    gpu = _CUDA[0] in onnxruntime.get_available_providers()
    providers: list[Any] = [_CUDA, _CPU] if gpu else [_CPU]
    try:
        return onnxruntime.InferenceSession(graph, options, providers)
    except Exception as error:  # ONNX Runtime's are not of one kind
        raise EncoderError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load encoder {name}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
