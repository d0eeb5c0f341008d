"""Measures what a model server costs: the client alone, and a server on the same cores.

    python benchmarks/serving.py [--images 4000] [--kserve PYTHON] [--write]

The client alone: a process that answers each request at once takes the place of the server. Its
vectors are those of the probe, so the client does all that it does in a run. Processor time
depends less on other programs than seconds do.

A server: KServe on an encoder that `pomona encoder export` wrote, in the environment of PYTHON,
against worker processes that compute the encoder themselves. Both share the cores of this machine.
`--write` puts the results into SERVING.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

import pomona
from pomona.encoder.encoder import Encoder
from pomona.runtime.endpoint.runtime import EndpointRuntime
from whole_process import HERE, POMONA, timed

LENGTH = "Inference-Header-Content-Length"
DIALECTS = {
    "v2 REST, binary": "{http}/v2/models/fruit",
    "v2 REST, JSON": "{http}/v2/models/fruit",
    "v1 REST": "{http}/v1/models/fruit",
    "v2 gRPC": "grpc://127.0.0.1:{grpc}/fruit",
}


def answer_at_once(path: str, *, binary: bool) -> None:
    """Serve on free ports, which are printed: each image has the vector of the first probe."""
    import grpc

    from pomona.runtime.endpoint.v2_messages import messages

    encoder = Encoder.load(path)
    vector = np.frombuffer(encoder.probes, "<f4")[: encoder.dimension]
    spec, many = encoder.preprocessing, np.tile(vector, (64, 1))
    metadata = {
        "name": "fruit",
        "versions": ["1"],
        "inputs": [
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, spec.height, spec.width, 3]}
        ],
        "outputs": [{"name": "features", "datatype": "FP32", "shape": [-1, len(vector)]}],
    }
    texts: dict[int, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            name = {"name": "fruit", "ready": True}
            self.send(json.dumps(metadata if "/v2/" in self.path else name).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            length = self.headers.get(LENGTH)
            if length and not binary:
                self.send_error(400)
            elif length:
                count = json.loads(body[: int(length)])["inputs"][0]["shape"][0]
                output = {"name": "features", "datatype": "FP32", "shape": [count, len(vector)]}
                output["parameters"] = {"binary_data_size": count * vector.nbytes}
                head = json.dumps({"outputs": [output]}).encode()
                self.send(head, many[:count].data, **{LENGTH: str(len(head))})
            elif self.path.endswith(":predict"):
                count = body.count(b'"b64"')
                if count not in texts:
                    texts[count] = json.dumps({"predictions": many[:count].tolist()}).encode()
                self.send(texts[count])
            else:
                count = int(body[: body.index(b",", body.index(b'"shape"'))].rpartition(b"[")[2])
                output = {"name": "features", "datatype": "FP32", "shape": [count, len(vector)]}
                output["data"] = many[:count].ravel().tolist()
                self.send(json.dumps({"outputs": [output]}).encode())

        def send(self, *parts: bytes | memoryview, **headers: str) -> None:
            self.send_response(200)
            size = sum(memoryview(part).nbytes for part in parts)
            for name, value in {"Content-Length": str(size), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for part in parts:
                self.wfile.write(part)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    known = messages()

    def infer(request: object, _: object) -> object:
        count = request.inputs[0].shape[0]
        output = {"name": "features", "datatype": "FP32", "shape": [count, len(vector)]}
        return known.ModelInferResponse(
            outputs=[output], raw_output_contents=[many[:count].tobytes()]
        )

    def method(function: object, request: object) -> object:
        return grpc.unary_unary_rpc_method_handler(
            function, request.FromString, lambda message: message.SerializeToString()
        )

    def described(*_: object) -> object:
        return known.ModelMetadataResponse(**metadata)

    from concurrent.futures import ThreadPoolExecutor

    options = [("grpc.max_receive_message_length", -1)]
    remote = grpc.server(ThreadPoolExecutor(8), options=options)
    handlers = {
        "ModelMetadata": method(described, known.ModelMetadataRequest),
        "ModelInfer": method(infer, known.ModelInferRequest),
    }
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
    remote.add_generic_rpc_handlers((service,))
    port = remote.add_insecure_port("127.0.0.1:0")
    remote.start()
    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], port, flush=True)
        server.serve_forever()


def client_alone(encoder: Encoder, path: Path, images: int) -> list[tuple[str, float, float]]:
    """Return, for each protocol, images for a core-second of the client, and bytes of an image."""
    spec = encoder.preprocessing
    batch = np.random.default_rng(0).integers(0, 256, (512, spec.height, spec.width, 3), np.uint8)
    found = []
    for name, address in DIALECTS.items():
        command = [sys.executable, __file__, "--serve", str(path)]
        command += ["--no-binary"] if "JSON" in name else []
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            http, remote = server.stdout.readline().split()
            url = address.format(http=f"http://127.0.0.1:{http}", grpc=remote)
            endpoint = pomona.Endpoint(url)
            runtime = EndpointRuntime(endpoint.of(encoder), endpoint)
            features = np.empty((len(batch), encoder.dimension), np.float32)
            runtime.predict(batch[:64], features[:64])
            count = images // 20 if "JSON" in name else images
            started = time.process_time()
            done = 0
            while done < count:
                part = batch[: min(len(batch), count - done)]
                runtime.predict(part, features[: len(part)])
                done += len(part)
            seconds = time.process_time() - started
            size = bytes_of_an_image(encoder, address, int(http), int(remote))
            found.append((name, done / seconds, size))
        finally:
            server.kill()
            server.wait()
        print(
            f"{name}: {found[-1][1]:.0f} images/core-second, {found[-1][2]:.0f} bytes", flush=True
        )
    return found


class Counting(socketserver.ThreadingTCPServer):
    """Passes connections on to a port, and counts the bytes of both directions."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.bytes, self.to = 0, port

    def finish_request(self, request: socket.socket, _: object) -> None:
        with socket.create_connection(("127.0.0.1", self.to)) as there:
            back = threading.Thread(target=self.pump, args=(there, request), daemon=True)
            back.start()
            self.pump(request, there)
            back.join()

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(2**20):
                self.bytes += len(chunk)
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)


