"""Write small networks of two towers, images and text, and their vectors and probabilities.

In an environment of its own: transformers needs PyTorch, and SigLIP's tokenizer sentencepiece,
which no test needs. Weights are random; tokenizers are trained on a few sentences.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import regenerate_folders as folders
import sentencepiece
import torch
import transformers
from regenerate_folders import VIT, Wrapped, export, noise
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import SpmConverter

FOLDER = Path(__file__).with_name("text")
LABELS = ("red apple", "Kiwi", "quince")
TEMPLATE = "This is a photo of {}."
TEXTS = (
    "a photo of a cat",
    "A  Photo of\tTWO dogs, running!",
    "it's 3 o'clock: un cafe\u0301 au lait",
    "snake_case and kebab-case",
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u0130stanbul stra\u00dfe "
    "\u30c6\u30b9\u30c8 \U0001f34e",
    "",
    "a very long description that does not fit into the context of this small network at all, "
    "so that its end is cut off and replaced by the token that marks the end",
)
CORPUS = [
    *TEXTS,
    *LABELS,
    *(TEMPLATE.format(label) for label in LABELS),
    "the quick brown fox jumps over the lazy dog 0123456789",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG; or not? (yes) [no] {maybe} <never>",
    "a picture of some fruit on a table, and a painting of a ship at sea",
] * 3
CLIP_LENGTH, SIGLIP_LENGTH = 16, 32


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    torch.manual_seed(11)
    torch.set_num_threads(1)
    answers: dict[str, Any] = {"texts": TEXTS, "labels": LABELS, "template": TEMPLATE}
    answers["clip"] = clip("clip", eos_token_id=None)
    answers["clip_joint"] = clip("clip_joint", eos_token_id=2)
    answers["siglip"] = siglip("siglip", siglip_tokenizer())
    answers["siglip2"] = siglip("siglip2", siglip2_tokenizer())
    answers["immich"] = immich()
    (FOLDER / "answers.json").write_text(json.dumps(answers))


def clip(name: str, eos_token_id: int | None) -> dict[str, Any]:
    """Write CLIP in two files and the joint one, or in the joint one only."""
    tokenizer = clip_tokenizer()
    text = {
        **VIT,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CLIP_LENGTH,
        "eos_token_id": eos_token_id or tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    network = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text,
            vision_config={**VIT, "image_size": 48, "patch_size": 16},
            projection_dim=20,
        )
    ).eval()
    larger_weights(network)
    network.logit_scale.data.fill_(np.log(30.0))
    config = folders.processor("CLIP", size={"shortest_edge": 48}, crop_size=48)
    folder = save(name, network, config, tokenizer)

    def images(net: Any, x: Any) -> Any:
        return net.visual_projection(net.vision_model(x).pooler_output)

    def texts(net: Any, ids: Any, mask: Any) -> Any:
        return net.text_projection(net.text_model(ids, attention_mask=mask).pooler_output)

    joint(folder, network, tokenizer, CLIP_LENGTH, masked=True)
    if name == "clip":
        two_files(folder, network, images, texts, ("image_embeds", "text_embeds"), CLIP_LENGTH)
    return answer(network, config, tokenizer, CLIP_LENGTH, images, texts)


def siglip(name: str, tokenizer: Any) -> dict[str, Any]:
    """Write SigLIP in two files and the joint one, without attention mask."""
    network = transformers.SiglipModel(
        transformers.SiglipConfig(
            text_config={
                **VIT,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": SIGLIP_LENGTH,
                "projection_size": 24,
            },
            vision_config={**VIT, "image_size": 48, "patch_size": 16},
        )
    ).eval()
    larger_weights(network)
    network.logit_scale.data.fill_(np.log(12.0))
    network.logit_bias.data.fill_(-3.5)
    config = folders.processor("Siglip", size={"height": 48, "width": 48})
    folder = save(name, network, config, tokenizer)

    def images(net: Any, x: Any) -> Any:
        return net.vision_model(x).pooler_output

    def texts(net: Any, ids: Any, *_: Any) -> Any:
        return net.text_model(ids).pooler_output

    joint(folder, network, tokenizer, SIGLIP_LENGTH, masked=False)
    if name == "siglip":
        outputs = ("pooler_output", "pooler_output")
        two_files(folder, network, images, texts, outputs, SIGLIP_LENGTH)
    return answer(network, config, tokenizer, SIGLIP_LENGTH, images, texts)


def larger_weights(network: Any) -> None:
    """Draw larger weights than a training starts with, so that vectors differ clearly."""
    for weight in network.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)


def save(name: str, network: Any, processor: Any, tokenizer: Any) -> Path:
    folder = FOLDER / name
    (folder / "onnx").mkdir(parents=True)
    network.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def two_files(
    folder: Path, network: Any, images: Any, texts: Any, outputs: tuple[str, str], length: int
) -> None:
    pixels, ids = torch.zeros(1, 3, 48, 48), torch.ones(1, length, dtype=torch.int64)
    vision = Wrapped(network, images)
    export(vision, (pixels,), folder / "onnx/vision_model.onnx", ["pixel_values"], [outputs[0]])
    file = folder / "onnx/text_model.onnx"
    if outputs[1] == "text_embeds":
        names = ["input_ids", "attention_mask"]
        export(Wrapped(network, texts), (ids, torch.ones_like(ids)), file, names, [outputs[1]])
    else:
        export(Wrapped(network, texts), (ids,), file, ["input_ids"], [outputs[1]])


def joint(folder: Path, network: Any, tokenizer: Any, length: int, *, masked: bool) -> None:
    """Write the graph of both towers, as optimum exports it."""
    ids = torch.randint(3, len(tokenizer), (2, length))
    pixels = torch.zeros(1, 3, 48, 48)

    def both(net: Any, ids: Any, x: Any, *mask: Any) -> Any:
        given = {"attention_mask": mask[0]} if mask else {}
        out = net(input_ids=ids, pixel_values=x, **given)
        return out.logits_per_image, out.logits_per_text, out.text_embeds, out.image_embeds

    inputs = (ids, pixels, torch.ones_like(ids)) if masked else (ids, pixels)
    names = ["input_ids", "pixel_values", "attention_mask"][: len(inputs)]
    outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    export(Wrapped(network, both), inputs, folder / "onnx" / "model.onnx", names, outputs)


def answer(
    network: Any, config: Any, tokenizer: Any, length: int, images: Callable[..., Any], texts: Any
) -> dict[str, Any]:
    """Return what transformers computes, in the way of its zero-shot pipeline."""

    def tokens(of: Any) -> Any:
        return tokenizer(
            list(of), return_tensors="pt", padding="max_length", max_length=length, truncation=True
        )

    pixels = config([noise(*size) for size in folders.SIZES], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        said = tokens(TEXTS)
        mask = torch.ones_like(said["input_ids"])
        vectors = texts(network, said["input_ids"], said.get("attention_mask", mask))
        prompts = tokens(map(TEMPLATE.format, LABELS))
        logits = network(input_ids=prompts["input_ids"], pixel_values=pixels).logits_per_image
        is_siglip = network.config.model_type == "siglip"
        return {
            "ids": said["input_ids"].tolist(),
            "texts": vectors.tolist(),
            "images": images(network, pixels).tolist(),
            "probabilities": (logits.sigmoid() if is_siglip else logits.softmax(-1)).tolist(),
            "logit_scale": network.logit_scale.exp().item(),
            "logit_bias": network.logit_bias.item() if is_siglip else 0.0,
        }


def clip_tokenizer() -> Any:
    """Return a tokenizer that knows the first words of the corpus, letter by letter.

    The trainer of tokenizers numbers the letters at ends of words differently each time.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fresh = transformers.CLIPTokenizer().backend_tokenizer
    words = dict.fromkeys(
        word
        for text in CORPUS
        for word, _ in fresh.pre_tokenizer.pre_tokenize_str(fresh.normalizer.normalize_str(text))
    )
    merges: dict[tuple[str, str], None] = {}
    for word in list(words)[:60]:
        known, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for letter in rest:
            merges[known, letter] = None
            known += letter
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={token: number for number, token in enumerate(dict.fromkeys(tokens))},
        merges=list(merges),
        model_max_length=77,
    )


