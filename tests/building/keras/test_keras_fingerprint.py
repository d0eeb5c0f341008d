"""What the fingerprint of a Keras model depends on, and what it ignores."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from network_files import FILES, encoder_from, features
from pomona.building.keras.backend import import_keras
from pomona.building.keras.fingerprint import architecture_digest
from pomona.building.keras.flatten import flatten_model
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder


def saved(path: Path, model: Any) -> Path:
    """Save a model whose weights depend only on their position."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    model.save(path)
    return path


BOTH = ("functional", "caffe", "unusual", "keras2_functional", "keras2_unusual")


def network(
    *,
    join: Callable[[Any, Any], Any] | None = None,
    head: int = 3,
    activation: str = "relu",
    shared: bool = False,
) -> Any:
    """Two branches whose layers have names that Keras numbers automatically."""
    layers = import_keras().layers
    image = import_keras().Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(image)
    first = layers.Conv2D(4, 3, activation=activation)
    left = first(x)
    right = (first if shared else layers.Conv2D(4, 3, activation="elu"))(x)
    both = (join or (lambda a, b: layers.Concatenate()([a, b])))(left, right)
    pooled = layers.GlobalAveragePooling2D()(both)
    return import_keras().Model(image, layers.Dense(head, activation="softmax")(pooled))


def encoder_of(tmp_path: Path, model: Any) -> Encoder:
    return encoder_from(saved(tmp_path / "m.keras", model))


@pytest.mark.parametrize("name", [*BOTH, "transfer", "keras2"])
def test_both_formats_of_a_model_give_the_same_encoder(name: str) -> None:
    one, other = encoder_from(FILES / f"{name}.keras"), encoder_from(FILES / f"{name}.h5")
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(features(one), features(other))


def test_the_fingerprint_includes_the_image_layout(tmp_path: Path) -> None:
    keras = import_keras()
    result = set()
    for shape in ((32, 32, 3), (3, 32, 32)):
        image = keras.Input(shape)
        model = keras.Model(image, keras.layers.Reshape((-1,))(image / 255))
        result.add(encoder_of(tmp_path, model).fingerprint)
    assert len(result) == 2


def test_the_fingerprint_ignores_the_source_file_of_a_lambda(tmp_path: Path) -> None:
    keras = import_keras()
    result = {}
    for number, written, file in ((1, "x / 255", "a"), (2, "x / 255", "b"), (3, "x / 254", "a")):
        function = eval(compile(f"lambda x: {written}", f"{file}/train.py", "eval"))  # noqa: S307
        image = keras.Input((32, 32, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Lambda(function)(image))
        path = saved(tmp_path / "m.keras", keras.Model(image, x))
        result[number] = encoder_from(path, NetworkSettings(scale=1), trust=True).fingerprint
    assert result[1] == result[2] != result[3]


def test_the_fingerprint_ignores_seeds_that_keras_draws(tmp_path: Path) -> None:
    layers = import_keras().layers
    result = set()
    for seed in (1, 2):
        x = image = import_keras().Input((32, 32, 3))
        x = layers.RandomCrop(32, 32, seed=seed)(x)
        model = import_keras().Model(image, layers.GlobalAveragePooling2D()(x / 255))
        result.add(encoder_of(tmp_path, model).fingerprint)
    assert len(result) == 1


def test_the_fingerprint_ignores_names_that_keras_numbers(tmp_path: Path) -> None:
    import_keras().backend.clear_session()
    first = network()
    second = network()  # like a notebook cell that runs again
    assert first.layers[-1].name != second.layers[-1].name
    one, other = encoder_of(tmp_path, first), encoder_of(tmp_path, second)
    assert one.output != other.output
    assert one.fingerprint == other.fingerprint
    assert Encoder.from_bytes(one.to_bytes()).fingerprint == one.fingerprint


def test_the_fingerprint_ignores_the_classifier_after_the_features(tmp_path: Path) -> None:
    layers = import_keras().layers
    body = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]
    keras = import_keras()
    made_of = {
        encoder_from(
            saved_as_is(tmp_path, keras.Sequential([keras.Input((32, 32, 3)), *body, head]))
        ).fingerprint
        for head in (layers.Dense(3), layers.Dense(9, activation="softmax"))
    }
    assert len(made_of) == 1


def saved_as_is(tmp_path: Path, model: Any) -> Path:
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def test_the_fingerprint_includes_what_the_network_computes(tmp_path: Path) -> None:
    layers = import_keras().layers
    several = [
        network(),
        network(activation="tanh"),
        network(shared=True),
        network(join=lambda a, b: layers.Concatenate()([b, a])),
        network(join=lambda a, b: layers.Add()([a, b])),
        network(join=lambda a, b: a + b),
        network(join=lambda a, b: a + 2.0 * b),
        network(join=lambda a, b: a + 3.0 * b),
    ]
    result = [encoder_of(tmp_path, model).fingerprint for model in several]
    assert len(set(result)) == len(result)


def test_a_different_weight_gives_a_different_encoder(tmp_path: Path) -> None:
    model = network()
    path = saved(tmp_path / "m.keras", model)
    before = encoder_from(path).fingerprint
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] += 1e-3
    model.set_weights(weights)
    model.save(path)
    assert encoder_from(path).fingerprint != before


def test_an_argument_added_by_a_later_keras_changes_nothing() -> None:
    keras = import_keras()

    class Dense(keras.layers.Dense):  # type: ignore[name-defined,misc]
        def __init__(self, units: int, *, sparsity: object = None, **rest: Any) -> None:
            super().__init__(units, **rest)
            self.sparsity = sparsity

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "sparsity": self.sparsity}

    now = inspect.signature(keras.layers.Dense.__init__)
    later = [p for p in now.parameters.values() if p.kind is not p.VAR_KEYWORD]
    later.append(inspect.Parameter("sparsity", inspect.Parameter.KEYWORD_ONLY, default=None))
    Dense.__init__.__signature__ = now.replace(parameters=later)

    def digest(layer: Any) -> str:
        image = keras.Input((4, 4, 3))
        flat = flatten_model(keras.Model(image, layer(image)), (4, 4), "NHWC")
        return architecture_digest(flat.before(flat.results[0]), "NHWC")

    assert digest(keras.layers.Dense(2)) == digest(Dense(2))
    assert digest(Dense(2)) != digest(Dense(2, sparsity=0.5))


def test_the_fingerprint_ignores_training_settings(tmp_path: Path) -> None:
    keras = import_keras()

    def trained(**settings: Any) -> str:
        layers = keras.layers
        hidden = layers.Dense(4, **settings)
        pool = layers.GlobalAveragePooling2D()
        front = [keras.Input((32, 32, 3)), layers.Rescaling(1 / 255), pool]
        return encoder_of(tmp_path, keras.Sequential([*front, hidden, layers.Dense(2)])).fingerprint

    assert trained() == trained(kernel_initializer="ones", kernel_regularizer="l2", trainable=False)


def test_the_fingerprint_includes_the_number_type_of_the_graph(tmp_path: Path) -> None:
    keras = import_keras()
    result = set()
    for kind in ("int32", "float32"):
        image = keras.Input((32, 32, 3))
        cut = keras.ops.cast(keras.layers.Rescaling(1 / 25)(image), kind)
        pooled = keras.layers.GlobalMaxPooling2D()(keras.ops.cast(cut, "float32"))
        result.add(encoder_of(tmp_path, keras.Model(image, pooled)).fingerprint)
    assert len(result) == 2
