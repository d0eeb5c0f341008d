"""Measures the columns `brightness` and `sharpness`: their cost, and whether sharpness finds blur.

    python benchmarks/quality.py FOLDER [--fruits FOLDER]

FOLDER contains large photos. Each is scaled to 100, 256, 500 and 3000 pixels on the longer side,
and blurred. A measure separates well if nearly each blurred photo has a lower value than nearly
each photo as it is: the AUROC is the share of such pairs. The last line takes photos of all sizes
together, with blurs in proportion to their size, as one threshold for a table of mixed sizes does.
`below limit` are the shares of photos and of blurred ones that `check_quality` lists.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFilter

from pomona import build_encoder
from pomona.analysis.check.quality import QualityLimits
from pomona.runtime.registry import load_once
from pomona.worker import prepare
from pomona.worker.featurize import encode_images
from pomona.worker.quality import measure
from run import machine

SIZES = {100: (1, 2, 4), 256: (1, 2, 4), 500: (1, 2, 4), 3000: (3, 6, 12, 24)}
TOGETHER = {100: 1, 500: 4, 3000: 24}  # about 1 % of each size
COSTS = ((100, 100), (500, 400), (4000, 3000))


def sharpness(image: Image.Image) -> float:
    found = measure(image)[1]
    return 2.0 if found is None else found


def variance_of_laplacian(image: Image.Image) -> float:
    """OpenCV's `cv2.Laplacian(grey, cv2.CV_64F).var()`, without the pixels of the border."""
    grey = np.asarray(image.convert("L"), np.int32)
    sides = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((sides - 4 * grey[1:-1, 1:-1]).var())


def cleanvision(image: Image.Image) -> float:
    """`BlurrinessProperty.calculate` of cleanvision 0.3.7: edges at up to 64 pixels."""
    ratio = max(1.0, max(image.size) / 64)
    small = image.resize((max(1, int(image.width // ratio)), max(1, int(image.height // ratio))))
    return float(np.asarray(small.convert("L").filter(ImageFilter.FIND_EDGES)).std())


Values = list[dict[str, float]]  # of each picture, by measure
MEASURES: dict[str, Callable[[Image.Image], float]] = {
    "sharpness": sharpness,
    "variance of the Laplacian": variance_of_laplacian,
    "CleanVision": cleanvision,
}


def as_jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def scaled(files: list[Path], size: int) -> Iterator[Image.Image]:
    """Photos of this size. Small ones are also made of the quarters of each photo."""
    for file in files:
        image = Image.open(file).convert("RGB")
        x, y = image.width // 2, image.height // 2
        boxes = [(0, 0, 2 * x, 2 * y)]
        if size < 1000:
            boxes += [(left, top, left + x, top + y) for left in (0, x) for top in (0, y)]
        for box in boxes:
            part = image.crop(box)
            times = size / max(part.size)
            if times <= 1:
                yield part.resize((round(part.width * times), round(part.height * times)), 1)


def auroc(lower: list[float], higher: list[float]) -> float:
    """Mann and Whitney's U, as a share: ties count half."""
    above = np.subtract.outer(np.array(higher), np.array(lower))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def separation(files: list[Path], fruits: list[Path]) -> None:
    values: dict[tuple[int | str, int], Values] = {}
    sets = [(size, list(scaled(files, size)), SIZES[size]) for size in SIZES if files]
    if fruits:
        sets.append(("fruits", [Image.open(file).convert("RGB") for file in fruits], (1, 2, 4)))
    for name, images, sigmas in sets:
        for sigma in (0, *sigmas):
            for image in images:
                blurred = image.filter(ImageFilter.GaussianBlur(sigma)) if sigma else image
                seen = Image.open(io.BytesIO(as_jpeg(blurred)))
                found = {key: of(seen) for key, of in MEASURES.items()}
                values.setdefault((name, sigma), []).append(found)
    print("| size | blur, pixels | photos | " + " | ".join(MEASURES) + " | below limit |")
    print("|---|---|---|---|" + "---|" * len(MEASURES))

    def show(name: object, blur: object, soft: Values, sharp: Values) -> None:
        shares = [auroc([v[key] for v in soft], [v[key] for v in sharp]) for key in MEASURES]
        cells = " | ".join(f"{share:.3f}" for share in shares)
        print(f"| {name} | {blur} | {len(sharp)} | {cells} | {below(sharp)}, {below(soft)} |")

    def below(pictures: Values) -> str:
        limit = QualityLimits().blurred
        return f"{sum(v['sharpness'] < limit for v in pictures) / len(pictures):.1%}"

    for (name, sigma), soft in values.items():
        if sigma:
            show(name, sigma, soft, values[name, 0])
    soft = [v for size, sigma in TOGETHER.items() for v in values[size, sigma]]
    sharp = [v for size in TOGETHER for v in values[size, 0]]
    show("together", "about 1 %", soft, sharp)
    for at in (1, 5, 50):
        shares = [np.percentile([v["sharpness"] for v in some], at) for some in (sharp, soft)]
        print(f"sharpness at {at} %: {shares[0]:.2f} of photos, {shares[1]:.2f} of blurred ones")


def costs(file: Path, repeats: int) -> None:
    """Measure CPU time within the worker: of an image as a whole, and the part for its quality."""
    encoder = build_encoder("efficientnet_lite0")
    runtime = load_once(encoder.fingerprint, lambda: encoder)
    photo = Image.open(file).convert("RGB")
    print(f"\n{machine()}; CPU time per image, medians of {repeats}\n")
    print("| size | image, ms | of it quality, ms | share |\n|---|---|---|---|")
    spent: list[float] = []

    def timed(image: Image.Image) -> tuple[float, float | None]:
        started = time.process_time()
        found = measure(image)
        spent.append(time.process_time() - started)
        return found

    prepare.measure = timed
    for size in COSTS:
        content = pa.array([as_jpeg(photo.resize(size))], pa.large_binary())
        whole = []
        for _ in range(repeats):
            started = time.process_time()
            encode_images(content, None, runtime)
            whole.append(time.process_time() - started)
        image, part = (1000 * statistics.median(times[-repeats:]) for times in (whole, spent))
        print(f"| {size[0]}x{size[1]} | {image:.2f} | {part:.3f} | {part / image:.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of large photos")
    parser.add_argument("--fruits", type=Path, help="a folder of photos of 100x100, as they are")
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    files = sorted(options.photos.rglob("*.jpg"))
    fruits = sorted(options.fruits.rglob("*.jpg"))[::10] if options.fruits else []
    costs(files[0], options.repeats)
    separation(files, [file for file in fruits if file.stat().st_size])


if __name__ == "__main__":
    main()
