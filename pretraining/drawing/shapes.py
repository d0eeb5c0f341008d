"""Families of things: what is drawn, as parts in a plane, before colour, light and place.

A family is a function that draws one *thing* (a class of images); a thing's `parts` draws its parts
anew for every picture, with joints turned and outlines wobbled a little. Coordinates are about
-1..1, y down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """One outline of a thing.

    Attributes:
        points: (N, 2), closed where it is filled.
        material: which of the thing's materials covers it.
        stroke: 0 for a filled outline, else the width of the line.
        shade: brightness, as solids give it to their faces.
        pivot: what the part turns about.
        swing: standard deviation of its turning, in radians.
    """

    points: Points
    material: int = 0
    stroke: float = 0.0
    shade: float = 1.0
    pivot: tuple[float, float] = (0.0, 0.0)
    swing: float = 0.0


class Thing(Protocol):
    """What a family draws."""

    def parts(self, rng: Generator) -> list[Part]:
        """Draw the parts as they are in one picture, from the back to the front."""


@dataclass(frozen=True)
class Flat:
    """A thing of parts in a plane."""

    pieces: list[Part] = field(default_factory=list)
    wobble: float = 0.02

    def parts(self, rng: Generator) -> list[Part]:
        """Turn joints, stretch, and bend outlines by a slow wave."""
        stretch = np.exp(rng.normal(0, 0.06, 2))
        phase, turns = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.5, 2, 2)
        amount = rng.normal(0, self.wobble, 2)
        result = []
        for piece in self.pieces:
            points = piece.points
            if piece.swing:
                points = turned(points, rng.normal(0, piece.swing), piece.pivot)
            bent = points + amount * np.sin(points[:, ::-1] * turns * np.pi + phase)
            result.append(replace(piece, points=bent * stretch))
        return result


@dataclass(frozen=True)
class Solid:
    """A thing of boxes, prisms and pyramids in space, seen from a side that changes."""

    faces: list[tuple[NDArray[np.float64], int]]  # (N, 3) counter-clockwise from outside
    yaw: float
    pitch: float
    spread: float

    def parts(self, rng: Generator) -> list[Part]:
        """Turn, project and shade the faces that look at the viewer, the far ones first."""
        yaw = self.yaw + rng.normal(0, self.spread)
        pitch = self.pitch + rng.normal(0, 0.12)
        cos, sin = np.cos(yaw), np.sin(yaw)
        about_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        cos, sin = np.cos(pitch), np.sin(pitch)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ about_y
        light = _unit(rng.normal(0, 1, 3) + (0, -1.5, 1))
        seen = []
        for corners, material in self.faces:
            there = corners @ turn.T
            normal = _unit(np.cross(there[1] - there[0], there[2] - there[1]))
            if normal[2] <= 0:
                continue
            shade = 0.55 + 0.6 * max(0.0, float(normal @ light))
            flat = there[:, :2] * (4 / (4 - there[:, 2:]))
            seen.append((float(there[:, 2].mean()), Part(flat, material, shade=shade)))
        return [part for _, part in sorted(seen, key=lambda item: item[0])]


def turned(points: Points, angle: float, pivot: tuple[float, float] = (0.0, 0.0)) -> Points:
    """Turn points about a pivot."""
    cos, sin = np.cos(angle), np.sin(angle)
    result: Points = (points - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot
    return result


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = vector / (np.linalg.norm(vector) + 1e-9)
    return result


def _round(count: int = 48) -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def _polar(radius: NDArray[np.float64], angle: NDArray[np.float64]) -> Points:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def _fit(points: Points, size: float = 1.0) -> Points:
    middle = (points.max(0) + points.min(0)) / 2
    result: Points = (points - middle) * size / (np.abs(points - middle).max() + 1e-9)
    return result


def _ellipse(x: float, y: float, a: float, b: float, angle: float = 0.0) -> Points:
    t = _round(32)
    return turned(np.stack([a * np.cos(t), b * np.sin(t)], -1), angle) + (x, y)


def _box(x: float, y: float, a: float, b: float, skew: float = 0.0) -> Points:
    return np.array([[x - a + skew, y - b], [x + a - skew, y - b], [x + a, y + b], [x - a, y + b]])


def _capsule(start: Points, end: Points, thick: float, thin: float) -> Points:
    along = _unit(end - start)
    across = np.array([-along[1], along[0]])
    t = np.linspace(-np.pi / 2, np.pi / 2, 8)
    first = start - thick * (np.cos(t)[:, None] * along + np.sin(t)[:, None] * across)
    second = end + thin * (np.cos(t)[:, None] * along + np.sin(t)[:, None] * across)
    return np.concatenate([first, second])


def superformula(rng: Generator, points: int = 64) -> Points:
    """Gielis' superformula, Am. J. Botany 90(3), 2003."""
    t = _round(points)
    m = rng.integers(0, 13)
    n1, n2, n3 = np.exp(rng.uniform(np.log(0.4), np.log(8), 3))
    radius = np.abs(np.cos(m * t / 4)) ** n2 + np.abs(np.sin(m * t / 4)) ** n3
    return _fit(_polar(np.maximum(radius, 1e-3) ** (-1 / n1), t) * rng.uniform(0.5, 1, 2))


