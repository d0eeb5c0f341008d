"""Draws a contact sheet: in every row four pictures of each of three drawn things.

python sheet.py sheet.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from draw import TEXTURES, draw_class
from drawing.scenes import Studio
from drawing.textures import texture_bank

_ACROSS, _PICTURES, _TILE = 3, 4, 88


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0, help="that of draw.py: the same things")
    asked = parser.parse_args()
    studio = Studio(texture_bank(asked.seed, TEXTURES))
    things = range(asked.rows * _ACROSS)
    drawn = np.stack([draw_class(studio, asked.seed, number, _PICTURES) for number in things])
    tiles = np.stack(
        [
            cv2.resize(tile, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
            for row in drawn
            for tile in row
        ]
    )
    rows = tiles.reshape(asked.rows, _ACROSS * _PICTURES, _TILE, _TILE, 3).swapaxes(1, 2)
    sheet = rows.reshape(asked.rows * _TILE, _ACROSS * _PICTURES * _TILE, 3)
    if not cv2.imwrite(str(asked.file), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80]):
        raise SystemExit(f"could not write {asked.file}")


if __name__ == "__main__":
    main()
