from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import pomona
from places import REPOSITORY
from pomona._version import __version__

HEAVY = ("keras", "openvino", "pyspark", "tensorflow", "pyarrow", "numpy", "PIL", "rich")


def test_the_public_names_are_exactly_these() -> None:
    assert pomona.__all__ == sorted(pomona.__all__)
    assert all(getattr(pomona, name) is not None for name in pomona.__all__)
    # Without `import *`, which must not fail if PySpark is missing.
    assert dir(pomona) == sorted([*pomona.__all__, "ImageFeaturizer"])


@pytest.mark.parametrize("package", ["pomona", "pomona.spark"])
def test_no_module_hides_a_public_name_of_its_package(package: str) -> None:
    # Importing `pomona.spark.x` sets the attribute `x` of `pomona.spark`.
    exported = import_module(package)
    hidden = {module.name for module in iter_modules(exported.__path__)} & set(exported.__all__)
    assert hidden <= {"spark", "sklearn"}  # public modules


def test_a_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute.*harvest"):
        _ = pomona.harvest  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["pomona", "pomona.errors", "pomona.source.labels"])
def test_importing_pomona_loads_no_heavy_library(module: str) -> None:
    script = f"import sys, {module}; print(*(m for m in {HEAVY} if m in sys.modules))"
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert completed.stdout.split() == []


@pytest.mark.parametrize(
    "module", ["pomona.cli.main", "pomona.worker.featurize", "pomona.local.run"]
)
def test_other_modules_import_neither_keras_nor_openvino_nor_spark(module: str) -> None:
    heavy = ("keras", "openvino", "pyspark", "tensorflow")
    script = f"import sys, {module}; print(*(m for m in {heavy} if m in sys.modules))"
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert completed.stdout.split() == []


def test_the_changelog_has_an_entry_for_this_version() -> None:
    assert f"## [{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_a_wheel_contains_every_file_of_the_package(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    (built,) = wheel.WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path))
    source = REPOSITORY / "src"
    files = {str(f.relative_to(source)) for f in source.rglob("pomona/**/*") if f.is_file()}
    with zipfile.ZipFile(built) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in files if "__pycache__" not in name}
    assert "pomona/analysis/report/templates/page.html" in packed


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(name for extra in extras for name in extra)]
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert {w.partition(">")[0].partition("[")[0].lower() for w in required} <= pinned


def test_the_oldest_constraints_pin_the_minimum_of_every_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # make test-spark-3.5, make test-torch, make test-servers
    tried_elsewhere = {"spark", "connect", "torch", "savedmodel"}
    required = list(project["dependencies"])
    required += [line for name in extras.keys() - tried_elsewhere for line in extras[name]]
    lines = (REPOSITORY / "constraints-oldest.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line)
    for line in required:
        name, _, minimum = line.partition(">=")
        version = pinned[name.partition("[")[0].lower()].split(".")
        parts = minimum.partition(",")[0].split(".")
        assert version[: len(parts)] == parts, line
        assert not any(map(int, version[len(parts) :])), line
