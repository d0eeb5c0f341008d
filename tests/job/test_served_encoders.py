"""Runs whose encoder a model server computes have the rows of runs that compute it themselves."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import command_line
import faults
import pomona
import tables
from model_server import ModelServer, serving
from pomona.encoder.encoder import Encoder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def server(encoder: Encoder) -> Iterator[ModelServer]:
    with serving(encoder) as model:
        yield model


@pytest.mark.parametrize("engine", ["local", pytest.param("spark", marks=pytest.mark.spark)])
def test_an_engine_has_the_rows_and_the_provenance_of_its_own_computation(
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    server: ModelServer,
    engine: str,
    request: pytest.FixtureRequest,
) -> None:
    own = pomona.LocalEngine(workers=2)
    pomona.extract(pictures, tmp_path / "own", encoder=encoder, engine=own)
    where: pomona.LocalEngine | pomona.SparkEngine = own
    if engine == "spark":
        where = pomona.SparkEngine(spark=request.getfixturevalue("spark"))
    served = pomona.Endpoint(server.url(), encoder)
    summary = pomona.extract(pictures, tmp_path / "served", encoder=served, engine=where)
    assert tables.read(tmp_path / "served").equals(tables.read(tmp_path / "own"))
    assert summary.model_loads == 0
    made_by = pomona.FeatureTable(tmp_path / "served").provenance()
    assert made_by == pomona.FeatureTable(tmp_path / "own").provenance()
    assert str(server.port) not in str(made_by)
    # Each continues the table of the other.
    assert pomona.extract(pictures, tmp_path / "own", encoder=served, engine=where).ok == 0
    assert pomona.extract(pictures, tmp_path / "served", encoder=encoder, engine=own).ok == 0


@pytest.mark.spark
def test_dataframes_and_pipelines_are_computed_by_a_server(
    encoder: Encoder, pictures: Path, spark: SparkSession, server: ModelServer, tmp_path: Path
) -> None:
    images = spark.read.format("binaryFile").load(f"{pictures}/Apple Red 1/*")
    served = pomona.Endpoint(server.url("/v2/models/fruit"), encoder)
    expected = {row.path: row.features for row in pomona.featurize(images, encoder).collect()}
    assert len(expected) == 5
    sent = len(server.images)
    for isolated in (False, True):
        found = pomona.featurize(images, served, isolated=isolated).collect()
        assert {row.path: row.features for row in found} == expected
        assert len(server.images) > sent
        sent = len(server.images)
    vectors = pomona.featurize_udf(served, spark)
    found = images.select("path", vectors("content").alias("features")).collect()
    assert {row.path: list(row.features) for row in found} == expected
    featurizer = pomona.ImageFeaturizer(encoder=served)
    found = featurizer.transform(images).collect()
    assert {row.path: list(row.features) for row in found} == expected
    featurizer.write().overwrite().save(str(tmp_path / "stage"))
    assert pomona.ImageFeaturizer.load(str(tmp_path / "stage")).getEncoder().endpoint is None


def test_the_commands_take_an_endpoint(
    encoder: Encoder,
    encoder_file: Path,
    pictures: Path,
    tmp_path: Path,
    server: ModelServer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    served = ("--encoder", encoder_file, "--endpoint", server.url())
    code, _, error = command_line.run(capfd, "extract", pictures, tmp_path / "t", *served)
    assert code == 0, error
    sent = len(server.images)
    assert sent
    pomona.train(tmp_path / "t", encoder=encoder).classifier.save(tmp_path / "c")
    address = ("--endpoint", server.url())
    code, out, error = command_line.run(capfd, "classify", tmp_path / "c", pictures, *address)
    assert code == 0, error
    assert out.count(",ok,") == 11
    assert len(server.images) > sent
    server.protocols = set()
    code, _, error = command_line.run(capfd, "extract", pictures, tmp_path / "u", *served)
    assert code == 2
    assert error.count("\n") == 1
    assert "neither /v2 nor /v1/models" in error
    assert not (tmp_path / "u").exists()


def test_a_server_that_dies_and_returns_costs_no_row(
    encoder: Encoder, faulty_pictures: Path, tmp_path: Path
) -> None:
    correct = faults.expected_table(faulty_pictures, tmp_path / "own", encoder)
    chance = random.Random(5)
    over = threading.Event()
    with serving(encoder) as first:
        port = first.port

        def extract() -> None:
            served = pomona.Endpoint(f"http://127.0.0.1:{port}", encoder, deadline_s=60)
            try:
                pomona.extract(faulty_pictures, tmp_path / "t", encoder=served)
            finally:
                over.set()

        thread = threading.Thread(target=extract)
        thread.start()
        while max(first.images, default=0) < 2:  # the check at the start sends one image
            time.sleep(0.01)
    deaths = 0
    while not over.is_set():
        deaths += 1
        time.sleep(chance.uniform(0, 0.3))
        with serving(encoder, port) as again:
            again.faults = [0.05, "reset", 503]
            moment = chance.uniform(0.1, 0.5) if deaths < 3 * faults.MOMENTS else 60
            over.wait(moment)
    thread.join()
    assert deaths >= 2
    faults.assert_complete(tmp_path / "t", correct)


def test_a_run_whose_server_stays_away_ends_cleanly_and_another_continues(
    encoder: Encoder, faulty_pictures: Path, tmp_path: Path
) -> None:
    correct = faults.expected_table(faulty_pictures, tmp_path / "own", encoder)
    engine = pomona.LocalEngine(workers=1)
    with serving(encoder) as server:
        served = pomona.Endpoint(server.url(), encoder, deadline_s=0.5, in_flight=1)
        threading.Thread(target=_stop_after, args=(server, 100)).start()
        with pytest.raises(pomona.RunError, match=r"endpoint http://127.0.0.1:\d+: .* for 0.5 s"):
            pomona.extract(faulty_pictures, tmp_path / "t", encoder=served, engine=engine)
    faults.assert_consistent(tmp_path / "t", correct)
    with serving(encoder) as server:
        served = pomona.Endpoint(server.url(), encoder)
        pomona.extract(faulty_pictures, tmp_path / "t", encoder=served, engine=engine)
    faults.assert_complete(tmp_path / "t", correct)


def _stop_after(server: ModelServer, images: int) -> None:
    """Answer 503 for ever after so many images."""
    while sum(server.images) < images:
        time.sleep(0.01)
    server.faults = [503] * 100_000
