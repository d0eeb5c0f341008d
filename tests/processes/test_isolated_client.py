"""Images computed one by one in a separate process: each gets a row, whatever it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import drawn
from places import POISON
from pomona.encoder.encoder import Encoder
from pomona.errors import RunError
from pomona.processes.crash_policy import ENDS_IN_A_ROW
from pomona.processes.isolated_client import IsolatedWorker
from pomona.runtime.registry import runtime_for
from pomona.source.image_file import ImageFile, read_batches
from pomona.source.labels import parse_label_rule
from pomona.worker.featurize import featurize
from pomona.worker.prepare import EXACT


@pytest.fixture
def worker(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Iterator[IsolatedWorker]:
    """A worker whose child processes meet images that crash or hang them."""
    monkeypatch.syspath_prepend(str(POISON))
    isolated = IsolatedWorker(lambda: encoder, EXACT, image_timeout_s=3.0)
    yield isolated
    isolated.close()


def images(folder: Path, heights: list[int]) -> list[pa.RecordBatch]:
    """Pictures with the given heights: 13 crashes the process, 17 hangs it."""
    files = []
    for number, height in enumerate(heights):
        path = folder / f"{number:02d}.png"
        path.write_bytes(drawn.encode(drawn.picture(20, height, number), "PNG"))
        files.append(ImageFile(str(path), path.stat().st_size, 1_700_000_000_123))
    return list(read_batches(files, parse_label_rule("parent")))


def test_rows_equal_those_of_the_plain_worker(
    worker: IsolatedWorker, encoder: Encoder, tmp_path: Path
) -> None:
    batches = images(tmp_path, [20, 30, 40])
    isolated = pa.Table.from_batches(worker.featurize(iter(batches)))
    plain = pa.Table.from_batches(featurize(iter(batches), runtime_for(encoder), EXACT))
    assert isolated.equals(plain)
    assert worker.loads == 1


def test_an_image_that_crashes_or_hangs_its_process_fails_alone(
    worker: IsolatedWorker, tmp_path: Path
) -> None:
    rows = pa.Table.from_batches(worker.featurize(iter(images(tmp_path, [20, 13, 17, 30]))))
    assert rows["status"].to_pylist() == ["ok", "crashed", "crashed", "ok"]
    assert "SIGSEGV" in rows["error"][1].as_py()
    assert rows["error"][2].as_py() == "one image took longer than 3 s"
    assert rows["modified"].cast(pa.int64()).to_pylist() == [1_700_000_000_123_000] * 4


@pytest.mark.long
def test_many_consecutive_images_that_crash_their_process_are_all_named(
    worker: IsolatedWorker, tmp_path: Path
) -> None:
    heights = [13] * (ENDS_IN_A_ROW + 1) + [20]
    rows = pa.Table.from_batches(worker.featurize(iter(images(tmp_path, heights))))
    assert rows["status"].to_pylist() == ["crashed"] * (ENDS_IN_A_ROW + 1) + ["ok"]


def test_a_failure_of_every_image_marks_none_as_crashed(
    worker: IsolatedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERY_IMAGE_IS_POISON", "1")
    with pytest.raises(RunError, match="the last one over a picture that Pomona drew: .*SIGSEGV"):
        list(worker.featurize(iter(images(tmp_path, [20] * ENDS_IN_A_ROW))))


def test_a_process_that_cannot_start_marks_no_image_as_crashed(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('half installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    worker = IsolatedWorker(lambda: encoder, EXACT, image_timeout_s=3.0)
    with pytest.raises(RunError, match="no image is the cause; .*half installed"):
        list(worker.featurize(iter(images(tmp_path, [20]))))
