"""Exports to databases: their own libraries find the rows, and only changes are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pomona
import tables
from command_line import run
from pomona.errors import RunError, TableError, UsageError
from vector_databases import READERS, Reader

PATHS = [f"file:/pictures/{at} 'é\" \\.jpg" for at in range(40)]
LABELS = [None, "", 'it\'s "ripe"\n\\N', *(f"class {at % 3}" for at in range(37))]
VECTORS = np.random.default_rng(3).normal(size=(40, 16)).astype(np.float32)
FAILED = [("file:/pictures/kiwi/broken.jpg", "corrupt")]
CONTENTS = [f"{at:064x}" for at in range(40)]


@pytest.fixture(params=READERS, ids=lambda reader: reader.__name__)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    reader: Reader = request.param(tmp_path)
    return reader


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return some(tmp_path / "features", range(40))


def some(folder: Path, rows: range | list[int], label: str | None = None, **other: Any) -> Path:
    """A table of some of the rows; `label` is that of row 7."""
    labels = [label if label and at == 7 else LABELS[at] for at in rows]
    contents = [CONTENTS[at] for at in rows]
    other = {"failed": FAILED, "contents": contents} | other
    return tables.write(folder, VECTORS[[*rows]], labels, [PATHS[at] for at in rows], **other)


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result


def test_the_library_finds_the_rows_and_the_same_neighbours(database: Reader, table: Path) -> None:
    made = pomona.export(table, database.to)
    assert (made.sent, made.unchanged, made.failed, made.others) == (40, 0, 1, 0)
    rows = database.rows()
    assert {path: label for path, (label, _) in rows.items()} == dict(
        zip(PATHS, LABELS, strict=True)
    )
    found = np.array([rows[path][1] for path in PATHS])
    expected = VECTORS
    if not database.keeps_lengths:
        found, expected = unit(found), unit(VECTORS)
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-7)
    for query in VECTORS[:5]:
        nearest = np.argsort(-(unit(VECTORS) @ query))[:6]
        assert database.nearest(query, 6) == [PATHS[at] for at in nearest]
    provenance = database.provenance()
    assert (provenance["fingerprint"], provenance["vector_type"]) == ("a" * 64, "float32")


def test_a_second_export_sends_only_what_has_changed(database: Reader, tmp_path: Path) -> None:
    first = some(tmp_path / "a" / "features", range(30))
    second = some(
        tmp_path / "b" / "features",
        range(5, 40),
        "another",
        contents=["f" * 64, *CONTENTS[6:40]],  # row 5
    )
    pomona.export(first, database.to)
    again = pomona.export(first, database.to)
    assert (again.sent, again.unchanged, again.others) == (0, 30, 0)
    made = pomona.export(second, database.to)
    assert (made.sent, made.unchanged, made.others, made.deleted) == (12, 23, 5, 0)
    rows = database.rows()
    assert sorted(rows) == sorted(PATHS)
    assert rows[PATHS[7]][0] == "another"
    pruned = pomona.export(second, database.to, prune=True)
    assert (pruned.sent, pruned.unchanged, pruned.others, pruned.deleted) == (0, 35, 0, 5)
    assert sorted(database.rows()) == sorted(PATHS[5:])


def test_vectors_have_length_1_and_16_bits_on_request(database: Reader, table: Path) -> None:
    if not database.float16:
        with pytest.raises(UsageError, match="has no 16-bit floats"):
            pomona.export(table, database.to, float16=True)
    pomona.export(table, database.to, float16=database.float16, normalize=True)
    rows = database.rows()
    found = np.array([rows[path][1] for path in PATHS])
    assert np.allclose(found, unit(VECTORS), rtol=0, atol=1e-3 if database.float16 else 1e-6)
    assert database.provenance()["normalized"] == "L2"


def test_another_encoder_replaces_the_table_only_on_request(
    database: Reader, table: Path, tmp_path: Path
) -> None:
    other = some(tmp_path / "b" / "features", range(3), fingerprint="b" * 64)
    pomona.export(table, database.to)
    with pytest.raises(UsageError, match="has vectors of another encoder: they differ in"):
        pomona.export(other, database.to)
    assert len(database.rows()) == 40
    assert pomona.export(other, database.to, overwrite=True).sent == 3
    assert sorted(database.rows()) == sorted(PATHS[:3])
    assert database.provenance()["fingerprint"] == "b" * 64


def test_a_table_that_no_export_made_stays(database: Reader, table: Path) -> None:
    database.make_foreign()
    with pytest.raises(UsageError, match="already has features, which no export made"):
        pomona.export(table, database.to, overwrite=True)
    assert pomona.export(table, database.to, name="photos").sent == 40


def test_a_path_with_two_rows_is_refused(database: Reader, tmp_path: Path) -> None:
    table = some(tmp_path / "features", [0, 1, 1])
    with pytest.raises(TableError, match=r"several rows for a path \(1 too many\)"):
        pomona.export(table, database.to)


def test_a_damaged_vector_ends_the_export_and_the_next_one_completes_it(
    database: Reader, tmp_path: Path
) -> None:
    table = tmp_path / "features"
    some(table, range(10))
    vectors = np.full((1, 16), np.nan)
    tables.write(table, vectors, ["x"], [PATHS[10]], contents=[CONTENTS[10]])
    with pytest.raises(TableError, match="has no vector of 16 finite numbers"):
        pomona.export(table, database.to)
    (table / "part-000001.parquet").unlink()
    made = pomona.export(table, database.to)
    assert made.sent + made.unchanged == 10
    assert len(database.rows()) == 10


def test_the_command_names_rows_that_the_table_no_longer_has(
    database: Reader, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pomona.export(some(tmp_path / "a" / "features", range(3)), database.to)
    table = some(tmp_path / "b" / "features", [1, 2, 3], failed=())
    code, out, err = run(capfd, "export", table, "--to", database.to)
    assert (code, out) == (0, f"{database.to}: 1 row sent, 2 unchanged\n")
    assert err == (
        f"pomona: note: {database.to} has 1 row that {table} does not have with a vector "
        "(--prune deletes them)\n"
    )
    code, out, err = run(capfd, "export", table, "--to", database.to, "--prune")
    assert (code, err) == (0, "")
    assert out == f"{database.to}: 0 rows sent, 3 unchanged, 1 deleted\n"


def test_a_failed_export_leaves_a_duckdb_file_as_it_was(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb", reason="'make test-exports' installs it")
    from pomona.exports.databases.duckdb import DuckDb

    file = tmp_path / "photos.duckdb"
    insert = DuckDb.insert

    def fails(self: DuckDb, rows: Any) -> None:
        insert(self, rows)
        raise duckdb.IOException("disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(DuckDb, "insert", fails)
        with pytest.raises(RunError, match="disk is full; nothing was written"):
            pomona.export(table, f"duckdb:{file}")
        assert [path.name for path in tmp_path.iterdir()] == ["features"]
    pomona.export(some(tmp_path / "b" / "features", range(3)), f"duckdb:{file}")
    with monkeypatch.context() as patched:
        patched.setattr(DuckDb, "insert", fails)
        with pytest.raises(RunError, match="nothing was written"):
            pomona.export(table, f"duckdb:{file}")
    with duckdb.connect(file) as database:
        assert database.execute("SELECT count(*) FROM features").fetchone() == (3,)


@pytest.mark.parametrize("name", ["", "1a", "a b", 'a"b', "é", "a" * 64])
def test_a_name_that_some_database_does_not_allow_is_refused(table: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected a letter, then up to 62 letters"):
        pomona.export(table, "npy:out", name=name)
    with pytest.raises(UsageError, match="npy:out is not a database: leave `name` out"):
        pomona.export(table, "npy:out", name="features")


@pytest.mark.parametrize(
    ("to", "module"),
    [
        ("postgresql://ann:s3cr3t@127.0.0.1:1/photos", "psycopg"),
        ("postgresql://ann@127.0.0.1:1/photos?password=s3cr3t&connect_timeout=2", "psycopg"),
        ("postgresql://ann:s3cr3t@127.0.0.1:port/photos", "psycopg"),
        ("qdrant:http://ann:s3cr3t@127.0.0.1:1", "qdrant_client"),
        ("chroma:http://ann:s3cr3t@127.0.0.1:1", "chromadb"),
        ("milvus:http://ann:s3cr3t@127.0.0.1:1", "pymilvus"),
    ],
)
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_an_unreachable_server_is_one_line_without_the_password(
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    to: str,
    module: str,
) -> None:
    pytest.importorskip(module, reason="'make test-exports' installs it")
    monkeypatch.setenv("QDRANT_API_KEY", "s3cr3t")
    monkeypatch.setenv("MILVUS_TOKEN", "ann:s3cr3t")
    code, out, err = run(capfd, "export", table, "--to", to)
    assert (code, out) == (2, "")
    assert err.startswith("pomona: cannot open ")
    assert err.count("\n") == 1
    assert "s3cr3t" not in err


@pytest.mark.parametrize("kind", ["qdrant", "chroma", "milvus"])
def test_a_server_without_http_is_not_taken_for_a_folder(table: Path, kind: str) -> None:
    modules = {"qdrant": "qdrant_client", "chroma": "chromadb", "milvus": "pymilvus"}
    pytest.importorskip(modules[kind], reason="'make test-exports' installs it")
    with pytest.raises(UsageError, match=f"looks like a server: give {kind}:http://localhost:6333"):
        pomona.export(table, f"{kind}:localhost:6333")
