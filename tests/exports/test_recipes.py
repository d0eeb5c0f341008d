"""The recipes of docs/export.md run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import pomona
import tables
from places import REPOSITORY
from vector_databases import server_url

PAGE = (REPOSITORY / "docs" / "export.md").read_text("utf-8")
RECIPES = re.findall(r"^<!-- not run: [^\n]+ -->\n```python\n(.*?)^```$", PAGE, re.M | re.S)
VECTORS = np.random.default_rng(0).normal(size=(20, 8))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tables.write(tmp_path / "features", VECTORS, ["apple"] * 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda text: re.split(r"[ .\n]", text)[1])
def test_a_recipe_finds_the_row_itself_first(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "postgresql://localhost" in recipe:
        pytest.importorskip("psycopg", reason="'make test-exports' installs it")
        recipe = recipe.replace("postgresql://localhost/photos", server_url())
    for module in re.findall(r"^(?:import|from) (\w+)", recipe, re.M):
        pytest.importorskip(module, reason="'make test-exports' installs it")
    exec(compile(recipe, "export.md", "exec"), {})  # noqa: S102 - the page's own code
    assert re.search(r"file:/pictures/apple/\d+\.jpg", capsys.readouterr().out)


@pytest.mark.usefixtures("here")
def test_the_index_of_duckdb_finds_the_same_neighbours() -> None:
    duckdb = pytest.importorskip("duckdb", reason="'make test-exports' installs it")
    package = pytest.importorskip("duckdb_extension_vss", reason="'make test-exports' installs it")
    (extension,) = Path(package.__file__).parent.rglob("vss.duckdb_extension")
    (recipe,) = re.findall(r"^```sql\n(LOAD vss.*?)^```$", PAGE, re.M | re.S)
    pomona.export("features", "duckdb:photos.duckdb")
    with duckdb.connect() as database:
        database.execute(recipe.replace("LOAD vss", f"LOAD '{extension}'"))
        by = "array_cosine_distance(vector, ?::FLOAT[8])"
        query = f"SELECT path FROM features ORDER BY {by} LIMIT 5"  # noqa: S608 - constants
        plan = database.execute(f"EXPLAIN {query}", [VECTORS[3].tolist()]).fetchall()
        found = database.execute(query, [VECTORS[3].tolist()]).fetchall()
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit[3]))[:5]
    assert "HNSW_INDEX_SCAN" in str(plan)
    assert found == [(f"file:/pictures/apple/{at}.jpg",) for at in nearest]
