"""How much memory a conversion takes, against the size of the model's file.

    PYTHON tests/reference/import_peak.py --cmd target/quick/edge-convert            # MiniLM in f32, 90 MB: a few minutes
    PYTHON tests/reference/import_peak.py --cmd target/quick/edge-convert --short    # with eight samples alone
    PYTHON tests/reference/import_peak.py --case target/quick/edge-run-case --gigabytes 2.5

The first makes the float model behind minilm-int8 (`tests/models/fetch.py --set ci`) and converts it without samples, with eight, and
with exact floats, never beside the independent engine that would check the result; each may take 2.2 times the file at its peak. The last
runs a model whose weights, in a file beside it, are beyond what protobuf can hold: products with matrices of 64 MiB whose columns are all
the same. It checks the result and prints the peak.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
import fetch  # noqa: E402

MOST = 2.2


def baked(model):
    """The model with what Cast and Mul make of stored numbers stored in their place."""
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type not in ("Cast", "Mul") or not all(name in known for name in node.input):
            kept.append(node)
        elif node.op_type == "Cast":
            to = next(a.i for a in node.attribute if a.name == "to")
            known[node.output[0]] = known[node.input[0]].astype(helper.tensor_dtype_to_np_dtype(to))
        else:
            known[node.output[0]] = np.asarray(known[node.input[0]] * known[node.input[1]])
    used = {name for node in kept for name in node.input}
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in known.items() if n in used)
    return model


# Starts a command and says what it took. The system counts what its parent holds when it starts, so its parent is small.
STARTER = """import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)"""


def peak(words):
    """Seconds and peak resident bytes of a command; raises with what it said."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STARTER, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-400:])
    return time.monotonic() - start, int(done.stdout) * 1024


def minilm(command, short):
    """Whether each conversion keeps within the bound."""
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        path = folder / "minilm.onnx"
        onnx.save(baked(onnx.load(fetch.cached("minilm-int8", "model.onnx"))), path)
        size = path.stat().st_size
        rng = np.random.default_rng(5)
        names = [i.name for i in onnx.load(path, load_external_data=False).graph.input]
        samples = folder / "samples"
        samples.mkdir()
        for i in range(8):
            length = 24 + 8 * i
            ids = {n: np.ones((1, length), np.int64) for n in names}
            ids["input_ids"] = rng.integers(1000, 30000, (1, length))
            ids |= {n: np.zeros((1, length), np.int64) for n in names if "type" in n}
            np.savez(samples / f"{i}.npz", **ids)
        ways = {"8 samples": ["--calib", str(samples)], "without samples": [],
                "without samples, exact floats": ["--keep-float"],
                "8 samples, exact floats": ["--calib", str(samples), "--keep-float"]}
        for what, more in list(ways.items())[:1 if short else None]:
            words = [command, str(path), "-o", str(folder / "m.pack"), "--no-cache", "--witness", "off", *more]
            seconds, most = peak(words)
            fine &= most <= MOST * size
            print(f"{what}: {size / 1e6:.1f} MB, peak {most / 1e6:.1f} MB ({most / size:.2f}), {seconds:.0f} s", flush=True)
    return fine


def beyond(command, gigabytes):
    """Whether a model of so many gigabytes gives what it should."""
    width, layers = 4096, round(gigabytes * 1e9 / 2 ** 26)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = (np.arange(width) % 7 - 3).astype(np.float32) / width
        weights, name = [], "x"
        with open(folder / "w.bin", "wb") as file:
            for i in range(layers):
                w = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width],
                                data_location=TensorProto.EXTERNAL)
                for key, value in (("location", "w.bin"), ("offset", str(file.tell())), ("length", str(2 ** 26))):
                    w.external_data.add(key=key, value=value)
                weights.append(w)
                file.write(np.repeat(np.roll(rows, i)[:, None], width, axis=1).tobytes())
        nodes, want = [], np.linspace(-1, 1, width, dtype=np.float32)[None]
        x = want
        for i in range(layers):
            nodes += [helper.make_node("MatMul", [name, f"w{i}"], [f"m{i}"]), helper.make_node("Tanh", [f"m{i}"], [f"t{i}"]),
                      helper.make_node("Add", [f"t{i}", "x"], [f"a{i}"])]
            name = f"a{i}"
            # Every column is the same.
            want = np.tanh(np.full((1, width), (want[0].astype(np.float64) * np.roll(rows, i)).sum(), np.float32)) + x
        graph = helper.make_graph(nodes, "large", [helper.make_tensor_value_info("x", 1, [1, width])],
                                  [helper.make_tensor_value_info(name, 1, [1, width])], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "m.onnx")
        (folder / "in").mkdir(), (folder / "out").mkdir()
        (folder / "in/input_0.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
        seconds, most = peak([command, str(folder / "m.onnx"), str(folder / "in"), str(folder / "out")])
        got, size = np.load(folder / "out/output_0.npy"), (folder / "w.bin").stat().st_size
        apart = float(np.abs(got - want).max())
        print(f"{size / 1e9:.2f} GB beside the model: peak {most / 1e9:.2f} GB ({most / size:.2f}), {seconds:.0f} s, {apart:.1e} apart")
        return apart < 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cmd", help="edge-convert")
    parser.add_argument("--short", action="store_true", help="convert with eight samples alone")
    parser.add_argument("--case", help="edge-run-case")
    parser.add_argument("--gigabytes", type=float, default=2.5)
    args = parser.parse_args()
    fine = True
    if args.cmd:
        fine &= minilm(args.cmd, args.short)
    if args.case:
        fine &= beyond(args.case, args.gigabytes)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
