#!/usr/bin/env python3
"""Writes the small checkpoints of this folder, each by the library whose form it is, and what they hold.

    python3 tests/reference/checkpoints/make.py

Needs torch, safetensors and numpy; written with torch 1.13.1 (Debian's python3-torch), safetensors 0.8.0, numpy 1.24.2. The tests read
the files and need none of these. `expected.json` is what these libraries say the files hold, every value exact in f64:
{file: {tensor: [type, shape, [values]]}}.
"""

import collections
import json
import os
import pathlib

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

HERE = pathlib.Path(__file__).parent
EXPECTED = {}
NAMES = {
    torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64", torch.int8: "i8",
    torch.uint8: "u8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "bool",
}


def values(tensor):
    return [float(v) for v in tensor.detach().double().reshape(-1).tolist()]


def expect(file, tensors):
    EXPECTED[file] = {name: [NAMES[t.dtype], list(t.shape), values(t)] for name, t in tensors.items()}


def expect_arrays(file, arrays):
    names = {"float32": "f32", "float16": "f16", "float64": "f64", "bool": "bool"}
    short = lambda t: names.get(t, t.replace("uint", "u").replace("int", "i"))
    EXPECTED[file] = {
        name: [short(str(a.dtype)), list(a.shape), [float(v) for v in a.reshape(-1).tolist()]]
        for name, a in arrays.items()
    }


def save(name, content, **how):
    torch.save(content, HERE / f"{name}.pth", **how)
    torch.save(content, HERE / f"{name}-legacy.pth", _use_new_zipfile_serialization=False, **how)


def every_type():
    """What a training script saves of a wrapped model, with one tensor of every type."""
    state = collections.OrderedDict()
    for i, dtype in enumerate(NAMES):
        numbers = torch.arange(6) - (0 if dtype in (torch.uint8, torch.bool) else 3)
        state[f"module.layer.{i}.weight"] = (numbers * (1 if i > 3 else 0.5)).to(dtype).reshape(2, 3)
    state["module.scalar"] = torch.tensor(7)
    state["module.empty"] = torch.zeros(0, 4)
    state._metadata = collections.OrderedDict(version=1)
    return state


def trained():
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        model.bias.copy_(torch.tensor([0.25, -0.5]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def views():
    """Tensors that share a storage, in every way in which they can lie in it."""
    base = torch.arange(24, dtype=torch.float32)
    return {
        "whole": base.reshape(2, 3, 4),
        "transposed": base.reshape(4, 6).t(),
        "permuted": base.reshape(2, 3, 4).permute(2, 0, 1),
        "columns": base.reshape(4, 6)[:, 1:4],
        "every_second": base[1::2],
        "last": base[23],
        "expanded": base[3:4].expand(2, 5),
        "channels_last": torch.arange(16, dtype=torch.float16).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last),
        "none": base[24:],
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.5])),
    }


def nested():
    return {"encoder": {"weight": torch.ones(2), "layers": [torch.zeros(1), {"bias": torch.full((1,), 3.0)}]}, "step": 4}


class Code:
    """What must not run."""

    def __reduce__(self):
        return (os.system, ("echo this must not run",))


def main():
    torch.manual_seed(0)
    model, optimizer = trained()
    state = every_type()
    save("every-type", {"epoch": 3, "state_dict": state, "best": np.float64(0.5), "top1": torch.tensor(76.0), "args": ["--lr", 0.1],
                        "optimizer": optimizer.state_dict(), "device": torch.device("cpu"), "shape": torch.Size([1, 2])})
    held = {name.removeprefix("module."): t for name, t in state.items()}
    for file in ("every-type.pth", "every-type-legacy.pth"):
        expect(file, held)
    save("views", views())
    for file in ("views.pth", "views-legacy.pth"):
        expect(file, torch.load(HERE / file))
    save("nested", nested())
    flat = {"encoder.weight": torch.ones(2), "encoder.layers.0": torch.zeros(1), "encoder.layers.1.bias": torch.full((1,), 3.0)}
    for file in ("nested.pth", "nested-legacy.pth"):
        expect(file, flat)
    save("protocol-4", model.state_dict(), pickle_protocol=4)
    for file in ("protocol-4.pth", "protocol-4-legacy.pth"):
        expect(file, model.state_dict())
    # In the older form it would bring the source of its class along.
    torch.save(model, HERE / "whole-module.pth")
    save("code", {"state_dict": model.state_dict(), "hook": Code()})
    save("quantized", {"weight": torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)})
    save("complex", {"weight": torch.ones(2, dtype=torch.complex64)})

    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4) / 4, "layer/b": np.arange(5, dtype=np.int64) - 2,
        "half": np.arange(3, dtype=np.float16), "flags": np.array([True, False]), "number": np.float64(2.5) * np.ones(()),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)), "none": np.zeros((0, 2), np.uint16),
    }
    np.savez(HERE / "arrays.npz", **arrays)
    np.savez_compressed(HERE / "arrays-deflated.npz", **arrays)
    np.save(HERE / "one.npy", arrays["fortran"])
    for file in ("arrays.npz", "arrays-deflated.npz"):
        expect_arrays(file, arrays)
    expect_arrays("one.npy", {"one": arrays["fortran"]})

    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    safetensors.numpy.save_file(plain, HERE / "model.safetensors", metadata={"format": "np"})
    expect_arrays("model.safetensors", arrays)
    short = {"b": torch.tensor([1.0, -2.5, 0.125]).to(torch.bfloat16)}
    safetensors.torch.save_file(short, HERE / "bf16.safetensors")
    expect("bf16.safetensors", short)

    sharded = HERE / "sharded"
    sharded.mkdir(exist_ok=True)
    names = sorted(plain)
    weight_map = {}
    for i, part in enumerate((names[:3], names[3:])):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        safetensors.numpy.save_file({name: plain[name] for name in part}, sharded / file)
        weight_map.update({name: file for name in part})
    index = {"metadata": {"total_size": sum(a.nbytes for a in plain.values())}, "weight_map": weight_map}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    expect_arrays("sharded", arrays)
    expect_arrays("sharded/model.safetensors.index.json", arrays)

    lines = ",\n".join(f" {json.dumps(file)}: {json.dumps(held)}" for file, held in EXPECTED.items())
    (HERE / "expected.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
