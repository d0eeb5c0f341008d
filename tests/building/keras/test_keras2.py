"""Translating a Keras 2 model configuration to Keras 3."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_files import FILES, FUNCTIONAL, VECTORS, assert_gives, encoder_from
from pomona.building.keras.config import objects_in, readable
from pomona.building.keras.keras2 import NETWORK_LAYERS, modernized
from pomona.building.keras.load import load_model
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

FUNCTIONS = FILES / "keras2_functions.h5"


def translated(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        config: dict[str, Any] = json.loads(file.attrs["model_config"])
    return config


def altered(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the file with all functions, with its configuration modified."""
    path = tmp_path / "fruit.h5"
    shutil.copy(FUNCTIONS, path)
    config = translated(path)
    change(config)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return path


def test_each_known_tensorflow_function_is_computed() -> None:
    encoder = encoder_from(FUNCTIONS, NetworkSettings(scale=1))
    assert_gives(encoder, FUNCTIONAL["keras2_functions"])


def test_the_functions_file_contains_every_known_function() -> None:
    from pomona.building.keras import keras2_functions as ours

    used = {
        part["config"].get("function")
        for part in objects_in(translated(FUNCTIONS))
        if "config" in part
    }
    known = {*ours._BINARY, *ours._UNARY, *ours._REDUCING, *ours._OTHERS}
    others = {  # names of the same function in other versions of TensorFlow
        *("math.divide", "__operators__.truediv", "math.sigmoid", "nn.sigmoid", "nn.swish"),
        *("nn.softplus", "math.softplus", "nn.tanh", "linalg.l2_normalize", "math.softmax"),
        *("compat.v1.squeeze", "squeeze", "compat.v1.transpose", "transpose"),
    }
    assert known - used <= others
    assert len(known & used) > 35


@pytest.mark.parametrize("function", ["image.rgb_to_grayscale", "nn.relu"])
def test_an_unknown_function_is_refused_by_its_name(tmp_path: Path, function: str) -> None:
    def change(config: dict[str, Any]) -> None:
        for part in objects_in(config):
            if part.get("config", {}).get("function") == "nn.relu6":
                part["config"]["function"] = function
                part["inbound_nodes"][0][3]["threshold"] = 3

    with pytest.raises(
        EncoderError, match=rf"computes with tf.{function}, .* SavedModel or as ONNX"
    ):
        encoder_from(altered(tmp_path, change), NetworkSettings(scale=1))


def test_calls_of_a_nested_model_are_counted_from_zero() -> None:
    config = readable(translated(FILES / "keras2_functional.h5"), "2.15.0")
    layers = {layer["name"]: layer for layer in config["config"]["layers"]}
    (pooling,) = (n for n in layers if n.startswith("global_average"))
    (node,) = layers[pooling]["inbound_nodes"]
    assert node["args"][0]["config"]["keras_history"] == ["half_frozen", 0, 0]
    assert layers["half_frozen"]["inbound_nodes"][0]["kwargs"] == {"training": False}


@pytest.mark.parametrize("kind", ["CustomScaleLayer", "LayerScale"])
def test_a_custom_layer_is_not_mistaken_for_a_layer_of_keras_applications(kind: str) -> None:
    part = {"class_name": kind, "module": "theirs.layers", "config": {"name": "x"}}
    assert modernized(part)["module"] == "theirs.layers"
    assert modernized({**part, "module": None})["module"] == NETWORK_LAYERS[kind]


@pytest.mark.parametrize("is_list", [False, True])
def test_a_sequential_model_without_an_input_layer_is_read(tmp_path: Path, is_list: bool) -> None:
    shutil.copy(FILES / "keras2.h5", tmp_path / "older.h5")
    with h5py.File(tmp_path / "older.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        first, *layers = config["config"]["layers"]
        layers[0]["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
        config["config"]["layers"] = layers
        file.attrs["model_config"] = json.dumps({**config, "config": layers} if is_list else config)
    assert_gives(encoder_from(tmp_path / "older.h5"), VECTORS["keras2_hidden"])


def test_a_slash_in_a_layer_name_is_replaced(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        text = json.dumps(config).replace('"features"', '"block/features"')
        config.update(json.loads(text))

    encoder = encoder_from(altered(tmp_path, change), NetworkSettings(scale=1))
    assert encoder.output == "block_features"
    assert_gives(encoder, FUNCTIONAL["keras2_functions"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def places(part: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = part.items() if isinstance(part, dict) else enumerate(part)
    result = [so_far] if so_far else []
    for key, value in items:
        if isinstance(value, dict | list):
            result += places(value, (*so_far, key))
        else:
            result.append((*so_far, key))
    return result


WHOLE = translated(FILES / "keras2_functional.h5")
PLACES = places(WHOLE)


def changed(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(WHOLE))
    part: Any = config
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return config


@given(st.sampled_from(PLACES), JSON)
def test_any_configuration_is_read_or_raises_an_expected_error(
    place: tuple[Any, ...], value: Any
) -> None:
    with contextlib.suppress(LookupError, AttributeError, TypeError, ValueError):
        json.dumps(readable(changed(place, value), "2.15.0"))


@pytest.mark.parametrize("seed", range(25))
def test_any_changed_configuration_gives_a_model_or_one_clear_error(
    tmp_path: Path, seed: int
) -> None:
    choose = random.Random(seed)
    values = [None, True, -1, 10**9, "x", [], {}, ["a", 0, 0], [[[]]], {"class_name": "Dense"}]
    path = tmp_path / "fruit.h5"
    shutil.copy(FILES / "keras2_functional.h5", path)
    with h5py.File(path, "r+") as file:
        config = changed(choose.choice(PLACES), choose.choice(values))
        file.attrs["model_config"] = json.dumps(config)
    message = ""
    try:
        load_model(path, trust=False)
    except EncoderError as error:
        message = str(error)
    assert "\n" not in message
    assert not message or str(path) in message
