"""Encoders from ONNX files, on both runtimes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pomona
from network_files import FILES, SCALED, UNIT, VECTORS, assert_gives, features, made, onnx_network
from pomona.building import build
from pomona.building.precision import lower_precision
from pomona.building.settings import NetworkSettings
from pomona.encoder.blob import Encoder
from pomona.errors import EncoderError
from pomona.runtime import runtime_for

RUNTIMES = pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])


def small_network(
    path: Path,
    *nodes: Any,
    shape: tuple[int | str, ...] = ("n", 3, 32, 32),
    kind: str = "float32",
    **arrays: np.ndarray,
) -> Path:
    """Write a network of these nodes: from `image` to `vector`."""
    from onnx import TensorProto, helper, numpy_helper, save

    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", number, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", "d"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@RUNTIMES
def test_an_onnx_network_gives_the_references_vectors(tmp_path: Path, runtime: str) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx")
    assert_gives(made(tmp_path / "fruit.onnx", UNIT, runtime=runtime), expected)


@RUNTIMES
def test_an_inner_tensor_of_an_onnx_network_can_be_the_output(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    settings = NetworkSettings(scale=1 / 255, mean=0.5, layer="embedding")
    assert made(tmp_path / "fruit.onnx", settings, runtime=runtime).dimension == 8
    maps = made(
        tmp_path / "fruit.onnx", NetworkSettings(scale=1, layer="features"), runtime=runtime
    )
    assert maps.dimension == 8 * 15 * 15


@RUNTIMES
def test_an_onnx_network_that_ends_in_a_map_is_refused_unless_it_is_named(
    tmp_path: Path, runtime: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs ONNX")
    onnx_network(tmp_path / "n.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    (convolution,) = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][:1]
    del model.graph.output[:]
    shape = ["n", "c", "h", "w"]
    told = onnx.helper.make_tensor_value_info(convolution, onnx.TensorProto.FLOAT, shape)
    model.graph.output.append(told)
    onnx.save(model, tmp_path / "map.onnx")
    with pytest.raises(EncoderError, match="for one image, expected one vector: name a layer"):
        made(tmp_path / "map.onnx", SCALED, runtime=runtime)
    named = NetworkSettings(mean=127.5, std=127.5, layer=convolution)
    assert made(tmp_path / "map.onnx", named, runtime=runtime).dimension > 1000


@RUNTIMES
def test_bgr_swaps_the_channels_of_any_network(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    told = NetworkSettings(scale=1 / 255, mean=[0.1, 0.2, 0.3], channel_order="BGR")
    swapped = made(tmp_path / "fruit.onnx", told, runtime=runtime)
    mirrored = VECTORS["images"][..., ::-1].copy()
    plain = made(
        tmp_path / "fruit.onnx",
        NetworkSettings(scale=1 / 255, mean=[0.1, 0.2, 0.3]),
        runtime=runtime,
    )
    vectors = np.empty((3, 5), np.float32)
    runtime_for(plain).predict(mirrored, vectors)
    assert np.abs(features(swapped) - vectors).max() < 1e-4


@RUNTIMES
def test_an_onnx_network_for_any_height_needs_a_size(tmp_path: Path, runtime: str) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx", height="h")
    with pytest.raises(EncoderError, match="images of any size"):
        made(tmp_path / "fruit.onnx", UNIT, runtime=runtime)
    assert_gives(
        made(tmp_path / "fruit.onnx", UNIT.over(NetworkSettings(size=32)), runtime=runtime),
        expected,
    )


@RUNTIMES
def test_an_onnx_network_with_two_inputs_is_refused(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx", extra_input=True)
    with pytest.raises(EncoderError, match=r"has 2 inputs \(image, age\), expected one"):
        made(tmp_path / "fruit.onnx", UNIT, runtime=runtime)


@RUNTIMES
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_onnx_file_is_one_clear_error(
    tmp_path: Path, share: float, runtime: str
) -> None:
    path = tmp_path / "fruit.onnx"
    onnx_network(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EncoderError, match=r"cannot read .*fruit.onnx: .*; is the file whole\?"):
        made(path, UNIT, runtime=runtime)


@RUNTIMES
def test_arrays_beside_an_onnx_file_are_part_of_the_encoder(tmp_path: Path, runtime: str) -> None:
    import onnx

    path = tmp_path / "fruit.onnx"
    expected = onnx_network(path)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="fruit.data", size_threshold=0
    )
    before = made(path, UNIT, runtime=runtime)
    assert_gives(before, expected)
    data = bytearray((tmp_path / "fruit.data").read_bytes())
    data[0:4] = np.float32(2).tobytes()
    (tmp_path / "fruit.data").write_bytes(data)
    assert made(path, UNIT, runtime=runtime).fingerprint != before.fingerprint


@RUNTIMES
def test_an_onnx_file_that_reaches_out_of_its_folder_is_refused(
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
        made(path, UNIT, runtime=runtime)


@RUNTIMES
def test_a_batch_that_is_fixed_to_another_number_is_set_to_one(
    tmp_path: Path, runtime: str
) -> None:
    import onnx

    path = tmp_path / "fruit.onnx"
    onnx_network(path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, path)
    assert made(path, UNIT, runtime=runtime).dimension == 5


def test_the_two_runtimes_are_two_encoders_with_the_same_features(tmp_path: Path) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    one = build.build_encoder(tmp_path / "fruit.onnx", settings=UNIT)
    other = build.build_encoder(tmp_path / "fruit.onnx", settings=UNIT, runtime="onnxruntime")
    assert one.fingerprint != other.fingerprint
    assert other.provenance()["runtime"] == "onnxruntime"
    assert Encoder.from_bytes(other.to_bytes()) == other
    np.testing.assert_allclose(features(one), features(other), rtol=1e-4, atol=1e-5)


def test_onnx_runtime_gives_a_vector_that_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    runtime = runtime_for(made(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime"))
    together, alone = np.empty((3, 5), np.float32), np.empty((1, 5), np.float32)
    runtime.predict(VECTORS["images"], together)
    for image, vector in zip(VECTORS["images"], together, strict=True):
        runtime.predict(image[None], alone)
        np.testing.assert_array_equal(alone[0], vector)


def test_a_table_is_made_by_onnx_runtime(tmp_path: Path, pictures: Path) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    made(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime").save(tmp_path / "fruit.encoder")
    summary = pomona.extract(
        pictures, tmp_path / "features", encoder=tmp_path / "fruit.encoder", workers=1
    )
    assert (summary.ok, summary.failed) == (11, 3)
    provenance = pomona.FeatureTable.at(str(tmp_path / "features")).provenance()
    assert provenance["runtime"] == "onnxruntime"


class Device:
    """A session of ONNX Runtime on a GPU with memory for so many images."""

    def __init__(self, session: Any, room: int) -> None:
        self._session, self._room = session, room
        self.sizes: list[int] = []

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, names: Any, given: dict[str, np.ndarray]) -> Any:
        (images,) = given.values()
        self.sizes.append(len(images))
        if len(images) > self._room:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        return self._session.run(names, given)


def on_a_device(path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> tuple[Any, Device]:
    from pomona.runtime import onnx

    encoder = made(path, UNIT, runtime="onnxruntime")
    device = Device(onnx.new_session(encoder.graph, "it"), room)
    monkeypatch.setattr(onnx, "new_session", lambda *_: device)
    monkeypatch.setattr(onnx, "_GPU_BATCH", 8)
    return runtime_for(encoder), device


@pytest.mark.parametrize("images", [1, 3, 8, 9])
def test_a_gpu_gets_batches_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx")
    runtime, device = on_a_device(tmp_path / "fruit.onnx", monkeypatch, room=8)
    assert runtime.batch_size == 8
    found = np.empty((images, 5), np.float32)
    which = np.arange(images) % 3
    runtime.predict(VECTORS["images"][which], found)
    assert np.abs(found - expected[which]).max() < 1e-5 * np.abs(expected).max()
    assert device.sizes == [8] * -(-images // 8)


def test_a_batch_that_a_gpu_has_no_memory_for_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx")
    runtime, device = on_a_device(tmp_path / "fruit.onnx", monkeypatch, room=2)
    for _ in range(2):
        found = np.empty((3, 5), np.float32)
        runtime.predict(VECTORS["images"], found)
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert device.sizes == [8, 4, 2, 2, 2, 2]


def test_a_gpu_that_cannot_compute_one_image_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    runtime, _ = on_a_device(tmp_path / "fruit.onnx", monkeypatch, room=0)
    with pytest.raises(EncoderError, match="cannot compute encoder .*Failed to allocate memory"):
        runtime.predict(VECTORS["images"], np.empty((3, 5), np.float32))


@pytest.mark.parametrize("model", ["mobilenet_v2", str(FILES / "transfer.keras")])
def test_onnx_runtime_is_for_onnx_files(model: str) -> None:
    with pytest.raises(EncoderError, match="--runtime onnxruntime is for .onnx files"):
        build.build_encoder(model, runtime="onnxruntime")


def test_without_onnx_runtime_a_worker_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    encoder = made(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match=r"needs ONNX Runtime: pip install 'pomona\[onnx\]'"):
        runtime_for(encoder)


@pytest.mark.parametrize(
    ("runtime", "kind", "tolerance"),
    [
        ("openvino", "float16", 2e-3),
        ("onnxruntime", "float16", 2e-3),
        ("openvino", "float64", 1e-5),  # of which ONNX Runtime has no convolution
    ],
)
def test_a_network_of_other_floats_is_computed(
    tmp_path: Path, runtime: str, kind: str, tolerance: float
) -> None:
    expected = onnx_network(tmp_path / "fruit.onnx", kind=kind)
    found = features(made(tmp_path / "fruit.onnx", UNIT, runtime=runtime))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@RUNTIMES
@pytest.mark.parametrize("end", [("Softmax",), ("Identity", "LogSoftmax"), ("Sigmoid", "Identity")])
def test_scores_are_refused_with_the_name_of_what_comes_before(
    tmp_path: Path, runtime: str, end: tuple[str, ...]
) -> None:
    onnx_network(tmp_path / "fruit.onnx", end=end)
    with pytest.raises(
        EncoderError,
        match=r"ends in scores \('end', a \w+\).*; --layer 'embedding' is what its last dense",
    ):
        made(tmp_path / "fruit.onnx", UNIT, runtime=runtime)
    named = UNIT.over(NetworkSettings(layer="embedding"))
    assert made(tmp_path / "fruit.onnx", named, runtime=runtime).dimension == 8
    scores = UNIT.over(NetworkSettings(layer="end"))
    assert made(tmp_path / "fruit.onnx", scores, runtime=runtime).dimension == 5


@RUNTIMES
def test_scores_that_no_dense_layer_makes_are_refused(tmp_path: Path, runtime: str) -> None:
    import onnx

    onnx_network(tmp_path / "fruit.onnx")
    model = onnx.load(tmp_path / "fruit.onnx")
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Softmax", ["embedding"], ["logits"]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    onnx.save(model, tmp_path / "fruit.onnx")
    with pytest.raises(EncoderError, match="whose output is wanted with --layer$"):
        made(tmp_path / "fruit.onnx", UNIT, runtime=runtime)


@RUNTIMES
def test_an_end_that_may_be_a_classifier_is_taken_and_noted_where_it_is_built(
    tmp_path: Path,
    runtime: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))  # the session's may hold it
    onnx_network(tmp_path / "fruit.onnx")
    with caplog.at_level("INFO", "pomona"):
        encoder = build.build_encoder(tmp_path / "fruit.onnx", settings=UNIT, runtime=runtime)
    assert encoder.dimension == 5
    (note,) = [text for text in caplog.messages if "dense layer" in text]
    assert "output 'logits' of" in note
    assert "--layer 'embedding' is what that layer is given" in note


@RUNTIMES
def test_whole_numbers_are_no_features(tmp_path: Path, runtime: str) -> None:
    onnx_network(tmp_path / "fruit.onnx", end=("ArgMax",))
    with pytest.raises(EncoderError, match=r"gives whole numbers \((i64|int64)\).*--layer"):
        made(tmp_path / "fruit.onnx", UNIT, runtime=runtime)


@RUNTIMES
@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_a_network_that_takes_pixels_as_whole_numbers_gets_them(
    tmp_path: Path, runtime: str, kind: str
) -> None:
    takes_whole_numbers(tmp_path / "fruit.onnx", kind)
    encoder = made(tmp_path / "fruit.onnx", NetworkSettings(scale=1), runtime=runtime)
    expected = VECTORS["images"].mean(axis=(1, 2))
    assert np.abs(features(encoder) - expected).max() < 1e-3
    with pytest.raises(EncoderError, match=r"takes whole numbers .*give --scale 1"):
        made(tmp_path / "fruit.onnx", UNIT, runtime=runtime)
    moved = NetworkSettings(scale=1, mean=120)  # bytes do not go below zero
    if kind == "uint8":
        with pytest.raises(EncoderError, match=r"give --scale 1, no --std, and no --mean"):
            made(tmp_path / "fruit.onnx", moved, runtime=runtime)
    else:
        encoder = made(tmp_path / "fruit.onnx", moved, runtime=runtime)
        assert np.abs(features(encoder) - (expected - 120)).max() < 1e-3


@RUNTIMES
def test_a_network_whose_whole_numbers_hold_no_pixels_is_refused(
    tmp_path: Path, runtime: str
) -> None:
    takes_whole_numbers(tmp_path / "fruit.onnx", "int8")
    with pytest.raises(EncoderError, match="which does not hold pixels 0..255"):
        made(tmp_path / "fruit.onnx", NetworkSettings(scale=1), runtime=runtime)


def takes_whole_numbers(path: Path, kind: str) -> None:
    """Write a network that gives the mean of each channel."""
    from onnx import TensorProto, helper

    small_network(
        path,
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["vector"], axes=[2, 3], keepdims=0),
        kind=kind,
    )


@RUNTIMES
def test_a_network_of_the_first_onnx_is_built(runtime: str) -> None:
    """Published networks of 2018 list their arrays among their inputs; ONNX' package has some."""
    import onnx

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    path = light / "light_shufflenet.onnx"
    if not path.exists():
        pytest.skip("this ONNX comes without its test data")
    with pytest.raises(EncoderError, match="ends in scores .*--layer 'r200'"):
        made(path, UNIT, runtime=runtime)
    named = UNIT.over(NetworkSettings(layer="r200"))
    assert made(path, named, runtime=runtime).dimension == 544


