"""Models in floats of 16 bits against onnxruntime, live: real models made such, and isnet, which was published so.

    PYTHON tests/conformance/half.py --cmd 'target/release/edge-run-case {model} {inputs_dir} {out_dir}' [--filter REGEX] [--large]

Each float model of the cache (`tests/models/fetch.py --set ci`) in four forms: `f16` (weights, inputs and outputs, by onnxruntime's own
converter), `io` (inputs and outputs stay f32), `mixed` (some operators stay f32, casts between) and `bf16` (every float of the file).

What is right is the same file with every 16-bit type made f32: the weights' values are the same, and nothing between is rounded. An
output may differ by one rounding to its own type, and by 1e-3 of the largest and 1e-6 for the order of sums (and for roundings that a mixed
model asks for itself). Printed beside it: how far onnxruntime's own run of the f16 form is from the same.
"""
import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
import fetch  # noqa: E402

NARROW = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
STEP = {TensorProto.FLOAT: 0.0, TensorProto.FLOAT16: 2.0 ** -10, TensorProto.BFLOAT16: 2.0 ** -7}
OF_LARGEST = 1e-3
ABSOLUTE = 1e-6  # functions of f32: a sigmoid far below 0 has few right digits
MODELS = {  # file, sizes of free dimensions by position
    "efficientnet": ("efficientnet-lite0", "efficientnet-lite0.onnx", [1, 3, 224, 224]),
    "det": ("rapidocr", "ch_PP-OCRv4_det_infer.onnx", [1, 3, 96, 160]),
    "rec": ("rapidocr", "ch_PP-OCRv4_rec_infer.onnx", [1, 3, 48, 160]),
    "cls": ("rapidocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx", [1, 3, 48, 192]),
    "nudenet": ("nudenet", "320n.onnx", [1, 3, 320, 320]),
    "basic-pitch": ("basic-pitch", "nmp.onnx", [1, 43844, 1]),
}
LARGE = {"isnet": ("isnet", "isnet_fp16.onnx", [1, 3, 1024, 1024])}


def graphs(graph):
    """A graph and those of its branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def retyped(model, of, to):
    """A copy of the model with every float type in `of` made `to`, stored numbers included."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    kind = helper.tensor_dtype_to_np_dtype(to)

    def tensor(t):
        if t.data_type in of:
            array = numpy_helper.to_array(t).astype(np.float32).astype(kind)
            t.CopyFrom(numpy_helper.from_array(array, t.name))

    for graph in graphs(model.graph):
        for t in graph.initializer:
            tensor(t)
        for info in list(graph.input) + list(graph.output) + list(graph.value_info):
            if info.type.tensor_type.elem_type in of:
                info.type.tensor_type.elem_type = to
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    tensor(attribute.t)
                if attribute.name in ("to", "dtype") and attribute.i in of:
                    attribute.i = to
    return model


def forms(model):
    """{name: model} of a float model."""
    mixed = ["Softmax", "ReduceMean", "Resize", "HardSigmoid", "Sigmoid", "ConvTranspose"]
    copy = lambda: onnx.ModelProto.FromString(model.SerializeToString())  # noqa: E731
    return {
        "f16": convert_float_to_float16(copy(), keep_io_types=False, op_block_list=[]),
        "io": convert_float_to_float16(copy(), keep_io_types=True, op_block_list=[]),
        "mixed": convert_float_to_float16(copy(), keep_io_types=False, op_block_list=mixed),
        "bf16": retyped(model, {TensorProto.FLOAT}, TensorProto.BFLOAT16),
    }


def outputs(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(o, np.float32) for o in session.run(None, inputs)]


def given(model, shape, seed=3):
    """A random input of the model's own type, by name."""
    info = model.graph.input[0]
    sizes = [d.dim_value if d.dim_value > 0 else shape[i]
             for i, d in enumerate(info.type.tensor_type.shape.dim)]
    kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    return {info.name: np.random.default_rng(seed).uniform(-1, 1, sizes).astype(kind)}


def ours(command, model, inputs, folder):
    """What the command gives, and the names of types; raises with what it said."""
    path, data, out = folder / "model.onnx", folder / "in", folder / "out"
    data.mkdir(), out.mkdir()
    onnx.save(model, path)
    for i, info in enumerate(model.graph.input):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(inputs[info.name]).SerializeToString())
    words = [w.format(model=path, inputs_dir=data, out_dir=out) for w in shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[:400])
    results = []
    for i in range(len(model.graph.output)):
        pb = out / f"output_{i}.pb"
        if pb.is_file():
            results.append(numpy_helper.to_array(onnx.TensorProto.FromString(pb.read_bytes())))
        else:
            results.append(np.load(out / f"output_{i}.npy"))
    return results


def apart(got, want):
    """The greatest difference, as a share of the largest element."""
    return float(np.abs(got.astype(np.float32) - want).max() / max(np.abs(want).max(), 1e-30))


def check(command, name, model, shape):
    """Whether a model's outputs are right; prints a line."""
    inputs = given(model, shape)
    wide = retyped(model, set(NARROW), TensorProto.FLOAT)
    want = outputs(wide, {k: v.astype(np.float32) if v.dtype != np.int64 else v for k, v in inputs.items()})
    with tempfile.TemporaryDirectory() as folder:
        got = ours(command, model, inputs, pathlib.Path(folder))
    fine, shares = True, []
    for info, g, w in zip(model.graph.output, got, want):
        kind = info.type.tensor_type.elem_type
        typed = g.dtype == helper.tensor_dtype_to_np_dtype(kind) and g.shape == w.shape
        bound = STEP[kind] * np.abs(w) + OF_LARGEST * np.abs(w).max() + ABSOLUTE
        fine &= typed and bool((np.abs(g.astype(np.float32) - w) <= bound).all())
        shares.append(apart(g, w) if g.shape == w.shape else float("nan"))
    try:
        theirs = f"{max(apart(g, w) for g, w in zip(outputs(model, inputs), want)):.1e}"
    except Exception:  # onnxruntime has few operators in bf16
        theirs = "none"
    print(f"{'pass' if fine else 'WRONG':6} {name}: {max(shares):.1e} of the largest; onnxruntime {theirs}", flush=True)
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cmd", required=True)
    parser.add_argument("--filter", default="", help="regular expression over names")
    parser.add_argument("--large", action="store_true", help="isnet too (tests/models/fetch.py isnet; 88 MB, a minute)")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave the models in")
    args = parser.parse_args()
    bad = 0
    for name, (entry, file, shape) in (MODELS | (LARGE if args.large else {})).items():
        model = onnx.load(fetch.cached(entry, file))
        for form, made in ({"published": model} if name in LARGE else forms(model)).items():
            if not re.search(args.filter, f"{name} {form}"):
                continue
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
                onnx.save(made, args.keep / f"{name}-{form}.onnx")
            try:
                bad += not check(args.cmd, f"{name} {form}", made, shape)
            except Exception as error:
                bad += 1
                print(f"FAILED {name} {form}: {error}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
