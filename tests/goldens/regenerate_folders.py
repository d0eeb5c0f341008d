"""Write small networks as Hugging Face and Immich publish them, and their features.

In an environment of its own: transformers needs PyTorch, which no test needs. Weights are random.
The names of inputs and outputs are those of optimum's exports.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2

FOLDER = Path(__file__).with_name("folders")
sys.path.insert(0, str(FOLDER.parents[1]))

from noise import noise  # noqa: E402 - beside this folder

SIZES = ((97, 61), (61, 97), (200, 150))
VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
CLIP_TEXT = {**VIT, "vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 2}

features: dict[str, Any] = {}


class Wrapped(torch.nn.Module):
    """A network whose outputs are a tuple, in the order of their names."""

    def __init__(self, network: Any, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.compute = network, compute
        self.eval()  # the exporter restores this mode, also in the network

    def forward(self, *inputs: Any) -> Any:
        return self.compute(self.network, *inputs)


def write(
    name: str,
    network: Any,
    processor: Any,
    outputs: dict[str, Callable[[Any, Any], Any]],
    right: Callable[[Any, Any], Any],
    file: str = "onnx/model.onnx",
) -> None:
    """Export the image part of a network, and compute the features that its authors mean."""
    network = network.eval()
    folder = FOLDER / name
    (folder / file).parent.mkdir(parents=True)
    network.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    images = [noise(*size) for size in SIZES]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    wrapped = Wrapped(network, lambda net, x: tuple(f(net, x) for f in outputs.values()))
    export(wrapped, (pixels[:1],), folder / file, ["pixel_values"], list(outputs))
    with torch.inference_mode():
        features[name] = right(network, pixels).numpy()


def export(network: Any, inputs: Any, file: Path, names: list[str], outputs: list[str]) -> None:
    torch.onnx.export(
        network,
        inputs,
        str(file),
        input_names=names,
        output_names=outputs,
        dynamic_axes={name: {0: "batch"} for name in names},
        opset_version=17,
        dynamo=False,
    )


def processor(kind: str, **config: Any) -> Any:
    return getattr(transformers, f"{kind}ImageProcessorPil")(**config)


def tokens(network: Any, x: Any) -> Any:
    return network(x).last_hidden_state


def pooler(network: Any, x: Any) -> Any:
    return network(x).pooler_output


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    torch.manual_seed(7)
    torch.set_num_threads(1)
    bit = processor("Bit", size={"shortest_edge": 64}, crop_size=56)
    dinov2 = transformers.Dinov2Config(**VIT, image_size=56, patch_size=14)
    last = {"last_hidden_state": tokens}
    write("dinov2", transformers.Dinov2Model(dinov2), bit, last, pooler)
    registers = transformers.Dinov2WithRegistersConfig(
        **VIT, image_size=56, patch_size=14, num_register_tokens=4
    )
    network = transformers.Dinov2WithRegistersModel(registers)
    # For this size it resizes nothing; ONNX has no antialiased bicubic resizing.
    embeddings = network.embeddings
    embeddings.interpolate_pos_encoding = lambda *_: embeddings.position_embeddings
    write("dinov2_registers", network, bit, last, pooler)
    with torch.inference_mode():
        pixels = bit([noise(*size) for size in SIZES], return_tensors="pt")["pixel_values"]
        features["dinov2_registers, mean"] = tokens(network, pixels)[:, 5:].mean(1).numpy()
    squash = processor("ViT", size={"height": 48, "width": 48})
    vit = transformers.ViTModel(
        transformers.ViTConfig(**VIT, image_size=48, patch_size=16), add_pooling_layer=False
    )
    write("vit", vit, squash, last, lambda net, x: tokens(net, x)[:, 0])
    siglip = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(**VIT, image_size=48, patch_size=16)
    )
    siglip_squash = processor("Siglip", size={"height": 48, "width": 48})
    both = {"last_hidden_state": tokens, "pooler_output": pooler}
    write("siglip", siglip, siglip_squash, both, pooler)
    convnext = transformers.ConvNextModel(
        transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])
    )
    small = processor("ConvNext", size={"shortest_edge": 64}, crop_pct=0.875)
    write("convnext", convnext, small, both, pooler)
    resnet = transformers.ResNetModel(
        transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"
        )
    )
    write("resnet", resnet, small, last, lambda net, x: pooler(net, x).flatten(1))
    swin = transformers.SwinModel(
        transformers.SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        )
    )
    write("swin", swin, processor("ViT", size={"height": 64, "width": 64}), last, pooler)
    dinov3 = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**VIT, image_size=48, patch_size=16, num_register_tokens=4)
    )
    write(
        "dinov3",
        dinov3,
        transformers.DINOv3ViTImageProcessor(size={"height": 48, "width": 48}),
        last,
        pooler,
    )
    clip()
    immich()
    efficientnet = transformers.EfficientNetModel(
        transformers.EfficientNetConfig(
            image_size=64, width_coefficient=0.2, depth_coefficient=0.1, hidden_dim=256
        )
    )
    for weight in efficientnet.parameters():
        if weight.dim() > 1:  # its own initial weights give vectors of zeros
            torch.nn.init.kaiming_normal_(weight)
    with_top = processor(  # divides by the standard deviation twice
        "EfficientNet",
        size={"height": 64, "width": 64},
        rescale_offset=True,
        rescale_factor=1 / 127.5,
        image_mean=[0.1, 0.0, -0.1],
        image_std=[0.5, 0.6, 0.7],
    )
    write("efficientnet", efficientnet, with_top, last, pooler)
    deit = transformers.DeiTModel(
        transformers.DeiTConfig(**VIT, image_size=48, patch_size=16), add_pooling_layer=False
    )
    crop = processor("DeiT", size={"height": 56, "width": 60}, crop_size=48)
    write("deit", deit, crop, last, lambda net, x: tokens(net, x)[:, 0])
    np.savez_compressed(FOLDER / "features.npz", sizes=np.array(SIZES), **features)


def clip() -> None:
    """Write CLIP as one graph that wants text too, and its vision part without projection."""
    network = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=CLIP_TEXT,
            vision_config={**VIT, "image_size": 48, "patch_size": 16},
            projection_dim=20,
        )
    ).eval()
    config = processor("CLIP", size={"shortest_edge": 48}, crop_size=48)

    def images(net: Any, x: Any) -> Any:
        return net.visual_projection(net.vision_model(x).pooler_output)

    write("clip", network, config, {"image_embeds": images}, images, "onnx/vision_model.onnx")
    joint = FOLDER / "clip_joint"
    shutil.copytree(FOLDER / "clip", joint)
    (joint / "onnx" / "vision_model.onnx").unlink()
    text = torch.randint(3, 50, (2, 12))
    pixels = torch.zeros(1, 3, 48, 48)

    def both(net: Any, ids: Any, x: Any, mask: Any) -> Any:
        out = net(input_ids=ids, pixel_values=x, attention_mask=mask)
        return out.logits_per_image, out.logits_per_text, out.text_embeds, out.image_embeds

    export(
        Wrapped(network, both),
        (text, pixels, torch.ones_like(text)),
        joint / "onnx" / "model.onnx",
        ["input_ids", "pixel_values", "attention_mask"],
        ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
    )
    with torch.inference_mode():
        whole = config([noise(*size) for size in SIZES], return_tensors="pt")["pixel_values"]
        vectors = images(network, whole)
    features["clip_joint"] = (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()
    bare = FOLDER / "clip_unprojected"
    shutil.copytree(FOLDER / "clip", bare)
    export(
        Wrapped(network, lambda net, x: net.vision_model(x).pooler_output),
        (pixels,),
        bare / "onnx" / "vision_model.onnx",
        ["pixel_values"],
        ["pooler_output"],
    )


def immich() -> None:
    text = {"context_length": 12, "vocab_size": 60, "width": 24, "heads": 2, "layers": 1}
    config = {"embed_dim": 20}
    features["immich"] = write_immich(immich_network(text), FOLDER / "immich", config).numpy()


def immich_network(text: dict[str, int]) -> Any:
    vision = {"layers": 1, "width": 48, "image_size": 48, "patch_size": 16, "head_width": 24}
    return open_clip.CLIP(embed_dim=20, vision_cfg=vision, text_cfg=text).eval()


def write_immich(network: Any, folder: Path, about: dict[str, Any]) -> Any:
    """Write an OpenCLIP network as Immich's exporter does, and return the vectors of images."""
    config = {
        "size": [48, 48],
        "mode": "RGB",
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    (folder / "visual").mkdir(parents=True)
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps(about))
    prepare = image_transform_v2(PreprocessCfg(**config), is_train=False)
    pixels = torch.stack([prepare(noise(*size)) for size in SIZES])
    encode = Wrapped(network, lambda net, x: net.encode_image(x, normalize=True))
    export(encode, (pixels[:1],), folder / "visual" / "model.onnx", ["image"], ["embedding"])
    with torch.inference_mode():
        return encode(pixels)


if __name__ == "__main__":
    main()