def fourier(rng: Generator, points: int = 64) -> Points:
    """A closed curve of a few random harmonics."""
    t = _round(points)
    orders = np.arange(2, rng.integers(4, 10))
    size = rng.normal(0, 0.5, len(orders)) / orders ** rng.uniform(0.8, 1.6)
    phase = rng.uniform(0, 2 * np.pi, len(orders))
    radius = 1 + (size[:, None] * np.cos(orders[:, None] * t + phase[:, None])).sum(0)
    return _fit(_polar(np.maximum(radius, 0.15), t) * rng.uniform(0.45, 1, 2))


def polygon(rng: Generator) -> Points:
    """A regular polygon, a star, or one with corners at random."""
    corners = int(rng.integers(3, 9))
    kind = rng.random()
    if kind < 0.35:
        t = _round(corners) - np.pi / 2
        return _fit(_polar(np.ones(corners), t) * rng.uniform(0.4, 1, 2))
    if kind < 0.65:
        t = _round(2 * corners) - np.pi / 2
        radius = np.where(np.arange(2 * corners) % 2, rng.uniform(0.25, 0.8), 1.0)
        return _fit(_polar(radius, t))
    t = np.sort(rng.uniform(0, 2 * np.pi, corners + 2))
    return _fit(_polar(rng.uniform(0.3, 1, corners + 2), t))


def _outline(rng: Generator) -> Points:
    return (superformula, fourier, polygon)[rng.integers(3)](rng)


def blob(rng: Generator) -> Thing:
    """One outline, with marks on it."""
    pieces = [Part(_outline(rng))]
    for _ in range(rng.integers(0, 5)):
        at = rng.uniform(-0.5, 0.5, 2)
        mark = _outline(rng) * rng.uniform(0.08, 0.4) + at
        pieces.append(Part(mark, int(rng.integers(1, 4)), swing=0.05))
    return Flat(pieces, 0.05)


def pile(rng: Generator) -> Thing:
    """A few outlines that hide each other."""
    pieces = []
    for _ in range(rng.integers(3, 8)):
        at = rng.normal(0, 0.4, 2)
        pieces.append(
            Part(
                _outline(rng) * rng.uniform(0.25, 0.65) + at,
                int(rng.integers(4)),
                pivot=(float(at[0]), float(at[1])),
                swing=0.1,
            )
        )
    return Flat(pieces)


def _petal(rng: Generator) -> Points:
    t = np.linspace(0, 1, 14)
    width = t ** rng.uniform(0.4, 1.6) * (1 - t) ** rng.uniform(0.2, 1.1)
    width = width / width.max() * rng.uniform(0.08, 0.4)
    notch = rng.choice([0, 0.12]) * np.exp(-(((t - 1) / 0.1) ** 2))
    upper = np.stack([t - notch, width], -1)
    return np.concatenate([upper, upper[::-1] * (1, -1)])


