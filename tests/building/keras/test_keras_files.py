"""Encoders from whole Keras models, compared with Keras on TensorFlow."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from network_files import (
    FILES,
    FUNCTIONAL,
    NO_SETTINGS,
    SCALED,
    UNUSUAL,
    VECTORS,
    assert_gives,
    encoder_from,
    features,
    sequential,
)
from pomona.building import network_files as files
from pomona.building.keras.backend import import_keras
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError
from pomona.runtime.registry import runtime_for


@pytest.mark.parametrize(
    ("file", "settings", "expected"),
    [
        ("transfer.keras", NO_SETTINGS, "hidden"),
        ("transfer.h5", NO_SETTINGS, "hidden"),
        ("keras2.keras", NO_SETTINGS, "keras2_hidden"),
        ("keras2.h5", NO_SETTINGS, "keras2_hidden"),
        ("bare.keras", SCALED, "backbone"),
        ("bare.tflite", SCALED, "backbone"),
        ("bare_saved", SCALED, "backbone"),
    ],
)
def test_a_network_gives_the_vectors_of_its_own_library(
    file: str, settings: NetworkSettings, expected: str
) -> None:
    assert_gives(encoder_from(FILES / file, settings), VECTORS[expected])


@pytest.mark.parametrize("version", ["", "keras2_"])
@pytest.mark.parametrize("file", ["functional.keras", "functional.h5", "caffe.keras", "caffe.h5"])
def test_preprocess_input_inside_a_functional_model_is_computed(version: str, file: str) -> None:
    path = FILES / f"{version}{file}"
    if not path.exists():
        assert path.name == "keras2_caffe.keras"  # Keras 2 cannot write the `...` in this model
        return
    encoder = encoder_from(path)
    assert encoder.output == "features"  # the layer before Dense, BatchNormalization and softmax
    assert encoder.preprocessing.mean == (0, 0, 0)
    assert_gives(encoder, FUNCTIONAL[path.stem])


def test_a_resizing_layer_matches_tensorflow() -> None:
    assert_gives(encoder_from(FILES / "resizing.keras"), FUNCTIONAL["resizing"])


@pytest.mark.parametrize(
    "file", ["unusual.keras", "unusual.h5", "keras2_unusual.keras", "keras2_unusual.h5"]
)
def test_operations_that_changed_in_keras_3_are_computed_as_the_model_was_trained(
    file: str,
) -> None:
    assert_gives(encoder_from(FILES / file), UNUSUAL[Path(file).stem])


@pytest.mark.filterwarnings("ignore:`custom_gradient`")
@pytest.mark.parametrize("name", ["mixed", "mixed_int8"])
def test_mixed_precision_is_removed_from_every_layer(name: str) -> None:
    assert_gives(encoder_from(FILES / f"{name}.keras"), UNUSUAL[name])


def test_an_unsupported_operation_is_one_clear_error(tmp_path: Path) -> None:
    layers = import_keras().layers
    path = sequential(tmp_path / "m.keras", layers.Resizing(8, 8), layers.GlobalAveragePooling2D())
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(tmp_path / "n.keras", "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(b'"bilinear"', b'"area"'))
    with pytest.raises(EncoderError, match=r"n.keras cannot take one image of 32x32: .*area"):
        encoder_from(tmp_path / "n.keras", SCALED)


@pytest.mark.parametrize("layer", ["pool", "depthwise", "hidden"])
def test_any_layer_can_be_the_output_also_in_a_nested_model(layer: str) -> None:
    encoder = encoder_from(FILES / "transfer.keras", NetworkSettings(layer=layer))
    assert encoder.output == layer
    assert_gives(encoder, VECTORS[layer])


def test_augmentation_and_dropout_are_removed() -> None:
    classes = {layer["class"] for layer in files.describe(FILES / "transfer.keras")["layers"]}
    assert classes.isdisjoint({"RandomFlip", "Dropout", "InputLayer"})
    assert "Rescaling" in classes


def test_advice_for_a_known_backbone_includes_its_numbers(tmp_path: Path) -> None:
    keras = import_keras()
    network = keras.applications.ResNet50(
        input_shape=(32, 32, 3), include_top=False, pooling="avg", weights=None
    )
    keras.Sequential([network, keras.layers.Dense(3)]).save(tmp_path / "fruit.keras")
    with pytest.raises(
        EncoderError,
        match=r"contains ResNet50, whose preprocess_input is `mean` 103.939,116.779,123.68 "
        r"`std` 1,1,1 `channel_order` BGR",
    ):
        encoder_from(tmp_path / "fruit.keras")


@pytest.mark.parametrize("kind", ["RandomCrop", "Solarization"])
def test_an_augmentation_layer_acts_as_in_keras_predict(tmp_path: Path, kind: str) -> None:
    layers = import_keras().layers
    augments = {
        "RandomCrop": lambda: layers.RandomCrop(32, 32),
        "Solarization": lambda: layers.Solarization(value_range=(0, 255)),
    }[kind]()
    shape = (40, 40, 3) if kind == "RandomCrop" else (32, 32, 3)
    rest = (layers.Rescaling(1 / 255), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D())
    path = sequential(tmp_path / "m.keras", augments, *rest, layers.Dense(3), shape=shape)
    encoder = encoder_from(path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    result = np.empty((2, 8), np.float32)
    runtime_for(encoder).predict(pixels, result)
    expected = np.concatenate(
        [import_keras().Sequential(rest)(one[None].astype(np.float32)) for one in pixels]
    )
    assert np.abs(result - expected).max() < 1e-5


def test_a_score_function_of_keras_is_skipped(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    scores = keras.ops.sigmoid(keras.layers.Dense(1)(keras.layers.Dense(5)(pooled)))
    keras.Model(image, scores).save(tmp_path / "m.keras")
    assert encoder_from(tmp_path / "m.keras").dimension == 5


def test_a_normalized_embedding_is_the_output(tmp_path: Path) -> None:
    layers = import_keras().layers
    head = (layers.GlobalAveragePooling2D(), layers.Dense(4), layers.BatchNormalization(name="end"))
    path = sequential(tmp_path / "m.keras", layers.Rescaling(1 / 255), layers.Conv2D(8, 3), *head)
    encoder = encoder_from(path)
    assert (encoder.output, encoder.dimension) == ("end", 4)


def test_scores_without_a_dense_layer_are_refused(tmp_path: Path) -> None:
    layers = import_keras().layers
    ends = (layers.Conv2D(5, 1), layers.GlobalAveragePooling2D(name="pool"), layers.Softmax())
    path = sequential(tmp_path / "m.keras", layers.Rescaling(1 / 255), layers.Conv2D(8, 3), *ends)
    with pytest.raises(EncoderError, match="ends in scores, and .*`layer`.*pool"):
        encoder_from(path)
    assert encoder_from(path, NetworkSettings(layer="pool")).dimension == 5


ENDS = {
    "an average of classifiers": lambda k, x: k.layers.Average()(
        [k.layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    ),
    "several heads": lambda k, x: k.layers.Concatenate()(
        [k.layers.Dense(1, activation="sigmoid")(x) for _ in range(3)]
    ),
    "a cast": lambda k, x: k.ops.cast(k.layers.Dense(3, activation="softmax")(x), "float32"),
    "a cast within": lambda k, x: k.layers.Softmax()(k.ops.cast(k.layers.Dense(3)(x), "float32")),
    "a clip": lambda k, x: k.ops.clip(k.layers.Dense(3, activation="softmax")(x), 1e-7, 1),
    "a logarithm": lambda k, x: k.ops.log(k.layers.Dense(3, activation="softmax")(x)),
    "a part": lambda k, x: k.layers.Dense(3, activation="softmax")(x)[:, 1:],
    "a complement": lambda k, x: 1 - k.layers.Dense(3, activation="sigmoid")(x),
    "a wrapper": lambda k, x: k.layers.SpectralNormalization(
        k.layers.Dense(3, activation="softmax")
    )(x),
}


@pytest.mark.parametrize("end", ENDS)
def test_layers_after_scores_do_not_turn_them_into_features(tmp_path: Path, end: str) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(image))
    pooled = keras.layers.GlobalAveragePooling2D(name="features")(x)
    keras.Model(image, ENDS[end](keras, pooled)).save(tmp_path / "m.keras")
    encoder = encoder_from(tmp_path / "m.keras")
    assert (encoder.output, encoder.dimension) == ("features", 8)


def test_scores_computed_from_several_features_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    scaled = keras.layers.Rescaling(1 / 255)(image)
    pools = [keras.layers.GlobalAveragePooling2D()(scaled), keras.layers.Flatten()(scaled)]
    scores = [keras.layers.Dense(2, activation="softmax")(each) for each in pools]
    keras.Model(image, keras.layers.Average()(scores)).save(tmp_path / "m.keras")
    with pytest.raises(EncoderError, match="ends in scores, and .*`layer`"):
        encoder_from(tmp_path / "m.keras")


def test_features_weighted_by_scores_are_features(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    gate = keras.layers.Dense(8, activation="sigmoid")(x)
    keras.Model(image, keras.layers.Multiply(name="gated")([x, gate])).save(tmp_path / "m.keras")
    assert encoder_from(tmp_path / "m.keras").output == "gated"


def test_a_layer_with_several_outputs_cannot_be_named(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    rows = keras.layers.Reshape((32, 96))(keras.layers.Rescaling(1 / 255)(image))
    row, *_ = keras.layers.LSTM(4, return_state=True, name="states")(rows)
    twice = keras.layers.Dense(4, name="twice")
    keras.Model(image, twice(twice(row))).save(tmp_path / "m.keras")
    for name, number in (("states", 3), ("twice", 2)):
        with pytest.raises(EncoderError, match=f"has {number} tensors of layer '{name}'"):
            encoder_from(tmp_path / "m.keras", NetworkSettings(layer=name))
    layers = files.describe(tmp_path / "m.keras")["layers"]
    assert {layer["name"]: layer["shape"] for layer in layers}["states"] == [4]


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_keras_application_layers_count_as_builtin(tmp_path: Path, form: str) -> None:
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    keras = import_keras()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = CustomScaleLayer(0.5)([x, keras.layers.ReLU()(x)])
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(tmp_path / f"m.{form}")
    expected = 1.5 / 255 * VECTORS["images"].mean(axis=(1, 2))
    assert_gives(encoder_from(tmp_path / f"m.{form}"), expected)


def test_a_temperature_between_the_classifier_and_its_scores_is_skipped(
    tmp_path: Path,
) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Rescaling(1 / 9)(image))
    scores = keras.layers.Softmax()(keras.layers.Dense(5)(pooled) / 0.7)
    keras.Model(image, scores).save(tmp_path / "m.keras")
    assert encoder_from(tmp_path / "m.keras").output == "pool"


def test_rescaling_of_inputs_other_than_pixels_needs_a_scale(tmp_path: Path) -> None:
    layers = import_keras().layers
    rest = (layers.Conv2D(8, 3), layers.GlobalAveragePooling2D())
    path = sequential(tmp_path / "m.keras", layers.Rescaling(2, offset=-1), *rest)
    with pytest.raises(EncoderError, match=r"give `scale`.*would turn pixels 0..255 into -1..509"):
        encoder_from(path)
    encoder = encoder_from(path, NetworkSettings(scale=1 / 255))
    whole = import_keras().Sequential([layers.Rescaling(2 / 255, offset=-1), *rest])
    expected = np.asarray(whole(VECTORS["images"].astype(np.float32)))
    assert np.abs(features(encoder) - expected).max() < 1e-5


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_a_normalization_adapted_to_the_training_images_is_computed(
    tmp_path: Path, form: str
) -> None:
    keras = import_keras()
    inner = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Normalization(), keras.layers.Conv2D(8, 3)]
    )
    normalization = inner.layers[0]
    normalization.set_weights([np.float32([90, 100, 110]), np.float32([4, 9, 16]), np.array(0)])
    normalization.finalize_state()
    pool = keras.layers.GlobalAveragePooling2D()
    network = keras.Sequential([keras.Input((32, 32, 3)), inner, pool, keras.layers.Dense(3)])
    network.save(tmp_path / f"m.{form}")
    expected = np.asarray(pool(inner(VECTORS["images"].astype(np.float32))))
    assert_gives(encoder_from(tmp_path / f"m.{form}"), expected)


def test_objects_used_only_in_training_need_no_trust(tmp_path: Path) -> None:
    keras = import_keras()

    def own_loss(expected: object, result: object) -> object:
        return keras.ops.mean(keras.ops.square(expected - result))

    @keras.saving.register_keras_serializable("own")
    class OwnInitializer(keras.initializers.Zeros):
        pass

    layers = keras.layers
    hidden = layers.Dense(4, kernel_initializer=OwnInitializer(), bias_initializer="ones")
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), hidden, layers.Dense(2)]
    )
    network.compile("sgd", loss=own_loss)
    network.save(tmp_path / "m.keras")
    assert encoder_from(tmp_path / "m.keras", SCALED).dimension == 4


def test_a_lambda_layer_is_refused_unless_trusted(
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
    with pytest.raises(EncoderError, match="holds a Lambda layer .* add `trust` if"):
        encoder_from(path, SCALED)
    assert not marker.exists()
    assert encoder_from(path, NetworkSettings(scale=1), trust=True).dimension == 3
    assert marker.exists()


def test_a_custom_layer_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "fruit.keras"
    with zipfile.ZipFile(FILES / "bare.keras") as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] |= {
                    "module": "subprocess",
                    "class_name": "Popen",
                    "registered_name": None,
                }
                content = json.dumps(config).encode()
            after.writestr(name, content)
    with pytest.raises(EncoderError, match="uses 'Popen' of subprocess, which Keras does not have"):
        encoder_from(path, SCALED)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    image, age = keras.Input((32, 32, 3), name="photo"), keras.Input((3,), name="age")
    both = keras.layers.Add()([keras.layers.GlobalAveragePooling2D()(image), age])
    keras.Model([image, age], both).save(tmp_path / "fruit.keras")
    with pytest.raises(EncoderError, match=r"has 2 inputs \(photo, age\), expected one"):
        encoder_from(tmp_path / "fruit.keras", SCALED)


def test_two_outputs_are_refused_unless_you_name_one(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    keras.Model(image, [pooled, keras.layers.Dense(2, name="side")(pooled)]).save(
        tmp_path / "fruit.keras"
    )
    with pytest.raises(EncoderError, match=r"has 2 outputs \(pool, side\)"):
        encoder_from(tmp_path / "fruit.keras", SCALED)
    assert (
        encoder_from(tmp_path / "fruit.keras", NetworkSettings(scale=1, layer="side")).dimension
        == 2
    )


def test_integer_sums_that_overflow_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    for name, scaled in (("sums", image - 128), ("floats", image / 255)):
        pooled = keras.layers.GlobalAveragePooling2D()(scaled)
        keras.Model(image, keras.layers.Dense(2)(pooled)).save(tmp_path / f"{name}.keras")
    with pytest.raises(EncoderError, match="compute in uint8, which overflows: cast the image"):
        encoder_from(tmp_path / "sums.keras")
    assert_gives(encoder_from(tmp_path / "floats.keras"), VECTORS["images"].mean(axis=(1, 2)) / 255)


def test_an_input_that_is_not_an_image_is_refused(tmp_path: Path) -> None:
    dense = import_keras().layers.Dense(2)
    path = sequential(tmp_path / "fruit.keras", dense, shape=(7,))
    with pytest.raises(EncoderError, match=r"input of shape \(None, 7\), expected images"):
        encoder_from(path, SCALED)


def test_a_network_with_a_variable_input_size_needs_a_size(tmp_path: Path) -> None:
    pool = import_keras().layers.GlobalAveragePooling2D()
    path = sequential(tmp_path / "fruit.keras", pool, shape=(None, None, 3))
    with pytest.raises(EncoderError, match="images of any size: give `size`"):
        encoder_from(path, SCALED)
    encoder = encoder_from(path, NetworkSettings(size=(48, 40), scale=1))
    assert (encoder.preprocessing.height, encoder.preprocessing.width) == (48, 40)


def test_a_size_that_the_network_does_not_support_is_refused(tmp_path: Path) -> None:
    layers = import_keras().layers
    path = sequential(tmp_path / "fruit.keras", layers.Flatten(), layers.Dense(4), layers.Dense(2))
    with pytest.raises(EncoderError, match="cannot take one image of 16x16"):
        encoder_from(path, NetworkSettings(scale=1, size=16))
