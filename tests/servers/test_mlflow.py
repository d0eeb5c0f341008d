"""The program for MLflow in docs/serving.md. `make test-servers` makes its environment."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

import drawn
import pomona
from places import REPOSITORY
from pomona.encoder.encoder import Encoder
from real_servers import free_ports, python_of


def recipe() -> str:
    """Return the program on the page."""
    page = (REPOSITORY / "docs" / "serving.md").read_text()
    (program,) = [part for part in page.split("```python\n") if part.startswith("import mlflow")]
    return program.partition("```")[0]


def test_mlflow_answers_files_with_the_vectors_of_the_encoder(
    encoder: Encoder, tmp_path: Path
) -> None:
    python = python_of("mlflow")
    encoder.save(tmp_path / "fruit.encoder")
    written = subprocess.run(
        [python, "-W", "ignore", "-c", recipe()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert written.returncode == 0, written.stderr
    picture = drawn.encode(drawn.picture(400, 300, 5), "JPEG")
    files = [picture, b"no image"]
    records = [{"image": base64.b64encode(file).decode()} for file in files]
    port, _ = free_ports()
    command = [python.with_name("mlflow"), "models", "serve", "-m", "features-model"]
    options = ["--env-manager", "local", "--port", str(port)]
    path = f"{python.parent}:{os.environ['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, *options],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env=os.environ | {"PATH": path},
            start_new_session=True,
        )
    try:
        answer = ask(port, {"dataframe_records": records}, server)
    finally:
        os.killpg(server.pid, 9)  # MLflow runs the server as its child
        server.wait()
    found = np.array(answer["predictions"], np.float32)
    assert np.array_equal(found[0], pomona.embed(picture, encoder)[0])
    assert np.isnan(found[1]).all()


def ask(
    port: int, body: dict[str, object], server: subprocess.Popen[bytes]
) -> dict[str, list[list[float]]]:
    """Ask until the server has started."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                result: dict[str, list[list[float]]] = json.load(answer)
                return result
        except (ConnectionError, urllib.error.URLError):
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.5)
