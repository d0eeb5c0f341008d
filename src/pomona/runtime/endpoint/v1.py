"""TensorFlow Serving's REST API, which KServe calls v1.

An instance is the raw pixels of one image, as base64: exact, and 1.33 bytes for each byte. JSON
numbers would be 3.6.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.runtime.endpoint.dialect import Refused
from pomona.runtime.endpoint.http import HttpConnection, NotFound, as_json
from pomona.runtime.endpoint.rest import RestModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["V1Rest"]

_LIVE = "AVAILABLE"


class V1Rest(RestModel):
    """A model behind `:predict`."""

    protocol = "v1"

    def look_again(self) -> None:
        """Read the model's versions and signatures again."""
        http = self.connect()
        states = _entries(http.get(self.path(None)), "model_version_status")
        live = [str(each["version"]) for each in states if each.get("state") == _LIVE]
        self.version = self._asked_version or max(live, key=int, default=None)
        self.signature = None
        if states:  # TensorFlow Serving, and not KServe
            named = self.path(self.version)
            self.signature = _signature(http.get(f"{named}/metadata" if self.version else named))

    def compute(self, http: HttpConnection, images: Pixels) -> NDArray[np.float32]:
        """Send one request."""
        head = b'{"instances":['
        if self.signature:
            name = json.dumps(self.signature).encode()
            head = b'{"signature_name":' + name + b',"instances":['
        body: list[bytes] = []  # base64 needs no escapes, so a library need not look at it
        for image in images:
            pixels = base64.b64encode(np.ascontiguousarray(image).data)
            body += [b',{"b64":"' if body else head + b'{"b64":"', pixels, b'"}']
        headers = {"Content-Type": "application/json"}
        answer = as_json(
            http.post(f"{self.path(self.version)}:predict", [*body, b"]}"], headers).data
        )
        try:
            return np.asarray(answer["predictions"], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"its answer has no vectors: {str(answer)[:100]}") from error


def _entries(answer: Any, name: str) -> list[dict[str, Any]]:
    """Return a list of objects in an answer; empty if there is none."""
    found = answer.get(name) if isinstance(answer, dict) else None
    return [each for each in found or () if isinstance(each, dict)]


def _signature(metadata: Any) -> str:
    """Return the name of the signature that takes raw bytes of pixels.

    Raises:
        Refused: there is none.
    """
    try:
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        for name, signature in sorted(signatures.items()):
            inputs = list((signature.get("inputs") or {}).values())
            if len(inputs) == 1 and inputs[0]["dtype"] == "DT_STRING":
                return str(name)
    except (KeyError, TypeError, AttributeError) as error:
        raise NotFound("it does not say which signatures its model has") from error
    raise Refused(
        f"its model has the signatures {', '.join(sorted(signatures))}, and none takes one string, "
        "the raw pixels: serve what 'pomona encoder export' wrote"
    )
