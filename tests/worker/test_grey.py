"""Networks with one input channel get grey pixels: the luma of the picture, before resizing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import drawn
import pomona
from network_files import SCALED, UNIT, encoder_from, small_network
from pomona.building.keras.backend import import_keras
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.runtime.registry import runtime_for
from pomona.worker.decode import decode
from pomona.worker.resize import network_pixels

PICTURE = drawn.picture(50, 40, 3)
WEIGHTS = np.linspace(-1, 1, 5, dtype=np.float32)

KINDS = ["onnx", "onnx for ONNX Runtime", "h5", "keras", "xml"]


def grey_pixels(content: bytes, height: int, width: int, resize: str = "bicubic") -> Any:
    spec = Preprocessing(
        height=height,
        width=width,
        resize=resize,
        channel_order="grey",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    return network_pixels(decode(content), spec)


def network(folder: Path, kind: str, channels: int = 1) -> tuple[Path, dict[str, Any]]:
    """Write a network that returns the mean of its image times each of `WEIGHTS`."""
    if kind in ("h5", "keras"):
        keras = import_keras()
        layers = keras.layers
        dense = layers.Conv2D(5, 1, use_bias=False)
        model = keras.Sequential(
            [keras.Input((32, 32, channels)), dense, layers.GlobalAveragePooling2D()]
        )
        dense.set_weights([np.tile(WEIGHTS, (1, 1, channels, 1))])
        path = folder / f"grey.{kind}"
        model.save(path)
        return path, {}
    from onnx import helper

    kernel = np.tile(WEIGHTS[:, None, None, None], (1, channels, 1, 1))
    path = small_network(
        folder / "grey.onnx",
        helper.make_node("Conv", ["image", "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
        shape=("n", channels, 32, 32),
        kernel=kernel,
    )
    if kind == "xml":
        from pomona.runtime.openvino import import_openvino

        openvino = import_openvino()
        openvino.save_model(openvino.Core().read_model(path), folder / "grey.xml", False)
        return folder / "grey.xml", {}
    return path, {"runtime": "onnxruntime"} if kind.endswith("Runtime") else {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_with_one_channel_gets_the_luma(tmp_path: Path, kind: str) -> None:
    path, options = network(tmp_path, kind)
    encoder = encoder_from(path, UNIT, **options)
    luma = np.asarray(PICTURE.convert("L").resize((32, 32), Image.Resampling.BICUBIC))
    pixels = grey_pixels(drawn.encode(PICTURE, "PNG"), 32, 32)[None]
    vectors = np.empty((1, 5), np.float32)
    runtime_for(encoder).predict(pixels, vectors)
    assert np.allclose(vectors, (luma / 255 - 0.5).mean() * WEIGHTS, atol=1e-5)
    assert encoder.preprocessing.channel_order == "grey"
    assert encoder.provenance()["channel_order"] == "grey (luma, before resizing)"
    assert Encoder.from_bytes(encoder.to_bytes()) == encoder


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_of_channels_are_refused(tmp_path: Path, kind: str, channels: int) -> None:
    path, options = network(tmp_path, kind, channels)
    with pytest.raises(EncoderError, match="neither 3 channels .RGB. nor 1 .grey.: Pomona has"):
        encoder_from(path, UNIT, **options)


@pytest.mark.parametrize(("channels", "order"), [(1, "RGB"), (1, "BGR"), (3, "grey")])
@pytest.mark.parametrize("kind", ["onnx", "h5"])
def test_a_channel_order_that_does_not_fit_the_network_is_refused(
    tmp_path: Path, kind: str, channels: int, order: str
) -> None:
    path, _ = network(tmp_path, kind, channels)
    settings = NetworkSettings(resize_mode="squash", scale=1, channel_order=order)
    with pytest.raises(EncoderError, match=f"of {channels} channels?, and the .* is {order}"):
        encoder_from(path, settings)


def test_a_known_network_refuses_grey_pixels() -> None:
    settings = NetworkSettings(channel_order="grey")
    with pytest.raises(EncoderError, match="mobilenet_v2 takes images of 3 channels"):
        pomona.build_encoder("mobilenet_v2", "untrained:7", settings=settings)


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_grey_pixels_match_keras_and_pillow(resize: str) -> None:
    pixels = grey_pixels(drawn.encode(PICTURE, "PNG"), 24, 36, resize)
    assert pixels.shape == (24, 36, 3)
    assert (pixels == pixels[..., :1]).all()
    loaded = import_keras().utils.load_img(
        io.BytesIO(drawn.encode(PICTURE, "PNG")),
        color_mode="grayscale",
        target_size=(24, 36),
        interpolation=resize,
    )
    method = getattr(Image.Resampling, resize.upper())
    assert np.array_equal(pixels[..., 0], np.asarray(loaded))
    assert np.array_equal(pixels[..., 0], np.asarray(PICTURE.convert("L").resize((36, 24), method)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_grey_pixels_are_upright(orientation: int) -> None:
    stored = drawn.turned(PICTURE, orientation, "PNG")
    pixels = grey_pixels(stored, 20, 30)
    upright = grey_pixels(drawn.encode(PICTURE, "PNG"), 20, 30)
    assert np.abs(pixels.astype(int) - upright).max() <= 1


def test_different_numbers_per_channel_are_refused_for_grey_pixels() -> None:
    with pytest.raises(EncoderError, match="takes grey pixels: give one number for each"):
        Preprocessing(height=1, width=1, channel_order="grey", mean=(1, 2, 3), std=(1.0,) * 3)


def test_a_table_of_grey_features_records_the_channel_order(tmp_path: Path) -> None:
    path, _ = network(tmp_path, "h5")
    encoder_from(path, SCALED).save(tmp_path / "grey.encoder")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(drawn.encode(PICTURE, "PNG"))
    pomona.extract(folder, tmp_path / "table", encoder=tmp_path / "grey.encoder")
    features = pomona.read_features(tmp_path / "table")
    assert features.provenance["channel_order"] == "grey (luma, before resizing)"
    luma = np.asarray(PICTURE.convert("L").resize((32, 32), Image.Resampling.BICUBIC))
    expected = ((luma - 127.5) / 127.5).mean() * WEIGHTS
    assert np.allclose(features.vectors[0], expected, atol=1e-5)


def test_grey_and_colour_give_two_fingerprints(tmp_path: Path) -> None:
    for channels in (1, 3):
        (tmp_path / str(channels)).mkdir()
    one, three = (encoder_from(network(tmp_path / str(n), "h5", n)[0], SCALED) for n in (1, 3))
    assert one.fingerprint != three.fingerprint
    assert three.preprocessing.to_json()["channel_order"] == "RGB"


def test_the_shared_network_with_one_channel_is_built(shared_data: Path) -> None:
    path = shared_data / "trials" / "networks" / "one_channel.h5"
    if not path.exists():
        pytest.skip("the shared data is not on this machine")
    assert encoder_from(path).provenance()["channel_order"] == "grey (luma, before resizing)"