def flower(rng: Generator) -> Thing:
    """Rings of petals about a centre, maybe on a stem with leaves."""
    pieces: list[Part] = []
    if rng.random() < 0.5:
        bend = rng.normal(0, 0.2)
        stem = np.array([[0, 0], [bend, 0.7], [bend * 1.6, 1.5]])
        pieces.append(Part(stem, 3, stroke=rng.uniform(0.03, 0.09)))
        for _ in range(rng.integers(0, 4)):
            leaf = turned(_petal(rng) * 0.7, rng.uniform(0, 2 * np.pi))
            pieces.append(Part(leaf + (bend, 0.8), 3, swing=0.2, pivot=(float(bend), 0.8)))
    count = int(rng.integers(3, 24))
    for ring in range(rng.integers(1, 4)):
        size = 1 - 0.28 * ring
        petal = _petal(rng) * size
        tilt = rng.uniform(0, np.pi)
        pieces += [
            Part(turned(petal, tilt + angle), 0 if ring % 2 == 0 else 1, swing=0.06)
            for angle in _round(count)
        ]
    heart = rng.uniform(0.05, 0.4)
    pieces.append(Part(_ellipse(0, 0, heart, heart), 2))
    return Flat(pieces)


def leaf(rng: Generator) -> Thing:
    """A leaf or a spray of leaves with veins."""
    t = np.linspace(0, 1, 40)
    width = t ** rng.uniform(0.4, 1.5) * (1 - t) ** rng.uniform(0.3, 1.5)
    width = width / width.max() * rng.uniform(0.1, 0.5)
    teeth, depth = rng.integers(0, 16), rng.uniform(0, 0.3)
    width = width * (1 - depth * np.abs(np.sin(t * np.pi * teeth)))
    upper = np.stack([2 * t - 1, width], -1)
    outline = np.concatenate([upper, upper[::-1] * (1, -1)])
    veins = [np.array([[-1.2, 0.0], [1.0, 0.0]])]
    for at in np.linspace(-0.6, 0.7, rng.integers(0, 8)):
        reach = float(np.interp(at + 0.25, upper[:, 0], upper[:, 1]))
        veins += [np.array([[at, 0], [at + 0.25, side * reach]]) for side in (-1, 1)]
    pieces = [Part(outline, 0)] + [Part(vein, 1, stroke=0.03) for vein in veins]
    if rng.random() < 0.4:
        fan = np.linspace(-1, 1, rng.integers(3, 8)) * rng.uniform(0.5, 2.5)
        pieces = [
            replace(piece, points=turned(piece.points * 0.55 + (0.6, 0), angle), swing=0.05)
            for angle in fan
            for piece in pieces[:2]
        ]
    turn = rng.uniform(0, 2 * np.pi)
    return Flat([replace(piece, points=turned(piece.points, turn)) for piece in pieces])


