"""Writes `webdataset.tar` by webdataset's own writer.

    python -m venv w && w/bin/pip install webdataset==1.0.2 && w/bin/python regenerate_webdataset.py

The images are those of `pixel`: the tests compare their bytes.
"""

from __future__ import annotations

from pathlib import Path

import webdataset


def pixel(level: int) -> bytes:
    """A picture of one grey pixel."""
    return b"P5 1 1 255 %c" % level


if __name__ == "__main__":
    path = Path(__file__).with_name("webdataset.tar")
    with webdataset.TarWriter(str(path), mtime=0) as shard:
        for level in range(3):
            names = {"class": f"colour {level}"}
            sample = {"pgm": pixel(level), "cls": level + 5, "json": names, "txt": "a picture"}
            shard.write({"__key__": f"part{level % 2}/{level:06}", **sample})
