"""Makes the small networks in files/ and their vectors, with TensorFlow and both versions of Keras.

    pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0
    python tests/goldens/regenerate_files.py

One network is typical of transfer learning: augmentation and rescaling, a backbone as a nested
model, pooling, two dense layers. The script saves it in every common file format. Its vectors are
the float32 output of Keras on TensorFlow.

Others are functional, as in TensorFlow's own tutorials: `preprocess_input` inside, a half-frozen
backbone, normalisation in the head. One contains each TensorFlow function that Pomona knows. The
rest need special treatment: layers that Keras 2 computed differently, axes that Keras loses, mixed
precision.
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


def half_frozen(k):
    """A backbone whose layer names Keras numbers automatically, and a Normalization of images."""
    convnext = (keras if k is keras else tf_keras).src.applications.convnext
    image = k.Input((SIZE, SIZE, 3))
    x = k.layers.Normalization(axis=-1)(image)
    x = k.layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = k.layers.BatchNormalization()(x)
    skip = x = k.layers.ReLU()(x)
    x = k.layers.SeparableConv2D(8, 3, padding="same")(x)
    x = k.layers.LayerNormalization()(x)
    x = k.layers.LeakyReLU()(x)
    x = k.layers.Conv2D(8, 3, padding="same")(x)
    x = convnext.LayerScale(0.5, 8)(x)
    network = k.Model(image, x + skip, name="half_frozen")
    for layer in network.layers[:4]:
        layer.trainable = False
    return network


def functional(k):
    image = k.Input((SIZE, SIZE, 3))
    x = k.Sequential([k.layers.RandomFlip("horizontal"), k.layers.RandomRotation(0.2)])(image)
    x = k.applications.mobilenet_v2.preprocess_input(x)
    x = half_frozen(k)(x, training=False)
    x = k.layers.GlobalAveragePooling2D()(x)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.Dropout(0.2)(x)
    x = k.layers.BatchNormalization()(k.layers.Dense(6)(x))
    x = k.layers.Activation("relu", name="features")(x)
    x = k.layers.BatchNormalization()(k.layers.Dense(3)(x))
    return k.Model(image, k.layers.Activation("softmax")(x))


def caffe(k):
    image = k.Input((SIZE, SIZE, 3))
    x = k.applications.resnet50.preprocess_input(image)
    x = k.layers.Conv2D(4, 3)(x)
    x = k.layers.GlobalAveragePooling2D(name="features")(x)
    return k.Model(image, k.layers.Dense(2, activation="softmax")(x))


def resizing():
    """Resizing layers that Keras' OpenVINO backend computes differently from TensorFlow."""
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(image)
    small = layers.Resizing(4, 6)(x)
    several = [
        layers.Resizing(5, 7, interpolation="nearest")(x),
        layers.Resizing(7, 3, interpolation="bicubic")(x),
        layers.UpSampling2D(2, interpolation="nearest")(small),
        layers.UpSampling2D(2, interpolation="bicubic")(small),
    ]
    flat = [layers.Flatten()(each) for each in several]
    features = layers.Concatenate(name="features")(flat)
    return keras.Model(image, layers.Dense(2)(features))


