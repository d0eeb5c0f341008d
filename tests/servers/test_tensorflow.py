"""Keras networks as SavedModels. `make test-servers` makes the environment with TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pomona
from network_files import FILES, NO_SETTINGS, SCALED, encoder_from
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from real_servers import free_ports, python_of

JUDGE = """
import json, sys
import numpy as np
import tensorflow as tf

folder, name, pixels = sys.argv[1:]
model = tf.saved_model.load(f"{folder}/{name}/1")
assert sorted(model.signatures) == ["raw", "serving_default"], model.signatures
pixels = np.load(pixels)
by_pixels = model.signatures["serving_default"](pixels=tf.constant(pixels))
raw = model.signatures["raw"](raw=tf.constant([image.tobytes() for image in pixels]))
assert list(by_pixels) == list(raw) == ["features"]
np.testing.assert_array_equal(by_pixels["features"], raw["features"])
for wrong in ([b"12"], [pixels[0].tobytes()[:-1]], [pixels.tobytes()]):
    try:
        model.signatures["raw"](raw=tf.constant(wrong))
    except tf.errors.InvalidArgumentError:
        continue
    sys.exit(f"{len(wrong[0])} bytes are accepted")
assert "pomona" not in sys.modules
print(json.dumps(raw["features"].numpy().tolist()))
"""

SERVER = """
import base64, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

folder, port = sys.argv[1:]
with open(f"{folder}/saved_model.pb", "rb") as file:
    (graph,) = SavedModel.FromString(file.read()).meta_graphs
known = {  # with empty fields, as TensorFlow Serving prints them
    name: MessageToDict(
        signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for name, signature in graph.signature_def.items()
}
model = tf.saved_model.load(folder)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/v1/models/fruit":
            self.answer({"model_version_status": [{"version": "1", "state": "AVAILABLE"}]})
        elif self.path == "/v1/models/fruit/versions/1/metadata":
            self.answer({"metadata": {"signature_def": {"signature_def": known}}})
        else:
            self.send_error(404)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = request.get("signature_name", "serving_default")
        strings = [base64.b64decode(each["b64"]) for each in request["instances"]]
        ((argument, _),) = known[name]["inputs"].items()
        (vectors,) = model.signatures[name](**{argument: tf.constant(strings)}).values()
        self.answer({"predictions": vectors.numpy().tolist()})


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
print("ready", flush=True)
server.serve_forever()
"""

SEVERAL = """
import json, sys
from pomona.building.export.tensorflow_process import answer
from pomona.errors import EncoderError

for request in json.load(sys.stdin):
    try:
        answer(request)
    except EncoderError as error:
        print(error)
    else:
        print("written")
"""

CAFFE = NetworkSettings(
    resize_mode="squash",
    mean=(103.939, 116.779, 123.68),
    std=1.0,
    channel_order="BGR",
    normalize=True,
)
CASES = [
    ("transfer.keras", NO_SETTINGS),
    ("transfer.h5", NetworkSettings(layer="depthwise")),
    ("keras2.h5", NO_SETTINGS),
    ("functional.keras", NO_SETTINGS),
    ("keras2_caffe.h5", NO_SETTINGS),
    ("resizing.keras", NO_SETTINGS),
    ("keras2_unusual.keras", NO_SETTINGS),
    ("mixed.keras", NO_SETTINGS),
    ("bare.keras", SCALED),
    ("bare.keras", CAFFE),
]


def export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [python_of("tensorflow"), "-m", "pomona", "encoder", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def served(encoder_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python_of("tensorflow")  # skips
    folder = tmp_path_factory.mktemp("tensorflow") / "served"
    done = export(encoder_file, "--to", "savedmodel", folder, "--name", "fruit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{folder}: written for savedmodel\n")
    return folder


def test_tensorflow_alone_computes_the_vectors_of_the_encoder(
    encoder: Encoder, served: Path
) -> None:
    python = python_of("tensorflow")
    judge = [python, "-c", JUDGE, served, "fruit", served / "probe_pixels.npy"]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    found = np.array(json.loads(judged.stdout), np.float32)
    expected = np.frombuffer(encoder.probes, "<f4").reshape(3, -1)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert "tensorflow/serving" in (served / "README.md").read_text()


def test_a_savedmodel_behind_the_protocol_of_tensorflow_serving_is_an_endpoint(
    encoder: Encoder, served: Path
) -> None:
    """TensorFlow Serving itself is in no package index: a stand-in speaks its protocol."""
    port, _ = free_ports()
    command = [python_of("tensorflow"), "-c", SERVER, served / "fruit" / "1", str(port)]
    noise = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)
    expected = pomona.embed(noise, encoder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            url = f"http://127.0.0.1:{port}/v1/models/fruit"
            found = pomona.embed(noise, pomona.Endpoint(url, encoder))
        finally:
            server.kill()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_networks_of_keras_files_are_written_and_others_are_not(tmp_path: Path) -> None:
    python = python_of("tensorflow")
    requests: list[dict[str, Any]] = []

    def ask(encoder: Encoder, source: Path) -> None:
        number = len(requests)
        encoder.save(tmp_path / f"{number}.encoder")
        requests.append(
            {
                "encoder": str(tmp_path / f"{number}.encoder"),
                "file": str(source),
                "folder": str(tmp_path / str(number)),
            }
        )

    for file, settings in CASES:
        ask(encoder_from(FILES / file, settings), FILES / file)
    plain = encoder_from(FILES / "transfer.keras")
    ask(replace(plain, weights_sha256="0" * 64), FILES / "transfer.keras")
    ask(plain, FILES / "keras2.keras")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SEVERAL],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    *written, other_weights, other_network = done.stdout.splitlines()
    assert written == ["written"] * len(CASES)
    assert "transfer.keras, which has other weights: give the file" in other_weights
    assert "keras2.keras, which has " in other_network


def test_tensorflow_is_not_needed_for_other_formats(encoder_file: Path, tmp_path: Path) -> None:
    done = export(encoder_file, "--to", "triton", tmp_path / "served")
    assert done.returncode == 0, done.stderr
