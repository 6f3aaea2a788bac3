#!/usr/bin/env bash
# Measures a GPU in at most eight minutes, without downloads: runs the engine's tests, then measures a checkpoint of random
# weights in the published 8B sizes, in bfloat16. Prints one JSON line per row. docs/operations.md describes the rows.
#
# Arguments go to bench/gpu_check.py; `--quick --device cpu --dtype float32` tries the script without a GPU.
# GPU_CHECK_S: seconds for everything, 480. PYTHON: the interpreter, python3.
#
# Preparation, where there is a network, for a machine that has CUDA's torch, pytest, hypothesis and scipy, and can fetch
# nothing. Its Python packages that are missing or too old travel as wheels in `.whl`, which git ignores:
#
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#     --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
#     --platform manylinux2014_x86_64 -d .whl \
#     $(grep -E '^(transformers|msgspec|soundfile|cffi|soxr)==' requirements.lock)
#
# That is 15 MB for Python 3.12. transformers also wants tokenizers, huggingface-hub and safetensors: what
# `unzip -p .whl/transformers-*.whl '*/METADATA' | grep ^Requires-Dist` lists. The checkout is about 50 MB with the
# embedded model's trained weights (af3stream/models/mini/*.safetensors, 46 MB), which nothing here reads: leave them out
# where 64 MiB may travel.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
budget=${GPU_CHECK_S:-480}
path=$PWD

if compgen -G '.whl/*.whl' >/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl
  path=$path:$site
fi

left=$((budget - SECONDS))
PYTHONPATH=$path PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 \
  timeout --kill-after=5 "$left" "$python" -m bench.gpu_check --seconds "$((left - 15))" "$@"
