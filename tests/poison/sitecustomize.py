"""Put on a worker's PYTHONPATH, this makes two sizes of images deadly, as a decoder's bug would.

Loading a picture 13 pixels high ends the process with SIGSEGV; one 17 pixels high hangs.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from PIL import ImageFile

_load = ImageFile.ImageFile.load


def load(self: ImageFile.ImageFile) -> Any:
    if self.size[1] == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    if self.size[1] == 17:
        time.sleep(3600)
    return _load(self)


ImageFile.ImageFile.load = load  # type: ignore[method-assign]
