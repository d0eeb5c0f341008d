"""The notebook: its cells run from first to last and display what the text claims.

The tests run the cells as Jupyter does and display the last expression of each by its
`_repr_html_` if it has one. Jupyter's own runner, nbclient with ipykernel, would add some thirty
packages and a process with open sockets to run cells without magics.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from places import REPOSITORY

pytest.importorskip("sklearn", reason="the notebook trains: pip install '.[analysis]'")
pytest.importorskip("pandas", reason="the notebook shows a DataFrame: pip install '.[spark]'")

NOTEBOOK = REPOSITORY / "examples" / "quickstart.ipynb"


def run_cells(notebook: dict[str, Any]) -> list[str]:
    """Run the cells in one namespace; return what each displays: HTML, text and printed output."""
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"]), cell["id"]).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body, []), cell["id"], "exec"), names)  # noqa: S102
            text = ""
            if last is not None:
                value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)  # noqa: S307
                if value is not None:
                    html = getattr(value, "_repr_html_", None)
                    text = html() if html else repr(value)
        outputs.append(printed.getvalue() + text)
    return outputs


def test_the_notebook_runs_from_first_to_last_and_shows_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(NOTEBOOK.parent), *sys.path])
    outputs = run_cells(json.loads(NOTEBOOK.read_text("utf-8")))
    everything = "\n".join(outputs)
    assert "200 vectors, 3 images without one" in everything
    assert "<b>features: 200 vectors of 1,280 numbers, 5 labels, 3 images without a vector</b>" in (
        everything
    )
    assert "(200, 1280) float32" in everything
    assert "4 blocks" in everything
    assert "on 40 images, trained on 160" in everything
    assert "000.jpg Plum" in everything
    assert "('empty.jpg', 'empty', 'the file is empty: 0 bytes')" in everything
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.width > 400


def test_the_notebook_is_stored_without_outputs() -> None:
    """Outputs would contain paths of a machine and become outdated."""
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
