"""Measures every exported subnet with onnxruntime and prints the README's table."""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import data
import model

BATCH = 500


def accuracy(path, images, labels):
    """Fraction of u8 `images` [N,1,28,28] whose largest logit is at their label."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    right = 0
    for i in range(0, len(images), BATCH):
        x = images[i : i + BATCH].astype(np.float32) / 255.0
        logits = session.run(["logits"], {"input": x})[0]
        right += int((logits.argmax(1) == labels[i : i + BATCH]).sum())
    return right / len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    parser.add_argument("--models", type=Path, default=Path("models"))
    args = parser.parse_args()

    images, labels = data.load("t10k", args.data)
    held = np.load("heldout.npz")
    print("| subnet | widths | blocks | parameters | file MB | test accuracy | `heldout.npz` |")
    print("|---|---|---|---|---|---|---|")
    for subnet in model.SUBNETS:
        path = args.models / f"{subnet.name}.onnx"
        weights = onnx.load(path).graph.initializer
        parameters = sum(int(np.prod(w.dims)) for w in weights)
        print(
            f"| `{subnet.name}` | {'/'.join(map(str, subnet.widths))} "
            f"| {'/'.join(map(str, subnet.depths))} | {parameters:,} "
            f"| {path.stat().st_size / 1e6:.2f} | {accuracy(path, images, labels):.4f} "
            f"| {accuracy(path, held['input'], held['labels']):.3f} |"
        )


if __name__ == "__main__":
    main()
