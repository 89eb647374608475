#!/usr/bin/env bash
# One pack of a supernet: the best of its subnets, each at the precisions that pay, and a picture under three memory budgets.
# Fetches crates and nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked -p edge-converter -p edge-cli
bin=${CARGO_TARGET_DIR:-target}/release
example=examples/once-for-all-fashion
data=examples/supernet-fashion
pack=$(mktemp -d)/fashion.pack
trap 'rm -rf "$(dirname "$pack")"' EXIT

"$bin/edge-convert" "$example/models/largest.onnx" --supernet "$example/models/supernet.toml" -o "$pack" \
    --card "$example/model.toml" --calib "$data/calibration.npz" --heldout "$data/heldout.npz"

for mem in "${@:-10MB 32MB}"; do
    for size in $mem; do
        echo
        echo "edge-run fashion.pack --mem $size --input 9-ankle-boot.png --top 3"
        "$bin/edge-run" "$pack" --mem "$size" --input "$data/samples/9-ankle-boot.png" --top 3
    done
done
