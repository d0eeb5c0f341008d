"""Measures which copies of images `pomona duplicates` finds, and how many false pairs.

    python benchmarks/near_duplicates.py --set NAME=TREE [...] --encoder NAME=FILE [...] [--write]

It copies images of each tree as people do: smaller, cropped, compressed, brighter, with a mark,
mirrored. A copy counts as found if the similarity of it and its original is the threshold or more.
All pairs of originals count as false if they are that similar, except those of one label in trees
of `--same-label`: frames of one object, say, are near on purpose. `--pairs FOLDER` draws the
most similar of them, so that you can see whether they are false. `--write` puts the results into
NEAR_DUPLICATES.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

import pomona
from pomona.analysis.figures.contact_sheet import Cell, draw_sheet, save_picture
from pomona.analysis.similarity import THRESHOLD, centred_directions
from pomona.analysis.vectors import open_vectors, unit
from pomona.table.feature_table import FeatureTable
from run import machine

PAGE = Path(__file__).with_name("NEAR_DUPLICATES.md")
MARK = "<!-- written by near_duplicates.py -->"
PLANTED, SHOWN = 150, 48
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PLAIN = 0.98  # a usual threshold of plain cosines


def resized(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.resize(
        [max(1, round(side * share)) for side in picture.size], Image.Resampling.LANCZOS
    )


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    """Cut off a share of the width and of the height, most of it at the left and the top."""

    def crop(picture: Image.Image) -> Image.Image:
        width, height = picture.size
        left, top = round(0.7 * share * width), round(0.7 * share * height)
        right, bottom = round(width * (1 - 0.3 * share)), round(height * (1 - 0.3 * share))
        return picture.crop((left, top, right, bottom))

    return crop


def marked(picture: Image.Image) -> Image.Image:
    """Write a word across the lower right quarter, half transparent."""
    marked = picture.convert("RGBA")
    layer = Image.new("RGBA", picture.size)
    width, height = picture.size
    ImageDraw.Draw(layer).text(
        (width / 2, height * 0.8), "SAMPLE", (255, 255, 255, 128), font_size=max(10, height / 8)
    )
    return Image.alpha_composite(marked, layer).convert("RGB")


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "75 % of the size": resized(0.75),
    "50 % of the size": resized(0.5),
    "cropped by 2 %": cropped(0.02),
    "cropped by 5 %": cropped(0.05),
    "JPEG quality 40": lambda picture: picture,
    "brightness 70 %": lambda picture: ImageEnhance.Brightness(picture).enhance(0.7),
    "brightness 130 %": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "a mark": marked,
    "mirrored": ImageOps.mirror,
    "cropped by 10 %": cropped(0.1),
    "25 % of the size": resized(0.25),
    "in grey": lambda picture: ImageOps.grayscale(picture).convert("RGB"),
    "turned by 90 degrees": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
}
AIM = list(KINDS)[:9]
"""Of each of these, at least 90 % should be found."""


@dataclass(frozen=True)
class Rows:
    """Vectors by the path of the image."""

    numbers: dict[str, int]
    labels: list[str]
    vectors: np.ndarray

    @classmethod
    def of(cls, tree: Path, encoder: Path, table: Path) -> Rows:
        pomona.extract(str(tree), str(table), encoder=str(encoder))
        block = open_vectors(FeatureTable.at(table)).matrix()
        paths = [unquote(path).removeprefix("file:") for path in block.paths.to_pylist()]
        numbers = {path: number for number, path in enumerate(paths)}
        return cls(numbers, block.labels.to_pylist(), block.vectors)


@dataclass(frozen=True)
class Compared:
    """Similarities: of each copy and its original by kind, and the larger ones of two originals."""

    images: int
    copies: dict[str, np.ndarray]
    pairs: np.ndarray
    all_pairs: int
    nearest: list[tuple[float, str, str]]

    def found(self, kind: str, threshold: float) -> float:
        return float((self.copies[kind] >= threshold).mean())

    def least(self, threshold: float) -> float:
        return min(self.found(kind, threshold) for kind in AIM)

    def near(self, threshold: float) -> int:
        return int((self.pairs >= threshold).sum())


def plant(tree: Path, folder: Path) -> dict[str, str]:
    """Change copies of some of a tree's images; return the path of each copy's original."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    spread = np.unique(np.linspace(0, len(files) - 1, PLANTED).round().astype(int))
    originals = {}
    for number in spread:
        try:
            with Image.open(files[number]) as opened:
                picture = over_white(opened)
        except OSError:
            continue
        for at, (kind, change) in enumerate(KINDS.items()):
            copy = folder / str(at) / f"{number:06}.jpg"
            copy.parent.mkdir(parents=True, exist_ok=True)
            change(picture).save(copy, quality=40 if kind == "JPEG quality 40" else 90)
            originals[str(copy)] = str(files[number])
    return originals


