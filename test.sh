#!/usr/bin/env bash
# Every test: the Rust suites, the real models against ONNX Runtime, the ONNX project's own tests, then AArch64 on an emulator.
# `./test.sh rust` stops after the first.
#
# Models and samples come from package registries by name, version and sha256 (tests/models/fetch.py); a model that cannot
# be fetched is a failure, not a skip.
set -euo pipefail
cd "$(dirname "$0")"

# The one Rust test that fetches models needs a network, and converts three of them: it runs below, optimised.
cargo test --workspace --locked -- --skip the_trio_reads_a_page
[ "${1:-}" = rust ] && exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q >/dev/null
fi
python3 tests/models/fetch.py --set ci >/dev/null
python=$(python3 tests/reference/bootstrap.py)
# Without text first: it has to build, and has a bound of its own.
cargo build --release --locked -p edge-cli --no-default-features
small=$(wc -c <"${CARGO_TARGET_DIR:-target}/release/edge-run")
# The runtime as it ships; the converter with the independent engine, which is most of this step's time.
cargo build --release --locked -p edge-cli
cargo build --profile quick --locked -p edge-converter --features witness
bin=${CARGO_TARGET_DIR:-target}/release
quick=${CARGO_TARGET_DIR:-target}/quick

# The binary is resident memory too.
bytes=$(wc -c <"$bin/edge-run")
if [ "$small" -gt 3345000 ] || [ "$bytes" -gt 4075000 ]; then
    echo "edge-run has $bytes bytes, $small without text; at most 4075000 and 3345000" >&2
    exit 1
fi
cargo test --profile quick --locked -p edge-tests --features witness --test witness --test ocr --test bands

(cd tests/reference && "$python" -m unittest -q)
"$python" tests/reference/make_inputs.py >/dev/null
"$python" tests/reference/compare.py --convert "$quick/edge-convert" --run "$bin/edge-run" --convert-arg=--keep-float \
    --rungs top --heldout 6
# Models of integers, and what onnxruntime's own quantisation makes of floats.
"$python" tests/reference/integers.py --convert "$quick/edge-convert" --run "$bin/edge-run" \
    minilm-int8 efficientnet-lite0:static ppocr-cls:static magika:dynamic
# How much memory a conversion of 90 MB takes.
"$python" tests/reference/import_peak.py --cmd "$quick/edge-convert" --short
"$python" tests/reference/check_expected.py --packs target/compare/packs --run "$bin/edge-run"

# The ONNX project's own tests, through the pack path.
(cd tests/conformance && "$python" -m unittest -q)
"$python" tests/conformance/suite.py prepare
"$python" tests/conformance/suite.py run --scope edge --forbid wrong --forbid crash --min-pass 98.6 \
    --baseline tests/conformance/baseline.json --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"
"$python" tests/conformance/suite.py run --scope all --forbid wrong --forbid crash --min-pass 78 \
    --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"
"$python" tests/conformance/suite.py run --scope edge --variant asis --forbid wrong --forbid crash --min-pass 97 \
    --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"
"$python" tests/conformance/wider.py --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"
"$python" tests/conformance/fused.py --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"
"$python" tests/conformance/half.py --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"
"$python" tests/conformance/functions.py --cmd "$quick/edge-run-case {model} {inputs_dir} {out_dir}"

# The other architecture, emulated: its kernels, and the same bits from its edge-run.
EDGE_RUN="$bin/edge-run" EDGE_CONVERT="$quick/edge-convert" targets/aarch64-linux/test.sh \
    target/compare/packs/ppocr-cls.pack:1,3,48,192
