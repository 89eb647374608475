#!/usr/bin/env python3
"""Logits of subnets of the shipped supernets, by onnxruntime: each is cut out of the ONNX file with NumPy alone (supernet.py).

    subnets.py [--out tests/reference/subnets.npz]

For `cnn` and `vit`: `NAME/choices` i64 [subnets, choices], the index of each option, the smallest first, then the largest, then seeded ones;
`NAME/logits` f32 [subnets, 16, 10], of the first 16 of the example's held-out pictures, statistics of batch normalizations as they are stored.
"""
import argparse
import pathlib

import numpy as np
import onnx

import supernet

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "once-for-all-fashion" / "models"
FOLDERS = {"cnn": EXAMPLE, "vit": EXAMPLE / "vit"}
PICTURES, SUBNETS = 16, 24


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "reference" / "subnets.npz")
    args = parser.parse_args()
    with np.load(ROOT / "examples" / "supernet-fashion" / "heldout.npz") as held_out:
        pictures = held_out["input"][:PICTURES].astype(np.float32) / np.float32(255)
    arrays = {}
    for name, folder in FOLDERS.items():
        largest = onnx.load(folder / "largest.onnx")
        spec = supernet.read_toml(folder / "supernet.toml")
        options, rng = spec["choice"], np.random.default_rng(0)
        chosen = [{n: 0 for n in options}, {n: len(o) - 1 for n, o in options.items()}]
        chosen += [supernet.random_choice(options, rng) for _ in range(SUBNETS - 2)]
        logits = [supernet.session(supernet.subnet(largest, spec, c)).run(["logits"], {"input": pictures})[0] for c in chosen]
        arrays[f"{name}/choices"] = np.array([[c[n] for n in options] for c in chosen], np.int64)
        arrays[f"{name}/logits"] = np.stack(logits)
    np.savez(args.out, **arrays)
    print(f"{args.out}: {', '.join(f'{n} {a.shape}' for n, a in arrays.items())}")


if __name__ == "__main__":
    main()
