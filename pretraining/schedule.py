"""Stages of training, and the learning rate over them."""

from __future__ import annotations

import numpy as np


def stages(text: str) -> list[tuple[int, int]]:
    """`64:3000,128:300` -> image side and steps of each stage."""
    return [
        (int(side), int(steps)) for side, _, steps in (s.partition(":") for s in text.split(","))
    ]


def progress(plan: list[tuple[int, int]], step: int) -> float:
    """How much of all stages' work is done at a step; a step's work grows with its pixels.

    >>> progress([(64, 400), (128, 100)], 400)
    0.5
    """
    done, total, left = 0, 0, step
    for side, steps in plan:
        done += side**2 * min(steps, left)
        total += side**2 * steps
        left = max(0, left - steps)
    return done / total


def learning_rate(highest: float, step: int, plan: list[tuple[int, int]]) -> float:
    """A short warm-up, then half a cosine down to zero over the stages' work."""
    warm_up = max(1, min(200, sum(steps for _, steps in plan) // 20))
    falls = 0.5 + 0.5 * np.cos(np.pi * progress(plan, step))
    return float(highest * min(1, step / warm_up) * falls)
