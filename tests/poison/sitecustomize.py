"""Put on a worker's PYTHONPATH, this makes two sizes of images deadly, as a decoder's bug would.

Loading a picture 13 pixels high ends the process with SIGSEGV; one 17 pixels high hangs. Opening a
file called stalled.png hangs, as on a network file system that is gone. If EVERY_IMAGE_IS_POISON is
set, loading any picture ends the process. If IMAGES_AT_ONCE is set, OpenVINO's runtime takes so
many at once, as a GPU's does, so that threads decode.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import simplejpeg
from PIL import ImageFile

_load, _open, _decode_jpeg = ImageFile.ImageFile.load, os.open, simplejpeg.decode_jpeg


def load(self: ImageFile.ImageFile) -> Any:
    strike(self.size[1])
    return _load(self)


def decode_jpeg(content: bytes, *arguments: Any, **more: Any) -> Any:
    strike(simplejpeg.decode_jpeg_header(content)[0])
    return _decode_jpeg(content, *arguments, **more)


def strike(height: int) -> None:
    if height == 13 or "EVERY_IMAGE_IS_POISON" in os.environ:
        os.kill(os.getpid(), signal.SIGSEGV)
    if height == 17:
        time.sleep(3600)


def open_file(path: Any, *arguments: Any, **more: Any) -> int:
    if str(path).endswith("stalled.png"):
        time.sleep(3600)
    return _open(path, *arguments, **more)


if at_once := os.environ.get("IMAGES_AT_ONCE"):
    from pomona.runtime.openvino import OpenVinoRuntime

    OpenVinoRuntime.batch_size = int(at_once)

ImageFile.ImageFile.load = load  # type: ignore[method-assign]
simplejpeg.decode_jpeg = decode_jpeg
os.open = open_file
