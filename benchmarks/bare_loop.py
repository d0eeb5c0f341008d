"""Measures a lower bound: decode and predict in separate processes, and nothing else.

    python bare_loop.py IMAGES GRAPH.xml [--processes 2]

Files are read into memory before the loop starts, and the time is that of the loop. It does not
label, check, collect or write. Pillow decodes and resizes, and OpenVINO predicts one image at a
time with Pomona's settings. The last line on stdout is JSON: images, and seconds of the loop.
"""

import argparse
import io
import json
import multiprocessing
import time
from pathlib import Path


def work(files: list[str], graph: str, ready, seconds) -> None:
    import numpy as np
    import openvino
    from PIL import Image

    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    contents = [Path(file).read_bytes() for file in files]
    core = openvino.Core()
    request = core.compile_model(core.read_model(graph), "CPU", config).create_infer_request()
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
    ready.wait()
    started = time.perf_counter()
    for content in contents:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        pixels[0] = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))
        request.infer()
    seconds.put(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("graph")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    files = sorted(str(file) for file in given.images.rglob("*.jpg"))
    context = multiprocessing.get_context("spawn")
    ready, seconds = context.Barrier(given.processes), context.SimpleQueue()
    workers = [
        context.Process(
            target=work, args=(files[number :: given.processes], given.graph, ready, seconds)
        )
        for number in range(given.processes)
    ]
    for worker in workers:
        worker.start()
    loop = max(seconds.get() for _ in workers)
    for worker in workers:
        worker.join()
    print(json.dumps({"images": len(files), "loop_seconds": round(loop, 3)}))


if __name__ == "__main__":
    main()
