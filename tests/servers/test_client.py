"""Real model servers compute encoders for Pomona. `make test-servers` makes their environments."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import faults
import pomona
import real_servers
from pomona.encoder.encoder import Encoder
from real_servers import Server, python_of

ADDRESSES = {
    "kserve": ["{http}", "{http}/v2/models/fruit", "{http}/v1/models/fruit", "grpc://{grpc}/fruit"],
    "mlserver": ["{http}", "{http}/v2/models/fruit", "grpc://{grpc}/fruit"],
    "triton": ["{http}", "{http}/v2/models/fruit/versions/1", "grpc://{grpc}/fruit"],
}

FORMATS = {"mlserver": "openvino"}  # others have a format of their own


@pytest.fixture(scope="module", params=ADDRESSES)
def served(
    request: pytest.FixtureRequest, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Server]]:
    python_of(request.param)  # skips
    folder = tmp_path_factory.mktemp(request.param) / "served"
    pomona.export_encoder(
        encoder, folder, to=FORMATS.get(request.param, request.param), name="fruit"
    )
    with getattr(real_servers, request.param)(folder) as server:
        yield request.param, server


def test_a_real_server_returns_the_vectors_of_this_machine(
    served: tuple[str, Server], encoder: Encoder
) -> None:
    kind, server = served
    noise = np.random.default_rng(0).integers(0, 256, (30, 224, 224, 3), dtype=np.uint8)
    expected = pomona.embed(noise, encoder)
    for address in ADDRESSES[kind]:
        url = address.format(http=server.http, grpc=server.grpc)
        found = pomona.embed(noise, pomona.Endpoint(url, encoder))
        np.testing.assert_array_equal(found, expected, url)


@pytest.mark.long
def test_a_real_server_that_is_killed_and_returns_costs_no_row(
    served: tuple[str, Server], encoder: Encoder, faulty_pictures: Path, tmp_path: Path
) -> None:
    kind, _ = served
    correct = faults.expected_table(faulty_pictures, tmp_path / "own", encoder)
    folder, start = tmp_path / "served", getattr(real_servers, kind)
    pomona.export_encoder(encoder, folder, to=FORMATS.get(kind, kind), name="fruit")
    for number, moment in enumerate(faults.moments(3, 3.0)):
        table, over = tmp_path / f"t{number}", threading.Event()
        with start(folder) as server:
            ports, url = server.ports, f"{server.http}/v2/models/fruit"
            # One image in each request, so that a run is long enough.
            endpoint = pomona.Endpoint(url, encoder, in_flight=1, request_bytes=1)
            run = threading.Thread(target=_extract, args=(faulty_pictures, table, endpoint, over))
            run.start()
            over.wait(0.5 + moment)
            landed = not over.is_set()
        with start(folder, ports=ports):
            run.join()
        faults.KILLS[kind] += landed
        faults.assert_complete(table, correct)
    assert faults.KILLS[kind]


def _extract(pictures: Path, table: Path, endpoint: pomona.Endpoint, over: threading.Event) -> None:
    try:
        pomona.extract(pictures, table, encoder=endpoint)
    finally:
        over.set()
