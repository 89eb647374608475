"""Compares an engine's outputs with a test's expected ones.

Floats pass when |got - want| <= max(rtol, R) * |want| + max(atol, S * max|want|). rtol and atol are the test's own
(1e-3 and 1e-7, the ONNX backend runner's defaults, unless its data.json says otherwise). R and S are what rounding needs
on top: one float16 step is 1e-3 by itself, and a sum that lands near zero is only as exact as its largest terms.
`strict` is the runner's own rule, R = S = 0. `near` is ten times the bound, or an 8-bit integer off by one.
"""
import json

import numpy as np
import onnx
from onnx import numpy_helper

from layout import data_sets

R = {"float16": 4e-3, "bfloat16": 2.0 ** -6}
S = {"float16": 1e-3, "bfloat16": 2.0 ** -8}
S_OTHER = 1e-6
VERDICTS = ["pass", "near", "wrong", "refused", "crash", "timeout"]  # best first


def worse(a, b):
    """The worse of two (verdict, note); among two passes, the one that has something to say."""
    rank = [VERDICTS.index(x[0]) for x in (a, b)]
    return b if rank[1] > rank[0] or (rank[0] == rank[1] and b[1] and not a[1]) else a


def read_value(path, type_proto):
    """A stored value of the graph value's type: array, list (sequence), None or value (optional)."""
    raw = path.read_bytes()
    kind = type_proto.WhichOneof("value") or "tensor_type"
    proto, convert = {"tensor_type": (onnx.TensorProto, numpy_helper.to_array),
                      "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
                      "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
                      "map_type": (onnx.MapProto, numpy_helper.to_dict)}[kind]
    message = proto()
    message.ParseFromString(raw)
    return convert(message)


def read_output(folder, i, type_proto):
    """output_<i>.npy or output_<i>.pb that the engine wrote; FileNotFoundError when it wrote neither."""
    npy, pb = folder / f"output_{i}.npy", folder / f"output_{i}.pb"
    if npy.is_file():
        return np.load(npy, allow_pickle=False)
    if pb.is_file():
        return read_value(pb, type_proto)
    raise FileNotFoundError(f"no output_{i}.npy or output_{i}.pb")


def is_text(a):
    return a.dtype == object or a.dtype.kind in "SU"


def as_text(a):
    return [x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in a.ravel()]


def compare(got, want, rtol, atol):
    """(verdict, note) of one value; note is empty for a strict pass."""
    if got is None or want is None:
        return ("pass", "") if got is want else ("wrong", "an optional value is absent on one side")
    if isinstance(want, dict):
        return ("pass", "") if got == want else ("wrong", "maps differ")
    if isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return "wrong", f"not a sequence of {len(want)}"
        verdict = ("pass", "")
        for g, w in zip(got, want):
            verdict = worse(verdict, compare(g, w, rtol, atol))
        return verdict
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return "wrong", f"shape {list(got.shape)}, expected {list(want.shape)}"
    if is_text(want):
        return ("pass", "") if is_text(got) and as_text(got) == as_text(want) else ("wrong", "strings differ")
    if got.dtype != want.dtype:
        return "wrong", f"type {got.dtype}, expected {want.dtype}"
    if want.dtype.kind == "b" or want.dtype.kind in "iu":
        return compare_integers(got, want, rtol, atol)
    return compare_floats(got, want, rtol, atol)


def compare_integers(got, want, rtol, atol):
    """Equal, or within the test's own bound (the backend runner lets rtol through on integers too)."""
    if np.array_equal(got, want):
        return "pass", ""
    off = np.abs(got.astype(np.float64) - want.astype(np.float64))
    if want.dtype.kind != "b" and np.all(off <= atol + rtol * np.abs(want.astype(np.float64))):
        return "pass", ""
    note = f"{int((off > 0).sum())} of {off.size} integers differ, by up to {off.max():g}"
    return ("near" if want.dtype.kind != "b" and want.dtype.itemsize == 1 and off.max() <= 1 else "wrong"), note


def compare_floats(got, want, rtol, atol):
    """NaN equals NaN, infinities must agree in sign. bfloat16 and fp8 arrive as dtypes of kind V."""
    name = want.dtype.name
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    g, w = got.astype(wide), want.astype(wide)
    if np.allclose(g, w, rtol=max(rtol, R["bfloat16"] if name == "bfloat16" else 0), atol=atol, equal_nan=True):
        return "pass", ""
    if np.any(np.isfinite(g) != np.isfinite(w)):
        return "wrong", f"{int((np.isfinite(g) != np.isfinite(w)).sum())} values finite on one side only"
    finite = np.isfinite(w)
    largest = float(np.abs(w[finite]).max(initial=0.0))
    off = float(np.abs(g[finite] - w[finite]).max(initial=0.0))
    note = f"max abs diff {off:.3g} of {largest:.3g}"
    r, a = max(rtol, R.get(name, 0.0)), max(atol, S.get(name, S_OTHER) * largest)
    if np.allclose(g, w, rtol=r, atol=a, equal_nan=True):
        return "pass", "not strict: " + note
    return ("near" if np.allclose(g, w, rtol=10 * r, atol=10 * a, equal_nan=True) else "wrong"), note


def judge(case, data_set, produced):
    """(verdict, note) of one data set: every expected output against what lies in `produced`."""
    bounds = {"rtol": 1e-3, "atol": 1e-7}
    if (case / "data.json").is_file():
        bounds.update({k: v for k, v in json.loads((case / "data.json").read_text()).items() if k in bounds})
    outputs = onnx.load(case / "model.onnx", load_external_data=False).graph.output
    verdict = ("pass", "")
    for i in range(len(list(data_set.glob("output_*.pb")))):
        want = read_value(data_set / f"output_{i}.pb", outputs[i].type)
        try:
            got = read_output(produced, i, outputs[i].type)
        except Exception as e:  # whatever an engine wrote, reading it must not stop the run
            return "wrong", f"output {i}: {e}"
        v, note = compare(got, want, bounds["rtol"], bounds["atol"])
        verdict = worse(verdict, (v, note and f"output {i}: {note}"))
    return verdict


__all__ = ["VERDICTS", "compare", "data_sets", "judge", "worse"]
