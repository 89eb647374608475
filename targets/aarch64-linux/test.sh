#!/usr/bin/env bash
# AArch64, emulated: the kernels' unit tests, and the bits of edge-run against those of this machine's edge-run.
#
#     targets/aarch64-linux/test.sh [PACK:DIMS...]
#
# The tests run on a CPU with every level that kernels are written for, and on one with NEON alone. Integer rungs of a small model, and
# of the packs given (each with the shape of its only input), must give the bits of this machine's scalar kernels at every level.
# This says what is right and not what is fast: an emulator's time is not a CPU's.
#
# EDGE_RUN and EDGE_CONVERT name this machine's programs; without them they are built.
set -euo pipefail
cd "$(dirname "$0")/../.."

began=$SECONDS
done_with() {
    echo "[$((SECONDS - began)) s] $*"
    began=$SECONDS
}

fail() {
    echo "aarch64: $*" >&2
    exit 1
}

native=${CARGO_TARGET_DIR:-target}
run=${EDGE_RUN:-$native/release/edge-run}
convert=${EDGE_CONVERT:-$native/quick/edge-convert}
[ "$(uname -m)" = x86_64 ] || fail "compares with an x86-64 machine, and this is $(uname -m)"
[ -n "${EDGE_RUN:-}" ] || cargo build --release --locked -p edge-cli
[ -n "${EDGE_CONVERT:-}" ] || cargo build --profile quick --locked -p edge-converter
done_with "programs of this machine"

settings=$(targets/aarch64-linux/setup.sh)
eval "$settings"
target=aarch64-unknown-linux-gnu
done_with "compiler, linker and emulator: $(${RUSTC:-rustc} --version)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

on() { # a CPU's name, a program and its arguments
    "$EDGE_EMULATOR" -L /usr/aarch64-linux-gnu -cpu "$@"
}

# The tests walk every variant that the CPU has, and say which: they must be those that are expected.
kernels() { # a CPU, and the products of bytes that it must run
    local log=$work/tests-$1 got
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$EDGE_EMULATOR -L /usr/aarch64-linux-gnu -cpu $1" \
        "${tests[@]}" -- --nocapture >"$log" 2>&1 || {
        cat "$log" >&2
        fail "the kernels' tests on $1"
    }
    got=$(sed -n 's/.*variants run: \(gemm_w8_a8__[^;]*\);.*/\1/p' "$log" | sort -u)
    [ "$got" = "$2" ] || fail "$1 ran '$got', not '$2'"
    done_with "kernels on $1: $(sed -n 's/^test result: //p' "$log")"
    echo "    $got"
}

# What the kernels depend on are mostly macros of the compiler, which take twice the time to build when they are optimised.
tests=(cargo test --locked -p edge-kernels --lib --target $target --config 'profile.dev.package."*".opt-level=0')
"${tests[@]}" --no-run
done_with "the kernels' tests built"
kernels max "gemm_w8_a8__neon_i8mm, gemm_w8_a8__neon_dotprod, gemm_w8_a8__neon, gemm_w8_a8__scalar"
kernels cortex-a53 "gemm_w8_a8__neon, gemm_w8_a8__scalar"

cargo build --release --locked -p edge-cli --target $target
arm=$CARGO_TARGET_DIR/$target/release/edge-run
on max "$arm" --help >/dev/null
done_with "edge-run built: $(wc -c <"$arm") bytes"

example=examples/supernet-fashion
"$convert" $example/models/s.onnx -o "$work/fashion.pack" --card $example/model.toml --calib $example/calibration.npz >/dev/null
on max "$arm" verify "$work/fashion.pack"

field() { # of JSON, a name at its top
    python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

# A CPU is given the best level that it has.
for pair in max:neon_i8mm cortex-a76:neon_dotprod cortex-a53:neon; do
    cpu=${pair%:*}
    got=$(on "$cpu" "$arm" bench "$work/fashion.pack" --repeat 1 --warmup 0 -t 1 --json | field isa)
    [ "$got" = "${pair#*:}" ] || fail "$cpu is given $got, not ${pair#*:}"
done

# A little-endian f32 array of seeded noise in [0, 1), for a shape with commas.
noise() {
    python3 - "$1" <<'PY'
import array, math, random, sys
dims = [int(d) for d in sys.argv[1].split(",")]
values = random.Random(7)
header = str({"descr": "<f4", "fortran_order": False, "shape": tuple(dims)}).encode()
header += b" " * (-(len(header) + 11) % 64) + b"\n"
sys.stdout.buffer.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
sys.stdout.buffer.write(array.array("f", [values.random() for _ in range(math.prod(dims))]).tobytes())
PY
}

# Every integer rung of a pack, at every level, with one thread and with two.
same_bits() { # a pack, an input
    local rungs rung want got level
    rungs=$("$run" inspect "$1" | awk '$2 == "i8" { print $1 }')
    [ -n "$rungs" ] || fail "$1 has no integer rung"
    for rung in $rungs; do
        EDGE_ISA=scalar "$run" "$1" --rung "$rung" -t 1 --input "$2" -o "$work/want.npz" >/dev/null 2>&1 ||
            fail "$1 $rung does not run here"
        want=$(sha256sum <"$work/want.npz")
        for level in scalar neon neon_dotprod neon_i8mm; do
            for threads in 1 2; do
                EDGE_ISA=$level on max "$arm" "$1" --rung "$rung" -t $threads --input "$2" -o "$work/got.npz" \
                    >/dev/null 2>"$work/said" || {
                    cat "$work/said" >&2
                    fail "$1 $rung: $level does not run"
                }
                got=$(sha256sum <"$work/got.npz")
                [ "$got" = "$want" ] || fail "$1 $rung: $level with $threads threads gives other bits than x86-64"
            done
        done
    done
    done_with "$(basename "$1"): bits of x86-64 at every level: $(echo $rungs)"
}

same_bits "$work/fashion.pack" $example/samples/9-ankle-boot.png
for pair in "$@"; do
    noise "${pair##*:}" >"$work/noise.npy"
    same_bits "${pair%:*}" "$work/noise.npy"
done
echo "[$SECONDS s] in all"
