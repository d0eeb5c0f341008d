"""On a worker's PYTHONPATH, this file makes two image sizes fatal, as a decoder bug would.

Loading a picture 13 pixels high ends the process with SIGSEGV; one 17 pixels high hangs. Opening a
file called stalled.png hangs, like a file on a lost network file system. If EVERY_IMAGE_IS_POISON
is set, loading any picture ends the process. If IMAGES_AT_ONCE is set, the OpenVINO runtime takes
that many images at once, as on a GPU, so threads decode.
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
    crash_or_hang(self.size[1])
    return _load(self)


def decode_jpeg(content: bytes, *arguments: Any, **more: Any) -> Any:
    crash_or_hang(simplejpeg.decode_jpeg_header(content)[0])
    return _decode_jpeg(content, *arguments, **more)


def crash_or_hang(height: int) -> None:
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
