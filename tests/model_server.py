"""A model server on the loopback interface: the protocols as real servers speak them, and faults.

It computes with a real encoder, in this process. `tests/servers` has the real servers.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from pomona.encoder.encoder import Encoder
from pomona.runtime.registry import runtime_for
from server_threads import running

LENGTH = "Inference-Header-Content-Length"


class ModelServer:
    """The server.

    Attributes:
        encoder: what it computes now; a test may replace it.
        binary: whether it has the binary tensor extension.
        protocols: the ones that it speaks: `v2`, `v1` (as KServe) or `tfs` (as TensorFlow Serving).
        versions: the versions of its model in v2 and tfs.
        datatype: what its metadata calls the input.
        lists: whether it lists its models.
        faults: answers for the next requests for vectors, in place of vectors: a status, `reset`,
            or seconds to wait before the answer.
        images: number of images in each request for vectors.
        bytes_of: number of bytes of each of these requests.
        headers: of the last request.
        allowed_only: the bearer token that requests must have, if any.
        connections: number of connections so far.
        port: its port.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.binary = True
        self.protocols = {"v2"}
        self.versions: list[str] = []
        self.datatype = "UINT8"
        self.lists = True
        self.name = "fruit"
        self.faults: list[int | str | float] = []
        self.images: list[int] = []
        self.bytes_of: list[int] = []
        self.most_at_once = self._now = 0
        self.headers: dict[str, str] = {}
        self.seen: Counter[str] = Counter()
        self.connections = 0
        self.sockets: list[socket.socket] = []
        self.port = 0
        self.allowed_only = ""
        self._lock = threading.Lock()
        self.serve(encoder)

    def serve(self, encoder: Encoder) -> None:
        """Compute this encoder from now on."""
        self.encoder = encoder
        self._runtime = runtime_for(encoder)
        self.shape = (encoder.preprocessing.height, encoder.preprocessing.width, 3)

    def url(self, path: str = "") -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def vectors(self, pixels: bytes, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        images = np.frombuffer(pixels, np.uint8).reshape(count, *self.shape)
        features = np.empty((count, self.encoder.dimension), np.float32)
        with self._lock:  # the runtime is for one thread
            self._runtime.predict(images, features)
        return features

    @contextmanager
    def counted(self, images: int, size: int) -> Iterator[None]:
        with self._lock:
            self.images.append(images)
            self.bytes_of.append(size)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def fault(self) -> int | str | float | None:
        with self._lock:
            return self.faults.pop(0) if self.faults else None

    def metadata(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "versions": self.versions,
            "inputs": [{"name": "pixels", "datatype": self.datatype, "shape": [-1, *self.shape]}],
            "outputs": [
                {"name": "features", "datatype": "FP32", "shape": [-1, self.encoder.dimension]}
            ],
        }


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model: ModelServer

    def setup(self) -> None:
        super().setup()
        self.model.connections += 1
        self.model.sockets.append(self.connection)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        model = self.model
        model.seen[self.path] += 1
        answers: dict[str, Any] = {}
        if "v2" in model.protocols:
            answers["/v2"] = {"name": "test", "version": "1", "extensions": []}
            if model.lists:
                answers["/v2/models"] = {"models": [model.name]}
            answers[f"/v2/models/{model.name}"] = model.metadata()
        if "v1" in model.protocols:
            answers["/v1/models"] = {"models": [model.name]}
            answers[f"/v1/models/{model.name}"] = {"name": model.name, "ready": True}
        if "tfs" in model.protocols:
            states = [{"version": version, "state": "AVAILABLE"} for version in model.versions]
            answers[f"/v1/models/{model.name}"] = {"model_version_status": states}
            signatures = {
                "serving_default": {"inputs": {"pixels": {"dtype": "DT_UINT8"}}},
                "__saved_model_init_op": {},  # TensorFlow Serving names it, without inputs
                "raw": {"inputs": {"bytes": {"dtype": "DT_STRING"}}},
            }
            for version in model.versions:
                path = f"/v1/models/{model.name}/versions/{version}/metadata"
                answers[path] = {"metadata": {"signature_def": {"signature_def": signatures}}}
        if not self._is_allowed():
            return
        if self.path in answers:
            self._send(200, json.dumps(answers[self.path]).encode())
        else:
            self._send(404, b'{"error": "not found"}')

    def do_POST(self) -> None:
        model = self.model
        model.seen[self.path] += 1
        model.headers = dict(self.headers)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_allowed():
            return
        fault = model.fault()
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(fault, int):
            self._send(fault, b'{"error": "no, thanks"}')
            return
        if isinstance(fault, float):
            time.sleep(fault)
        version = re.search(r"/versions/([^/:]+)", self.path)
        if version and version[1] not in model.versions:
            self._send(404, b'{"error": "no such version"}')
        elif self.path.endswith("/infer"):
            self._infer(body)
        elif self.path.endswith(":predict"):
            self._predict(body)
        else:
            self._send(404, b'{"error": "not found"}')

    def _infer(self, body: bytes) -> None:
        model, length = self.model, self.headers.get(LENGTH)
        if length and not model.binary:
            self._send(400, b'{"error": "not JSON"}')
            return
        head = json.loads(body[: int(length)] if length else body)
        tensor = head["inputs"][0]
        assert tensor["name"] == "pixels"
        assert tensor["datatype"] == "UINT8"
        pixels = body[int(length) :] if length else bytes(tensor["data"])
        with model.counted(tensor["shape"][0], len(body)):
            found = model.vectors(pixels, tensor["shape"][0])
            time.sleep(0.002)  # so that other requests come meanwhile
        answer: dict[str, Any] = {"name": "features", "datatype": "FP32", "shape": found.shape}
        if not length:
            answer["data"] = found.ravel().tolist()
            self._send(200, json.dumps({"outputs": [answer]}).encode())
            return
        assert head["outputs"] == [{"name": "features", "parameters": {"binary_data": True}}]
        answer["parameters"] = {"binary_data_size": found.nbytes}
        first = json.dumps({"model_name": model.name, "outputs": [answer]}).encode()
        self._send(200, first + found.tobytes(), {LENGTH: str(len(first))})

    def _predict(self, body: bytes) -> None:
        request = json.loads(body)
        if "tfs" in self.model.protocols:
            assert request["signature_name"] == "raw"
        pixels = [base64.b64decode(each["b64"]) for each in request["instances"]]
        with self.model.counted(len(pixels), len(body)):
            found = self.model.vectors(b"".join(pixels), len(pixels))
        self._send(200, json.dumps({"predictions": found.tolist()}).encode())

    def _is_allowed(self) -> bool:
        wanted = self.model.allowed_only
        allowed = not wanted or self.headers.get("Authorization") == f"Bearer {wanted}"
        if not allowed:
            self._send(401, b'{"error": "who are you?"}')
        return allowed

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that is killed is no error."""


@contextmanager
def serving(
    encoder: Encoder, port: int = 0, certificate: Path | None = None
) -> Iterator[ModelServer]:
    """Start a server over HTTP, or over HTTPS with a certificate and its key in one file."""
    model = ModelServer(encoder)
    kind = type("_Handler", (Handler,), {"model": model})
    server = _Server(("127.0.0.1", port), kind)
    model.port = server.server_address[1]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server, 0.05):
        yield model
    for each in model.sockets:  # those that clients keep open
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving_grpc(encoder: Encoder, certificate: Path | None = None) -> Iterator[ModelServer]:
    """Start a server over gRPC, encrypted if there are a certificate and its key in one file."""
    import grpc

    from pomona.runtime.endpoint.v2_messages import messages

    known, model = messages(), ModelServer(encoder)

    def metadata(request: Any, context: Any) -> Any:
        if request.name != model.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        found = model.metadata()
        return known.ModelMetadataResponse(**found)

    def infer(request: Any, context: Any) -> Any:
        model.headers = dict(context.invocation_metadata())
        fault = model.fault()
        if isinstance(fault, str):
            context.abort(getattr(grpc.StatusCode, fault), "no, thanks")
        (tensor,), (pixels,) = request.inputs, request.raw_input_contents
        with model.counted(tensor.shape[0], request.ByteSize()):
            found = model.vectors(pixels, tensor.shape[0])
        output = {"name": "features", "datatype": "FP32", "shape": found.shape}
        return known.ModelInferResponse(outputs=[output], raw_output_contents=[found.tobytes()])

    def method(function: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            function, request.FromString, lambda message: message.SerializeToString()
        )

    handlers = {
        "ModelMetadata": method(metadata, known.ModelMetadataRequest),
        "ModelInfer": method(infer, known.ModelInferRequest),
    }
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
    server.add_generic_rpc_handlers((service,))
    if certificate is None:
        model.port = server.add_insecure_port("127.0.0.1:0")
    else:
        both = certificate.read_bytes()
        model.port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([(both, both)])
        )
    server.start()
    try:
        yield model
    finally:
        server.stop(None).wait()
