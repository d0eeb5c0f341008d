"""Encoders from networks in files, held against the libraries that wrote them."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pomona
from pomona.building import build, files
from pomona.building.keras_backend import import_keras
from pomona.building.settings import NetworkSettings
from pomona.encoder.blob import Encoder
from pomona.errors import EncoderError
from pomona.runtime import runtime_for

FILES = Path(__file__).parent / "goldens" / "files"
VECTORS = np.load(FILES / "vectors.npz")
KEYS = ("size", "resize", "channel_order", "scale", "mean", "std", "layout", "layer")
SCALED = NetworkSettings(mean=127.5, std=127.5)
NOTHING_SAID = NetworkSettings()


def made(path: Path, settings: NetworkSettings = NOTHING_SAID, **options: Any) -> Encoder:
    return files.build(path, settings, **options)


def features(encoder: Encoder) -> np.ndarray:
    vectors = np.empty((3, encoder.dimension), np.float32)
    runtime_for(encoder).predict(VECTORS["images"], vectors)
    return vectors


RUNTIMES = pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])


def assert_gives(encoder: Encoder, expected: np.ndarray) -> None:
    vectors = features(encoder)
    assert vectors.shape == expected.shape
    assert np.abs(vectors - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("file", "settings", "expected"),
    [
        ("transfer.keras", NOTHING_SAID, "hidden"),
        ("transfer.h5", NOTHING_SAID, "hidden"),
        ("keras2.keras", NOTHING_SAID, "keras2_hidden"),
        ("keras2.h5", NOTHING_SAID, "keras2_hidden"),
        ("bare.keras", SCALED, "backbone"),
        ("bare.tflite", SCALED, "backbone"),
        ("bare_saved", SCALED, "backbone"),
    ],
)
def test_a_network_gives_its_own_librarys_vectors(
    file: str, settings: NetworkSettings, expected: str
) -> None:
    assert_gives(made(FILES / file, settings), VECTORS[expected])


@pytest.mark.parametrize("layer", ["pool", "depthwise", "hidden"])
def test_any_layer_can_be_taken_also_within_a_model_within_the_model(layer: str) -> None:
    encoder = made(FILES / "transfer.keras", NetworkSettings(layer=layer))
    assert encoder.output == layer
    assert_gives(encoder, VECTORS[layer])


@pytest.mark.parametrize("file", ["transfer.keras", "bare.tflite"])
def test_an_unknown_layer_names_near_ones(file: str) -> None:
    with pytest.raises(EncoderError, match="has no layer 'hiddn'"):
        made(FILES / file, NetworkSettings(mean=1.0, layer="hiddn"))
    with pytest.raises(EncoderError, match="did you mean hidden"):
        made(FILES / "transfer.keras", NetworkSettings(layer="hiddn"))


def test_augmentation_and_dropout_are_left_out() -> None:
    classes = {layer["class"] for layer in files.describe(FILES / "transfer.keras")["layers"]}
    assert classes.isdisjoint({"RandomFlip", "Dropout", "InputLayer"})
    assert "Rescaling" in classes


@pytest.mark.parametrize("file", ["bare.keras", "bare.tflite", "bare_saved"])
def test_preprocessing_that_nobody_told_is_asked_for(file: str) -> None:
    with pytest.raises(EncoderError, match=r"give --scale, --mean and --std .* bare.*\.toml"):
        made(FILES / file)


def test_advice_for_a_known_backbone_has_its_numbers(tmp_path: Path) -> None:
    keras = import_keras()
    network = keras.applications.ResNet50(
        input_shape=(32, 32, 3), include_top=False, pooling="avg", weights=None
    )
    keras.Sequential([network, keras.layers.Dense(3)]).save(tmp_path / "fruit.keras")
    with pytest.raises(
        EncoderError,
        match=r"ResNet50 in it, whose preprocess_input is --mean 103.939,116.779,123.68 "
        r"--std 1,1,1 --channel-order BGR",
    ):
        made(tmp_path / "fruit.keras")


def test_a_card_beside_the_file_tells_what_options_would(tmp_path: Path) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    card = "mean = [127.5, 127.5, 127.5]\nstd = 127.5\nresize = 'bilinear'\n"
    (tmp_path / "fruit.toml").write_text(card)
    encoder = build.build_encoder(tmp_path / "fruit.tflite")
    assert encoder.preprocessing.resize == "bilinear"
    assert_gives(encoder, VECTORS["backbone"])
    told = NetworkSettings(resize="lanczos")
    assert build.build_encoder(tmp_path / "fruit.tflite", settings=told).preprocessing.resize == (
        "lanczos"
    )
    (tmp_path / "fruit.tflite.toml").write_text(card.replace("bilinear", "box"))
    assert build.build_encoder(tmp_path / "fruit.tflite").preprocessing.resize == "box"


def test_the_fingerprint_does_not_depend_on_names_or_folders(tmp_path: Path) -> None:
    for file, settings in (("transfer.keras", NOTHING_SAID), ("bare.tflite", SCALED)):
        other = tmp_path / f"other{Path(file).suffix}"
        shutil.copy(FILES / file, other)
        assert (
            made(other, settings).fingerprint
            == made(FILES / file, settings).fingerprint
            != made(other, NetworkSettings(mean=100.0)).fingerprint
        )


def test_a_savedmodel_that_changes_is_another_encoder(tmp_path: Path) -> None:
    shutil.copytree(FILES / "bare_saved", tmp_path / "saved")
    before = made(tmp_path / "saved", SCALED)
    (data,) = (tmp_path / "saved" / "variables").glob("*.data-*")
    content = bytearray(data.read_bytes())
    content[2000:2004] = np.float32(0.25).tobytes()
    data.write_bytes(content)
    assert made(tmp_path / "saved", SCALED).fingerprint != before.fingerprint


def test_openvinos_own_format_is_read(tmp_path: Path) -> None:
    import openvino

    network = openvino.Core().read_model(FILES / "bare.tflite")
    openvino.serialize(network, tmp_path / "fruit.xml")
    assert_gives(made(tmp_path / "fruit.xml", SCALED), VECTORS["backbone"])


# ---------------------------------------------------------------- networks that cannot be


def sequential(path: Path, *layers: object, shape: tuple[int | None, ...] = (32, 32, 3)) -> Path:
    keras = import_keras()
    keras.Sequential([keras.Input(shape), *layers]).save(path)
    return path


@pytest.mark.parametrize("kind", ["RandomCrop", "Solarization"])
def test_what_augments_does_what_it_does_when_keras_predicts(tmp_path: Path, kind: str) -> None:
    layers = import_keras().layers
    augments = {
        "RandomCrop": lambda: layers.RandomCrop(32, 32),
        "Solarization": lambda: layers.Solarization(value_range=(0, 255)),
    }[kind]()
    shape = (40, 40, 3) if kind == "RandomCrop" else (32, 32, 3)
    rest = (layers.Rescaling(1 / 255), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D())
    path = sequential(tmp_path / "m.keras", augments, *rest, layers.Dense(3), shape=shape)
    encoder = made(path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    found = np.empty((2, 8), np.float32)
    runtime_for(encoder).predict(pixels, found)
    expected = np.concatenate(
        [import_keras().Sequential(rest)(one[None].astype(np.float32)) for one in pixels]
    )
    assert np.abs(found - expected).max() < 1e-5


def test_scores_by_a_function_of_kerass_are_stepped_back_over(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    scores = keras.ops.sigmoid(keras.layers.Dense(1)(keras.layers.Dense(5)(pooled)))
    keras.Model(image, scores).save(tmp_path / "m.keras")
    assert made(tmp_path / "m.keras").dimension == 5


def test_the_kind_of_number_that_a_graph_computes_in_is_in_the_fingerprint(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3), name="image")
    found = set()
    for kind in ("int32", "float32"):
        cut = keras.ops.cast(keras.layers.Rescaling(1 / 25, name="scale")(image), kind)
        back = keras.ops.cast(cut, "float32")
        pooled = keras.layers.GlobalMaxPooling2D(name="pool")(back)
        model = keras.Model(image, pooled, name="m")
        for operation, name in zip(model.operations, "abcdef", strict=False):
            operation.name = name
        model.save(tmp_path / "m.keras")
        found.add(made(tmp_path / "m.keras").fingerprint)
    assert len(found) == 2


def test_a_lambda_layer_is_refused_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = import_keras()
    marker = tmp_path / "ran"
    monkeypatch.setenv("MARKER", str(marker))
    pool = keras.layers.GlobalAveragePooling2D()
    code = keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path(__import__("os").environ["MARKER"]).touch(), x)[1]
    )
    path = sequential(tmp_path / "fruit.keras", code, pool)
    marker.unlink()
    with pytest.raises(EncoderError, match="holds a Lambda layer .* add --trust if"):
        made(path, SCALED)
    assert not marker.exists()
    assert made(path, NetworkSettings(scale=1), trust=True).dimension == 3
    assert marker.exists()


def test_a_layer_of_somebody_elses_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "fruit.keras"
    with zipfile.ZipFile(FILES / "bare.keras") as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "config.json":
                told = json.loads(content)
                told["config"]["layers"][1] |= {
                    "module": "subprocess",
                    "class_name": "Popen",
                    "registered_name": None,
                }
                content = json.dumps(told).encode()
            after.writestr(name, content)
    with pytest.raises(EncoderError, match="uses 'Popen' of subprocess, which Keras does not have"):
        made(path, SCALED)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    image, age = keras.Input((32, 32, 3), name="photo"), keras.Input((3,), name="age")
    both = keras.layers.Add()([keras.layers.GlobalAveragePooling2D()(image), age])
    keras.Model([image, age], both).save(tmp_path / "fruit.keras")
    with pytest.raises(EncoderError, match=r"has 2 inputs \(photo, age\), expected one"):
        made(tmp_path / "fruit.keras", SCALED)


def test_two_outputs_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    keras.Model(image, [pooled, keras.layers.Dense(2, name="side")(pooled)]).save(
        tmp_path / "fruit.keras"
    )
    with pytest.raises(EncoderError, match=r"has 2 outputs \(pool, side\)"):
        made(tmp_path / "fruit.keras", SCALED)
    assert made(tmp_path / "fruit.keras", NetworkSettings(scale=1, layer="side")).dimension == 2


def test_an_input_that_is_no_image_is_refused(tmp_path: Path) -> None:
    dense = import_keras().layers.Dense(2)
    path = sequential(tmp_path / "fruit.keras", dense, shape=(7,))
    with pytest.raises(EncoderError, match=r"input of shape \(None, 7\), expected images"):
        made(path, SCALED)


@pytest.mark.parametrize("file", ["transfer.keras", "bare.tflite"])
def test_a_layout_that_the_input_does_not_have_is_refused(file: str) -> None:
    with pytest.raises(EncoderError, match=r"input of shape .*32, 32, 3.*: not NCHW"):
        made(FILES / file, NetworkSettings(layout="NCHW", scale=1))


def test_a_network_for_any_size_needs_one(tmp_path: Path) -> None:
    pool = import_keras().layers.GlobalAveragePooling2D()
    path = sequential(tmp_path / "fruit.keras", pool, shape=(None, None, 3))
    with pytest.raises(EncoderError, match="images of any size: say which with --size"):
        made(path, SCALED)
    encoder = made(path, NetworkSettings(size=(48, 40), scale=1))
    assert (encoder.preprocessing.height, encoder.preprocessing.width) == (48, 40)


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    layers = import_keras().layers
    path = sequential(tmp_path / "fruit.keras", layers.Flatten(), layers.Dense(4), layers.Dense(2))
    with pytest.raises(EncoderError, match="cannot take one image of 16x16"):
        made(path, NetworkSettings(scale=1, size=16))


@pytest.mark.parametrize(
    "file", ["transfer.keras", "transfer.h5", "keras2.h5", "bare.tflite", "bare_saved"]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, file: str, share: float) -> None:
    whole = FILES / file
    path = tmp_path / file
    if whole.is_dir():
        shutil.copytree(whole, path)
        path /= "saved_model.pb"
        whole /= "saved_model.pb"
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EncoderError) as caught:
        made(tmp_path / file, SCALED)
    assert "\n" not in str(caught.value)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fruit.onnx", "does not exist"),
        ("", "is a folder, but no SavedModel"),
        ("fruit.pt", "is of no known kind: expected .*keras, .h5, .* or a TensorFlow SavedModel"),
        ("fruit.weights.h5", "holds weights without their network"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path: Path, name: str, message: str) -> None:
    if name not in ("", "fruit.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(EncoderError, match=message):
        build.build_encoder(tmp_path / name)


def test_weights_for_a_whole_network_are_refused() -> None:
    with pytest.raises(EncoderError, match="weights of its own"):
        build.build_encoder(FILES / "transfer.keras", "imagenet")


def test_a_whole_network_given_as_weights_says_where_it_belongs() -> None:
    with pytest.raises(EncoderError, match="in place of the network's name"):
        build.build_encoder("mobilenet_v2", str(FILES / "transfer.keras"))


# ---------------------------------------------------------------- what is said of a network


def test_scale_mean_and_std_are_taken_together() -> None:
    told = NetworkSettings(scale=1 / 255, mean=[0.5, 0.25, 0.0], std=0.5)
    spec = made(FILES / "bare.tflite", told).preprocessing
    assert spec.mean == pytest.approx((127.5, 63.75, 0))
    assert spec.std == pytest.approx((127.5,) * 3)
    assert told.over(NetworkSettings(mean=9.0, resize="box")) == NetworkSettings(
        scale=1 / 255, mean=[0.5, 0.25, 0.0], std=0.5, resize="box"
    )
    assert NetworkSettings(scale=2.0).over(told) == NetworkSettings(scale=2.0)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("size = 0", "size is 0"),
        ("size = [1, 2, 3]", "size is"),
        ("mean = 'x'", "mean is 'x'"),
        ("std = [1, 2]", r"std is \[1, 2\]"),
        ("scale = -1", "scale is -1"),
        ("layout = 'CHW'", "layout is 'CHW'"),
        ("layer = 3", "layer is 3"),
        ("sise = 224", "has the key 'sise', expected size, resize"),
        ("size = ", "is no TOML"),
        ("std = 0", "std is"),
        ("resize = 'cubic'", "resize is 'cubic'"),
    ],
)
def test_a_card_that_cannot_be_is_refused(tmp_path: Path, card: str, message: str) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    (tmp_path / "fruit.toml").write_text(f"{card}\n")
    with pytest.raises(EncoderError, match=f"the card .*fruit.toml.*{message}"):
        build.build_encoder(tmp_path / "fruit.tflite")


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.floats())
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, ANYTHING)))
def test_settings_are_refused_or_travel_unchanged(told: dict[str, Any]) -> None:
    try:
        settings = NetworkSettings(**told)
    except EncoderError:
        return
    assert NetworkSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


# ---------------------------------------------------------------- ONNX


def onnx_network(path: Path, *, height: int | str = 32, extra_input: bool = False) -> np.ndarray:
    """Write a small convolutional network; gives its vectors as ONNX' own reference computes them.

    Channels first, as PyTorch exports: convolution, ReLU (`features`), mean (`embedding`), dense.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(3)
    arrays = {
        "kernel": rng.normal(size=(8, 3, 3, 3)),
        "bias": rng.normal(size=8),
        "dense": rng.normal(size=(8, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["conv"], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "dense"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, height, 32])]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 5]))
        nodes[-1].output[0] = "scores"
        nodes.append(helper.make_node("Add", ["scores", "age"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "small",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    if extra_input:
        return np.empty(0)
    pixels = (VECTORS["images"].transpose(0, 3, 1, 2) / np.float32(255) - 0.5).astype(np.float32)
    reference = ReferenceEvaluator(model)
    return np.concatenate([reference.run(None, {"image": p[None]})[0] for p in pixels])


UNIT = NetworkSettings(scale=1 / 255, mean=0.5)


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