def over_white(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB, on white where it is transparent."""
    picture = ImageOps.exif_transpose(picture).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def compare(
    originals: Rows, copies: Rows, of: dict[str, str], shift: Any, *, by_label: bool
) -> Compared:
    """Compare vectors less `shift`: a centre, or 0."""
    ones, others = unit(originals.vectors - shift), unit(copies.vectors - shift)
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for path, number in copies.numbers.items():
        original = originals.numbers[of[path]]
        kind = list(KINDS)[int(Path(path).parent.name)]
        by_kind[kind].append(float(others[number] @ ones[original]))
    similarities = ones @ ones.T
    counts = np.triu(np.ones(similarities.shape, bool), 1)
    if by_label:
        labels = np.array(originals.labels)
        counts &= labels[:, None] != labels
    one, other = np.nonzero(counts & (similarities >= THRESHOLDS[0]))
    values = similarities[one, other]
    paths = list(originals.numbers)
    first = np.argsort(-values)[:SHOWN]
    return Compared(
        len(ones),
        {kind: np.array(values) for kind, values in by_kind.items()},
        values,
        int(counts.sum()),
        [(float(values[at]), paths[one[at]], paths[other[at]]) for at in first],
    )


def measure(
    name: str, tree: Path, encoders: dict[str, Path], *, by_label: bool
) -> dict[str, list[Compared]]:
    """Return for each encoder the comparison of centred, and that of plain vectors."""
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        of = plant(tree, folder / "copies")
        for encoder, file in encoders.items():
            originals = Rows.of(tree, file, folder / f"{encoder}-originals")
            copies = Rows.of(folder / "copies", file, folder / f"{encoder}-copies")
            centre = centred_directions(
                open_vectors(FeatureTable.at(folder / f"{encoder}-originals"))
            ).centre
            measured[encoder] = [
                compare(originals, copies, of, shift, by_label=by_label) for shift in (centre, 0)
            ]
            print(f"{name}, {encoder}: {len(originals.vectors)} images", flush=True)
    return measured


def page(measured: dict[str, dict[str, list[Compared]]]) -> str:
    lines = [f"Measured on {dt.date.today()} by `benchmarks/near_duplicates.py`; {machine()}.", ""]
    head = [f"{name}, {encoder}" for name, some in measured.items() for encoder in some]
    both = [found for some in measured.values() for found in some.values()]
    lines += [f"## Found at {THRESHOLD:g}, and by plain cosines at {PLAIN:g} in brackets", ""]
    lines += [f"| copy | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for kind in KINDS:
        cells = [f"{c.found(kind, THRESHOLD):.0%} ({p.found(kind, PLAIN):.0%})" for c, p in both]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", "## Other thresholds", ""]
    lines += [
        "The least found of the first nine kinds, and near pairs of originals of all pairs.",
        "",
    ]
    lines += [f"| similarity | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for threshold in THRESHOLDS:
        cells = [
            f"{c.least(threshold):.0%}, {c.near(threshold):,} of {c.all_pairs:,}" for c, _ in both
        ]
        lines.append(f"| {threshold:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_pairs(folder: Path, name: str, measured: dict[str, list[Compared]]) -> None:
    """Draw the most similar pairs of originals."""
    for encoder, (found, _) in measured.items():
        cells = [
            Cell(f"file:{quote(path)}", "", f"{similarity:.3f}")
            for similarity, *pair in found.nearest
            for path in pair
        ]
        rows = [cells[at : at + 8] for at in range(0, len(cells), 8)]
        if rows:
            save_picture(draw_sheet(rows), folder / f"{name}-{encoder}.png")


def named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    return name, Path(path).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--set", type=named, action="append", required=True, metavar="NAME=TREE")
    parser.add_argument(
        "--encoder", type=named, action="append", required=True, metavar="NAME=FILE"
    )
    parser.add_argument("--same-label", action="append", default=[], metavar="NAME")
    parser.add_argument("--pairs", type=Path, metavar="FOLDER")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    measured = {}
    for name, tree in options.set:
        measured[name] = measure(
            name, tree, dict(options.encoder), by_label=name in options.same_label
        )
        if options.pairs:
            draw_pairs(options.pairs, name, measured[name])
    text = page(measured)
    print(text)
    if options.write:
        before, mark, _ = PAGE.read_text().partition(MARK)
        PAGE.write_text(before + mark + "\n" + text)


if __name__ == "__main__":
    main()
