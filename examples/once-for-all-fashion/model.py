"""The once-for-all CNN: one set of weights, a choice of depth, expansion, window and resolution for every subnet.

    resize  linear, to 20, 24 or 28 pixels; none at 28
    stem    3x3 stride 2, BN, hard swish                                28 -> 14
    stage1  inverted bottlenecks, 16 channels, stride 1, ReLU           14
    stage2  inverted bottlenecks, 32 channels, stride 2, hard swish     14 -> 7
    stage3  inverted bottlenecks, 64 channels, stride 2, hard swish,
            squeeze and excite                                          7 -> 4
    head    1x1 to 128, BN, hard swish, average pool, Gemm to 10 logits

An inverted bottleneck is a 1x1 convolution to `mid` channels, a depthwise convolution, and a 1x1 projection, each with BN
(Sandler et al. 2018, Howard et al. 2019). What is elastic, and how the smaller form lies in the larger one, follows Cai et
al. 2020, "Once for All": the first blocks of a stage, the first `mid` channels, the middle of a window after a learned
linear map. The channels between blocks are fixed, so every choice is independent of every other.

Activations are [C,H,W,N] throughout: with the batch innermost, every convolution here is a plain or a batched matrix product,
which is what XLA is fast at on a CPU (its own depthwise convolution takes some hundred times as long).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

NAME = "once-for-all-fashion"
OPTIMIZER, PEAK_LEARNING_RATE, WEIGHT_DECAY = "sgd", 0.08, 3e-4
CLASSES = 10
BN_EPSILON = 1e-5
STEM, HEAD = 16, 128
SIZE = 28
RESOLUTIONS = (20, 24, 28)
KERNELS = (3, 5, 7)
# Channels, blocks, expansions, stride of the first block, activation, squeeze and excite. The first stage has the largest
# pictures, hence few channels inside.
STAGES = (
    (16, 2, (1, 2, 3), 1, "Relu", False),
    (32, 3, (2, 4, 6), 2, "HardSwish", False),
    (64, 3, (2, 4, 6), 2, "HardSwish", True),
)


def make_divisible(value, by=8):
    """The multiple of `by` next to `value`, never more than 10 % below it (the rule of the MobileNets)."""
    near = max(by, int(value + by / 2) // by * by)
    return near + by if near < 0.9 * value else near


@dataclass(frozen=True)
class Block:
    """One inverted bottleneck. `mids` and `squeezed`: channels inside it and inside its squeeze, one an expansion."""

    name: str
    stage: int
    index: int
    cin: int
    cout: int
    expands: tuple
    stride: int
    activation: str
    excite: bool

    @property
    def mids(self):
        return tuple(make_divisible(round(self.cin * e)) for e in self.expands)

    @property
    def squeezed(self):
        return tuple(make_divisible(mid // 4) for mid in self.mids)

    @property
    def residual(self):
        return self.stride == 1 and self.cin == self.cout


def _blocks():
    out, cin = [], STEM
    for stage, (cout, depth, expands, stride, activation, excite) in enumerate(STAGES, 1):
        for index in range(1, depth + 1):
            step = stride if index == 1 else 1
            name = f"stage{stage}.block{index}"
            out.append(Block(name, stage, index, cin, cout, expands, step, activation, excite))
            cin = cout
    return tuple(out)


BLOCKS = _blocks()


def choices():
    """{choice: options, smallest first}. A subnet is {choice: index of an option}."""
    out = {"resolution": RESOLUTIONS}
    for stage, (_, depth, *_) in enumerate(STAGES, 1):
        out[f"stage{stage}.depth"] = tuple(range(1, depth + 1))
    for b in BLOCKS:
        out[f"{b.name}.expand"] = b.expands
        out[f"{b.name}.kernel"] = KERNELS
    return out


CHOICES = choices()
SMALLEST = {name: 0 for name in CHOICES}
LARGEST = {name: len(options) - 1 for name, options in CHOICES.items()}
# Choices that the compiled training step has to know.
STATIC = ("resolution",)


def init(seed):
    """{tensor name: array}: weights at full size in ONNX order, scales and shifts, window transforms (identity)."""
    rng = np.random.default_rng(seed)
    out = {}

    def conv(name, cout, cin, kernel):
        # He et al. 2015, fan-out form: keeps the variance of gradients; a depthwise window has a fan of its taps.
        fan = kernel**2 * (1 if cin == 1 and kernel > 3 else cout)
        out[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / fan), (cout, cin, kernel, kernel))

    def norm(name, channels):
        out[f"{name}.scale"], out[f"{name}.shift"] = np.ones(channels), np.zeros(channels)

    conv("stem.conv", STEM, 1, 3)
    norm("stem.bn", STEM)
    for b in BLOCKS:
        mid, squeezed = b.mids[-1], b.squeezed[-1]
        conv(f"{b.name}.conv1", mid, b.cin, 1)
        norm(f"{b.name}.bn1", mid)
        conv(f"{b.name}.depthwise", mid, 1, KERNELS[-1])
        for small, large in zip(KERNELS[-2::-1], KERNELS[:0:-1]):
            out[f"{b.name}.depthwise.{large}to{small}"] = np.eye(small**2)
        norm(f"{b.name}.bn2", mid)
        if b.excite:
            conv(f"{b.name}.reduce", squeezed, mid, 1)
            conv(f"{b.name}.excite", mid, squeezed, 1)
            out[f"{b.name}.reduce.bias"], out[f"{b.name}.excite.bias"] = np.zeros(squeezed), np.zeros(mid)
        conv(f"{b.name}.conv2", b.cout, mid, 1)
        norm(f"{b.name}.bn3", b.cout)
    conv("head.conv", HEAD, STAGES[-1][0], 1)
    norm("head.bn", HEAD)
    out["classifier.weight"] = rng.normal(0, 0.01, (CLASSES, HEAD))
    out["classifier.bias"] = np.zeros(CLASSES)
    return {name: value.astype(np.float32) for name, value in out.items()}


def is_transform(name):
    return ".depthwise." in name and not name.endswith(".weight")


def pick(values, index):
    """`values[index]`, also for an index that is only known when the compiled program runs."""
    return values[index] if isinstance(index, int) else jnp.asarray(values)[index]


def first(tensor, axis, size):
    """The first `size` entries of an axis: a slice if the size is known, else zeros in place of the rest.

    Both give the same network. A channel whose weights, scale and shift are zero is zero after every layer, because
    ReLU and hard swish keep zero, and the next layer's weights for it are zero too.
    """
    if isinstance(size, int):
        return jax.lax.slice_in_dim(tensor, 0, size, axis=axis)
    shape = [-1 if a == axis else 1 for a in range(tensor.ndim)]
    return tensor * (jnp.arange(tensor.shape[axis]) < size).astype(tensor.dtype).reshape(shape)


def window(params, name, kernel):
    """The depthwise windows [C,7,7] for an index of KERNELS; smaller ones lie in the middle of zeros."""
    w = params[f"{name}.weight"][:, 0]
    forms = [w]
    for small, large in zip(KERNELS[-2::-1], KERNELS[:0:-1]):
        middle = w[:, 1:-1, 1:-1].reshape(len(w), small**2)
        w = (middle @ params[f"{name}.{large}to{small}"].T).reshape(len(w), small, small)
        pad = (KERNELS[-1] - small) // 2
        forms.insert(0, jnp.pad(w, ((0, 0), (pad, pad), (pad, pad))))
    return forms[kernel] if isinstance(kernel, int) else jnp.stack(forms)[kernel]


def taps(size, kernel, stride):
    """One-hot f32 [kernel^2, out^2, size^2]: which tap of a window joins an output pixel to an input pixel."""
    pad, out = kernel // 2, (size - 1) // stride + 1
    hot = np.zeros((kernel, kernel, out, out, size, size), np.float32)
    for a in range(kernel):
        for b in range(kernel):
            for y in range(out):
                for x in range(out):
                    v, u = y * stride + a - pad, x * stride + b - pad
                    if 0 <= v < size and 0 <= u < size:
                        hot[a, b, y, x, v, u] = 1
    return hot.reshape(kernel**2, out**2, size**2)


def depthwise(x, w, stride):
    """x: [C,H,H,N], w: [C,k,k]. Each channel's convolution is written out as a matrix: H is 14 at most."""
    c, size, _, n = x.shape
    hot = taps(size, w.shape[-1], stride)
    matrix = (w.reshape(c, -1) @ hot.reshape(len(hot), -1)).reshape(c, *hot.shape[1:])
    out = int(np.sqrt(hot.shape[1]))
    return (matrix @ x.reshape(c, size * size, n)).reshape(c, out, out, n)


