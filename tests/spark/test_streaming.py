"""Streaming queries of `featurize`: each image that arrives becomes exactly one row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import drawn
import pomona
import pomona.spark
import tables
from pomona.analysis.inspection import inspect
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError

pytest.importorskip("pyspark", reason="streaming queries need PySpark")

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

BINARY_FILE = "path string, modificationTime timestamp, length long, content binary"


def arrive(inbox: Path, seeds: range) -> None:
    """Add pictures in two folders, and to each folder a truncated one and a page of HTML."""
    for seed in seeds:
        folder = inbox / ("Apple Red 1" if seed % 2 else "Poire d'été")
        folder.mkdir(parents=True, exist_ok=True)
        content = drawn.encode(drawn.picture(40 + seed, 30, seed), "JPEG")
        (folder / f"image {seed}.jpg").write_bytes(content)
        (folder / f"half {seeds.stop}.jpg").write_bytes(content[: len(content) // 2])
        (folder / f"page {seeds.stop}.jpg").write_bytes(b"<html>404</html>")


def files(spark: SparkSession, inbox: Path) -> DataFrame:
    """The stream of the files of a folder, four in a batch."""
    reader = spark.readStream.format("binaryFile").schema(BINARY_FILE)
    return (
        reader.option("recursiveFileLookup", True).option("maxFilesPerTrigger", 4).load(str(inbox))
    )


def run(rows: DataFrame, sink: Path, checkpoint: Path) -> int:
    """Run a query until it has read everything; return the number of rows that it read."""
    writer = rows.writeStream.option("checkpointLocation", str(checkpoint))
    query = writer.trigger(availableNow=True).start(str(sink), format="parquet")
    assert query.awaitTermination(120)
    return sum(progress["numInputRows"] for progress in query.recentProgress)


def test_files_that_arrive_between_queries_have_one_row_each_equal_to_that_of_extract(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    inbox, sink, checkpoint = (tmp_path / name for name in ("inbox", "sink", "checkpoint"))

    def query() -> int:
        rows = pomona.featurize(files(spark, inbox), encoder, label="parent")
        return run(rows, sink, checkpoint)

    arrive(inbox, range(4))
    assert query() == 8
    arrive(inbox, range(4, 7))
    assert query() == 7
    assert query() == 0

    pomona.extract(inbox, tmp_path / "extracted", encoder=encoder)
    extracted = tables.read(tmp_path / "extracted")
    assert extracted.num_rows == 15
    assert tables.read(sink).equals(extracted)

    by_name = tables.rows(sink)
    assert (by_name["half 4.jpg"]["status"], by_name["page 7.jpg"]["status"]) == (
        "truncated",
        "unsupported",
    )
    assert all(bool(row["error"]) == (row["status"] != "ok") for row in by_name.values())
    assert inspect(sink).statuses == inspect(tmp_path / "extracted").statuses
    assert len(pomona.read_features(sink).paths) == 7
    assert pomona.spark.read_features(spark, str(sink)).count() == 7


def test_a_stream_over_a_table_has_a_row_for_empty_and_null_contents(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    picture = drawn.encode(drawn.picture(), "PNG")
    images = {1: picture, 2: b"", 3: None, 4: b"<html>404</html>"}
    rows = [(key, content, f"site {key}") for key, content in images.items()]
    arriving = spark.createDataFrame(rows, "id long, image binary, site string").coalesce(1)
    arriving.write.parquet(f"{tmp_path}/images")

    stream = spark.readStream.schema(arriving.schema).parquet(f"{tmp_path}/images")
    featurized = pomona.featurize(
        stream, encoder, image_column="image", path_column="id", keep=["site"]
    )
    assert featurized.isStreaming
    run(featurized, tmp_path / "sink", tmp_path / "checkpoint")

    found = {row["path"]: row for row in spark.read.parquet(f"{tmp_path}/sink").collect()}
    assert {key: row["status"] for key, row in found.items()} == {
        "1": "ok",
        "2": "empty",
        "3": "unreadable",
        "4": "unsupported",
    }
    assert {key: row["site"] for key, row in found.items()} == {n: f"site {n}" for n in "1234"}
    assert {key for key, row in found.items() if row["error"]} == {"2", "3", "4"}
    vector = pomona.read_features(tmp_path / "sink").vectors[0]
    assert (vector == pomona.embed([picture], encoder)[0]).all()


def test_sparks_file_source_leaves_out_empty_hidden_and_replaced_files(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    """The documentation says so; `extract` has a row for each of them."""
    inbox = tmp_path / "inbox"
    arrive(inbox, range(1))
    (inbox / "empty.jpg").touch()
    picture = drawn.encode(drawn.picture(), "JPEG")
    (inbox / "_DSC0001.jpg").write_bytes(picture)
    assert run(pomona.featurize(files(spark, inbox), encoder), tmp_path / "s", tmp_path / "c") == 3
    (inbox / "Poire d'été" / "half 1.jpg").write_bytes(picture)
    assert run(pomona.featurize(files(spark, inbox), encoder), tmp_path / "s", tmp_path / "c") == 0
    assert tables.rows(tmp_path / "s")["half 1.jpg"]["status"] == "truncated"

    pomona.extract(inbox, tmp_path / "extracted", encoder=encoder)
    extracted = {name: row["status"] for name, row in tables.rows(tmp_path / "extracted").items()}
    assert extracted == {
        "image 0.jpg": "ok",
        "half 1.jpg": "ok",
        "page 1.jpg": "unsupported",
        "empty.jpg": "empty",
        "_DSC0001.jpg": "ok",
    }


def test_a_query_that_continues_with_another_encoder_makes_a_table_that_readers_refuse(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    other = dataclasses.replace(encoder, weights="other", weights_sha256="0" * 64)
    for seeds, maker in ((range(1), encoder), (range(1, 2), other)):
        arrive(inbox, seeds)
        run(pomona.featurize(files(spark, inbox), maker), tmp_path / "sink", tmp_path / "c")
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        pomona.read_features(tmp_path / "sink")
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        pomona.spark.read_features(spark, str(tmp_path / "sink"))


def test_a_file_over_sparks_limit_ends_the_query_until_a_filter_on_its_length(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    from pyspark.errors import StreamingQueryException

    inbox, limit = tmp_path / "inbox", "spark.sql.sources.binaryFile.maxLength"
    arrive(inbox, range(1))
    (inbox / "large.jpg").write_bytes(bytes(100_000))
    spark.conf.set(limit, 50_000)
    try:
        with pytest.raises(StreamingQueryException, match=r"large\.jpg"):
            run(pomona.featurize(files(spark, inbox), encoder), tmp_path / "s", tmp_path / "c")
        smaller = files(spark, inbox).where("length < 50000")
        run(pomona.featurize(smaller, encoder), tmp_path / "s", tmp_path / "c")
    finally:
        spark.conf.unset(limit)
    assert set(tables.rows(tmp_path / "s")) == {"image 0.jpg", "half 1.jpg", "page 1.jpg"}
