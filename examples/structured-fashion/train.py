"""Trains one small classifier of Fashion-MNIST four times and writes each as an ONNX file whose weights are ordinary dense arrays.

dense     as it is.
low-rank  every matrix but the first and the last is a product U V of rank 16 while it is trained, and is multiplied out in the file.
nuclear   the same with as many columns as the matrix can have and a penalty on |U|^2 + |V|^2, which is the nuclear norm of U V: its
          singular values fade away instead of ending.
2-of-4    of every four neighbours along the input dimension the two smallest are 0: gradients go straight through to all
          (SR-STE, Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch").
"""

import argparse
import functools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "supernet-fashion"))

import data  # noqa: E402

BATCH = 128
RATE = 2e-3
RANK = 16
NUCLEAR = 1e-3
# How strongly a weight that is left out is drawn to 0, so that the choice settles.
DECAY = 2e-4
OPSET = 17
IR_VERSION = 8
# Convolutions: name, output channels, input channels; 3 x 3, two steps of 2 and one of 1. Then linear layers.
CONVS = [("conv1", 16, 1, 2), ("conv2", 48, 16, 2), ("conv3", 64, 48, 1)]
LINEARS = [("fc1", 256, 64), ("fc2", 256, 256), ("fc3", 10, 256)]
# Neither the first layer nor the last is shaped: they are small and cost most.
SHAPED = ["conv2", "conv3", "fc1", "fc2"]
KINDS = ["dense", "low-rank", "nuclear", "2-of-4"]


def shapes():
    """Rows and columns of every matrix; a convolution's columns are (kernel y, kernel x, input channel)."""
    convs = {name: (out, 9 * ic) for name, out, ic, _ in CONVS}
    return convs | {name: (out, ins) for name, out, ins in LINEARS}


def initial(kind, seed):
    """Parameters: a matrix a layer, or two where it is a product; a bias."""
    rng = np.random.default_rng(seed)
    params = {}
    for name, (n, k) in shapes().items():
        params[f"{name}.bias"] = np.zeros(n, np.float32)
        w = rng.normal(0, np.sqrt(2 / k), (n, k))
        if name in SHAPED and kind in ("low-rank", "nuclear"):
            rank = RANK if kind == "low-rank" else min(n, k)
            u, d, v = np.linalg.svd(w, full_matrices=False)
            # The energy of all singular values in those that stay.
            d = d[:rank] * np.sqrt((d**2).sum() / (d[:rank] ** 2).sum())
            params[f"{name}.u"] = (u[:, :rank] * np.sqrt(d)).astype(np.float32)
            params[f"{name}.v"] = (np.sqrt(d)[:, None] * v[:rank]).astype(np.float32)
        else:
            params[f"{name}.weight"] = w.astype(np.float32)
    return params


def mask(w):
    """1 where an element is one of the two largest of its four neighbours along the columns."""
    fours = jnp.abs(w).reshape(-1, 4)
    order = jnp.argsort(jnp.argsort(-fours, axis=1), axis=1)
    return (order < 2).astype(w.dtype).reshape(w.shape)


def matrix(params, name, kind):
    """The matrix of a layer as it multiplies."""
    if f"{name}.u" in params:
        return params[f"{name}.u"] @ params[f"{name}.v"]
    w = params[f"{name}.weight"]
    if kind == "2-of-4" and name in SHAPED:
        # The product has the sparse matrix, the gradient goes to all of it.
        return w + jax.lax.stop_gradient(w * mask(w) - w)
    return w


def forward(params, kind, x):
    """Logits of pictures [B,28,28,1]."""
    for name, out, ic, stride in CONVS:
        w = matrix(params, name, kind).reshape(out, 3, 3, ic).transpose(1, 2, 3, 0)
        pads = [(1, 1), (1, 1)]
        x = jax.lax.conv_general_dilated(
            x, w, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[f"{name}.bias"])
    x = x.mean((1, 2))
    for name, _, _ in LINEARS:
        x = x @ matrix(params, name, kind).T + params[f"{name}.bias"]
        x = jax.nn.relu(x) if name != "fc3" else x
    return x


