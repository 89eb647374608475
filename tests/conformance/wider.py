"""Operators on larger operands and with more attributes than the ONNX suite has, against onnxruntime, live.

    PYTHON tests/conformance/wider.py --cmd 'target/release/edge-run-case {model} {inputs_dir} {out_dir}' [--filter REGEX]

Each case is one node (or a few) on seeded random numbers; onnxruntime, optimizations off, says what is right. Verdicts and bounds
are those of `judge.py`; a case that the command refuses counts as `refused`, which `--allow-refused` lets pass.
"""
import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import judge

REFUSED = 3
CASES = {}


def case(name, nodes, inputs, outputs=("y",), constants=None, opset=22):
    """Adds a case. `nodes` is a node or a list, `inputs` and `constants` are arrays by name."""
    CASES[name] = (nodes if isinstance(nodes, list) else [nodes], inputs, list(outputs), constants or {}, opset)


def node(op, inputs, outputs="y", **attributes):
    return helper.make_node(op, inputs.split(" ") if inputs else [], outputs.split(" "), **attributes)


def floats(rng, *shape, low=-1.0, high=1.0):
    return rng.uniform(low, high, shape).astype(np.float32)


def integers(rng, dtype, *shape):
    return rng.integers(np.iinfo(dtype).min, int(np.iinfo(dtype).max) + 1, shape).astype(dtype)


