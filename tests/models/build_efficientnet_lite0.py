#!/usr/bin/env python3
"""EfficientNet-Lite0 (ImageNet-1k, 224x224): PyTorch checkpoint to ONNX, with the standard library alone.

    build_efficientnet_lite0.py CHECKPOINT.pth OUT.onnx

Weights are the published ones, bit for bit. The graph is one node a layer, BatchNormalization not folded, so
that a converter has something to fold. Architecture: the EfficientNet-Lite0 of the TensorFlow TPU models
repository (EfficientNet-B0 without squeeze-and-excite, ReLU6, fixed stem and head). Output bytes are the same
on every machine.
"""
import array
import collections
import pickle
import struct
import sys

# (repeats, kernel, stride of the first block, expansion, input channels, output channels)
STAGES = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
          (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320)]
IMAGE = 224
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of torch.save before its zip format
STORAGE_BYTES = {"FloatStorage": 4, "LongStorage": 8}


# ---- checkpoint -----------------------------------------------------------------------------------------
Storage = collections.namedtuple("Storage", "kind key")
View = collections.namedtuple("View", "storage offset size stride")


class TensorUnpickler(pickle.Unpickler):
    """Reads tensors as views and refuses every other class: a pickle may otherwise run code."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: View(storage, offset, size, stride)
        if module == "torch" and name in STORAGE_BYTES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a checkpoint")

    def persistent_load(self, pid):
        _, kind, key = pid[:3]
        return Storage(kind, key)


def read_checkpoint(path):
    """{name: (shape, row-major float32 bytes)} of a pre-zip torch.save file. Layout: pickles of magic, protocol,
    system, tensors, storage keys; then each storage as int64 length and raw values."""
    with open(path, "rb") as f:
        magic, _protocol, _system, tensors, keys = (TensorUnpickler(f).load() for _ in range(5))
        if magic != LEGACY_MAGIC:
            raise ValueError(f"{path}: not a legacy torch.save file")
        kinds = {v.storage.key: v.storage.kind for v in tensors.values()}
        storages = {}
        for key in keys:
            (count,) = struct.unpack("<q", f.read(8))
            storages[key] = f.read(count * STORAGE_BYTES[kinds[key]])
    return {name: (list(v.size), gather(storages[v.storage.key], v))
            for name, v in tensors.items() if v.storage.kind == "FloatStorage"}


def gather(raw, view):
    """The view's values in row-major order. The weights came from TensorFlow and keep its order: a convolution
    [O,I,kh,kw] has strides [1,O,...], so a reader that ignores strides gets garbage."""
    source = array.array("I", raw)
    index = [view.offset]
    for n, step in zip(view.size, view.stride):
        index = [i + j * step for i in index for j in range(n)]
    return array.array("I", (source[i] for i in index)).tobytes()


# ---- protobuf (field numbers of onnx.proto) ----------------------------------------------------------------
def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def int_field(number, value):
    return varint(number << 3) + varint(value)


def bytes_field(number, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def float_field(number, value):
    return varint(number << 3 | 5) + struct.pack("<f", value)


def tensor_proto(name, shape, raw):
    """TensorProto: dims 1, data_type 2 (FLOAT = 1), name 8, raw_data 9."""
    return b"".join(int_field(1, d) for d in shape) + int_field(2, 1) + bytes_field(8, name) + bytes_field(9, raw)


def attribute(name, value):
    """AttributeProto: name 1, f 2, i 3, ints 8, type 20 (FLOAT 1, INT 2, INTS 7), inside NodeProto field 5."""
    if isinstance(value, float):
        body = float_field(2, value) + int_field(20, 1)
    elif isinstance(value, int):
        body = int_field(3, value) + int_field(20, 2)
    else:
        body = b"".join(int_field(8, v) for v in value) + int_field(20, 7)
    return bytes_field(5, bytes_field(1, name) + body)


def value_info(name, shape):
    """ValueInfoProto of a float tensor; a dimension is a size or a name."""
    dims = b"".join(bytes_field(1, bytes_field(2, d) if isinstance(d, str) else int_field(1, d)) for d in shape)
    return bytes_field(1, name) + bytes_field(2, bytes_field(1, int_field(1, 1) + bytes_field(2, dims)))


# ---- graph ----------------------------------------------------------------------------------------------
class Graph:
    """Nodes and initializers in the order in which layers are added."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers, self.used = weights, [], [], set()

    def node(self, op, inputs, output, name, **attributes):
        self.nodes.append(b"".join(bytes_field(1, i) for i in inputs) + bytes_field(2, output) + bytes_field(3, name)
                          + bytes_field(4, op) + b"".join(attribute(k, attributes[k]) for k in sorted(attributes)))
        return output

    def weight(self, name):
        if name not in self.used:
            self.used.add(name)
            self.initializers.append(tensor_proto(name, *self.weights[name]))
        return name

    def conv_bn(self, x, conv, bn, kernel, stride, size, groups=1, relu6=True):
        """Convolution with TensorFlow's SAME padding (an odd total puts the extra row last), then batch norm
        and ReLU6. Returns the output's name and its height = width."""
        out_size = -(-size // stride)
        total = max((out_size - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        self.node("Conv", [x, self.weight(conv + ".weight")], conv, conv, dilations=[1, 1], group=groups,
                  kernel_shape=[kernel, kernel], pads=[before, before, after, after], strides=[stride, stride])
        moments = [self.weight(f"{bn}.{p}") for p in ("weight", "bias", "running_mean", "running_var")]
        y = self.node("BatchNormalization", [conv] + moments, bn, bn, epsilon=1e-3)
        if relu6:
            y = self.node("Clip", [y, "zero", "six"], bn + ".relu6", bn + ".relu6")
        return y, out_size


def build(weights):
    """The ModelProto's bytes. weights: what read_checkpoint returns."""
    g = Graph(weights)
    g.initializers += [tensor_proto("zero", [], struct.pack("<f", 0.0)), tensor_proto("six", [], struct.pack("<f", 6.0))]
    x, size = g.conv_bn("input", "_conv_stem", "_bn0", 3, 2, IMAGE)
    blocks = [(k, s if r == 0 else 1, e, cin if r == 0 else cout, cout)
              for repeats, k, s, e, cin, cout in STAGES for r in range(repeats)]
    for i, (kernel, stride, expand, cin, cout) in enumerate(blocks):
        b, skip = f"_blocks.{i}", x
        if expand != 1:
            x, size = g.conv_bn(x, b + "._expand_conv", b + "._bn0", 1, 1, size)
        x, size = g.conv_bn(x, b + "._depthwise_conv", b + "._bn1", kernel, stride, size, groups=cin * expand)
        x, size = g.conv_bn(x, b + "._project_conv", b + "._bn2", 1, 1, size, relu6=False)
        if stride == 1 and cin == cout:
            x = g.node("Add", [x, skip], b + ".add", b + ".add")
    x, size = g.conv_bn(x, "_conv_head", "_bn1", 1, 1, size)
    x = g.node("GlobalAveragePool", [x], "pool", "pool")
    x = g.node("Flatten", [x], "flat", "flat", axis=1)
    g.node("Gemm", [x, g.weight("_fc.weight"), g.weight("_fc.bias")], "logits", "_fc", transB=1)
    unused = sorted(set(weights) - g.used)
    if unused:
        raise ValueError(f"weights that no layer uses: {unused}")
    graph = (b"".join(bytes_field(1, n) for n in g.nodes) + bytes_field(2, "efficientnet_lite0")
             + b"".join(bytes_field(5, t) for t in g.initializers)
             + bytes_field(11, value_info("input", ["N", 3, IMAGE, IMAGE]))
             + bytes_field(12, value_info("logits", ["N", 1000])))
    # ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8 (domain 1, version 2)
    return (int_field(1, 7) + bytes_field(2, "build_efficientnet_lite0") + bytes_field(7, graph)
            + bytes_field(8, bytes_field(1, "") + int_field(2, 13)))


def convert(checkpoint, out):
    """Reads the checkpoint and writes the ONNX file."""
    data = build(read_checkpoint(checkpoint))
    with open(out, "wb") as f:
        f.write(data)


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2])