@RUNTIMES
def test_a_layout_that_only_the_user_knows_makes_another_encoder(
    tmp_path: Path, runtime: str
) -> None:
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("Flatten", ["image"], ["row"]),
        helper.make_node("MatMul", ["row", "dense"], ["vector"]),
        shape=("n", "a", "b", "c"),
        dense=np.random.default_rng(0).normal(size=(32 * 32 * 3, 5)).astype(np.float32),
    )
    first, last = (
        made(path, NetworkSettings(scale=1, size=32, layout=layout), runtime=runtime)
        for layout in ("NCHW", "NHWC")
    )
    assert np.abs(features(first) - features(last)).max() > 1
    assert first.fingerprint != last.fingerprint


@RUNTIMES
def test_a_layout_against_what_the_input_shows_is_refused(tmp_path: Path, runtime: str) -> None:
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("ReduceMean", ["image"], ["vector"], axes=[2, 3], keepdims=0),
        shape=("n", 3, "h", "w"),
    )
    told = NetworkSettings(scale=1, size=32)
    assert made(path, told, runtime=runtime).dimension == 3
    with pytest.raises(EncoderError, match=r"\[None, 3, None, None\]: not NHWC"):
        made(path, told.over(NetworkSettings(layout="NHWC")), runtime=runtime)


