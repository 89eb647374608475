#!/usr/bin/env python3
"""The bar for int8: each model quantised by onnxruntime's own tools, judged as compare.py judges our rungs.

    peer_int8.py [MODEL...] [--json RESULT.json]

Static quantisation to QDQ (int8 weights per channel, uint8 activations) on the same calibration samples, with each of its
calibration methods; and dynamic quantisation (int8 weights, activations quantised at run time). Every result is run with
optimisations off on the same heldout samples and drawn shapes, so that no CPU's kernel decides the outcome. Printed: bytes
of the ONNX file, error, SQNR, agreement.
"""
import argparse
import json
import logging
import pathlib
import sys
import tempfile

import onnx
from onnx import version_converter
from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic,
                                      quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process

import compare
import make_inputs
import zoo
from reference import Reference, load_npz


class Samples(CalibrationDataReader):
    """The calibration samples of a folder, those of `shape` alone when the method cannot take several shapes."""

    def __init__(self, folder, names, one_shape):
        feeds = [{k: v for k, v in load_npz(p).items() if k in names} for p in sorted(folder.glob("*.npz"))]
        shapes = [tuple(v.shape for v in f.values()) for f in feeds]
        usual = max(shapes, key=shapes.count)
        self.feeds = iter([f for f, s in zip(feeds, shapes) if s == usual or not one_shape])

    def get_next(self):
        return next(self.feeds, None)


PER_CHANNEL_OPSET = 13  # DequantizeLinear has an axis from here on


def prepare(model, out):
    """The model as onnxruntime recommends to quantise it: shapes inferred, constants folded, opset new enough."""
    source = onnx.load(model)
    opset = next(o.version for o in source.opset_import if o.domain in ("", "ai.onnx"))
    if opset < PER_CHANNEL_OPSET:
        onnx.save(version_converter.convert_version(source, PER_CHANNEL_OPSET), out)
        model = out
    quant_pre_process(str(model), str(out), skip_symbolic_shape=True)


def variants(prepared, calib, names, folder):
    """(method, ONNX file) of every way of quantising that works on this model; the others are named on stderr."""
    ways = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile}
    for way in (*ways, "dynamic"):
        out = folder / f"{way}.onnx"
        try:
            if way == "dynamic":
                quantize_dynamic(prepared, out, per_channel=True, weight_type=QuantType.QInt8)
            else:
                # Histograms are merged over samples as arrays, which needs one shape.
                quantize_static(prepared, out, Samples(calib, names, way != "minmax"), quant_format=QuantFormat.QDQ,
                                per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                                calibrate_method=ways[way])
        except Exception as e:  # the tools raise whatever their passes raise; one method must not hide the others
            print(f"peer_int8.py: {way}: {type(e).__name__}: {str(e)[:200]}", file=sys.stderr)
            continue
        yield way, out


def judge(model, args, reference):
    """[{id, bytes, acts, error, sqnr_db, agreement, ...}] of one model's variants."""
    calib = make_inputs.make(model, args.inputs)["calib"]
    todo = list(compare.cases(model, args, reference))
    names = {i.name for i in reference.session(model.path()).get_inputs()}
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        prepared = tmp / "prepared.onnx"
        try:
            prepare(model.path(), prepared)
        except Exception as e:  # as above; the graph as it is may still quantise
            print(f"peer_int8.py: {model.name}: no preparation: {str(e)[:200]}", file=sys.stderr)
            prepared = model.path()
        for way, path in variants(prepared, calib, names, tmp):
            tally, rung = compare.Tally(model.task, todo), {"id": way, "bytes": path.stat().st_size, "acts": "i8"}
            try:
                for case in todo:
                    tally.add(case, reference.run(path, case.feeds))
                result = tally.result()
            except Exception as e:  # the quantised graph may not load or run at another shape
                result = {"failed": str(e)[:200]}
            print(compare.rung_row(model.name, rung, result), flush=True)
            rows.append({**rung, **result})
    return rows


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(zoo.MODELS))
    ap.add_argument("--inputs", type=pathlib.Path, default=make_inputs.default_folder())
    ap.add_argument("--heldout", type=int)
    ap.add_argument("--shapes", type=int, default=5)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--json", type=pathlib.Path)
    args = ap.parse_args()
    logging.disable(logging.WARNING)  # the tools advise preparation that has been done
    results = {n: judge(zoo.MODELS[n], args, Reference()) for n in args.models or zoo.MODELS}
    if args.json:
        args.json.write_text(json.dumps(compare.no_infinity(results), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
