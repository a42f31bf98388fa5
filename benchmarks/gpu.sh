#!/usr/bin/env bash
# Every figure that needs a GPU; results go to benchmarks/results/ and docs/.
#   benchmarks/gpu.sh            in an environment that `uv sync --all-extras` has made
set -euo pipefail
cd "$(dirname "$0")/.."

# Detectors and classifiers against effdet and timm, side by side.
uv run --no-sync benchmarks/speed.py --device cuda matching soft_nms prediction training_step classifiers
uv run --no-sync benchmarks/roofline.py --device cuda
# V1 against V2 as in the paper: V2-S against B4 and B5, V2-M against B7; both recipes.
for rows in table7 table10 table11 table12; do
    uv run --no-sync benchmarks/training_time.py "${rows}_gpu" "rows=$rows" device=cuda
done
# Memory of every detector; those that fit nowhere else are here.
uv run --no-sync benchmarks/memory.py
