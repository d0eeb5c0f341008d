"""The pixels of torchvision, timm, open_clip and transformers, bit for bit.

tests/goldens/regenerate_pixels.py wrote the digests.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import drawn
from noise import noise
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.preprocessing import Preprocessing
from pomona.worker.decode import Picture, decode
from pomona.worker.resize import network_pixels

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = json.loads((GOLDENS / "pixels.json").read_text())
ANY = Preprocessing(height=1, width=1, mean=(0.0,) * 3, std=(1.0,) * 3)


def upright(image: Image.Image) -> Picture:
    return Picture(image, None, image.width, image.height, "PNG")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_pixels_equal_those_of_the_library_bit_for_bit(case):
    spec = NetworkSettings(**case["settings"]).preprocessing(ANY)
    found = {}
    for size in case["pixels"]:
        pixels = network_pixels(upright(noise(*map(int, size.split("x")))), spec)
        digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
        found[size] = f"{pixels.shape[0]}x{pixels.shape[1]} {digest}"
    assert found == case["pixels"]


def test_goldens_cover_four_libraries_and_odd_sizes():
    assert {case["name"].split()[0] for case in CASES} == {
        *("torchvision", "timm", "open_clip", "transformers")
    }
    assert all({"1x1", "40x1", "640x97", "31x503"} <= set(case["pixels"]) for case in CASES)


def test_unrounded_pixels_are_close_to_dinov3s():
    spec = NetworkSettings(size=224, resize="bilinear", pixel_type="float32").preprocessing(ANY)
    pixels = network_pixels(upright(noise(61, 45)), spec)
    expected = np.load(GOLDENS / "pixels_dinov3.npz")["pixels"]
    assert pixels.dtype == np.float32
    assert np.abs(pixels[::4, ::4] - expected).max() < 1e-3  # of 255
    assert np.abs(pixels - np.round(pixels)).max() > 0.4


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("mode", ["shortest", "longest"])
def test_turned_picture_is_resized_and_cropped_as_if_it_were_upright(orientation, mode):
    spec = Preprocessing(
        height=24, width=32, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=mode, resize_size=(40, 36)
    )
    image = noise(90, 70)
    pixels = network_pixels(decode(drawn.turned(image, orientation, "PNG")), spec)
    expected = network_pixels(upright(image), spec)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_crop_before_resizing_uses_the_centre_of_the_shorter_side():
    spec = NetworkSettings(size=28, crop="before", crop_pct=0.875).preprocessing(ANY)
    image = noise(80, 60)
    centre = image.crop((14, 4, 66, 56))  # int(0.875 * 60) is 52
    assert np.array_equal(
        network_pixels(upright(image), spec), np.asarray(centre.resize((28, 28), 3))
    )


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 1_000_000), (60_000, 3)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_extremely_long_picture_needs_no_gigabytes(size, mode):
    spec = Preprocessing(
        height=224, width=224, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=mode, fill=(10, 20, 30)
    )
    pixels = network_pixels(upright(Image.new("RGB", size, (10, 20, 30))), spec)
    assert (pixels == (10, 20, 30)).all()


@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90])
def test_centre_of_a_very_long_picture_is_sharp(turn):
    """The whole would be 192 megapixels when resized; only the centre is computed."""
    spec = Preprocessing(
        height=32, width=32, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode="shortest"
    )
    image = noise(2_000, 16)
    longer = Image.new("RGB", (3_000_000, 16))
    longer.paste(image, (1_499_000, 0))
    if turn is not None:
        image, longer = image.transpose(turn), longer.transpose(turn)
    expected = network_pixels(upright(image), spec).astype(int)
    assert np.abs(network_pixels(upright(longer), spec) - expected).max() <= 1


def test_grey_network_gets_the_luma_of_the_crop():
    spec = NetworkSettings(size=20, crop_pct=0.8, channel_order="grey").preprocessing(ANY)
    image = noise(61, 45)
    grey = network_pixels(upright(image.convert("L").convert("RGB")), spec)
    assert np.array_equal(network_pixels(upright(image), spec), grey)


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resized=st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["squash", "shortest", "longest"]),
    centring=st.sampled_from(["round", "floor"]),
    pixel_type=st.sampled_from(["uint8", "float32"]),
    crop_before=st.none() | st.floats(0.01, 1),
)
def test_pixels_always_have_the_networks_size_and_type(
    size, target, resized, mode, centring, pixel_type, crop_before
):
    spec = Preprocessing(
        height=target[0],
        width=target[1],
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=mode,
        resize_size=resized,
        centring=centring,
        pixel_type=pixel_type,
        crop_before=crop_before,
    )
    assert Preprocessing.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    pixels = network_pixels(upright(noise(*size)), spec)
    assert pixels.shape == (*target, 3)
    assert pixels.dtype == pixel_type
    assert pixels.flags.c_contiguous
