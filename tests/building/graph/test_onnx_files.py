"""Encoders from ONNX files, on both runtimes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import pomona
from network_files import (
    FILES,
    RUNTIMES,
    SCALED,
    UNIT,
    VECTORS,
    assert_gives,
    encoder_from,
    features,
    onnx_network,
    small_network,
)
from pomona.building import build
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.runtime.registry import runtime_for


@RUNTIMES
def test_an_onnx_network_gives_the_vectors_of_the_reference(tmp_path: Path, runtime: str) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx")
    assert_gives(encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime), expected)


@RUNTIMES
def test_an_inner_tensor_of_an_onnx_network_can_be_the_output(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    settings = NetworkSettings(resize_mode="squash", scale=1 / 255, mean=0.5, layer="embedding")
    assert encoder_from(tmp_path / "fruit.onnx", settings, runtime=runtime).dimension == 8
    maps = encoder_from(
        tmp_path / "fruit.onnx",
        NetworkSettings(resize_mode="squash", scale=1, layer="features"),
        runtime=runtime,
    )
    assert maps.dimension == 8 * 15 * 15


@RUNTIMES
def test_an_onnx_network_that_ends_in_a_feature_map_is_refused_unless_the_map_is_named(
    tmp_path: Path, runtime: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs ONNX")
    onnx_network(tmp_path / "n.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    (convolution,) = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][:1]
    del model.graph.output[:]
    shape = ["n", "c", "h", "w"]
    value_info = onnx.helper.make_tensor_value_info(convolution, onnx.TensorProto.FLOAT, shape)
    model.graph.output.append(value_info)
    onnx.save(model, tmp_path / "map.onnx")
    with pytest.raises(EncoderError, match="for one image, expected one vector: choose a layer"):
        encoder_from(tmp_path / "map.onnx", SCALED, runtime=runtime)
    named = NetworkSettings(resize_mode="squash", mean=127.5, std=127.5, layer=convolution)
    assert encoder_from(tmp_path / "map.onnx", named, runtime=runtime).dimension > 1000


@RUNTIMES
def test_bgr_swaps_the_channels_of_any_network(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    settings = NetworkSettings(
        resize_mode="squash", scale=1 / 255, mean=[0.1, 0.2, 0.3], channel_order="BGR"
    )
    swapped = encoder_from(tmp_path / "fruit.onnx", settings, runtime=runtime)
    mirrored = VECTORS["images"][..., ::-1].copy()
    plain = encoder_from(
        tmp_path / "fruit.onnx",
        NetworkSettings(resize_mode="squash", scale=1 / 255, mean=[0.1, 0.2, 0.3]),
        runtime=runtime,
    )
    vectors = np.empty((3, 5), np.float32)
    runtime_for(plain).predict(mirrored, vectors)
    assert np.abs(features(swapped) - vectors).max() < 1e-4


@RUNTIMES
def test_an_onnx_network_for_any_height_needs_a_size(tmp_path: Path, runtime: str) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx", height="h")
    with pytest.raises(EncoderError, match="images of any size"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime)
    assert_gives(
        encoder_from(tmp_path / "fruit.onnx", UNIT.over(NetworkSettings(size=32)), runtime=runtime),
        expected,
    )


@RUNTIMES
def test_an_onnx_network_with_two_inputs_is_refused(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx", extra_input=True)
    with pytest.raises(EncoderError, match=r"has 2 inputs \(image, age\), expected one"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime)


@RUNTIMES
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_onnx_file_is_one_clear_error(
    tmp_path: Path, share: float, runtime: str
) -> None:
    path = tmp_path / "fruit.onnx"
    onnx_network(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EncoderError, match=r"cannot read .*fruit.onnx: .*; is the file complete\?"):
        encoder_from(path, UNIT, runtime=runtime)


@RUNTIMES
def test_external_arrays_of_an_onnx_file_are_part_of_the_encoder(
    tmp_path: Path, runtime: str
) -> None:
    import onnx

    path = tmp_path / "fruit.onnx"
    expected = onnx_network(path)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="fruit.data", size_threshold=0
    )
    before = encoder_from(path, UNIT, runtime=runtime)
    assert_gives(before, expected)
    data = bytearray((tmp_path / "fruit.data").read_bytes())
    data[0:4] = np.float32(2).tobytes()
    (tmp_path / "fruit.data").write_bytes(data)
    assert encoder_from(path, UNIT, runtime=runtime).fingerprint != before.fingerprint


@RUNTIMES
def test_an_onnx_file_with_paths_outside_its_folder_is_refused(
    tmp_path: Path, runtime: str
) -> None:
    import onnx

    path = tmp_path / "inner" / "fruit.onnx"
    path.parent.mkdir()
    onnx_network(path)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="x" * 14, size_threshold=0
    )
    path.write_bytes(path.read_bytes().replace(b"x" * 14, b"../secret.data"))
    (tmp_path / "secret.data").write_bytes(bytes(10_000))
    with pytest.raises(EncoderError, match="outside its own folder|cannot read"):
        encoder_from(path, UNIT, runtime=runtime)


@RUNTIMES
def test_a_fixed_batch_size_is_replaced_by_one(tmp_path: Path, runtime: str) -> None:
    import onnx

    path = tmp_path / "fruit.onnx"
    onnx_network(path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, path)
    assert encoder_from(path, UNIT, runtime=runtime).dimension == 5


def test_the_two_runtimes_give_two_encoders_with_the_same_features(tmp_path: Path) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    one = build.build_encoder(tmp_path / "fruit.onnx", settings=UNIT)
    other = build.build_encoder(tmp_path / "fruit.onnx", settings=UNIT, runtime="onnxruntime")
    assert one.fingerprint != other.fingerprint
    assert other.provenance()["runtime"] == "onnxruntime"
    assert Encoder.from_bytes(other.to_bytes()) == other
    np.testing.assert_allclose(features(one), features(other), rtol=1e-4, atol=1e-5)


def test_an_onnx_runtime_vector_does_not_depend_on_the_other_images_of_a_batch(
    tmp_path: Path,
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    runtime = runtime_for(encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime"))
    together, alone = np.empty((3, 5), np.float32), np.empty((1, 5), np.float32)
    runtime.predict(VECTORS["images"], together)
    for image, vector in zip(VECTORS["images"], together, strict=True):
        runtime.predict(image[None], alone)
        np.testing.assert_array_equal(alone[0], vector)


def test_onnx_runtime_extracts_a_table(tmp_path: Path, pictures: Path) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime").save(
        tmp_path / "fruit.encoder"
    )
    summary = pomona.extract(
        pictures,
        tmp_path / "features",
        encoder=tmp_path / "fruit.encoder",
        engine=pomona.LocalEngine(workers=1),
    )
    assert (summary.ok, summary.failed) == (11, 3)
    provenance = pomona.FeatureTable.at(str(tmp_path / "features")).provenance()
    assert provenance["runtime"] == "onnxruntime"


@pytest.mark.parametrize("model", ["mobilenet_v2", str(FILES / "transfer.keras")])
def test_onnx_runtime_requires_an_onnx_file(model: str) -> None:
    with pytest.raises(EncoderError, match="`runtime` onnxruntime requires an .onnx file"):
        build.build_encoder(model, runtime="onnxruntime")


def test_without_onnx_runtime_a_worker_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    encoder = encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match=r"needs ONNX Runtime: .*pip install '\.\[onnx\]'"):
        runtime_for(encoder)


@pytest.mark.parametrize(
    ("runtime", "kind", "tolerance"),
    [
        ("openvino", "float16", 2e-3),
        ("onnxruntime", "float16", 2e-3),
        ("openvino", "float64", 1e-5),  # ONNX Runtime has no float64 convolution
    ],
)
def test_a_network_with_other_float_types_is_computed(
    tmp_path: Path, runtime: str, kind: str, tolerance: float
) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx", kind=kind)
    result = features(encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime))
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < tolerance * np.abs(expected).max()


@RUNTIMES
@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_a_network_with_integer_input_gets_integer_pixels(
    tmp_path: Path, runtime: str, kind: str
) -> None:
    network_with_integer_input(tmp_path / "fruit.onnx", kind)
    encoder = encoder_from(
        tmp_path / "fruit.onnx", NetworkSettings(resize_mode="squash", scale=1), runtime=runtime
    )
    expected = VECTORS["images"].mean(axis=(1, 2))
    assert np.abs(features(encoder) - expected).max() < 1e-3
    with pytest.raises(EncoderError, match=r"takes integers .*give `scale` 1"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime=runtime)
    moved = NetworkSettings(
        resize_mode="squash", scale=1, mean=120
    )  # unsigned bytes cannot be negative
    if kind == "uint8":
        with pytest.raises(EncoderError, match=r"give `scale` 1, no `std`, and no `mean`"):
            encoder_from(tmp_path / "fruit.onnx", moved, runtime=runtime)
    else:
        encoder = encoder_from(tmp_path / "fruit.onnx", moved, runtime=runtime)
        assert np.abs(features(encoder) - (expected - 120)).max() < 1e-3


@RUNTIMES
def test_a_network_whose_integer_type_cannot_hold_pixels_is_refused(
    tmp_path: Path, runtime: str
) -> None:
    network_with_integer_input(tmp_path / "fruit.onnx", "int8")
    with pytest.raises(EncoderError, match="which cannot represent pixels 0..255"):
        encoder_from(
            tmp_path / "fruit.onnx", NetworkSettings(resize_mode="squash", scale=1), runtime=runtime
        )


def network_with_integer_input(path: Path, kind: str) -> None:
    """Write a network that returns the mean of each channel."""
    from onnx import TensorProto, helper

    small_network(
        path,
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["vector"], axes=[2, 3], keepdims=0),
        kind=kind,
    )


@RUNTIMES
def test_a_network_that_lists_its_arrays_as_inputs_is_built(runtime: str) -> None:
    """Networks published in 2018 list their arrays as inputs; the onnx package contains some."""
    import onnx

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    path = light / "light_shufflenet.onnx"
    if not path.exists():
        pytest.skip("this onnx package has no test data")
    with pytest.raises(EncoderError, match="ends in scores .*`layer` 'r200'"):
        encoder_from(path, UNIT, runtime=runtime)
    named = UNIT.over(NetworkSettings(layer="r200"))
    assert encoder_from(path, named, runtime=runtime).dimension == 544


@RUNTIMES
def test_a_layout_given_by_the_user_gives_a_different_encoder(tmp_path: Path, runtime: str) -> None:
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("Flatten", ["image"], ["row"]),
        helper.make_node("MatMul", ["row", "dense"], ["vector"]),
        shape=("n", "a", "b", "c"),
        dense=np.random.default_rng(0).normal(size=(32 * 32 * 3, 5)).astype(np.float32),
    )
    first, last = (
        encoder_from(
            path,
            NetworkSettings(resize_mode="squash", scale=1, size=32, layout=layout),
            runtime=runtime,
        )
        for layout in ("NCHW", "NHWC")
    )
    assert np.abs(features(first) - features(last)).max() > 1
    assert first.fingerprint != last.fingerprint


@RUNTIMES
def test_a_layout_that_contradicts_the_input_is_refused(tmp_path: Path, runtime: str) -> None:
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("ReduceMean", ["image"], ["vector"], axes=[2, 3], keepdims=0),
        shape=("n", 3, "h", "w"),
    )
    settings = NetworkSettings(resize_mode="squash", scale=1, size=32)
    assert encoder_from(path, settings, runtime=runtime).dimension == 3
    with pytest.raises(EncoderError, match=r"\[None, 3, None, None\], which is not NHWC"):
        encoder_from(path, settings.over(NetworkSettings(layout="NHWC")), runtime=runtime)


def test_an_output_without_a_declared_shape_is_accepted(tmp_path: Path) -> None:
    import onnx

    expected = onnx_network(tmp_path / "fruit.onnx")
    model = onnx.load(tmp_path / "fruit.onnx")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "fruit.onnx")
    assert_gives(encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime"), expected)


def test_an_opset_too_old_for_onnx_runtime_is_refused_and_openvino_is_suggested(
    tmp_path: Path,
) -> None:
    import onnx

    onnx_network(tmp_path / "fruit.onnx")
    model = onnx.load(tmp_path / "fruit.onnx")
    model.opset_import[0].version = 6
    onnx.save(model, tmp_path / "fruit.onnx")
    with pytest.raises(EncoderError, match="uses opset 6, .*: use `runtime` openvino"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")


def test_a_network_too_large_for_one_protobuf_is_refused_and_openvino_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    monkeypatch.setattr("pomona.building.graph.onnx_files._LARGEST", 1000)
    with pytest.raises(EncoderError, match="larger than 2 GB with its arrays: use `runtime` openv"):
        encoder_from(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")
