#!/usr/bin/env python3
"""Integer models stay integers: quantised models through edge-convert and edge-run, against onnxruntime on the same file.

    integers.py --convert edge-convert --run edge-run [CASE...] [--out DIR] [--json RESULT.json] [--heldout N] [--time]

Cases: the quantised models of the cache (`minilm-int8`, `efficientnet-lite0-qdq`, `ppocr-cls-qlinear`), and what
onnxruntime.quantization makes of float models here, MODEL:dynamic and MODEL:static (QDQ, per channel). All when none is named.

For each: the bytes of the model's integers and scales (integer initializers, and float ones that scale them), of the rung that holds
them exactly, of the pack without golden data; SQNR of that rung's worst output against onnxruntime with optimisations off, which is
the graph as written, and agreement of the task's decision; the same of onnxruntime's own optimised run, for comparison; `--time` alternates our runs with onnxruntime's, one
thread each.

Exit: 1 when the rung takes more than 1.02 of the model's integers and scales (and its other initializers as they are), the pack
more than 1.25 of the rung, the process more than was planned, or when SQNR is below 30 dB and fewer than 98 % of decisions
are equal.
"""
import argparse
import json
import pathlib
import sys
import tempfile
import time
import zlib

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import compare
import make_inputs
import peer_int8
import zoo
from reference import Reference, load_npz, save_npz

INTEGERS = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT32, TensorProto.INT16}
# The rung and the pack, as shares.
RUNG, PACK = 1.02, 1.25
# SQNR in dB that the exact rung has at least, or 0.98 equal decisions.
SQNR, AGREEMENT = 30.0, 0.98
CACHED = {"minilm-int8": ("minilm", "minilm-int8", "model.onnx"),
          "efficientnet-lite0-qdq": ("efficientnet-lite0", "quantized", "efficientnet-lite0-qdq.onnx"),
          "ppocr-cls-qlinear": ("ppocr-cls", "quantized", "ppocr-cls-qlinear.onnx")}
MADE = ["efficientnet-lite0:static", "ppocr-cls:static", "ppocr-cls:dynamic", "magika:dynamic", "minilm:dynamic"]


def float_scales(graph):
    """Names of the float initializers that scale integers: operands of a quantised operator, or of a product with cast integers."""
    cast, scales = set(), set()
    integers = {t.name for t in graph.initializer if t.data_type in INTEGERS}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in integers:
            cast.add(node.output[0])
        quantised = "uantize" in node.op_type or node.op_type.startswith("QLinear") or node.op_type == "QGemm"
        if quantised or (node.op_type in ("Mul", "Sub") and cast & set(node.input)):
            scales |= set(node.input)
            cast |= set(node.output)
    return scales


def source_bytes(path):
    """(bytes of integers and their scales, bytes of all initializers of some size)."""
    graph = onnx.load(path).graph
    scales = float_scales(graph)
    ours = everything = 0
    for tensor in graph.initializer:
        size = numpy_helper.to_array(tensor).nbytes
        if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4):
            size = (size + 1) // 2
        everything += size
        if tensor.data_type in INTEGERS or tensor.name in scales:
            ours += size
    return ours, everything


def made(case, folder, inputs):
    """The quantised file of a case that onnxruntime.quantization makes, and the float model that it was made of."""
    name, way = case.split(":")
    model = zoo.MODELS[name]
    prepared = folder / f"{name}-prepared.onnx"
    peer_int8.prepare(model.path(), prepared)
    out = folder / f"{name}-{way}.onnx"
    calib = make_inputs.make(model, inputs)["calib"]
    if way == "dynamic":
        peer_int8.quantize_dynamic(prepared, out, per_channel=True, weight_type=peer_int8.QuantType.QInt8)
    else:
        names = {i.name for i in onnx.load(model.path()).graph.input}
        peer_int8.quantize_static(prepared, out, peer_int8.Samples(calib, names, False),
                                  quant_format=peer_int8.QuantFormat.QDQ, per_channel=True,
                                  activation_type=peer_int8.QuantType.QUInt8, weight_type=peer_int8.QuantType.QInt8)
    return model, out


