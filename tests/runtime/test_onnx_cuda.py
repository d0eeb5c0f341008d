"""How ONNX Runtime starts on a GPU, with simulated answers from CUDA."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from network_files import onnx_network
from places import REPOSITORY
from pomona.errors import EncoderError
from pomona.runtime import onnxruntime as onnx
from pomona.runtime.onnxruntime import gpu_is_here, new_session

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

# The format of ONNX Runtime's cuda_call.cc.
OUT_OF_MEMORY = (
    "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/providers/cuda/"
    "cuda_call.cc:154 std::conditional_t<THRW, void, onnxruntime::common::Status> "
    "onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, "
    "int) [with ERRTYPE = cudaError; bool THRW = true] CUDA failure 2: out of memory ; GPU=0 ; "
    "hostname=here ; expr=cudaStreamCreateWithFlags(&stream, 1);"
)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate a machine with a driver, and an ONNX Runtime built for CUDA."""
    file = tmp_path / "nvidiactl"
    file.touch()
    monkeypatch.setattr(onnx, "_DRIVER", (tmp_path / "version", file))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return file


def starts(monkeypatch: pytest.MonkeyPatch, start: Any) -> list[dict[str, Any]]:
    """Replace the start of a session by `start(providers)`; return the options of each start."""
    started: list[dict[str, Any]] = []

    def session(_graph: bytes, _options: Any, providers: Any, **more: Any) -> Any:
        started.append({"providers": providers, **more})
        return start(providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return started


class Session:
    def __init__(self, *providers: str) -> None:
        self._providers = list(providers)

    def get_providers(self) -> list[str]:
        return self._providers


@pytest.mark.parametrize("hidden", ["", " ", "-1"])
def test_hidden_gpus_are_not_used(
    driver: Path, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    assert gpu_is_here()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not gpu_is_here()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_is_here()
    driver.unlink()
    assert not gpu_is_here()


@pytest.mark.usefixtures("driver")
def test_cuda_libraries_are_loaded_before_the_session_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def preload() -> None:
        order.append("libraries")
        print("Failed to load libcudnn.so.9")  # noqa: T201 - ONNX Runtime prints this

    def start(_: Any) -> Session:
        order.append("session")
        return Session(CUDA, CPU)

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    started = starts(monkeypatch, start)
    assert new_session(b"", "it").get_providers()[0] == CUDA
    assert order == ["libraries", "session"]
    assert capfd.readouterr() == ("", "")
    (providers,) = (each["providers"] for each in started)
    assert providers[0][1]["use_tf32"] == "0"


@pytest.mark.usefixtures("driver")
def test_a_gpu_with_missing_libraries_is_an_error_and_not_a_slow_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def preload() -> None:
        print("Failed to load libcublasLt.so.13")  # noqa: T201 - ONNX Runtime prints this

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    starts(monkeypatch, lambda _: Session(CPU))
    with pytest.raises(
        EncoderError, match=r"cannot start CUDA .*libcublasLt\.so\.13.*=-1"
    ) as caught:
        new_session(b"", "it")
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)


@pytest.mark.parametrize("version", ["1.19.0", "1.22.1"])
def test_an_onnx_runtime_that_would_fall_back_to_the_cpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(EncoderError, match=r"needs ONNX Runtime 1\.23 or later.*upgrade") as caught:
        new_session(b"", "fruit")
    assert f"found {version}: upgrade" in str(caught.value)


def test_the_oldest_supported_onnx_runtime_is_the_minimum_in_pyproject() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]["onnx"]
    assert f"onnxruntime>={'.'.join(map(str, onnx._OLDEST))}" in declared


@pytest.mark.usefixtures("driver")
def test_a_full_gpu_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: Any) -> Session:
        raise RuntimeError(OUT_OF_MEMORY)

    starts(monkeypatch, start)
    with pytest.raises(EncoderError) as caught:
        new_session(b"", "fruit")
    assert "cannot start CUDA for encoder fruit: CUDA failure 2: out of memory; " in str(
        caught.value
    )


def test_a_cuda_failure_in_mid_run_does_not_fall_back_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    class Failing:
        def __init__(self, session: Any) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, *_: Any) -> None:
            raise EPFail(OUT_OF_MEMORY)

    onnx_network(tmp_path / "fruit.onnx")
    session = new_session((tmp_path / "fruit.onnx").read_bytes(), "fruit")
    pixels = session.get_inputs()[0].name
    monkeypatch.setattr(session, "_sess", Failing(session._sess))
    with pytest.raises(EPFail):
        session.run(["logits"], {pixels: np.zeros((1, 3, 32, 32), np.float32)})
