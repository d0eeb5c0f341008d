"""From a thing to a picture: materials, light, place, background, camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from drawing import palettes
from drawing.shapes import FAMILIES, SHARES, Part, Thing, turned

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Image = NDArray[np.float32]

_MATERIALS = 4
_SUBPIXEL = 4  # bits, for cv2's fixed-point coordinates


@dataclass(frozen=True)
class Material:
    """What a surface looks like: two colours, mixed by a texture."""

    colours: NDArray[np.float32]  # (2, 3)
    texture: int
    scale: float
    angle: float
    gloss: float


@dataclass(frozen=True)
class Subject:
    """A class of pictures: a thing, what it is made of, and how it likes to be shown.

    Attributes:
        recolour: how far its colours change from picture to picture; 1 draws them anew.
        turn: standard deviation of its turning in the plane.
        dome: how round it is shaded: 0 flat, 1 like a ball.
        background: what it is always shown before; None for anything.
    """

    family: str
    thing: Thing
    materials: tuple[Material, ...]
    recolour: float
    turn: float
    dome: float
    outline: float
    background: int | None


def subject(seed: tuple[int, ...], textures: int, family: str | None = None) -> Subject:
    """Draw a class."""
    rng = np.random.default_rng(seed)
    if family is None:
        family = str(rng.choice(list(FAMILIES), p=SHARES / SHARES.sum()))
    colours = palettes.palette(rng, _MATERIALS)
    plain = 0.0 if family == "surface" else 0.35
    materials = tuple(_material(rng, colours[i], textures, plain) for i in range(_MATERIALS))
    return Subject(
        family=family,
        thing=FAMILIES[family](rng),
        materials=materials,
        recolour=float(rng.choice([0.08, 0.25, 1.0], p=[0.5, 0.25, 0.25])),
        turn=float(rng.choice([0.12, 0.5, 3.0], p=[0.65, 0.2, 0.15])),
        dome=float(rng.choice([0, 0.25, 0.6, 1.0])),
        outline=float(rng.choice([0, 0, 0, 0.02])),
        background=int(rng.integers(2**31)) if rng.random() < 0.2 else None,
    )


def _material(rng: Generator, base: NDArray[np.float32], textures: int, plain: float) -> Material:
    second = palettes.near(rng, base, 0.5) if rng.random() < 0.7 else palettes.colour(rng)
    if rng.random() < plain:
        second = palettes.near(rng, base, 0.06)
    return Material(
        np.stack([base, second]),
        int(rng.integers(textures)),
        float(np.exp(rng.uniform(np.log(0.5), np.log(3)))),
        float(rng.uniform(0, 2 * np.pi)),
        float(rng.choice([0, 0, 0.3, 0.8])),
    )


class Studio:
    """Draws pictures of subjects. Holds the textures; everything else comes from the seeds."""

    def __init__(self, textures: NDArray[np.uint8], side: int = 128) -> None:
        self.textures = textures
        self.side = side

    def picture(self, who: Subject, rng: Generator) -> NDArray[np.uint8]:
        """Draw one picture of a subject, (side, side, 3) uint8 RGB."""
        canvas = self._background(rng, who.background)
        light = rng.uniform(0, 2 * np.pi)
        at = rng.normal(0, 0.1, 2)
        size = float(np.exp(rng.uniform(np.log(0.55), np.log(1.2))))
        if who.family == "surface":
            at, size = rng.normal(0, 0.2, 2), rng.uniform(0.7, 1.3)
        self._place(canvas, who, rng, at, size, light, shadow=rng.random() < 0.5)
        if rng.random() < 0.15:
            self._occlude(canvas, rng, light)
        return _camera(canvas, rng)

    def _place(
        self,
        canvas: Image,
        who: Subject,
        rng: Generator,
        at: NDArray[np.float64],
        size: float,
        light: float,
        shadow: bool,
    ) -> None:
        materials = [self._seen(who, material, rng) for material in who.materials]
        parts = _fitted(who.thing.parts(rng)) if who.family != "surface" else who.thing.parts(rng)
        angle = rng.normal(0, who.turn)
        flip = -1.0 if rng.random() < 0.3 else 1.0
        shear = rng.normal(0, 0.08)
        tilt = rng.normal(0, 0.1, 2)
        half = self.side / 2
        placed = []
        for part in parts:
            points = turned(part.points * (flip, 1), angle)
            points = points + shear * points[:, ::-1] * (1, 0)
            points = points / (1 + points @ tilt)[:, None].clip(0.4)
            placed.append(((points * size * 0.92 + at + 1) * half, part))
        if shadow:
            self._shadow(canvas, placed, size, light, rng)
        across = 256 / self.side / size
        for points, part in placed:
            material = materials[part.material % len(materials)]
            turn = material.angle + angle
            self._paint(canvas, points, part, material, (across, turn, light, who.dome, size))
            if who.outline and not part.stroke:
                _line(canvas, points, who.outline * size * half, (20.0, 20.0, 20.0), closed=True)

    def _seen(self, who: Subject, material: Material, rng: Generator) -> Material:
        if who.recolour == 1.0:
            colours = np.stack([palettes.colour(rng), palettes.colour(rng)])
            if rng.random() < 0.5:
                colours[1] = palettes.near(rng, colours[0], 0.4)
        else:
            colours = np.stack([palettes.near(rng, c, who.recolour) for c in material.colours])
        return Material(colours, material.texture, material.scale, material.angle, material.gloss)

    def _shadow(
        self,
        canvas: Image,
        placed: list[tuple[NDArray[np.float64], Part]],
        size: float,
        light: float,
        rng: Generator,
    ) -> None:
        mask = np.zeros((self.side, self.side), np.uint8)
        reach = rng.uniform(0.03, 0.2) * size * self.side / 2
        shift = -reach * np.array([np.cos(light), np.sin(light)])
        for points, part in placed:
            if part.stroke:
                _line(mask, points + shift, part.stroke * size * self.side / 2, 255, closed=False)
            else:
                cv2.fillPoly(mask, [_fixed(points + shift)], 255, shift=_SUBPIXEL)
        soft = cv2.GaussianBlur(mask, (0, 0), max(0.5, reach * rng.uniform(0.2, 0.8)))
        canvas *= 1 - (soft * np.float32(rng.uniform(0.3, 0.75) / 255))[..., None]

    def _paint(
        self,
        canvas: Image,
        points: NDArray[np.float64],
        part: Part,
        material: Material,
        view: tuple[float, float, float, float, float],
    ) -> None:
        across, turn, light, dome, size = view
        width = part.stroke * size * self.side / 2
        low = np.floor(points.min(0) - width - 1).astype(int).clip(0, self.side)
        high = np.ceil(points.max(0) + width + 2).astype(int).clip(0, self.side)
        if (high - low < 2).any():
            return
        w, h = high - low
        mask = np.zeros((h, w), np.uint8)
        if part.stroke:
            _line(mask, points - low, width, 255, closed=False)
        else:
            cv2.fillPoly(mask, [_fixed(points - low)], 255, cv2.LINE_AA, _SUBPIXEL)
        surface = self._surface(material, w, h, low, across, turn)
        if w * h > 60 and dome and not part.stroke:
            surface = _lit(surface, mask, light, dome, material.gloss)
        alpha = mask.astype(np.float32)[..., None] * np.float32(1 / 255)
        region = canvas[low[1] : high[1], low[0] : high[0]]
        region += (surface * np.float32(part.shade) - region) * alpha

    def _surface(
        self, material: Material, w: int, h: int, low: NDArray[np.int64], across: float, turn: float
    ) -> Image:
        first, second = material.colours
        if np.abs(first - second).max() < 12:
            return np.broadcast_to(first, (h, w, 3))
        scale = across * material.scale
        cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
        move = np.array([[cos, -sin], [sin, cos]]) @ low + 64
        matrix = np.array([[cos, -sin, move[0]], [sin, cos, move[1]]])
        grey = cv2.warpAffine(
            self.textures[material.texture],
            matrix,
            (int(w), int(h)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        share = grey.astype(np.float32)[..., None] * np.float32(1 / 255)
        return first + (second - first) * share

    def _background(self, rng: Generator, fixed: int | None) -> Image:
        if fixed is not None and rng.random() < 0.9:
            rng = np.random.default_rng([fixed, int(rng.integers(3))])
        side = self.side
        kind = rng.random()
        canvas = np.empty((side, side, 3), np.float32)
        if kind < 0.22:
            plain = rng.uniform(225, 255) if rng.random() < 0.5 else palettes.colour(rng)
            canvas[:] = plain
            return canvas
        if kind < 0.4:
            corners = np.stack([palettes.palette(rng, 4)]).reshape(2, 2, 3).astype(np.float32)
            return cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)
        self._fill(canvas, rng)
        if kind < 0.55:
            horizon = int(rng.uniform(0.3, 0.8) * side)
            self._fill(canvas[horizon:], rng)
        elif kind < 0.8:
            self._clutter(canvas, rng)
        if rng.random() < 0.5:
            canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.6, 5)))
        return canvas

    def _fill(self, canvas: Image, rng: Generator) -> None:
        h, w = canvas.shape[:2]
        material = _material(rng, palettes.colour(rng), len(self.textures), 0.1)
        low = rng.integers(0, 256, 2)
        turn, across = rng.uniform(0, 6.3), float(rng.uniform(0.4, 2))
        canvas[:] = self._surface(material, w, h, low, across, turn)

    def _clutter(self, canvas: Image, rng: Generator) -> None:
        families = list(FAMILIES)
        for _ in range(rng.integers(1, 4)):
            family = families[rng.integers(6)]
            colours = palettes.palette(rng, _MATERIALS)
            who = Subject(
                family,
                FAMILIES[family](rng),
                tuple(_material(rng, c, len(self.textures), 0.4) for c in colours),
                0.1, 3.0, 0.0, 0.0, None,
            )  # fmt: skip
            at = rng.uniform(-1.1, 1.1, 2)
            self._place(canvas, who, rng, at, rng.uniform(0.2, 0.8), 0.0, shadow=False)

    def _occlude(self, canvas: Image, rng: Generator, light: float) -> None:
        colours = palettes.palette(rng, 1)
        material = _material(rng, colours[0], len(self.textures), 0.4)
        thing = FAMILIES[("blob", "leaf", "strokes")[rng.integers(3)]](rng)
        edge = turned(np.array([[rng.uniform(0.75, 1.2), 0.0]]), rng.uniform(0, 6.3))[0]
        who = Subject("occluder", thing, (material,), 0.1, 3.0, 0.3, 0.0, None)
        self._place(canvas, who, rng, edge, rng.uniform(0.3, 0.7), light, shadow=True)


def _fitted(parts: list[Part]) -> list[Part]:
    """Move and scale parts so that they fill -1..1."""
    everything = np.concatenate([part.points for part in parts])
    low, high = everything.min(0), everything.max(0)
    middle, extent = (low + high) / 2, float((high - low).max()) / 2 + 1e-9
    return [
        replace(part, points=(part.points - middle) / extent, stroke=part.stroke / extent)
        for part in parts
    ]


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(points.clip(-2000, 2000) * (1 << _SUBPIXEL)).astype(np.int32)


def _line(
    target: NDArray[np.generic],
    points: NDArray[np.float64],
    width: float,
    colour: object,
    closed: bool,
) -> None:
    cv2.polylines(
        target, [_fixed(points)], closed, colour, max(1, round(width)), cv2.LINE_AA, _SUBPIXEL
    )  # fmt: skip


def _lit(surface: Image, mask: NDArray[np.uint8], light: float, dome: float, gloss: float) -> Image:
    """Shade a part as if it rose from its edge: Lambert's law and a highlight."""
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    rise = np.minimum(inside / (float(inside.max()) * max(dome, 0.1) + 1e-3), 1)
    height = np.sqrt(1 - (1 - rise) ** 2)
    height = cv2.GaussianBlur(height, (0, 0), 1.5)
    span = float(inside.max()) * 0.9
    dx, dy = (cv2.Sobel(height, cv2.CV_32F, i, 1 - i, scale=span / 8) for i in (1, 0))
    length = 1 / np.sqrt(dx * dx + dy * dy + 1)
    lx, ly, lz = np.cos(light) * 0.7, np.sin(light) * 0.7, 0.71
    facing = (-dx * lx - dy * ly + lz) * length
    bright = 0.45 + 0.75 * np.maximum(facing, 0)
    lit = surface * bright[..., None].astype(np.float32)
    if gloss:
        lit += (gloss * 220 * np.maximum(facing, 0) ** 24)[..., None]
    return lit


def _camera(canvas: Image, rng: Generator) -> NDArray[np.uint8]:
    """Exposure, white balance, contrast, defocus, vignette and noise."""
    gain = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.05, 3))
    middle = rng.uniform(90, 140)
    contrast = float(np.exp(rng.normal(0, 0.15)))
    canvas = (canvas - middle) * (gain * contrast).astype(np.float32) + np.float32(middle)
    if rng.random() < 0.25:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.4, 1.6)))
    if rng.random() < 0.3:
        side = canvas.shape[0]
        ramp = cv2.resize(
            rng.uniform(0.6, 1.2, (3, 3)).astype(np.float32), (side, side),
            interpolation=cv2.INTER_CUBIC,
        )  # fmt: skip
        canvas = canvas * ramp[..., None]
    if rng.random() < 0.4:
        noise = np.empty(canvas.shape, np.float32)
        cv2.randn(noise, 0, float(rng.uniform(2, 14)))
        canvas = canvas + noise
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image
