"""Fashion-MNIST as the Debian package `dataset-fashion-mnist` installs it."""

import gzip
from pathlib import Path

import numpy as np

DEFAULT_DIR = Path("/usr/share/datasets/fashion-mnist")


def _read_idx(path):
    """An IDX file of unsigned bytes: two zero bytes, 0x08, the rank, then big-endian u32 sizes."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(split, folder=DEFAULT_DIR):
    """`split` is "train" (60,000) or "t10k" (10,000). Returns u8 images [N,1,28,28], u8 labels [N]."""
    images = _read_idx(Path(folder) / f"{split}-images-idx3-ubyte.gz")
    labels = _read_idx(Path(folder) / f"{split}-labels-idx1-ubyte.gz")
    return images[:, None], labels


def balanced(labels, per_class, seed):
    """Indices of `per_class` examples of each class, in a seeded random order."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in range(10)]
    return rng.permutation(np.concatenate(chosen))
