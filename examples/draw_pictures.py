"""Draws the pictures of `make demo`: five kinds of fruit, and three invalid files.

python examples/draw_pictures.py FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# kind -> colour of the skin, width to height, colour of the stem
FRUITS = {
    "Apple Red": ((196, 30, 40), 1.05, (90, 60, 30)),
    "Banana": ((238, 206, 60), 2.6, (110, 90, 30)),
    "Kiwi": ((120, 92, 50), 1.15, (80, 60, 30)),
    "Pêche": ((245, 160, 100), 1.0, (90, 120, 50)),
    "Plum": ((92, 40, 110), 0.9, (90, 60, 30)),
}
EACH = 40
SIDE = 100


def fruit(kind: str, rng: np.random.Generator) -> Image.Image:
    """One fruit on a bright background, lit from a random side."""
    skin, shape, stem = FRUITS[kind]
    size = 4 * SIDE  # drawn large and scaled down, for smooth edges
    ground = tuple(int(level) for level in rng.integers(225, 256, 3))
    image = Image.new("RGB", (size, size), ground)
    width = int(size * rng.uniform(0.5, 0.62) * min(shape, 1.4))
    height = int(width / shape)
    left, top = (size - width) // 2, (size - height) // 2
    box = (left, top, left + width, top + height)
    draw = ImageDraw.Draw(image)
    draw.line((size // 2, top + 10, size // 2 + int(rng.integers(-30, 30)), top - 40), stem, 14)
    tint = np.clip(np.array(skin) + rng.integers(-18, 19, 3), 0, 255)
    draw.ellipse(box, tuple(int(level) for level in tint))
    light = Image.new("L", image.size)
    x, y = left + width * rng.uniform(0.25, 0.6), top + height * rng.uniform(0.2, 0.45)
    reach = min(width, height) * 0.22
    ImageDraw.Draw(light).ellipse((x - reach, y - reach, x + reach, y + reach), 150)
    light = light.filter(ImageFilter.GaussianBlur(reach / 2))
    image.paste((255, 255, 255), mask=light)
    turned = image.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC, fillcolor=ground)
    small = turned.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    grain = rng.normal(0, 3, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(small) + grain, 0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    """Fill the folder, replacing its content."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    for kind in FRUITS:
        (folder / kind).mkdir(parents=True)
        for number in range(EACH):
            fruit(kind, rng).save(folder / kind / f"{number:03d}.jpg", quality=92)
    whole = (folder / "Kiwi" / "000.jpg").read_bytes()
    (folder / "Kiwi" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "Plum" / "empty.jpg").write_bytes(b"")
    (folder / "Plum" / "page.jpg").write_text("<html>404 Not Found</html>")
    print(f"{len(FRUITS) * EACH + 3} files in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/draw_pictures.py FOLDER")
    main(Path(sys.argv[1]))
