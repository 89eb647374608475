#!/usr/bin/env python3
"""Reference vectors of once-for-all networks: what the `ofa` package computes for 20 sampled subnets of each of three supernets.

    python3 tests/reference/ofa/make.py

Needs torch and PyPI's ofa 0.1.0.post202307202001 (pip install --no-deps ofa); see README.md. Writes NET.json (names and shapes of the
state dict, the sampled configurations) and logits.npz (NET/INDEX: float32 [1000]).
"""

import json
import math
import pathlib
import random
import sys
import types
import zlib

import numpy as np
import torch

# The package's data loaders import Pillow and torchvision; nothing here loads data.
sys.modules["ofa.utils.my_dataloader"] = types.ModuleType("ofa.utils.my_dataloader")
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3, OFAProxylessNASNets, OFAResNets  # noqa: E402

HERE = pathlib.Path(__file__).parent
SUBNETS = 20
# Squares of the bound of weights times the number of their inputs: large enough that a subnet's choices reach its logits, small enough that
# values stay of order one.
GAINS = {"mobilenet-v3": 6.0, "proxyless": 5.5, "resnet50": 2.5}
RESOLUTIONS = [64, 80, 96, 112, 128]
MASK = np.uint64(0xFFFFFFFF)


def fnv1a(text):
    """FNV-1a, 64 bits, of a name: the key of its numbers."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


def uniform(key, count):
    """`count` numbers in [0, 1): Philox 4x32-10 of (key, counter), the top 24 bits of each word times 2^-24; runtime/src/random.rs."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    x = [blocks & MASK, blocks >> np.uint64(32), np.zeros_like(blocks), np.zeros_like(blocks)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for turn in range(10):
        if turn > 0:
            k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(b >> np.uint64(32)) ^ x[1] ^ np.uint64(k0), b & MASK, (a >> np.uint64(32)) ^ x[3] ^ np.uint64(k1), a & MASK]
    words = np.stack(x, axis=1).reshape(-1)[:count]
    return (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def generated(name, shape, gain):
    """The tensor of a name and shape; README.md gives the law. All arithmetic is float32 but the bound's square root."""
    count = math.prod(shape)
    if name.endswith("num_batches_tracked"):
        return np.ones((), np.int64)
    u = uniform(fnv1a(name), count)
    one, two = np.float32(1), np.float32(2)
    signed = two * u - one
    is_norm = ".bn." in name
    if name.endswith("_matrix"):
        values = np.eye(shape[0], dtype=np.float32).reshape(-1) + np.float32(0.125) * signed
    elif name.endswith("running_var"):
        values = np.float32(0.5) + u
    elif name.endswith("running_mean"):
        values = np.float32(0.25) * signed
    elif is_norm and name.endswith("weight"):
        values = np.float32(0.75) + np.float32(0.5) * u
    elif name.endswith("bias"):
        values = np.float32(0.25) * signed
    else:
        values = np.float32(math.sqrt(gain / math.prod(shape[1:]))) * signed
    return values.reshape(shape)


NETS = {
    "mobilenet-v3": lambda: OFAMobileNetV3(dropout_rate=0, width_mult=1.0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]),
    "proxyless": lambda: OFAProxylessNASNets(dropout_rate=0, width_mult=1.3, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]),
    "resnet50": lambda: OFAResNets(dropout_rate=0, depth_list=[0, 1, 2], expand_ratio_list=[0.2, 0.25, 0.35], width_mult_list=[0.65, 0.8, 1.0]),
}


def fill(net, gain):
    """Generated weights into a network; gives the CRC-32 of all bytes, in the state dict's order."""
    crc = 0
    state = net.state_dict()
    for name, tensor in state.items():
        array = generated(name, list(tensor.shape), gain)
        crc = zlib.crc32(array.tobytes(), crc)
        tensor.copy_(torch.from_numpy(array.copy()))
    return crc


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logits = {}
    for label, build in NETS.items():
        random.seed(f"edge {label}")
        net = build().eval()
        with torch.no_grad():
            crc = fill(net, GAINS[label])
            subnets = []
            for i in range(SUBNETS):
                config = net.sample_active_subnet()
                if i == 0:
                    largest = {"ks": max(net.ks_list), "e": max(net.expand_ratio_list), "d": max(net.depth_list), "w": 2}
                    config = {key: [largest[key]] * len(choices) for key, choices in config.items()}
                    net.set_active_subnet(**config)
                resolution = RESOLUTIONS[i % len(RESOLUTIONS)]
                picture = 2 * uniform(fnv1a("input"), 3 * resolution**2) - np.float32(1)
                x = torch.from_numpy(picture.reshape(1, 3, resolution, resolution))
                y = net(x)
                if i < 3:
                    # The package's own extracted network, which has none of the slicing code.
                    extracted = net.get_active_subnet(preserve_weight=True).eval()(x)
                    assert torch.allclose(extracted, y, rtol=1e-5, atol=1e-5), (extracted - y).abs().max()
                assert torch.isfinite(y).all() and 0.05 < y.std() < 500, y.std()
                logits[f"{label}/{i}"] = y[0].numpy()
                last = logits.get(f"{label}/{i - len(RESOLUTIONS)}")
                other = np.inf if last is None else np.abs(logits[f"{label}/{i}"] - last).max() / float(y.max() - y.min())
                assert other > 0.05, "the subnet hardly matters"
                subnets.append({"resolution": resolution, "config": config})
                print(label, i, resolution, f"std {y.std():.3f} range {y.max() - y.min():.3f} from another subnet {other:.3f}", flush=True)
        state = net.state_dict()
        lines = ",\n  ".join(f"[{json.dumps(name)}, {json.dumps(list(t.shape))}]" for name, t in state.items())
        subnets = ",\n  ".join(json.dumps(s) for s in subnets)
        text = f'{{\n "crc32": {crc},\n "gain": {GAINS[label]},\n "tensors": [\n  {lines}\n ],\n "subnets": [\n  {subnets}\n ]\n}}\n'
        (HERE / f"{label}.json").write_text(text)
    np.savez_compressed(HERE / "logits.npz", **logits)


if __name__ == "__main__":
    main()