def pack_header(pack):
    """A pack's header: JSON after 64 bytes of preamble, its length at offset 16, packed where offset 40 is not 0 (runtime/PACK.md)."""
    with open(pack, "rb") as f:
        preamble = f.read(64)
        text = f.read(int.from_bytes(preamble[16:24], "little"))
    if int.from_bytes(preamble[40:48], "little"):
        text = zlib.decompressobj(-zlib.MAX_WBITS).decompress(text)
    return json.loads(text)


def golden_bytes(pack):
    """Bytes of a pack's golden data."""
    header = pack_header(pack)
    golden = header.get("golden") or {"inputs": [], "outputs": []}
    ids = {v["source"]["blob"] for v in golden["inputs"] + golden["outputs"] if "blob" in v["source"]}
    return sum(header["blobs"][i]["len"] for i in ids)


def exact_rung(pack):
    """The rung of whole integers: of the largest ones that with i8 values where the model says which codes they are, else with floats."""
    header = pack_header(pack)
    coded = any("codes" in value for graph in header["graphs"] for value in graph["values"])
    largest = max(r["bytes"] for r in header["rungs"])
    acts = "i8" if coded else "f32"
    return max((r for r in header["rungs"] if r["bytes"] >= 0.99 * largest), key=lambda r: (r["acts"] == acts, r["bytes"]))


def run_ours(args, pack, rung, path):
    """Outputs of our rung, its peak and its plan in bytes."""
    out = args.out / "out.npz"
    out.unlink(missing_ok=True)
    text = compare.command([args.run, pack, "--rung", rung, "--input", path, "--output", out, "--threads", "1", "--json"],
                           args.timeout)
    said = json.loads(text)
    return load_npz(out), said["peak_rss"], said["selection"]["plan"]["total"]


def judge(case, args):
    """One case: its row."""
    if case in CACHED:
        name, entry, file = CACHED[case]
        model = zoo.MODELS[name]
        source = zoo.material.fetch.cached(entry, file)
    else:
        model, source = made(case, args.out, args.inputs)
    folders = make_inputs.make(model, args.inputs)
    pack = args.out / f"{case.replace(':', '-')}.pack"
    words = [args.convert, source, "-o", pack, "--calib", folders["calib"], *args.convert_arg]
    start = time.monotonic()
    compare.command(words, args.timeout)
    took = time.monotonic() - start
    integers, everything = source_bytes(source)
    rung = exact_rung(pack)
    written, optimised, todo = Reference(), Reference(optimised=True), []
    for path in sorted(folders["heldout"].glob("*.npz"))[:args.heldout]:
        feeds = load_npz(path)
        names = {i.name for i in written.session(source).get_inputs()}
        path = args.out / f"{case.replace(':', '-')}-{path.name}"
        save_npz(path, {k: v for k, v in feeds.items() if k in names})
        todo.append(compare.Case("heldout", path, feeds, written.run(source, feeds)))
    ours, theirs = (compare.Tally(model.task, todo) for _ in range(2))
    peak = planned = 0
    for one in todo:
        got, used, plan = run_ours(args, pack, rung["id"], one.path)
        peak, planned = max((peak, planned), (used, plan), key=lambda p: p[0] / max(p[1], 1))
        ours.add(one, got)
        theirs.add(one, optimised.run(source, one.feeds))
    ours, theirs = ours.result(), theirs.result()
    size = pack.stat().st_size - golden_bytes(pack)
    row = {"case": case, "integers": integers, "initializers": everything, "rung": rung["id"], "acts": rung["acts"],
           "rung_bytes": rung["bytes"], "pack_bytes": size, "sqnr_db": ours["sqnr_db"], "agreement": ours["agreement"]["heldout"],
           "ort_sqnr_db": theirs["sqnr_db"], "ort_agreement": theirs["agreement"]["heldout"], "peak": peak, "planned": planned,
           "convert_s": took}
    if args.time:
        row |= timed(args, pack, rung["id"], source, todo[0], optimised)
    floats = everything - integers
    row["broken"] = [text for text, bad in [
        (f"rung of {rung['bytes']} bytes for {integers} of integers and scales, {floats} of floats",
         not rung["bytes"] <= RUNG * integers + floats),
        (f"pack of {size} bytes for a rung of {rung['bytes']}", not size <= PACK * rung["bytes"]),
        (f"peak {peak} of {planned} planned", not peak <= planned),
        (f"SQNR {row['sqnr_db']:.1f} dB and agreement {row['agreement']:.3f}",
         not (row["sqnr_db"] >= SQNR or row["agreement"] >= AGREEMENT)),
        *((text, True) for text in ours["wrong_shape"])] if bad]
    return row


