"""Delta and Iceberg tables of features: `make test-formats` runs this with their jars.

`test_mixed_encoders.py` tests the same without jars, on Parquet files with the same metadata.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import drawn
import faults
import pomona
import tables
from places import TESTS
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError
from spark_processes import virtual_machines
from streams import Stream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RECIPES = TESTS.parent / "docs" / "spark-recipes.md"
PACKAGES = os.environ.get("POMONA_TEST_FORMATS", "")
DELTA = {
    "spark.jars.packages": PACKAGES,
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(not PACKAGES, reason="needs jars of Delta and Iceberg: make test-formats"),
    # PySpark 4.0 leaves the sockets of `collect` to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session with the extensions of both formats."""
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    from py4j.protocol import Py4JError
    from pyspark.sql import SparkSession as Session

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        **DELTA,
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",  # VACUUM: 10,000 tasks
        "spark.sql.catalog.ice": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.ice.type": "hadoop",
        "spark.sql.catalog.ice.warehouse": str(tmp_path_factory.mktemp("ice")),
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    try:
        session = Session.builder.master("local[2]").config(map=settings).getOrCreate()
    except (Py4JError, RuntimeError) as error:
        pytest.skip(f"Spark cannot get the jars of Delta and Iceberg: {error}")
    yield session
    session.stop()


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_an_append_of_another_encoder_is_refused(
    lake: SparkSession, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    folder = str(tmp_path_factory.mktemp("delta") / "t")
    content = bytearray(drawn.encode(drawn.picture(), "PNG"))
    images = lake.createDataFrame([("file:/a.png", content)], "path string, content binary")

    def append(maker: Encoder) -> DataFrame:
        rows = pomona.featurize(images, maker)
        if kind == "delta":
            rows.write.format("delta").mode("append").save(folder)
            return lake.read.format("delta").load(folder)
        if lake.catalog.tableExists("ice.db.t"):
            rows.writeTo("ice.db.t").append()
        else:
            rows.writeTo("ice.db.t").create()
        return lake.table("ice.db.t")

    table = append(encoder)
    features = pomona.spark.read_features(lake, table)
    assert pomona.spark.provenance(features)["fingerprint"] == encoder.fingerprint
    assert append(encoder).count() == 2
    assert pomona.spark.read_features(lake, append(encoder)).count() == 3
    mixed = append(dataclasses.replace(encoder, weights="other", weights_sha256="0" * 64))
    with pytest.raises(TableError, match="mixes rows of two encoders.*other"):
        pomona.spark.read_features(lake, mixed)


@pytest.mark.parametrize("on_spark", [False, True], ids=["embedded", "spark"])
def test_spark_reads_and_changes_a_delta_table_of_either_engine(
    lake: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, on_spark: bool
) -> None:
    """Then Pomona continues it, although Spark has deleted a row and merged the files."""
    table = tmp_path / "t"

    def extract(**options: object) -> pomona.Summary:
        engine = pomona.SparkEngine(spark=lake) if on_spark else pomona.LocalEngine(workers=2)
        return pomona.extract(pictures, table, encoder=encoder, engine=engine, **options)

    def by_spark() -> list[dict[str, object]]:
        found = lake.read.format("delta").load(str(table)).orderBy("path").drop("modified")
        return [row.asDict() for row in found.collect()]

    def by_pomona() -> list[dict[str, object]]:
        return tables.read(table).drop_columns("modified").to_pylist()

    extract(table_format="delta")
    extract(label="none")
    assert by_spark() == by_pomona()
    features = lake.read.format("delta").load(str(table))
    assert pomona.spark.provenance(features)["fingerprint"] == encoder.fingerprint
    lake.sql(f"delete from delta.`{table}` where status = 'empty'")  # noqa: S608
    lake.sql(f"optimize delta.`{table}`")
    assert extract().changes.new == 1
    assert by_spark() == by_pomona()
    lake.sql(f"vacuum delta.`{table}`")
    assert len(by_spark()) == 14


def recipe(name: str) -> Callable[..., None]:
    """A function in the documentation."""
    blocks = re.findall(r"```python\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    (block,) = (block for block in blocks if f"def {name}(" in block)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - code of this repository
    return cast("Callable[..., None]", names[name])


def test_the_recipe_continues_an_iceberg_table_after_it_stopped_anywhere(
    lake: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = "ice.db.continued"
    continue_iceberg, real = recipe("continue_iceberg"), pomona.featurize
    odd = pictures / "odd" / "a[1] {x},y *?#%41 é.png"
    odd.parent.mkdir()
    odd.write_bytes(drawn.encode(drawn.picture(9, 9, 5), "PNG"))

    def rows(table: DataFrame) -> dict[str, tuple[object, ...]]:
        found = table.select("path", "label", "status", "features", "size").collect()
        assert len(found) == len({row[0] for row in found})
        return {row[0]: tuple(row) for row in found}

    def assert_complete(number: int) -> None:
        folder = tmp_path / f"right {number}"
        pomona.extract(pictures, folder, encoder=encoder, globs="*")
        right = lake.read.parquet(str(folder)).where("status <> 'empty'")  # binaryFile omits it
        assert rows(lake.table(table)) == rows(right)

    def stopped(waves: int, rows: int) -> None:
        """Call it, as if it had been killed after some waves and the next deletion."""
        calls = iter(range(100))

        def featurize(*arguments: Any, **options: Any) -> DataFrame:
            if next(calls) == waves:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pomona, "featurize", featurize)
            with pytest.raises(KeyboardInterrupt):
                continue_iceberg(lake, str(pictures), table, encoder, wave=6)
        assert lake.table(table).count() == rows

    def commits() -> int:
        return lake.table(f"{table}.snapshots").count()

    stopped(2, 6)  # the first call makes the empty table
    continue_iceberg(lake, str(pictures), table, encoder, wave=6)
    assert_complete(1)
    before = commits()
    continue_iceberg(lake, str(pictures), table, encoder)
    assert commits() == before
    for path in sorted(pictures.rglob("image [12].*"))[:2]:
        path.write_bytes(drawn.encode(drawn.picture(20, 20, 7), "PNG"))
    complete = lake.table(table).count()
    stopped(0, complete - 2)
    continue_iceberg(lake, str(pictures), table, encoder)
    assert_complete(2)
    features = pomona.spark.read_features(lake, lake.table(table))
    assert pomona.spark.provenance(features)["fingerprint"] == encoder.fingerprint
    other = dataclasses.replace(encoder, weights="other", weights_sha256="0" * 64)
    with pytest.raises(ValueError, match="rows of another encoder"):
        continue_iceberg(lake, str(pictures), table, other)


def test_a_stream_into_delta_that_is_killed_twice_writes_each_row_once(
    lake: SparkSession,
    encoder: Encoder,
    encoder_file: Path,
    faulty_pictures: Path,
    tmp_path: Path,
) -> None:
    stream = Stream(tmp_path, faulty_pictures, encoder_file, "delta", DELTA)
    for moment_s in (0.0, 2.0):
        stream.kill("Java machine of a stream into Delta", virtual_machines, moment_s)
    assert stream.run().returncode == 0

    rows = lake.read.format("delta").load(str(stream.sink))
    expected = faults.expected_table(faulty_pictures, tmp_path / "extracted", encoder).to_pylist()
    # Spark's source leaves out the empty file.
    vectors = {row["path"]: row["features"] for row in expected if row["status"] != "empty"}
    found = rows.select("path", "features", "status").collect()
    assert len(found) == len(vectors) == 240
    assert {row["path"]: row["features"] for row in found} == vectors
    features = pomona.spark.read_features(lake, rows)
    assert pomona.spark.provenance(features)["fingerprint"] == encoder.fingerprint
    assert pomona.spark.provenance(rows)["fingerprint"] == encoder.fingerprint
