"""Lays the ONNX backend tests out as plain files: SUITE/GROUP/TEST/{model.onnx, test_data_set_K/*.pb}.

Source: the test data inside the PyPI package `onnx` (1.22.0 is the last release that ships the node tests as
files). A test whose operands an exporter would write as constants also gets SUITE/GROUP/TEST/static/, the same
test with those operands as initializers.
"""
import json
import pathlib
import re
import shutil

import numpy as np
import onnx
from onnx import numpy_helper

GROUPS = ["node", "simple", "pytorch-operator", "pytorch-converted", "light", "models"]
COPIED = GROUPS[:4]

# Operand positions that hold shapes, axes, quantisation parameters or weights in exported models. Node tests
# pass them as graph inputs, which no exporter does.
CONSTANT_OPERANDS = {
    1: """Reshape Expand Tile Upsample Squeeze Unsqueeze Split TopK CumSum CumProd Trilu CenterCropPad AffineGrid
          SplitToSequence ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
          ReduceSum ReduceSumSquare RMSNormalization PRelu""",
    (1, 2): """OneHot Clip DFT Col2Im Dropout Conv ConvTranspose QuantizeLinear DequantizeLinear Gemm
               InstanceNormalization LayerNormalization GroupNormalization RotaryEmbedding""",
    (1, 2, 3): "Pad Resize STFT ConvInteger MatMulInteger GRU RNN",
    (1, 2, 3, 4): "Slice BatchNormalization",
    (1, 2, 3, 7): "LSTM",
    (1, 3): "DeformConv",
    (1, 2, 3, 4, 5, 6, 7): "QLinearMatMul",
    (1, 2, 3, 4, 5, 6, 7, 8): "QLinearConv",
    0: "ConstantOfShape HannWindow HammingWindow BlackmanWindow",
    (0, 1): "Loop",
    (0, 1, 2): "Range",
    (0, 1, 2, 3, 4): "MelWeightMatrix",
    (2, 3, 4): "NonMaxSuppression",
    2: "MaxUnpool",
}
POSITIONS = {op: {p} if isinstance(p, int) else set(p) for p, ops in CONSTANT_OPERANDS.items() for op in ops.split()}


def runtime_inputs(graph):
    """Graph inputs that a caller feeds: those without an initializer."""
    given = {i.name for i in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    return [i for i in graph.input if i.name not in given]


def data_sets(case):
    """test_data_set_* folders of a test, in order of their number."""
    return sorted(case.glob("test_data_set_*"), key=lambda p: int(p.name.rsplit("_", 1)[1]))


def write_value(path, value, name):
    """One tensor as the suite stores it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numpy_helper.from_array(np.asarray(value), name).SerializeToString())


def copy_groups(data, out):
    """The groups that are stored as files. Returns {group: tests}."""
    counts = {}
    for group in COPIED:
        for case in sorted((data / group).iterdir()):
            if (case / "model.onnx").is_file():
                shutil.copytree(case, out / group / case.name)
                counts[group] = counts.get(group, 0) + 1
    if not counts.get("node"):
        raise SystemExit(f"onnx {onnx.__version__} ships no node tests as files; install onnx 1.22.0")
    return counts


def ramp(shape):
    """The input that the stored outputs of the light models were made with: i / size."""
    size = int(np.prod(shape))
    return (np.arange(size) / size).astype(np.float32).reshape(shape)


def lay_out_light(data, out):
    """Light models: whole CNNs with tiny constant weights and stored outputs. Returns how many."""
    count = 0
    for meta_file in sorted((data / "real").glob("test_*/data.json")):
        meta = json.loads(meta_file.read_text())
        model_file = data / "light" / f"light_{meta['model_name']}.onnx"
        output = model_file.with_name(model_file.stem + "_output_0.pb")
        if not (model_file.is_file() and output.is_file()):
            continue
        case = out / "light" / meta_file.parent.name
        first = case / "test_data_set_0"
        first.mkdir(parents=True)
        shutil.copy(model_file, case / "model.onnx")
        shutil.copy(output, first / "output_0.pb")
        bounds = {k: meta[k] for k in ("rtol", "atol") if k in meta}
        (case / "data.json").write_text(json.dumps(bounds))
        for i, x in enumerate(runtime_inputs(onnx.load(model_file).graph)):
            dims = [d.dim_value or 1 for d in x.type.tensor_type.shape.dim]
            write_value(first / f"input_{i}.pb", ramp(dims), x.name)
        count += 1
    return count


def constant_inputs(graph):
    """Names of graph inputs that appear only at constant operand positions, never inside a subgraph."""
    constant, other = set(), {o.name for o in graph.output}

    def visit(nodes, top):
        for n in nodes:
            positions = POSITIONS.get(n.op_type, ()) if top and n.domain in ("", "ai.onnx") else ()
            for p, name in enumerate(n.input):
                (constant if p in positions else other).add(name)
            for a in n.attribute:
                for sub in list(a.graphs) + ([a.g] if a.HasField("g") else []):
                    visit(sub.node, False)

    visit(graph.node, True)
    return {i.name for i in runtime_inputs(graph)
            if i.name in constant - other and i.type.WhichOneof("value") == "tensor_type"}


def base_name(test):
    """An `_expanded` test (a function's body instead of the operator) without its suffix."""
    return re.sub(r"_expanded(_ver\d+)?$", "", test)


def write_static(case, names):
    """Writes CASE/static with the named inputs as initializers. Returns whether there was anything to fold."""
    model = onnx.load(case / "model.onnx")
    inputs = runtime_inputs(model.graph)
    sets = data_sets(case)
    files = [sets[0] / f"input_{i}.pb" for i in range(len(inputs))] if len(sets) == 1 else []
    # Several data sets would need several models; a missing file is an absent optional input.
    if not files or not all(f.is_file() for f in files) or not names & {i.name for i in inputs}:
        return False
    out = case / "static" / "test_data_set_0"
    out.mkdir(parents=True)
    kept = 0
    for value, file in zip(inputs, files):
        if value.name in names:
            tensor = model.graph.initializer.add()
            tensor.ParseFromString(file.read_bytes())
            tensor.name = value.name
        else:
            shutil.copy(file, out / f"input_{kept}.pb")
            kept += 1
    remaining = [i for i in model.graph.input if i.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(remaining)
    model.ir_version = max(model.ir_version, 4)  # before 4, every initializer had to be a graph input too
    (case / "static" / "model.onnx").write_bytes(model.SerializeToString())
    for f in sets[0].glob("output_*.pb"):
        shutil.copy(f, out)
    if (case / "data.json").is_file():
        shutil.copy(case / "data.json", case / "static")
    return True


def fold_constants(out):
    """A static variant for every test that has one; an expanded test folds what its base folds. Returns how many."""
    cases = sorted(p.parent for p in out.glob("*/*/model.onnx"))
    names = {c: constant_inputs(onnx.load(c / "model.onnx").graph) for c in cases}
    return sum(write_static(c, names[c] | names.get(c.with_name(base_name(c.name)), set())) for c in cases)


def lay_out(out, data=None):
    """Writes the whole suite (without the group `models`). Returns what suite.json records."""
    data = pathlib.Path(data) if data else pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"
    counts = copy_groups(data, out)
    counts["light"] = lay_out_light(data, out)
    return {"onnx": onnx.__version__, "tests": counts, "static": fold_constants(out)}
