"""Scripts that no test runs still name what Pomona has."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from places import REPOSITORY

FOLDERS = "benchmarks", "examples", "fuzzing"
SCRIPTS = sorted(path for name in FOLDERS for path in (REPOSITORY / name).glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_names_that_exist(script: Path) -> None:
    imports = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pomona"
        for alias in node.names
    ]
    assert [(module, name) for module, name in imports if not has(module, name)] == []


def has(module: str, name: str) -> bool:
    if module.startswith("pomona.spark"):
        pytest.importorskip("pyspark", reason="the extra spark is missing")
    if hasattr(import_module(module), name):
        return True
    try:
        import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True
