#!/usr/bin/env python3
"""Writes blocks.npz: blocks of each quantised type of GGUF, and the elements that the format's own Python package makes of them.

    python make_blocks.py            # needs requirements.txt; writes blocks.npz beside itself

Bytes are seeded noise; the floats among them (scales of every type) are replaced by finite ones of the sizes that models have. `TYPE:bytes` is
u8 [blocks, bytes of a block], `TYPE:values` f32 [blocks, elements]. The package has no Q8_K, which only activations have: its values
here are scale times code, as ggml-quants.c has it.
"""
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

HERE = pathlib.Path(__file__).resolve().parent
# The bytes at which a block has f16 numbers.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2],
          T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.Q8_K: []}


def main():
    random = np.random.default_rng(20261129)
    arrays = {}
    for kind, halves in HALVES.items():
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        count = 4 if elements == 32 else 2
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for at in halves:
            # Of both signs, some below f16's normal numbers.
            scales = random.standard_normal(count) * 10.0 ** random.uniform(-5.5, 0, count)
            blocks[:, at:at + 2] = scales.astype("<f2").view(np.uint8).reshape(count, 2)
        if kind == T.Q8_K:
            scales = (random.standard_normal(count) * 0.01).astype("<f4")
            blocks[:, :4] = scales.view(np.uint8).reshape(count, 4)
            values = scales[:, None] * blocks[:, 4:260].view(np.int8).astype(np.float32)
        else:
            values = gguf.quants.dequantize(blocks, kind)
        assert np.isfinite(values).all() and values.shape == (count, elements)
        arrays[f"{kind.name}:bytes"], arrays[f"{kind.name}:values"] = blocks, values.astype("<f4")
    np.savez_compressed(HERE / "blocks.npz", **arrays)


if __name__ == "__main__":
    main()
