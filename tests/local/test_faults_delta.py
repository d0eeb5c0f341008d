"""Kills of runs that write a Delta table, on the embedded engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

import drawn
import faults
import pomona
from delta_tables import by_deltalake
from pomona.encoder.encoder import Encoder
from pomona.errors import RunError
from pomona.table.delta_store import DeltaStore
from pomona.table.feature_table import FeatureTable
from pomona.table.writer import writing

pytest.importorskip("deltalake")

CHANGE = ["--label", "none", "--prune"]


def command(pictures: Path, table: Path, encoder_file: Path) -> list[str]:
    words = ["extract", str(pictures), str(table), "--encoder", str(encoder_file)]
    return [*faults.COMMAND, *words, "--format", "delta"]


def in_parts(rows: pa.Table, provenance: dict[str, str], folder: Path, parts: int) -> Path:
    """Write rows as a Delta table of some part files."""
    with writing(FeatureTable(folder, delta=True), provenance, overwrite=False) as table:
        for start in range(0, len(rows), -(-len(rows) // parts)):
            chunk = rows.slice(start, -(-len(rows) // parts))
            table.append_batches(chunk.to_batches(), provenance)
    return folder


def change_pictures(pictures: Path, count: int) -> None:
    """Change some pictures and delete others, so that a run replaces and deletes rows."""
    for n in range(0, count, 7):
        path = pictures / f"class {n % 3}" / f"picture {n}.png"
        if n % 2:
            path.unlink()
        else:
            path.write_bytes(drawn.encode(drawn.picture(24, 18, 1000 + n), "PNG"))
            os.utime(path, (1e9, 1e9))


def assert_one_row_each(table: Path, before: pa.Table, after: pa.Table) -> None:
    """Assert that each file that stays has one row, as before or after the change or without label.

    A changed file has no row between the deletion of the old one and the commit of the new one.
    """
    rows = by_deltalake(table).to_pylist()
    old = {row["path"]: row for row in before.to_pylist()}
    new = {row["path"]: row for row in after.to_pylist()}
    paths = [row["path"] for row in rows]
    assert len(paths) == len(set(paths))
    assert all(
        row in (old.get(row["path"]), new.get(row["path"]), {**old[row["path"]], "label": None})
        for row in rows
    )
    unchanged = {path for path, row in new.items() if row == {**old[path], "label": None}}
    assert unchanged <= set(paths)


@pytest.mark.long
def test_a_killed_run_loses_no_row(
    faulty_pictures: Path, tmp_path: Path, encoder: Encoder, encoder_file: Path
) -> None:
    correct = faults.expected_table(faulty_pictures, tmp_path / "right", encoder)
    for number, moment in enumerate(faults.moments(1, 12)):
        table = tmp_path / f"t{number}"
        words = command(faulty_pictures, table, encoder_file)
        faults.kill_at(
            moment, "parent that writes Delta", words, undo=lambda t=table: shutil.rmtree(t)
        )
        subprocess.run(words, capture_output=True, check=True)
        assert by_deltalake(table).equals(correct)


@pytest.mark.long
def test_a_kill_during_changes_neither_loses_nor_duplicates_rows(
    tmp_path: Path, encoder: Encoder, encoder_file: Path
) -> None:
    """The run relabels, replaces and deletes rows of 12 part files, and then merges these."""
    pictures = faults.draw(tmp_path / "pictures", 120)
    before = faults.expected_table(pictures, tmp_path / "before", encoder)
    provenance = FeatureTable(tmp_path / "before").provenance()
    change_pictures(pictures, 120)
    after = faults.expected_table(pictures, tmp_path / "after", encoder, label="none")
    for number, first in enumerate(faults.moments(2, 1.0)):
        table, moment, killed = tmp_path / f"t{number}", first, False
        words = [*command(pictures, table, encoder_file), *CHANGE]
        while not killed:
            shutil.rmtree(table, ignore_errors=True)
            in_parts(before, provenance, table, 12)
            with faults.running(words) as process:
                faults.wait_for(lambda t=table: list(t.glob("_staging-*")))
                try:
                    process.wait(moment)
                except subprocess.TimeoutExpired:
                    faults.kill(process.pid, "parent that changes a Delta table")
                    killed = True
            moment *= 0.7
        assert_one_row_each(table, before, after)
        subprocess.run(words, capture_output=True, check=True)
        assert by_deltalake(table).equals(after)


@pytest.mark.parametrize("moment", ["after a commit", "before the next commit"])
def test_runs_that_stop_after_one_commit_each_neither_lose_nor_duplicate_rows(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    pictures, table = faults.draw(tmp_path / "pictures", 24), tmp_path / "t"
    before = faults.expected_table(pictures, tmp_path / "before", encoder)
    provenance = FeatureTable(tmp_path / "before").provenance()
    in_parts(before, provenance, table, 3)
    change_pictures(pictures, 24)
    after = faults.expected_table(pictures, tmp_path / "after", encoder, label="none")
    real, commits = DeltaStore._commit, 0

    def commit(self: DeltaStore, old: list[str], new: list[str]) -> None:
        nonlocal commits
        commits += 1
        if commits == 1:
            real(self, old, new)
        if moment == "after a commit" or commits > 1:
            raise RunError("killed")

    monkeypatch.setattr(DeltaStore, "_commit", commit)
    runs = 0
    while runs == 0 or commits:
        runs, commits = runs + 1, 0
        with suppress(RunError):
            pomona.extract(
                pictures,
                table,
                encoder=encoder,
                label="none",
                resume=pomona.Resume(prune=True),
                engine=pomona.LocalEngine(workers=1),
            )
        assert_one_row_each(table, before, after)
    assert runs > 4
    assert by_deltalake(table).equals(after)
