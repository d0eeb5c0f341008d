"""Exported folders in real model servers. `make test-servers` makes their environments."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pomona
import real_servers
from pomona.encoder.encoder import Encoder
from pomona.runtime.parity import probe_images
from real_servers import Server, python_of

GRPC = """
import sys
import numpy as np
import tritonclient.grpc as grpc

address, folder = sys.argv[1:]
client = grpc.InferenceServerClient(address)
metadata = client.get_model_metadata("fruit")
assert [(each.name, each.datatype) for each in metadata.inputs] == [("pixels", "UINT8")], metadata
assert [(each.name, each.datatype) for each in metadata.outputs] == [("features", "FP32")], metadata
pixels = np.load(folder + "/probe_pixels.npy")
tensor = grpc.InferInput("pixels", pixels.shape, "UINT8")
tensor.set_data_from_numpy(pixels)
found = client.infer("fruit", [tensor]).as_numpy("features")
np.testing.assert_array_equal(found, np.load(folder + "/probe_vectors.npy"))
"""


@pytest.fixture(scope="module", params=["kserve", "triton"])
def served(
    request: pytest.FixtureRequest, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    python_of(request.param)  # skips
    folder = tmp_path_factory.mktemp(request.param) / "served"
    pomona.export_encoder(encoder, folder, to=request.param, name="fruit")
    with getattr(real_servers, request.param)(folder) as server:
        yield server, folder


class Refused(Exception):  # noqa: N818 - a name for tests
    """A server answered with a status that is not 200."""


def post(url: str, body: bytes, **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, names)  # noqa: S310 - of a server of this test
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(error.code) from None


def infer(server: Server, images: np.ndarray) -> np.ndarray:
    """Ask in v2 with a binary tensor."""
    tensor = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": images.shape,
        "parameters": {"binary_data_size": images.nbytes},
    }
    header = json.dumps({"inputs": [tensor]}).encode()
    answer = post(
        f"{server.http}/v2/models/fruit/infer",
        header + images.tobytes(),
        Content_Type="application/octet-stream",
        Inference_Header_Content_Length=str(len(header)),
    )
    (output,) = answer["outputs"]
    vectors: np.ndarray = np.array(output["data"], np.float32).reshape(output["shape"])
    return vectors


def stored(encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    return probe_images(224, 224), np.frombuffer(encoder.probes, "<f4").reshape(3, -1)


def test_the_check_in_the_folder_finds_equal_vectors(served: tuple[Server, Path]) -> None:
    server, folder = served
    check = [sys.executable, folder / "check.py", server.http]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "equal: 0 of the largest number, limit 0.001\n")


def test_the_check_in_the_folder_finds_other_vectors(
    served: tuple[Server, Path], tmp_path: Path
) -> None:
    server, folder = served
    for name in ("check.py", "encoder.json", "probe_vectors.npy"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    np.save(tmp_path / "probe_pixels.npy", np.load(folder / "probe_pixels.npy")[:, :, ::-1])
    check = [sys.executable, tmp_path / "check.py", server.http]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:10]) == (1, "DIFFERENT:")


def test_vectors_over_grpc_are_those_of_the_encoder(served: tuple[Server, Path]) -> None:
    server, folder = served
    client = [python_of("triton"), "-c", GRPC, server.grpc, folder]
    done = subprocess.run(client, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_requests_at_the_same_time_each_get_their_own_vectors(
    served: tuple[Server, Path], encoder: Encoder
) -> None:
    server, _ = served
    pixels, vectors = stored(encoder)
    some = [[0], [1, 2], [2, 0, 1], [2], [1], [0, 1]] * 4
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda each: infer(server, pixels[each]), some)]
    for each, rows in zip(some, found, strict=True):
        assert np.array_equal(rows, vectors[each])


def test_pixels_of_another_size_are_refused_and_the_server_goes_on(
    served: tuple[Server, Path], encoder: Encoder
) -> None:
    server, _ = served
    pixels, vectors = stored(encoder)
    with pytest.raises(Refused, match="400"):
        infer(server, pixels[:, :200])
    assert np.array_equal(infer(server, pixels), vectors)


def test_kserve_answers_version_1(encoder: Encoder, tmp_path: Path) -> None:
    python_of("kserve")
    pomona.export_encoder(encoder, tmp_path / "served", to="kserve", name="fruit")
    pixels, vectors = stored(encoder)
    raw = [{"b64": base64.b64encode(image.tobytes()).decode()} for image in pixels]
    with real_servers.kserve(tmp_path / "served") as server:
        url = f"{server.http}/v1/models/fruit:predict"
        for instances in (raw, pixels.tolist()):
            body = json.dumps({"instances": instances}).encode()
            answer = post(url, body, Content_Type="application/json")
            assert np.array_equal(np.array(answer["predictions"], np.float32), vectors)
        for wrong in ([], [{"b64": "AAAA"}], [[1], [1, 2]], (pixels[:1] / 255).tolist(), "x"):
            body = json.dumps({"instances": wrong}).encode()
            with pytest.raises(Refused, match="400"):
                post(url, body, Content_Type="application/json")


def test_kserve_answers_all_requests_that_it_has_before_it_ends(
    encoder: Encoder, tmp_path: Path
) -> None:
    python_of("kserve")
    pomona.export_encoder(encoder, tmp_path / "served", to="kserve", name="fruit")
    pixels, vectors = stored(encoder)
    many = [*range(3)] * 10
    with real_servers.kserve(tmp_path / "served") as server, ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(infer, server, pixels[many]) for _ in range(6)]
        wait(asked, return_when=FIRST_COMPLETED)  # by now, the server has all of them
        server.process.send_signal(signal.SIGTERM)
        for each in asked:
            assert np.array_equal(each.result(), vectors[many])
        assert server.process.wait(60) == 0
