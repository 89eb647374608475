"""Fashion-MNIST as the Debian package `dataset-fashion-mnist` installs it.

The reader, the samples and the small arrays are those of `../supernet-fashion`.
"""

import importlib.util
from pathlib import Path

import numpy as np

SUPERNET = Path(__file__).resolve().parent.parent / "supernet-fashion"

_spec = importlib.util.spec_from_file_location("supernet_fashion_data", SUPERNET / "data.py")
_reader = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_reader)

DEFAULT_DIR = _reader.DEFAULT_DIR
load = _reader.load
balanced = _reader.balanced


def as_input(images):
    """u8 [N,1,28,28] as the network's f32 input in 0..1."""
    return images.astype(np.float32) / 255.0


def augmented(images, rng):
    """Random mirror images, moved by up to 2 pixels; u8 [N,1,28,28]."""
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[:, 0], (28, 28), axis=(1, 2))
    move = rng.integers(0, 5, (2, len(images)))
    out = windows[np.arange(len(images)), move[0], move[1]][:, None]
    mirrored = rng.random(len(images)) < 0.5
    out[mirrored] = out[mirrored, :, :, ::-1]
    return out
