"""The reported files themselves, if the shared data is on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from corpus import Case
from places import SHARED_DATA

# Folder -> pairs of a reported file and its correct counterpart, or the correct status.
_PAIRS: dict[str, dict[str, str]] = {
    "jpeg-end": {
        "1_no_eoi.jpg": "0_whole.jpg",
        "4_no_eoi_then_ff10.jpg": "0_whole.jpg",
        "6_really_truncated.jpg": "truncated",
    },
    "bmp-alpha": {"1_v5_alpha_0.bmp": "0_alpha_255.bmp"},
    "png-crc": {"1_text_bad_crc.png": "0_whole.png", "5_idat_bad_crc.png": "corrupt"},
    "tiff": {
        "1_u16_white_is_zero.tif": "0_u16_black_is_zero.tif",
        "4_f32_big_endian_deflate.tif": "5_f32_little_endian_deflate.tif",
        "6_rgb16_planar.tif": "7_rgb16_contiguous.tif",
    },
}


def cases() -> Iterator[Case]:
    for folder, pairs in _PAIRS.items():
        for name, right in pairs.items():
            file = SHARED_DATA / "trials" / folder / name
            if not file.exists():
                continue
            twin = file.with_name(right)
            if twin.exists():
                yield Case(
                    f"{folder}/{name}",
                    file.read_bytes(),
                    twin.read_bytes(),
                    suffix=twin.suffix if twin.suffix != file.suffix else "",
                )
            else:
                yield Case(f"{folder}/{name}", file.read_bytes(), status=right)