def loss(params, kind, x, labels):
    """Cross entropy, and what the kind adds to it."""
    log_p = jax.nn.log_softmax(forward(params, kind, x))
    total = -jnp.take_along_axis(log_p, labels[:, None], 1).mean()
    for name in SHAPED:
        if kind == "nuclear":
            total += NUCLEAR * ((params[f"{name}.u"] ** 2).sum() + (params[f"{name}.v"] ** 2).sum())
        if kind == "2-of-4":
            w = params[f"{name}.weight"]
            total += DECAY * (((1 - jax.lax.stop_gradient(mask(w))) * w) ** 2).sum()
    return total


@functools.partial(jax.jit, static_argnames="kind")
def step(params, moments, kind, x, labels, rate, t):
    """One step of Adam."""
    value, grads = jax.value_and_grad(loss)(params, kind, x, labels)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
    second = jax.tree.map(lambda m, g: 0.999 * m + 0.001 * g * g, moments[1], grads)
    a, b = 1 - 0.9**t, 1 - 0.999**t
    params = jax.tree.map(
        lambda p, m, v: p - rate * (m / a) / (jnp.sqrt(v / b) + 1e-8), params, first, second
    )
    return params, (first, second), value


def train(kind, images, labels, epochs, seed):
    """Trained parameters."""
    params = initial(kind, seed)
    zeros = jax.tree.map(jnp.zeros_like, params)
    moments = (zeros, zeros)
    rng = np.random.default_rng(seed)
    steps, t = epochs * (len(images) // BATCH), 0
    for epoch in range(epochs):
        order = rng.permutation(len(images))[: len(images) // BATCH * BATCH]
        for pick in order.reshape(-1, BATCH):
            rate = RATE * 0.5 * (1 + np.cos(np.pi * t / steps))
            t += 1
            x = images[pick].transpose(0, 2, 3, 1).astype(np.float32) / 255
            params, moments, value = step(params, moments, kind, x, labels[pick].astype(np.int32), rate, t)
        print(f"{kind}: epoch {epoch + 1} of {epochs}, loss {float(value):.3f}", flush=True)
    return params


def dense(params, name, kind):
    """The matrix of a layer as the file has it."""
    if f"{name}.u" in params:
        u, v = (np.asarray(params[f"{name}.{part}"], np.float64) for part in "uv")
        return (u @ v).astype(np.float32)
    w = np.asarray(params[f"{name}.weight"])
    return w * np.asarray(mask(w)) if kind == "2-of-4" and name in SHAPED else w


def build(params, kind):
    """The ONNX model."""
    nodes, tensors, x = [], {}, "input"

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    for name, out, ic, stride in CONVS:
        w = dense(params, name, kind).reshape(out, 3, 3, ic).transpose(0, 3, 1, 2)
        tensors[f"{name}.weight"] = np.ascontiguousarray(w)
        x = add("Conv", [x, f"{name}.weight", f"{name}.bias"], name, strides=[stride] * 2, pads=[1] * 4)
        x = add("Relu", [x], f"{name}.relu")
    x = add("Flatten", [add("GlobalAveragePool", [x], "pool")], "features")
    for name, _, _ in LINEARS:
        tensors[f"{name}.weight"] = dense(params, name, kind)
        last = name == LINEARS[-1][0]
        x = add("Gemm", [x, f"{name}.weight", f"{name}.bias"], "logits" if last else name, transB=1)
        x = x if last else add("Relu", [x], f"{name}.relu")
    tensors |= {f"{name}.bias": np.asarray(params[f"{name}.bias"]) for name in shapes()}
    graph = helper.make_graph(
        nodes,
        f"structured-fashion-{kind}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(v, k) for k, v in tensors.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="structured-fashion")
    onnx.checker.check_model(proto, full_check=True)
    return proto


def accuracy(path, images, labels):
    """Share of pictures that onnxruntime classifies rightly."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = 0
    for i in range(0, len(images), 500):
        logits = session.run(None, {"input": images[i : i + 500].astype(np.float32) / 255})[0]
        right += int((logits.argmax(1) == labels[i : i + 500]).sum())
    return right / len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    parser.add_argument("--out", type=Path, default=HERE / "models")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    images, labels = data.load("train", args.data)
    test = data.load("t10k", args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        start = time.time()
        params = train(kind, images, labels, args.epochs, args.seed)
        path = args.out / f"{kind}.onnx"
        onnx.save(build(params, kind), path)
        right = accuracy(path, *test)
        print(f"{path.name}: {path.stat().st_size:,} bytes, test accuracy {right:.4f}, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
