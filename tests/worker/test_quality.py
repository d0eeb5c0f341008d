"""Brightness and sharpness: known pictures have known values, and blurred photos are found."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from places import SHARED_DATA
from pomona.worker.quality import SCALE, measure


def blocks(width: int, height: int, block: int, low: int = 0, high: int = 255) -> Image.Image:
    """Squares of random greys with hard edges."""
    size = -(-height // block), -(-width // block)
    levels = np.random.default_rng(0).integers(low, high, size, np.uint8, endpoint=True)
    return Image.fromarray(np.kron(levels, np.ones((block, block), np.uint8))[:height, :width])


def sharpness(image: Image.Image) -> float:
    found = measure(image.convert("RGB"))[1]
    assert found is not None
    return found


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma))


def test_brightness_is_the_mean_luma() -> None:
    assert measure(Image.new("RGB", (9, 5), "black"))[0] == 0
    assert measure(Image.new("RGB", (9, 5), "white"))[0] == 1
    assert measure(Image.new("RGB", (9, 5), (0, 255, 0)))[0] == pytest.approx(0.587, abs=0.002)
    grey = blocks(700, 500, 20)
    assert measure(grey.convert("RGB"))[0] == pytest.approx(np.mean(grey) / 255, abs=0.03)


def test_hard_edges_have_sharpness_1() -> None:
    assert sharpness(blocks(SCALE, SCALE, 16)) == pytest.approx(1, abs=0.04)
    assert sharpness(blocks(100, 60, 10)) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("sigma", [1.5, 2, 4])
def test_a_gaussian_blur_of_s_pixels_gives_half_of_one_over_s(sigma: float) -> None:
    image = blurred(blocks(SCALE, SCALE, 32), sigma)
    assert sharpness(image) == pytest.approx(1 / (2 * sigma), rel=0.1)


@pytest.mark.parametrize("times", [2, 3.3, 12])
def test_a_blur_counts_in_proportion_to_the_size_of_the_picture(times: float) -> None:
    side = round(SCALE * times)
    large = blurred(blocks(side, side * 3 // 4, side // 8), 3 * times)
    assert sharpness(large) == pytest.approx(1 / 6, rel=0.1)


def test_contrast_does_not_count_as_sharpness() -> None:
    strong, weak = (blurred(blocks(SCALE, SCALE, 32, *ends), 2) for ends in ((0, 255), (85, 170)))
    assert sharpness(weak) == pytest.approx(sharpness(strong), rel=0.1)


def test_the_rounding_of_a_very_smooth_picture_does_not_count_as_sharp() -> None:
    assert sharpness(blurred(blocks(SCALE, SCALE, 64), 12)) < 0.15


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 900), (900, 1), (300, 200)])
def test_a_flat_picture_has_no_sharpness(size: tuple[int, int]) -> None:
    assert measure(Image.new("RGB", size, "orange"))[1] is None


def test_a_transposed_picture_has_the_same_values() -> None:
    for image in (blocks(640, 333, 9), blocks(37, 5000, 7), blocks(3, 8, 2)):
        turned = image.transpose(Image.Transpose.TRANSPOSE)
        assert measure(turned.convert("RGB")) == pytest.approx(measure(image.convert("RGB")))


def test_the_values_are_the_same_on_every_machine() -> None:
    levels = np.arange(500 * 400 * 3, dtype=np.int64) ** 2 // 977 % 256
    image = Image.fromarray(levels.reshape(400, 500, 3).astype(np.uint8))
    assert measure(image) == (0.49577750840032325, 1.1466834315442622)


FRUITS = SHARED_DATA / "fruits"


@pytest.mark.skipif(not FRUITS.is_dir(), reason="needs shared/data")
def test_every_photo_is_sharper_than_all_photos_blurred() -> None:
    files = [file for file in sorted(FRUITS.rglob("*.jpg"))[::40] if file.stat().st_size]
    images = [Image.open(file).convert("RGB") for file in files]
    sharp = [sharpness(image) for image in images]
    soft = [sharpness(blurred(image, sigma)) for image in images for sigma in (1, 2, 4)]
    assert min(sharp) > max(soft)