@pytest.mark.parametrize("kind", ["first", "mean", "one row"])
def test_a_network_that_mixes_its_images_is_given_one_at_a_time(tmp_path: Path, kind: str) -> None:
    import onnx
    from onnx import helper

    pooled = helper.make_node("ReduceMean", ["image"], ["pooled"], axes=[2, 3], keepdims=0)
    ends = {
        "first": [
            helper.make_node("Gather", ["pooled", "zero"], ["one"], axis=0),
            helper.make_node("Reshape", ["one", "row"], ["vector"]),
        ],
        "mean": [
            helper.make_node("ReduceMean", ["pooled"], ["all"], axes=[0], keepdims=1),
            helper.make_node("Add", ["pooled", "all"], ["vector"]),
        ],
        "one row": [helper.make_node("Reshape", ["pooled", "row"], ["vector"])],
    }
    arrays = {"zero": np.array([0]), "row": np.array([1, -1])}
    path = small_network(tmp_path / "mixing.onnx", pooled, *ends[kind], **arrays)

    def images_at_once(file: Path) -> Any:
        graph = made(file, UNIT, runtime="onnxruntime").graph
        (pixels,) = onnx.load_from_string(graph).graph.input
        return pixels.type.tensor_type.shape.dim[0]

    assert images_at_once(path).dim_value == 1
    onnx_network(tmp_path / "usual.onnx")
    assert images_at_once(tmp_path / "usual.onnx").dim_param == "N"


