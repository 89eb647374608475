#!/usr/bin/env python3
"""Operators of the domain com.microsoft, and of ONNX's where the suite is thin, against onnxruntime.

    fused.py --cmd 'PROGRAM {model} {inputs_dir} {out_dir}' [--filter REGEX] [--suite SUITE]

The command's contract is that of suite.py. Each case is a model of one node, with inputs and weights from a seed, run by
onnxruntime (CPU, optimisations off) and by the command. Where a case says so, it is run again with dimensions that the
model leaves free. Floats are compared with rtol 1e-4 and atol 1e-6 (float16: judge.py). What has no counterpart here must
be refused, by a message that names it. Then the suite's real models, as onnxruntime's optimizer rewrites them, are judged as
the suite judges them. Exit code 1 when anything differs.
"""
import argparse
import collections
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import judge
from fused_cases import cases
from layout import data_sets
from suite import default_suite

RTOL, ATOL = 1e-4, 1e-6
REFUSED = 3


def model_of(case, free):
    """The case's model; `free` leaves the dimensions that the case names so without a number."""
    node = helper.make_node(case.op, case.operands, case.results, domain=case.domain, **case.attributes)
    kind = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in (case.inputs | case.weights).items()}
    inputs = []
    for name, array in case.inputs.items():
        names = case.free.get(name, "") if free else ""
        dims = [names[i] if i < len(names) and names[i] != "." else d for i, d in enumerate(array.shape)]
        inputs.append(helper.make_tensor_value_info(name, kind[name], dims))
    first = kind[next(n for n in case.operands if n)] if case.result_type is None else case.result_type
    types = {**dict.fromkeys(case.results, first), **case.result_types}
    outputs = [helper.make_tensor_value_info(n, types[n], None) for n in case.results if n]
    weights = [numpy_helper.from_array(a, n) for n, a in case.weights.items()]
    graph = helper.make_graph([node], "case", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def reference(model, inputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def run(case, model, command):
    """(exit code, message, results) of the command."""
    with tempfile.TemporaryDirectory(prefix="fused-") as folder:
        folder = pathlib.Path(folder)
        (folder / "in").mkdir()
        (folder / "out").mkdir()
        onnx.save(model, folder / "model.onnx")
        for i, (name, array) in enumerate(case.inputs.items()):
            (folder / "in" / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
        words = [w.format(model=folder / "model.onnx", inputs_dir=folder / "in", out_dir=folder / "out")
                 for w in shlex.split(command)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return done.returncode, done.stderr.strip(), []
        results = [np.load(folder / "out" / f"output_{i}.npy") for i in range(len(model.graph.output))]
        return 0, "", results


def judged(case, free, command):
    """None when the case holds, else what is wrong."""
    model = model_of(case, free)
    if case.refused:
        code, message, _ = run(case, model, command)
        named = code == REFUSED and case.refused in message
        return None if named else f"expected a refusal that says {case.refused!r}; exit {code}: {message[-300:]}"
    try:
        want = reference(model, case.inputs)
    except Exception as error:  # noqa: BLE001: onnxruntime has a class for each of its states
        return f"onnxruntime: {error}"
    code, message, got = run(case, model, command)
    if code:
        return f"exit {code}: {message[-400:]}"
    for name, g, w in zip([r for r in case.results if r], got, want):
        rtol, atol = (RTOL, ATOL) if case.tolerance is None else (0, case.tolerance * float(np.ptp(w)))
        verdict, note = judge.compare(case.shown(name, g), case.shown(name, w), rtol, atol)
        if verdict != "pass":
            return f"{name}: {verdict} {note}"
    return None


def optimized(suite, command):
    """(name, what the optimizer fused, what is wrong or None) of each real model of the suite."""
    for case in sorted((suite / "models").iterdir()):
        with tempfile.TemporaryDirectory(prefix="fused-") as folder:
            folder = pathlib.Path(folder)
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath = str(folder / "model.onnx")
            options.log_severity_level = 4
            onnxruntime.InferenceSession(str(case / "model.onnx"), options, providers=["CPUExecutionProvider"])
            nodes = onnx.load(folder / "model.onnx").graph.node
            fused = collections.Counter(n.op_type for n in nodes if n.domain == "com.microsoft")
            verdict = ("pass", "")
            for i, inputs in enumerate(data_sets(case)):
                out = folder / str(i)
                out.mkdir()
                words = [w.format(model=folder / "model.onnx", inputs_dir=inputs, out_dir=out) for w in shlex.split(command)]
                done = subprocess.run(words, capture_output=True, text=True, timeout=300)
                message = f"exit {done.returncode}: {done.stderr.strip()[-400:]}"
                verdict = judge.worse(verdict, judge.judge(case, inputs, out) if not done.returncode else ("crash", message))
        yield case.name, dict(fused), None if verdict[0] == "pass" else " ".join(verdict)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cmd", required=True)
    ap.add_argument("--filter", default="", help="regular expression over the cases' names")
    ap.add_argument("--suite", type=pathlib.Path, default=default_suite(), help="where suite.py prepared it")
    args = ap.parse_args()
    wrong, counts = 0, {}
    for case in cases():
        if not re.search(args.filter, case.name):
            continue
        for free in [False, True] if case.free and not case.refused else [False]:
            problem = judged(case, free, args.cmd)
            kind = "refused" if case.refused else "equal"
            counts.setdefault(f"{case.domain or 'ai.onnx'}::{case.op}", {"equal": 0, "refused": 0})[kind] += problem is None
            if problem:
                wrong += 1
                print(f"FAILED {case.name}{' (free)' if free else ''}: {' '.join(problem.split())}")
    for op, kinds in counts.items():
        print(f"{op:48} {kinds['equal']:4} equal {kinds['refused']:4} refused by name")
    for name, fused, problem in optimized(args.suite, args.cmd) if not args.filter else []:
        wrong += problem is not None
        print(f"{'FAILED ' if problem else ''}{name:40} optimized: {fused or 'nothing fused'} {problem or ''}".rstrip())
    total = sum(sum(kinds.values()) for kinds in counts.values())
    print(f"{total} as expected, {wrong} not")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
