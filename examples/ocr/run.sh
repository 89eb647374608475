#!/usr/bin/env bash
# Three models read a page under two memory budgets: run.sh [SIZE...]. Fetches crates, the PP-OCR models and what they are
# calibrated with; converts them on the first call. Needs Python 3.11.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked -p edge-converter -p edge-example-ocr
bin=${CARGO_TARGET_DIR:-target}/release
packs=$bin/ocr-packs
if ! [ -f "$packs/det.pack" ]; then # the last one made
    examples/ocr/make_packs.sh "$bin/edge-convert" "$packs"
fi

[ $# -gt 0 ] || set -- 32MB 96MB
for mem in "$@"; do
    echo
    echo "ocr --det det.pack --cls cls.pack --rec rec.pack --mem $mem page.png"
    "$bin/ocr" --det "$packs/det.pack" --cls "$packs/cls.pack" --rec "$packs/rec.pack" --mem "$mem" examples/ocr/page.png
done
