"""Makes the small networks in files/ and their vectors, with TensorFlow and both Keras.

    pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0
    python tests/goldens/regenerate_files.py

One network after the manner of transfer learning: augmentation and rescaling, a backbone that is a
model of its own, pooling, two dense layers. It is written in every form in which people keep such
networks, and its vectors are what Keras on TensorFlow gives in float32.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras

HERE = Path(__file__).parent / "files"
SIZE = 32


def backbone(k):
    image = k.Input((SIZE, SIZE, 3))
    x = k.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = k.layers.BatchNormalization(name="stem_bn")(x)
    skip = x = k.layers.ReLU(6.0, name="stem_relu")(x)
    x = k.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = k.layers.BatchNormalization(name="depthwise_bn")(x)
    x = k.layers.Activation("swish", name="swish")(x)
    x = k.layers.Conv2D(8, 1, name="project")(x)
    x = k.layers.Add(name="add")([x, skip])
    x = k.layers.Concatenate(name="both")([x, skip])
    return k.Model(image, x, name="backbone")


def transfer(k, *, scaled=True):
    front = [k.layers.RandomFlip("horizontal"), k.layers.Rescaling(1 / 127.5, offset=-1.0)]
    return k.Sequential(
        [
            k.Input((SIZE, SIZE, 3)),
            *(front if scaled else []),
            backbone(k),
            k.layers.GlobalAveragePooling2D(name="pool"),
            k.layers.Dropout(0.3),
            k.layers.Dense(6, activation="relu", name="hidden"),
            k.layers.Dense(3, activation="softmax", name="classes"),
        ],
        name="transfer",
    )


def fill(network, rng):
    for weight in network.weights:
        if "seed" in weight.name or weight.dtype in ("uint32", "int64"):
            continue
        low, high = (0.5, 1.5) if "gamma" in weight.name or "variance" in weight.name else (-1, 1)
        weight.assign(rng.uniform(low, high, weight.shape).astype("float32"))


def clear(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def main():
    clear(HERE)
    images = np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3)).astype("float32")
    images[0] = np.linspace(0, 255, SIZE).round()[:, None, None]  # one that is no noise
    vectors = {"images": images.astype("uint8")}

    network = transfer(keras)
    fill(network, np.random.default_rng(1))
    network.save(HERE / "transfer.keras")
    network.save(HERE / "transfer.h5")
    network.save_weights(HERE / "transfer.weights.h5")
    inner = network.get_layer("backbone")
    for name, tensor in (
        ("hidden", network.get_layer("hidden").output),
        ("pool", network.get_layer("pool").output),
    ):
        vectors[name] = keras.Model(network.inputs, tensor).predict(images, verbose=0)
    pixels = images / 127.5 - 1
    depth = keras.Model(inner.inputs, inner.get_layer("depthwise").output)
    vectors["depthwise"] = depth.predict(pixels, verbose=0).reshape(3, -1)
    vectors["backbone"] = inner.predict(pixels, verbose=0).mean(axis=(1, 2))

    # Without rescaling, and up to the vector only: what people export.
    bare = keras.Model(inner.inputs, keras.layers.GlobalAveragePooling2D()(inner.outputs[0]))
    with tempfile.TemporaryDirectory() as folder:
        bare.export(Path(folder, "saved"), verbose=False)
        shutil.copytree(Path(folder, "saved"), HERE / "bare_saved")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder, "saved")))
        (HERE / "bare.tflite").write_bytes(converter.convert())
    bare.save(HERE / "bare.keras")

    older = transfer(tf_keras)
    fill(older, np.random.default_rng(2))
    older.save(HERE / "keras2.h5")
    older.save(HERE / "keras2.keras")
    older.save_weights(HERE / "keras2_weights.h5")
    part = tf_keras.Model(older.inputs, older.get_layer("hidden").output)
    vectors["keras2_hidden"] = part.predict(images, verbose=0)
    vectors["keras2_backbone"] = (
        older.get_layer("backbone").predict(pixels, verbose=0).mean(axis=(1, 2))
    )

    for name, array in vectors.items():
        print(f"{name}: {array.shape}, largest {np.abs(array).max():.3g}")
    np.savez_compressed(HERE / "vectors.npz", **vectors)


if __name__ == "__main__":
    main()
