"""The elastic CNN: one set of weights, several subnets.

Width: a layer of a narrower subnet uses the first channels of the shared weight. Depth: a stage
runs its first blocks. Batch normalisation cannot be shared in this way (the statistics of a channel
depend on how many channels feed it), so each subnet owns its scale, shift, mean and variance.

    stem   3x3 stride 2, BN, ReLU                                      28x28 -> 14x14
    stage1 residual blocks, stride 1                                   14x14
    stage2 residual blocks, the first with stride 2 and projection     14x14 -> 7x7
    stage3 residual blocks, the first with stride 2 and projection     7x7 -> 4x4
    head   global average pool, Gemm to 10 logits
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

CLASSES = 10
BN_EPSILON = 1e-5
STRIDES = (1, 2, 2)


@dataclass(frozen=True)
class Subnet:
    """Channels and blocks of each of the three stages; the stem has the width of stage 1."""

    name: str
    widths: tuple
    depths: tuple


# Smallest first; each is contained in the next in every width and every depth.
SUBNETS = (
    Subnet("s", (16, 32, 64), (1, 1, 1)),
    Subnet("m", (16, 32, 80), (1, 1, 2)),
    Subnet("l", (32, 48, 112), (1, 2, 2)),
    Subnet("xl", (32, 48, 144), (1, 2, 3)),
)
LARGEST = SUBNETS[-1]


@dataclass(frozen=True)
class ConvLayer:
    """One convolution followed by batch normalisation. Weight `name.weight`: [cout, cin, k, k]."""

    name: str
    cin: int
    cout: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Block:
    """Residual block: relu(conv2(relu(conv1(x))) + shortcut(x)); `project` is None for identity."""

    conv1: ConvLayer
    conv2: ConvLayer
    project: ConvLayer | None


def stem(subnet):
    return ConvLayer("stem", 1, subnet.widths[0], 3, 2)


def blocks(subnet):
    """The residual blocks of a subnet, in order of execution."""
    out, cin = [], subnet.widths[0]
    for stage, (width, depth) in enumerate(zip(subnet.widths, subnet.depths)):
        for index in range(depth):
            prefix = f"stage{stage + 1}.block{index}"
            # Decided by position and stride, never by cin == cout: a subnet whose neighbouring
            # stages happen to have equal widths must keep the graph of its siblings.
            first = index == 0 and STRIDES[stage] != 1
            stride = STRIDES[stage] if first else 1
            out.append(
                Block(
                    ConvLayer(f"{prefix}.conv1", cin, width, 3, stride),
                    ConvLayer(f"{prefix}.conv2", width, width, 3, 1),
                    ConvLayer(f"{prefix}.project", cin, width, 1, stride) if first else None,
                )
            )
            cin = width
    return out


def conv_layers(subnet):
    """All convolutions of a subnet, in order of execution."""
    layers = [stem(subnet)]
    for block in blocks(subnet):
        layers += [block.conv1, block.conv2] + ([block.project] if block.project else [])
    return layers


def init(seed):
    """{"shared": weights at full width, "bn": {subnet name: {layer: {"scale", "shift"}}}}."""
    rng = np.random.default_rng(seed)
    shared = {}
    for c in conv_layers(LARGEST):
        # He et al. 2015, fan-out form: keeps the variance of gradients through ReLU layers.
        std = np.sqrt(2.0 / (c.cout * c.kernel**2))
        shape = (c.cout, c.cin, c.kernel, c.kernel)
        shared[f"{c.name}.weight"] = rng.normal(0.0, std, shape).astype(np.float32)
    features = LARGEST.widths[-1]
    shared["head.weight"] = rng.normal(0.0, 0.01, (CLASSES, features)).astype(np.float32)
    shared["head.bias"] = np.zeros(CLASSES, np.float32)
    bn = {
        s.name: {
            c.name: {"scale": np.ones(c.cout, np.float32), "shift": np.zeros(c.cout, np.float32)}
            for c in conv_layers(s)
        }
        for s in SUBNETS
    }
    return {"shared": shared, "bn": bn}


def sliced_weights(shared, subnet):
    """The prefix slices of the shared weights that a subnet computes with, by tensor name."""
    out = {
        f"{c.name}.weight": shared[f"{c.name}.weight"][: c.cout, : c.cin]
        for c in conv_layers(subnet)
    }
    out["head.weight"] = shared["head.weight"][:, : subnet.widths[-1]]
    out["head.bias"] = shared["head.bias"]
    return out


def forward(params, subnet, x):
    """x: [N,1,28,28] in 0..1. Returns logits [N,10] and {layer: (mean, variance)} of this batch.

    Batch normalisation always uses the statistics of the batch itself (training mode); the
    exported graph uses averages of the returned ones.
    """
    weights = sliced_weights(params["shared"], subnet)
    bn = params["bn"][subnet.name]
    stats = {}

    def conv_bn(c, x):
        pad = c.kernel // 2
        y = jax.lax.conv_general_dilated(
            x,
            weights[f"{c.name}.weight"],
            (c.stride, c.stride),
            ((pad, pad), (pad, pad)),
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )
        mean = y.mean((0, 2, 3))
        variance = jnp.square(y - mean[:, None, None]).mean((0, 2, 3))
        stats[c.name] = (mean, variance)
        scale = bn[c.name]["scale"] * jax.lax.rsqrt(variance + BN_EPSILON)
        shift = bn[c.name]["shift"] - mean * scale
        return y * scale[:, None, None] + shift[:, None, None]

    x = jax.nn.relu(conv_bn(stem(subnet), x))
    for block in blocks(subnet):
        shortcut = conv_bn(block.project, x) if block.project else x
        y = jax.nn.relu(conv_bn(block.conv1, x))
        x = jax.nn.relu(conv_bn(block.conv2, y) + shortcut)
    features = x.mean((2, 3))
    return features @ weights["head.weight"].T + weights["head.bias"], stats
