"""Making or using vectors of the drawn weights warns once, in one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import pomona
from conftest import draw_tree
from pomona.cli.main import main
from pomona.encoder.encoder import Encoder

LINE = "pomona: warning: these features come from --weights drawn"


@pytest.fixture(scope="module")
def drawn_table(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that records the drawn weights; its network is a fast one."""
    folder = tmp_path_factory.mktemp("drawn")
    replace(encoder, weights="drawn").save(folder / "drawn.encoder")
    draw_tree(folder / "photos")
    with pytest.warns(pomona.DrawnWeightsWarning):
        pomona.extract(
            folder / "photos",
            folder / "table",
            encoder=folder / "drawn.encoder",
            engine=pomona.LocalEngine(workers=2),
        )
    return folder / "table"


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit):
        main([str(each) for each in arguments])
    return capfd.readouterr().err


COMMANDS = {
    "inspect": "inspect {table}",
    "search": "search {table} {image} -k 2",
    "search for a new image": "search {table} {new} -k 2 --encoder {encoder}",
    "duplicates": "duplicates {table}",
    "project": "project {table} -o {out} -k 2",
    "report": "report {table} -o {out}.html",
    "train": "train {table} -o {out}.classifier",
    "extract again": "extract {photos} {table} --encoder {encoder}",
    "extract": "extract {photos} {out} --encoder {encoder} --workers 2",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_warns_once_in_one_line(
    command: str, drawn_table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = drawn_table.parent / "photos"
    image = sorted(photos.rglob("*.png"))[0]
    new = tmp_path / "new.png"
    new.write_bytes(image.read_bytes() + b"\0")
    words = COMMANDS[command].format(
        table=drawn_table,
        photos=photos,
        image=image,
        new=new,
        encoder=drawn_table.parent / "drawn.encoder",
        out=tmp_path / "out",
    )
    result = run(capfd, *words.split())
    assert result.count(LINE) == 1, result
    (line,) = [each for each in result.splitlines() if LINE in each]
    assert "for real work use --weights imagenet" in line


def test_encoder_build_and_classify_warn(
    tmp_path: Path, drawn_table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build = ("encoder", "build", "mobilenet_v2", "--weights", "drawn", "-o", tmp_path / "a")
    assert run(capfd, *build).count(LINE) == 1
    run(capfd, "train", drawn_table, "-o", tmp_path / "c")
    assert run(capfd, "classify", tmp_path / "c", drawn_table).count(LINE) == 1


def test_python_warns_with_its_own_category(drawn_table: Path) -> None:
    with pytest.warns(pomona.DrawnWeightsWarning, match="for trying Pomona"):
        pomona.read_features(drawn_table)
    script = (
        "import sys, warnings, pomona\n"
        "warnings.simplefilter('ignore', pomona.DrawnWeightsWarning)\n"
        "pomona.read_features(sys.argv[1])\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script, drawn_table], capture_output=True, text=True, check=True
    )
    assert completed.stderr == ""


def test_other_weights_do_not_warn(
    encoder_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = draw_tree(tmp_path / "photos")
    command = ("extract", photos, tmp_path / "table", "--encoder", encoder_file)
    assert "warning:" not in run(capfd, *command)
    assert "warning:" not in run(capfd, "inspect", tmp_path / "table")
