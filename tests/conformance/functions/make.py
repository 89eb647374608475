"""Writes the models with local functions of this folder, as exporters built on onnxscript write them.

    pip install onnxscript==0.5.6 onnx==1.23.2 numpy && python make.py

The same versions give the same models. `functions.py` compares them with onnxruntime.
"""
import pathlib

import numpy as np
import onnx
import onnxscript
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from onnxscript import script

HERE = pathlib.Path(__file__).resolve().parent
local = onnxscript.values.Opset("pkg.layers", 1)
rng = np.random.default_rng(11)


def stored(name, *shape):
    """A weight as a constant of the script."""
    return onnx.numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32), name)


# Functions that call functions, attributes with and without defaults that go on to operators.

@script(local, default_opset=op)
def Erf_gelu(x):
    half = op.CastLike(op.Constant(value_float=0.5), x)
    root = op.CastLike(op.Constant(value_float=0.70710678), x)
    return half * x * (1.0 + op.Erf(x * root))


@script(local, default_opset=op)
def Leaky(x, alpha: float = 0.1):
    return op.LeakyRelu(x, alpha=alpha)


@script(local, default_opset=op)
def Dense(x, w, b):
    return op.Add(op.MatMul(x, w), b)


@script(local, default_opset=op)
def Block(x, w1, b1, w2, b2, gain, bias, axis: int = -1):
    y = op.LayerNormalization(x, gain, bias, axis=axis)
    y = Erf_gelu(Dense(y, w1, b1))
    return op.Add(x, Dense(y, w2, b2))


W1, B1, W2, B2 = stored("w1", 16, 32), stored("b1", 32), stored("w2", 32, 16), stored("b2", 16)
GAIN, BIAS = stored("gain", 16), stored("bias", 16)


@script(default_opset=op)
def mlp(x: FLOAT["batch", "seq", 16]) -> FLOAT["batch", "seq", 16]:
    w1, b1 = op.Constant(value=W1), op.Constant(value=B1)
    w2, b2 = op.Constant(value=W2), op.Constant(value=B2)
    gain, bias = op.Constant(value=GAIN), op.Constant(value=BIAS)
    y = Block(x, w1, b1, w2, b2, gain, bias)
    y = Leaky(y)
    y = Leaky(y, alpha=0.3)
    return Block(y, w1, b1, w2, b2, gain, bias, axis=2)


# Shape arithmetic inside a function, its results used outside.

@script(local, default_opset=op)
def Split_heads(x, heads: INT64):
    shape = op.Shape(x)
    size = op.Div(op.Gather(shape, op.Constant(value_int=2)), heads)
    parts = op.Concat(op.Slice(shape, [0], [2]), op.Unsqueeze(heads, [0]), op.Unsqueeze(size, [0]), axis=0)
    return op.Transpose(op.Reshape(x, parts), perm=[0, 2, 1, 3])


@script(local, default_opset=op)
def Attend(q, k, v):
    size = op.Cast(op.Gather(op.Shape(q), op.Constant(value_int=3)), to=1)
    scores = op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])) / op.Sqrt(size)
    return op.MatMul(op.Softmax(scores, axis=-1), v)


WQ, WK, WV = stored("wq", 16, 16), stored("wk", 16, 16), stored("wv", 16, 16)


@script(default_opset=op)
def attention(x: FLOAT["batch", "seq", 16]) -> FLOAT["batch", "seq", 16]:
    heads = op.Constant(value_int=4)
    q = Split_heads(op.MatMul(x, op.Constant(value=WQ)), heads)
    k = Split_heads(op.MatMul(x, op.Constant(value=WK)), heads)
    v = Split_heads(op.MatMul(x, op.Constant(value=WV)), heads)
    y = op.Transpose(Attend(q, k, v), perm=[0, 2, 1, 3])
    return op.Reshape(y, op.Shape(x))


# A branch and a loop inside a function; the branch reads the function's values.

@script(local, default_opset=op)
def Pick(x, flag):
    doubled = x + x
    if flag:
        y = op.Relu(doubled)
    else:
        y = op.Neg(doubled)
    return y


@script(local, default_opset=op)
def Power(x):
    y = x
    for i in range(3):
        y = y * x
    return y


@script(default_opset=op)
def control(x: FLOAT[2, 6]) -> FLOAT[2, 6]:
    rows = op.Gather(op.Shape(x), op.Constant(value_int=0))
    return Power(Pick(x, rows > 1)) + Pick(x, rows > 2)


# A convolutional stage with several results, one of them left out by a caller.

@script(local, default_opset=op)
def Stage(x, w, scale, shift, mean, var):
    y = op.Conv(x, w, pads=[1, 1, 1, 1], strides=[2, 2])
    y = op.BatchNormalization(y, scale, shift, mean, var, epsilon=1e-3)
    return op.Clip(y, 0.0, 6.0), op.GlobalAveragePool(y)


CONV1, CONV2 = stored("conv1", 8, 3, 3, 3), stored("conv2", 8, 8, 3, 3)
S, SHIFT, MEAN = stored("scale", 8), stored("shift", 8), stored("mean", 8)
VAR = onnx.numpy_helper.from_array(rng.uniform(0.5, 2, 8).astype(np.float32), "var")


@script(default_opset=op)
def stages(x: FLOAT["batch", 3, 16, 16]) -> (FLOAT["batch", 8, 4, 4], FLOAT["batch", 8, 1, 1]):
    scale, shift = op.Constant(value=S), op.Constant(value=SHIFT)
    mean, var = op.Constant(value=MEAN), op.Constant(value=VAR)
    y, unused = Stage(x, op.Constant(value=CONV1), scale, shift, mean, var)
    y, pooled = Stage(y, op.Constant(value=CONV2), scale, shift, mean, var)
    return y, pooled


def main():
    for function in (mlp, attention, control, stages):
        model = function.to_model_proto()
        onnx.checker.check_model(model, full_check=True)
        assert model.functions, function.name
        path = HERE / f"{function.name}.onnx"
        onnx.save(model, path)
        print(path.name, path.stat().st_size, "bytes,", len(model.functions), "functions")


if __name__ == "__main__":
    main()
