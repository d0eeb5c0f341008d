"""Open Inference Protocol v2 over gRPC, which is HTTP/2: Triton, KServe, OpenVINO Model Server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from pomona.errors import EncoderError
from pomona.extras import check_extra
from pomona.messages import one_line
from pomona.runtime.endpoint.dialect import Busy, Refused
from pomona.runtime.endpoint.http import token
from pomona.runtime.endpoint.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.endpoint import Endpoint
    from pomona.encoder.preprocessing import Pixels

__all__ = ["V2Grpc"]

_PORT = 8001  # Triton's
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"}


class V2Grpc:
    """A model behind `inference.GRPCInferenceService`."""

    def __init__(self, endpoint: Endpoint) -> None:
        needs = "an endpoint grpc:// needs grpcio"
        check_extra("grpc", needs, "grpc", "google.protobuf", error=EncoderError)
        parts = urlsplit(endpoint.url)
        name, _, version = unquote(parts.path).strip("/").partition("/versions/")
        if not name:
            raise Refused("give the name of its model, as in grpc://HOST:PORT/NAME")
        self._address = f"{parts.hostname}:{parts.port or _PORT}"
        self._is_secure = parts.scheme == "grpcs"
        self._timeout_s = endpoint.timeout_s
        self._name = name.removeprefix("v2/models/")
        self._asked_version = version or None
        self.look_again()

    def look_again(self) -> None:
        """Read the model's metadata again."""
        found = self.channel().metadata(self._name, self._asked_version or "")
        tensors = {
            side: [
                {"name": each.name, "datatype": each.datatype, "shape": each.shape}
                for each in getattr(found, side)
            ]
            for side in ("inputs", "outputs")
        }
        self.model = Model.of({**tensors, "versions": list(found.versions)})
        self.version = self._asked_version or self.model.newest
        self.images_at_once = self.model.images_at_once

    def channel(self) -> _Channel:
        """Return a new connection."""
        return _Channel(self, self._address, self._timeout_s, is_secure=self._is_secure)

    def request(self, images: Pixels) -> Any:
        """Return the message for some images."""
        from pomona.runtime.endpoint.v2_messages import messages

        pixels = np.ascontiguousarray(images)
        tensor = {"name": self.model.input.name, "datatype": "UINT8", "shape": pixels.shape}
        return messages().ModelInferRequest(
            model_name=self._name,
            model_version=self.version or "",
            inputs=[tensor],
            outputs=[{"name": self.model.output.name}],
            raw_input_contents=[pixels.tobytes()],
        )


class _Channel:
    """One connection."""

    def __init__(self, dialect: V2Grpc, address: str, timeout_s: float, *, is_secure: bool) -> None:
        import grpc

        from pomona.runtime.endpoint.v2_messages import messages

        self.connections = 0
        self._dialect = dialect
        self._timeout_s = timeout_s
        # Otherwise the channels of a process to one address share a connection.
        options = [*_UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
        secret = token()
        self._headers = (("authorization", f"Bearer {secret}"),) if secret else ()
        if is_secure:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            channel = grpc.insecure_channel(address, options)
        channel.subscribe(self._on_change)
        known = messages()

        def method(name: str, answer: Any) -> Any:
            return channel.unary_unary(
                f"/inference.GRPCInferenceService/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )

        self._infer = method("ModelInfer", known.ModelInferResponse)
        self._metadata = method("ModelMetadata", known.ModelMetadataResponse)

    def metadata(self, name: str, version: str) -> Any:
        """Return the metadata of a model."""
        from pomona.runtime.endpoint.v2_messages import messages

        return self._answer(
            self._metadata, messages().ModelMetadataRequest(name=name, version=version)
        )

    def compute(self, images: Pixels) -> NDArray[np.float32]:
        """Send one request."""
        answer = self._answer(self._infer, self._dialect.request(images))
        wanted = self._dialect.model.output.name
        at = [tensor.name for tensor in answer.outputs].index(wanted) if answer.outputs else -1
        if at < 0 or answer.outputs[at].datatype != "FP32":
            raise Refused("its answer has no FP32 vectors")
        shape = tuple(answer.outputs[at].shape)
        if answer.raw_output_contents:
            return np.frombuffer(answer.raw_output_contents[at], "<f4").reshape(shape)
        numbers = answer.outputs[at].contents.fp32_contents
        return np.fromiter(numbers, np.float32, len(numbers)).reshape(shape)

    def _on_change(self, state: Any) -> None:
        self.connections += state.name == "READY"

    def _answer(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout_s, metadata=self._headers)
        except grpc.RpcError as error:
            code, details = error.code().name, one_line(error.details())
            if code in _PASSING:
                raise Busy(_WORDS.get(code, f"it answers {code}") + f" ({details})") from error
            raise Refused(f"it answers {code} ({details})") from error


_WORDS = {
    "UNAVAILABLE": "it does not accept connections",
    "DEADLINE_EXCEEDED": "it does not answer in time",
}
