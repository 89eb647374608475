"""Cuts one subnet out of a largest-network ONNX file and its supernet.toml, on the level of ONNX alone.

    supernet.py model.onnx supernet.toml --choose stage1.depth=2,resolution=24 -o subnet.onnx [--calib images.npz]
    supernet.py model.onnx supernet.toml --random 7 -o subnet.onnx

An oracle for the converter: it shares no code with it, and takes the plainest way everywhere (slices, copies, rewired
names). Choices that are not named stay at their last option. `--calib` estimates the means and variances of every
BatchNormalization anew: the array named like the graph's input, u8 is divided by 255.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference

RULES = ("choice", "skip", "cut", "kernel", "resolution", "constant", "repeat")


class Bad(ValueError):
    """The file, the description or the choice do not fit; the message names what and where."""


def read_toml(path):
    """The description: {"choice": {name: options}, rule: [tables]}."""
    spec = tomllib.loads(Path(path).read_text())
    for key in spec:
        if key not in RULES:
            raise Bad(f"{path}: `[[{key}]]` is none of {', '.join(RULES)}")
    choices = {}
    for c in spec.get("choice", []):
        if c["name"] in choices or not c["options"]:
            raise Bad(f"{path}: choice `{c['name']}` is there twice or has no options")
        choices[c["name"]] = c["options"]
    for rule in RULES[1:]:
        for table in spec.setdefault(rule, []):
            name = table["choice"]
            if name not in choices:
                raise Bad(f"{path}: a {rule} names the choice `{name}`; there are {', '.join(choices)}")
            per_option = table.get("sizes") or table.get("values") or table.get("times")
            if per_option is not None and len(per_option) != len(choices[name]):
                raise Bad(f"{path}: a {rule} has {len(per_option)} entries, `{name}` {len(choices[name])} options")
    return {**spec, "choice": choices}


def parse_choice(choices, text):
    """{choice: index of its option} from "name=option,..."."""
    chosen = {name: len(options) - 1 for name, options in choices.items()}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in choices:
            raise Bad(f"no choice `{name}`; there are {', '.join(choices)}")
        words = [str(o) for o in choices[name]]
        if value not in words:
            raise Bad(f"`{name}` is one of {', '.join(words)}, not `{value}`")
        chosen[name] = words.index(value)
    return chosen


def random_choice(choices, rng):
    return {name: int(rng.integers(len(options))) for name, options in choices.items()}


class Graph:
    """A model's nodes and initializers (as arrays), edited by name."""

    def __init__(self, model):
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes = list(self.model.graph.node)
        self.tensors = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.original = {name: t.shape for name, t in self.tensors.items()}

    def tensor(self, name):
        if name not in self.tensors:
            raise Bad(f"no initializer `{name}` in the model")
        return self.tensors[name]

    def produced(self):
        return {o for n in self.nodes for o in n.output} | {i.name for i in self.model.graph.input}

    def finish(self):
        """The model, without nodes and initializers that nothing needs any more."""
        needed = {o.name for o in self.model.graph.output}
        kept = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.insert(0, node)
                needed |= set(node.input)
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(kept)
        graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(t), n) for n, t in self.tensors.items() if n in needed
        )
        onnx.checker.check_model(self.model)
        return self.model


