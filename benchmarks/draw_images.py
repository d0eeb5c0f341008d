"""Draws JPEGs for measurements: python draw_images.py FOLDER --count 2000

Shaded shapes with one colour family per class, on a soft background, with noise that has the 1/f
spectrum of photographs. At 100x100 their average size is about that of Fruits-360 (4.7 kB). The
same arguments draw the same pictures.
"""

import argparse
import colorsys
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

# With a space and accents, because paths of real data sets contain them.
CLASSES = ("Apple Red", "Pêche", "Kiwi", "Cherry", "Quince", "Grape White", "Açaí", "Lemon")
QUALITY = 90


def class_name(number: int) -> str:
    """Apple Red, Pêche, ..., Lemon, Apple Red 2, ..."""
    turn, place = divmod(number, len(CLASSES))
    return f"{CLASSES[place]} {turn + 1}" if turn else CLASSES[place]


def noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) with zero mean and unit variance; the amplitude falls as 1/f."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size, 3)), axes=(0, 1))
    field = np.fft.irfft2(spectrum / frequency[..., None], s=(size, size), axes=(0, 1))
    return field / field.std()


def colour(rng: np.random.Generator, hue: float) -> np.ndarray:
    """A colour near that hue, (3,) in 0..255."""
    rgb = colorsys.hsv_to_rgb((hue + rng.normal(0, 0.02)) % 1, *rng.uniform(0.5, 0.95, 2))
    return 255 * np.array(rgb)


def picture(seed: int, number: int, hue: float, size: int) -> np.ndarray:
    """(size, size, 3) uint8."""
    rng = np.random.default_rng([seed, number])
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    slope = rng.uniform(-30, 30, 2)
    pixels = rng.uniform(170, 235, 3) + (slope[0] * x + slope[1] * y)[..., None]
    for _ in range(rng.integers(1, 4)):
        (across, down), radius, squash = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.38), 1.25
        u, v = (x - across) / radius, (y - down) / radius * rng.uniform(1 / squash, squash)
        inside = u**2 + v**2
        depth = np.sqrt(np.clip(1 - inside, 0, 1))  # of a sphere, towards the viewer
        light = np.clip(0.35 + 0.65 * (0.7 * depth - 0.5 * u - 0.5 * v), 0.1, 1.1)
        edge = np.clip((1 - inside) * radius * size / 2, 0, 1)[..., None]  # one pixel wide
        pixels = pixels * (1 - edge) + colour(rng, hue) * light[..., None] * edge
    return np.clip(pixels + 13 * noise(rng, size), 0, 255).astype(np.uint8)


def draw(folder: Path, seed: int, classes: int, size: int, number: int) -> int:
    """Draw one file; return its size in bytes."""
    place = number % classes
    path = folder / class_name(place) / f"{number:06d}.jpg"
    Image.fromarray(picture(seed, number, place / classes, size)).save(path, quality=QUALITY)
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="made; must be empty if it is there")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, default=100, help="pixels, both ways")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: older images would be measured along with new ones")
    for place in range(arguments.classes):
        (folder / class_name(place)).mkdir(parents=True, exist_ok=True)
    one = partial(draw, folder, arguments.seed, arguments.classes, arguments.size)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(one, range(arguments.count), chunksize=50))
    print(json.dumps({"images": len(sizes), "bytes": sum(sizes)}))


if __name__ == "__main__":
    main()
