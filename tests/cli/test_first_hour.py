"""What a new user meets first: failed files by name, `~`, unquoted globs, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

import drawn
import pomona
import tables
from pomona.analysis.table_encoder import from_cache
from pomona.analysis.vectors import open_vectors
from pomona.building.cache import cached_by_fingerprint, keep
from pomona.cli.main import app, main
from pomona.cli.paths import as_file, as_path
from pomona.encoder.encoder import Encoder
from pomona.errors import SourceError
from pomona.messages import count_of
from pomona.table.differences import differences
from pomona.table.feature_table import FeatureTable


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return exit_info.value.code, out, err


@pytest.fixture
def encoder_file(encoder: Encoder, tmp_path: Path) -> Path:
    encoder.save(tmp_path / "e")
    return tmp_path / "e"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "photos").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "photos" / f"{name}.png").write_bytes(
            drawn.encode(drawn.picture(9, 9, ord(name)), "PNG")
        )
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


def many_failed(folder: Path, count: int) -> Path:
    failed = [(f"file:/p/{i:03}.jpg", "corrupt") for i in range(count)]
    return tables.write(folder, [[1.0, 2.0]], ["x"], failed=failed)


# Counts ------------------------------------------------------------------------------------------


def test_one_is_singular_and_all_other_numbers_are_plural() -> None:
    assert [count_of(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert count_of(1234, "class", "classes") == "1,234 classes"


def test_a_single_image_is_reported_in_the_singular(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    code, out, _ = run(capfd, "extract", home / "photos" / "a.png", "t", "--encoder", encoder_file)
    assert code == 0
    assert out.startswith("1 image in ")
    code, out, _ = run(capfd, "inspect", "t")
    assert out.startswith("t: 1 row, 1 ok, 0 failed\n")


def test_a_rate_of_one_is_reported_in_the_singular(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    _, out, _ = run(capfd, "extract", home / "photos", "t", "--encoder", encoder_file)
    rate = re.search(r"\(([\d,.]+) (images?)/s\)", out)
    assert rate, out
    assert rate[1] != "0"
    assert rate[2] == ("image" if rate[1] == "1" else "images")


def test_a_search_without_other_images_says_so(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tables.write(tmp_path / "t", [[1.0, 2.0]], ["x"])
    code, out, _ = run(capfd, "search", tmp_path / "t", "x/0.jpg")
    assert code == 0
    assert out == "x/0.jpg (x)\nno other image in the table has a vector\n"


def test_one_is_singular_in_reports_cards_and_errors(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = tables.write(tmp_path / "one", [[1.0]], ["x"])
    run(capfd, "report", one, "-o", tmp_path / "one.html", "--map", "pca")
    twins = tables.write(tmp_path / "twins", [[1.0, 0.0]] * 4 + [[0.0, 1.0]], [*"xxxxy"])
    run(capfd, "report", twins, "-o", tmp_path / "twins.html", "--map", "pca")
    pages = [(tmp_path / f"{name}.html").read_text() for name in ("one", "twins")]
    texts = [re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL) for page in pages]
    texts.append(pomona.read_features(one)._repr_html_())
    texts.append(open_vectors(FeatureTable(one))._repr_html_())
    texts += [run(capfd, "project", one, "-k", k, "-o", tmp_path / "p")[2] for k in (1, 9)]
    texts.append(run(capfd, "train", twins, "-o", tmp_path / "c")[2])
    plural = "images|files|rows|vectors|numbers|labels|pictures|classes|groups|suspected mislabels"
    assert len(texts) == 7
    for text in texts:
        assert re.search(r"\b1\s+[a-z]+", text), text
        assert re.findall(rf"(?<![\d.,])1\s+(?:{plural})\b", text) == []


# The terminal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bar", ["progress_bar", "steps_bar"])
def test_messages_are_printed_above_the_progress_bar(bar: str) -> None:
    script = f"from pomona.cli.progress import {bar}\nfrom pomona.cli.console import say\n"
    script += f"with {bar}():\n    say('words')"
    ours, theirs = os.openpty()
    subprocess.run(
        [sys.executable, "-c", script],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
        check=True,
    )
    os.close(theirs)
    output = b""
    with suppress(OSError):  # Linux reports the end this way
        while piece := os.read(ours, 65536):
            output += piece
    os.close(ours)
    assert b"starting" in output
    # The bar's line is erased before the message is written.
    assert b"\x1b[2Kpomona: words" in output


@pytest.mark.parametrize("before", ["pomona", "pomona encoder", "pomona extract"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_works_for_an_empty_command_line(shell: str, before: str) -> None:
    words = {
        "COMP_WORDS": f"{before} ",
        # fish passes the current word, the other shells its position
        "COMP_CWORD": "" if shell == "fish" else str(len(before.split())),
    }
    completed = subprocess.run(
        [sys.executable, "-c", "from pomona.cli.main import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **words, "_POMONA_COMPLETE": f"{shell}_complete"},
    )
    assert completed.stderr == ""
    expected = {"pomona": "extract", "pomona encoder": "build", "pomona extract": ""}[before]
    assert expected in completed.stdout


# Failed files ------------------------------------------------------------------------------------


def test_extract_names_up_to_five_failed_files_with_reasons(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    for number in range(7):
        (home / "photos" / f"{number}.jpg").write_bytes(b"")
    code, out, _ = run(capfd, "extract", "photos", "t", "--encoder", encoder_file)
    assert code == 0
    lines = out.splitlines()
    named = [line for line in lines if line.endswith("the file is empty: 0 bytes")]
    assert len(named) == 5
    assert all(line.startswith("  file:") and ".jpg: " in line for line in named)
    assert "  2 more: pomona inspect t --failed" in lines


def test_extract_names_the_files_that_failed_in_this_run(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    (home / "photos" / "old.jpg").write_bytes(b"")
    run(capfd, "extract", "photos", "t", "--encoder", encoder_file)
    (home / "photos" / "new.jpg").write_bytes(b"no image")
    _, out, _ = run(capfd, "extract", "photos", "t", "--encoder", encoder_file, "--json")
    (failed,) = json.loads(out)["failed_files"]
    assert failed["path"].endswith("/new.jpg")
    assert failed["status"] == "unsupported"
    assert failed["error"]


def test_inspect_lists_all_failed_files(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = many_failed(tmp_path / "t", 30)
    expected = [[f"file:/p/{i:03}.jpg", "corrupt", "drawn as corrupt"] for i in range(30)]
    code, out, _ = run(capfd, "inspect", table, "--failed", "--csv")
    assert code == 0
    assert list(csv.reader(io.StringIO(out))) == [["path", "status", "error"], *expected]
    _, out, _ = run(capfd, "inspect", table, "--failed", "--json")
    assert [list(row.values()) for row in json.loads(out)] == expected
    _, out, _ = run(capfd, "inspect", table, "--failed")
    assert out.count("corrupt: file:/p/") == 30
    _, out, _ = run(capfd, "inspect", table)
    assert out.count("corrupt: file:/p/") == 5
    assert f"... 25 more: pomona inspect {table} --failed" in out


def test_csv_of_a_table_without_failures_has_only_a_header(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = many_failed(tmp_path / "t", 0)
    assert run(capfd, "inspect", table, "--failed", "--csv")[:2] == (0, "path,status,error\n")


def test_csv_requires_the_failed_option(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capfd, "inspect", many_failed(tmp_path / "t", 1), "--csv")
    assert code == 2
    assert "add --failed" in err


def test_inspect_shows_counts_first_and_provenance_last(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, out, _ = run(capfd, "inspect", many_failed(tmp_path / "t", 2))
    expected = [" 1 ok, 2 failed", "dimension:", "classes:", "corrupt: file", "label", "provenance"]
    places = [out.index(text) for text in expected]
    assert places == sorted(places)


# Exit codes --------------------------------------------------------------------------------------


def test_a_single_image_that_fails_exits_with_3(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    (home / "bad.jpg").write_bytes(b"no image")
    code, out, _ = run(capfd, "extract", "bad.jpg", "t", "--encoder", encoder_file)
    assert code == 3
    assert "bad.jpg: " in out
    assert len(tables.rows(home / "t")) == 1


def test_one_failed_image_and_one_good_image_exit_with_0(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    (home / "photos" / "bad.jpg").write_bytes(b"no image")
    assert run(capfd, "extract", "photos", "t", "--encoder", encoder_file)[0] == 0
    (home / "photos" / "worse.jpg").write_bytes(b"no image either")
    assert run(capfd, "extract", "photos", "t", "--encoder", encoder_file)[0] == 0


def test_a_run_with_nothing_to_do_says_so(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    run(capfd, "extract", home / "photos", "t", "--encoder", encoder_file)
    for options in ([], ["--dry-run"]):
        code, out, _ = run(capfd, "extract", "photos", "t", "--encoder", encoder_file, *options)
        assert code == 0
        assert out.startswith("nothing to do: 2 images already done\n")


def test_reused_images_count_neither_as_nothing_to_do_nor_as_failures(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    run(capfd, "extract", "photos", "t", "--encoder", encoder_file)
    (home / "photos").rename(home / "pictures")
    _, out, _ = run(capfd, "extract", "pictures", "t", "--encoder", encoder_file, "--dry-run")
    assert out.startswith("would do 0 images; 0 already done\nwould be taken over: 2 ")
    _, out, _ = run(capfd, "extract", "pictures", "t", "--encoder", encoder_file)
    assert "nothing to do" not in out
    assert "\ntaken over: 2 " in out
    (home / "pictures").rename(home / "images")
    (home / "images" / "bad.jpg").write_bytes(b"no image")
    code, out, _ = run(capfd, "extract", "images", "t", "--encoder", encoder_file)
    assert "0 ok, 1 failed" in out
    assert code == 0  # two images of SOURCE have a vector


# Paths -------------------------------------------------------------------------------------------


def _commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, *names, name)
        else:
            yield (*names, name), command


def _empty_paths() -> Iterator[Any]:
    """Yield command lines that pass '' for one path argument or option."""
    for names, command in _commands(app):
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        for each in command.params:
            if getattr(each.type, "func", None) not in {as_path, as_file}:
                continue
            if isinstance(each, click.Argument):
                values = ["" if each is argument else "x" for argument in arguments]
            else:
                values = [each.opts[-1], "", *("x" for _ in arguments)]
            name = each.human_readable_name if isinstance(each, click.Argument) else each.opts[-1]
            yield pytest.param([*names, *values], name, id=" ".join([*names, name]))


@pytest.mark.parametrize(("arguments", "name"), list(_empty_paths()))
def test_an_empty_path_gives_one_line_that_names_the_argument(
    capfd: pytest.CaptureFixture[str], arguments: list[str], name: str
) -> None:
    code, out, err = run(capfd, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert name in err
    assert "'' is not a path: expected the name of a file or folder (see pomona " in err


def _advised(text: str) -> list[str]:
    """The arguments of the last `pomona ...` command in a text."""
    return shlex.split(text.splitlines()[-1].rpartition(": pomona ")[2])


@pytest.mark.parametrize("table", ["-t", "--json", "a b's"])
def test_suggested_commands_work_for_any_table_name(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path, table: str
) -> None:
    (home / "photos" / "empty.png").touch()
    code, out, _ = run(capfd, "extract", "--encoder", encoder_file, "--", "photos", table)
    assert code == 0
    code, out, err = run(capfd, *_advised(out))
    assert (code, err) == (0, "")
    assert f"{table}: 3 rows, 2 ok, 1 failed" in out
    for n in range(30):
        (home / "photos" / f"empty {n}.png").touch()
    _, out, _ = run(capfd, "extract", "--encoder", encoder_file, "--", "photos", table)
    (more,) = [line for line in out.splitlines() if " more: pomona " in line]
    code, out, err = run(capfd, *_advised(more))
    assert (code, err) == (0, "")
    assert "empty 29.png" in out


@pytest.mark.parametrize("name", ["-c", "--help"])
def test_the_suggested_classify_command_works_for_any_classifier_name(
    capfd: pytest.CaptureFixture[str], home: Path, name: str
) -> None:
    tables.write(home / "t", [[1.0, 2.0], [1.0, 3.0], [5.0, 1.0], [5.0, 2.0]], list("aabb"))
    code, out, _ = run(capfd, "train", "t", f"--output={name}", "--test-share", "0")
    assert code == 0
    *command, images = _advised(out)
    assert images == "IMAGES"
    assert run(capfd, *command, "t")[0] == 0


def test_python_names_an_empty_source_too(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="^'' does not exist: give a folder"):
        pomona.extract("", tmp_path / "t", encoder=encoder)


def test_a_quoted_tilde_is_expanded_in_arguments_and_options(
    capfd: pytest.CaptureFixture[str], home: Path, encoder: Encoder
) -> None:
    encoder.save(home / "e")
    (home / "labels.csv").write_text("path,label\na.png,first\nb.png,second\n")
    options = ("--encoder=~/e", "--label", "csv:~/labels.csv")
    assert run(capfd, "extract", "~/photos", "~/t", *options)[0] == 0
    assert {row["label"] for row in tables.rows(home / "t").values()} == {"first", "second"}
    assert run(capfd, "extract", "~/photos/*.png", "~/t2", "--encoder", "~/e")[0] == 0
    assert run(capfd, "inspect", "~/t")[0] == 0
    assert run(capfd, "search", "~/t", "a.png", "--sheet", "~/s.png")[0] == 0
    assert (home / "s.png").exists()
    assert run(capfd, "report", "~/t", "--map", "pca", "-o", "~/r.html")[0] == 0
    assert (home / "r.html").exists()
    assert run(capfd, "project", "~/t", "-k", 1, "-o", "~/small")[0] == 0
    assert (home / "small").is_dir()
    assert run(capfd, "encoder", "show", "~/e")[0] == 0
    assert not (home / "~").exists()


def test_python_paths_may_begin_with_a_tilde(home: Path, encoder: Encoder) -> None:
    pomona.extract("~/photos", "~/t", encoder=encoder)
    assert len(pomona.read_features("~/t").labels) == 2
    assert not (home / "~").exists()


@pytest.mark.parametrize("command", ["extract", "classify"])
@pytest.mark.parametrize(
    "glob", ["photos/*.png", "photos/*", "*/?/*.png", "*/[ab]/*.png", "./photos/*"]
)
def test_a_glob_expanded_by_the_shell_gets_the_advice_to_quote_it(
    home: Path, command: str, glob: str
) -> None:
    (home / "features").mkdir()
    (home / "some.classifier").touch()
    for copy in ("photos/c.png", "photos/a/1.png", "photos/a/2.png", "photos/b/1.png"):
        (home / copy).parent.mkdir(exist_ok=True)
        shutil.copy(home / "photos" / "a.png", home / copy)
    line = f"{sys.executable} -m pomona {command} {glob} features/"
    if command == "classify":
        line = f"{sys.executable} -m pomona classify some.classifier {glob}"
    completed = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert completed.returncode == 2
    suggested = {"*/?/*.png": "photos/*/*.png", "*/[ab]/*.png": "photos/*/*.png"}.get(glob, glob)
    assert f"quote it: '{suggested.removeprefix('./')}'" in completed.stderr
    assert completed.stderr.count("\n") == 1


# Encoders ----------------------------------------------------------------------------------------


def test_search_and_classify_find_the_encoder_in_the_cache(
    capfd: pytest.CaptureFixture[str],
    home: Path,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights come from a file whose name alone the table records, so it cannot be rebuilt."""
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    own = replace(encoder, weights="fruit.weights.h5", weights_sha256="5" * 64)
    table = tmp_path / "t"
    pomona.extract(home / "photos", table, encoder=own)
    new = home / "new.png"
    new.write_bytes(drawn.encode(drawn.picture(9, 9, 77), "PNG"))
    code, out, err = run(capfd, "search", table, new)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "not in this machine's cache" in err
    assert "--encoder" in err
    keep(own)
    code, out, _ = run(capfd, "search", table, new)
    assert code == 0
    assert "a.png" in out
    assert from_cache(FeatureTable(table).provenance()) is not None


