"""Keras networks as SavedModels. `make test-servers` makes the environment with TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from network_files import FILES, NO_SETTINGS, SCALED, encoder_from
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from real_servers import python_of

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


def test_tensorflow_alone_computes_the_vectors_of_the_encoder(
    encoder: Encoder, encoder_file: Path, tmp_path: Path
) -> None:
    python = python_of("tensorflow")
    served = tmp_path / "served"
    done = export(encoder_file, "--to", "savedmodel", served, "--name", "fruit")
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        f"{served}: written for savedmodel",
    ), done.stderr
    judge = [python, "-c", JUDGE, served, "fruit", served / "probe_pixels.npy"]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    found = np.array(json.loads(judged.stdout), np.float32)
    expected = np.frombuffer(encoder.probes, "<f4").reshape(3, -1)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert "tensorflow/serving" in (served / "README.md").read_text()


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
