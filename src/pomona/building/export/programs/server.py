"""An encoder in KServe's Python model server: python server.py fruit.encoder.

It answers v1 and v2 over HTTP (8080), v2 also with binary tensors, and v2 over gRPC (8081). The
options are those of KServe: `--help` lists them.
"""

import asyncio
import base64
import queue
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import kserve
import numpy as np
from kserve.errors import InvalidInput

from pomona.cores import available_cores
from pomona.encoder.encoder import Encoder
from pomona.runtime.registry import load_once

_MOST_IMAGES = 128  # computed together


class EncoderModel(kserve.Model):  # type: ignore[misc]  # kserve has no types here
    """Pixels of the network's input size -> feature vectors."""

    def __init__(self, name: str, encoder: Encoder) -> None:
        super().__init__(name)
        self._runtime = load_once(
            encoder.fingerprint, lambda: encoder, copies=available_cores()
        )  # this also compares the probes
        spec = encoder.preprocessing
        self._shape = (spec.height, spec.width, 3)
        self._type = np.dtype(spec.pixel_type)
        self._waiting = queue.SimpleQueue[tuple[Any, Future[Any]]]()
        threading.Thread(target=self._compute, daemon=True).start()
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the input, for the metadata of v2."""
        datatype = "UINT8" if self._type == np.uint8 else "FP32"
        return [{"name": "pixels", "datatype": datatype, "shape": [-1, *self._shape]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the output, for the metadata of v2."""
        return [{"name": "features", "datatype": "FP32", "shape": [-1, self._runtime.dimension]}]

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer a request: a dictionary for v1, an `InferRequest` for v2."""
        del headers, response_headers
        pixels = self._pixels(payload)
        answer: Future[Any] = Future()
        self._waiting.put((pixels, answer))
        features = await asyncio.wrap_future(answer)
        if isinstance(payload, dict):
            return {"predictions": features.tolist()}
        output = kserve.InferOutput("features", list(features.shape), "FP32")
        output.set_data_from_numpy(features, binary_data=payload.use_binary_outputs)
        return kserve.InferResponse(
            payload.id or "",
            self.name,
            [output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def _pixels(self, payload: Any) -> Any:
        """Return the images of a request: (N, height, width, 3)."""
        if isinstance(payload, dict):
            pixels = self._instances(payload.get("instances") or [])
        elif isinstance(payload, kserve.InferRequest) and len(payload.inputs) == 1:
            pixels = payload.inputs[0].as_numpy()
        else:
            raise InvalidInput("expected JSON with instances, or one input: the pixels")
        if pixels.ndim != 4 or pixels.shape[1:] != self._shape or pixels.dtype != self._type:
            raise InvalidInput(
                f"pixels are {pixels.dtype} {pixels.shape}, expected {self._type} "
                f"(N, {', '.join(map(str, self._shape))})"
            )
        return pixels

    def _instances(self, instances: list[Any]) -> Any:
        """Return the images of a request in v1."""
        try:
            return np.stack([self._instance(each) for each in instances])
        except ValueError as error:  # none, of several shapes, or not base64
            raise InvalidInput(str(error)) from error

    def _instance(self, instance: Any) -> Any:
        """Return one image of v1: its bytes in base64, or nested lists of numbers."""
        if isinstance(instance, dict) and len(instance) == 1:
            (instance,) = instance.values()  # {"b64": ...} or {"pixels": ...}
        if isinstance(instance, str):
            raw = base64.b64decode(instance)
            if len(raw) != np.prod(self._shape) * self._type.itemsize:
                raise InvalidInput(
                    f"an instance of {len(raw)} bytes, expected the {self._type} pixels of "
                    f"{self._shape}"
                )
            return np.frombuffer(raw, self._type).reshape(self._shape)
        numbers = np.asarray(instance)
        pixels = numbers.astype(self._type)
        if numbers.dtype.kind not in "iuf" or not np.array_equal(pixels, numbers):
            raise InvalidInput(f"an instance has other numbers than pixels of {self._type}")
        return pixels

    def _compute(self) -> None:
        """Compute the images of all waiting requests together, for as long as the process lives."""
        while True:
            batch = [self._waiting.get()]
            with suppress(queue.Empty):
                while sum(len(pixels) for pixels, _ in batch) < _MOST_IMAGES:
                    batch.append(self._waiting.get_nowait())
            # A request whose client has gone is cancelled, and takes no result.
            batch = [each for each in batch if each[1].set_running_or_notify_cancel()]
            if not batch:
                continue
            images = np.concatenate([pixels for pixels, _ in batch])
            features = np.empty((len(images), self._runtime.dimension), np.float32)
            try:
                self._runtime.predict(images, features)
            except Exception as error:  # noqa: BLE001 - the requests wait for an answer
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            start = 0
            for pixels, answer in batch:
                answer.set_result(features[start : start + len(pixels)])
                start += len(pixels)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    kserve.ModelServer().start([EncoderModel(file.stem, Encoder.load(file))])
