"""Times a whole process and measures its memory and processor time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
POMONA = [sys.executable, "-m", "pomona"]


class Watch(threading.Thread):
    """The peak resident size and the processor time of a process, of its workers, and of a JVM.

    Attributes:
        parent, worker, jvm: MB.
        cpu: seconds of processor time, of all processes of a kind.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.ended = pid, threading.Event()
        self.parent = self.worker = self.jvm = 0.0
        self._cpu: dict[tuple[str, int], float] = {}

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.parent = max(self.parent, high_water(self.pid))
            self._look("parent", self.pid)
            for pid in descendants(self.pid):
                line = read(f"/proc/{pid}/cmdline")
                if b"pomona.processes.worker_main" in line or b"pyspark.daemon" in line:
                    self.worker = max(self.worker, high_water(pid))
                    self._look("workers", pid)
                elif b"java" in line[:60]:
                    self.jvm = max(self.jvm, high_water(pid))
                    self._look("jvm", pid)

    def _look(self, kind: str, pid: int) -> None:
        if seconds := cpu_seconds(pid):
            self._cpu[kind, pid] = seconds

    @property
    def cpu(self) -> dict[str, float]:
        total: defaultdict[str, float] = defaultdict(float)
        for (kind, _), seconds in self._cpu.items():
            total[kind] += seconds
        return total


def timed(command: list[str]) -> tuple[float, dict, Watch]:
    """Return seconds, the JSON of the last line printed, and what was watched."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    watch = Watch(process.pid)
    watch.start()
    out, _ = process.communicate()
    seconds = time.perf_counter() - started
    watch.ended.set()
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    print(f"{seconds:7.1f} s  {' '.join(command[1:])[:110]}", file=sys.stderr, flush=True)
    return seconds, json.loads(out.strip().splitlines()[-1]), watch


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # it has ended
        return b""


def high_water(pid: int) -> float:
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def descendants(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")  # each thread has children of its own
    children = [int(child) for thread in threads for child in read(str(thread)).split()]
    return children + [below for child in children for below in descendants(child)]