def samples(said):
    """The times in what `edge-run bench --json` prints, wherever it has them."""
    if isinstance(said, dict):
        return said["samples_ms"] if "samples_ms" in said else [x for v in said.values() for x in samples(v)]
    return [x for v in said for x in samples(v)] if isinstance(said, list) else []


def timed(args, pack, rung, source, case, reference):
    """Medians in ms of runs that alternate, onnxruntime's first."""
    ours, theirs = [], []
    names = {i.name for i in reference.session(source).get_inputs()}
    feeds = {k: v for k, v in case.feeds.items() if k in names}
    # The kernels' work does not depend on what the numbers are.
    shapes = [word for k, v in feeds.items() for word in ("--shape", f"{k}={','.join(map(str, v.shape))}")]
    for _ in range(5):
        for _ in range(5):
            start = time.perf_counter()
            reference.session(source).run(None, feeds)
            theirs.append(1e3 * (time.perf_counter() - start))
        if all(v.dtype.kind == "f" for v in feeds.values()):
            words = ["bench", pack, *shapes, "--repeat", "10"]
        else:
            # Seeded integers are no indices of a table: the first runs of a process, pages of the file being mapped in them.
            words = [pack, "--input", case.path, "--output", args.out / "out.npz"]
        said = json.loads(compare.command([args.run, *words, "--rung", rung, "--threads", "1", "--json"], args.timeout))
        ours += samples(said) or [1e3 * said["seconds"]]
    return {"ms": float(np.median(ours)), "ort_ms": float(np.median(theirs)), "least_ms": min(ours), "ort_least_ms": min(theirs)}


def line(row):
    """The row as text."""
    text = (f"{row['case']:26} {row['integers']:>10} {row['rung_bytes']:>10} {row['rung_bytes'] / row['integers']:.3f} "
            f"{row['pack_bytes']:>10} {row['pack_bytes'] / row['rung_bytes']:.3f}  {row['acts']} {row['sqnr_db']:6.1f} dB "
            f"{row['agreement']:.3f}  ort opt. {row['ort_sqnr_db']:6.1f} dB {row['ort_agreement']:.3f}  "
            f"peak/plan {row['peak'] / row['planned']:.3f}")
    if "ms" in row:
        text += f"  {row['ms']:.2f} ms, ort {row['ort_ms']:.2f}"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--convert", required=True, type=pathlib.Path)
    parser.add_argument("--run", required=True, type=pathlib.Path)
    parser.add_argument("--convert-arg", action="append", default=[], help="passed on to edge-convert")
    parser.add_argument("--inputs", type=pathlib.Path, default=make_inputs.default_folder())
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--heldout", type=int, default=6)
    parser.add_argument("--timeout", type=float, default=1800)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    known = [*CACHED, *MADE]
    unknown = [c for c in args.cases if c not in known]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(known)}")
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        args.out = args.out or pathlib.Path(tmp)
        args.out.mkdir(parents=True, exist_ok=True)
        for case in args.cases or known:
            try:
                row = judge(case, args)
            except (compare.CommandFailed, OSError, ValueError) as e:
                row = {"case": case, "broken": [str(e)]}
            rows.append(row)
            print(line(row) if "rung" in row else f"{case}: failed", flush=True)
            for text in row["broken"]:
                print(f"  {case}: {text}", file=sys.stderr, flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["broken"] for row in rows))


if __name__ == "__main__":
    main()
