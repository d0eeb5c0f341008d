from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import drawn
import tables
from command_line import run
from pomona.encoder.encoder import Encoder
from pomona.extras import is_installed


@pytest.fixture(autouse=True)
def _built(encoder: Encoder) -> None:
    """Put the encoder of `--weights untrained:7` into the cache."""


def extract(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return run(capfd, "extract", *arguments, "--weights", "untrained:7")


def test_extract_ends_with_a_summary_and_the_next_command(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    code, out, err = extract(capfd, pictures, tmp_path / "t")
    assert code == 0
    assert "14 images in" in out
    assert "11 ok, 3 failed" in out
    assert "1 empty, 1 truncated, 1 unsupported" in out
    assert f"next: pomona inspect {tmp_path / 't'}" in out
    assert err == (
        "pomona: note: features of untrained weights mean little; use them only to try things out\n"
    )


def test_extract_json_is_one_object_on_stdout(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, encoder: Encoder
) -> None:
    _, out, _ = extract(capfd, pictures, tmp_path / "t", "--json", "--workers", "1")
    result = json.loads(out)
    assert {k: result[k] for k in ("files", "ok", "failed", "skipped", "model_loads")} == {
        "files": 14,
        "ok": 11,
        "failed": 3,
        "skipped": 0,
        "model_loads": 1,
    }
    assert result["encoder"] == encoder.fingerprint
    assert result["table"] == str(tmp_path / "t")
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0


def test_options_reach_the_job(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    extract(
        capfd, pictures, tmp_path / "t", "--label", r"regex:image (\d)", "--glob", "*.png",
        "--glob", "*.webp", "--max-pixels", "1250", "--decode", "fast",
    )  # fmt: skip
    rows = tables.rows(tmp_path / "t")
    assert {name.rpartition(".")[2] for name in rows} == {"png", "webp"}
    assert rows["image 1.png"]["label"] == "1"
    assert rows["image 1.png"]["status"] == "ok"
    assert rows["image 7.png"]["status"] == "too_large"


def test_overwrite_replaces_a_table(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    extract(capfd, pictures, tmp_path / "t")
    shutil.rmtree(pictures / "kind=bad")
    extract(capfd, pictures, tmp_path / "t", "--overwrite")
    assert len(tables.rows(tmp_path / "t")) == 10


def test_an_encoder_is_built_shown_and_used(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, encoder: Encoder
) -> None:
    file = tmp_path / "fruit.encoder"
    code, built, _ = run(
        capfd, "encoder", "build", "mobilenet_v2", "--weights", "untrained:7", "-o", file
    )
    assert code == 0
    assert encoder.fingerprint in built
    assert "pixels: resize to 224 (bicubic) -> /127.5 - 1\n" in built
    _, shown, _ = run(capfd, "encoder", "show", file)
    assert shown == built
    _, as_json, _ = run(capfd, "encoder", "show", file, "--json")
    assert json.loads(as_json) == encoder.provenance()
    run(capfd, "extract", pictures, tmp_path / "t", "--encoder", file)
    extract(capfd, pictures, tmp_path / "t2")
    assert tables.read(tmp_path / "t").equals(tables.read(tmp_path / "t2"))


BAD_USE = [
    (["extract", "{src}", "{tmp}/t", "--encoder", "{tmp}/no.encoder"], "cannot read the encoder"),
    (["extract", "{src}", "{tmp}/t", "--encoder", "{src}/notes.txt"], "not a Pomona encoder"),
    (["extract", "{src}", "{tmp}/t", "--encoder", "x", "--model", "y"], "leave --model"),
    (
        ["extract", "{src}", "{tmp}/t", "--encoder", "x", "--precision", "bf16"],
        "leave --precision out",
    ),
    (["extract", "{src}", "{tmp}/t", "--precision", "int8"], "--calibrate IMAGES -o FILE"),
    (["extract", "{src}", "{tmp}/t", "--precision", "f16"], "is not one of"),
    (["encoder", "build", "mobilenet_v2", "--precision", "int8", "-o", "{tmp}/x"], "--calibrate"),
    (["encoder", "build", "mobilenet_v2", "--calibrate", "{src}", "-o", "{tmp}/x"], "choose int8"),
    (
        ["encoder", "convert", "{src}/notes.txt", "--precision", "bf16", "-o", "{tmp}/x"],
        "not a Pomona encoder",
    ),
    (["encoder", "show", "{src}/notes.txt"], "not a Pomona encoder"),
    (["encoder", "build", "mobilenet_v2", "--weights", "untrained:7", "-o", "/proc/x"], "cannot"),
    (["encoder", "build", "no_such", "-o", "{tmp}/none/x"], "there is no folder"),
    (["encoder", "build", "no_such", "-o", "{src}"], "is a folder: give a file's name"),
    (["encoder", "build", "no_such", "-o", "/dev/null"], "a device or a pipe"),
    (
        ["encoder", "build", "{src}/notes.txt", "-o", "{src}/notes.txt"],
        ": change the name",
    ),
    pytest.param(
        ["extract", "{src}", "{tmp}/t", "--master", "loc"],
        "invalid --master 'loc': expected local[N]",
        marks=pytest.mark.skipif(not is_installed("pyspark"), reason="--master needs PySpark"),
    ),
    (["extract", "{tmp}/nowhere", "{tmp}/t"], "does not exist"),
    (["extract", "{tmp}/void", "{tmp}/t"], "has no images"),
    (["extract", "{src}", "{tmp}/t", "--weights", "{tmp}/no.h5"], "cannot read weights"),
    (["extract", "{src}", "{tmp}/t", "--weights", "{src}/notes.txt"], "cannot read weights"),
    (["extract", "{src}", "{tmp}/t", "--model", "mobilenet_v9"], "did you mean mobilenet_v2"),
    (["extract", "{src}", "{tmp}/t", "--label", "folder"], "expected parent, none"),
    (["extract", "{src}", "{src}"], "not a feature table"),
    (["extract", "{src}", "{src}/notes.txt"], "is a file"),
    (["extract", "{src}", "{src}", "--overwrite"], "not a feature table"),
    (["extract", "viewfs://name/x", "{tmp}/t"], "add --master"),
    (["extract", "{src}", "{tmp}/t", "--master", "local", "--workers", "2"], "embedded engine"),
    (["extract", "{src}", "{tmp}/t", "--wave-files", "9"], "is for Spark"),
    (["extract", "{src}", "{tmp}/t", "--delivery", "file"], "is for Spark"),
    (["extract", "{src}"], "Missing argument 'TABLE'"),
    (["extract", "{src}", "{tmp}/t", "--workers", "0"], "not in the range"),
    (["extract", "{src}", "{tmp}/t", "--speed", "9"], "No such option"),
    (["inspect", "{src}"], "not a feature table"),
    (["inspect", "{tmp}/nowhere"], "not a feature table"),
    (["models", "resnet_9000"], "unknown model"),
    (["harvest"], "No such command"),
]


@pytest.mark.parametrize(("arguments", "why"), BAD_USE)
def test_invalid_use_is_one_line_with_exit_code_2_and_writes_nothing(
    capfd: pytest.CaptureFixture[str],
    pictures: Path,
    tmp_path: Path,
    arguments: list[str],
    why: str,
) -> None:
    (tmp_path / "void").mkdir()
    before = sorted(tmp_path.rglob("*"))
    filled = [argument.format(src=pictures, tmp=tmp_path) for argument in arguments]
    code, out, err = run(capfd, *filled)
    asides = ("the first time only", "mean little")
    lines = [line for line in err.splitlines() if not any(aside in line for aside in asides)]
    assert (code, out, len(lines)) == (2, "", 1)
    assert why in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("extract a", "Missing argument 'TABLE' (see pomona extract --help)"),
        (
            "extract a b --workers",
            "Option '--workers' requires an argument (see pomona extract --help)",
        ),
        (
            "encoder build m -o",
            "Option '-o' requires an argument (see pomona encoder build --help)",
        ),
        ("train t --test-share 9", "is not in the range 0<=x<=0.9 (see pomona train --help)"),
        ("models a --trst", "(see pomona models --help)"),
        ("encoder nope", "No such command 'nope' (see pomona encoder --help)"),
    ],
)
def test_a_click_error_names_its_command_and_has_no_inner_full_stop(
    capfd: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    code, _, err = run(capfd, *arguments.split())
    assert code == 2
    assert err.endswith(f"{message}\n")
    assert ". (" not in err


def test_without_java_the_error_says_what_to_install(
    capfd: pytest.CaptureFixture[str],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    code, _, err = extract(capfd, pictures, tmp_path / "t", "--master", "local[1]")
    assert code == 2
    assert "needs Java 17 or later: install" in err.splitlines()[-1]
    assert not (tmp_path / "t").exists()


def test_inspect_shows_counts_check_provenance_and_rows(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, encoder: Encoder
) -> None:
    extract(capfd, pictures, tmp_path / "t")
    code, out, err = run(capfd, "inspect", tmp_path / "t")
    assert (code, err) == (0, "")
    assert "14 rows, 11 ok, 3 failed" in out
    assert "11 of the right length, without NaN, not all zero" in out
    for text in ("Apple Red 1", "Poire d'été", "truncated", encoder.fingerprint, "untrained:7"):
        assert text in out


def test_inspect_json_has_the_same_content(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, encoder: Encoder
) -> None:
    extract(capfd, pictures, tmp_path / "t", "--label", "none")
    _, out, _ = run(capfd, "inspect", tmp_path / "t", "--json", "--rows", "2")
    result = json.loads(out)
    assert result["rows"] == 14
    assert result["statuses"] == {"ok": 11, "empty": 1, "truncated": 1, "unsupported": 1}
    assert (result["labels"], result["unlabelled"]) == ({}, 14)
    assert result["check"]["passed"] is True
    assert result["check"]["dimension"] == 1280
    assert result["provenance"] == {**encoder.provenance(), "decode": "exact"}
    assert len(result["first_rows"]) == 2


def test_models_lists_and_shows(capfd: pytest.CaptureFixture[str]) -> None:
    _, listed, _ = run(capfd, "models")
    assert "mobilenet_v2" in listed
    assert "2,257,984" in listed
    _, shown, _ = run(capfd, "models", "mobilenet_v2")
    assert "112 x 112 x 32" in shown
    assert "global_average_pooling2d" in shown
    assert "127.5" in shown
    _, as_json, _ = run(capfd, "models", "mobilenet_v2", "--json")
    assert json.loads(as_json)["parameters"] == 2_257_984


def test_every_command_has_help_with_an_example(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("extract", "inspect", "models", "encoder build", "encoder show"):
        code, out, _ = run(capfd, *name.split(), "--help")
        assert code == 0
        assert f"Example: pomona {name}" in out


def test_running_without_a_command_shows_help(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd)
    assert code == 2
    assert "Usage: pomona" in err + out


def test_a_closed_pipe_ends_the_program_silently(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    extract(capfd, pictures, tmp_path / "t")
    command = f"{sys.executable} -m pomona inspect {tmp_path / 't'} --json | head -c 1"
    completed = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, check=False
    )
    assert completed.returncode in (0, 141)  # 0 if the pipe took all output
    assert completed.stderr == b""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_a_run_completes_if_its_caller_has_closed_the_streams(
    pictures: Path, tmp_path: Path, closed: str
) -> None:
    command = (
        f"{sys.executable} -m pomona extract {pictures} {tmp_path / 't'} --weights untrained:7"
    )
    completed = subprocess.run(["bash", "-c", f"exec {command} --json {closed}"], check=False)
    assert completed.returncode == 0
    assert len(tables.rows(tmp_path / "t")) == 14


def test_names_are_shown_as_far_as_the_terminal_can_encode_them(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    extract(capfd, pictures, tmp_path / "t")
    completed = subprocess.run(
        [sys.executable, "-m", "pomona", "inspect", str(tmp_path / "t")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"Poire d'\\xe9t\\xe9" in completed.stdout


def test_a_file_name_sends_no_control_sequences_to_a_terminal(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hostile = tmp_path / "in" / "\x1b[31mred\x07\nline"
    hostile.mkdir(parents=True)
    (hostile / "a\x1b.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    extract(capfd, tmp_path / "in", tmp_path / "t")
    _, out, _ = run(capfd, "inspect", tmp_path / "t")
    assert not set("\x1b\x07") & set(out)
    assert "?[31mred??line/a?.png" in out


def test_labels_that_match_no_image_are_reported(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    _, _, err = extract(capfd, pictures, tmp_path / "t", "--label", "regex:(elsewhere)")
    assert "note: no image has a label" in err
    _, _, err = extract(capfd, pictures, tmp_path / "t2", "--label", "none")
    assert "no image has a label" not in err


def test_signal_handlers_are_restored_after_a_command(
    capfd: pytest.CaptureFixture[str],
) -> None:
    numbers = (signal.SIGTERM, signal.SIGPIPE, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    run(capfd, "models")
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_module_runs_as_a_program() -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "pomona", "--version"], capture_output=True, text=True, check=True
    )
    assert completed.stdout.startswith("pomona 0.")


@pytest.mark.parametrize("option", ["--missing", "--gone=/x"])
def test_library_messages_name_options_on_the_command_line(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, option: str
) -> None:
    code, _, err = extract(capfd, pictures, tmp_path / "t", option)
    assert code == 2
    assert f"{option.partition('=')[0]} goes with --prune: " in err
