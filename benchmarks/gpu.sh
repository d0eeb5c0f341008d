#!/usr/bin/env bash
# Measures Pomona on this machine's NVIDIA GPU: benchmarks/gpu.sh WHEELS OUT [options of gpu.py]
#
# WHEELS is a folder with onnxruntime-gpu and any of these that python3 lacks: click, h5py, numpy,
# onnx, pillow, pyarrow, rich, simplejpeg. CUDA and cuDNN may come with the packages of PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=$1 out=$2
shift 2
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G "$wheels/*.whl" >/dev/null; then
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
fi
# ONNX Runtime searches for NVIDIA's packages only next to its own package.
nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)
[ -z "$nvidia" ] || [ -e "$site/nvidia" ] || ln -s "$nvidia" "$site/nvidia"
export PYTHONPATH="$PWD/src:$site" PYTHONUNBUFFERED=1
python3 benchmarks/gpu.py --out "$out" "$@"
