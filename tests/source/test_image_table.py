"""Images inside Parquet files: tests/goldens/images.parquet was written by `datasets`."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pomona
from command_line import run
from noise import noise
from places import TESTS
from pomona.encoder.encoder import Encoder
from pomona.errors import PomonaError, SourceError
from pomona.source.image_file import ImageFile, Place
from pomona.source.image_table import ImageColumns, TableImages
from pomona.source.table_reader import TableReader

PUBLISHED = TESTS / "goldens" / "images.parquet"
IMAGE = {"image_column": "image"}


def png(number: int) -> bytes:
    file = io.BytesIO()
    noise(20 + number, 30 - number).save(file, "PNG")
    return file.getvalue()


def written(path: Path, contents: dict[Any, bytes | None], **options: Any) -> Path:
    table = pa.table({"id": list(contents), "data": pa.array(contents.values(), pa.binary())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def rows_of(table: Path) -> dict[str, dict[str, Any]]:
    rows = [row for batch in pomona.FeatureTable.at(table).batches() for row in batch.to_pylist()]
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


@pytest.fixture
def extract(encoder: Encoder) -> Callable[..., pomona.Summary]:
    def run(source: Path, table: Path, **options: Any) -> pomona.Summary:
        columns = {"image_column": "data", "key_column": "id"}
        engine = pomona.LocalEngine(workers=1)
        return pomona.extract(
            source, table, **{"encoder": encoder, "engine": engine, **columns, **options}
        )

    return run


# A data set of Hugging Face -----------------------------------------------------------------------


def test_rows_equal_those_of_the_same_images_in_files(
    tmp_path: Path, encoder: Encoder, extract: Callable[..., pomona.Summary]
) -> None:
    images = pq.read_table(PUBLISHED)["image"].to_pylist()
    for image in images:
        file = tmp_path / "photos" / image["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image["bytes"])
    pomona.extract(tmp_path / "photos", tmp_path / "of_files", encoder=encoder)
    extract(PUBLISHED, tmp_path / "of_table", image_column="image", key_column=None)
    of_table, of_files = rows_of(tmp_path / "of_table"), rows_of(tmp_path / "of_files")
    assert sorted(of_table) == [image["path"] for image in sorted(images, key=lambda i: i["path"])]
    for path, row in of_table.items():
        other = of_files[f"file:{tmp_path}/photos/{path}"]
        assert row | {"path": "", "modified": None} == other | {"path": "", "modified": None}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, {"kiwi", "quince"}),  # the folder in the key
        ("column:label", {"kiwi", "quince"}),  # the names of the classes, not 0 and 1
        ("column:id", {str(100 + number) for number in range(7)}),
        ("none", {None}),
    ],
)
def test_labels_come_from_the_key_or_from_a_column(
    tmp_path: Path, extract: Callable[..., pomona.Summary], label: str | None, expected: set[Any]
) -> None:
    extract(PUBLISHED, tmp_path / "t", image_column="image", key_column=None, label=label)
    assert {row["label"] for row in rows_of(tmp_path / "t").values()} == expected


def test_a_label_column_of_an_earlier_run_stays_valid(
    tmp_path: Path, extract: Callable[..., pomona.Summary]
) -> None:
    options: dict[str, Any] = {"image_column": "image", "key_column": "id"}
    extract(PUBLISHED, tmp_path / "t", label="column:label", **options)
    again = extract(PUBLISHED, tmp_path / "t", **options)
    assert (again.changes.to_do, again.changes.relabelled) == (0, 0)
    assert {row["label"] for row in rows_of(tmp_path / "t").values()} == {"kiwi", "quince"}


# Continuing ---------------------------------------------------------------------------------------


def test_rows_are_known_by_their_key_and_changed_by_their_bytes(
    tmp_path: Path, extract: Callable[..., pomona.Summary]
) -> None:
    """Order, row groups, files and the time of the files do not matter."""
    source, table = tmp_path / "images", tmp_path / "features"
    contents: dict[Any, bytes | None] = {f"k{n}": png(n) for n in range(9)}
    written(source / "a.parquet", contents, row_group_size=4)
    assert extract(source, table).ok == 9
    (source / "a.parquet").unlink()
    items = sorted(contents.items(), reverse=True)
    written(source / "b" / "1.parquet", dict(items[:5]), row_group_size=2)
    written(source / "b" / "2.parquet", dict(items[5:]))
    assert extract(source, table).changes.to_do == 0
    before = rows_of(table)
    written(source / "b" / "2.parquet", dict(items[5:]) | {"k0": png(10), "new": png(11)})
    changes = extract(source, table).changes
    assert (changes.new, changes.changed, changes.unchanged) == (1, 1, 8)
    after = rows_of(table)
    assert {key for key in before if before[key] != after[key]} == {"k0"}
    assert set(after) == {*before, "new"}


def test_prune_deletes_rows_whose_key_is_gone(
    tmp_path: Path, extract: Callable[..., pomona.Summary]
) -> None:
    source, table = tmp_path / "images.parquet", tmp_path / "features"
    written(source, {n: png(n) for n in range(4)})
    extract(source, table)
    written(source, {n: png(n) for n in (1, 3)})
    assert extract(source, table).changes.gone == 2
    assert extract(source, table, resume=pomona.Resume(prune=True)).changes.pruned == 2
    assert set(rows_of(table)) == {"1", "3"}


def test_rows_without_bytes_have_a_reason_and_are_tried_again_when_they_have_some(
    tmp_path: Path, extract: Callable[..., pomona.Summary]
) -> None:
    source, table = tmp_path / "images.parquet", tmp_path / "features"
    written(source, {"a": png(1), "b": None, "c": b""})
    extract(source, table)
    found = {key: (row["status"], row["error"]) for key, row in rows_of(table).items()}
    assert found["b"] == ("unreadable", "has no bytes in the table")
    assert found["c"][0] == "empty"
    written(source, {"a": png(1), "b": png(2), "c": b""})
    assert extract(source, table).changes.changed == 1
    assert rows_of(table)["b"]["status"] == "ok"


def test_hugging_face_rows_with_a_path_only_say_so(
    tmp_path: Path, extract: Callable[..., pomona.Summary]
) -> None:
    images = [{"bytes": None, "path": "/data/a.png"}, {"bytes": png(1), "path": "b.png"}]
    pq.write_table(pa.table({"image": images}), tmp_path / "i.parquet")
    extract(tmp_path / "i.parquet", tmp_path / "t", image_column="image", key_column=None)
    rows = rows_of(tmp_path / "t")
    assert rows["/data/a.png"]["error"] == "has no bytes in the table, only the path /data/a.png"
    assert rows["b.png"]["status"] == "ok"


# Reading ------------------------------------------------------------------------------------------


@given(data=st.data(), groups=st.integers(1, 7))
def test_images_can_be_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, groups: int
) -> None:
    contents = {n: bytes([n]) * (n * 100) for n in range(20)}
    path = tmp_path_factory.mktemp("any") / "i.parquet"
    written(path, dict(contents), row_group_size=groups)
    files = list(TableImages(str(path), ImageColumns("data", "id")).files(lambda _: None))
    chosen = data.draw(st.lists(st.sampled_from(files)))
    read = TableReader("data").read(chosen)
    assert [content for content, _ in read] == [contents[int(file.path)] for file in chosen]


def test_a_file_that_has_changed_during_the_run_gives_rows_with_a_reason(tmp_path: Path) -> None:
    path = written(tmp_path / "i.parquet", {1: b"a"})
    files = [ImageFile("k", None, None, Place(str(path), 0, row)) for row in (5, 0)]
    (late, first) = TableReader("data").read(files)
    assert late[0] is None
    assert "it has fewer rows than before" in str(late[1])
    assert first == (b"a", None)
    path.unlink()
    (content, error), *_ = TableReader("data").read(files)
    assert content is None
    assert "cannot be read from" in str(error)


def test_a_row_group_larger_than_memory_is_read_page_by_page(tmp_path: Path) -> None:
    """If its writer made pages of a usual size."""
    content = bytes(500_000)
    table = pa.table({"id": range(600), "data": pa.array([content] * 600, pa.binary())})
    options = {"use_dictionary": False, "compression": "NONE", "write_batch_size": 8}
    pq.write_table(table, tmp_path / "i.parquet", **options)
    assert pq.ParquetFile(tmp_path / "i.parquet").num_row_groups == 1
    del table
    script = (
        "import resource\n"
        "from pomona.source.image_table import *\n"
        f"images = TableImages({str(tmp_path)!r}, ImageColumns('data', 'id'))\n"
        "files = list(images.files(lambda _: None))\n"
        "first = next(images.reader.read(files[:1]))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "print(sum(len(content) for content, _ in images.reader.read(files)), peak() - before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    total, kilobytes = map(int, ended.stdout.split())
    assert total == 300_000_000
    assert kilobytes < 150_000


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.large_binary()})]
)
def test_columns_of_every_binary_type_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    values = [{"bytes": b"x"}] if pa.types.is_struct(kind) else [b"x"]
    pq.write_table(pa.table({"id": [1], "data": pa.array(values, kind)}), tmp_path / "i.parquet")
    images = TableImages(str(tmp_path), ImageColumns("data", "id"))
    images.check()
    assert list(images.reader.read(list(images.files(lambda _: None)))) == [(b"x", None)]


# Bad use ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "picture"}, "has no column 'picture': it has image, label, id"),
        ({"image_column": "label"}, "'label' of type int64, expected binary, or a struct"),
        ({**IMAGE, "key_column": "image"}, "'image' of type struct.*expected text or integers"),
        ({**IMAGE, "key_column": "label"}, "the key '0' more than once: give a `key_column`"),
        ({**IMAGE, "label": "column:nothing"}, "has no column 'nothing'"),
        ({**IMAGE, "label": "column:image"}, "expected text or integers: give another `label`"),
        ({**IMAGE, "globs": "*.jpg"}, "choose files, and not rows"),
        ({"key_column": "id"}, "`key_column` id needs `image_column`"),
        ({"label": "column:label"}, "has no column 'path'.*images inside it, give `image_column`"),
    ],
)
def test_wrong_columns_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PomonaError, match=message):
        pomona.extract(PUBLISHED, tmp_path / "t", **options)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no parquet", "cannot read .* as Parquet"),
        (b"", "cannot read .* as Parquet"),
        (PUBLISHED.read_bytes()[:-9], "cannot read .* as Parquet"),
    ],
)
def test_a_file_that_is_not_parquet_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "i.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        TableImages(str(tmp_path), ImageColumns("data", "id")).check()


@pytest.mark.parametrize("given", ["nothing", "nothing/*.parquet", "."])
def test_a_source_without_parquet_files_is_refused(
    tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="has no Parquet files"):
        TableImages(given, ImageColumns("data", "id")).check()


@pytest.mark.parametrize(
    ("marker", "kind"),
    [
        (".hoodie", "a Hudi table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
        ("_spark_metadata", "the sink of a streaming query"),
    ],
)
@pytest.mark.parametrize(
    "given", ["", "/part", "/part/i.parquet", "/part/*.parquet", "/../**/*.parquet"]
)
def test_files_that_a_log_may_have_deleted_are_refused(
    tmp_path: Path, marker: str, kind: str, given: str
) -> None:
    written(tmp_path / "t" / "part" / "i.parquet", {1: png(1)})
    (tmp_path / "t" / marker).mkdir(parents=True)
    with pytest.raises(SourceError, match=f"is in {kind}.*to pomona.featurize"):
        pomona.extract(f"{tmp_path}/t{given}", tmp_path / "f", image_column="data")
    assert not (tmp_path / "f").exists()


def test_keys_that_are_null_or_unknown_are_refused(tmp_path: Path) -> None:
    images = TableImages(str(written(tmp_path / "i.parquet", {})), ImageColumns("data", "id"))
    with pytest.raises(SourceError, match="expected text or integers"):  # the type null
        images.check()
    pq.write_table(pa.table({"id": ["a", None], "data": [b"x", b"y"]}), tmp_path / "i.parquet")
    with pytest.raises(SourceError, match="1 rows without a key in id"):
        images.check()
    pq.write_table(pa.table({"data": [b"x"]}), tmp_path / "i.parquet")
    with pytest.raises(SourceError, match="does not say what identifies an image"):
        TableImages(str(tmp_path), ImageColumns("data")).check()


def test_the_command_reads_parquet_and_ends_with_code_2_on_a_wrong_column(
    tmp_path: Path, encoder: Encoder, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder.save(tmp_path / "e.encoder")
    words = ["extract", PUBLISHED, tmp_path / "t", "--encoder", tmp_path / "e.encoder"]
    code, out, _ = run(capfd, *words, "--image-column", "image", "--key-column", "id")
    assert code == 0
    assert "7 images" in out
    assert set(rows_of(tmp_path / "t")) == {str(100 + number) for number in range(7)}
    code, out, err = run(capfd, *words, "--image-column", "picture")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    code, _, err = run(capfd, *words, "--key-column", "id")
    assert code == 2
    assert "--key-column id needs --image-column" in err


def test_vectors_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, extract: Callable[..., pomona.Summary]
) -> None:
    source = written(tmp_path / "i.parquet", {n: png(n % 9) for n in range(150)}, row_group_size=40)
    for workers in (1, 3):
        extract(source, tmp_path / str(workers), engine=pomona.LocalEngine(workers=workers))
    one, three = rows_of(tmp_path / "1"), rows_of(tmp_path / "3")
    assert one == three
    vectors = [row["features"] for row in one.values()]
    assert len(np.unique(np.array(vectors), axis=0)) == 9
