"""Measures Pomona on an NVIDIA GPU, and checks its vectors and its runs there.

    python benchmarks/gpu.py --out FOLDER [--small N] [--seconds 440] [--networks NAME ...]

It draws JPEGs of 100x100 and 448x448 and builds encoders of networks with seeded weights:
MobileNetV2, ResNet50, and DINOv2-small from a folder of Hugging Face. It runs whole `pomona
extract` processes, the loops of gpu_loops.py for comparison, and runs that lose a worker or GPU
memory. It prints a table as it goes and writes FOLDER/gpu.json and FOLDER/gpu.md. Without a GPU it
says so and computes on the CPU. After `--seconds` it starts no new measurement. It needs Pomona,
onnx, and onnxruntime-gpu; PyTorch, torchvision and timm for the peer.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpu_networks import NETWORKS
from whole_process import HERE, POMONA, descendants, read

_HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1"}
_TIMEOUT_S = 120


class Bench:
    """The measurements so far, and their folder."""

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self.scratch, self.out = scratch, args.out
        self.until = time.monotonic() + args.seconds
        self.small = args.small
        self.names: list[str] = args.networks
        self.machine = machine()
        self.cores = len(os.sched_getaffinity(0))
        self.rates: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.encoders: dict[str, Path] = {}
        self.sets: dict[str, tuple[Path, int]] = {}
        self.tables = 0

    def stage(self, what: Callable[[], None]) -> None:
        """Run one part, unless time is up; a failure becomes a line of the report."""
        name = what.__name__.replace("_", " ")
        if time.monotonic() > self.until:
            self.check(name, "left out: no time")
            return
        started = time.monotonic()
        try:
            what()
        except Exception as error:  # noqa: BLE001 - one failure must not stop the other parts
            self.check(name, f"failed: {type(error).__name__}: {str(error)[-600:]}")
        print(f"# {name}: {time.monotonic() - started:.1f} s", flush=True)
        self.save()

    def rate(self, what: str, network: str, images: str, **numbers: Any) -> None:
        """Record one measured rate."""
        row = {"what": what, "network": network, "images": images, **numbers}
        self.rates.append(row)
        print(line(row), flush=True)

    def check(self, what: str, result: str, **numbers: Any) -> None:
        """Record the result of one check."""
        self.checks.append({"check": what, "result": result, **numbers})
        print(f"- {what}: {result}", flush=True)

    def save(self) -> None:
        """Write both files."""
        result = {"machine": self.machine, "rates": self.rates, "checks": self.checks}
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (self.out / "gpu.md").write_text(page([result]))

    # ---- measurements

    def images(self) -> None:
        """Draw the files."""
        for name, size, count in (
            ("100x100", 100, self.small * 8),
            ("448x448", 448, self.small * 2),
            ("few", 100, self.small),
        ):
            folder = self.scratch / f"images-{name}"
            drawing = [sys.executable, str(HERE / "draw_images.py"), str(folder)]
            options = ["--count", str(count), "--size", str(size), "--seed", str(len(self.sets))]
            run([*drawing, *options])
            self.sets[name] = (folder, count)

    def networks(self) -> None:
        """Build the encoders on the CPU, as most users do."""
        command = [sys.executable, str(HERE / "gpu_networks.py"), str(self.scratch), *self.names]
        run(command, _HIDDEN)
        self.encoders = {name: self.scratch / f"{name}.encoder" for name in self.names}

    def vectors_against_the_cpu(self) -> None:
        """The same encoder on both providers, on drawn images."""
        for network in self.names:
            here = self.extract("few", network, note="vectors, GPU")
            there = self.extract("few", network, note="vectors, CPU", environment=_HIDDEN)
            self.check(f"{network}, GPU against CPU", compare(here, there))

    def repeated_runs(self) -> None:
        """Check that runs are bit-identical, also with a different number of processes."""
        for network in self.names:
            one = self.extract("few", network, note="again")
            two = self.extract("few", network, note="again", workers=1)
            self.check(f"{network}, a run against one with one process", compare(one, two))

    def bare_loops(self) -> None:
        """Measure batches from memory."""
        for network in self.names:
            for processes, batch in ((1, 1), (1, 32), (1, 128), (1, 512), (4, 128)):
                self.loop("bare", network, "memory", processes, batch=batch)

    def decoding(self) -> None:
        """Measure everything before the network."""
        for images in ("100x100", "448x448"):
            for processes in sorted({1, max(1, self.cores // 4), self.cores}):
                threads = max(1, self.cores // processes)
                self.loop("decode", self.names[0], images, processes, threads=threads)

    def whole_runs(self) -> None:
        """Measure Pomona with more and fewer worker processes."""
        default = max(1, self.cores // 4)
        for network, images, workers in (
            ("mobilenet_v2", "100x100", (default, self.cores // 2, self.cores, 1)),
            ("mobilenet_v2", "448x448", (default, self.cores // 2, self.cores)),
            ("resnet50", "100x100", (default, self.cores // 2)),
            ("dinov2_small", "100x100", (default, self.cores // 2, 1)),
            ("dinov2_small", "448x448", (default, self.cores // 2)),
        ):
            if network not in self.names:
                continue
            for number in workers:
                self.extract(
                    images,
                    network,
                    note="pomona extract",
                    workers=max(1, number),
                )

    def peer(self) -> None:
        """Measure a plain PyTorch loop."""
        for network, images, more in (
            ("mobilenet_v2", "100x100", ()),
            ("mobilenet_v2", "448x448", ()),
            ("resnet50", "100x100", ()),
            ("mobilenet_v2", "100x100", ("--half",)),
            ("dinov2_small", "100x100", ()),
        ):
            if network not in self.names:
                continue
            folder, _ = self.sets[images]
            options = ["--network", network, "--processes", str(self.cores), *more]
            command = [sys.executable, str(HERE / "gpu_loops.py"), "torch", str(folder), *options]
            started = time.monotonic()
            result = json.loads(run(command).splitlines()[-1])
            what = "PyTorch, float16" if more else "PyTorch"
            rate, seconds = result["images_per_s"], time.monotonic() - started
            self.rate(
                what, network, images, processes=self.cores, loop_images_per_s=rate, seconds=seconds
            )  # fmt: skip

    def killed_worker(self) -> None:
        """Kill one worker process during a run with SIGKILL."""
        started = time.monotonic()
        whole = self.extract("448x448", self.names[0], note="before the kill")
        seconds = time.monotonic() - started
        killed: list[int] = []

        def kill(pid: int) -> None:
            time.sleep(seconds * 0.6)
            workers = [
                child
                for child in descendants(pid)
                if b"pomona.processes.worker_main" in read(f"/proc/{child}/cmdline")
            ]
            if workers:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

        table = self.extract("448x448", self.names[0], note="a worker killed", meanwhile=kill)
        what = "a worker killed" if killed else "no worker was found to kill"
        self.check(what, compare(table, whole))

    def full_gpu(self) -> None:
        """Run while another process holds nearly all GPU memory."""
        whole = self.extract("few", self.names[0], note="before")
        for leave_mb in (6000, 3000, 1500, 200):
            hog = subprocess.Popen(
                [sys.executable, str(HERE / "gpu_loops.py"), "hog", "--leave-mb", str(leave_mb)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                left = json.loads(hog.stdout.readline())["free_mb"]
                table = self.table()
                command = self.command("few", self.names[0], table, 2)
                completed = subprocess.run(
                    command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
                )
            finally:
                hog.communicate("")
            if completed.returncode == 0:
                result = f"done; {compare(table, whole)}"
            else:
                last_line = completed.stderr.strip().splitlines()[-1]
                result = f"code {completed.returncode}: {last_line[:400]}"
            self.check(f"{left} MB left on the GPU, 2 processes", result)
        again = self.command("few", self.names[0], table, 2)
        run(again)
        self.check("the same table continued, with the memory free again", compare(table, whole))

    # ---- implementation

    def loop(self, kind: str, network: str, images: str, processes: int, **options: int) -> None:
        command = [sys.executable, str(HERE / "gpu_loops.py"), kind, str(self.encoders[network])]
        if images in self.sets:
            command.append(str(self.sets[images][0]))
        command += ["--processes", str(processes)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        result = json.loads(run(command).splitlines()[-1])
        what = {"bare": "bare CUDA loop", "decode": "decoding alone"}[kind]
        rate = result["images_per_s"]
        self.rate(what, network, images, processes=processes, loop_images_per_s=rate, **options)

    def table(self) -> Path:
        self.tables += 1
        return self.scratch / f"table-{self.tables}"

    def command(self, images: str, network: str, table: Path, workers: int | None) -> list[str]:
        more = ["--workers", str(workers)] if workers else []
        encoder = ["--encoder", str(self.encoders[network]), "--json"]
        return [*POMONA, "extract", str(self.sets[images][0]), str(table), *encoder, *more]

    def extract(
        self,
        images: str,
        network: str,
        *,
        note: str,
        workers: int | None = None,
        environment: dict[str, str] | None = None,
        meanwhile: Callable[[int], None] | None = None,
    ) -> Path:
        """Run Pomona, record its rate, return its table."""
        table = self.table()
        load = Load()
        seconds = run_process(
            self.command(images, network, table, workers), environment, meanwhile, load
        )
        count = self.sets[images][1]
        self.rate(
            note, network, images, processes=workers, seconds=seconds,
            images_per_s=count / seconds, cpu_percent=100 * load.cpu_s / seconds / self.cores,
            gpu_percent=load.gpu_percent, gpu_mb=load.gpu_mb,
        )  # fmt: skip
        return table


class Load:
    """The load of cores and GPU while a command ran."""

    cpu_s = 0.0
    gpu_percent: float | None = None
    gpu_mb: float | None = None


_HEAD = (
    "| what | network | images | processes, threads or batch | s | images/s | images/s in the loop "
    "| CPU | GPU | GPU memory |\n|---|---|---|---|---|---|---|---|---|---|"
)


def page(runs: list[dict[str, Any]]) -> str:
    """The tables and checks of one or more runs."""
    parts = []
    for result in runs:
        about = "; ".join(f"{name} {value}" for name, value in result["machine"].items())
        rates = "\n".join(line(row) for row in result["rates"])
        checks = "\n".join(f"- {row['check']}: {row['result']}" for row in result["checks"])
        parts.append(f"{about}.\n\n{_HEAD}\n{rates}\n\n{checks}\n")
    return "\n".join(parts)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""

    def number(name: str, form: str) -> str:
        return form.format(row[name]) if row.get(name) is not None else ""

    setting = ", ".join(
        f"{row[name]} {unit}"
        for name, unit in (("processes", "p"), ("threads", "t"), ("batch", "b"))
        if row.get(name) is not None
    )
    cells = [
        row["what"], row["network"], row["images"], setting or "default",
        number("seconds", "{:.1f}"), number("images_per_s", "{:,.0f}"),
        number("loop_images_per_s", "{:,.0f}"),
        number("cpu_percent", "{:.0f} %"), number("gpu_percent", "{:.0f} %"),
        number("gpu_mb", "{:,.0f} MB"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def run(command: list[str], environment: dict[str, str] | None = None, **options: Any) -> str:
    """Return what a command prints; an error contains the end of its stderr."""
    completed = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
        env={**os.environ, **(environment or {})}, **options,
    )  # fmt: skip
    if completed.returncode:
        raise RuntimeError(
            f"{' '.join(command[1:4])}: {(completed.stderr or completed.stdout)[-800:]}"
        )
    return completed.stdout


def run_process(
    command: list[str],
    environment: dict[str, str] | None,
    meanwhile: Callable[[int], None] | None,
    load: Load,
) -> float:
    """Return the seconds of a whole process, which must succeed."""
    watch = [
        "nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits",
        "-lms", "250",
    ]  # fmt: skip
    try:
        smi = subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        smi = None
    before, started = _cpu_seconds(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL,
            stderr=errors, text=True,
        )  # fmt: skip
        try:
            if meanwhile:
                meanwhile(process.pid)
            process.wait(_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
        seconds = time.perf_counter() - started
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"code {process.returncode}: {errors.read()[-800:]}")
    load.cpu_s = _cpu_seconds() - before
    if smi:
        smi.terminate()
        rows = [row.split(",") for row in smi.communicate()[0].splitlines() if row.count(",") == 1]
        busy = [float(row[0]) for row in rows if row[0].strip().isdigit()]
        load.gpu_percent = statistics.mean(busy) if busy else None
        load.gpu_mb = max((float(row[1]) for row in rows if row[1].strip().isdigit()), default=None)
    return seconds


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(actual: Path, expected: Path) -> str:
    """Describe the differences in rows and vectors of two tables of the same images."""
    from pomona import read_features

    ours, theirs = read_features(actual), read_features(expected)
    place = {path: at for at, path in enumerate(ours.paths)}
    lost = sum(path not in place for path in theirs.paths)
    doubled = len(ours.paths) - len(place)
    words = f"{len(ours.paths):,} rows, {lost} lost, {doubled} doubled, {len(ours.failed)} failed"
    if lost or doubled:
        return words
    a = ours.vectors[[place[path] for path in theirs.paths]]
    b = theirs.vectors
    equal = int((a.view(np.uint32) == b.view(np.uint32)).all(axis=1).sum())
    largest = float((np.abs(a - b).max(axis=1) / np.abs(b).max(axis=1)).max())
    return f"{words}; {equal:,} vectors bit-equal, the others within {largest:.2g} of their largest"


def machine() -> dict[str, str]:
    """Describe the machine."""
    import onnxruntime

    import pomona
    from pomona.runtime.onnxruntime import gpu_is_here

    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        gpu = "none"
    if not gpu_is_here():
        gpu = f"{gpu} (Pomona sees no GPU: everything is computed on the CPU)"
    return {
        "date": dt.date.today().isoformat(),
        "GPU": gpu,
        "CPU cores": str(len(os.sched_getaffinity(0))),
        "Python": platform.python_version(),
        "ONNX Runtime": onnxruntime.__version__,
        "Pomona": pomona.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", type=int, default=2000, help="images of the smallest set")
    parser.add_argument("--seconds", type=float, default=440)
    parser.add_argument("--only", nargs="+", help="parts by name, such as full_gpu")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pomona-gpu-") as scratch:
        bench = Bench(args, Path(scratch))
        print("; ".join(f"{name} {value}" for name, value in bench.machine.items()))
        print(_HEAD, flush=True)
        for stage in (
            bench.images, bench.networks, bench.vectors_against_the_cpu, bench.bare_loops,
            bench.whole_runs, bench.killed_worker, bench.decoding, bench.peer,
            bench.repeated_runs, bench.full_gpu,
        ):  # fmt: skip
            if not args.only or stage.__name__ in {"images", "networks", *args.only}:
                bench.stage(stage)


if __name__ == "__main__":
    main()