def test_a_built_encoder_is_found_by_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Encoder
) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    assert cached_by_fingerprint(encoder.fingerprint) is None
    keep(encoder, "request.encoder")
    assert cached_by_fingerprint(encoder.fingerprint) == encoder
    for path in (tmp_path / "encoders").glob("made-*"):
        path.unlink()  # as in the cache of an earlier version
    assert cached_by_fingerprint(encoder.fingerprint) == encoder
    (tmp_path / "encoders" / "request.encoder").write_bytes(b"damaged")
    assert cached_by_fingerprint(encoder.fingerprint) is None
    assert cached_by_fingerprint("../../x") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet50"}, "network: model mobilenet_v2 and resnet50"),
        ({"weights": "imagenet"}, "weights: untrained:7 and imagenet"),
        ({"weights_sha256": "b" * 64}, f"weights: weights sha256 {'a' * 12} and {'b' * 12}"),
        ({"resize": "bilinear, squash"}, "preprocessing: resize bicubic and bilinear, squash"),
        ({"precision": "bf16"}, "precision: f32 and bf16"),
        ({"output": "conv_1"}, "layer: output pool and conv_1"),
        ({"runtime": "onnxruntime"}, "runtime: openvino and onnxruntime"),
        ({"fingerprint": "2" * 64}, f"fingerprint: {'1' * 12} and {'2' * 12}"),
        ({"weights": "x", "precision": "bf16"}, "weights: untrained:7 and x; precision: f32 and"),
    ],
)
def test_the_difference_between_two_encoders_is_named(change: dict[str, str], message: str) -> None:
    known = {
        "fingerprint": "1" * 64,
        "model": "mobilenet_v2",
        "weights": "untrained:7",
        "weights_sha256": "a" * 64,
        "resize": "bicubic",
        "output": "pool",
    }
    assert message in differences(known, known | change)


