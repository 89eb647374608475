#!/usr/bin/env python3
"""Our rungs beside onnxruntime's own int8, at its bytes and at half of them.

    equal_bytes.py --convert edge-convert --run edge-run [MODEL...] [--out DIR] [--json RESULT.json]

onnxruntime: the best (by SQNR) of its static quantisations from the same calibration samples, as peer_int8.py makes them; where none
runs, its dynamic one, marked so. Its bytes are those of the file's initializers: the graph is not counted, as it is not in our rungs.
Ours: of the rungs of at most so many bytes, the one of the best quality that the pack states, with i8 activations and with f32 ones. SQNR is that
of the worst output and agreement that of the task's decision, both on heldout samples, both by metrics.py. Where ours is below onnxruntime's, or
below 20 dB at half of its bytes, the last column says what the pack's page names: the part that costs that rung most, and its share.
"""
import argparse
import json
import logging
import pathlib
import sys
import tempfile

import onnx

import compare
import make_inputs
import peer_int8
import zoo
from reference import Reference

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ["efficientnet-lite0", "ppocr-det", "ppocr-rec", "nudenet", "basic-pitch", "magika"]
WANTED_AT_HALF = 20  # dB


def stored_bytes(path):
    """Bytes of a file's initializers, branches' included."""
    def graph_bytes(graph):
        size = sum(len(t.raw_data) or t.ByteSize() for t in graph.initializer)
        for node in graph.node:
            for a in node.attribute:
                size += len(a.t.raw_data) + sum(graph_bytes(g) for g in [a.g, *a.graphs] if g.node)
        return size
    return graph_bytes(onnx.load(path).graph)


def theirs(model, args, reference, todo):
    """{id, bytes, sqnr_db, agreement} of onnxruntime's best static way, or of its dynamic one; None when none runs."""
    calib = make_inputs.make(model, args.inputs)["calib"]
    names = {i.name for i in reference.session(model.path()).get_inputs()}
    found = []
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        prepared = tmp / "prepared.onnx"
        try:
            peer_int8.prepare(model.path(), prepared)
        except Exception as e:  # the graph as it is may still quantise
            print(f"equal_bytes.py: {model.name}: no preparation: {str(e)[:200]}", file=sys.stderr)
            prepared = model.path()
        for way, path in peer_int8.variants(prepared, calib, names, tmp):
            tally = compare.Tally(model.task, todo)
            try:
                for case in todo:
                    tally.add(case, reference.run(path, case.feeds))
            except Exception as e:  # a quantised graph may not load
                print(f"equal_bytes.py: {model.name}: {way}: {str(e)[:200]}", file=sys.stderr)
                continue
            found.append({"id": way, "bytes": stored_bytes(path), **tally.result()})
    static = [f for f in found if f["id"] != "dynamic"]
    return max(static or found, key=lambda f: f["sqnr_db"], default=None)


def best_within(rungs, acts, size):
    """The rung of the best stated quality with such activations and at most `size` bytes."""
    fit = [r for r in rungs if r["acts"] == acts and r["bytes"] <= size]
    return max(fit, key=lambda r: r["quality"]["value"] if isinstance(r["quality"], dict) else r["quality"], default=None)


def limit_of(page, rung):
    """What the page says costs a rung most."""
    figures = next(r for r in page["rungs"] if r["id"] == rung)
    parts = figures.get("parts")
    return f"{parts['worst']} ({100 * parts['share']:.0f} %)" if parts else "not named"


def describe(result):
    """SQNR and agreement, as the table has them."""
    return f"{result['sqnr_db']:.1f} dB, {result['agreement']['heldout']:.3f}"


def model_rows(args, model, reference):
    """Table rows of a model, and its figures."""
    args.seed, args.shapes = 0, 0  # heldout samples alone
    todo = list(compare.cases(model, args, reference))
    ort = theirs(model, args, reference, todo)
    if ort is None:
        return [f"| {model.name} | onnxruntime quantises it in no way | | | | |"], {}
    pack = args.out / "packs" / f"{model.name}.pack"
    pack.parent.mkdir(parents=True, exist_ok=True)
    if not (args.keep and pack.is_file()):
        calib = make_inputs.make(model, args.inputs)["calib"]
        compare.command([args.convert, model.path(), "-o", pack, "--calib", calib, *args.convert_arg], args.convert_timeout)
    rungs = json.loads(compare.command([args.run, "inspect", pack, "--json"], args.timeout))["rungs"]
    page = json.loads(compare.command([args.convert, "report", pack, "-o", args.out / f"{model.name}.html", "--no-latency",
                                       "--json"], args.timeout))
    rows, figures = [], {"onnxruntime": ort}
    for size, name in ((ort["bytes"], "its bytes"), (ort["bytes"] // 2, "half")):
        cells, named = [], []
        for acts in ("i8", "f32"):
            rung = best_within(rungs, acts, size)
            if rung is None:
                least = min(r["bytes"] for r in rungs)
                cells.append(f"none; the smallest has {least / 1e3:.0f} kB")
                continue
            result = compare.run_rung(args, model, pack, rung, todo)
            if "failed" in result:
                raise compare.CommandFailed(result["failed"])
            figures[f"{acts} at {name}"] = {k: rung[k] for k in ("id", "bytes")} | result
            cells.append(f"{rung['bytes'] / 1e3:.0f} kB: {describe(result)}")
            wanted = ort["sqnr_db"] if name == "its bytes" else WANTED_AT_HALF
            if result["sqnr_db"] < wanted:
                named.append(f"{acts}: {limit_of(page, rung['id'])}")
        beside = f"{ort['id']}, {ort['bytes'] / 1e3:.0f} kB: {describe(ort)}" if name == "its bytes" else ""
        rows.append(f"| {model.name} | {beside} | {name} | {' | '.join(cells)} | {'; '.join(named)} |")
    return rows, figures


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(zoo.MODELS))
    ap.add_argument("--convert", required=True, help="the edge-convert binary")
    ap.add_argument("--run", required=True, help="the edge-run binary")
    ap.add_argument("--out", type=pathlib.Path, default=HERE.parent.parent / "target" / "equal-bytes")
    ap.add_argument("--inputs", type=pathlib.Path, default=make_inputs.default_folder(), help="folder for inputs")
    ap.add_argument("--heldout", type=int, default=8, help="at most this many heldout samples a model")
    ap.add_argument("--keep", action="store_true", help="do not convert again when a pack is there")
    ap.add_argument("--convert-arg", action="append", default=[], help="passed on to edge-convert")
    ap.add_argument("--timeout", type=float, default=300, help="seconds of one run")
    ap.add_argument("--convert-timeout", type=float, default=1800, help="seconds of one conversion")
    ap.add_argument("--json", type=pathlib.Path)
    args = ap.parse_args()
    unknown = sorted(set(args.models) - set(zoo.MODELS))
    if unknown:
        ap.error(f"unknown model: {', '.join(unknown)}")
    logging.disable(logging.WARNING)  # the tools advise preparation that has been done
    reference, results, failed = Reference(), {}, 0
    print("| model | onnxruntime | bytes | ours, i8 | ours, f32 | below onnxruntime, or below 20 dB at half: what costs most |")
    print("|---|---|---|---|---|---|")
    for name in args.models or MODELS:
        try:
            rows, results[name] = model_rows(args, zoo.MODELS[name], reference)
        except (compare.CommandFailed, OSError, ValueError, KeyError) as e:
            rows, failed = [f"| {name} | FAILED {e} | | | | |"], failed + 1
        print("\n".join(rows), flush=True)
    if args.json:
        args.json.write_text(json.dumps(compare.no_infinity(results), indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
