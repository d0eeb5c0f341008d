"""A model server computes an encoder: the vectors are those of this machine, or the run ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pomona
from certificates import signed
from model_server import ModelServer, serving, serving_grpc
from pomona.building.build import build_encoder
from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.errors import EncoderError, RunError
from pomona.runtime.endpoint import http
from pomona.runtime.endpoint.runtime import EndpointRuntime, served_by
from pomona.runtime.registry import runtime_for

QUICK = {"deadline_s": 2.0, "timeout_s": 1.0}


@pytest.fixture(scope="module")
def small(cache: object) -> Encoder:  # noqa: ARG001 - built into the cache of the session
    return build_encoder("mobilenet_v2_035", "untrained:3")


@pytest.fixture(scope="module")
def other(cache: object) -> Encoder:  # noqa: ARG001
    return build_encoder("mobilenet_v2_035", "untrained:4")


@pytest.fixture
def server(small: Encoder) -> Iterator[ModelServer]:
    with serving(small) as model:
        yield model


@pytest.fixture
def images(small: Encoder) -> NDArray[np.uint8]:
    spec = small.preprocessing
    noise = np.random.default_rng(0).integers(0, 256, (7, spec.height, spec.width, 3))
    return noise.astype(np.uint8)


def client(encoder: Encoder, url: str, **more: float) -> EndpointRuntime:
    endpoint = Endpoint(url, **{**QUICK, **more})  # type: ignore[arg-type]
    return EndpointRuntime(endpoint.of(encoder), endpoint)


def computed(runtime: object, images: NDArray[np.uint8], encoder: Encoder) -> NDArray[np.float32]:
    features = np.empty((len(images), encoder.dimension), np.float32)
    runtime.predict(images, features)  # type: ignore[attr-defined]
    return features


@pytest.mark.parametrize(
    ("protocol", "binary", "path"),
    [
        ("v2", True, ""),
        ("v2", True, "/v2/models/fruit"),
        ("v2", False, ""),
        ("v1", True, ""),
        ("v1", True, "/v1/models/fruit"),
        ("tfs", True, "/v1/models/fruit:predict"),
    ],
)
def test_each_protocol_returns_the_vectors_of_this_machine(
    small: Encoder,
    server: ModelServer,
    images: NDArray[np.uint8],
    protocol: str,
    binary: bool,
    path: str,
) -> None:
    server.protocols, server.binary, server.versions = {protocol}, binary, ["3", "12"]
    runtime = client(small, server.url(path))
    np.testing.assert_array_equal(
        computed(runtime, images, small), computed(runtime_for(small), images, small)
    )
    named = "/versions/12" if protocol != "v1" else ""
    assert any(f"/models/fruit{named}" in path for path in server.seen if "metadata" not in path)


def test_grpc_returns_the_vectors_of_this_machine(
    small: Encoder, images: NDArray[np.uint8]
) -> None:
    pytest.importorskip("grpc", reason="grpc:// needs grpcio: pip install '.[grpc]'")
    with serving_grpc(small) as server:
        runtime = client(small, f"grpc://127.0.0.1:{server.port}/fruit")
        server.faults = ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
        np.testing.assert_array_equal(
            computed(runtime, images, small), computed(runtime_for(small), images, small)
        )
        with pytest.raises(EncoderError, match="NOT_FOUND .unknown model kiwi"):
            client(small, f"grpc://127.0.0.1:{server.port}/kiwi")


def test_pixels_travel_as_bytes_in_bounded_requests_of_which_several_are_in_flight(
    small: Encoder, server: ModelServer, images: NDArray[np.uint8]
) -> None:
    one = images[0].nbytes
    runtime = client(small, server.url(), request_bytes=2 * one, in_flight=3)
    many = np.concatenate([images] * 6)
    computed(runtime, many, small)
    assert set(server.images) == {1, 2}  # a request has two; the images of the gate go alone
    assert max(server.bytes_of) < 2 * one + 400
    assert server.most_at_once == 3
    assert server.connections <= 3 + 3  # kept open: one for each in flight, and those that asked
    assert runtime.batch_size == 6


@pytest.mark.parametrize(
    "faults", [[503, 502, 429], ["reset", "reset"], [1.5], [503, "reset", 504]], ids=str
)
def test_a_request_is_repeated_after_a_fault_that_passes(
    small: Encoder, server: ModelServer, images: NDArray[np.uint8], faults: list[object]
) -> None:
    runtime = client(small, server.url(), deadline_s=20)
    expected = computed(runtime_for(small), images, small)
    for at in range(2):  # before the first vector, and after it
        server.faults = list(faults)  # type: ignore[arg-type]
        np.testing.assert_array_equal(computed(runtime, images, small), expected, str(at))
        assert not server.faults


def test_a_server_that_stays_away_ends_the_run_at_the_deadline(
    small: Encoder, images: NDArray[np.uint8]
) -> None:
    with serving(small) as server:
        runtime = client(small, server.url(), deadline_s=0.5)
        computed(runtime, images, small)
    with pytest.raises(RunError, match=r"for 0.5 s; rows written so far stay") as error:
        computed(runtime, images, small)
    assert "\n" not in str(error.value)
    with pytest.raises(EncoderError, match="does not accept connections"):
        client(small, server.url(), deadline_s=0.5)


def test_another_encoder_is_refused_with_the_numbers_before_the_first_image(
    small: Encoder, other: Encoder, server: ModelServer
) -> None:
    server.serve(other)
    with pytest.raises(EncoderError, match=r"differs by \d.*limit 0.001.*cosine .*serve this"):
        served_by(Endpoint(server.url()), small)


def test_another_encoder_after_a_restart_ends_the_run(
    small: Encoder, other: Encoder, images: NDArray[np.uint8]
) -> None:
    with serving(small) as server:
        runtime = client(small, server.url(), deadline_s=20)
        first = computed(runtime, images, small)
    with serving(small, server.port):
        np.testing.assert_array_equal(computed(runtime, images, small), first)
    with serving(other, server.port), pytest.raises(RunError, match="computes something else"):
        computed(runtime, images, small)


def test_a_new_version_is_checked_and_used_if_it_is_the_same_encoder(
    small: Encoder, other: Encoder, server: ModelServer, images: NDArray[np.uint8]
) -> None:
    server.versions = ["1"]
    runtime = client(small, server.url())
    first = computed(runtime, images, small)
    server.versions = ["2"]
    np.testing.assert_array_equal(computed(runtime, images, small), first)
    assert server.seen["/v2/models/fruit/versions/2/infer"]
    server.versions = ["3"]
    server.serve(other)
    with pytest.raises(RunError, match="computes something else"):
        computed(runtime, images, small)


def test_what_the_server_cannot_compute_is_refused_in_one_line(
    small: Encoder, server: ModelServer
) -> None:
    server.datatype = "FP32"
    with pytest.raises(EncoderError, match=r"takes FP32 \[-1, 224, 224, 3\], expected UINT8"):
        client(small, server.url())
    with pytest.raises(EncoderError, match=r"404 Not Found .not found"):
        client(small, server.url("/v2/models/kiwi"))
    server.lists = False
    with pytest.raises(EncoderError, match="does not list its models: give the address of one"):
        client(small, server.url())
    server.protocols = set()
    with pytest.raises(EncoderError, match="neither /v2 nor /v1/models"):
        client(small, server.url())


def test_a_token_comes_from_the_environment_and_stays_out_of_messages(
    small: Encoder,
    server: ModelServer,
    images: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.allowed_only = "s3cret"
    with pytest.raises(EncoderError, match="401 Unauthorized"):
        client(small, server.url())
    monkeypatch.setenv("POMONA_ENDPOINT_TOKEN", "s3cret\n")
    runtime = client(small, server.url())
    computed(runtime, images, small)
    server.faults = [400]
    with pytest.raises(RunError, match="400 Bad Request") as error:
        computed(runtime, images, small)
    assert "s3cret" not in str(error.value)


def test_encrypted_connections_check_the_certificate_of_the_server(
    small: Encoder, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = signed(tmp_path, "localhost")
    monkeypatch.setattr(http, "certificates", cache(http.certificates.__wrapped__))
    with serving(small, certificate=certificate) as server:
        url = f"https://localhost:{server.port}"
        with pytest.raises(EncoderError, match="secure connection fails"):
            client(small, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        http.certificates.cache_clear()
        computed(client(small, url), images, small)
        with pytest.raises(EncoderError, match="secure connection fails"):
            client(small, f"https://127.0.0.1:{server.port}")


def test_encrypted_grpc_checks_the_certificate_and_sends_the_token(
    small: Encoder, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grpc", reason="grpc:// needs grpcio: pip install '.[grpc]'")
    certificate = signed(tmp_path, "localhost")
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
    monkeypatch.setenv("POMONA_ENDPOINT_TOKEN", "s3cret")
    with serving_grpc(small, certificate=certificate) as server:
        computed(client(small, f"grpcs://localhost:{server.port}/fruit"), images, small)
        assert server.headers["authorization"] == "Bearer s3cret"
        with pytest.raises(EncoderError, match="does not accept connections"):
            client(small, f"grpcs://127.0.0.1:{server.port}/fruit")


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host/v2", "http://", "http://me:secret@host", "http://h/?a=1", ""]
)
def test_an_address_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(EncoderError) as error:
        Endpoint(url)
    assert "secret" not in str(error.value)


def test_pixels_that_are_not_rounded_are_not_sent(small: Encoder) -> None:
    exact = replace(small, preprocessing=replace(small.preprocessing, pixel_type="float32"))
    with pytest.raises(EncoderError, match="not rounded"):
        Endpoint("http://host").of(exact)


def test_embed_computes_on_a_server(
    small: Encoder, server: ModelServer, images: NDArray[np.uint8]
) -> None:
    expected = pomona.embed(images, small)
    served = pomona.embed(images, Endpoint(server.url(), small))
    np.testing.assert_array_equal(served, expected)
    assert sum(server.images) >= len(images)
