"""Put on a worker's PYTHONPATH, this makes two sizes of images deadly, as a decoder's bug would.

Loading a picture 13 pixels high ends the process with SIGSEGV; one 17 pixels high hangs. Opening a
file called stalled.png hangs, as on a network file system that is gone. Where EVERY_IMAGE_IS_POISON
is set, loading any picture ends the process. Where IMAGES_AT_ONCE is set, OpenVINO's runtime takes
so many at once, as a GPU's does, so that threads decode.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from PIL import ImageFile

_load, _open = ImageFile.ImageFile.load, os.open


def load(self: ImageFile.ImageFile) -> Any:
    if self.size[1] == 13 or "EVERY_IMAGE_IS_POISON" in os.environ:
        os.kill(os.getpid(), signal.SIGSEGV)
    if self.size[1] == 17:
        time.sleep(3600)
    return _load(self)


def open_file(path: Any, *arguments: Any, **more: Any) -> int:
    if str(path).endswith("stalled.png"):
        time.sleep(3600)
    return _open(path, *arguments, **more)


if at_once := os.environ.get("IMAGES_AT_ONCE"):
    from pomona.runtime.openvino import OpenVinoRuntime

    OpenVinoRuntime.batch_size = int(at_once)

ImageFile.ImageFile.load = load  # type: ignore[method-assign]
os.open = open_file
