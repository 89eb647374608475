"""An elastic vision transformer: depth, heads and the width of the feed-forward layers are choices.

    patches    7x7 convolution to 64 features, 16 tokens, learned positions
    block1..6  x + attention(norm(x)), x + feed-forward(norm(x)); heads of 16 features, GELU
    head       norm, mean over tokens, Gemm to 10 logits

The smaller lies in the larger as in AutoFormer (Chen et al. 2021): the first blocks, the first heads, the first features of the
feed-forward layer. The 64 features between blocks are fixed. The interface is that of `model.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from model import CLASSES, SIZE, first, pick

NAME = "elastic-vit-fashion"
OPTIMIZER, PEAK_LEARNING_RATE, WEIGHT_DECAY = "lion", 5e-4, 0.5
FEATURES, HEAD_DIM, PATCH = 64, 16, 7
TOKENS = (SIZE // PATCH) ** 2
DEPTHS, HEADS, RATIOS = (3, 4, 5, 6), (2, 3, 4), (2, 3, 4)
BLOCKS = tuple(f"block{i}" for i in range(1, DEPTHS[-1] + 1))
EPSILON = 1e-5

CHOICES = {"depth": DEPTHS}
for _block in BLOCKS:
    CHOICES |= {f"{_block}.heads": HEADS, f"{_block}.ffn": RATIOS}
SMALLEST = {name: 0 for name in CHOICES}
LARGEST = {name: len(options) - 1 for name, options in CHOICES.items()}
# Choices that the compiled training step has to know.
STATIC = ()


def init(seed):
    """{tensor name: array}. Matrices are [inputs, outputs], as ONNX MatMul has them; q, k and v lie side by side."""
    rng = np.random.default_rng(seed)
    inner, wide = HEADS[-1] * HEAD_DIM, RATIOS[-1] * FEATURES
    out = {
        "patches.weight": rng.normal(0, 1 / PATCH, (FEATURES, 1, PATCH, PATCH)),
        "patches.bias": np.zeros(FEATURES),
        "positions": rng.normal(0, 0.02, (TOKENS, FEATURES)),
    }
    for b in BLOCKS:
        for name, rows, columns in (
            ("qkv", FEATURES, 3 * inner),
            ("project", inner, FEATURES),
            ("fc1", FEATURES, wide),
            ("fc2", wide, FEATURES),
        ):
            out[f"{b}.{name}.weight"] = rng.normal(0, rows**-0.5, (rows, columns))
            out[f"{b}.{name}.bias"] = np.zeros(columns)
    for norm in [f"{b}.norm{i}" for b in BLOCKS for i in (1, 2)] + ["norm"]:
        out[f"{norm}.scale"], out[f"{norm}.shift"] = np.ones(FEATURES), np.zeros(FEATURES)
    out["classifier.weight"] = rng.normal(0, 0.01, (CLASSES, FEATURES))
    out["classifier.bias"] = np.zeros(CLASSES)
    return {name: value.astype(np.float32) for name, value in out.items()}


def is_transform(_name):
    return False


def forward(params, subnet, x):
    """x: [N,1,28,28] in 0..1. Returns logits [N,10]. `subnet`: {choice: index}, Python integers or traced ones."""

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)
        return x * params[f"{name}.scale"] + params[f"{name}.shift"]

    def attention(b, x):
        inner = pick(tuple(h * HEAD_DIM for h in HEADS), subnet[f"{b}.heads"])
        w = params[f"{b}.qkv.weight"].reshape(FEATURES, 3, -1)
        bias = params[f"{b}.qkv.bias"].reshape(3, -1)
        y = jnp.einsum("ntf,fpi->pnti", x, first(w, 2, inner)) + first(bias, 1, inner)[:, None, None]
        q, k, v = y.reshape(3, *x.shape[:2], -1, HEAD_DIM).transpose(0, 1, 3, 2, 4)
        # Heads that are masked attend evenly to values of zero.
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) * HEAD_DIM**-0.5, -1)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
        return y @ first(params[f"{b}.project.weight"], 0, inner) + params[f"{b}.project.bias"]

    def feed_forward(b, x):
        wide = pick(tuple(r * FEATURES for r in RATIOS), subnet[f"{b}.ffn"])
        y = x @ first(params[f"{b}.fc1.weight"], 1, wide) + first(params[f"{b}.fc1.bias"], 0, wide)
        y = jax.nn.gelu(y, approximate=False)
        return y @ first(params[f"{b}.fc2.weight"], 0, wide) + params[f"{b}.fc2.bias"]

    side = SIZE // PATCH
    x = x.reshape(-1, side, PATCH, side, PATCH).transpose(0, 1, 3, 2, 4).reshape(-1, TOKENS, PATCH**2)
    x = x @ params["patches.weight"].reshape(FEATURES, -1).T + params["patches.bias"] + params["positions"]
    for index, b in enumerate(BLOCKS, 1):
        # Index 0 is the smallest depth, which has the first DEPTHS[0] blocks.
        present = subnet["depth"] >= index - DEPTHS[0]
        if present is not False:
            y = x + attention(b, norm(f"{b}.norm1", x))
            y = y + feed_forward(b, norm(f"{b}.norm2", y))
            x = y if present is True or index <= DEPTHS[0] else jnp.where(present, y, x)
    return norm("norm", x).mean(1) @ params["classifier.weight"].T + params["classifier.bias"]
