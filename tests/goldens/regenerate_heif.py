"""Write HEIF images, and the pixels that pillow-heif decodes them to.

Run it in a separate environment: its wheels contain a GPL encoder, which Pomona does not need.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

FOLDER = Path(__file__).resolve().parent / "images" / "heif"
sys.path.insert(0, str(FOLDER.parents[2]))

from drawn import ORIENTATION, STORED, picture  # noqa: E402 - needs the path set above


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    pillow_heif.register_heif_opener()
    image = picture(32, 24)
    faint = image.convert("RGBA")
    faint.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(FOLDER / "colour.heic", quality=80)
    image.save(FOLDER / "lossless.heic", quality=-1, chroma=444)
    image.convert("L").save(FOLDER / "grey.heic", quality=80)
    faint.save(FOLDER / "alpha.heic", quality=80)
    for orientation, turn in STORED.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = image if turn is None else image.transpose(turn)
        # Only if given as bytes, pillow-heif converts EXIF to the container's own boxes.
        stored.save(FOLDER / f"orientation_{orientation}.heic", exif=exif.tobytes(), quality=80)
    stored.save(FOLDER / "exif_only.heic", exif=exif, quality=80)
    deep = (np.asarray(image).astype(np.uint16) * 257).tobytes()
    ten_bit = pillow_heif.from_bytes(mode="RGB;16", size=image.size, data=deep)
    ten_bit.save(FOLDER / "ten_bit.heic", quality=80)
    two = pillow_heif.from_pillow(picture(32, 24, seed=5))
    two.add_from_pillow(image)
    two.save(FOLDER / "second_is_primary.heic", primary_index=1, quality=80)
    pixels = {}
    for path in sorted(FOLDER.glob("*.heic")):
        with Image.open(path) as opened:
            mode = "RGBA" if "A" in opened.mode else "RGB"
            pixels[path.stem] = np.asarray(opened.convert(mode))
    np.savez_compressed(FOLDER / "pixels.npz", **pixels)


if __name__ == "__main__":
    main()