def bytes_of_an_image(encoder: Encoder, address: str, http: int, remote: int) -> float:
    """Return the bytes on the wire for each image, both ways."""
    spec = encoder.preprocessing
    batch = np.random.default_rng(0).integers(0, 256, (130, spec.height, spec.width, 3), np.uint8)
    with Counting(remote if address.startswith("grpc") else http) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        port = proxy.server_address[1]
        endpoint = pomona.Endpoint(address.format(http=f"http://127.0.0.1:{port}", grpc=port))
        runtime = EndpointRuntime(endpoint.of(encoder), endpoint)
        features = np.empty((len(batch), encoder.dimension), np.float32)
        runtime.predict(batch[: runtime.batch_size], features[: runtime.batch_size])
        before = proxy.bytes
        runtime.predict(batch, features)
        proxy.shutdown()
        return (proxy.bytes - before) / len(batch)


@contextlib.contextmanager
def kserve(python: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Run KServe on an exported folder, and yield its addresses for HTTP and for gRPC."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        http, remote = first.getsockname()[1], second.getsockname()[1]
    (encoder,) = folder.glob("*.encoder")
    server = subprocess.Popen(
        [python, folder / "server.py", encoder, f"--http_port={http}", f"--grpc_port={remote}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{http}/v2/health/ready"
                urllib.request.urlopen(url, timeout=5).close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{remote}/fruit"
    finally:
        server.terminate()
        server.wait()


def rate_of(pictures: Path, endpoint: object, engine: object, images: int) -> float:
    """Return images/s of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        pomona.extract(pictures, Path(scratch, "t"), encoder=endpoint, engine=engine)
        return images / (time.perf_counter() - started)


def rates(path: Path, images: int, python: str) -> list[tuple[str, float]]:
    """Images/s of whole runs, in process and with KServe, by the requests in flight."""
    from pomona.building.export.export import export_encoder

    found: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        pictures, folder = Path(scratch, "pictures"), Path(scratch, "served")
        drawing = [sys.executable, HERE / "draw_images.py", pictures, "--count", str(images)]
        subprocess.run([*map(str, drawing)], check=True, stdout=subprocess.DEVNULL)
        export_encoder(path, folder, to="kserve", name="fruit")
        own = [*POMONA, "extract", str(pictures), str(Path(scratch, "own")), "--json"]
        seconds, _, _ = timed([*own, "--encoder", str(path)])
        found.append(("in process", images / seconds))
        with kserve(python, folder) as (http, remote):
            cases = [("v2 REST", http, 2, 4)]
            cases += [("v2 gRPC", remote, workers, n) for workers in (1, 2) for n in (1, 2, 4, 8)]
            for name, url, workers, in_flight in cases:
                endpoint = pomona.Endpoint(url, path, in_flight=in_flight)
                engine = pomona.LocalEngine(workers=workers)
                words = f"KServe, {name}, {workers} worker(s), {in_flight} in flight each"
                found.append((words, rate_of(pictures, endpoint, engine, images)))
            endpoint = pomona.Endpoint(remote, path)
            for tasks in (1, 2):
                spark = pomona.SparkEngine(master=f"local[{tasks}]")
                words = f"KServe, v2 gRPC, Spark local[{tasks}], 4 in flight each"
                found.append((words, rate_of(pictures, endpoint, spark, images)))
        for name, rate in found:
            print(f"{name}: {rate:.1f} images/s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--kserve", metavar="PYTHON", help="the Python of KServe's environment")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--no-binary", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        answer_at_once(given.serve, binary=not given.no_binary)
        return
    encoder = pomona.build_encoder("mobilenet_v2", "untrained:0")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "fruit.encoder")
        encoder.save(path)
        alone = client_alone(encoder, path, given.images)
        whole = rates(path, given.images // 4, given.kserve) if given.kserve else []
    if given.write:
        lines = [
            "# Model servers\n",
            f"Written by `python benchmarks/serving.py --kserve PYTHON --write` on "
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, with {os.cpu_count()} cores: MobileNetV2, 1,280 "
            "numbers for each image, pixels of 224x224x3 bytes.\n",
            "The client alone, against a server that answers at once:\n",
            "| protocol | images for each core-second of the client | bytes of an image |",
            "|---|---|---|",
            *(f"| {name} | {rate:,.0f} | {size:,.0f} |" for name, rate, size in alone),
            "",
            "Whole runs over small JPEGs; server and client share the cores:\n",
            "| run | images/s |",
            "|---|---|",
            *(f"| {name} | {rate:.1f} |" for name, rate in whole),
            "",
        ]
        (HERE / "SERVING.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
