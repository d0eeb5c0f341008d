"""Open Inference Protocol v2 over REST: Triton, KServe, OpenVINO Model Server, MLServer.

Pixels travel as they are, after a short JSON header, if the server has the binary tensor extension;
else as JSON numbers. Servers do not reliably say whether they have it, so the first request tries.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.runtime.endpoint.dialect import Refused
from pomona.runtime.endpoint.http import HttpConnection, as_json
from pomona.runtime.endpoint.model import Model, Tensor
from pomona.runtime.endpoint.rest import RestModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["V2Rest"]

_LENGTH = "Inference-Header-Content-Length"


class V2Rest(RestModel):
    """A model behind the REST API of the Open Inference Protocol."""

    protocol = "v2"
    _is_binary: bool | None = None  # not known yet

    def look_again(self) -> None:
        """Read the model's metadata again."""
        path = self.path(self._asked_version)
        found = self.connect().get(path)
        if not isinstance(found, dict):
            raise Refused(f"GET {path} answers {str(found)[:60]!r}, expected the model's metadata")
        self._model = Model.of(found)
        self.version = self._asked_version or self._model.newest
        self.images_at_once = self._model.images_at_once

    def compute(self, http: HttpConnection, images: Pixels) -> NDArray[np.float32]:
        """Send one request."""
        if self._is_binary is not None:
            return self._computed(http, images, binary=self._is_binary)
        try:
            found, self._is_binary = self._computed(http, images, binary=True), True
        except Refused:
            found, self._is_binary = self._computed(http, images, binary=False), False
        return found

    def _computed(
        self, http: HttpConnection, images: Pixels, *, binary: bool
    ) -> NDArray[np.float32]:
        model = self._model
        entry: dict[str, Any] = {
            "name": model.input.name,
            "shape": list(images.shape),
            "datatype": "UINT8",
        }
        request = {"inputs": [entry], "outputs": [{"name": model.output.name}]}
        headers = {"Content-Type": "application/json"}
        body: list[bytes | memoryview] = []
        if binary:
            pixels = np.ascontiguousarray(images).data.cast("B")
            entry["parameters"] = {"binary_data_size": len(pixels)}
            request["outputs"][0]["parameters"] = {"binary_data": True}
            body = [pixels]
        else:
            entry["data"] = images.reshape(-1).tolist()
        head = json.dumps(request, separators=(",", ":")).encode()
        if binary:
            headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head))}
        answer = http.post(f"{self.path(self.version)}/infer", [head, *body], headers)
        return _vectors(answer.data, answer.headers.get(_LENGTH), model.output)


def _vectors(content: bytes, head_length: str | None, output: Tensor) -> NDArray[np.float32]:
    """Return the vectors in an answer.

    Raises:
        Refused: there are none.
    """
    length = int(head_length) if head_length and head_length.isdecimal() else len(content)
    head = as_json(memoryview(content)[:length])
    try:
        outputs = head["outputs"]
        at = [each["name"] for each in outputs].index(output.name)
        shape = tuple(map(int, outputs[at]["shape"]))
        datatype = str(outputs[at]["datatype"])
        if "data" in outputs[at]:
            return np.asarray(outputs[at]["data"], np.float32).reshape(shape)
        sizes = [int(each["parameters"]["binary_data_size"]) for each in outputs[: at + 1]]
        start = length + sum(sizes[:-1])
        if datatype != "FP32":
            raise Refused(f"its output {output.name} is {datatype}, expected FP32")
        found = np.frombuffer(content, "<f4", count=sizes[-1] // 4, offset=start)
        return found.reshape(shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"its answer has no vectors: {str(head)[:100]}") from error