def functions():
    """Each TensorFlow function that Pomona knows, in a Keras 2 model."""
    image = tf_keras.Input((SIZE, SIZE, 3))
    x = image / 255.0
    y = x - 0.5
    whole = tf.cast(x, "int32")
    maps = [
        *(1.0 - x, tf.math.divide(x, 3.0), x * y, x + y, tf.math.add(x, 2.0)),
        *(tf.maximum(x, 0.3), tf.minimum(x, y + 0.4), tf.pow(x, 2.5)),
        *(tf.nn.relu(y), tf.nn.relu6(y * 20), tf.sigmoid(y), tf.nn.silu(y), tf.nn.elu(y)),
        *(tf.nn.softplus(y), tf.tanh(y), tf.abs(y), tf.exp(y), tf.math.log(x + 1.0)),
        *(tf.negative(y), tf.sqrt(x), tf.square(y), tf.clip_by_value(x, 0.2, 0.7)),
        *(tf.nn.softmax(x), tf.nn.softmax(x, axis=1), tf.nn.gelu(y), tf.nn.gelu(y, True)),
        *(tf.nn.leaky_relu(y), tf.nn.leaky_relu(y, 0.3), tf.nn.bias_add(x, [1.0, 2.0, 3.0])),
        *(tf.math.l2_normalize(x, axis=-1), tf.image.resize(x, [20, 24]), tf.identity(y)),
        *(
            tf.stop_gradient(x),
            x[..., ::-1],
            x[:, 2:, ::3, :],
            tf.cast(whole, "float32"),
        ),
        *(tf.concat([x, y], axis=-1), tf.transpose(x, [0, 2, 1, 3])[:, :4, :, :]),
        tf.reshape(x, [-1, 4, SIZE * SIZE // 4, 3])[:, 1:, :, :],
        tf.squeeze(tf.expand_dims(x, axis=1), axis=[1]),
    ]
    pooled = [tf_keras.layers.GlobalMaxPooling2D()(each) for each in maps]
    reducing = (tf.reduce_mean, tf.reduce_max, tf.reduce_min, tf.reduce_sum)
    pooled += [reduce(y, axis=[1, 2]) for reduce in reducing]
    pooled.append(tf_keras.layers.Flatten()(tf.reduce_mean(x, axis=[1, 2], keepdims=True)))
    features = tf_keras.layers.Concatenate(name="features")(pooled)
    return tf_keras.Model(image, tf_keras.layers.Dense(2)(features))


def unusual(k):
    """Operations that Keras 3 or its OpenVINO backend computes differently or cannot read."""
    layers = k.layers
    image = k.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(image)
    maps = [
        layers.Softmax(axis=[1, 2])(layers.Conv2D(2, 5)(x)),
        layers.Conv2D(2, 5, activation="hard_sigmoid")(x),
        layers.Activation("hard_sigmoid")(x),
        x[:, :, :, ::-1],
    ]
    rows = layers.Reshape((8, 16 * 8 * 3))(x)
    vectors = [layers.LSTM(3)(rows)]
    if k is keras:
        attention = layers.MultiHeadAttention(2, 3)(rows, rows)
        vectors.append(layers.GlobalAveragePooling1D()(attention))
        maps.append(x[..., ::-1])
        maps += [layers.Resizing(5, 40, "bilinear", antialias=True)(x)]
        maps += [layers.Resizing(40, 7, "bicubic", antialias=True)(x)]
    else:
        inner = k.Model(image, {"first": layers.Conv2D(2, 3)(image), "second": image})
        maps += [layers.RandomCrop(20, 14)(x), tf.math.l2_normalize(x), inner(x)["first"]]
    flat = [layers.Flatten()(layers.MaxPooling2D(3)(each)) for each in maps]
    features = layers.Concatenate(name="features")(flat + vectors)
    return k.Model(image, {"classes": layers.Dense(2)(features)})


def quantized():
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(x))
    x = keras.layers.Dense(6, activation="relu", name="features")(x)
    return keras.Model(image, keras.layers.Dense(2)(x))


def mixed(make, **changes):
    """A mixed-precision network, and the same network in float32."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = make()
    keras.config.set_dtype_policy("float32")
    same = make()
    fill(network, np.random.default_rng(1))
    same.set_weights(network.get_weights())
    for each in (network, same) if changes else ():
        each.quantize(**changes)
    return network, same


def fill(network, rng):
    for weight in network.weights:
        if "seed" in weight.name or weight.dtype in ("uint32", "int64"):
            continue
        low, high = (0.5, 1.5) if "gamma" in weight.name or "variance" in weight.name else (-1, 1)
        weight.assign(rng.uniform(low, high, weight.shape).astype("float32"))


def clear(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def drawn():
    images = np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3)).astype("float32")
    images[0] = np.linspace(0, 255, SIZE).round()[:, None, None]  # one that is not noise
    return images


def transfer_files():
    images = drawn()
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

    # Without rescaling and classifier, as people export networks.
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

    keep("vectors.npz", vectors)


def functional_files():
    images = drawn()
    vectors = {"images": images.astype("uint8")}
    networks = {
        "functional": (functional(keras), ("keras", "h5")),
        "caffe": (caffe(keras), ("keras", "h5")),
        "resizing": (resizing(), ("keras",)),
        "keras2_functional": (functional(tf_keras), ("keras", "h5")),
        "keras2_caffe": (caffe(tf_keras), ("h5",)),  # Keras 2 cannot write its `...` to `.keras`
        "keras2_functions": (functions(), ("h5",)),
    }
    for number, (name, (network, forms)) in enumerate(networks.items(), start=1):
        k = tf_keras if name.startswith("keras2") else keras
        fill(network, np.random.default_rng(number))
        for layer in network.get_layer("half_frozen").layers if "functional" in name else ():
            if type(layer).__name__ == "Normalization":
                layer.finalize_state()  # which is filled as well
        for form in forms:
            network.save(HERE / f"{name}.{form}")
        part = k.Model(network.inputs, network.get_layer("features").output)
        vectors[name] = part.predict(images, verbose=0)
    keep("functional.npz", vectors)


def unusual_files():
    images = drawn()
    networks = {"unusual": unusual(keras), "keras2_unusual": unusual(tf_keras)}
    for name, network in networks.items():
        fill(network, np.random.default_rng(1))
        network.save(HERE / f"{name}.keras")
        network.save(HERE / f"{name}.h5")
    network, networks["mixed"] = mixed(lambda: unusual(keras))
    network.save(HERE / "mixed.keras")
    network, networks["mixed_int8"] = mixed(quantized, mode="int8")
    network.save(HERE / "mixed_int8.keras")
    vectors = {}
    for name, network in networks.items():
        k = tf_keras if name.startswith("keras2") else keras
        part = k.Model(network.inputs, network.get_layer("features").output)
        # One image at a time: a function without an axis reduces over the whole batch.
        given = [part.predict(image[None], verbose=0) for image in images]
        vectors[name] = np.concatenate(given)
    keep("unusual.npz", vectors)


def keep(file, vectors):
    for name, array in vectors.items():
        print(f"{name}: {array.shape}, largest {np.abs(array).max():.3g}")
    np.savez_compressed(HERE / file, **vectors)


def main():
    clear(HERE)
    transfer_files()
    functional_files()
    unusual_files()


if __name__ == "__main__":
    main()
