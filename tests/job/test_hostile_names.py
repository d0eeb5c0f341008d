"""File names that break programs: each file gets exactly one row with its own label."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder

PICTURE = drawn.encode(drawn.picture(9, 7), "PNG")
HOSTILE_NAMES = [
    b"new\nline",
    b"carriage\rreturn",
    b"tab\tand\x01control",
    b"\"double\" and 'single'",
    b"back\\slash",
    "\N{RED APPLE}\N{ZERO WIDTH JOINER}\N{GRINNING FACE}".encode(),
    b"100%20%41%",
    b"caf\xe9",  # Latin-1, not valid UTF-8
    b"\xff\xfe\x80",
    "e\u0301 and \u00e9".encode(),  # the same letter in two encodings
    "\u202eright to left".encode(),
    b"x" * 246,  # 250 with its extension; Linux allows 255
    "é".encode() * 123,
    b"a?b#c&d=e;f",
    b"[1] {a,b} *",
    b"~",
    b"-rf",
    b"kind=value",
    b" blanks ",
    b"file:",
    b"s3a:",
    b"$(touch evil) `id` ${HOME}",
]


def as_label(name: bytes) -> str:
    """A label as the table stores it: each byte that is not UTF-8 becomes %XX."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def uri(*parts: str | bytes) -> str:
    """A path as the table stores it: escaped, and with a different prefix, if it is not UTF-8."""
    path = b"/".join(map(os.fsencode, parts))
    try:
        return f"file:{path.decode()}"
    except UnicodeDecodeError:
        return f"file://{as_label(path.replace(b'%', b'%25'))}"


def write(root: Path, *parts: bytes) -> None:
    path = os.path.join(os.fsencode(root), *parts)  # noqa: PTH118 - pathlib takes no bytes
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(PICTURE)


def labels_by_path(table: Path) -> Counter[tuple[str, str | None]]:
    """How often the table contains each path, with its label; all rows must be good."""
    rows = tables.read(table).to_pylist()
    assert {row["status"] for row in rows} == {"ok"}, [row["error"] for row in rows]
    return Counter((row["path"], row["label"]) for row in rows)


def test_every_hostile_name_of_a_file_or_folder_gets_a_row(
    encoder: Encoder, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    expected = Counter()
    for name in HOSTILE_NAMES:
        write(source, name, name + b".png")
        expected[uri(str(source), name, name + b".png"), as_label(name)] = 1
    summary = pomona.extract(
        source, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    assert (summary.ok, summary.failed) == (len(HOSTILE_NAMES), 0)
    assert labels_by_path(tmp_path / "t") == expected
    assert sorted(os.listdir(tmp_path)) == ["source", "t"]  # noqa: PTH208


def test_a_second_run_skips_every_hostile_name(encoder: Encoder, tmp_path: Path) -> None:
    for name in HOSTILE_NAMES:
        write(tmp_path / "source", name, name + b".png")
    pomona.extract(
        tmp_path / "source", tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    summary = pomona.extract(
        tmp_path / "source", tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    assert (summary.skipped, summary.ok) == (len(HOSTILE_NAMES), 0)
    assert sum(labels_by_path(tmp_path / "t").values()) == len(HOSTILE_NAMES)


@pytest.mark.parametrize("name", ["run:2", "hdfs:x", "C:x/t", "jar:file:/x", " hdfs:/x"])
def test_a_relative_table_path_with_a_colon_is_a_folder(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    for seed in (1, 2):  # the second run adds a part file
        picture = drawn.picture(seed=seed)
        (tmp_path / "source" / f"{seed}.png").write_bytes(drawn.encode(picture, "PNG"))
        summary = pomona.extract(
            "source", name, encoder=encoder, engine=pomona.LocalEngine(workers=1)
        )
        assert (summary.ok, summary.failed) == (1, 0)
    summary = pomona.extract(
        "source", name, encoder=encoder, label="none", engine=pomona.LocalEngine(workers=1)
    )
    assert summary.changes.relabelled == 2  # their part files are rewritten
    assert list(pomona.read_features(name).labels) == [None, None]
    assert tables.read(tmp_path / name).num_rows == 2


ANY_NAME = st.binary(min_size=1, max_size=40).map(
    lambda name: b"n" + name.replace(b"/", b"").replace(b"\0", b"")
)


@settings(max_examples=6)
@given(st.lists(st.tuples(ANY_NAME, ANY_NAME), min_size=1, max_size=20, unique_by=lambda n: n))
def test_any_names_get_one_row_each(encoder: Encoder, names: list[tuple[bytes, bytes]]) -> None:
    root = Path(tempfile.mkdtemp(prefix="names-"))
    try:
        for folder, name in names:
            write(root / "source", folder, name + b".png")
        pomona.extract(
            root / "source", root / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
        )
        assert labels_by_path(root / "t") == Counter(
            (uri(f"{root}/source", folder, name + b".png"), as_label(folder))
            for folder, name in names
        )
    finally:
        shutil.rmtree(root)


def test_circular_links_end_and_links_out_of_the_source_are_followed(
    encoder: Encoder, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    write(source, b"a", b"one.png")
    write(tmp_path / "elsewhere", b"two.png")
    (source / "a" / "round").symlink_to(source)
    (source / "self.png").symlink_to(source / "self.png")
    (source / "b").symlink_to(tmp_path / "elsewhere")
    (source / "a" / "three.png").symlink_to(tmp_path / "elsewhere" / "two.png")
    summary = pomona.extract(
        source, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    rows = tables.read(tmp_path / "t").to_pylist()
    labels = {
        (row["path"].removeprefix(f"file:{source}/"), row["label"], row["status"]) for row in rows
    }
    assert labels == {
        ("a/one.png", "a", "ok"),
        ("a/three.png", "a", "ok"),
        ("b/two.png", "b", "ok"),
        ("self.png", "source", "unreadable"),
    }
    assert len(rows) == summary.files == 4
