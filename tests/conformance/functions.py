"""Models with functions of their own (`functions/`, made by `functions/make.py`), against onnxruntime, live.

    PYTHON tests/conformance/functions.py --cmd 'target/release/edge-run-case {model} {inputs_dir} {out_dir}'

Floats may differ by 1e-5 of the largest.
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

FOLDER = pathlib.Path(__file__).resolve().parent / "functions"
SIZES = {"batch": (1, 3), "seq": (5, 2)}
OF_LARGEST = 1e-5


def check(command, path, turn):
    """Whether a model's outputs are right for one choice of its free sizes."""
    model = onnx.load(path)
    rng = np.random.default_rng(turn)
    inputs = {}
    for info in model.graph.input:
        sizes = [d.dim_value or SIZES[d.dim_param][turn] for d in info.type.tensor_type.shape.dim]
        inputs[info.name] = rng.uniform(-1, 1, sizes).astype(np.float32)
    want = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, inputs)
    with tempfile.TemporaryDirectory() as folder:
        data, out = pathlib.Path(folder) / "in", pathlib.Path(folder) / "out"
        data.mkdir(), out.mkdir()
        for i, array in enumerate(inputs.values()):
            (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
        words = [w.format(model=path, inputs_dir=data, out_dir=out) for w in shlex.split(command)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            print(f"FAILED {path.name}: {done.stderr.strip()[:400]}")
            return False
        got = [np.load(out / f"output_{i}.npy") for i in range(len(want))]
    fine = all(g.shape == w.shape and np.abs(g - w).max() <= OF_LARGEST * np.abs(w).max() for g, w in zip(got, want))
    print(f"{'pass' if fine else 'WRONG':6} {path.name} {[list(a.shape) for a in inputs.values()]}")
    return bool(fine)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cmd", required=True)
    args = parser.parse_args()
    fine = [check(args.cmd, path, turn) for path in sorted(FOLDER.glob("*.onnx")) for turn in (0, 1)]
    sys.exit(0 if fine and all(fine) else 1)


if __name__ == "__main__":
    main()
