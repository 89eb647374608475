"""Writes matrices of a .safetensors or .gguf file as an ONNX model of one product each, for `curves.rs`, which reads ONNX.

    pip install onnx numpy safetensors gguf
    python matrices.py model.safetensors out.onnx 'layer\\.(0|5)\\..*weight'

Inputs are noise there: what is known of such a file is its weights alone.
"""

import re
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS = 256


def matrices(path):
    """(name, [N, K]) of every matrix in the file; GGUF's quantised ones as the floats that they stand for."""
    if path.endswith(".gguf"):
        import gguf

        for tensor in gguf.GGUFReader(path).tensors:
            if len(tensor.shape) == 2:
                yield tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    else:
        from safetensors.numpy import load_file

        for name, array in load_file(path).items():
            if array.ndim == 2:
                yield name, array


def main():
    path, out, pattern = sys.argv[1:]
    inputs, outputs, weights, nodes = [], [], [], []
    for name, w in matrices(path):
        if not re.fullmatch(pattern, name):
            continue
        n, k = w.shape
        inputs.append(helper.make_tensor_value_info(f"x.{name}", TensorProto.FLOAT, [ROWS, k]))
        outputs.append(helper.make_tensor_value_info(f"y.{name}", TensorProto.FLOAT, [ROWS, n]))
        weights.append(numpy_helper.from_array(np.ascontiguousarray(w, np.float32), name))
        nodes.append(helper.make_node("Gemm", [f"x.{name}", name], [f"y.{name}"], name=name, transB=1))
    if not nodes:
        sys.exit(f"{path}: no matrix is named {pattern}")
    graph = helper.make_graph(nodes, "matrices", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, out)
    print(f"{out}: {len(nodes)} matrices")


if __name__ == "__main__":
    main()
