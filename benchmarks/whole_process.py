"""Times a whole process and measures its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
POMONA = [sys.executable, "-m", "pomona"]


class PeakMemory(threading.Thread):
    """The peak resident size, in MB, of a process, of its workers, and of a JVM."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.ended = pid, threading.Event()
        self.parent = self.worker = self.jvm = 0.0

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.parent = max(self.parent, high_water(self.pid))
            for pid in descendants(self.pid):
                line = read(f"/proc/{pid}/cmdline")
                if b"pomona.processes.worker_main" in line or b"pyspark.daemon" in line:
                    self.worker = max(self.worker, high_water(pid))
                elif b"java" in line[:60]:
                    self.jvm = max(self.jvm, high_water(pid))


def timed(command: list[str]) -> tuple[float, dict, PeakMemory]:
    """Return seconds, the JSON of the last line printed, and memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    memory = PeakMemory(process.pid)
    memory.start()
    out, _ = process.communicate()
    seconds = time.perf_counter() - started
    memory.ended.set()
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    print(f"{seconds:7.1f} s  {' '.join(command[1:])[:110]}", file=sys.stderr, flush=True)
    return seconds, json.loads(out.strip().splitlines()[-1]), memory


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


def descendants(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")  # each thread has children of its own
    children = [int(child) for thread in threads for child in read(str(thread)).split()]
    return children + [below for child in children for below in descendants(child)]