def sampling():
    rng = np.random.default_rng(1)
    x, grid = floats(rng, 2, 3, 7, 9), floats(rng, 2, 5, 6, 2, low=-1.6, high=1.6)
    volume, points = floats(rng, 2, 2, 4, 5, 6), floats(rng, 2, 3, 4, 5, 3, low=-1.4, high=1.4)
    for mode in ("nearest", "linear", "cubic"):
        # Engines differ on borders in cubic mode, which is refused.
        for pad in ("zeros", "reflection") if mode == "cubic" else ("zeros", "border", "reflection"):
            for corners in (0, 1):
                how = dict(mode=mode, padding_mode=pad, align_corners=corners)
                case(f"grid_{mode}_{pad}_{corners}", node("GridSample", "x g", **how), {"x": x, "g": grid})
                if mode != "cubic":
                    case(f"grid3_{mode}_{pad}_{corners}", node("GridSample", "x g", **how),
                         {"x": volume, "g": points})
    for corners in (0, 1):
        for size in ([2, 3, 5, 7], [2, 3, 4, 5, 6]):
            d = len(size) - 2
            case(f"affine_{d}_{corners}", node("AffineGrid", "t s", align_corners=corners),
                 {"t": floats(rng, 2, d, d + 1)}, constants={"s": np.array(size, np.int64)})
    rois = np.abs(floats(rng, 5, 4)) * 6
    rois[:, 2:] += rois[:, :2]
    batch = np.array([0, 1, 1, 0, 1], np.int64)
    for how in ("half_pixel", "output_half_pixel"):
        attributes = dict(output_height=3, output_width=4, sampling_ratio=2, spatial_scale=0.5)
        case(f"roi_{how}", node("RoiAlign", "x r b", coordinate_transformation_mode=how, **attributes),
             {"x": floats(rng, 2, 3, 7, 9), "r": rois, "b": batch}, opset=16)
    for groups, parts in ((1, 1), (2, 1), (1, 2), (2, 4)):
        attributes = dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 2], dilations=[1, 2], group=groups,
                          offset_group=parts)
        case(f"deform_{groups}_{parts}", node("DeformConv", "x w o b m", **attributes),
             {"x": floats(rng, 2, 4, 7, 8), "o": floats(rng, 2, parts * 12, 4, 8, low=-2, high=2),
              "m": floats(rng, 2, parts * 6, 4, 8)},
             constants={"w": floats(rng, 6, 4 // groups, 3, 2), "b": floats(rng, 6)})


def quantised():
    rng = np.random.default_rng(2)
    for dtype in (np.uint8, np.int8):
        kind = np.dtype(dtype).name
        x, zero = floats(rng, 3, 5, 7, low=-9, high=9), integers(rng, dtype, 5)
        scale = np.abs(floats(rng, 5)) * 0.1 + 0.01
        for op, value in (("QuantizeLinear", x), ("DequantizeLinear", integers(rng, dtype, 3, 5, 7))):
            case(f"{op}_{kind}_one", node(op, "x s z"), {"x": value}, constants={"s": scale[0], "z": zero[0]})
            case(f"{op}_{kind}_axis", node(op, "x s z", axis=-2), {"x": value}, constants={"s": scale, "z": zero})
            case(f"{op}_{kind}_run", node(op, "x s z", axis=1), {"x": value, "s": scale, "z": zero})
            blocks, shape = dict(axis=1, block_size=2), (3, 3, 7)
            case(f"{op}_{kind}_blocks", node(op, "x s z", **blocks), {"x": value},
                 constants={"s": np.abs(floats(rng, *shape)) * 0.1 + 0.01, "z": integers(rng, dtype, *shape)})
        weight = {"w": integers(rng, dtype, 3, 4, 7), "s": np.abs(floats(rng, 3, 2, 7)), "z": integers(rng, dtype, 3, 2, 7)}
        case(f"weight_{kind}_blocks", [node("DequantizeLinear", "w s z", "v", axis=1, block_size=2), node("Add", "x v")],
             {"x": floats(rng, 3, 4, 7)}, constants=weight)
        weight = {"w": integers(rng, dtype, 6, 4), "s": np.abs(floats(rng, 6)), "z": integers(rng, dtype, 6)}
        case(f"weight_{kind}_axis",
             [node("DequantizeLinear", "w s z", "v", axis=0), node("Transpose", "v", "t"), node("MatMul", "x t")],
             {"x": floats(rng, 3, 4)}, constants=weight)
        weight = {"w": integers(rng, dtype, 3, 3, 8, 12), "s": np.abs(floats(rng, 12)), "z": integers(rng, dtype, 12)}
        case(f"weight_{kind}_turned", [node("DequantizeLinear", "w s z", "v", axis=3),
                                       node("Transpose", "v", "t", perm=[3, 2, 0, 1]), node("Conv", "x t")],
             {"x": floats(rng, 1, 8, 6, 7)}, constants=weight)
    u8, i8 = np.uint8, np.int8
    for k in (5, 258, 259, 700):
        a, b = integers(rng, u8, 3, k), integers(rng, i8, k, 4)
        zeros = {"za": np.array(130, u8), "zb": integers(rng, i8, 4)}
        for stored in (True, False):
            given, kept = {"a": a}, {"b": b, **zeros}
            if not stored:
                given["b"] = kept.pop("b")
            case(f"matmul_integer_{k}_{stored}", node("MatMulInteger", "a b za zb"), given, constants=kept, opset=10)
        scales = {"sa": np.float32(0.02), "sb": np.abs(floats(rng, 4)) * 0.01, "sy": np.float32(0.5), "zy": np.array(110, u8)}
        case(f"qlinear_matmul_{k}", node("QLinearMatMul", "a sa za b sb zb sy zy"), {"a": a},
             constants={"b": b, **zeros, **scales}, opset=10)
    for groups, channels in ((1, 40), (2, 6), (6, 6)):
        w, zw = integers(rng, i8, 6, channels // groups, 3, 3), integers(rng, i8, 6)
        common = dict(pads=[1, 0, 1, 2], strides=[2, 1], group=groups)
        x = integers(rng, u8, 2, channels, 9, 8)
        case(f"qlinear_conv_{groups}", node("QLinearConv", "x sx zx w sw zw sy zy b", **common), {"x": x}, opset=10,
             constants={"w": w, "zw": zw * 0, "sx": np.float32(0.02), "zx": np.array(120, u8),
                        "sw": np.abs(floats(rng, 6)) * 0.01, "sy": np.float32(0.4), "zy": np.array(128, u8),
                        "b": rng.integers(-9999, 9999, 6).astype(np.int32)})
        case(f"conv_integer_{groups}", node("ConvInteger", "x w zx", **common), {"x": x}, opset=10,
             constants={"w": integers(rng, u8, 6, channels // groups, 3, 3), "zx": np.array(120, u8)})
    case("dynamic", node("DynamicQuantizeLinear", "x", "y s z"), {"x": floats(rng, 50, 3, low=-3, high=7)},
         outputs=("y", "s", "z"), opset=11)


def windows():
    rng = np.random.default_rng(3)
    volume = floats(rng, 2, 4, 6, 7, 8)
    shape = dict(kernel_shape=[2, 3, 3], strides=[1, 2, 2], pads=[0, 1, 1, 1, 0, 1])
    for ceil in (0, 1):
        case(f"max3_{ceil}", node("MaxPool", "x", ceil_mode=ceil, dilations=[2, 1, 2], **shape), {"x": volume})
        for counted in (0, 1):
            case(f"average3_{ceil}_{counted}",
                 node("AveragePool", "x", ceil_mode=ceil, count_include_pad=counted, **shape), {"x": volume})
    case("max3_same", node("MaxPool", "x", kernel_shape=[3, 2, 3], auto_pad="SAME_UPPER", strides=[2, 2, 2]), {"x": volume})
    for groups in (1, 2, 4):
        w = floats(rng, 8, 4 // groups, 2, 3, 3)
        conv = node("Conv", "x w b", group=groups, dilations=[2, 1, 1], **shape)
        case(f"conv3_{groups}", conv, {"x": volume}, constants={"w": w, "b": floats(rng, 8)})
        case(f"conv3_{groups}_run", conv, {"x": volume, "w": w}, constants={"b": floats(rng, 8)})
        flat, w = floats(rng, 2, 4, 7, 8), floats(rng, 8, 4 // groups, 3, 3)
        case(f"conv2_{groups}_run", node("Conv", "x w", group=groups, pads=[1, 1, 0, 0]), {"x": flat, "w": w})
        w = floats(rng, 4, 3, 3, 3)
        case(f"transposed2_{groups}_run", node("ConvTranspose", "x w", group=groups, strides=[2, 1]), {"x": flat, "w": w})
    case("conv3_same", node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 1, 2]), {"x": volume},
         constants={"w": floats(rng, 3, 4, 3, 2, 3)})
    for stride, extra in ((1, 0), (2, 1), (3, 0)):
        how = dict(strides=[stride, 2, 1], pads=[1, 0, 1, 0, 1, 0], output_padding=[extra, 0, 0], dilations=[2, 1, 1])
        case(f"transposed3_{stride}", node("ConvTranspose", "x w b", **how), {"x": volume},
             constants={"w": floats(rng, 4, 5, 2, 3, 3), "b": floats(rng, 5)})
    for order in (0, 1):
        how = dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], dilations=[1, 2], storage_order=order)
        case(f"max_places_{order}", node("MaxPool", "x", "y i", **how), {"x": floats(rng, 2, 3, 8, 9)}, outputs=("y", "i"))
    case("max_places_1d", node("MaxPool", "x", "y i", kernel_shape=[3], strides=[2], ceil_mode=1),
         {"x": floats(rng, 2, 3, 10)}, outputs=("y", "i"))
    case("col2im", node("Col2Im", "x i b", pads=[1, 0, 1, 1], strides=[2, 1], dilations=[1, 2]),
         {"x": floats(rng, 2, 18, 32)}, constants={"i": np.array([7, 9], np.int64), "b": np.array([3, 2], np.int64)})
    for p in (1, 2, 3):
        case(f"lp_{p}", node("LpPool", "x", p=p, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
             {"x": floats(rng, 2, 3, 8, 9)})
    places = np.stack([rng.permutation(36)[:9] + 36 * i for i in range(6)]).reshape(2, 3, 3, 3).astype(np.int64)
    case("unpool", node("MaxUnpool", "x i", kernel_shape=[2, 2], strides=[2, 2]), {"x": floats(rng, 2, 3, 3, 3), "i": places})


def spectra():
    rng = np.random.default_rng(4)
    for length in (None, 8, 12, 15):
        sizes = {} if length is None else {"n": np.array(length, np.int64)}
        for parts in (1, 2):
            for inverse in (0, 1):
                for onesided in (0, 1):
                    if inverse and parts == 1 or onesided and (inverse or parts == 2):
                        continue
                    case(f"dft_{length}_{parts}_{inverse}_{onesided}",
                         node("DFT", f"x {'n' if sizes else ''} a", inverse=inverse, onesided=onesided),
                         {"x": floats(rng, 2, 12, 5, parts)}, constants={"a": np.array(1, np.int64), **sizes}, opset=20)
    for parts, onesided in ((1, 1), (1, 0)):
        case(f"stft_{parts}_{onesided}", node("STFT", "x h w n", onesided=onesided), {"x": floats(rng, 2, 200, parts)},
             constants={"h": np.array(10, np.int64), "w": floats(rng, 32), "n": np.array(32, np.int64)}, opset=17)
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        for periodic in (0, 1):
            case(f"{op}_{periodic}", node(op, "n", periodic=periodic), {"n": np.array(37, np.int64)}, opset=17)
    case("mel", [node("MelWeightMatrix", "b n r l h", "m"), node("MatMul", "x m")], {"x": floats(rng, 3, 129)}, opset=17,
         constants={"b": np.array(20, np.int64), "n": np.array(256, np.int64), "r": np.array(8000, np.int64),
                    "l": np.float32(40), "h": np.float32(3800)})


def resizing():
    rng = np.random.default_rng(5)
    x = floats(rng, 2, 3, 20, 17)
    for mode in ("linear", "cubic"):
        for size in ([11, 8], [20, 9], [33, 7]):
            for exclude in (0, 1) if mode == "cubic" else (0,):
                case(f"antialias_{mode}_{size[0]}_{exclude}",
                     node("Resize", "x   s", mode=mode, antialias=1, exclude_outside=exclude),
                     {"x": x}, constants={"s": np.array([2, 3, *size], np.int64)})
    for mode in ("nearest", "linear"):
        case(f"crop_{mode}",
             node("Resize", "x r  s", mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.5),
             {"x": x}, constants={"r": np.array([0, 0, 0.2, -0.1, 1, 1, 0.7, 1.2], np.float32),
                                  "s": np.array([2, 3, 13, 21], np.int64)})
        for policy in ("not_larger", "not_smaller"):
            case(f"{policy}_{mode}", node("Resize", "x   s", mode=mode, keep_aspect_ratio_policy=policy, axes=[2, 3]),
                 {"x": x}, constants={"s": np.array([31, 40], np.int64)})


def selection():
    rng = np.random.default_rng(6)
    boxes = np.abs(floats(rng, 2, 60, 4))
    scores = np.abs(floats(rng, 2, 3, 60))
    for centred in (0, 1):
        bounds = {"m": np.array([9], np.int64), "o": np.array([0.3], np.float32), "t": np.array([0.2], np.float32)}
        nms = node("NonMaxSuppression", "b s m o t", "i", center_point_box=centred)
        case(f"nms_{centred}", nms, {"b": boxes, "s": scores}, outputs=("i",), constants=bounds)
        # The usual end of a detector: the boxes that are kept, with their classes.
        case(f"nms_boxes_{centred}",
             [nms, node("Gather", "i two", "box", axis=1), node("Gather", "i zero", "batch", axis=1),
              node("Concat", "batch box", "places", axis=1), node("GatherND", "b places", "y"),
              node("Cast", "box", "f", to=TensorProto.FLOAT), node("Mul", "f half", "z")],
             {"b": boxes, "s": scores}, outputs=("y", "z"),
             constants={**bounds, "two": np.array([2], np.int64), "zero": np.array([0], np.int64),
                        "half": np.array(0.5, np.float32)})
    case("nms_none", node("NonMaxSuppression", "b s m o t", "i"), {"b": boxes, "s": scores}, outputs=("i",),
         constants={"m": np.array([9], np.int64), "o": np.array([0.3], np.float32), "t": np.array([2.0], np.float32)})
    mask = rng.random((4, 5, 6)) < 0.3
    case("non_zero", node("NonZero", "x"), {"x": floats(rng, 4, 5, 6) * mask})
    case("non_zero_none", node("NonZero", "x"), {"x": np.zeros((4, 3), np.int64)})
    case("non_zero_rows", [node("NonZero", "x", "i"), node("Transpose", "i", "t", perm=[1, 0]), node("GatherND", "d t")],
         {"x": mask, "d": floats(rng, 4, 5, 6)})
    for axis in (0, 1, -1):
        case(f"hardmax_{axis}", node("Hardmax", "x", axis=axis), {"x": np.round(floats(rng, 4, 5, 6), 1)})
    for batch in (0, 1):
        case(f"reverse_{batch}", node("ReverseSequence", "x l", batch_axis=batch, time_axis=1 - batch),
             {"x": floats(rng, 5, 5, 3), "l": np.array([5, 1, 3, 2, 4], np.int64)})
    for axis in (None, 0, 1, 2):
        how = {} if axis is None else {"axis": axis}
        truth = rng.random(120 if axis is None else (4, 5, 6)[axis]) < 0.5
        case(f"compress_{axis}", node("Compress", "x c", **how), {"x": floats(rng, 4, 5, 6), "c": truth})


def recurrence():
    rng = np.random.default_rng(7)
    for direction, dirs in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        case(f"rnn_{direction}", node("RNN", "x w r b  h", "y s", hidden_size=5, direction=direction),
             {"x": floats(rng, 6, 2, 3), "h": floats(rng, dirs, 2, 5)}, outputs=("y", "s"),
             constants={"w": floats(rng, dirs, 5, 3), "r": floats(rng, dirs, 5, 5), "b": floats(rng, dirs, 10)})
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weights = {"w": floats(rng, 1, gates * 5, 3), "r": floats(rng, 1, gates * 5, 5), "b": floats(rng, 1, gates * 10)}
        case(f"lens_{op}", node(op, "x w r b l", "y s", hidden_size=5),
             {"x": floats(rng, 6, 3, 3), "l": np.array([6, 2, 4], np.int32)}, outputs=("y", "s"), constants=weights)
    for direction, dirs in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
            weights = {"w": floats(rng, dirs, gates * 5, 3), "r": floats(rng, dirs, gates * 5, 5),
                       "b": floats(rng, dirs, gates * 10)}
            case(f"lens_{op}_{direction}", node(op, "x w r b l h", "y s", hidden_size=5, direction=direction),
                 {"x": floats(rng, 6, 3, 3), "l": np.array([6, 2, 4], np.int32), "h": floats(rng, dirs, 3, 5)},
                 outputs=("y", "s"), constants=weights)


def loops():
    rng = np.random.default_rng(8)
    value = lambda name, kind, dims: helper.make_tensor_value_info(name, kind, dims)
    body = helper.make_graph(
        [node("MatMul", "s w", "p"), node("Add", "p e", "t"), node("Identity", "t", "c")], "body",
        [value("s", 1, [2, 4]), value("e", 1, [2, 4])], [value("t", 1, [2, 4]), value("c", 1, [2, 4])],
        [numpy_helper.from_array(floats(rng, 4, 4), "w")])
    for backwards in (0, 1):
        case(f"scan_{backwards}",
             node("Scan", "s x", "t y", body=body, num_scan_inputs=1, scan_input_axes=[1],
                  scan_input_directions=[backwards], scan_output_axes=[1], scan_output_directions=[backwards]),
             {"s": floats(rng, 2, 4), "x": floats(rng, 2, 5, 4)}, outputs=("t", "y"))
        # Along a size that the file does not tell.
        for length in (1, 6):
            case(f"repeat_scan_{backwards}_{length}",
                 [node("Reshape", "x k", "z"),
                  node("Scan", "s z", "t y", body=body, num_scan_inputs=1, scan_input_axes=[1],
                       scan_input_directions=[backwards], scan_output_axes=[2], scan_output_directions=[1 - backwards])],
                 {"s": floats(rng, 2, 4), "x": floats(rng, 2 * length, 4), "k": np.array([2, length, 4], np.int64)},
                 outputs=("t", "y"))
    body = helper.make_graph(
        [node("Mul", "s s", "q"), node("Cast", "i", "f", to=1), node("Add", "q f", "t"), node("Identity", "t", "c"),
         node("Less", "i three", "go")], "body",
        [value("i", 7, []), value("g", 9, []), value("s", 1, [3])],
        [value("go", 9, []), value("t", 1, [3]), value("c", 1, [3])],
        [numpy_helper.from_array(np.array(3, np.int64), "three")])
    case("loop_until", node("Loop", "n  s", "t c", body=body), {"s": floats(rng, 3)}, outputs=("t", "c"),
         constants={"n": np.array(9, np.int64)})
    # Halved until the largest is below a bound: how many turns depends on the data.
    halves = helper.make_graph(
        [node("Mul", "s half", "t"), node("Identity", "s", "c"), node("ReduceMax", "t", "m", keepdims=0),
         node("Greater", "m bound", "go")], "body",
        [value("i", 7, []), value("g", 9, []), value("s", 1, [2, 3])],
        [value("go", 9, []), value("t", 1, [2, 3]), value("c", 1, [2, 3])],
        [numpy_helper.from_array(np.float32(0.5), "half"), numpy_helper.from_array(np.float32(1), "bound")])
    for largest in (0.5, 1.5, 3, 11, 900):
        x = floats(rng, 2, 3)
        x *= largest / x.max()
        case(f"loop_halves_{largest}", node("Loop", "n  s", "t c", body=halves), {"s": x.astype(np.float32)},
             outputs=("t", "c"), constants={"n": np.array(7, np.int64)})
        begin = np.array(largest > 1)
        case(f"loop_begins_{largest}", node("Loop", "n b s", "t c", body=halves),
             {"s": x.astype(np.float32), "b": begin}, outputs=("t", "c"), constants={"n": np.array(5, np.int64)})


def repeated():
    """Loops of as many turns as the data say."""
    rng = np.random.default_rng(11)
    value = lambda name, kind, dims: helper.make_tensor_value_info(name, kind, dims)
    number = lambda n: np.array(n, np.int64)
    turn = [value("i", 7, []), value("g", 9, [])]

    def loop(nodes, carried, gives, stored=(), kinds=None):
        """The body: nodes, {state: shape}, the names that it gives."""
        kinds = kinds or {}
        ports = [value(name, kinds.get(name, 1), dims) for name, dims in carried.items()]
        tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(stored).items()]
        results = [helper.make_empty_tensor_value_info(name) for name in gives.split(" ")]
        return helper.make_graph(nodes, "body", turn + ports, results, tensors)

    halves = loop([node("Mul", "s half", "t"), node("Identity", "s", "c"), node("ReduceMax", "t", "m", keepdims=0),
                   node("Greater", "m bound", "go")], {"s": [2, 3]}, "go t c",
                  {"half": np.float32(0.5), "bound": np.float32(1)})
    until = loop([node("Mul", "s half", "t"), node("ReduceMax", "t", "m", keepdims=0), node("Greater", "m bound", "go")],
                 {"s": [2, 3]}, "go t", {"half": np.float32(0.5), "bound": np.float32(1)})
    for largest in (0.5, 1.5, 11, 1e9, 1e20):
        x = floats(rng, 2, 3)
        x = (x * (largest / x.max())).astype(np.float32)
        # As many entries as there were turns; behind the loop both are used.
        after = [node("Neg", "c", "d"), node("ReduceSum", "t", "u", keepdims=0)]
        case(f"repeat_listed_{largest}", [node("Loop", "n  s", "t c", body=halves), *after], {"s": x}, outputs=("u", "d"),
             constants={"n": number(50)})
        case(f"repeat_until_{largest}", [node("Loop", "  s", "t", body=until), node("Add", "t s", "y")], {"s": x})
        case(f"repeat_begins_{largest}", node("Loop", "n b s", "t", body=until), {"s": x, "b": np.array(largest > 1)},
             outputs=("t",), constants={"n": number(40)})
        times = [node("ReduceMax", "s", "k", keepdims=0), node("Log", "k", "l"), node("Cast", "l", "n", to=7)]
        case(f"repeat_computed_{largest}", [*times, node("Loop", "n  s", "y", body=until)], {"s": x})
    # Two values that change places, and lists of both.
    swap = loop([node("Add", "a b", "c"), node("Identity", "g", "go"), node("Mul", "a b", "d")], {"a": [3], "b": [3]},
                "go b c a d")
    pair = {"a": floats(rng, 3), "b": floats(rng, 3)}
    for turns in (0, 1, 2, 7):
        case(f"repeat_swap_{turns}", node("Loop", "n  a b", "q r l p", body=swap), {**pair, "n": number(turns)},
             outputs=("q", "r", "l", "p"))
    case("repeat_long", node("Loop", "n  a b", "q r l p",
                             body=loop([node("Mul", "a half", "c"), node("Cos", "b", "m"), node("Cast", "i", "f", to=1),
                                        node("Identity", "g", "go")],
                                       {"a": [3], "b": [3]}, "go m c f b", {"half": np.float32(0.5)})),
         pair, outputs=("q", "r", "l", "p"), constants={"n": number(5000)})
    # A token after the other: the next is the likeliest of what all before it add up to.
    tokens, width = 12, 16
    stored = {"table": floats(rng, 10, width), "w": floats(rng, width, width), "v": floats(rng, width, 10), "one": number([1]),
              "axis": number([0]), "last": number(3), "flat": number([-1])}
    write = [node("Gather", "table token", "e"), node("MatMul", "h w", "hw"), node("Add", "hw e", "sum"),
             node("Tanh", "sum", "new"), node("MatMul", "new v", "logits"), node("ArgMax", "logits", "next", axis=1, keepdims=0),
             node("Unsqueeze", "i axis", "place"), node("ScatterElements", "said place next", "told"),
             node("Equal", "next last", "end1"), node("Not", "end1", "go1"), node("Squeeze", "go1 axis", "go")]
    body = loop(write, {"h": [1, width], "token": [1], "said": [tokens]}, "go new next told logits", stored,
                {"token": 7, "said": 7})
    for seed in range(4):
        case(f"repeat_decode_{seed}", node("Loop", "n  h t s", "y u told l", body=body),
             {"h": floats(np.random.default_rng(seed), 1, width)}, outputs=("y", "told", "l"),
             constants={"t": number([seed]), "s": np.zeros(tokens, np.int64), "n": number(tokens)})
    # Pictures in, pictures out; the weights of a convolution in each turn, an operand from outside, a choice.
    yes = helper.make_graph([node("Relu", "p", "r1")], "yes", [], [helper.make_empty_tensor_value_info("r1")])
    no = helper.make_graph([node("Neg", "p", "r2")], "no", [], [helper.make_empty_tensor_value_info("r2")])
    steps = [node("Conv", "s w", "p", pads=[1, 1, 1, 1]), node("ReduceMean", "p", "m", keepdims=0),
             node("Greater", "m zero", "up"), helper.make_node("If", ["up"], ["q"], then_branch=yes, else_branch=no),
             node("Add", "q side", "t"), node("Sqrt", "d", "e"), node("Greater", "e bound", "go")]
    body = loop(steps, {"s": [1, 4, 6, 5], "d": []}, "go t e m",
                {"w": floats(rng, 4, 4, 3, 3) / 4, "zero": np.float32(0), "bound": np.float32(1.01)})
    case("repeat_picture", [node("Relu", "x", "side"), node("Loop", "n  x d", "y e m", body=body), node("Add", "y side", "z")],
         {"x": floats(rng, 1, 4, 6, 5), "d": np.array(50, np.float32)}, outputs=("z", "e", "m"), constants={"n": number(100)})
    # A loop in a loop; the inner one as often as the outer has turned, at most until it is small.
    inner = loop([node("Mul", "r half", "r2"), node("ReduceMax", "r2", "top", keepdims=0), node("Greater", "top low", "on")],
                 {"r": [4]}, "on r2", {"half": np.float32(0.7), "low": np.float32(0.4)})
    outer = loop([node("Add", "i one", "n1"), node("Loop", "n1  s", "k", body=inner), node("Add", "k x", "t"),
                  node("ReduceSum", "t", "z", keepdims=0), node("Less", "z much", "go")], {"s": [4]}, "go t k",
                 {"one": number(1), "much": np.float32(9)})
    case("repeat_nested", node("Loop", "n  x", "y k", body=outer), {"x": np.abs(floats(rng, 4)) + np.float32(0.3)},
         outputs=("y", "k"), constants={"n": number(300)})
    # Whether to go on is itself carried; other types; what no turn changes; whole numbers outside and inside.
    body = loop([node("Sub", "left one", "less"), node("Greater", "less zero", "more"), node("Cast", "less", "half", to=10),
                 node("Cast", "half", "back", to=1), node("Add", "sum back", "new"), node("Cast", "fixed", "f", to=1),
                 node("Mul", "new f", "scaled")], {"left": [], "more0": [], "sum": [2], "fixed": [2]},
                "more0 less more new fixed scaled", {"one": np.int32(1), "zero": np.int32(0)},
                {"left": 6, "more0": 9, "fixed": 7})
    case("repeat_types", [node("Loop", "n  left yes sum fixed", "l m s k c", body=body), node("Cast", "k", "kf", to=1),
                          node("Cast", "l", "lf", to=1), node("Add", "kf lf", "y")],
         {"left": np.array(5, np.int32), "yes": np.array(True), "sum": floats(rng, 2), "fixed": np.array([3, -2], np.int64)},
         outputs=("y", "m", "s", "c"), constants={"n": number(64)})


def branches():
    rng = np.random.default_rng(10)
    value = lambda name: helper.make_tensor_value_info(name, 1, [2, 3])
    one = numpy_helper.from_array(np.float32(1), "one")
    yes = helper.make_graph([node("Relu", "x", "a"), node("Add", "a one", "b"), node("Identity", "x", "e")], "yes", [],
                            [value("b"), value("e")], [one])
    no = helper.make_graph([node("Neg", "x", "c"), node("Exp", "c", "d")], "no", [], [value("c"), value("d")])
    body = helper.make_graph(
        [node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m one", "go"),
         helper.make_node("If", ["go"], ["t", "u"], then_branch=yes, else_branch=no)], "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("g", 9, []), value("x")],
        [helper.make_tensor_value_info("g", 9, []), value("t"), value("u")], [one])
    for scale in (0.1, 10):
        case(f"if_data_{scale}", node("Loop", "n  x", "t c", body=body), {"x": (scale * floats(rng, 2, 3)).astype(np.float32)},
             outputs=("t", "c"), constants={"n": np.array(2, np.int64)})


def shapes():
    rng = np.random.default_rng(9)
    for wanted in ([5, 9, 4], [8, 3, 4], [7, 6, 11]):
        for stored in (True, False):
            size = {"s": np.array(wanted, np.int64)}
            case(f"centre_{wanted[0]}_{stored}", node("CenterCropPad", "x s"),
                 {"x": floats(rng, 7, 6, 4), **({} if stored else size)}, constants=size if stored else {})
    for axes in ([0, 2, 3], [1], [-1, 0]):
        case(f"mean_variance_{axes[0]}_{len(axes)}", node("MeanVarianceNormalization", "x", axes=axes),
             {"x": floats(rng, 3, 4, 5, 6)})
    axes = {"a": np.array([2, -3], np.int64)}
    case("axes_squeeze", node("Squeeze", "x a"), {"x": floats(rng, 4, 1, 1, 5), "a": np.array([2, -3], np.int64)})
    case("axes_unsqueeze", node("Unsqueeze", "x a"), {"x": floats(rng, 4, 5), **axes})
    case("axes_slice", node("Slice", "x b e a t"),
         {"x": floats(rng, 4, 5, 6), "b": np.array([4, 0], np.int64), "e": np.array([0, 9], np.int64), **axes,
          "t": np.array([-2, 1], np.int64)})
    case("axes_pad", node("Pad", "x p v a"), {"x": floats(rng, 4, 5, 6), "p": np.array([1, 0, 2, 3], np.int64), **axes},
         constants={"v": np.float32(2.5)})


def write(folder, spec):
    """The case as a suite stores it, with onnxruntime's outputs. Returns the folder of its data."""
    nodes, inputs, outputs, constants, opset = spec
    kind = lambda array: helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
    ports = [helper.make_tensor_value_info(n, kind(a), np.asarray(a).shape) for n, a in inputs.items()]
    graph = helper.make_graph(nodes, "case", ports, [helper.make_empty_tensor_value_info(o) for o in outputs],
                              [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    want = session.run(outputs, dict(inputs))
    for port, array in zip(graph.output, want):
        port.CopyFrom(helper.make_tensor_value_info(port.name, kind(array), array.shape))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    # Onnxruntime's own rounding: positions in f32, long sums one after the other.
    (folder / "data.json").write_text(json.dumps({"rtol": 1e-3, "atol": 2e-5}))
    onnx.save(model, folder / "model.onnx")
    for prefix, arrays in (("input", inputs.values()), ("output", want)):
        for i, array in enumerate(arrays):
            (data / f"{prefix}_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(array)).SerializeToString())
    return data


def run(command, name, spec, folder):
    """(verdict, note) of one case."""
    data = write(folder, spec)
    produced = folder / "out"
    produced.mkdir()
    words = [w.format(model=folder / "model.onnx", inputs_dir=data, out_dir=produced) for w in shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode == REFUSED:
        return "refused", done.stderr.strip()
    if done.returncode:
        return "crash", done.stderr.strip()
    return judge.judge(folder, data, produced)


def all_cases():
    """The cases by name."""
    for group in (sampling, quantised, windows, spectra, resizing, selection, recurrence, loops, repeated, branches, shapes):
        group()
    return CASES


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cmd", required=True)
    parser.add_argument("--filter", default="", help="regular expression over names")
    parser.add_argument("--allow-refused", action="store_true")
    args = parser.parse_args()
    counts, bad = {}, 0
    for name, spec in all_cases().items():
        if not re.search(args.filter, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                verdict, note = run(args.cmd, name, spec, pathlib.Path(folder))
            except Exception as error:  # onnxruntime has no such form: nothing to compare with
                verdict, note = "no reference", str(error).splitlines()[0]
        counts[verdict] = counts.get(verdict, 0) + 1
        fine = verdict == "pass" or (verdict == "refused" and args.allow_refused)
        bad += not fine
        if not fine:
            print(f"{verdict:12} {name}: {note[:300]}")
    print(", ".join(f"{verdict} {count}" for verdict, count in sorted(counts.items())))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