def fruit(rng: Generator) -> Thing:
    """One round body or a bunch, with stem, leaf or calyx."""
    body = (
        fourier(rng) * 0.25
        + _ellipse(0, 0, 0.75, 0.75 * rng.uniform(0.5, 1.3))[np.arange(64) * 32 // 64]
    )
    pieces: list[Part] = []
    stem = np.array([[0, -0.3], [rng.normal(0, 0.1), -0.8], [rng.normal(0, 0.3), -1.15]])
    if rng.random() < 0.6:
        pieces.append(Part(stem, 2, stroke=rng.uniform(0.04, 0.12), swing=0.1))
    if rng.random() < 0.35:
        count = int(rng.integers(3, 16))
        spots = rng.normal(0, 0.45, (count, 2))
        size = rng.uniform(0.25, 0.5)
        pieces += [Part(body * size + at, 0, swing=0.05) for at in spots]
    else:
        pieces.append(Part(body, 0))
        if rng.random() < 0.4:
            pieces += [
                Part(turned(_petal(rng) * 0.45, angle) + (0, -0.55), 3, swing=0.1)
                for angle in _round(int(rng.integers(3, 8)))
            ]
    if rng.random() < 0.3:
        pieces.append(Part(turned(_petal(rng) * 0.8, rng.uniform(-1, 1)) + (0, -0.9), 3, swing=0.2))
    return Flat(pieces, 0.03)


def _limb(
    rng: Generator, start: Points, angle: float, lengths: list[float], thick: float, material: int
) -> list[Part]:
    pieces = []
    swing = rng.uniform(0.05, 0.3)
    for length in lengths:
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        points = _capsule(start, end, thick, thick * 0.75)
        pieces.append(Part(points, material, pivot=(float(start[0]), float(start[1])), swing=swing))
        start, angle, thick = end, angle + rng.normal(0, 0.5), thick * 0.8
        swing = 0.02  # the rest stays near the joint that turned
    return pieces


def animal(rng: Generator) -> Thing:
    """A body in profile, a head with ears and an eye, legs, a tail."""
    long, high = rng.uniform(0.35, 0.8), rng.uniform(0.15, 0.45)
    tilt = rng.normal(0, 0.15)
    legs, reach = int(rng.choice([0, 2, 4, 4, 4])), rng.uniform(0.2, 0.8)
    thick = rng.uniform(0.03, 0.12)
    pieces: list[Part] = []
    for index, x in enumerate(np.linspace(-long * 0.8, long * 0.8, legs) if legs else []):
        start = np.array([x, high * 0.5])
        pieces += _limb(rng, start, np.pi / 2, [reach / 2, reach / 2], thick, index % 2)
    tail = [rng.uniform(0.1, 0.4)] * int(rng.integers(0, 4))
    pieces += _limb(rng, np.array([-long, 0.0]), np.pi + rng.normal(0, 0.7), tail, thick, 0)
    pieces.append(Part(_ellipse(0, 0, long, high, tilt), 0))
    neck = np.array([long * 0.8, -high * 0.4])
    lift = rng.uniform(-1.6, 0.2)
    stretch = rng.uniform(0.1, 0.8)
    head = neck + stretch * np.array([np.cos(lift), np.sin(lift)])
    pieces.append(Part(_capsule(neck, head, high * 0.5, high * 0.35), 0))
    size = rng.uniform(0.12, 0.34)
    for side in (-1, 1):
        if rng.random() < 0.8:
            ear = turned(_petal(rng) * size * rng.uniform(1, 3), -np.pi / 2 + side * 0.4)
            pieces.append(Part(ear + head + (side * size * 0.5, -size * 0.5), 1, swing=0.1))
    pieces.append(
        Part(_ellipse(*head, size * rng.uniform(0.9, 1.7), size), int(rng.choice([0, 1])))
    )
    pieces.append(Part(_ellipse(*(head + (size * 0.3, -size * 0.2)), size * 0.2, size * 0.2), 3))
    if rng.random() < 0.5:
        pieces.append(Part(_outline(rng) * high * 0.7, 2))
    return Flat([replace(p, points=p.points * 0.85) for p in pieces])


def mirrored(rng: Generator) -> Thing:
    """Parts about an upright axis: insects, faces, masks, vessels, front views."""
    pieces: list[Part] = []
    for _ in range(rng.integers(1, 5)):
        at = rng.uniform(0.1, 0.7), rng.uniform(-0.7, 0.7)
        piece = _outline(rng) * rng.uniform(0.15, 0.55)
        material = int(rng.integers(1, 4))
        for side in (1, -1):
            pieces.append(Part((piece + at) * (side, 1), material, swing=0.04))
    for _ in range(rng.integers(0, 4)):
        start = np.array([0.1, rng.uniform(-0.6, 0.6)])
        angle = rng.uniform(-1.3, 1.3)
        limb = _limb(rng, start, angle, [0.5, 0.4], rng.uniform(0.015, 0.05), 2)
        pieces += limb + [replace(p, points=p.points * (-1, 1)) for p in limb]
    body = _ellipse(0, 0, rng.uniform(0.12, 0.7), rng.uniform(0.4, 0.95))
    pieces.insert(int(rng.integers(len(pieces) + 1)), Part(body, 0))
    for _ in range(rng.integers(0, 4)):
        at = rng.uniform(0.05, 0.35), rng.uniform(-0.6, 0.6)
        eye = _ellipse(0, 0, rng.uniform(0.03, 0.15), rng.uniform(0.03, 0.15))
        material = int(rng.integers(1, 4))
        pieces += [Part((eye + at) * (side, 1), material) for side in (1, -1)]
    return Flat(pieces)


def vessel(rng: Generator) -> Thing:
    """A profile turned about an axis: bottles, cups, lamps; a handle, bands."""
    height = np.linspace(-0.95, 0.95, 24)
    knots = rng.integers(3, 7)
    profile = np.interp(height, np.linspace(-1, 1, knots), rng.uniform(0.1, 0.65, knots))
    profile = np.convolve(np.pad(profile, 2, "edge"), np.ones(5) / 5, "valid")
    right = np.stack([profile, height], -1)
    pieces: list[Part] = []
    if rng.random() < 0.4:
        t = np.linspace(-np.pi / 2, np.pi / 2, 12)
        reach, y = rng.uniform(0.2, 0.45), rng.uniform(-0.3, 0.3)
        x = float(np.interp(y, height, profile))
        arc = np.stack([x - 0.05 + reach * np.cos(t), y + reach * np.sin(t)], -1)
        pieces.append(Part(arc, 1, stroke=rng.uniform(0.05, 0.13)))
    pieces.append(Part(np.concatenate([right, right[::-1] * (-1, 1)]), 0))
    for _ in range(rng.integers(0, 4)):
        low, high = sorted(rng.integers(0, 24, 2))
        if high - low > 1:
            band = right[low:high]
            pieces.append(
                Part(np.concatenate([band, band[::-1] * (-1, 1)]), int(rng.integers(1, 4)))
            )
    pieces.append(Part(_ellipse(0, -0.95, profile[0], profile[0] * 0.2), int(rng.integers(4))))
    return Flat(pieces, 0.02)


def vehicle(rng: Generator) -> Thing:
    """A body on wheels, with windows; or a hull, a fuselage with wings."""
    long, high = rng.uniform(0.7, 1), rng.uniform(0.12, 0.4)
    pieces = [Part(_box(0, 0, long, high, rng.uniform(0, 0.3)), 0)]
    if rng.random() < 0.75:
        x, a, b = rng.uniform(-0.3, 0.3), rng.uniform(0.25, 0.6), rng.uniform(0.12, 0.3)
        pieces.append(Part(_box(x, -high - b, a, b, rng.uniform(0, 0.2)), int(rng.choice([0, 1]))))
        panes = int(rng.integers(1, 5))
        for at in np.linspace(-a * 0.7, a * 0.7, panes):
            pieces.append(Part(_box(x + at, -high - b, a * 0.55 / panes, b * 0.65), 3))
    if rng.random() < 0.7:
        wheel, count = rng.uniform(0.12, 0.34), int(rng.integers(2, 5))
        for x in np.linspace(-long * 0.7, long * 0.7, count):
            pieces.append(Part(_ellipse(x, high, wheel, wheel), 2))
            pieces.append(Part(_ellipse(x, high, wheel * 0.5, wheel * 0.5), 1))
    else:
        for _ in range(rng.integers(1, 4)):
            at, reach = rng.uniform(-0.6, 0.6), rng.uniform(0.3, 0.9) * rng.choice([-1, 1])
            lean = rng.uniform(-0.4, 0.4)
            wing = [[at - 0.15, 0], [at + 0.2, 0], [at + lean + 0.1, reach], [at + lean, reach]]
            pieces.append(Part(np.array(wing), int(rng.integers(3))))
    for _ in range(rng.integers(0, 4)):
        mark = _box(rng.uniform(-0.6, 0.6), rng.uniform(-high, high) * 0.6, 0.12, 0.05)
        pieces.append(Part(mark, int(rng.integers(1, 4))))
    return Flat(pieces, 0.01)


def building(rng: Generator) -> Thing:
    """Walls with rows of windows, roofs, towers."""
    pieces: list[Part] = []
    x = -1.0
    while x < 0.9:
        a = rng.uniform(0.15, 0.6)
        top = rng.uniform(-0.9, 0.3)
        wall = int(rng.integers(3))
        pieces.append(Part(_box(x + a, (top + 1) / 2, a, (1 - top) / 2), wall))
        roof = rng.random()
        if roof < 0.4:
            peak = top - rng.uniform(0.1, 0.5)
            tip = np.array([[x - 0.05, top], [x + a, peak], [x + 2 * a + 0.05, top]])
            pieces.append(Part(tip, 2))
        elif roof < 0.55:
            pieces.append(Part(_ellipse(x + a, top, a, a * 0.8), 2))
        columns, rows = rng.integers(1, 5), rng.integers(1, 6)
        pane = 2 * a / columns * rng.uniform(0.15, 0.38), (1 - top) / rows * rng.uniform(0.15, 0.38)
        for i in range(columns):
            for j in range(rows):
                centre = x + (i + 0.5) * 2 * a / columns, top + (j + 0.5) * (1 - top) / rows
                pieces.append(Part(_box(*centre, *pane), 3))
        x += 2 * a + rng.choice([0, 0.1])
    return Flat(pieces, 0.01)


def furniture(rng: Generator) -> Thing:
    """Boxes, prisms and pyramids put together in space."""
    faces: list[tuple[NDArray[np.float64], int]] = []
    for _ in range(rng.integers(1, 6)):
        middle = rng.uniform(-0.5, 0.5, 3)
        half = np.exp(rng.uniform(np.log(0.07), np.log(0.7), 3))
        sides = int(rng.choice([4, 4, 4, 3, 6, 14]))
        taper = rng.choice([1.0, 1.0, 1.0, rng.uniform(0, 0.9)])
        faces += _prism(middle, half, sides, taper, int(rng.integers(4)))
    if rng.random() < 0.4:
        for x in (-0.5, 0.5):
            for z in (-0.5, 0.5):
                faces += _prism(np.array([x, 0.6, z]), np.array([0.06, 0.4, 0.06]), 4, 1.0, 1)
    return Solid(
        faces, rng.uniform(-np.pi, np.pi), rng.uniform(0.1, 0.7), float(rng.choice([0.2, 0.5, 2]))
    )


def _prism(
    middle: NDArray[np.float64],
    half: NDArray[np.float64],
    sides: int,
    taper: float,
    material: int,
) -> list[tuple[NDArray[np.float64], int]]:
    t = _round(sides) + np.pi / sides
    ring = np.stack([np.cos(t), np.zeros(sides), np.sin(t)], -1) * (1.3 if sides == 4 else 1.0)
    low = ring * half + middle + (0, half[1], 0)
    high = ring * half * taper + middle - (0, half[1], 0)
    # y points down and z at the viewer.
    faces = [(high, material), (low[::-1], material)]
    for i in range(sides):
        j = (i + 1) % sides
        faces.append((np.array([high[j], high[i], low[i], low[j]]), material))
    middle_z = middle
    return [(f if _outward(f, middle_z) else f[::-1], m) for f, m in faces]


def _outward(face: NDArray[np.float64], middle: NDArray[np.float64]) -> bool:
    normal = np.cross(face[1] - face[0], face[2] - face[1])
    return bool(normal @ (face.mean(0) - middle) > 0)


def strokes(rng: Generator) -> Thing:
    """Lines and arcs of a pen: glyphs, instruments, wire."""
    pieces = []
    width = rng.uniform(0.02, 0.16)
    for _ in range(rng.integers(2, 9)):
        start = rng.uniform(-0.9, 0.9, 2)
        if rng.random() < 0.5:
            points = np.stack([start, rng.uniform(-0.9, 0.9, 2)])
        else:
            t = np.linspace(0, rng.uniform(1, 2 * np.pi), 20) + rng.uniform(0, 2 * np.pi)
            points = start * 0.5 + rng.uniform(0.15, 0.7) * _polar(np.ones(20), t)
        material = int(rng.choice([0, 0, 1]))
        pieces.append(Part(points, material, stroke=width * rng.uniform(0.6, 1.4), swing=0.05))
    return Flat(pieces, 0.03)


def lettering(rng: Generator) -> Thing:
    """Rows of marks like writing on a sign."""
    pieces = []
    if rng.random() < 0.7:
        pieces.append(Part(_fit(_outline(rng)) if rng.random() < 0.4 else _box(0, 0, 1, 0.8), 0))
    alphabet = [rng.uniform(-1, 1, (int(rng.integers(2, 6)), 2)) for _ in range(5)]
    rows = int(rng.integers(1, 5))
    for row in range(rows):
        count = int(rng.integers(2, 8))
        size = 0.32 / max(rows, count / 2.2)
        for column in range(count):
            at = (column - (count - 1) / 2) * size * 2.4, (row - (rows - 1) / 2) * size * 3
            mark = alphabet[rng.integers(5)] * size + at
            pieces.append(Part(mark, 1, stroke=size * 0.4))
    return Flat(pieces, 0.01)


def rings(rng: Generator) -> Thing:
    """One outline within another: targets, clocks, shells, eyes, wheels with spokes."""
    outline = _outline(rng) if rng.random() < 0.4 else _ellipse(0, 0, 1, rng.uniform(0.6, 1))
    shift = rng.normal(0, 0.05, 2)
    sizes = np.sort(rng.uniform(0.1, 1, rng.integers(2, 7)))[::-1]
    pieces = [Part(outline)]
    for index, size in enumerate(sizes):
        pieces.append(Part(outline * size + shift * index, index % 4))
    spokes = rng.integers(0, 14)
    for angle in _round(int(spokes)) if spokes > 1 else []:
        spoke = turned(np.array([[0.15, 0], [0.85, 0]]), angle)
        pieces.append(Part(spoke, 3, stroke=rng.uniform(0.02, 0.06)))
    return Flat(pieces)


def fractal(rng: Generator) -> Thing:
    """The outline that an iterated function system maps onto itself, as copies of copies."""
    maps = []
    for _ in range(rng.integers(2, 5)):
        turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.6 else rng.normal(0, 0.3)
        maps.append((rng.uniform(0.3, 0.72), turn, rng.uniform(-0.6, 0.6, 2)))
    seed = _outline(rng) * 0.8
    level = [seed]
    while len(level) * len(maps) <= 90:
        level = [turned(p * size, turn) + at for p in level for size, turn, at in maps]
    everything = np.concatenate(level)
    middle = (everything.max(0) + everything.min(0)) / 2
    extent = np.abs(everything - middle).max()
    return Flat(
        [Part((p - middle) / extent, index % len(maps)) for index, p in enumerate(level)], 0.03
    )


def lattice(rng: Generator) -> Thing:
    """The same few parts again and again in rows, a ring or a spiral."""
    unit = [_outline(rng) for _ in range(rng.integers(1, 3))]
    kind, pieces = rng.random(), []
    if kind < 0.4:
        across, down = rng.integers(2, 7, 2)
        spots = [
            ((i + 0.5) / across * 2 - 1, (j + 0.5) / down * 2 - 1, 0.0)
            for i in range(across)
            for j in range(down)
        ]
        size = 0.85 / max(across, down)
    else:
        count = int(rng.integers(5, 24))
        t = np.arange(count) * (2 * np.pi / count if kind < 0.7 else 2.4)
        r = np.full(count, 0.75) if kind < 0.7 else 0.9 * np.sqrt(np.arange(count) / count)
        spots = [(r[i] * np.cos(t[i]), r[i] * np.sin(t[i]), t[i]) for i in range(count)]
        size = rng.uniform(1, 2) / count ** (1.0 if kind < 0.7 else 0.6)
    for index, (x, y, angle) in enumerate(spots):
        which = index % len(unit)
        pieces.append(Part(turned(unit[which] * size, angle) + (x, y), which))
    return Flat(pieces)


def surface(rng: Generator) -> Thing:
    """Nothing but material: it fills the picture."""
    pieces = [Part(_box(0, 0, 3, 3))]
    if rng.random() < 0.4:
        y = rng.uniform(-0.4, 0.4)
        pieces.append(Part(_box(0, 3 + y, 6, 3), 1))
    return Flat(pieces)


FAMILIES: dict[str, Callable[[Generator], Thing]] = {
    family.__name__: family
    for family in (
        blob, pile, flower, leaf, fruit, animal, mirrored, vessel, vehicle, building, furniture,
        strokes, lettering, rings, fractal, lattice, surface,
    )
}  # fmt: skip
SHARES = np.array([6, 6, 12, 6, 8, 11, 11, 8, 8, 5, 10, 6, 3, 5, 5, 5, 5], float)
"""How many of a hundred and some things are of each family."""
