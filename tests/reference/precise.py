"""A model computed in 64-bit floats: what a 32-bit engine's result is rounded from.

Where outputs hang on small differences of large sums (the logarithm of a power spectrum near 0, say), two correct
engines differ by more than any fixed bound, and so does one engine from itself with its optimisations on. The distance
to this result says which of them is how far off, and that is what `compare.py` judges then.
"""
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


class Conv(OpRun):
    """Convolution as one product over windows; the reference evaluator's own takes minutes for long kernels."""
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None):
        n = w.ndim - 2
        strides, dilations, groups = strides or [1] * n, dilations or [1] * n, group or 1
        reach = [(w.shape[2 + i] - 1) * dilations[i] + 1 for i in range(n)]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = [max(0, (-(-x.shape[2 + i] // strides[i]) - 1) * strides[i] + reach[i] - x.shape[2 + i])
                     for i in range(n)]
            small, large = [t // 2 for t in total], [t - t // 2 for t in total]
            pads = small + large if auto_pad == "SAME_UPPER" else large + small
        pads = pads or [0] * 2 * n
        x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[n + i]) for i in range(n)])
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + n)))
        step = [slice(None, None, s) for s in strides] + [slice(None, None, d) for d in dilations]
        windows = windows[(slice(None), slice(None), *step)]
        c, m = x.shape[1] // groups, w.shape[0] // groups
        taps = list(range(2 + n, 2 + 2 * n))
        parts = [np.tensordot(windows[:, g * c:(g + 1) * c], w[g * m:(g + 1) * m], axes=([1, *taps], [1, *range(2, 2 + n)]))
                 for g in range(groups)]
        y = np.moveaxis(np.concatenate(parts, -1), -1, 1)
        return (y if b is None else y + b.reshape((1, -1) + (1,) * n),)


class GlobalMaxPool(OpRun):
    """The reference evaluator's own loses the dimensions of 3-d operands."""
    op_domain = ""

    def _run(self, x):
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def widen(graph):
    """Every 32-bit float of a graph becomes a 64-bit one, in place."""
    def tensor(t):
        if t.data_type == TensorProto.FLOAT:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float64), t.name))

    for t in graph.initializer:
        tensor(t)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                tensor(a.t)
            elif a.type == onnx.AttributeProto.GRAPH:
                widen(a.g)
            elif node.op_type == "Cast" and a.name == "to" and a.i == TensorProto.FLOAT:
                a.i = TensorProto.DOUBLE


class Precise:
    """A model in 64-bit floats."""

    def __init__(self, path):
        model = onnx.load(str(path))
        widen(model.graph)
        self.names = [o.name for o in model.graph.output]
        self.evaluator = ReferenceEvaluator(model, new_ops=[Conv, GlobalMaxPool])

    def run(self, feeds):
        """{output: float64 array}"""
        wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
        return dict(zip(self.names, self.evaluator.run(self.names, wide)))