def test_a_device_that_gives_one_vector_for_many_images_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_network(tmp_path / "fruit.onnx")
    encoder = made(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")
    runtime = runtime_for(encoder)
    one = type("Session", (), {"run": lambda *_: [np.ones((1, 5), np.float32)]})
    monkeypatch.setattr(runtime, "_session", one())
    monkeypatch.setattr(runtime, "_at_once", 3)
    with pytest.raises(EncoderError, match=r"of shape \(1, 5\), expected \(3, 5\)"):
        runtime.predict(VECTORS["images"], np.empty((3, 5), np.float32))


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
    with pytest.raises(EncoderError, match="ends in scores .*--layer 'pooled'"):
        made(path, UNIT, runtime=runtime)


@RUNTIMES
def test_a_quantized_network_says_so(tmp_path: Path, runtime: str) -> None:
    """Processors differ in int8: its gate is wider, and nobody takes its vectors for float32's."""
    from onnx import helper

    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["pixels"]),
        helper.make_node("ReduceMean", ["pixels"], ["vector"], axes=[2, 3], keepdims=0),
        step=np.array(1 / 100, np.float32),
        zero=np.array(100, np.uint8),
    )
    encoder = made(path, UNIT, runtime=runtime)
    assert encoder.precision == "int8"
    assert lower_precision(encoder, "f32") is encoder  # as every command asks that is told nothing
    with pytest.raises(EncoderError, match="is of int8 already"):
        lower_precision(encoder, "bf16")


