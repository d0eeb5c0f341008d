"""`--keep`: columns of Parquet files with images, and of lists, become columns of the table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import pomona
from command_line import run as run_command
from places import POISON
from pomona.encoder.encoder import Encoder
from pomona.errors import PomonaError, SourceError, TableError
from pomona.schema import FEATURE_SCHEMA

MOMENT = dt.datetime(2026, 2, 3, 4, 5, 6, 789012)


def png(seed: int) -> bytes:
    return drawn.encode(drawn.picture(24, 18, seed), "PNG")


def write(path: Path, images: dict[str, bytes | None], **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"id": list(images), "data": pa.array(images.values(), pa.binary())}
    pq.write_table(pa.table({**table, **columns}), path)
    return path


def rows_of(table: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(table).to_pylist()
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


WITH_ZONE = pa.timestamp("us", "UTC")
Extract = Callable[..., pomona.Summary]


@pytest.fixture
def extract(encoder: Encoder) -> Extract:
    def run(source: Path, table: Path, **options: Any) -> pomona.Summary:
        columns = {"image_column": "data", "key_column": "id", "keep": ["split"]}
        engine = pomona.LocalEngine(workers=1)
        return pomona.extract(
            source, table, **{"encoder": encoder, "engine": engine, **columns, **options}
        )

    return run


def splits(table: Path) -> dict[str, str]:
    return {path: row["split"] for path, row in rows_of(table).items()}


def test_new_resumed_and_failed_rows_have_the_values(tmp_path: Path, extract: Extract) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    images: dict[str, bytes | None] = {"a": png(1), "b": png(2), "null": None, "bad": b"no image"}
    write(source, images, split=["train", "test", None, "val"])
    extract(source, table)
    assert splits(table) == {"a": "train", "b": "test", "null": None, "bad": "val"}
    images |= {"new": png(3), "copy": png(1)}
    write(source, images, split=["train", "test", None, "val", "train", "held out"])
    assert extract(source, table, dry_run=True).changes.unchanged == 4
    summary = extract(source, table)
    assert (summary.skipped, summary.changes.new) == (4, 2)
    assert splits(table) == {
        "a": "train",
        "b": "test",
        "null": None,
        "bad": "val",
        "new": "train",
        "copy": "held out",
    }


def test_a_row_whose_value_has_changed_is_made_again(tmp_path: Path, extract: Extract) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    images = {"a": png(1), "b": png(2), "c": png(3)}
    write(source, images, split=["train", "test", "val"])
    extract(source, table)
    before = rows_of(table)
    write(source, images, split=["train", "val", None])
    summary = extract(source, table)
    assert (summary.skipped, summary.changes.changed) == (1, 2)
    assert splits(table) == {"a": "train", "b": "val", "c": None}
    assert rows_of(table)["b"] == before["b"] | {"split": "val"}
    assert extract(source, table).skipped == 3


def test_the_row_of_an_image_that_crashes_its_worker_has_the_values(
    tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    poison = drawn.encode(drawn.picture(24, 13, 1), "PNG")
    write(source, {"a": png(1), "poison": poison}, split=["train", "test"])
    assert extract(source, table).by_status["crashed"] == 1
    assert splits(table) == {"a": "train", "poison": "test"}


def test_copies_of_rows_have_the_values(tmp_path: Path, extract: Extract) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    images: dict[str, bytes | None] = {}
    for number in range(10):  # ten part files, which are merged
        images[f"{number}"] = png(number)
        write(source, images, split=[f"split {n}" for n in range(number + 1)])
        extract(source, table)
    assert len(list(table.glob("*.parquet"))) < 9
    del images["3"]
    kept = [f"split {n}" for n in range(10) if n != 3]
    write(source, images, split=kept, kind=["apple"] * 9)
    extract(source, table, label="column:kind", resume=pomona.Resume(prune=True))
    assert splits(table) == {f"{n}": f"split {n}" for n in range(10) if n != 3}
    assert {row["label"] for row in rows_of(table).values()} == {"apple"}


TYPES: dict[str, tuple[pa.Array, pa.DataType]] = {
    "text": (pa.array(["a", None]), pa.string()),
    "large": (pa.array(["a", "ü"], pa.large_string()), pa.string()),
    "words": (pa.array(["a", "b"]).dictionary_encode(), pa.string()),
    "yes": (pa.array([True, None]), pa.bool_()),
    "small": (pa.array([1, -1], pa.int8()), pa.int8()),
    "count": (pa.array([2**62, None], pa.int64()), pa.int64()),
    "unsigned": (pa.array([2**32 - 1, 0], pa.uint32()), pa.int64()),
    "half": (pa.array([1.5, 2.5], pa.float32()), pa.float32()),
    "score": (pa.array([float("nan"), 0.1]), pa.float64()),
    "day": (pa.array([MOMENT.date(), None]), pa.date32()),
    "taken": (pa.array([MOMENT, None], pa.timestamp("ns", "Asia/Tokyo")), WITH_ZONE),
    "local": (pa.array([MOMENT, None], pa.timestamp("ms")), pa.timestamp("us")),
    "tags": (pa.array([["a", None], []]), pa.list_(pa.field("element", pa.string()))),
    "boxes": (
        pa.array([[[1, 2]], None], pa.large_list(pa.list_(pa.uint8()))),
        pa.list_(pa.field("element", pa.list_(pa.field("element", pa.int16())))),
    ),
}


def test_types_are_kept(tmp_path: Path, extract: Extract) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    columns = {name: values for name, (values, _) in TYPES.items()}
    write(source, {"a": png(1), "b": png(2)}, **columns)
    extract(source, table, keep=list(TYPES))
    found = pq.read_table(table).sort_by("path")
    assert found.schema.names == [*FEATURE_SCHEMA.names, *TYPES]
    for name, (values, kind) in TYPES.items():
        assert found[name].type == kind
        expected = values.cast(kind, safe=False).to_pylist() if name != "score" else None
        assert name == "score" or found[name].to_pylist() == expected
    assert extract(source, table, keep=list(TYPES)).skipped == 2


@pytest.mark.spark
def test_spark_reads_the_types(tmp_path: Path, extract: Extract, spark: Any) -> None:
    columns = {name: values for name, (values, _) in TYPES.items()}
    write(tmp_path / "i.parquet", {"a": png(1), "b": png(2)}, **columns)
    extract(tmp_path / "i.parquet", tmp_path / "t", keep=list(TYPES))
    frame = spark.read.parquet(str(tmp_path / "t"))
    types = dict(frame.dtypes)
    assert [types[name] for name in TYPES] == [
        *("string", "string", "string", "boolean", "tinyint", "bigint", "bigint", "float"),
        *("double", "date", "timestamp", "timestamp_ntz", "array<string>"),
        "array<array<smallint>>",
    ]
    row = frame.where("path = 'a'").first()
    assert (row["tags"], row["count"], row["boxes"]) == (["a", None], 2**62, [[1, 2]])


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("label", "`keep` label: .* use `label` column:label"),
        ("Size", "`keep` Size: every feature table has a column 'size'"),
        ("encoder", "every feature table has a column 'encoder'"),
        (["split", "SPLIT"], "'SPLIT' twice"),
        ("missing", "no column 'missing' for `keep`"),
        ("data", "column 'data' of type binary: `keep` takes"),
        ("about", "'about' of type struct"),
        ("huge", "'huge' of type uint64"),
        ("price", "'price' of type decimal"),
    ],
)
def test_columns_that_cannot_be_kept_are_refused(
    tmp_path: Path, extract: Extract, keep: Any, message: str
) -> None:
    write(
        tmp_path / "i.parquet",
        {"a": png(1)},
        split=["train"],
        SPLIT=["train"],
        label=["kiwi"],
        about=[{"x": 1}],
        huge=pa.array([1], pa.uint64()),
        price=pa.array([1], pa.decimal128(5, 2)),
    )
    with pytest.raises(SourceError, match=message):
        extract(tmp_path / "i.parquet", tmp_path / "t", keep=keep)
    assert not (tmp_path / "t").exists()


def test_files_with_other_types_are_refused(tmp_path: Path, extract: Extract) -> None:
    write(tmp_path / "s" / "0.parquet", {"a": png(1)}, split=["train"])
    write(tmp_path / "s" / "1.parquet", {"b": png(2)}, split=[1])
    with pytest.raises(
        SourceError, match=r"1\.parquet has columns .* split int64, expected split s"
    ):
        extract(tmp_path / "s", tmp_path / "t")


def test_images_that_are_files_have_no_columns(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="join the feature table with yours by its column path"):
        pomona.extract(pictures, tmp_path / "t", keep="split")


def csv_list(path: Path, *rows: str) -> Path:
    path.write_bytes("\n".join(["path,split,note", *rows]).encode(errors="surrogateescape"))
    return path


def test_rows_of_a_list_have_its_values(tmp_path: Path, extract: Extract) -> None:
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    source, table = tmp_path / "l.csv", tmp_path / "t"
    files = {"image_column": None, "key_column": None, "keep": ["note", "split"]}
    csv_list(source, "0.png,train,a\udce9", "1.png,,b", "no.png,test", "0.png,again,")
    extract(source, table, **files)
    at = f"file:{tmp_path}/"

    def found() -> dict[str, tuple[str, str]]:
        return {
            path.removeprefix(at): (row["split"], row["note"])
            for path, row in rows_of(table).items()
        }

    expected = {"0.png": ("train", "a\ufffd"), "1.png": (None, "b"), "no.png": ("test", None)}
    assert found() == expected
    assert extract(source, table, **files).skipped == 3
    (tmp_path / "0.png").rename(tmp_path / "2.png")
    csv_list(source, "2.png,moved,c", "1.png,val,b", "no.png,test")
    changes = extract(source, table, **files).changes
    assert (changes.taken_over, changes.changed, changes.unchanged) == (1, 1, 1)
    expected |= {"2.png": ("moved", "c"), "1.png": ("val", "b")}
    assert found() == expected


@pytest.mark.spark
def test_spark_keeps_the_columns_of_a_list_as_the_embedded_engine_does(
    tmp_path: Path, extract: Extract, spark: Any
) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "bad.png").write_bytes(b"no image")
    names = ["0.png", "missing.png", "bad.png"]
    columns = {"tags": [["a", None], None, []], "day": [MOMENT.date(), None, MOMENT.date()]}
    source = tmp_path / "l.parquet"
    pq.write_table(pa.table({"path": names, **columns}), source)
    files = {"image_column": None, "key_column": None, "keep": ["day", "tags"]}
    engine = pomona.SparkEngine(spark=spark)
    extract(source, tmp_path / "near", **files)
    extract(source, tmp_path / "far", **files, engine=engine)
    near, far = (pq.read_table(tmp_path / table).sort_by("path") for table in ("near", "far"))
    assert far.equals(near)
    assert far["tags"].to_pylist() == [["a", None], [], None]
    columns["day"] = [None, None, MOMENT.date()]
    pq.write_table(pa.table({"path": names, **columns}), source)
    changes = extract(source, tmp_path / "far", **files, engine=engine).changes
    assert (changes.changed, changes.unchanged) == (1, 2)
    with pytest.raises(TableError, match="`keep` day,tags needs a `table` that Spark's workers"):
        extract(source, "viewfs://test/t", **files, engine=engine)


def test_a_list_without_the_column_is_refused(tmp_path: Path, extract: Extract) -> None:
    (tmp_path / "l.txt").write_text("a.png")
    csv_list(tmp_path / "l.csv", "a.png,train,b")
    for name, keep, message in (
        ("l.txt", "split", r"l\.txt has no columns: give CSV or Parquet, or leave `keep` out"),
        ("l.csv", "site", r"no column 'site' for `keep`: it has path, split, note"),
        ("l.csv", "path", "every feature table has a column 'path'"),
    ):
        with pytest.raises(SourceError, match=message):
            extract(tmp_path / name, tmp_path / "t", image_column=None, key_column=None, keep=keep)


def test_a_table_with_other_columns_is_not_continued(
    tmp_path: Path, extract: Extract, encoder: Encoder
) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    write(source, {"a": png(1)}, split=["train"], fold=[1])
    extract(source, table, keep=[])
    with pytest.raises(TableError, match="has no column 'split' for `keep`"):
        extract(source, table)
    extract(source, table, resume=pomona.Resume(overwrite=True))
    refusals: list[tuple[Any, str]] = [
        ([], "(split)"),
        ("fold", "(split)"),
        (["split", "fold"], "'fold'"),
    ]
    for keep, message in refusals:
        with pytest.raises(TableError) as refused:
            extract(source, table, keep=keep)
        assert message in str(refused.value)
    write(source, {"a": png(1)}, split=[1])
    with pytest.raises(TableError, match="'split' of type string, but `keep` finds int64"):
        extract(source, table)
    with pytest.raises(PomonaError, match=r"\(split\)"):
        pomona.extract(drawn_folder(tmp_path), table, encoder=encoder)


def drawn_folder(folder: Path) -> Path:
    (folder / "photos").mkdir()
    (folder / "photos" / "0.png").write_bytes(png(9))
    return folder / "photos"


def test_readers_read_such_tables(tmp_path: Path, extract: Extract) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    write(source, {f"{n}": png(n) for n in range(4)}, split=["train"] * 3 + [None])
    extract(source, table)
    assert len(pomona.read_features(table).vectors) == 4
    assert pomona.inspect(table).rows == 4
    found = [
        row
        for b in pomona.FeatureTable.at(table).batches(["path", "split"])
        for row in b.to_pylist()
    ]
    assert sorted(found, key=lambda row: row["path"])[2:] == [
        {"path": "2", "split": "train"},
        {"path": "3", "split": None},
    ]


def test_the_option_takes_names_with_commas(
    tmp_path: Path, encoder_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, table = tmp_path / "i.parquet", tmp_path / "t"
    write(source, {"a": png(1)}, split=["train"], fold=[1])
    columns = ["--image-column", "data", "--key-column", "id", "--encoder", encoder_file]
    code, _, _ = run_command(capfd, "extract", source, table, *columns, "--keep", "split,fold")
    assert (code, rows_of(table)["a"]["split"], rows_of(table)["a"]["fold"]) == (0, "train", 1)
    code, _, err = run_command(capfd, "extract", source, table, *columns, "--keep", "label")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("pomona: --keep label: ")
