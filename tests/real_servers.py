"""Real model servers on the loopback interface, in the environments of `make test-servers`.

They load folders that `pomona.export_encoder` wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from places import REPOSITORY, TESTS

SERVERS = REPOSITORY / ".servers"
_START_S = 120  # of a server on a busy machine


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        http: its address for HTTP.
        grpc: host and port for gRPC.
        process: the server.
        log: the file of its output.
        ports: the ports of HTTP and of gRPC, for another server in its place.
    """

    http: str
    grpc: str
    process: subprocess.Popen[bytes]
    log: Path
    ports: tuple[int, int]


def python_of(name: str) -> Path:
    """Return the Python of an environment; skip the test if it is missing."""
    python = SERVERS / name / "bin" / "python"
    if not (SERVERS / f"{name}.stamp").exists():
        pytest.skip(f"no environment {name}: 'make test-servers' makes it")
    return python


@contextmanager
def kserve(folder: Path, *options: str, ports: tuple[int, int] | None = None) -> Iterator[Server]:
    """Run KServe's Python model server on an exported folder."""
    (encoder,) = folder.glob("*.encoder")
    command = [python_of("kserve"), folder / "server.py", encoder, *options]
    http, grpc = ports or free_ports()
    command += [f"--http_port={http}", f"--grpc_port={grpc}"]
    with _running([*map(str, command)], (http, grpc), folder.with_name("kserve.log")) as server:
        yield server


@contextmanager
def triton(folder: Path, *options: str, ports: tuple[int, int] | None = None) -> Iterator[Server]:
    """Run NVIDIA Triton on an exported folder. This one has the Python backend only."""
    python = python_of("triton")
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    triton = packages / "pytriton" / "tritonserver"
    version = packages.parent.name.removeprefix("python")
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not (used := triton / "backends" / "python" / stub.name).exists():
        shutil.copy(stub, used)
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={folder}",
        f"--backend-directory={triton / 'backends'}",
        "--allow-metrics=false",
        *options,
    ]
    libraries = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    more = {
        "LD_LIBRARY_PATH": libraries.stdout.strip(),  # the stub needs libpython
        "PATH": f"{python.parent}:{os.environ['PATH']}",  # the stub looks for python3
        "PYTHONPATH": str(packages),
    }
    http, grpc = ports or free_ports()
    command += [f"--http-port={http}", f"--grpc-port={grpc}"]
    with _running(command, (http, grpc), folder.with_name("triton.log"), more) as server:
        yield server


@contextmanager
def mlserver(folder: Path, *, ports: tuple[int, int] | None = None) -> Iterator[Server]:
    """Run MLServer on a folder for OpenVINO Model Server, with a model class of its own."""
    shutil.copy(TESTS / "servers" / "mlserver_model.py", folder)
    (graph,) = folder.glob("*/1/model.xml")
    settings = {
        "name": graph.parent.parent.name,
        "implementation": "mlserver_model.Features",
        "parameters": {"uri": str(graph)},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    command = [str(python_of("mlserver").with_name("mlserver")), "start", str(folder)]
    http, grpc = ports or free_ports()
    more = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(free_ports()[0]),
        "MLSERVER_PARALLEL_WORKERS": "0",  # its worker processes need an earlier uvloop
    }
    with _running(command, (http, grpc), folder.with_name("mlserver.log"), more) as server:
        yield server


@contextmanager
def _running(
    command: list[str],
    ports: tuple[int, int],
    log: Path,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    http, grpc = ports
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | (more or {}),
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", process, log, ports)
    try:
        _wait(server)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also the processes that it started
        process.wait()


def _wait(server: Server) -> None:
    """Wait until the server has loaded its model."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.http}/v2/health/ready", timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"{server.process.args} did not start: {server.log.read_text()[-3000:]}")


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
