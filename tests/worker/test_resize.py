import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from drawn import STORED, corners, picture, turned
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.worker.decode import Picture, decode
from pomona.worker.resize import resize_to

SPEC = Preprocessing(height=224, width=192, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))


def upright(image: Image.Image) -> Picture:
    return Picture(image, None, image.width, image.height, "PNG")


def grainy(width: int, height: int) -> Image.Image:
    levels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


def test_upright_picture_equals_pillows_bicubic_resize():
    image = grainy(100, 80)
    expected = np.asarray(image.resize((24, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(resize_to(upright(image), 16, 24), expected)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_each_filter_equals_pillows_filter_of_that_name(name):
    image = grainy(50, 60)
    expected = np.asarray(image.resize((24, 16), Image.Resampling[name.upper()]))
    assert np.array_equal(resize_to(upright(image), 16, 24, name), expected)


def test_pixels_are_contiguous_uint8_in_rgb_rows():
    pixels = resize_to(upright(picture(40, 30)), 8, 12)
    assert (pixels.shape, pixels.dtype) == ((8, 12, 3), np.uint8)
    assert pixels.flags.c_contiguous


def test_picture_with_the_target_size_is_unchanged():
    image = grainy(24, 16)
    assert np.array_equal(resize_to(upright(image), 16, 24), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation):
    pixels = resize_to(decode(turned(picture(), orientation, "PNG")), 20, 30)
    assert pixels.shape == (20, 30, 3)
    assert corners(Image.fromarray(pixels)) == "kryg"


@pytest.mark.parametrize("size", [(8, 8), (30, 45), (37, 53), (224, 192)])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("orientation", [o for o in STORED if o > 1])
def test_rotating_last_is_within_one_level_of_rotating_first(orientation, name, size):
    height, width = size
    image = grainy(90, 70)  # grain is the hardest case: every filter overshoots and is clipped
    pixels = resize_to(decode(turned(image, orientation, "PNG")), height, width, name)
    expected = np.asarray(image.resize((width, height), Image.Resampling[name.upper()]))
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_rotating_a_small_contiguous_picture_gives_contiguous_rows():
    assert resize_to(decode(turned(picture(), 6, "PNG")), 20, 30).flags.c_contiguous


def test_extremely_long_picture_is_resized_without_gigabytes_of_filter_weights():
    image = Image.new("RGB", (1_000_000, 1), (10, 20, 30))
    assert (resize_to(upright(image), 4, 4) == (10, 20, 30)).all()


def test_error_for_an_unknown_filter_lists_the_known_ones():
    with pytest.raises(EncoderError, match=r"'cubic'.*bilinear, bicubic"):
        replace(SPEC, resize="cubic")


def test_preprocessing_survives_a_json_round_trip():
    assert Preprocessing.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_integers_and_lists_give_an_equal_preprocessing():
    same = Preprocessing(height=224, width=192, mean=[127.5] * 3, std=(127.5, 127.5, 127.5))
    assert (same, hash(same)) == (SPEC, hash(SPEC))
    assert Preprocessing(height=1, width=1, mean=(0, 0, 0), std=(1, 1, 1)).std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 0),
        ("height", 224.0),
        ("width", -1),
        ("width", True),
        ("resize", "cubic"),
        ("resize", None),
        ("channel_order", "GBR"),
        ("mean", (0.0, 0.0)),
        ("mean", (10**400, 0, 0)),
        ("mean", 127.5),
        ("mean", "rgb"),
        ("mean", (0.0, float("nan"), 0.0)),
        ("std", (1.0, 0.0, 1.0)),
        ("std", (1.0, -1.0, 1.0)),
        ("std", (1.0, float("inf"), 1.0)),
        ("std", None),
    ],
)
def test_invalid_value_is_refused_and_its_field_is_named(field, value):
    with pytest.raises(EncoderError, match=rf"{field}.*expected") as error:
        Preprocessing.from_json(SPEC.to_json() | {field: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_json_with_other_fields_is_refused(change):
    data = SPEC.to_json() | {"crop": "centre"}
    if change == "missing":
        del data["crop"], data["mean"]
    with pytest.raises(EncoderError, match=r"fields .*expected .*version"):
        Preprocessing.from_json(data)
