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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["V2Rest"]

_LENGTH = "Inference-Header-Content-Length"


class V2Rest:
    """A model behind the REST API of the Open Inference Protocol."""

    def __init__(self, base: str, name: str, version: str | None, timeout_s: float) -> None:
        self._base = base
        self._timeout_s = timeout_s
        self._name = name
        self._asked_version = version
        self.is_binary: bool | None = None  # not known yet
        self.look_again()

    def look_again(self) -> None:
        """Read the model's metadata again."""
        path = f"/v2/models/{self._name}"
        if self._asked_version:
            path += f"/versions/{self._asked_version}"
        found = HttpConnection(self._base, self._timeout_s).get(path)
        if not isinstance(found, dict):
            raise Refused(f"GET {path} answers {str(found)[:60]!r}, expected the model's metadata")
        self.model = Model.of(found)
        self.version = self._asked_version or self.model.newest
        self.images_at_once = self.model.images_at_once

    def channel(self) -> _Channel:
        """Return a new connection."""
        return _Channel(self, HttpConnection(self._base, self._timeout_s))

    def path(self) -> str:
        """Return the path of a request."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self._name}{version}/infer"


class _Channel:
    """One connection."""

    def __init__(self, dialect: V2Rest, http: HttpConnection) -> None:
        self._dialect = dialect
        self._http = http

    @property
    def connections(self) -> int:
        return self._http.connections

    def compute(self, images: Pixels) -> NDArray[np.float32]:
        """Send one request."""
        if self._dialect.is_binary is None:
            try:
                found = self._computed(images, binary=True)
                self._dialect.is_binary = True
                return found
            except Refused:
                found = self._computed(images, binary=False)
                self._dialect.is_binary = False
                return found
        return self._computed(images, binary=self._dialect.is_binary)

    def _computed(self, images: Pixels, *, binary: bool) -> NDArray[np.float32]:
        model = self._dialect.model
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
        answer = self._http.post(self._dialect.path(), [head, *body], headers)
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