def test_what_does_not_depend_on_the_image_is_refused(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    ones = numpy_helper.from_array(np.ones((1, 3), np.float32))
    path = small_network(
        tmp_path / "fruit.onnx",
        helper.make_node("Constant", [], ["ones"], value=ones),
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "ones"], ["vector"]),
    )
    told = UNIT.over(NetworkSettings(layer="ones"))
    with pytest.raises(EncoderError, match="gives 'ones' whatever the image is"):
        made(path, told, runtime="onnxruntime")


def test_an_output_of_no_declared_shape_is_as_good(tmp_path: Path) -> None:
    import onnx

    expected = onnx_network(tmp_path / "fruit.onnx")
    model = onnx.load(tmp_path / "fruit.onnx")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "fruit.onnx")
    assert_gives(made(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime"), expected)


def test_an_opset_before_onnx_runtimes_first_is_refused_with_the_other_runtime(
    tmp_path: Path,
) -> None:
    import onnx

    onnx_network(tmp_path / "fruit.onnx")
    model = onnx.load(tmp_path / "fruit.onnx")
    model.opset_import[0].version = 6
    onnx.save(model, tmp_path / "fruit.onnx")
    with pytest.raises(EncoderError, match="is of opset 6, .*: use --runtime openvino"):
        made(tmp_path / "fruit.onnx", UNIT, runtime="onnxruntime")
