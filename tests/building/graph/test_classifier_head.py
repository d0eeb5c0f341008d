"""The last tensor of a graph must be features, not class scores or integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from network_files import (
    RUNTIMES,
    UNIT,
    encoder_from,
    onnx_network,
    small_network,
)
from pomona.building import build
from pomona.building.network_settings import NetworkSettings
from pomona.building.quantize.precision import convert_encoder
from pomona.errors import EncoderError


@RUNTIMES
@pytest.mark.parametrize("end", [("Softmax",), ("Identity", "LogSoftmax"), ("Sigmoid", "Identity")])
def test_scores_are_refused_and_the_layer_before_them_is_named(
    tmp_path: Path, runtime: str, end: tuple[str, ...]
) -> None:
    onnx_network(tmp_path / "fruit.onnx", end=end)
    with pytest.raises(
        EncoderError,
        match=r"ends in scores \('end', a \w+\).*; `layer` 'embedding' is the input of its last",
    ):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime)
    named = UNIT.over(NetworkSettings(layer="embedding"))
    assert encoder_from(tmp_path / "fruit.onnx", named, runtime=runtime).dimension == 8
    scores = UNIT.over(NetworkSettings(layer="end"))
    assert encoder_from(tmp_path / "fruit.onnx", scores, runtime=runtime).dimension == 5


@RUNTIMES
def test_scores_without_a_dense_layer_are_refused(tmp_path: Path, runtime: str) -> None:
    import onnx

    onnx_network(tmp_path / "fruit.onnx")
    model = onnx.load(tmp_path / "fruit.onnx")
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Softmax", ["embedding"], ["logits"]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    onnx.save(model, tmp_path / "fruit.onnx")
    with pytest.raises(EncoderError, match="choose another layer with `layer`$"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime)


@RUNTIMES
def test_a_possible_classifier_output_is_accepted_with_a_note_at_build_time(
    tmp_path: Path,
    runtime: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The session's cache may contain the encoder, and a cached encoder gets no note.
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    onnx_network(tmp_path / "fruit.onnx")
    with caplog.at_level("INFO", "pomona"):
        encoder = build.build_encoder(tmp_path / "fruit.onnx", settings=UNIT, runtime=runtime)
    assert encoder.dimension == 5
    (note,) = [text for text in caplog.messages if "dense layer" in text]
    assert "output 'logits' of" in note
    assert "`layer` 'embedding' is the input of that layer" in note


@RUNTIMES
def test_integer_features_are_refused(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx", end=("ArgMax",))
    with pytest.raises(EncoderError, match=r"returns integers \((i64|int64)\).*`layer`"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime)


@RUNTIMES
def test_scores_are_refused_in_a_quantized_network_too(tmp_path: Path, runtime: str) -> None:
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("ReduceMean", ["image"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
        helper.make_node("QuantizeLinear", ["scores", "step", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["vector"]),
        dense=np.ones((3, 5), np.float32),
        step=np.array(1 / 255, np.float32),
        zero=np.array(0, np.uint8),
    )
    with pytest.raises(EncoderError, match="ends in scores .*`layer` 'pooled'"):
        encoder_from(path, UNIT, runtime=runtime)


@RUNTIMES
def test_a_quantized_network_is_recorded_as_quantized(tmp_path: Path, runtime: str) -> None:
    """Processors differ in int8, so its gate is wider and its vectors are not taken for float32."""
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["pixels"]),
        helper.make_node("ReduceMean", ["pixels"], ["vector"], axes=[2, 3], keepdims=0),
        step=np.array(1 / 100, np.float32),
        zero=np.array(100, np.uint8),
    )
    encoder = encoder_from(path, UNIT, runtime=runtime)
    assert encoder.precision == "int8"
    assert convert_encoder(encoder, "f32") is encoder  # what a command without --precision requests
    with pytest.raises(EncoderError, match="already has precision int8"):
        convert_encoder(encoder, "bf16")


def test_an_output_that_does_not_depend_on_the_image_is_refused(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    ones = numpy_helper.from_array(np.ones((1, 3), np.float32))
    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("Constant", [], ["ones"], value=ones),
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "ones"], ["vector"]),
    )
    settings = UNIT.over(NetworkSettings(layer="ones"))
    with pytest.raises(EncoderError, match="computes 'ones' without the image"):
        encoder_from(path, settings, runtime="onnxruntime")
