"""Which columns `featurize` reads from a DataFrame, which it keeps, and what it rejects."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError
from pomona.schema import FEATURE_SCHEMA

pytest.importorskip("pyspark", reason="DataFrames of Spark need PySpark")

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

PICTURES = [bytearray(drawn.encode(drawn.picture(30, 20 + n, n), "PNG")) for n in range(4)]
NOON = dt.datetime(2024, 7, 1, 12)
RECORDS = "id bigint, image struct<bytes: binary, path: string>, Class int, _change_type string, "
RECORDS += "`a.b` array<int>, taken timestamp_ntz, meta struct<n: int>"


@pytest.fixture(scope="module")
def records(spark: SparkSession) -> DataFrame:
    """Records in the style of public data sets: keys, an image as a struct, null paths."""
    rows = [
        (n, (content, "x.png" if n == 0 else None), n % 2, "insert", [n, None], NOON, (n,))
        for n, content in enumerate(PICTURES)
    ]
    return spark.createDataFrame([*rows, (9, (None, None), 1, "insert", [], None, None)], RECORDS)


@pytest.fixture
def in_tokyo(spark: SparkSession) -> Iterator[None]:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    yield
    spark.conf.set("spark.sql.session.timeZone", before)


@pytest.mark.usefixtures("in_tokyo")
def test_columns_may_have_any_name_and_other_columns_are_kept(
    records: DataFrame, encoder: Encoder, tmp_path: Path
) -> None:
    renamed = records.withColumnRenamed("taken", "modified")
    featurized = pomona.featurize(
        renamed, encoder, image_column="IMAGE.bytes", path_column="Id", label_column="class",
        keep="all",
    )  # fmt: skip
    names = [*FEATURE_SCHEMA.names, "encoder", "id", "Class", "_change_type", "a.b", "meta"]
    assert featurized.columns == names
    featurized.write.parquet(str(tmp_path / "t"))
    rows = featurized.sparkSession.read.parquet(str(tmp_path / "t"))
    shown = rows.selectExpr("*", "cast(modified as string) as shown").collect()
    by_id = {row["id"]: row for row in shown}
    assert sorted(by_id) == [0, 1, 2, 3, 9]
    for n in range(4):
        row = by_id[n]
        assert (row["path"], row["label"], row["status"]) == (str(n), str(n % 2), "ok")
        assert (row["Class"], row["_change_type"], row["a.b"]) == (n % 2, "insert", [n, None])
        assert row["meta"]["n"] == n
        assert row["shown"] == "2024-07-01 12:00:00"  # as the session displays the column itself
    assert by_id[9]["status"] == "unreadable"
    # The expected vectors come from the embedded engine, from files with the same bytes.
    (tmp_path / "files").mkdir()
    for n, content in enumerate(PICTURES):
        (tmp_path / "files" / f"{n}.png").write_bytes(content)
    pomona.extract(
        tmp_path / "files", tmp_path / "near", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    near = tables.rows(tmp_path / "near")
    for n in range(4):
        assert by_id[n]["features"] == near[f"{n}.png"]["features"]
    assert len(pomona.read_features(tmp_path / "t")) == 4


def test_an_image_without_a_path_is_identified_by_its_bytes(
    records: DataFrame, encoder: Encoder, tmp_path: Path
) -> None:
    featurized = pomona.featurize(
        records, encoder, image_column="image.bytes", path_column="image.path",
        keep=["id", "meta.n"], label="parent", isolated=True,
    )  # fmt: skip
    assert featurized.columns == [*FEATURE_SCHEMA.names, "encoder", "id", "n"]
    featurized.write.parquet(str(tmp_path / "t"))
    table = pomona.FeatureTable.at(tmp_path / "t")
    table.index()
    rows = tables.read(tmp_path / "t").to_pylist()
    assert sorted(row["path"] for row in rows) == sorted(
        ["sha256:unknown", "x.png"]
        + [f"sha256:{row['content_sha256']}" for row in rows if row["content_sha256"]
           and row["path"] != "x.png"]
    )  # fmt: skip
    assert len({row["path"] for row in rows}) == 5


@pytest.mark.parametrize(
    ("select", "settings", "message"),
    [
        (["id"], {}, "needs a column 'content' with the bytes.*has id: give image_column="),
        (["id as path", "image.bytes as content"], {"path_column": "key"}, "give path_column="),
        (
            ["'a' as path", "base64(image.bytes) as content"],
            {},
            "takes bytes of images .binary., and column 'content' is of type string: if it holds "
            "base64.*unbase64.'content'.*binaryFile",
        ),
        (["'a' as path", "image"], {"image_column": "image"}, "image_column='image.bytes'"),
        (["'a' as path", "1.5 as content"], {}, "is of type decimal.2,1.: read images with"),
        (
            ["'a' as path", "array(image) as images"],
            {"image_column": "images.bytes"},
            r"is of type array<binary>: make a row of each element first",
        ),
        (["image as path", "image.bytes as content"], {}, "path_column='path.path'"),
        (
            ["'a' as path", "image.bytes as content", "meta as label"],
            {},
            "takes a string or a number as a label, and column 'label' is of type struct<n:int>",
        ),
        (["'a' as path", "image.bytes as content", "'5 kB' as size"], {}, "size in bytes.*string"),
        (["'a' as path", "image.bytes as content", "'now' as modified"], {}, "a timestamp.*string"),
        (
            ["'a' as path", "image.bytes as content", "1 as Width"],
            {"keep": ["Width"]},
            "two columns 'Width', since keep has 'Width': rename",
        ),
        (
            ["'a' as path", "image.bytes as content", "'mine' as encoder"],
            {"keep": "all"},
            "two columns 'encoder'",
        ),
        (["'a' as path", "image.bytes as content"], {"keep": ["k"]}, "needs a column 'k' with"),
        (
            ["id as path", "image.bytes as content", "image"],
            {"keep": ["image.path"]},
            r"withColumn\('my_path', col\('image.path'\)\), and keep that",
        ),
        (
            ["'a' as path", "image.bytes as content", "make_interval(1) as age"],
            {"keep": ["age"]},
            "cannot keep column 'age' of type interval: cast it to a string first, or leave it out",
        ),
        (
            ["'a' as path", "image.bytes as content", "make_ym_interval(1) as age"],
            {"keep": "all"},
            "cannot keep column 'age' of type interval year to month: cast it to a string first",
        ),
        (
            ["'a' as path", "image.bytes as content", "1 as kind"],
            {"label": "parent", "label_column": "kind"},
            "got label= and label_column='kind': give one",
        ),
        (
            ["'a' as path", "image.bytes as content", "'b' as path"],
            {},
            "'path' with an image's URI or key .two columns have that name",
        ),
    ],
)  # fmt: skip
def test_invalid_columns_are_refused_before_a_job_runs(
    capfd: pytest.CaptureFixture[str],
    records: DataFrame,
    encoder: Encoder,
    select: list[str],
    settings: dict[str, object],
    message: str,
) -> None:
    images = records.selectExpr(*select)
    capfd.readouterr()
    with pytest.raises(EngineError, match=message) as caught:
        pomona.featurize(images, encoder, **settings)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")  # PySpark logs nothing in addition


def test_an_object_that_is_not_a_dataframe_is_refused(encoder: Encoder) -> None:
    with pytest.raises(EngineError, match=r"takes a Spark DataFrame, got a list: make one"):
        pomona.featurize(PICTURES, encoder)


def test_a_path_column_may_have_a_collation(spark: SparkSession, encoder: Encoder) -> None:
    import pyspark

    if pyspark.__version__ < "4":
        pytest.skip("PySpark 4 brings collations")
    images = spark.createDataFrame([(PICTURES[0],)], "content binary")
    images = images.selectExpr("'A' collate UTF8_LCASE as path", "content")
    row = pomona.featurize(images, encoder).first()
    assert row is not None
    assert (row["path"], row["status"]) == ("A", "ok")


def test_column_names_are_case_sensitive_if_the_session_is(
    spark: SparkSession, records: DataFrame, encoder: Encoder
) -> None:
    images = records.selectExpr("'a' as Path", "image.bytes as Content", "'l' as Label")
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        with pytest.raises(EngineError, match="needs a column 'content'"):
            pomona.featurize(images, encoder)
    finally:
        spark.conf.unset("spark.sql.caseSensitive")
    row = pomona.featurize(images.limit(1), encoder).first()
    assert row is not None
    assert (row["path"], row["label"], row["status"]) == ("a", "l", "ok")


def test_following_the_advice_for_base64_works(
    spark: SparkSession, encoder: Encoder, records: DataFrame
) -> None:
    from pyspark.sql.functions import unbase64

    text = [("a", base64.b64encode(PICTURES[0]).decode())]
    images = spark.createDataFrame(text, "path string, content string")
    row = pomona.featurize(images.withColumn("content", unbase64("content")), encoder).first()
    assert row is not None
    assert row["status"] == "ok"
    assert records.count() == 5


@pytest.mark.parametrize("keep", ["*", ["*"], "all"])
def test_a_star_keeps_all_columns(
    records: DataFrame, encoder: Encoder, keep: str | list[str]
) -> None:
    featurized = pomona.featurize(
        records, encoder, image_column="image.bytes", path_column="id", keep=keep
    )
    assert {"id", "Class", "a.b", "taken"} <= set(featurized.columns)


def test_columns_to_keep_may_come_from_a_generator(records: DataFrame, encoder: Encoder) -> None:
    names = (name for name in ["id", "taken"])
    featurized = pomona.featurize(
        records, encoder, image_column="image.bytes", path_column="id", keep=names
    )
    assert featurized.columns[-2:] == ["id", "taken"]


def test_a_star_among_other_names_keeps_all_columns(records: DataFrame, encoder: Encoder) -> None:
    featurized = pomona.featurize(
        records, encoder, image_column="image.bytes", path_column="id", keep=["*", "id"]
    )
    assert {"id", "Class", "a.b", "taken"} <= set(featurized.columns)
