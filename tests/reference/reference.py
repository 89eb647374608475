#!/usr/bin/env python3
"""Runs ONNX models in onnxruntime: CPU, one thread, no graph optimisation. These are the expected values.

    reference.py MODEL.onnx INPUTS.npz OUT.npz
    reference.py --batch CASES.json        [{"model": ..., "input": ..., "output": ...}, ...]

Arrays in an .npz are named as the graph's inputs and outputs. The batch form starts the interpreter and loads
each model once. Paths in CASES.json are relative to its folder. Exit: 0, or 1 with one line on stderr a failed case.
"""
import json
import os
import pathlib
import sys

import numpy as np
import onnxruntime as ort


class Reference:
    """onnxruntime sessions, one a model, kept as long as this object. `optimised`: as users run it."""

    def __init__(self, optimised=False):
        self.sessions = {}
        self.options = ort.SessionOptions()
        self.options.intra_op_num_threads = 1
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3
        # Optimised graphs may quantise activations (DequantizeLinear + MatMul) and reorder sums; the graph as
        # written is the definition.
        if not optimised:
            self.options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

    def session(self, model):
        """The model's session, made on first use."""
        key = str(model)
        if key not in self.sessions:
            self.sessions[key] = ort.InferenceSession(key, self.options, providers=["CPUExecutionProvider"])
        return self.sessions[key]

    def run(self, model, feeds):
        """{output: array} of one run. feeds: {input: array}; names that the graph lacks are left out, since one
        set of inputs serves several exports of a model."""
        session = self.session(model)
        names = {i.name for i in session.get_inputs()}
        outputs = [o.name for o in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, {k: v for k, v in feeds.items() if k in names})))


def load_npz(path):
    """{name: array} of an .npz, read whole. Object arrays are refused (they are pickles)."""
    with np.load(path, allow_pickle=False) as z:
        return {k: z[k] for k in z.files}


def save_npz(path, arrays):
    """Writes an .npz that appears by rename, so that no reader ever sees half of one."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(part, **arrays)
    os.replace(part, path)


def run_cases(cases, base):
    """Runs a batch. Returns the number of failed cases."""
    reference, failed = Reference(), 0
    for i, case in enumerate(cases):
        try:
            feeds = load_npz(base / case["input"])
            save_npz(base / case["output"], reference.run(base / case["model"], feeds))
        except Exception as e:  # one bad case must not hide the others
            print(f"reference.py: case {i} ({case.get('input')}): {e}", file=sys.stderr)
            failed += 1
    return failed


def main(argv):
    if len(argv) == 2 and argv[0] == "--batch":
        path = pathlib.Path(argv[1])
        return 1 if run_cases(json.loads(path.read_text()), path.parent) else 0
    if len(argv) == 3 and not argv[0].startswith("-"):
        model, inputs, output = argv
        return 1 if run_cases([{"model": model, "input": inputs, "output": output}], pathlib.Path(".")) else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
