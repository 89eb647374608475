#!/usr/bin/env bash
# The main job on a fresh clone: the four trained subnets become one pack, and the pack runs one picture under two
# memory budgets. Fetches crates and nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked -p edge-converter -p edge-cli
bin=${CARGO_TARGET_DIR:-target}/release
example=examples/supernet-fashion
pack=$(mktemp -d)/fashion.pack
trap 'rm -rf "$(dirname "$pack")"' EXIT

"$bin/edge-convert" "$example"/models/{s,m,l,xl}.onnx -o "$pack" --card "$example/model.toml" \
    --calib "$example/calibration.npz" --heldout "$example/heldout.npz"

for mem in "${@:-8MB 32MB}"; do
    for size in $mem; do
        echo
        echo "edge-run fashion.pack --mem $size --input 9-ankle-boot.png --top 3"
        "$bin/edge-run" "$pack" --mem "$size" --input "$example/samples/9-ankle-boot.png" --top 3
    done
done
