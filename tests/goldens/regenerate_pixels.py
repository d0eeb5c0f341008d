"""Write digests of the pixels that torchvision, timm, open_clip and transformers make.

In an environment of its own: these libraries need PyTorch, which no test needs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm.data
import torch
import transformers
from PIL import Image
from torchvision import transforms

FILE = Path(__file__).with_name("pixels.json")
sys.path.insert(0, str(FILE.parents[1]))

from noise import SIZES, noise  # noqa: E402 - beside this folder

Settings = dict[str, Any]
Prepare = Callable[[Image.Image], Any]


def from_transformers(name: str, **config: Any) -> Prepare:
    processor = getattr(transformers, name)(**config, do_rescale=False, do_normalize=False)
    assert processor.backend == "pil", name
    return lambda image: processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)


def from_timm(size: tuple[int, int], **config: Any) -> Prepare:
    ready = timm.data.create_transform((3, *size), normalize=False, **config)
    return lambda image: ready(image).numpy().transpose(1, 2, 0)


def from_open_clip(size: int | tuple[int, int], **config: Any) -> Prepare:
    whole = open_clip.image_transform(size, is_train=False, **config)
    pixels = transforms.Compose(whole.transforms[:-3])  # without mode, tensor and arithmetic
    return lambda image: np.asarray(pixels(image))


def from_torchvision(resize: Any, crop: int) -> Prepare:
    bilinear = transforms.InterpolationMode.BILINEAR
    ready = transforms.Compose([transforms.Resize(resize, bilinear), transforms.CenterCrop(crop)])
    return lambda image: np.asarray(ready(image))


def dinov3(image: Image.Image) -> Any:
    processor = transformers.DINOv3ViTImageProcessor(do_normalize=False)
    given = processor(image, return_tensors="pt")["pixel_values"][0]
    return (given * 255).numpy().transpose(1, 2, 0)


SHORTEST = {"resize_mode": "shortest"}
FLOOR = {"centring": "floor"}
IMAGENET_FILL = [124, 116, 104]  # round(255 * mean)
CASES: dict[str, tuple[Settings, Prepare]] = {
    "torchvision 256, 224, bilinear": (
        {"size": 224, "resize_size": 256, "resize": "bilinear"},
        from_torchvision(256, 224),
    ),
    "torchvision 232, 224, bilinear": (
        {"size": 224, "resize_size": 232, "resize": "bilinear"},
        from_torchvision(232, 224),
    ),
    "timm centre 0.875 bicubic": (
        {"size": 224, "crop_pct": 0.875},
        from_timm((224, 224), interpolation="bicubic", crop_pct=0.875, crop_mode="center"),
    ),
    "timm centre 0.95 bilinear 97": (
        {"size": 97, "crop_pct": 0.95, "resize": "bilinear"},
        from_timm((97, 97), interpolation="bilinear", crop_pct=0.95, crop_mode="center"),
    ),
    "timm centre 0.9 of 96x160": (
        {"size": [96, 160], "crop_pct": 0.9},
        from_timm((96, 160), interpolation="bicubic", crop_pct=0.9, crop_mode="center"),
    ),
    "timm squash 0.9": (
        {"size": 96, "crop_pct": 0.9, "resize_mode": "squash"},
        from_timm((96, 96), interpolation="bicubic", crop_pct=0.9, crop_mode="squash"),
    ),
    "timm border 1.0": (
        {"size": 96, "resize_mode": "longest", "fill": IMAGENET_FILL},
        from_timm((96, 96), interpolation="bicubic", crop_pct=1.0, crop_mode="border"),
    ),
    "timm border 0.8": (
        {"size": 96, "crop_pct": 0.8, "resize_mode": "longest", "fill": IMAGENET_FILL},
        from_timm((96, 96), interpolation="bicubic", crop_pct=0.8, crop_mode="border"),
    ),
    "open_clip shortest": ({"size": 224, **SHORTEST}, from_open_clip(224)),
    "open_clip shortest bilinear 256": (
        {"size": 256, **SHORTEST, "resize": "bilinear"},
        from_open_clip(256, interpolation="bilinear"),
    ),
    "open_clip shortest 96x128": (
        {"size": [96, 128], **SHORTEST},
        from_open_clip((96, 128)),
    ),
    "open_clip longest": (
        {"size": 96, "resize_mode": "longest", "fill": [7, 7, 7]},
        from_open_clip(96, resize_mode="longest", fill_color=7),
    ),
    "open_clip squash": (
        {"size": 96, "resize_mode": "squash"},
        from_open_clip(96, resize_mode="squash"),
    ),
    "transformers CLIP": (
        {"size": 224, **SHORTEST, **FLOOR},
        from_transformers("CLIPImageProcessorPil"),
    ),
    "transformers CLIP small, crop larger than the resized": (
        {"size": 97, "resize_size": 64, **SHORTEST, **FLOOR},
        from_transformers("CLIPImageProcessorPil", size={"shortest_edge": 64}, crop_size=97),
    ),
    "transformers BiT 256, 224 (DINOv2)": (
        {"size": 224, "resize_size": 256, **FLOOR},
        from_transformers("BitImageProcessorPil", size={"shortest_edge": 256}, crop_size=224),
    ),
    "transformers ViT": (
        {"size": 224, "resize_mode": "squash", "resize": "bilinear"},
        from_transformers("ViTImageProcessorPil"),
    ),
    "transformers SigLIP": (
        {"size": 224, "resize_mode": "squash"},
        from_transformers("SiglipImageProcessorPil"),
    ),
    "transformers ConvNeXt 224": (
        {"size": 224, "crop_pct": 0.875, **FLOOR},
        from_transformers("ConvNextImageProcessorPil", size={"shortest_edge": 224}),
    ),
    "transformers ConvNeXt 384": (
        {"size": 384, "resize_mode": "squash"},
        from_transformers("ConvNextImageProcessorPil", size={"shortest_edge": 384}),
    ),
}


def main() -> None:
    torch.set_num_threads(1)
    goldens = []
    for name, (settings, prepare) in CASES.items():
        digests = {}
        for width, height in SIZES:
            try:
                pixels = np.ascontiguousarray(prepare(noise(width, height)))
            except (ValueError, ZeroDivisionError, RuntimeError) as error:
                print(f"{name} cannot take {width}x{height}: {error}")
                continue
            assert pixels.dtype == np.uint8, (name, pixels.dtype)
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            digests[f"{width}x{height}"] = f"{pixels.shape[0]}x{pixels.shape[1]} {digest}"
        goldens.append({"name": name, "settings": settings, "pixels": digests})
        print(name, len(digests))
    FILE.write_text(json.dumps(goldens, indent=1) + "\n")
    small = noise(61, 45)
    np.savez_compressed(FILE.with_name("pixels_dinov3.npz"), pixels=dinov3(small)[::4, ::4])


if __name__ == "__main__":
    main()
