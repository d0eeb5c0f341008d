"""Turns pictures of unpacked Debian packages into class folders: to judge by, never to train.

    python guides.py stamps tuxpaint-stamps-default/ stamps/
    python guides.py stamps tuxpaint-stamps-default/ stamps-on-noise/ --ground noise
    python guides.py furniture sweethome3d-furniture/ furniture/

`stamps` are photos of animals, plants, food, tools and vehicles, cut out; a class is the package's
folder. `furniture` are rendered models of rooms' things; a class is the last word of their names
(`Kitchen chair` and `Chair` are both chairs). Get a package by `apt-get download NAME` and unpack
it with `dpkg -x NAME*.deb NAME`; nothing is installed.
"""

from __future__ import annotations

import argparse
import io
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIDE = 224
_FILLED = 0.9  # of the side, by the longer side of what is shown
_FEWEST = 4  # pictures in a class
# Drawn, or told apart by more than their looks.
_LEFT_OUT = {"cartoon", "symbols", "flags", "seasonal", "space", "naturalforces", "medical", "toys"}
_NAME = re.compile(r"^(name|icon)#(\d+)\s*=\s*(.+?)\s*$", re.MULTILINE)


def stamps(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Photos of Tux Paint's stamps, with their folder's path as the label."""
    for top in folder.rglob("tuxpaint/stamps"):
        for path in sorted(top.rglob("*.png")):
            places = path.relative_to(top).parts[:-1]
            if not _LEFT_OUT & set(places):
                yield " ".join(places), path.read_bytes()


def furniture(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Rendered models of Sweet Home 3D's catalogues, with the last word of their names."""
    for path in sorted(folder.rglob("*.sh3f")):
        with zipfile.ZipFile(path) as catalogue:
            text = catalogue.read("PluginFurnitureCatalog.properties").decode("latin-1")
            told: dict[str, dict[str, str]] = defaultdict(dict)
            for key, number, value in _NAME.findall(text):
                told[number][key] = value
            for item in told.values():
                if {"name", "icon"} <= set(item):
                    yield kind(item["name"]), catalogue.read(item["icon"].lstrip("/"))


def kind(name: str) -> str:
    """What a name says that a thing is: its last word, without numbers and brackets.

    >>> kind("Kitchen chair (low) 2")
    'chair'
    """
    words = re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", name.lower()))
    return words[-1].removesuffix("s") if words else ""


def shown(data: bytes, ground: str, rng: np.random.Generator) -> Image.Image:
    """The picture on white or on noise of a colour, cut to what is opaque, (224, 224) RGB."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
    size = _FILLED * _SIDE / max(image.size)
    image = image.resize([max(1, round(n * size)) for n in image.size], Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (_SIDE, _SIDE), "white") if ground == "white" else _noise(rng)
    canvas.paste(image, [(_SIDE - n) // 2 for n in image.size], image)
    return canvas


def _noise(rng: np.random.Generator) -> Image.Image:
    """Coloured noise whose power falls as that of photos, 1/f^2."""
    line = np.fft.fftfreq(_SIDE) * _SIDE
    falls = 1 / np.maximum(np.hypot(line[:, None], line), 1)
    waves = np.fft.fft2(rng.normal(size=(3, _SIDE, _SIDE)), axes=(1, 2)) * falls
    waves[:, 0, 0] = 0
    grey = np.real(np.fft.ifft2(waves, axes=(1, 2)))
    grey /= grey.std(axis=(1, 2), keepdims=True)
    mixed = 0.8 * grey[:1] + 0.3 * grey
    pixels = rng.uniform(60, 200, (3, 1, 1)) + rng.uniform(15, 45) * mixed
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def write_tree(found: Iterator[tuple[str, bytes]], folder: Path, ground: str) -> tuple[int, int]:
    """Write PNG files in class folders; returns pictures and classes. Same bytes only once."""
    classes: dict[str, dict[bytes, None]] = defaultdict(dict)
    for label, data in found:
        classes[label][data] = None
    kept = {label: files for label, files in classes.items() if label and len(files) >= _FEWEST}
    for label, files in sorted(kept.items()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(files):
            rng = np.random.default_rng([len(data), number])
            shown(data, ground, rng).save(folder / label / f"{number:03d}.png")
    return sum(map(len, kept.values())), len(kept)


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["stamps", "furniture"])
    parser.add_argument("package", type=Path, help="the unpacked package")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ground", choices=["white", "noise"], default="white")
    asked = parser.parse_args()
    found = {"stamps": stamps, "furniture": furniture}[asked.kind](asked.package)
    pictures, classes = write_tree(found, asked.folder, asked.ground)
    if not pictures:
        raise SystemExit(f"nothing to show in {asked.package}: expected the unpacked package")
    print(f"{pictures} pictures of {classes} classes in {asked.folder}")


if __name__ == "__main__":
    main()
