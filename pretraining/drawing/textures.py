"""A bank of grey textures that tile: what surfaces and backgrounds are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Grey = NDArray[np.float32]

SIDE = 256


def texture_bank(seed: int, count: int) -> NDArray[np.uint8]:
    """Draw `count` textures, (count, 256, 256) uint8, each using the full range."""
    kinds = (
        _spectrum, _anisotropic, _band_pass, _cells, _cell_borders, _stripes, _checks, _dots,
        _marble, _wood, _bricks, _weave, _scales, _leaves, _strokes, _grid, _patches,
    )  # fmt: skip
    bank = np.empty((count, SIDE, SIDE), np.uint8)
    for index in range(count):
        rng = np.random.default_rng([seed, 1, index])
        bank[index] = _full_range(kinds[index % len(kinds)](rng))
    return bank


def noise(rng: Generator, slope: float, side: int = SIDE) -> Grey:
    """Noise with power falling as 1/f^(2*slope), tiling, of zero mean and unit deviation."""
    radius = _frequencies(side)
    return _shaped(rng, 1 / np.maximum(radius, 1) ** slope)


def _frequencies(side: int) -> Grey:
    line = np.fft.fftfreq(side) * side
    return np.hypot(line[:, None], line[None, : side // 2 + 1]).astype(np.float32)


def _shaped(rng: Generator, amplitude: Grey) -> Grey:
    side = amplitude.shape[0]
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) * amplitude
    spectrum[0, 0] = 0
    grey = np.fft.irfft2(spectrum, (side, side))
    return (grey / (grey.std() + 1e-9)).astype(np.float32)


def _full_range(grey: Grey) -> NDArray[np.uint8]:
    low, high = np.percentile(grey, (1, 99))
    return (np.clip((grey - low) / (high - low + 1e-9), 0, 1) * 255).astype(np.uint8)


def _grids() -> tuple[Grey, Grey]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    return y, x


def _warped(rng: Generator) -> tuple[Grey, Grey]:
    y, x = _grids()
    amount = rng.choice([0, 0.01, 0.03])
    return y + amount * noise(rng, 1.8), x + amount * noise(rng, 1.8)


def _spectrum(rng: Generator) -> Grey:
    grey = noise(rng, rng.uniform(0.3, 2.2))
    return np.tanh(grey * rng.uniform(0.5, 4)) if rng.random() < 0.4 else grey


def _anisotropic(rng: Generator) -> Grey:
    y = np.fft.fftfreq(SIDE)[:, None] * SIDE
    x = np.fft.fftfreq(SIDE)[None, : SIDE // 2 + 1] * SIDE
    ratio = rng.uniform(4, 16)
    return _shaped(rng, 1 / (1 + np.hypot(y, x * ratio)) ** rng.uniform(0.8, 1.8))


def _band_pass(rng: Generator) -> Grey:
    centre = rng.uniform(6, 40)
    grey = _shaped(rng, np.exp(-(((_frequencies(SIDE) - centre) / (0.2 * centre)) ** 2)))
    return np.tanh(grey * rng.choice([1, 8]))


def _nearest(rng: Generator) -> tuple[Grey, Grey, NDArray[np.int64]]:
    count = int(rng.integers(12, 160))
    points = rng.random((count, 2))
    tiled = np.concatenate([points + (i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    y, x = _grids()
    # Half the resolution is enough, and four times as fast.
    y, x = y[::2, ::2], x[::2, ::2]
    far = (y[..., None] - tiled[:, 0]) ** 2 + (x[..., None] - tiled[:, 1]) ** 2
    first = far.argmin(-1)
    nearest = np.take_along_axis(far, first[..., None], -1)[..., 0]
    np.put_along_axis(far, first[..., None], np.inf, -1)
    second = np.sqrt(far.min(-1))
    return np.sqrt(nearest).astype(np.float32), second.astype(np.float32), first % count


def _grown(grey: Grey) -> Grey:
    return cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def _cells(rng: Generator) -> Grey:
    nearest, _, owner = _nearest(rng)
    levels = rng.random(owner.max() + 1)
    return _grown(levels[owner] if rng.random() < 0.5 else nearest)


def _cell_borders(rng: Generator) -> Grey:
    nearest, second, _ = _nearest(rng)
    return _grown(np.minimum(second - nearest, rng.uniform(0.01, 0.05)))


def _stripes(rng: Generator) -> Grey:
    y, x = _warped(rng)
    phase = (x * rng.integers(2, 20) + y * rng.integers(-4, 5)) * 2 * np.pi
    wave = np.sin(phase) + rng.choice([0, 0.6]) * np.sin(2 * phase + 1)
    return np.tanh(wave * rng.choice([1, 10])).astype(np.float32)


def _checks(rng: Generator) -> Grey:
    y, x = _warped(rng)
    across, down = rng.integers(2, 12, 2)
    return np.sign(np.sin(x * across * 2 * np.pi) * np.sin(y * down * 2 * np.pi))


def _dots(rng: Generator) -> Grey:
    y, x = _warped(rng)
    count = rng.integers(3, 16)
    row = np.floor(y * count)
    shifted = x + rng.choice([0, 0.5]) * (row % 2) / count
    far = np.hypot((y * count) % 1 - 0.5, (shifted * count) % 1 - 0.5)
    return 1 / (1 + np.exp((far - rng.uniform(0.15, 0.42)) * 40))


def _marble(rng: Generator) -> Grey:
    y, x = _grids()
    phase = (x * rng.integers(1, 6) + y * rng.integers(0, 4)) * 2 * np.pi
    return np.sin(phase + rng.uniform(1, 3) * noise(rng, rng.uniform(1.2, 1.8)))


def _wood(rng: Generator) -> Grey:
    y, _ = _grids()
    rings = np.sin(noise(rng, 2) * 2 + y * 2 * np.pi * rng.integers(3, 14))
    return rings + 0.4 * _anisotropic(rng).T


def _bricks(rng: Generator) -> Grey:
    y, x = _grids()
    rows = int(rng.integers(2, 9)) * 2
    columns = int(rng.integers(2, 9))
    row = np.floor(y * rows)
    along = x * columns + 0.5 * (row % 2)
    levels = rng.random((rows, columns))
    grey = levels[row.astype(int) % rows, np.floor(along).astype(int) % columns]
    joint = rng.uniform(0.04, 0.14)
    inside = ((y * rows) % 1 > joint) & (along % 1 > joint * columns / rows)
    return np.where(inside, 0.5 + 0.5 * grey, 0) + 0.05 * noise(rng, 1)


def _weave(rng: Generator) -> Grey:
    y, x = _grids()
    count = rng.integers(4, 24)
    down, across = np.abs(np.sin(y * count * np.pi)), np.abs(np.sin(x * count * np.pi))
    over = (np.floor(y * count) + np.floor(x * count)) % 2
    return np.where(over > 0, down, across) + 0.1 * noise(rng, 0.8)


def _scales(rng: Generator) -> Grey:
    y, x = _grids()
    rows, columns = int(rng.integers(3, 12)) * 2, int(rng.integers(3, 12))
    row = np.floor(y * rows)
    inside = (y * rows) % 1
    along = (x * columns + 0.5 * (row % 2)) % 1 - 0.5
    return np.sqrt(np.maximum(inside**2 * 0.5 + along**2 * 2, 0))


def _leaves(rng: Generator) -> Grey:
    """Dead leaves: discs that hide each other, of sizes without a typical one."""
    grey = np.zeros((SIDE, SIDE), np.float32)
    for radius in np.sort(4 / rng.power(2, 260) ** 1.0)[::-1]:
        y, x = rng.integers(0, SIDE, 2)
        size = int(min(radius * rng.uniform(0.6, 3), 70))
        for dy in (-SIDE, 0, SIDE):
            for dx in (-SIDE, 0, SIDE):
                if -size < y + dy < SIDE + size and -size < x + dx < SIDE + size:
                    cv2.circle(grey, (int(x + dx), int(y + dy)), size, float(rng.random()), -1)
    return grey


def _strokes(rng: Generator) -> Grey:
    """Fur, grass, hatching: short lines around a direction."""
    grey = np.full((SIDE, SIDE), 0.5, np.float32)
    angle, spread = rng.uniform(0, np.pi), rng.choice([0.1, 0.4, 3])
    length, width = rng.uniform(6, 40), int(rng.integers(1, 4))
    for _ in range(int(rng.integers(150, 600))):
        at = rng.integers(0, SIDE, 2)
        turn = angle + rng.normal(0, spread)
        end = at + length * np.array([np.cos(turn), np.sin(turn)])
        level = float(rng.random())
        for shift in ((0, 0), (SIDE, 0), (0, SIDE), (-SIDE, 0), (0, -SIDE)):
            start, stop = at + shift, end + shift
            cv2.line(grey, tuple(map(int, start)), tuple(map(int, stop)), level, width)
    return grey


def _grid(rng: Generator) -> Grey:
    y, x = _warped(rng)
    across, down = rng.integers(2, 14, 2)
    width = rng.uniform(0.06, 0.3)
    return (((x * across) % 1 < width) | ((y * down) % 1 < width)).astype(np.float32)


def _patches(rng: Generator) -> Grey:
    """Camouflage, cow, cloud: levels of smooth noise."""
    grey = noise(rng, rng.uniform(1.2, 2))
    return np.digitize(grey, np.sort(rng.normal(0, 0.8, rng.integers(1, 4)))).astype(np.float32)
