"""The threads that each supervise one worker process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pomona.encoder.encoder import Encoder
from pomona.job.job import Job, JobPaths
from pomona.local import supervisor
from pomona.local.run_state import RunState
from pomona.source.image_file import ImageFile
from pomona.source.images import FileReader
from pomona.source.labels import parse_label_rule
from pomona.table.feature_table import FeatureTable
from pomona.table.writer import writing
from pomona.worker.prepare import EXACT


def state_of(encoder: Encoder, writer: Any, folder: Path) -> RunState:
    job = Job(JobPaths(str(folder), str(folder / "t")), encoder, parse_label_rule("parent"), EXACT)
    return RunState(job, FileReader(), writer, workers=1)


def test_a_suspect_is_retried_alone_even_after_a_process_that_never_started(
    encoder: Encoder, tmp_path: Path
) -> None:
    files = [ImageFile(f"/p/{number}.png", 1, 1) for number in range(3)]
    table = FeatureTable.at(tmp_path / "t")
    with writing(table, encoder.provenance(), overwrite=False) as writer:
        state = state_of(encoder, writer, tmp_path)
        state.loaded(1)
        state.queue.fill(files)
        held = [state.queue.take(holds_work=True), state.queue.take(holds_work=True)]
        chunk = [file for some in held if some for file in some]
        assert chunk == files
        state.worker_died(chunk, [files[1]], "SIGSEGV")
        assert state.queue.take(holds_work=False) == [files[1]]
        state.worker_died([files[1]], [], "it ended before it began")
        assert state.queue.take(holds_work=False) == [files[1]]
        assert state.has_suspect([files[1]])
        state.worker_died([files[1]], [files[1]], "SIGSEGV")
        state.finish()
        assert state.counts == {"crashed": 1}


@pytest.mark.parametrize("end", ["finish", "stop"])
def test_no_process_is_started_for_the_canary_while_the_run_stops(
    end: str, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(supervisor, "WorkerProcess", started.append)
    table = FeatureTable.at(tmp_path / "t")
    with writing(table, encoder.provenance(), overwrite=False) as writer:
        thread = supervisor.Supervisor(state_of(encoder, writer, tmp_path), 0)
        thread.finish() if end == "finish" else thread.stop("the run was stopped")
        thread._do_canary()
    assert started == []
