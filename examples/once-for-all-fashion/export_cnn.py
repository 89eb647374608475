"""The CNN of `model.py` as ONNX, and what is elastic in it."""

import numpy as np

import model
from graph import Description, Graph


def build(params):
    """The ONNX model of the largest network, means 0 and variances 1."""
    g = Graph(params)

    def conv(name, x, bias=False, stride=1, depthwise=False):
        weight = g.tensors[f"{name}.weight"]
        kernel = weight.shape[-1]
        return g.add(
            "Conv",
            [x, f"{name}.weight"] + ([f"{name}.bias"] if bias else []),
            f"{name}.out",
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=len(weight) if depthwise else 1,
        )

    def norm(name, x, activation=None):
        channels = len(g.tensors[f"{name}.scale"])
        g.tensors[f"{name}.mean"] = np.zeros(channels, np.float32)
        g.tensors[f"{name}.variance"] = np.ones(channels, np.float32)
        inputs = [x] + [f"{name}.{part}" for part in ("scale", "shift", "mean", "variance")]
        x = g.add("BatchNormalization", inputs, f"{name}.out", epsilon=model.BN_EPSILON)
        return g.add(activation, [x], f"{name}.{activation.lower()}") if activation else x

    x = norm("stem.bn", conv("stem.conv", "input", stride=2), "HardSwish")
    for b in model.BLOCKS:
        y = norm(f"{b.name}.bn1", conv(f"{b.name}.conv1", x), b.activation)
        y = conv(f"{b.name}.depthwise", y, stride=b.stride, depthwise=True)
        y = norm(f"{b.name}.bn2", y, b.activation)
        if b.excite:
            s = conv(f"{b.name}.reduce", g.add("GlobalAveragePool", [y], f"{b.name}.pool"), bias=True)
            s = conv(f"{b.name}.excite", g.add("Relu", [s], f"{b.name}.reduce.relu"), bias=True)
            s = g.add("HardSigmoid", [s], f"{b.name}.gate", alpha=1 / 6, beta=0.5)
            y = g.add("Mul", [y, s], f"{b.name}.excited")
        y = norm(f"{b.name}.bn3", conv(f"{b.name}.conv2", y))
        x = g.add("Add", [x, y], leaves(b)) if b.residual else y
    x = norm("head.bn", conv("head.conv", x), "HardSwish")
    x = g.add("Flatten", [g.add("GlobalAveragePool", [x], "pool")], "features")
    g.add("Gemm", [x, "classifier.weight", "classifier.bias"], "logits", transB=1)
    return g.model(model.NAME, model.SIZE, model.CLASSES)


def leaves(block):
    """The tensor that leaves a block: a sum where it has a shortcut, else its last normalisation."""
    return f"{block.name}.out" if block.residual else f"{block.name}.bn3.out"


def describe():
    """The text of supernet.toml."""
    text = Description(model.CHOICES)
    text.table("resolution", choice="resolution", input="input", sizes=model.RESOLUTIONS)
    for before, b in zip((None, *model.BLOCKS), model.BLOCKS):
        n = b.name
        if b.index > 1:
            out = list(range(1, b.index))
            text.table("skip", choice=f"stage{b.stage}.depth", options=out, source=leaves(before), to=leaves(b))
        of = [f"{n}.conv1.weight:0", f"{n}.bn1.*:0", f"{n}.depthwise.weight:0", f"{n}.bn2.*:0", f"{n}.conv2.weight:1"]
        if b.excite:
            of += [f"{n}.reduce.weight:1", f"{n}.excite.weight:0", f"{n}.excite.bias:0"]
        text.table("cut", choice=f"{n}.expand", sizes=b.mids, of=of)
        if b.excite:
            of = [f"{n}.reduce.weight:0", f"{n}.reduce.bias:0", f"{n}.excite.weight:1"]
            text.table("cut", choice=f"{n}.expand", sizes=b.squeezed, of=of)
        text.table(
            "kernel",
            choice=f"{n}.kernel",
            sizes=model.KERNELS,
            weight=f"{n}.depthwise.weight",
            transforms=[f"{n}.depthwise.7to5", f"{n}.depthwise.5to3"],
        )
    return str(text)
