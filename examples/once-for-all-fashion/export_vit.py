"""The transformer of `vit.py` as ONNX, and what is elastic in it."""

import numpy as np

import vit
from graph import Description, Graph


def build(params):
    """The ONNX model of the largest network."""
    g = Graph(params)
    f = vit.FEATURES
    g.tensors |= {
        "tokens": np.array([0, f, vit.TOKENS], np.int64),
        "attention.scale": np.array(vit.HEAD_DIM**-0.5, np.float32),
        "gelu.root": np.array(0.5**0.5, np.float32),
        "gelu.one": np.array(1, np.float32),
        "gelu.half": np.array(0.5, np.float32),
    }

    def dense(name, x):
        y = g.add("MatMul", [x, f"{name}.weight"], f"{name}.product")
        return g.add("Add", [y, f"{name}.bias"], f"{name}.out")

    def norm(name, x):
        inputs = [x, f"{name}.scale", f"{name}.shift"]
        return g.add("LayerNormalization", inputs, f"{name}.out", axis=-1, epsilon=vit.EPSILON)

    def attention(b, x):
        g.tensors[f"{b}.heads.shape"] = np.array([0, 0, vit.HEADS[-1], vit.HEAD_DIM], np.int64)
        g.tensors[f"{b}.inner.shape"] = np.array([0, 0, vit.HEADS[-1] * vit.HEAD_DIM], np.int64)
        parts = g.add("Split", [dense(f"{b}.qkv", x)], [f"{b}.{p}" for p in "qkv"], axis=-1)
        shaped = [g.add("Reshape", [p, f"{b}.heads.shape"], f"{p}.heads") for p in parts]
        perms = [0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]
        q, k, v = (g.add("Transpose", [s], f"{s}.first", perm=perm) for s, perm in zip(shaped, perms))
        scores = g.add("Mul", [g.add("MatMul", [q, k], f"{b}.scores"), "attention.scale"], f"{b}.scaled")
        y = g.add("MatMul", [g.add("Softmax", [scores], f"{b}.weights", axis=-1), v], f"{b}.mixed")
        y = g.add("Transpose", [y], f"{b}.mixed.tokens", perm=[0, 2, 1, 3])
        return dense(f"{b}.project", g.add("Reshape", [y, f"{b}.inner.shape"], f"{b}.joined"))

    def feed_forward(b, x):
        x = dense(f"{b}.fc1", x)
        y = g.add("Erf", [g.add("Mul", [x, "gelu.root"], f"{b}.gelu.scaled")], f"{b}.gelu.erf")
        y = g.add("Mul", [x, g.add("Add", [y, "gelu.one"], f"{b}.gelu.shifted")], f"{b}.gelu.product")
        return dense(f"{b}.fc2", g.add("Mul", [y, "gelu.half"], f"{b}.gelu.out"))

    sides = {"kernel_shape": [vit.PATCH] * 2, "strides": [vit.PATCH] * 2}
    x = g.add("Conv", ["input", "patches.weight", "patches.bias"], "patches.out", **sides)
    x = g.add("Transpose", [g.add("Reshape", [x, "tokens"], "patches.flat")], "patches.tokens", perm=[0, 2, 1])
    x = g.add("Add", [x, "positions"], "block0.out")
    for b in vit.BLOCKS:
        x = g.add("Add", [x, attention(b, norm(f"{b}.norm1", x))], f"{b}.middle")
        x = g.add("Add", [x, feed_forward(b, norm(f"{b}.norm2", x))], f"{b}.out")
    x = g.add("ReduceMean", [norm("norm", x)], "features", axes=[1], keepdims=0)
    g.add("Gemm", [x, "classifier.weight", "classifier.bias"], "logits", transB=1)
    return g.model(vit.NAME, vit.SIZE, vit.CLASSES)


def describe():
    """The text of supernet.toml."""
    text = Description(vit.CHOICES)
    inner = [h * vit.HEAD_DIM for h in vit.HEADS]
    wide = [r * vit.FEATURES for r in vit.RATIOS]
    for before, b in zip(("block0", *vit.BLOCKS), vit.BLOCKS):
        left_out = [d for d in vit.DEPTHS if d < vit.BLOCKS.index(b) + 1]
        if left_out:
            text.table("skip", choice="depth", options=left_out, source=f"{before}.out", to=f"{b}.out")
        heads, ffn = f"{b}.heads", f"{b}.ffn"
        qkv = [f"{b}.qkv.weight:1", f"{b}.qkv.bias:0"]
        text.table("cut", choice=heads, sizes=[3 * i for i in inner], of=qkv, parts=3)
        text.table("cut", choice=heads, sizes=inner, of=[f"{b}.project.weight:0"])
        shapes = [[0, 0, h, vit.HEAD_DIM] for h in vit.HEADS]
        text.table("constant", choice=heads, tensor=f"{b}.heads.shape", values=shapes)
        text.table("constant", choice=heads, tensor=f"{b}.inner.shape", values=[[0, 0, i] for i in inner])
        of = [f"{b}.fc1.weight:1", f"{b}.fc1.bias:0", f"{b}.fc2.weight:0"]
        text.table("cut", choice=ffn, sizes=wide, of=of)
    return str(text)
