"""Fuzz the way of a file's bytes to the network's pixels, with Atheris (libFuzzer).

    make fuzz                                             # ten minutes
    python fuzzing/fuzz_decode.py -max_total_time=60      # libFuzzer's options

Any bytes must give a `Picture` or an `ImageError`, and a picture must fit. Whatever else is raised,
a crash, an input that takes longer than 25 seconds or a process beyond 2 GB ends the run, and
libFuzzer leaves the input as a file in `build/fuzz/`. The seeds are drawn anew each time: one file
for each format, colour mode and way of packing that Pillow writes.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "pomona"]):
    import numpy as np
    from PIL import Image

    from pomona.errors import ImageError
    from pomona.worker.decode import decode
    from pomona.worker.resize import resize_to

    Image.init()  # all of Pillow's plugins: those that are imported later would not be measured

FOLDER = Path(__file__).resolve().parent.parent / "build" / "fuzz"
MAX_PIXELS = 1_000_000
LARGEST = 16_384  # bytes of one input

_FORMS: tuple[tuple[str, tuple[str, ...], tuple[dict[str, object], ...]], ...] = (
    (
        "JPEG",
        ("RGB", "L", "CMYK"),
        ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 2}),
    ),
    ("PNG", ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), ({}, {"optimize": True})),
    ("GIF", ("RGB", "L", "P"), ({}, {"interlace": 0})),
    ("WEBP", ("RGB", "RGBA"), ({}, {"lossless": True})),
    ("BMP", ("RGB", "RGBA", "L", "P", "1"), ({},)),
    ("DIB", ("RGB", "L", "P", "1"), ({},)),
    ("TGA", ("RGB", "RGBA", "L", "LA", "P"), ({}, {"compression": "tga_rle"})),
    (
        "TIFF",
        ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "I;16B", "I", "F", "LAB", "YCbCr"),
        (
            {},
            *({"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
            *({"compression": name} for name in ("jpeg", "group4", "zstd")),
            {"big_tiff": True},
            {"tiffinfo": {262: 0}},  # zero is white
            {"tiffinfo": {317: 2}, "compression": "tiff_lzw"},
        ),
    ),
    ("PPM", ("RGB", "L", "1", "I"), ({},)),
    ("ICO", ("RGBA",), ({}, {"bitmap_format": "bmp"})),
    ("JPEG2000", ("RGB", "RGBA", "L", "I;16"), ({}, {"no_jp2": True}, {"tile_size": (16, 16)})),
    ("AVIF", ("RGB", "RGBA"), ({},)),
)


def seeds() -> Iterator[bytes]:
    """Small files of every kind that Pillow writes, plain and with an EXIF orientation."""
    levels = np.random.default_rng(0).integers(0, 256, (20, 28, 3), np.uint8)
    picture = Image.fromarray(levels).resize((28, 20), Image.Resampling.BOX)
    exif = Image.Exif()
    exif[0x0112] = 6
    for form, modes, choices in _FORMS:
        for mode in modes:
            base = "L" if mode in ("I;16", "I;16B", "I", "F") else "RGB"
            image = picture.convert("RGBA" if mode == "LA" else base).convert(mode)
            for options in (*choices, {"exif": exif}, {"save_all": True, "append_images": [image]}):
                file = io.BytesIO()
                try:
                    image.save(file, form, **options)
                except (OSError, ValueError, RuntimeError, KeyError, TypeError):
                    continue  # no such packing of this mode, or not in this Pillow
                yield file.getvalue()


def one_input(content: bytes) -> None:
    """What is fuzzed."""
    try:
        draft = (8, 8) if sum(content[-4:]) % 2 else None  # half of them with `--decode fast`
        resize_to(decode(content, max_pixels=MAX_PIXELS, draft=draft), 32, 32)
    except ImageError as error:
        if not str(error).isprintable():
            raise AssertionError(f"not one printable line: {error!r}") from error


def main() -> None:
    """Draw the seeds, then hand over to libFuzzer, whose options the command line takes."""
    drawn = FOLDER / "seeds"
    corpus = FOLDER / "corpus"
    for folder in (drawn, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds()):
        (drawn / f"{number:03}").write_bytes(content)
    defaults = [f"-max_len={LARGEST}", "-timeout=25", "-rss_limit_mb=2048"]
    defaults += [f"-artifact_prefix={FOLDER}/", "-print_final_stats=1", "-reload=0"]
    warnings.simplefilter("ignore")
    logging.disable()
    atheris.Setup([sys.argv[0], *defaults, *sys.argv[1:], str(corpus), str(drawn)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
