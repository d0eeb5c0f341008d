"""Loaded runtimes: one for each process and encoder."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.encoder import Encoder
    from pomona.encoder.endpoint import Endpoint
    from pomona.encoder.preprocessing import Pixels
    from pomona.runtime.runtime import Runtime

__all__ = [
    "LazyRuntime",
    "SideBySide",
    "computes_on_gpu",
    "load_encoder_once",
    "load_once",
    "loads_since",
    "loads_so_far",
    "runtime_for",
]


_loaded: dict[tuple[str, Endpoint | None], Runtime] = {}
_lock = threading.Lock()
_loads = 0
_reported = 0


def load_once(
    fingerprint: str,
    fetch: Callable[[], Encoder],
    copies: int = 1,
    endpoint: Endpoint | None = None,
) -> Runtime:
    """Return this process's runtime for an encoder, loading it the first time only.

    Args:
        fingerprint: the encoder's identity, the key.
        fetch: returns the encoder itself. It is called only if the encoder is not loaded yet,
            because on Spark it reads a broadcast variable, which takes time.
        copies: how many images to compute at the same time, by one copy of the network each. A
            runtime that takes several images in one call, on a GPU, needs one copy only.
        endpoint: the model server that computes it, if any.

    Raises:
        EncoderError: the encoder cannot be loaded here, or has other features than where it was
            built.
    """
    global _loads  # noqa: PLW0603 - a process-wide count is the point
    from pomona.runtime.parity import check_parity

    with _lock:
        key = fingerprint, endpoint
        if key not in _loaded:
            encoder = replace(fetch(), endpoint=endpoint)
            runtime = runtime_for(encoder)
            check_parity(encoder, runtime)
            if copies > 1 and runtime.batch_size == 1:
                more = (runtime_for(encoder) for _ in range(copies - 1))
                runtime = SideBySide([runtime, *more])
            _loaded[key] = runtime
            _loads += endpoint is None
        return _loaded[key]


def load_encoder_once(encoder: Encoder) -> Runtime:
    """Return this process's runtime for an encoder, as `load_once` does.

    Raises:
        EncoderError: as `load_once`.
    """
    return load_once(encoder.fingerprint, lambda: encoder, endpoint=encoder.endpoint)


def runtime_for(encoder: Encoder) -> Runtime:
    """Load an encoder in the runtime that it was built for, or find the server that computes it.

    Raises:
        EncoderError: it cannot be loaded here.
    """
    if encoder.endpoint is not None:
        from pomona.runtime.endpoint.runtime import EndpointRuntime

        return EndpointRuntime(encoder, encoder.endpoint)
    if encoder.runtime == "onnxruntime":
        from pomona.runtime.onnxruntime import OnnxRuntime

        return OnnxRuntime(encoder)
    from pomona.runtime.openvino import OpenVinoRuntime

    return OpenVinoRuntime(encoder)


def computes_on_gpu(encoder: Encoder) -> bool:
    """Return whether an encoder would be computed on a GPU of this machine."""
    if encoder.endpoint is not None or encoder.runtime != "onnxruntime":
        return False
    from pomona.runtime.onnxruntime import gpu_is_here

    return gpu_is_here()


class SideBySide:
    """Copies of a loaded network, each with its own thread.

    One copy computes each image, so its vector is the same as with a single copy.
    """

    _IMAGES_EACH = 4  # so that a slow image does not leave the other copies idle

    def __init__(self, copies: list[Runtime]) -> None:
        self.batch_size = self._IMAGES_EACH * len(copies)
        self.preprocessing = copies[0].preprocessing
        self.dimension = copies[0].dimension
        self._copies = copies
        self._threads = ThreadPoolExecutor(len(copies))

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:
        """Fill `features` (N, D) float32 from `images` (N, height, width, 3) RGB."""
        waiting = queue.SimpleQueue[int]()
        for number in range(len(images)):
            waiting.put(number)

        def work(copy: Runtime) -> None:
            with suppress(queue.Empty):
                while True:
                    number = waiting.get_nowait()
                    copy.predict(images[number : number + 1], features[number : number + 1])

        for done in [self._threads.submit(work, copy) for copy in self._copies]:
            done.result()


class LazyRuntime:
    """A runtime that loads its network when the first image needs it."""

    batch_size = 1

    def __init__(self, encoder: Encoder) -> None:
        self.preprocessing = encoder.preprocessing
        self.dimension = encoder.dimension
        self._encoder = encoder

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:
        """Fill `features` (N, D) float32 from `images` (N, height, width, 3) RGB."""
        load_encoder_once(self._encoder).predict(images, features)


def loads_since() -> int:
    """Return how many models this process has loaded since the last call."""
    global _reported
    with _lock:
        fresh, _reported = _loads - _reported, _loads
        return fresh


def loads_so_far() -> int:
    """Return how many models this process has loaded in total."""
    with _lock:
        return _loads
