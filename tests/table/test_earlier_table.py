"""A table written by an earlier version can be continued, relabelled and moved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import pomona
import tables
from places import TESTS
from pomona.encoder.encoder import Encoder

QUALITY = ["brightness", "sharpness"]
GOLDEN = TESTS / "goldens" / "earlier_table"
WAS_AT = "file:/tmp/resume_gold/in/pictures"


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[Path, Path]:
    """The pictures and the table, with the paths and times that the table recorded."""
    pictures, table = tmp_path / "pictures", tmp_path / "table"
    shutil.copytree(GOLDEN / "pictures", pictures)
    for n, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/empty.png"]):
        os.utime(pictures / name, (1_700_000_000 + n,) * 2)
    table.mkdir()
    part = pq.read_table(GOLDEN / "part.parquet")
    paths = [path.replace(WAS_AT, f"file:{pictures}") for path in part["path"].to_pylist()]
    part = part.set_column(0, part.schema.field(0), pa.array(paths))
    pq.write_table(part, table / "part-1795744362729-d2a3a2eb23c1.parquet")
    return pictures, table


def test_a_table_of_an_earlier_version_is_continued_with_its_labels(
    earlier: tuple[Path, Path], encoder: Encoder, tmp_path: Path
) -> None:
    pictures, table = earlier
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(9, 9, 9), "PNG"))
    summary = pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert (summary.skipped, summary.changes.new, summary.changes.changed) == (4, 1, 0)
    assert summary.changes.labels_kept == 4
    result = {name: row["label"] for name, row in tables.rows(table).items()}
    assert result == {
        "a.png": "ripe",
        "b.png": None,
        "c.png": "green",
        "empty.png": None,
        "new.png": "pictures",
    }
    rerun = pomona.extract(
        pictures, table, encoder=encoder, label="parent", engine=pomona.LocalEngine(workers=1)
    )
    assert (rerun.changes.relabelled, rerun.model_loads) == (4, 0)
    pomona.extract(
        pictures, tmp_path / "fresh", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    found, fresh = tables.read(table), tables.read(tmp_path / "fresh")
    assert found.drop_columns(QUALITY).equals(fresh.drop_columns(QUALITY))
    new = [name == f"file:{pictures}/new.png" for name in found["path"].to_pylist()]
    for name in QUALITY:
        assert found.filter(new)[name].equals(fresh.filter(new)[name])
        assert found[name].null_count == 4
    assert pomona.inspect(table).unmeasured == 3


def test_a_row_without_brightness_is_not_copied_to_a_new_path(
    tmp_path: Path, encoder: Encoder
) -> None:
    pictures, table = tmp_path / "pictures", tmp_path / "table"
    pictures.mkdir()
    content = drawn.encode(drawn.picture(), "PNG")
    (pictures / "a.png").write_bytes(content)

    def extract() -> int:
        engine = pomona.LocalEngine(workers=1)
        return pomona.extract(pictures, table, encoder=encoder, engine=engine).changes.taken_over

    extract()
    (part,) = table.glob("part-*")
    pq.write_table(pq.read_table(part).drop_columns(QUALITY), part)
    (pictures / "b.png").write_bytes(content)
    assert extract() == 0
    (pictures / "c.png").write_bytes(content)
    assert extract() == 1
    brightness = {name: row["brightness"] for name, row in tables.rows(table).items()}
    assert brightness["a.png"] is None
    assert brightness["b.png"] == brightness["c.png"] is not None
