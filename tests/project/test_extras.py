"""The suggested command that installs an extra works for a user who has only this Pomona."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from places import REPOSITORY
from pomona import extras
from pomona.errors import EngineError
from pomona.extras import check_extra, install_command

ROOT = REPOSITORY
WRITTEN = {".md", ".py", ".toml", ".txt", ".ipynb", ".js", ".css", ".html", ".yml", ""}


def test_no_message_names_the_unrelated_package_on_pypi() -> None:
    forbidden = re.compile(r"pomona\[\w|pip3? install [^\n`]*(?<![\w./-])['\"]?pomona\b(?![\w/-])")
    tops = ("src", "tests", "docs", "examples", "benchmarks", "fuzzing", ".ci")
    files = [f for f in ROOT.iterdir() if f.is_file()]
    files += [f for top in tops for f in (ROOT / top).rglob("*") if f.is_file()]
    texts = {f: f.read_text() for f in files if f.suffix in WRITTEN and not f.is_symlink()}
    assert len(texts) > 100
    assert [str(f) for f, text in texts.items() if forbidden.search(text)] == []


def test_a_checkout_suggests_installing_the_extra_from_its_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert install_command("analysis").endswith("pip install '.[analysis]'")
    assert "cd " not in install_command("analysis")


def test_outside_the_checkout_the_command_names_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert install_command("spark").startswith(f"cd {ROOT} && ")
    assert install_command("spark").endswith("pip install '.[spark]'")


def test_an_environment_without_pip_gets_advice_to_use_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "pip")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "uv" else None)
    python = shlex.quote(sys.executable)
    assert install_command("onnx") == f"uv pip install --python {python} '.[onnx]'"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert install_command("onnx") == f"{python} -m pip install '.[onnx]'"


def _installed(
    monkeypatch: pytest.MonkeyPatch, site: Path, origin: str | None, *requires: str
) -> None:
    """Simulate a wheel installation in a site-packages folder."""
    monkeypatch.setattr(extras, "__file__", str(site / "a" / "b" / "pomona" / "extras.py"))
    about = SimpleNamespace(requires=list(requires), read_text=lambda _: origin)
    monkeypatch.setattr(extras, "distribution", lambda _: about)


def test_a_wheel_installation_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = '{"url": "file:///pomona-0.1.0-py3-none-any.whl", "archive_info": {}}'
    for origin in (archive, None):
        _installed(
            monkeypatch,
            tmp_path,
            origin,
            "click>=8.1",
            "matplotlib>=3.8; extra == 'analysis'",
            "pandas<3,>=2.0; extra == 'spark'",
            'scikit-learn>=1.5; python_version > "3" and extra == "analysis"',
        )
        command = install_command("analysis")
        assert command.endswith("pip install 'matplotlib>=3.8' 'scikit-learn>=1.5'")


def test_an_installation_from_a_source_folder_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    origin = f'{{"url": "{folder.as_uri()}", "dir_info": {{}}}}'
    _installed(monkeypatch, tmp_path, origin, "onnx>=1; extra == 'onnx'")
    assert install_command("onnx").startswith(f"cd '{folder}' && ")
    shutil.rmtree(folder)
    assert install_command("onnx").endswith("pip install 'onnx>=1'")


def test_the_suggested_pip_belongs_to_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"{sys.executable} -m pip install" in install_command("int8")
    mine = tmp_path / "python"
    (tmp_path / "pip").write_text("#!/bin/sh\n")
    (tmp_path / "pip").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(mine))
    assert " -m pip" not in install_command("int8")


def test_every_extra_has_packages_to_install() -> None:
    from importlib.metadata import requires

    names = {match[1] for r in requires("pomona") or [] if (match := extras._EXTRA_OF.search(r))}
    assert names >= {"analysis", "connect", "int8", "onnx", "spark"}


def test_a_missing_module_raises_the_requested_error() -> None:
    with pytest.raises(EngineError, match=r"^it needs x: .*pip install '\.\[spark\]', or not$"):
        check_extra(
            "spark", "it needs x", "os", "no_such.at_all", error=EngineError, instead=", or not"
        )
    check_extra("spark", "it needs x", "os", "json")


COMMANDS = [
    (("train", "TABLE", "-o", "c"), "sklearn"),
    (("train", "TABLE", "-o", "c", "--plot", "p.png"), "matplotlib"),
    (("report", "TABLE", "-o", "r.html"), "sklearn"),
    (("report", "TABLE", "-o", "r.html", "--map", "pca"), "jinja2"),
    (("search", "TABLE", "x.jpg", "--index", "i"), "faiss"),
    (("check", "TABLE", "-o", "c"), "jinja2"),
    (("duplicates", "TABLE", "--plot", "p.png"), "matplotlib"),
    (("project", "TABLE", "--plot", "p.png"), "matplotlib"),
    (("project", "TABLE", "--master", "local[1]"), "pyspark"),
    (("export", "TABLE", "--to", "duckdb:x"), "duckdb"),
    (("export", "TABLE", "--to", "lance:x"), "lancedb"),
    (("export", "TABLE", "--to", "postgresql://h/d"), "psycopg"),
    (("export", "TABLE", "--to", "qdrant:http://h"), "qdrant_client"),
    (("export", "TABLE", "--to", "chroma:x"), "chromadb"),
    (("export", "TABLE", "--to", "milvus:x"), "pymilvus"),
    (("extract", "photos", "TABLE", "--engine", "spark"), "pyspark"),
    (("encoder", "build", "a", "-o", "e", "--precision", "int8", "--calibrate", "p"), "nncf"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "module"), COMMANDS, ids=[" ".join(a) for a, _ in COMMANDS])
def test_a_missing_package_is_reported_before_the_table_is_read(
    tmp_path: Path, arguments: tuple[str, ...], module: str
) -> None:
    """The table does not exist: a command that reads it first would report that instead."""
    script = (
        f"import sys; sys.modules[{module!r}] = None; from pomona.cli.main import main; "
        f"main({list(arguments)!r})"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (completed.returncode, completed.stdout) == (2, ""), completed.stderr
    assert completed.stderr.count("\n") == 1
    assert "pip install '.[" in completed.stderr