def cut(graph, size, sizes, names, parts):
    """Cuts an axis of each named initializer (`glob:axis`) to its first `size` entries, in each of `parts` equal parts."""
    for entry in names:
        pattern, _, axis = entry.rpartition(":")
        axis = int(axis)
        regex = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))
        found = [n for n in graph.tensors if regex.fullmatch(n)]
        if not found:
            raise Bad(f"cut: no initializer matches `{pattern}`")
        for name in found:
            shape, whole = graph.tensors[name].shape, graph.original[name]
            if axis >= len(whole) or whole[axis] != sizes[-1]:
                raise Bad(f"cut: axis {axis} of `{name}` {list(whole)} has not the largest size {sizes[-1]}")
            if size % parts or shape[axis] % parts:
                raise Bad(f"cut: {size} of axis {axis} of `{name}` is not {parts} equal parts")
            split = np.split(graph.tensors[name], parts, axis)
            graph.tensors[name] = np.concatenate([np.take(p, range(size // parts), axis) for p in split], axis)


def shrink_kernel(graph, table, index):
    """Shrinks a convolution's window to its middle, through the transforms; kernel_shape and pads follow."""
    sizes, name = table["sizes"], table["weight"]
    weight = graph.tensor(name)
    if weight.shape[-1] != sizes[-1] or weight.shape[-2] != sizes[-1]:
        raise Bad(f"kernel: `{name}` {list(weight.shape)} has not the largest window {sizes[-1]}")
    transforms = table.get("transforms", [])
    if transforms and len(transforms) != len(sizes) - 1:
        raise Bad(f"kernel: `{name}` needs {len(sizes) - 1} transforms, not {len(transforms)}")
    for step, size in enumerate(sizes[-2:-len(sizes) - 1:-1][: len(sizes) - 1 - index]):
        margin = (weight.shape[-1] - size) // 2
        weight = weight[..., margin : margin + size, margin : margin + size]
        if transforms:
            matrix = graph.tensor(transforms[step])
            if matrix.shape != (size**2, size**2):
                raise Bad(f"kernel: `{transforms[step]}` {list(matrix.shape)} is not [{size**2}, {size**2}]")
            flat = weight.reshape(*weight.shape[:2], size**2)
            weight = np.einsum("ij,cdj->cdi", matrix, flat).reshape(weight.shape).astype(np.float32)
    graph.tensors[name] = weight
    for node in graph.nodes:
        if node.op_type == "Conv" and node.input[1] == name:
            shrunk = (sizes[-1] - sizes[index]) // 2
            for attribute in node.attribute:
                if attribute.name == "kernel_shape":
                    attribute.ints[:] = [sizes[index]] * 2
                if attribute.name == "pads":
                    dilations = next((list(a.ints) for a in node.attribute if a.name == "dilations"), [1, 1])
                    attribute.ints[:] = [p - shrunk * d for p, d in zip(attribute.ints, dilations * 2)]


def follow_groups(graph):
    """A depthwise convolution whose channels were cut has fewer groups; the description does not repeat that."""
    for node in graph.nodes:
        if node.op_type == "Conv" and node.input[1] in graph.tensors:
            whole, shape = graph.original[node.input[1]], graph.tensors[node.input[1]].shape
            for attribute in node.attribute:
                if attribute.name == "group" and attribute.i == whole[0] and whole[1] == 1:
                    attribute.i = shape[0]


def resize(graph, table, index):
    """The picture is resized inside the network; nothing is added at the input's own size."""
    name, size = table["input"], table["sizes"][index]
    info = next((i for i in graph.model.graph.input if i.name == name), None)
    if info is None:
        raise Bad(f"resolution: no input `{name}` in the model")
    own = [d.dim_value for d in info.type.tensor_type.shape.dim][-2:]
    if own == [size, size]:
        return
    if table.get("antialias"):
        raise Bad("resolution: this reference has no antialiasing (opset 17 has none)")
    # One step up, so that rounding never makes the output a pixel smaller; sizes would need the batch size.
    scales = [1, 1] + [np.nextafter(np.float32(size / s), np.float32(2)) for s in own]
    graph.tensors["resolution.scales"] = np.array(scales, np.float32)
    for node in graph.nodes:
        node.input[:] = ["resolution.resized" if i == name else i for i in node.input]
    graph.nodes.insert(
        0,
        helper.make_node(
            "Resize",
            [name, "", "resolution.scales"],
            ["resolution.resized"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
    )


def between(graph, start, end):
    """The nodes that `end` needs and that need `start`, in order."""
    touched, inside = {start}, []
    for node in graph.nodes:
        if touched & set(node.input):
            touched |= set(node.output)
            inside.append(node)
    needed, out = {end}, []
    for node in reversed(inside):
        if needed & set(node.output):
            needed |= set(node.input)
            out.insert(0, node)
    if end not in touched or start == end:
        raise Bad(f"repeat: `{end}` does not depend on `{start}`")
    return out


def repeat(graph, table, times):
    """The nodes from `from` to `to`, which the file has once, `times` times with the same weights."""
    block = between(graph, table["from"], table["to"])
    after = graph.nodes.index(block[-1]) + 1
    made, last = {o for n in block for o in n.output}, table["to"]
    copies = []
    for turn in range(1, times):
        rename = {t: f"{t}.turn{turn}" for t in made} | {table["from"]: last}
        for node in block:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [rename.get(i, i) for i in node.input]
            copy.output[:] = [rename[o] for o in node.output]
            copy.name = f"{node.name}.turn{turn}"
            copies.append(copy)
        last = rename[table["to"]]
    for node in graph.nodes:
        if node not in block:
            node.input[:] = [last if i == table["to"] else i for i in node.input]
    graph.nodes[after:after] = copies


def skip(graph, skipped):
    """Who reads a skipped block's output reads its input. `skipped`: [(from, to)]."""
    produced = graph.produced()
    instead = {}
    for source, target in skipped:
        for name in (source, target):
            if name not in produced:
                raise Bad(f"skip: no tensor `{name}` in the model")
        instead[target] = source

    def resolve(name):
        while name in instead:
            name = instead[name]
        return name

    for node in graph.nodes:
        node.input[:] = [resolve(i) for i in node.input]
    for output in graph.model.graph.output:
        if output.name in instead:
            for node in graph.nodes:
                node.output[:] = ["" if o == output.name else o for o in node.output]
            graph.nodes.append(helper.make_node("Identity", [resolve(output.name)], [output.name]))


def subnet(model, spec, chosen):
    """The ONNX model of one subnet. `chosen`: {choice: index of its option}."""
    graph = Graph(model)
    for table in spec["cut"]:
        size = table["sizes"][chosen[table["choice"]]]
        cut(graph, size, table["sizes"], table["of"], table.get("parts", 1))
    for table in spec["kernel"]:
        shrink_kernel(graph, table, chosen[table["choice"]])
    follow_groups(graph)
    for table in spec["constant"]:
        old = graph.tensor(table["tensor"])
        graph.tensors[table["tensor"]] = np.array(table["values"][chosen[table["choice"]]], old.dtype)
    for table in spec["repeat"]:
        repeat(graph, table, table["times"][chosen[table["choice"]]])
    skip(
        graph,
        [
            (t["from"], t["to"])
            for t in spec["skip"]
            if spec["choice"][t["choice"]][chosen[t["choice"]]] in t["options"]
        ],
    )
    for table in spec["resolution"]:
        resize(graph, table, chosen[table["choice"]])
    return graph.finish()


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def normalised_anew(model, inputs, batch=500):
    """The model with means and variances of `inputs` (one array, [N,...]) in every BatchNormalization.

    The mean over batches of each batch's mean and biased variance, every layer fed with the normalised values of the
    same batch, as in training. `inputs` is cut to whole batches.
    """
    graph = Graph(model)
    batch = min(batch, len(inputs))
    norms, nodes, wanted = [], [], []
    for node in graph.nodes:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        x, scale, shift, mean, variance = node.input
        y, own = node.output[0], f"{node.output[0]}.own"
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        channels = len(graph.tensor(scale))
        graph.tensors[f"{own}.eps"] = np.array(epsilon, np.float32)
        for n in (scale, shift):
            graph.tensors[f"{own}.{n}"] = graph.tensor(n).reshape(1, channels, 1, 1)
        parts = (
            ("ReduceMean", [x], f"{own}.mean", {"axes": [0, 2, 3], "keepdims": 1}),
            ("Sub", [x, f"{own}.mean"], f"{own}.centred", {}),
            ("Mul", [f"{own}.centred"] * 2, f"{own}.square", {}),
            ("ReduceMean", [f"{own}.square"], f"{own}.variance", {"axes": [0, 2, 3], "keepdims": 1}),
            ("Add", [f"{own}.variance", f"{own}.eps"], f"{own}.shifted", {}),
            ("Sqrt", [f"{own}.shifted"], f"{own}.deviation", {}),
            ("Div", [f"{own}.centred", f"{own}.deviation"], f"{own}.normal", {}),
            ("Mul", [f"{own}.normal", f"{own}.{scale}"], f"{own}.scaled", {}),
            ("Add", [f"{own}.scaled", f"{own}.{shift}"], y, {}),
        )
        nodes += [helper.make_node(op, i, [o], **attributes) for op, i, o, attributes in parts]
        norms.append((mean, variance))
        for n in (f"{own}.mean", f"{own}.variance"):
            wanted.append(n)
            graph.model.graph.output.append(helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, channels, 1, 1]))
    if not norms:
        return graph.finish()
    graph.nodes = nodes
    run = session(graph.finish())
    name = run.get_inputs()[0].name
    sums = [
        run.run(wanted, {name: inputs[i : i + batch].astype(np.float32)})
        for i in range(0, len(inputs) - batch + 1, batch)
    ]
    values = [np.mean([s[i].ravel() for s in sums], 0) for i in range(len(wanted))]
    out = Graph(model)
    for i, (mean, variance) in enumerate(norms):
        out.tensors[mean], out.tensors[variance] = values[2 * i], values[2 * i + 1]
    return out.finish()


def macs(model, shape):
    """Multiply-adds of Conv, Gemm and MatMul at an input of `shape` (batch 1)."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape):
        dim.dim_value = size
    inferred = shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*inferred.value_info, *inferred.output, *inferred.input]
    }
    shapes |= {t.name: list(t.dims) for t in fixed.graph.initializer}
    total = 0
    for node in fixed.graph.node:
        out = int(np.prod(shapes[node.output[0]])) if node.output[0] in shapes else 0
        if node.op_type == "Conv":
            total += out * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            total += out * shapes[node.input[0]][-1]
    return total


def parameters(model):
    """Elements of all initializers that a node uses."""
    used = {i for n in model.graph.node for i in n.input}
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.name in used)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("toml", type=Path)
    parser.add_argument("--choose", default="", help="name=option,...")
    parser.add_argument("--random", type=int, help="a random subnet, by this seed; --choose is ignored")
    parser.add_argument("--calib", type=Path, help=".npz for the statistics of batch normalisation")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        model, spec = onnx.load(args.model), read_toml(args.toml)
        if args.random is None:
            chosen = parse_choice(spec["choice"], args.choose)
        else:
            chosen = random_choice(spec["choice"], np.random.default_rng(args.random))
        made = subnet(model, spec, chosen)
        if args.calib:
            images = np.load(args.calib)[made.graph.input[0].name]
            images = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
            made = normalised_anew(made, images)
    except Bad as error:
        sys.exit(f"supernet.py: {error}")
    onnx.save(made, args.out)
    print(",".join(f"{name}={spec['choice'][name][i]}" for name, i in chosen.items()))
    print(f"{args.out}: {parameters(made):,} parameters, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
