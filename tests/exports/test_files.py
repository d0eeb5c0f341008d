"""Exports to files: whole, of the right numbers, and only if something has changed."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pomona
import tables
from command_line import run
from pomona.errors import UsageError
from pomona.exports import rows as exported_rows
from pomona.exports.files import huggingface

LABELS = ["kiwi", None, 'Pêche, "ripe"\nor not', "", "plum"]
VECTORS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
FAILED = [("file:/pictures/kiwi/broken.jpg", "corrupt")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return drawn_table(tmp_path / "features")


def drawn_table(folder: Path, *, fingerprint: str = "a" * 64, first: float = 0.0) -> Path:
    vectors = VECTORS.copy()
    vectors[0, 0] += first
    contents = [f"{at}{first}".ljust(64, "0") for at in range(5)]
    return tables.write(
        folder,
        vectors,
        LABELS,
        [f"file:/pictures/{at}, é.jpg" for at in range(5)],
        failed=FAILED,
        fingerprint=fingerprint,
        contents=contents,
    )


def mapped(folder: Path) -> tuple[np.memmap[Any, Any], list[dict[str, str]]]:
    vectors = np.load(folder / "features.npy", mmap_mode="r")
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        return vectors, list(csv.DictReader(file))


def test_npy_has_the_vectors_and_a_line_for_each(table: Path, tmp_path: Path) -> None:
    made = pomona.export(table, f"npy:{tmp_path / 'out'}")
    vectors, rows = mapped(tmp_path / "out")
    assert (vectors.dtype, vectors.tobytes()) == (np.float32, VECTORS.tobytes())
    assert [row["label"] for row in rows] == [label or "" for label in LABELS]
    assert [row["path"] for row in rows] == [f"file:/pictures/{at}, é.jpg" for at in range(5)]
    about = json.loads((tmp_path / "out" / "provenance.json").read_bytes())
    assert about["fingerprint"] == "a" * 64
    assert about["vector_type"] == "float32"
    assert (made.rows, made.sent, made.unchanged, made.failed) == (5, 5, 0, 1)


def test_csv_has_every_number_exactly(table: Path, tmp_path: Path) -> None:
    pomona.export(table, f"csv:{tmp_path / 'out.csv'}")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    read = [[row[f"vector_{at}"] for at in range(7)] for row in rows]
    assert np.array_equal(np.array(read, np.float32), VECTORS)
    assert [row["label"] for row in rows] == [label or "" for label in LABELS]
    about = json.loads((tmp_path / "out.csv-metadata.json").read_bytes())
    assert about["url"] == "out.csv"
    assert about["notes"][0]["fingerprint"] == "a" * 64


def test_a_hugging_face_folder_has_parquet_files_and_a_card(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "_SHARD_BYTES", 50)
    tables.write(table, VECTORS[:2] + 1, ["new", "new"], ["file:/a", "file:/b"])
    pomona.export(table, f"huggingface:{tmp_path / 'out'}", float16=True)
    shards = sorted((tmp_path / "out" / "data").iterdir())
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [shard.name for shard in shards] == names
    rows = pa.concat_tables([pq.read_table(shard) for shard in shards])
    assert rows["label"].to_pylist() == [*LABELS, "new", "new"]
    assert rows.schema.field("vector").type == pa.list_(pa.float16(), 7)
    assert rows.schema.field("vector").metadata[b"pomona.fingerprint"] == b"a" * 64
    assert f"| `fingerprint` | {'a' * 64} |" in (tmp_path / "out" / "README.md").read_text()


def test_a_card_that_somebody_has_changed_stays(table: Path, tmp_path: Path) -> None:
    to, card = f"huggingface:{tmp_path / 'out'}", tmp_path / "out" / "README.md"
    pomona.export(table, to)
    tables.write(table, VECTORS[:1], ["new"], ["file:/a"], contents=["f" * 64])
    pomona.export(table, to)
    assert "\n6 images and their features" in card.read_text()
    changed = card.read_text() + "Photos of an orchard.\n"
    card.write_text(changed)
    tables.write(table, VECTORS[:1], ["new"], ["file:/b"], contents=["e" * 64])
    assert pomona.export(table, to).sent == 7
    assert card.read_text() == changed


def test_a_table_without_vectors_becomes_a_file_without_rows(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "features", np.empty((0, 7)), [], failed=FAILED)
    made = pomona.export(table, f"huggingface:{tmp_path / 'out'}")
    assert (made.rows, made.failed) == (0, 1)
    assert pq.read_table(tmp_path / "out" / "data").num_rows == 0
    pomona.export(table, f"npy:{tmp_path / 'npy'}")
    assert mapped(tmp_path / "npy")[0].shape == (0, 7)


def test_datasets_loads_a_hugging_face_folder(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="'make test-exports' installs it")
    pomona.export(table, f"huggingface:{tmp_path / 'photos'}")
    folder, cache = str(tmp_path / "photos"), str(tmp_path / "cache")
    loaded = datasets.load_dataset(folder, split="train", cache_dir=cache)
    assert loaded["label"][:] == LABELS
    assert np.array_equal(np.array(loaded["vector"][:], np.float32), VECTORS)


def test_vectors_get_length_1_and_16_bits_on_request(table: Path, tmp_path: Path) -> None:
    pomona.export(table, f"npy:{tmp_path / 'out'}", float16=True, normalize=True)
    vectors, _ = mapped(tmp_path / "out")
    unit = VECTORS / np.linalg.norm(VECTORS.astype(np.float64), axis=1, keepdims=True)
    assert vectors.dtype == np.float16
    assert np.array_equal(vectors, unit.astype(np.float32).astype(np.float16))
    assert json.loads((tmp_path / "out" / "provenance.json").read_bytes())["normalized"] == "L2"


def test_a_number_that_float16_does_not_have_is_refused(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "features", [[1.0, 70000.0]], ["kiwi"])
    with pytest.raises(
        UsageError, match=r"0\.jpg has the number 7e\+04, and float16 ends at 65504"
    ):
        pomona.export(table, f"npy:{tmp_path / 'out'}", float16=True)
    assert not (tmp_path / "out").exists()
    pomona.export(table, f"npy:{tmp_path / 'out'}", float16=True, normalize=True)


@pytest.mark.parametrize("to", ["npy:out", "csv:out.csv", "huggingface:out"])
def test_a_second_export_writes_only_if_something_has_changed(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / to.partition(":")[2]
    pomona.export(table, to)
    before = place.stat().st_ino
    again = pomona.export(table, to)
    assert (again.sent, again.unchanged, place.stat().st_ino) == (0, 5, before)
    tables.write(table, VECTORS[:1], ["new"], ["file:/pictures/new.jpg"], contents=["f" * 64])
    assert pomona.export(table, to).sent == 6
    assert place.stat().st_ino != before
    assert pomona.export(table, to).sent == 0


def test_rows_without_a_digest_are_always_sent(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "features", VECTORS, LABELS)
    to = f"npy:{tmp_path / 'out'}"
    assert [pomona.export(table, to).sent for _ in range(2)] == [5, 5]


@pytest.mark.parametrize("to", ["npy:out", "csv:out.csv", "huggingface:out"])
def test_another_encoder_or_form_is_refused_unless_it_may_overwrite(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    other = drawn_table(tmp_path / "other", fingerprint="b" * 64)
    pomona.export(table, to)
    with pytest.raises(UsageError, match="vectors of another encoder: they differ in fingerprint"):
        pomona.export(other, to)
    with pytest.raises(UsageError, match="has float32 vectors, and this export float32 vectors of"):
        pomona.export(table, to, normalize=True)
    assert pomona.export(other, to, overwrite=True).sent == 5
    assert pomona.export(other, to).sent == 0


@pytest.mark.parametrize("to", ["npy:out", "csv:out.csv", "huggingface:out"])
def test_a_failure_leaves_the_earlier_export_and_nothing_else(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pomona.export(table, to)
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exported_rows, "unit", fails)
    with pytest.raises(UsageError, match="cannot write out.*: No space left on device"):
        pomona.export(table, to, normalize=True, overwrite=True)
    after = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    assert before == after


def test_files_that_no_export_wrote_stay(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine", "notes.txt").write_text("mine")
    Path("mine.csv").write_text("mine")
    Path("theirs").mkdir()
    Path("theirs", "provenance.json").write_text("[]")
    for to, message in {
        "npy:mine": "mine contains 'notes.txt', which no export wrote",
        "npy:mine.csv": "mine.csv is a file",
        "huggingface:mine": "mine contains 'notes.txt', which no export wrote",
        "npy:theirs": "theirs exists, and no export wrote it",
        "csv:mine.csv": "mine.csv exists, and no export wrote it",
        "csv:mine": "mine is a folder",
        f"npy:{table}": "is, or is in, a feature table",
        f"npy:{table}/out": "is, or is in, a feature table",
        f"csv:{table}/out.csv": "is in a feature table",
        "npy:s3://bucket/out": "is on the file system 's3', not on this machine",
        "npy:no/out": "there is no folder",
        "features.npy": "expected npy:FOLDER",
        "npy:": "expected npy:FOLDER",
    }.items():
        with pytest.raises(UsageError, match=message):
            pomona.export(table, to, overwrite=True)
    assert (Path("mine", "notes.txt").read_text(), Path("mine.csv").read_text()) == ("mine", "mine")


def test_the_command_prints_what_it_sent_and_what_it_skipped(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capfd, "export", table, "--to", "npy:out", "--float16")
    assert (code, out) == (0, "npy:out: 5 rows sent, 0 unchanged\n")
    assert err == "pomona: note: skipped 1 image without a vector\n"
    code, out, _ = run(capfd, "export", table, "--to", "npy:out", "--float16", "--json")
    assert {"sent": 0, "unchanged": 5, "failed": 1}.items() <= json.loads(out).items()
    code, out, err = run(capfd, "export", table, "--to", "csv:out.csv", "--float16")
    assert (code, out) == (2, "")
    assert err == "pomona: csv:out.csv has no 16-bit floats: leave --float16 out\n"


NAMES = st.binary(min_size=1, max_size=20).map(os.fsdecode).map(lambda name: f"file:/{name!r}")


@given(st.lists(NAMES | st.text(min_size=1).map(repr), unique=True, min_size=1))
def test_any_path_returns_from_the_files(paths: list[str]) -> None:
    import tempfile

    vectors = np.arange(len(paths), dtype=np.float32)[:, None]
    with tempfile.TemporaryDirectory() as folder:
        table = tables.write(Path(folder, "features"), vectors, paths, paths)
        pomona.export(table, f"npy:{folder}/out")
        _, rows = mapped(Path(folder, "out"))
    assert [row["path"] for row in rows] == paths
    assert [row["label"] for row in rows] == paths