def test_the_error_for_a_table_of_another_encoder_names_the_difference(
    capfd: pytest.CaptureFixture[str], home: Path, encoder: Encoder, encoder_file: Path
) -> None:
    other = replace(encoder, weights="untrained:8", weights_sha256="8" * 64)
    pomona.extract(home / "photos", home / "t", encoder=other)
    code, _, err = run(capfd, "extract", home / "photos", home / "t", "--encoder", encoder_file)
    assert code == 2
    assert "differ in weights: untrained:8 and untrained:7" in err


@pytest.mark.parametrize("command", ["inspect", "check", "duplicates", "report"])
def test_an_existing_file_is_not_reported_as_missing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "notes.txt").write_text("no table")
    code, _, err = run(capfd, command, tmp_path / "notes.txt")
    assert code == 2
    assert "it is a file, expected a folder" in err


def test_a_file_in_place_of_a_folder_is_reported_neither_as_missing_nor_as_forbidden(
    capfd: pytest.CaptureFixture[str], home: Path, encoder_file: Path
) -> None:
    file = home / "notes.txt"
    file.write_text("no folder")
    words = ["extract", home / "photos", file / "t", "--encoder", encoder_file]
    code, _, err = run(capfd, *words)
    assert (code, f"{file / 't'} would be below {file}, which is a file" in err) == (2, True)
    code, _, err = run(
        capfd, "encoder", "convert", encoder_file, "-o", file / "x", "--precision", "bf16"
    )
    assert (code, f"{file} is a file, expected a folder" in err) == (2, True)


def test_a_folder_in_place_of_an_encoder_is_reported_with_the_expected_kind(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    _, _, err = run(capfd, "extract", home / "photos", home / "t", "--encoder", home / "photos")
    assert "give the file that 'pomona encoder build' wrote" in err


def test_a_folder_given_as_weights_or_classifier_is_not_reported_as_missing(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    _, _, err = run(capfd, "extract", home / "photos", home / "t", "--weights", home / "photos")
    assert "it is a folder" in err
    _, _, err = run(capfd, "classify", home / "photos", home / "photos")
    assert "give the file that 'pomona train' wrote" in err
