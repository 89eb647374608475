"""Checks that each subnet's weights lie inside the next larger one's, bit for bit.

A tensor of the smaller file must equal the prefix slice of the larger file's tensor of that name,
in every axis. Only batch normalisation tensors may differ. Exit status 1 on the first file pair
that breaks this; reads nothing but the ONNX files.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def read(path):
    """{name: array} of the initializers, and the names that normalisation nodes use."""
    graph = onnx.load(path).graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    own = {n for node in graph.node if node.op_type == "BatchNormalization" for n in node.input[1:]}
    return tensors, own


def is_inside(small, large):
    """Whether `small` is bit for bit the prefix slice of `large` with its own shape."""
    if small.ndim != large.ndim or np.any(np.greater(small.shape, large.shape)):
        return False
    part = np.ascontiguousarray(large[tuple(slice(n) for n in small.shape)])
    # Compared as bits, so that a NaN or a negative zero cannot pass for something else.
    return np.array_equal(part.view(np.uint32), small.view(np.uint32))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="ONNX files, in any order")
    paths = sorted(parser.parse_args().files, key=lambda p: p.stat().st_size)

    total = sum(p.stat().st_size for p in paths)
    unique = sum(t.nbytes for t in read(paths[-1])[0].values())
    for small_path, large_path in zip(paths, paths[1:]):
        (small, own), (large, _) = read(small_path), read(large_path)
        counts = {"equal": 0, "slice": 0, "own": 0}
        for name, tensor in small.items():
            if name in own:
                counts["own"] += 1
                continue
            if name not in large or not is_inside(tensor, large[name]):
                sys.exit(f"{small_path}: `{name}` {tensor.shape} is no prefix slice of {large_path}")
            counts["equal" if tensor.shape == large[name].shape else "slice"] += 1
        print(
            f"{small_path} in {large_path}: {counts['slice']} prefix slices, "
            f"{counts['equal']} equal, {counts['own']} batch normalisation tensors of its own"
        )
        unique += sum(small[name].nbytes for name in own)
    print(f"{len(paths)} files: {total / 1e6:.2f} MB; stored once: {unique / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
