"""Draws classes that training never sees, of the families that it does, as folders of PNG files.

python validation.py FOLDER --classes 100 --pictures 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from draw import TEXTURES, draw_class
from drawing.scenes import Studio
from drawing.textures import texture_bank

_SEED = 1_000_003  # of textures too: none is shared with a training set of a small seed


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=8)
    asked = parser.parse_args()
    studio = Studio(texture_bank(_SEED, TEXTURES))
    for number in range(asked.classes):
        within = asked.folder / f"class {number:03d}"
        within.mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(draw_class(studio, _SEED, number, asked.pictures)):
            cv2.imwrite(str(within / f"{i:02d}.png"), picture[..., ::-1])


if __name__ == "__main__":
    main()
