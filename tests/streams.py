"""A streaming program in a process of its own, for tests that kill it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import faults
from spark_processes import python_workers, submit_settings

PROGRAM = Path(__file__).with_name("streaming_program.py")


class Stream:
    """One program, its checkpoint and its sink.

    Args:
        folder: for the checkpoint and the sink.
        inbox: the folder whose files arrive.
        encoder: the encoder's file.
        sink: the format of the sink.
        settings: of Spark, besides those of `submit_settings`.
    """

    def __init__(
        self,
        folder: Path,
        inbox: Path,
        encoder: Path,
        sink: str = "parquet",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.sink, self._checkpoint = folder / "sink", folder / "checkpoint"
        self.command = [
            *(sys.executable, PROGRAM, inbox, self.sink, self._checkpoint, encoder, sink)
        ]
        self.env = submit_settings({"spark.master": "local[2]", **(settings or {})})

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        return subprocess.run(
            [*self.command, *more], env=self.env, capture_output=True, text=True, check=False
        )

    def kill(
        self,
        what: str,
        victims: Callable[[int], list[int]],
        moment_s: float,
        at_end: Callable[[], object] = lambda: None,
    ) -> int:
        """Run the program, and kill a process of it `moment_s` after its first task begins.

        If the program ends before that, it begins again from nothing, with an earlier moment.

        Args:
            what: the name under which the kill is counted.
            victims: returns the processes to choose from, given the program's process id.
            moment_s: seconds.
            at_end: called when the program ended before the kill.

        Returns:
            The exit status of the program.
        """
        while (status := self._kill(what, victims, moment_s)) is None:
            at_end()
            for folder in (self.sink, self._checkpoint):
                shutil.rmtree(folder, ignore_errors=True)
            moment_s *= 0.7
        return status

    def _kill(self, what: str, victims: Callable[[int], list[int]], moment_s: float) -> int | None:
        # Its Java machine may outlive it, so the output is not a pipe, whose end a test awaits.
        process = subprocess.Popen(
            self.command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            faults.wait_for(lambda: python_workers(process.pid) or process.poll() is not None, 120)
            time.sleep(moment_s)
            faults.wait_for(lambda: victims(process.pid) or process.poll() is not None, 120)
            if process.poll() is not None:
                return None
            faults.kill(random.Random(moment_s).choice(victims(process.pid)), what)
            return process.wait(240)
        finally:
            process.kill()
            process.wait()
