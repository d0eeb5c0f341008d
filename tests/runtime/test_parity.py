from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.runtime import registry
from pomona.runtime.openvino import OpenVinoRuntime
from pomona.runtime.parity import TOLERANCE, check_parity, probe_images


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_loaded", {})


def with_vectors_times(encoder: Encoder, factor: float) -> Encoder:
    vectors = np.frombuffer(encoder.probes, "<f4") * np.float32(factor)
    return dataclasses.replace(encoder, probes=vectors.astype("<f4").tobytes())


def test_probes_are_identical_everywhere() -> None:
    import hashlib

    digest = hashlib.sha256(probe_images(224, 224).tobytes()).hexdigest()
    assert digest == "97dcfa762379abdfcf5b302137d681b50b043166d429a249393c8384f411d32e"
    assert probe_images(5, 9).shape == (3, 5, 9, 3)


def test_an_encoder_passes_on_the_machine_that_built_it(encoder: Encoder) -> None:
    assert len(encoder.probes) == 3 * 1280 * 4
    registry.load_once(encoder.fingerprint, lambda: encoder)


def test_features_within_the_tolerance_pass(encoder: Encoder) -> None:
    check_parity(with_vectors_times(encoder, 1 + TOLERANCE["f32"] / 2), OpenVinoRuntime(encoder))


def test_other_features_stop_the_job_with_the_difference_and_the_likely_cause(
    encoder: Encoder,
) -> None:
    other = with_vectors_times(encoder, 1.01)
    with pytest.raises(
        EncoderError,
        match=r"differs by 0\.0099.*limit 0\.001\), cosine 1\.0000; likely causes: another version",
    ):
        registry.load_once(other.fingerprint, lambda: other)


def test_an_encoder_without_probes_does_not_pass(encoder: Encoder) -> None:
    without = dataclasses.replace(encoder, probes=b"")
    with pytest.raises(EncoderError, match="has no vectors .*build it again"):
        registry.load_once(without.fingerprint, lambda: without)


def test_an_encoder_that_failed_the_gate_is_not_cached(encoder: Encoder) -> None:
    other = with_vectors_times(encoder, 2)
    for _ in range(2):
        with pytest.raises(EncoderError):
            registry.load_once(other.fingerprint, lambda: other)


def test_bf16_does_not_pass_as_f32(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16")
    from pomona.runtime import openvino as ours

    monkeypatch.setitem(ours._HINTS, "f32", "bf16")
    with pytest.raises(EncoderError, match="lower precision"):
        registry.load_once(encoder.fingerprint, lambda: encoder)


def test_a_single_number_is_not_accepted_as_a_vector(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Request:
        def infer(self) -> None: ...

        def get_output_tensor(self) -> SimpleNamespace:
            return SimpleNamespace(data=np.ones((1, 1), np.float32))

    loaded = OpenVinoRuntime(encoder)
    monkeypatch.setattr(loaded, "_request", Request())
    with pytest.raises(
        EncoderError, match="OpenVINO returns 1 numbers for an image, expected 1280"
    ):
        check_parity(encoder, loaded)
