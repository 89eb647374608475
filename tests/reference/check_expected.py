#!/usr/bin/env python3
"""Checks stored reference vectors (expected/) against onnxruntime, or against a converted pack.

    check_expected.py [CASE...]                                              onnxruntime: is this environment the reference?
    check_expected.py --convert edge-convert --run edge-run [CASE...]        the best rung of each pack
    check_expected.py --packs DIR --run edge-run [CASE...]                   the same, of the packs that compare.py made

Cases whose model is not in the cache are skipped and counted. Exit: 0 when every case that ran agrees.
expected/README.md has the format.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import material
from reference import Reference, load_npz, save_npz
import zoo
from zoo import SILERO_CHUNK

EXPECTED = pathlib.Path(__file__).resolve().parent / "expected"


def laid_out(source, layout):
    """A stored source as the model's input layout (see expected/README.md), before the affine step."""
    if layout == "samples":
        return source.reshape(1, -1, 1)
    if layout == "grey":
        planes = source if source.ndim == 3 else source[None]
        return np.repeat(planes[:, None], 3, 1)
    if layout == "hwc8":
        source = source.repeat(8, 0).repeat(8, 1)
    return source.transpose(2, 0, 1)[None]


def affine(source, spec):
    """source / divide - subtract in float64, rounded to float32 once: in an int8 graph one ulp more can tip a code."""
    return (source.astype(np.float64) / spec["divide"] - spec["subtract"]).astype(np.float32)


def stream(run, samples):
    """Feeds silero step by step, state and context carried over. {output: probability of each step, stateN: last}."""
    context, chunk = SILERO_CHUNK[16000]
    state, before, said = np.zeros((2, 1, 128), np.float32), np.zeros(context, np.float32), []
    for new in samples.reshape(-1, chunk):
        out = run({"input": np.concatenate([before, new])[None], "state": state, "sr": np.array(16000, np.int64)})
        said.append(out["output"].ravel()[0])
        state, before = out["stateN"], new[-context:]
    return {"output": np.array(said, np.float32), "stateN": state}


def outputs_of(run, about, stored):
    """What an engine (`run`: feeds -> outputs) gives for a stored case."""
    feeds = {k[3:]: v for k, v in stored.items() if k.startswith("in:")}
    for name, spec in about.get("inputs", {}).items():
        source = stored[f"{spec['source']}:{name}"]
        if spec["layout"] == "stream":
            return stream(run, affine(source, spec))
        feeds[name] = affine(laid_out(source, spec["layout"]), spec)
    return run(feeds)


def with_derived(outputs):
    """The outputs and what expected/ stores besides: best class and its score a step, every 16th pixel."""
    first = next(iter(outputs.values()))
    derived = {"argmax": first[0].argmax(-1), "max": first[0].max(-1)} if first.ndim == 3 else {}
    if first.ndim == 4:
        derived[f"{next(iter(outputs))}[::16,::16]"] = first[0, 0, ::16, ::16]
    return {**derived, **outputs}


def largest_difference(got, stored):
    """max |got - want| over the stored part of each output: at most its first 4,096 values. Infinite for a wrong
    size, an absent output or NaN."""
    worst, got = 0.0, with_derived(got)
    for key, want in stored.items():
        name = key[4:]
        if not key.startswith("out:") or f"stat:{name}" not in stored:
            continue
        if name not in got:
            return np.inf
        value, count = np.asarray(got[name]), int(stored[f"stat:{name}"][0])
        if value.size != count:
            return np.inf
        d = np.abs(value.ravel()[:want.size].astype(np.float64) - want.ravel())
        worst = max(worst, float(d.max()) if np.isfinite(d).all() else np.inf)
    return worst


def made_pack(packs, model):
    """The pack that compare.py made of a model file, or None."""
    names = [m.name for m in zoo.MODELS.values() if m.path() == model]
    found = [packs / f"{name}.pack" for name in names if (packs / f"{name}.pack").is_file()]
    return found[0] if found else None


def pack_runner(args, model, folder):
    """run(feeds) through the binaries."""
    pack, source, out = folder / "model.pack", folder / "in.npz", folder / "out.npz"
    if args.packs:
        pack = made_pack(args.packs, model)
    else:
        subprocess.run([args.convert, str(model), "-o", str(pack)], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def run(feeds):
        save_npz(source, feeds)
        out.unlink(missing_ok=True)
        subprocess.run([args.run, str(pack), "--input", str(source), "--output", str(out)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return load_npz(out)
    return run


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("cases", nargs="*", metavar="CASE")
    ap.add_argument("--convert")
    ap.add_argument("--run")
    ap.add_argument("--packs", type=pathlib.Path)
    args = ap.parse_args()
    if bool(args.run) != bool(args.convert or args.packs):
        ap.error("--run goes with --convert or --packs")
    reference, failed, skipped, ran = Reference(), 0, 0, 0
    # What lies there without arrays are texts: of tokenizers, templates, samplers.
    for path in sorted(array.with_suffix(".json") for array in EXPECTED.glob("*.npz")):
        about = json.loads(path.read_text())
        model = material.fetch.cache_root() / about["model"]
        if args.cases and path.stem not in args.cases or model.suffix != ".onnx":
            continue
        if not model.is_file() or args.packs and not made_pack(args.packs, model):
            skipped += 1
            continue
        stored = load_npz(path.with_suffix(".npz"))
        with tempfile.TemporaryDirectory() as tmp:
            try:
                run = (pack_runner(args, model, pathlib.Path(tmp)) if args.run
                       else lambda feeds: reference.run(model, feeds))
                off = largest_difference(outputs_of(run, about, stored), stored)
            except (subprocess.CalledProcessError, OSError) as e:
                print(f"{path.stem:24} {e}")
                failed += 1
                continue
        good = off <= about["tolerance"]
        print(f"{path.stem:24} largest difference {off:.2e}, tolerance {about['tolerance']:g}{'' if good else '  WRONG'}")
        ran, failed = ran + 1, failed + (not good)
    print(f"{ran} cases ran, {failed} failed, {skipped} skipped (no model in the cache, or no pack)")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