def pointwise(x, w):
    """x: [C,H,W,N], w: [O,C,1,1]."""
    return (w[:, :, 0, 0] @ x.reshape(x.shape[0], -1)).reshape(-1, *x.shape[1:])


def resize_matrix(to, size):
    """[to, size]: linear interpolation at half-pixel centres, edges held; ONNX Resize without antialiasing."""
    at = np.clip((np.arange(to) + 0.5) * size / to - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), size - 2)
    out = np.zeros((to, size), np.float32)
    out[np.arange(to), low] = 1 - (at - low)
    out[np.arange(to), low + 1] = at - low
    return out


def hard_sigmoid(x):
    return jnp.clip(x / 6 + 0.5, 0, 1)


ACTIVATIONS = {"Relu": jax.nn.relu, "HardSwish": lambda x: x * hard_sigmoid(x)}


def forward(params, subnet, x):
    """x: [N,1,28,28] in 0..1. Returns logits [N,10].

    `subnet`: {choice: index}, Python integers or traced ones ("resolution" always a Python integer). Batch normalisation
    always uses the statistics of the batch itself; the exported graph uses averages of them.
    """
    def norm(name, x, channels=None):
        scale, shift = params[f"{name}.scale"], params[f"{name}.shift"]
        if channels is not None:
            scale, shift = first(scale, 0, channels), first(shift, 0, channels)
        mean = x.mean((1, 2, 3))
        variance = jnp.square(x - mean[:, None, None, None]).mean((1, 2, 3))
        scale = scale * jax.lax.rsqrt(variance + BN_EPSILON)
        return x * scale[:, None, None, None] + (shift - mean * scale)[:, None, None, None]

    def bottleneck(b, x):
        expand = subnet[f"{b.name}.expand"]
        mid = pick(b.mids, expand)
        activation = ACTIVATIONS[b.activation]
        y = pointwise(x, first(params[f"{b.name}.conv1.weight"], 0, mid))
        y = activation(norm(f"{b.name}.bn1", y, mid))
        w = window(params, f"{b.name}.depthwise", subnet[f"{b.name}.kernel"])
        y = activation(norm(f"{b.name}.bn2", depthwise(y, first(w, 0, mid), b.stride), mid))
        if b.excite:
            squeezed = pick(b.squeezed, expand)
            reduce = first(first(params[f"{b.name}.reduce.weight"], 0, squeezed), 1, mid)[:, :, 0, 0]
            excite = first(first(params[f"{b.name}.excite.weight"], 0, mid), 1, squeezed)[:, :, 0, 0]
            s = reduce @ y.mean((1, 2)) + first(params[f"{b.name}.reduce.bias"], 0, squeezed)[:, None]
            s = excite @ jax.nn.relu(s) + first(params[f"{b.name}.excite.bias"], 0, mid)[:, None]
            y = y * hard_sigmoid(s)[:, None, None]
        y = norm(f"{b.name}.bn3", pointwise(y, first(params[f"{b.name}.conv2.weight"], 1, mid)))
        return x + y if b.residual else y

    if RESOLUTIONS[subnet["resolution"]] != SIZE:
        r = resize_matrix(RESOLUTIONS[subnet["resolution"]], SIZE)
        x = jnp.einsum("ih,jw,nchw->ncij", r, r, x)
    x = x.transpose(1, 2, 3, 0)
    x = ACTIVATIONS["HardSwish"](norm("stem.bn", stem(x, params["stem.conv.weight"])))
    for b in BLOCKS:
        present = subnet[f"stage{b.stage}.depth"] >= b.index - 1
        if present is True or b.index == 1:
            x = bottleneck(b, x)
        elif present is not False:
            # Traced: the block is computed and counts for nothing. A branch costs more than it saves: it would have to
            # fill in zeros for all that the gradient of the other one keeps.
            x = jnp.where(present, bottleneck(b, x), x)
    x = ACTIVATIONS["HardSwish"](norm("head.bn", pointwise(x, params["head.conv.weight"])))
    features = x.mean((1, 2))
    return (params["classifier.weight"] @ features).T + params["classifier.bias"]


def stem(x, w):
    """x: [1,H,H,N], w: [O,1,3,3]: stride 2, as one matrix product over the nine shifted pictures."""
    out = (x.shape[1] - 1) // 2 + 1
    padded = jnp.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    end = 2 * out - 1
    shifted = [padded[a : a + end : 2, b : b + end : 2] for a in range(3) for b in range(3)]
    y = w.reshape(len(w), 9) @ jnp.stack(shifted).reshape(9, -1)
    return y.reshape(len(w), out, out, -1)
