"""Loops to compare `pomona extract` on a GPU with; each prints one line of JSON.

    python gpu_loops.py bare ENCODER --processes 4 --batch 128
    python gpu_loops.py decode ENCODER IMAGES --processes 4 --threads 4
    python gpu_loops.py torch IMAGES --network mobilenet_v2 --processes 16 --batch 128
    python gpu_loops.py hog --leave-mb 3000

`bare` computes batches of pixels in memory: no file, no decoding, no table. `decode` does only
what Pomona does before the network. `torch` is a plain PyTorch loop over torchvision's or timm's
network, with a DataLoader: Pillow decodes and resizes. `hog` allocates the GPU's memory except for
some MB, and holds it until its standard input ends.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_SECONDS = 3.0  # the duration of `bare`
_START_S = 60.0  # a process that has not started by then has failed


def _compute(options: argparse.Namespace, ready: Any, results: Any) -> None:
    from pomona.encoder.encoder import Encoder
    from pomona.runtime.onnxruntime import new_session

    session = new_session(Encoder.load(options.encoder).graph, "the encoder")
    name = session.get_inputs()[0].name
    pixels = np.random.default_rng(0).integers(0, 256, (options.batch, 224, 224, 3), np.uint8)
    for _ in range(3):
        session.run(None, {name: pixels})
    ready.wait()
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < _SECONDS:
        session.run(None, {name: pixels})
        images += options.batch
    results.put((images, time.perf_counter() - started))


def _decode(options: argparse.Namespace, number: int, ready: Any, results: Any) -> None:
    import pyarrow as pa

    from pomona.encoder.encoder import Encoder
    from pomona.worker.prepare import EXACT, Preparer, Seen, prefetch

    spec = Encoder.load(options.encoder).preprocessing
    paths = sorted(options.images.rglob("*.jpg"))[number :: options.processes]
    files = [(pa.py_buffer(path.read_bytes()), None) for path in paths]
    prepare = Preparer(spec, EXACT, Seen())
    prepare(files[0])
    ready.wait()
    started = time.perf_counter()
    if options.threads == 1:
        done = sum(1 for _ in map(prepare, files))
    else:
        done = sum(1 for _ in prefetch(prepare, files, options.threads, 256))
    results.put((done, time.perf_counter() - started))


def side_by_side(options: argparse.Namespace) -> dict[str, Any]:
    """Run `bare` or `decode` in several processes at the same time."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(options.processes, timeout=_START_S)
    results = context.SimpleQueue()
    workers = []
    for number in range(options.processes):
        if options.loop == "bare":
            worker = context.Process(target=_compute, args=(options, ready, results))
        else:
            worker = context.Process(target=_decode, args=(options, number, ready, results))
        worker.start()
        workers.append(worker)
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed")
    result = [results.get() for _ in workers]
    images, seconds = sum(n for n, _ in result), max(s for _, s in result)
    return {"images": images, "seconds": seconds, "images_per_s": images / seconds}


class _Pictures:
    """A data set of PyTorch: (3, 224, 224) float32."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Any:
        import torch
        from PIL import Image

        image = Image.open(self._files[number]).convert("RGB")
        pixels = np.array(image.resize((224, 224), Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels).permute(2, 0, 1)


def _network(name: str) -> Any:
    """Return a network of torchvision or, for a transformer, of timm, without its last layer."""
    import torch
    import torchvision

    if name == "dinov2_small":
        import timm

        return timm.create_model("vit_small_patch14_dinov2", img_size=224)
    network = getattr(torchvision.models, name)(weights=None)
    last = "classifier" if hasattr(network, "classifier") else "fc"
    setattr(network, last, torch.nn.Identity())
    return network


def torch_loop(options: argparse.Namespace) -> dict[str, Any]:
    """Compute all images in float32 without TensorFloat-32, or in half precision."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.float16 if options.half else torch.float32
    network = _network(options.network).eval().to(device, kind)
    loader = torch.utils.data.DataLoader(
        _Pictures(sorted(options.images.rglob("*.jpg"))),
        options.batch,
        num_workers=options.processes,
        pin_memory=device == "cuda",
    )
    shift = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1)
    scale = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1)
    images, started, vectors = 0, 0.0, []
    ahead = 2 * options.processes  # batches that the loader prefetches
    with torch.inference_mode():
        for number, batch in enumerate(loader):
            pixels = batch.to(device, non_blocking=True).float() / 255
            vectors.append(network(((pixels - shift) / scale).to(kind)).cpu())
            if started:
                images += len(batch)
            elif number >= ahead:
                started = time.perf_counter()
    seconds = time.perf_counter() - started
    if not images:
        raise SystemExit(f"too few images: more than {options.batch * (ahead + 1)} are needed")
    return {"images": images, "seconds": seconds, "images_per_s": images / seconds}


def hog(leave_mb: int) -> None:
    """Hold the GPU's memory."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - leave_mb * 2**20), dtype=torch.uint8, device="cuda")
    free, _ = torch.cuda.mem_get_info()
    print(json.dumps({"held_mb": held.numel() // 2**20, "free_mb": free // 2**20}), flush=True)
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    loops = parser.add_subparsers(dest="loop", required=True)
    bare = loops.add_parser("bare")
    bare.add_argument("encoder")
    decode = loops.add_parser("decode")
    decode.add_argument("encoder")
    decode.add_argument("images", type=Path)
    decode.add_argument("--threads", type=int, default=1)
    peer = loops.add_parser("torch")
    peer.add_argument("images", type=Path)
    peer.add_argument("--network", default="mobilenet_v2")
    peer.add_argument("--half", action="store_true")
    loops.add_parser("hog").add_argument("--leave-mb", type=int, required=True)
    for loop in (bare, decode, peer):
        loop.add_argument("--processes", type=int, default=1)
        loop.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    if options.loop == "hog":
        hog(options.leave_mb)
        return
    print(json.dumps(torch_loop(options) if options.loop == "torch" else side_by_side(options)))


if __name__ == "__main__":
    main()