class SiglipConverter(SpmConverter):
    """Converts SigLIP's tokenizer to the file of `tokenizers`, as published folders have it."""

    def normalizer(self, proto: Any) -> Any:
        punctuation = Regex(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]""")
        return normalizers.Sequence(
            [
                normalizers.Lowercase(),
                normalizers.Replace(punctuation, ""),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
                super().normalizer(proto),
            ]
        )

    def post_processor(self) -> Any:
        return processors.TemplateProcessing(
            single=["$A", "</s>"], special_tokens=[("</s>", self.original_tokenizer.eos_token_id)]
        )


def siglip_tokenizer() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder, "spiece"))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_prefix=prefix,
            vocab_size=150,
            hard_vocab_limit=False,
            bos_id=-1,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            minloglevel=2,
        )
        tokenizer = transformers.SiglipTokenizer(f"{prefix}.model", model_max_length=SIGLIP_LENGTH)
        converted = SiglipConverter(tokenizer).converted()
        slow_save = tokenizer.save_pretrained

        def save(folder: Path) -> None:
            slow_save(folder)
            (folder / "spiece.model").unlink()
            converted.save(str(folder / "tokenizer.json"))

        tokenizer.save_pretrained = save
        return tokenizer


def siglip2_tokenizer() -> Any:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    whole = Tokenizer(models.BPE(unk_token=special[3], fuse_unk=True, byte_fallback=True))
    whole.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(" ", "\u2581")]
    )
    whole.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[*special, *bytes_], show_progress=False
    )
    whole.train_from_iterator(CORPUS, trainer)
    trained = json.loads(whole.to_str())["model"]
    tokenizer = transformers.Siglip2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],
        model_max_length=SIGLIP_LENGTH,
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "<eos>"], special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    return tokenizer


def immich() -> dict[str, Any]:
    """Write an OpenCLIP network of two towers as Immich's exporter does."""
    tokenizer = clip_tokenizer()
    text = {
        "context_length": CLIP_LENGTH,
        "vocab_size": len(tokenizer),
        "width": 24,
        "heads": 2,
        "layers": 1,
    }
    network = folders.immich_network(text)
    folder = FOLDER / "immich"
    (folder / "textual").mkdir(parents=True)
    vectors = folders.write_immich(network, folder, {"embed_dim": 20, "text_cfg": text})
    saved = tokenizer.save_pretrained(folder / "textual")
    assert saved
    ids = torch.ones(1, CLIP_LENGTH, dtype=torch.int32)
    encode = Wrapped(network, lambda net, x: net.encode_text(x, normalize=True))
    export(encode, (ids,), folder / "textual" / "model.onnx", ["text"], ["embedding"])
    said = tokenizer(
        list(TEXTS),
        return_tensors="pt",
        padding="max_length",
        max_length=CLIP_LENGTH,
        truncation=True,
    )["input_ids"]
    after_end = (said == tokenizer.eos_token_id).cumsum(1).cumsum(1) > 1
    said[after_end] = 0  # as open_clip's own tokenizer fills them
    with torch.inference_mode():
        return {
            "ids": said.tolist(),
            "texts": network.encode_text(said, normalize=True).tolist(),
            "images": vectors.tolist(),
        }


if __name__ == "__main__":
    main()
