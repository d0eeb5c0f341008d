"""Compare a server's vectors of the probes with those of the encoder: python check.py URL.

URL is the address of a server that speaks the Open Inference Protocol v2 over HTTP, such as
http://localhost:8000. The program needs NumPy only.
"""

import json
import sys
import urllib.request
from pathlib import Path

import numpy as np

here = Path(__file__).parent
card = json.loads((here / "encoder.json").read_text())
pixels = np.load(here / "probe_pixels.npy")
expected = np.load(here / "probe_vectors.npy")

differences = []
for image, vector in zip(pixels, expected, strict=True):
    tensor = {
        "name": card["input"]["name"],
        "datatype": {"uint8": "UINT8", "float32": "FP32"}[card["input"]["type"]],
        "shape": [1, *image.shape],
        "parameters": {"binary_data_size": image.nbytes},
    }
    header = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(
        f"{sys.argv[1].rstrip('/')}/v2/models/{card['name']}/infer",
        header + image.tobytes(),
        {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
        },
    )
    with urllib.request.urlopen(request) as answer:
        found = np.array(json.load(answer)["outputs"][0]["data"], np.float32)
    differences.append(np.abs(found - vector).max() / np.abs(vector).max())

largest = float(np.max(differences))
fits = largest <= card["tolerance"]  # False for NaN
print(f"{'equal' if fits else 'DIFFERENT'}: {largest:.2g} of the largest number, limit", end=" ")
print(f"{card['tolerance']:g}")
sys.exit(not fits)
