"""The cases of fused.py: for each operator its attributes and optional operands, combined."""
import dataclasses
import itertools
import zlib

import numpy as np
from onnx import TensorProto, helper

MS = "com.microsoft"


@dataclasses.dataclass
class Case:
    """A model of one node. `free` gives a name (a letter) or a dot for each dimension of an input."""
    name: str
    op: str
    operands: list
    inputs: dict
    weights: dict
    results: list
    attributes: dict
    domain: str = MS
    opset: int = 21
    free: dict = dataclasses.field(default_factory=dict)
    refused: str = ""
    result_type: int | None = None
    result_types: dict = dataclasses.field(default_factory=dict)
    keys: np.ndarray | None = None
    # Of what onnxruntime rounds on the way and the command does not: the share of the range that results may differ by.
    tolerance: float | None = None

    def shown(self, name, array):
        """What of a result is compared: of a cache the keys that are filled, for the rest is nobody's."""
        if self.keys is None or not name.startswith("present"):
            return array
        filled = np.arange(array.shape[2])[None, :] < self.keys[:, None]
        return np.where(filled[:, None, :, None], array, 0)


class Values:
    """Arrays from a seed."""

    def __init__(self, name):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def f(self, *shape, dtype=np.float32, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(dtype)

    def i(self, high, *shape, dtype=np.int32):
        return self.rng.integers(0, high, shape).astype(dtype)


def options(**lists):
    """Every combination, as dictionaries."""
    return [dict(zip(lists, values)) for values in itertools.product(*lists.values())]


def label(op, choice):
    return op + "".join(f"/{k}={v}" for k, v in choice.items())


def case(op, choice, operands, weights=(), results=("y",), attributes=None, **more):
    """`operands` is [(name, array or None)]; those named in `weights` are stored."""
    given = [(n, a) for n, a in operands if a is not None]
    names = [n if a is not None else "" for n, a in operands]
    while names and not names[-1]:
        names.pop()
    return Case(name=label(op, choice), op=op, operands=names,
                inputs={n: a for n, a in given if n not in weights}, weights={n: a for n, a in given if n in weights},
                results=list(results), attributes={k: v for k, v in (attributes or {}).items() if v is not None}, **more)


def products():
    for c in options(transA=[0, 1], transB=[0, 1], batch=[(), (3,), (2, 3)], stored=[False, True], alpha=[1.0, 0.5]):
        v = Values(label("FusedMatMul", c))
        a, b = (5, 4), (4, 6)
        a = c["batch"] + (a[::-1] if c["transA"] else a)
        b = (() if c["stored"] else c["batch"]) + (b[::-1] if c["transB"] else b)
        yield case("FusedMatMul", c, [("a", v.f(*a)), ("b", v.f(*b))], ["b"] if c["stored"] else [],
                   attributes={k: c[k] for k in ("transA", "transB", "alpha")}, free={"a": "xyz"[:len(a) - 2]})
    for c in options(transBatchA=[0, 1], transBatchB=[0, 1], transA=[0, 1]):
        v = Values(label("FusedMatMul", c))
        # [batch, rows, columns], rows first where the attribute says so; transA swaps what is then last.
        a = (3, 4, 5) if c["transA"] else (3, 5, 4)
        b = (3, 4, 6)
        a = (a[1], a[0], a[2]) if c["transBatchA"] else a
        b = (b[1], b[0], b[2]) if c["transBatchB"] else b
        yield case("FusedMatMul", c, [("a", v.f(*a)), ("b", v.f(*b))], attributes=c)
    v = Values("FusedMatMul")
    yield case("FusedMatMul", {"vector": 1}, [("a", v.f(4)), ("b", v.f(4, 6))], attributes={"transA": 1},
               refused="fewer than 2 dimensions")
    acts = [("Relu", {}), ("Tanh", {}), ("Sigmoid", {}), ("LeakyRelu", {"activation_alpha": 0.1}),
            ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4})]
    for (act, parameters), c in itertools.product(acts, options(transA=[0, 1], transB=[0, 1], bias=[None, (6,), (5, 6), (5, 1)])):
        v = Values(label("FusedGemm" + act, c))
        a, b = (4, 5) if c["transA"] else (5, 4), (6, 4) if c["transB"] else (4, 6)
        bias = None if c["bias"] is None else v.f(*c["bias"])
        yield case("FusedGemm", {"act": act, **c}, [("a", v.f(*a)), ("b", v.f(*b)), ("c", bias)], ["b", "c"],
                   attributes={"transA": c["transA"], "transB": c["transB"], "alpha": 0.7, "beta": 1.5,
                               "activation": act, **parameters})
    yield case("FusedGemm", {"act": "Softplus"}, [("a", v.f(5, 4)), ("b", v.f(4, 6))], ["b"],
               attributes={"activation": "Softplus"}, refused='activation="Softplus"')
    acts = [("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.1]), ("Clip", [-0.5, 0.7]),
            ("HardSigmoid", [0.3, 0.4])]
    for (act, parameters), c in itertools.product(acts, options(group=[1, 4], bias=[False, True], sum=[False, True])):
        v = Values(label("FusedConv" + act, c))
        w, bias = v.f(4, 4 // c["group"], 3, 3), v.f(4) if c["bias"] else None
        operands = [("x", v.f(2, 4, 7, 8)), ("w", w), ("bias", bias), ("z", v.f(2, 4, 4, 4) if c["sum"] else None)]
        yield case("FusedConv", {"act": act, **c}, operands, ["w", "bias"],
                   attributes={"group": c["group"], "kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2],
                               "activation": act, "activation_params": parameters}, free={"x": "n"})
    yield case("FusedConv", {"act": "Elu"}, [("x", v.f(1, 4, 7, 8)), ("w", v.f(4, 4, 3, 3))], ["w"],
               attributes={"activation": "Elu", "activation_params": [1.0]}, refused='activation="Elu"')


def elementwise():
    for op, c in itertools.product(["Gelu", "FastGelu", "BiasGelu", "QuickGelu"], options(bias=[False, True])):
        if c["bias"] != (op == "BiasGelu") and op != "FastGelu":
            continue
        v = Values(label(op, c))
        yield case(op, c, [("x", v.f(2, 5, 8, scale=3)), ("bias", v.f(8) if c["bias"] else None)], ["bias"], free={"x": "bs"})
    for alpha in [0.5, 1.0, -2.0]:
        yield case("QuickGelu", {"alpha": alpha}, [("x", Values("quick").f(2, 5, 8, scale=3))], attributes={"alpha": alpha})
    for c in options(epsilon=[None, 1e-3], skip=[(2, 5, 8), (1, 5, 8), (5, 8)], beta=[False, True], bias=[False, True],
                     sum=[False, True]):
        v = Values(label("SkipLayerNormalization", c))
        operands = [("x", v.f(2, 5, 8)), ("skip", v.f(*c["skip"])), ("gamma", v.f(8)),
                    ("beta", v.f(8) if c["beta"] else None), ("bias", v.f(8) if c["bias"] else None)]
        yield case("SkipLayerNormalization", c, operands, ["gamma", "beta", "bias"],
                   results=["y", "", "", "sum"] if c["sum"] else ["y"], attributes={"epsilon": c["epsilon"]},
                   free={"x": "bs", "skip": "bs"} if c["skip"] == (2, 5, 8) else {})
    for c in options(epsilon=[None, 1e-3], bias=[False, True], sum=[False, True], shape=[(2, 5, 8), (5, 8)]):
        v = Values(label("SkipSimplifiedLayerNormalization", c))
        operands = [("x", v.f(*c["shape"])), ("skip", v.f(*c["shape"])), ("gamma", v.f(8)), ("bias", v.f(8) if c["bias"] else None)]
        yield case("SkipSimplifiedLayerNormalization", c, operands, ["gamma", "bias"],
                   results=["y", "", "", "sum"] if c["sum"] else ["y"], attributes={"epsilon": c["epsilon"]},
                   free={"x": "bs", "skip": "bs"} if len(c["shape"]) == 3 else {})
    v = Values("half")
    half = [("x", v.f(2, 5, 8, dtype=np.float16)), ("skip", v.f(2, 5, 8, dtype=np.float16)), ("gamma", v.f(8, dtype=np.float16))]
    yield case("SkipLayerNormalization", {"half": 1}, half, ["gamma"])
    yield case("SkipSimplifiedLayerNormalization", {"half": 1}, half, ["gamma"])
    for op in ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"]:
        yield case(op, {"mean": 1}, half, ["gamma"], results=["y", "mean"], refused="mean")
    for c in options(axis=[None, 1, -2], epsilon=[None, 1e-2]):
        v = Values(label("SimplifiedLayerNormalization", c))
        scale = v.f(8) if c["axis"] is None else v.f(5, 8)
        yield case("SimplifiedLayerNormalization", c, [("x", v.f(2, 5, 8)), ("scale", scale)], ["scale"], attributes=c,
                   domain="", free={"x": "b"})
    for c in options(segments=[False, True], mask=[False, True], positions=[None, 1, 2], results=[2, 3]):
        v = Values(label("EmbedLayerNormalization", c))
        mask = (np.arange(6)[None, :] < np.array([[4], [6]])).astype(np.int32) if c["mask"] else None
        positions = v.i(10, c["positions"], 6) if c["positions"] else None
        operands = [("ids", v.i(20, 2, 6)), ("segments", v.i(2, 2, 6) if c["segments"] else None), ("words", v.f(20, 8)),
                    ("places", v.f(10, 8)), ("kinds", v.f(2, 8) if c["segments"] else None), ("gamma", v.f(8)),
                    ("beta", v.f(8)), ("mask", mask), ("positions", positions)]
        free = {"ids": "bs", "segments": "bs", "mask": "bs"} | ({"positions": "bs"} if c["positions"] == 2 else {})
        yield case("EmbedLayerNormalization", c, operands, ["words", "places", "kinds", "gamma", "beta"],
                   results=["y", "counts", "sum"][:c["results"]], result_type=TensorProto.FLOAT,
                   result_types={"counts": TensorProto.INT32}, attributes={"epsilon": 1e-5},
                   free={n: f for n, f in free.items() if n in dict((n, a) for n, a in operands if a is not None)})


def rotary():
    for c in options(rank=[3, 4], interleaved=[0, 1], width=[8, 4], positions=["row", "first"]):
        v = Values(label("RotaryEmbedding", c))
        x = v.f(2, 5, 24) if c["rank"] == 3 else v.f(2, 3, 5, 8)
        positions = v.i(16, 2, 5, dtype=np.int64) if c["positions"] == "row" else np.array([7], np.int64)
        operands = [("x", x), ("positions", positions), ("cos", v.f(16, c["width"] // 2)), ("sin", v.f(16, c["width"] // 2))]
        partial = {"num_heads": 3, "rotary_embedding_dim": 4} if c["width"] == 4 else {}
        yield case("RotaryEmbedding", c, operands, ["cos", "sin"], attributes={"interleaved": c["interleaved"], **partial},
                   free={"x": "bs" if c["rank"] == 3 else "b.s", **({"positions": "bs"} if c["positions"] == "row" else {})})
    v = Values("rotary")
    operands = [("x", v.f(2, 5, 24)), ("positions", np.array([0], np.int64)), ("cos", v.f(16, 4)), ("sin", v.f(16, 4))]
    yield case("RotaryEmbedding", {"scale": 2}, operands, attributes={"scale": 2.0}, refused="scale=2")
    yield case("RotaryEmbedding", {"packed": 1}, operands, attributes={"is_packed_batching": 1}, refused="is_packed_batching=1")


def key_mask(v, kind, batch, rows, keys):
    if kind == "lengths":
        return np.array([keys - 2, keys][:batch], np.int32)
    if kind == "keys":
        mask = (v.i(4, batch, keys) > 0).astype(np.int32)
        mask[0, 0] = 0
        return mask
    return None if kind is None else (v.i(4, batch, rows, keys) > 0).astype(np.int32)


def attention():
    b, s, n, d = 2, 5, 3, 8
    h = n * d
    for c in options(mask=[None, "lengths", "keys", "rows"], unidirectional=[0, 1], past=[0, 4], added=[False, True],
                     bias=[False, True]):
        if c["past"] and c["added"]:
            continue  # onnxruntime takes one of them
        v = Values(label("Attention", c))
        keys = s + c["past"]
        operands = [("x", v.f(b, s, 10)), ("w", v.f(10, 3 * h, scale=0.3)), ("bias", v.f(3 * h) if c["bias"] else None),
                    ("mask", key_mask(v, c["mask"], b, s, keys)), ("past", v.f(2, b, n, c["past"], d) if c["past"] else None),
                    ("added", v.f(b, n, s, keys) if c["added"] else None)]
        yield case("Attention", c, operands, ["w", "bias"], results=["y", "present"] if c["past"] else ["y"],
                   attributes={"num_heads": n, "unidirectional": c["unidirectional"]},
                   free={"x": "bs", **({"mask": "bsk" if c["mask"] == "rows" else "bk"} if c["mask"] else {}),
                         **({"past": ".b.p"} if c["past"] else {})})
    v = Values("attention")
    x, w, bias = v.f(b, s, 10), v.f(10, 2 * h + 12), v.f(2 * h + 12)
    yield case("Attention", {"sizes": 1}, [("x", x), ("w", w), ("bias", bias)], ["w", "bias"],
               attributes={"num_heads": n, "qkv_hidden_sizes": [h, h, 12]})
    yield case("Attention", {"scale": 1, "filter": 1}, [("x", x), ("w", v.f(10, 3 * h)), ("bias", v.f(3 * h)),
                                                        ("mask", key_mask(v, "keys", b, s, s))], ["w", "bias"],
               attributes={"num_heads": n, "scale": 0.2, "mask_filter_value": -2.0})
    plain = [("x", x), ("w", v.f(10, 3 * h)), ("bias", v.f(3 * h))]
    for name in ["do_rotary", "past_present_share_buffer"]:
        yield case("Attention", {name: 1}, plain, ["w", "bias"], attributes={"num_heads": n, name: 1}, refused=f"{name}=1")
    ends = np.array([3, 5, 0, 1], np.int32)
    yield case("Attention", {"ends": 1}, plain + [("mask", ends)], ["w", "bias"], attributes={"num_heads": n},
               refused="does not fit shape")


def multi_head():
    b, s, n, d, e = 2, 5, 3, 8, 4
    for c in options(keys=[5, 7], mask=[None, "lengths", "keys", "rows"], unidirectional=[0, 1], past=[0, 4],
                     added=[False, True], bias=[False, True]):
        if c["past"] and c["keys"] != s or c["unidirectional"] and c["keys"] != s:
            continue
        v = Values(label("MultiHeadAttention", c))
        t = c["keys"] + c["past"]
        ve = d if c["past"] else e
        operands = [("q", v.f(b, s, n * d)), ("k", v.f(b, c["keys"], n * d)), ("v", v.f(b, c["keys"], n * ve)),
                    ("bias", v.f(2 * n * d + n * ve) if c["bias"] else None), ("mask", key_mask(v, c["mask"], b, s, t)),
                    ("added", v.f(1, n, s, t) if c["added"] else None)]
        if c["past"]:
            operands += [("past_k", v.f(b, n, c["past"], d)), ("past_v", v.f(b, n, c["past"], d))]
        yield case("MultiHeadAttention", c, operands, ["bias"], results=["y", "present_k", "present_v"] if c["past"] else ["y"],
                   attributes={"num_heads": n, "unidirectional": c["unidirectional"]},
                   free={"q": "bs", "k": "bk", "v": "bk", **({"past_k": "b.p", "past_v": "b.p"} if c["past"] else {})})
    v = Values("multi")
    cross = [("q", v.f(b, s, n * d)), ("k", v.f(b, n, 7, d)), ("v", v.f(b, n, 7, d))]
    yield case("MultiHeadAttention", {"cross": 1}, cross, attributes={"num_heads": n, "scale": 0.2},
               free={"q": "bs", "k": "b.k", "v": "b.k"})
    yield case("MultiHeadAttention", {"packed": 1}, [("q", v.f(b, s, n, 3, d))], attributes={"num_heads": n}, refused="packed")
    yield case("MultiHeadAttention", {"steps": 1}, cross + [(str(i), None) for i in range(5)] + [("at", np.array([1], np.int32))],
               attributes={"num_heads": n}, refused="operands")


def grouped():
    for c in options(rows=[1, 3, 6], past=[0, 5], kv=[1, 2, 4], rotary=[None, 0, 1], packed=[False, True], window=[-1, 3],
                     softcap=[0.0, 2.0], lengths=["same", "mixed"]):
        # Thinned out: every value of every attribute, not every combination.
        if zlib.crc32(label("", c).encode()) % 3 and (c["packed"] or c["softcap"] or c["window"] > 0 or c["kv"] == 2):
            continue
        v = Values(label("GroupQueryAttention", c))
        # What onnxruntime takes: heads of 16 to turn, several rows after others for one of a batch only.
        b, n, d = 1 if c["past"] and c["rows"] > 1 else 2, 4, 16
        total = c["rows"] + c["past"]
        if c["lengths"] == "mixed" and (c["rows"] > 1 or not c["past"]):
            continue
        filled = np.array([total, total - (2 if c["lengths"] == "mixed" else 0)])[:b]
        q, k, w = v.f(b, c["rows"], n * d), v.f(b, c["rows"], c["kv"] * d), v.f(b, c["rows"], c["kv"] * d)
        if c["packed"]:
            q, k, w = np.concatenate([q, k, w], 2), None, None
        operands = [("q", q), ("k", k), ("v", w), ("past_k", v.f(b, c["kv"], c["past"], d)),
                    ("past_v", v.f(b, c["kv"], c["past"], d)), ("last", (filled - 1).astype(np.int32)),
                    ("total", np.array(total, np.int32)), ("cos", v.f(16, 8) if c["rotary"] is not None else None),
                    ("sin", v.f(16, 8) if c["rotary"] is not None else None)]
        yield case("GroupQueryAttention", c, operands, ["cos", "sin", "total"], results=["y", "present_k", "present_v"],
                   attributes={"num_heads": n, "kv_num_heads": c["kv"], "do_rotary": int(c["rotary"] is not None),
                               "rotary_interleaved": c["rotary"] or 0, "local_window_size": c["window"], "softcap": c["softcap"]},
                   keys=filled, free={"q": "bs", "k": "bs", "v": "bs", "past_k": "b.p", "past_v": "b.p", "last": "b"}
                   if not c["packed"] else {"q": "bs", "past_k": "b.p", "past_v": "b.p", "last": "b"})
    v = Values("grouped")
    plain = [("q", v.f(2, 3, 32)), ("k", v.f(2, 3, 16)), ("v", v.f(2, 3, 16)), ("past_k", None), ("past_v", None),
             ("last", np.array([2, 2], np.int32)), ("total", np.array(3, np.int32))]
    base = {"num_heads": 4, "kv_num_heads": 2}
    yield case("GroupQueryAttention", {"prompt": 1}, plain, ["total"], attributes={**base, "scale": 0.3},
               results=["y", "present_k", "present_v"])
    # A cache with room: as long afterwards.
    room = [(n, v.f(1, 2, 9, 8) if n.startswith("past") else a if a is None or a.ndim == 0 else a[:1]) for n, a in plain]
    room[5:] = [("last", np.array([6], np.int32)), ("total", np.array(7, np.int32))]
    yield case("GroupQueryAttention", {"room": 1}, room, ["total"], attributes=base, results=["y", "present_k", "present_v"],
               keys=np.array([7]))
    yield case("GroupQueryAttention", {"unknown": 1}, plain, [], attributes=base, results=["y", "present_k", "present_v"])
    for name, value in [("smooth_softmax", 1), ("qk_output", 1), ("sliding_window_cache", 1), ("causal", 0)]:
        yield case("GroupQueryAttention", {name: value}, plain, ["total"], attributes={**base, name: value},
                   results=["y", "present_k", "present_v"], refused=f"{name}={value}")
    yield case("GroupQueryAttention", {"quantised": 1}, plain, ["total"], attributes={**base, "k_quant_type": "PER_TENSOR"},
               results=["y", "present_k", "present_v"], refused='k_quant_type="PER_TENSOR"')


def kept_integers():
    """QLinear operators: integers, each operand with a stored scale and zero point."""
    numbers = {"uint8": (np.uint8, TensorProto.UINT8), "int8": (np.int8, TensorProto.INT8)}

    def codes(v, name, scale, kind):
        zero = np.array(int(v.rng.integers(-20, 21)) + (128 if kind == "uint8" else 0), numbers[kind][0])
        return [(f"s{name}", np.float32(scale)), (f"z{name}", zero)]

    def given(v, name, shape, scale, kind):
        dtype = numbers[kind][0]
        low = np.iinfo(dtype).min
        return [(name, v.rng.integers(low, low + 256, shape).astype(dtype)), *codes(v, name, scale, kind)]

    def one(op, c, v, operands, result, free, attributes=None, kept=()):
        operands = operands + result
        stored = [n for n, _ in operands if n[0] in "sz" or n in kept]
        return case(op, c, operands, stored, attributes=attributes, free=free, result_type=numbers[c["kind"]][1])

    for c in options(kind=["uint8", "int8"], op=["QLinearAdd", "QLinearMul"], b=[(2, 5, 8), (8,), "stored"]):
        op, v = c.pop("op"), Values(label("QLinear", c))
        shape = (8,) if c["b"] == "stored" else c["b"]
        operands = given(v, "a", (2, 5, 8), 0.021, c["kind"]) + given(v, "b", shape, 0.017, c["kind"])
        yield one(op, c, v, operands, codes(v, "y", 0.033, c["kind"]), {"a": "n"} if c["b"] != (2, 5, 8) else {},
                  kept=["b"] if c["b"] == "stored" else [])
    for c in options(kind=["uint8", "int8"], op=["QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearGlobalAveragePool"]):
        op = c.pop("op")
        v = Values(label(op, c))
        shape = (2, 6) if op == "QLinearSoftmax" else (2, 6, 5, 7)
        attributes = {"QLinearLeakyRelu": {"alpha": 0.1}, "QLinearSoftmax": {"axis": 1, "opset": 13},
                      "QLinearGlobalAveragePool": {"channels_last": 0}}.get(op)
        scale = 1 / 256 if op in ("QLinearSigmoid", "QLinearSoftmax") else 0.031
        yield one(op, c, v, given(v, "a", shape, 0.043, c["kind"]), codes(v, "y", scale, c["kind"]), {"a": "n"}, attributes)
    for c in options(trans=[0, 1], bias=[False, True], rows=[False, True]):
        v = Values(label("QGemm", c))
        b = v.rng.integers(-127, 128, (6, 20) if c["trans"] else (20, 6)).astype(np.int8)
        scale = (np.abs(v.f(6)) * 0.01 + 0.005).astype(np.float32) if c["rows"] else np.float32(0.011)
        zero = np.zeros(6, np.int8) if c["rows"] else np.array(0, np.int8)
        bias = v.i(9999, 6) if c["bias"] else None
        operands = given(v, "a", (5, 20), 0.019, "uint8") + [("b", b), ("sb", scale), ("zb", zero), ("c", bias)]
        yield one("QGemm", {**c, "kind": "uint8"}, v, operands, codes(v, "y", 0.09, "uint8"), {"a": "n"},
                  {"transA": 0, "transB": c["trans"], "alpha": 1.0}, kept=["b", "c"])


def few_bits():
    """MatMulNBits, whose matrix is packed in blocks."""
    for c in options(bits=[4, 8], zeros=[False, True], bias=[False, True], k=[64, 50], block=[16, 32]):
        v = Values(label("MatMulNBits", c))
        n, blocks = 9, -(-c["k"] // c["block"])
        b = v.rng.integers(0, 256, (n, blocks, c["block"] * c["bits"] // 8)).astype(np.uint8)
        zeros = v.rng.integers(0, 256, n * -(-blocks * c["bits"] // 8)).astype(np.uint8) if c["zeros"] else None
        operands = [("a", v.f(2, 5, c["k"])), ("b", b), ("s", (np.abs(v.f(n * blocks)) * 0.02 + 0.01).astype(np.float32)), ("z", zeros), ("g", None),
                    ("c", v.f(n) if c["bias"] else None)]
        yield case("MatMulNBits", c, operands, ["b", "s", "z", "c"], free={"a": "bs"},
                   attributes={"K": c["k"], "N": n, "bits": c["bits"], "block_size": c["block"], "accuracy_level": 0})


def standard():
    """ONNX's own, where dimensions are free, and where attributes meet that the suite does not combine."""
    for c in options(rank=[3, 4], kv=[1, 2, 4], causal=[0, 1], past=[0, 4], mask=[None, "bool", "float"], softcap=[0.0, 3.0]):
        v = Values(label("StandardAttention", c))
        b, s, n, d = 2, 5, 4, 8
        k = 5
        if c["rank"] == 3:
            shapes = [(b, s, n * d), (b, k, c["kv"] * d), (b, k, c["kv"] * d)]
            free, heads = {"q": "bs", "k": "bk", "v": "bk"}, {"q_num_heads": n, "kv_num_heads": c["kv"]}
        else:
            shapes = [(b, n, s, d), (b, c["kv"], k, d), (b, c["kv"], k, d)]
            free, heads = {"q": "b.s", "k": "b.k", "v": "b.k"}, {}
        mask = None if c["mask"] is None else v.f(b, 1, s, k + c["past"])
        if c["mask"] == "bool":
            mask = mask > -1
            mask[..., 0] = True  # no row without a key: what it gives is not defined
        past = [v.f(b, c["kv"], c["past"], d) for _ in range(2)] if c["past"] else [None, None]
        operands = [*zip("qkv", (v.f(*shape) for shape in shapes)), ("mask", mask), ("past_k", past[0]), ("past_v", past[1])]
        if c["past"]:
            free = {**free, "past_k": "b.p", "past_v": "b.p"}
        if mask is not None:
            free = {**free, "mask": "b.st"}
        yield case("Attention", {"onnx": 23, **c}, operands, domain="", opset=23, free=free,
                   results=["y", "present_k", "present_v"] if c["past"] else ["y"],
                   attributes={**heads, "is_causal": c["causal"], "softcap": c["softcap"]})
    v = Values("filled")
    filled = [("q", v.f(2, 2, 3, 8)), ("k", v.f(2, 2, 6, 8)), ("v", v.f(2, 2, 6, 8)), ("mask", v.f(3, 6)), ("past_k", None),
              ("past_v", None), ("filled", np.array([4, 6], np.int64))]
    yield case("Attention", {"onnx": 24, "filled": 1}, filled, domain="", opset=24, free={"q": "b.s", "k": "b.k", "v": "b.k"})
    # Here ONNX's definition and onnxruntime differ: which of the keys the first row sees.
    yield case("Attention", {"onnx": 24, "filled": 1, "causal": 1}, filled, domain="", opset=24, attributes={"is_causal": 1},
               refused="is_causal=1 together with nonpad_kv_seqlen")
    filled[3] = ("mask", v.f(3, 1))
    yield case("Attention", {"onnx": 24, "column": 1}, filled, domain="", opset=24, refused="one column")
    yield case("Attention", {"onnx": 23, "scale": -1}, filled[:3], domain="", opset=23, attributes={"scale": -1.0},
               refused="scale=-1")
    for alpha in [0.5, 1.0, -1.5]:
        yield case("Swish", {"alpha": alpha}, [("x", Values("swish").f(2, 5, 8, scale=3))], attributes={"alpha": alpha},
                   domain="", opset=24)


def scale(value):
    return np.array(value, np.float32)


def quantised():
    """Functions and products of quantised values. Scales that are powers of two make results that lie in the middle of two."""
    for dtype, power in itertools.product([np.uint8, np.int8], [True, False]):
        c = {"dtype": dtype.__name__, "power": int(power)}
        v = Values(label("Quantised", c))
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
        q = lambda *shape: v.rng.integers(low, high, shape).astype(dtype)  # noqa: E731
        z = lambda n: np.array(n + 128 + low, dtype)  # noqa: E731
        sa, sb, sc = map(scale, (0.25, 0.5, 0.5) if power else (0.0371, 0.0523, 0.0911))
        a, b = [("a", q(2, 5, 8)), ("a_scale", sa), ("a_zero", z(-8))], [("b", q(2, 5, 8)), ("b_scale", sb), ("b_zero", z(3))]
        out = [("y_scale", sc), ("y_zero", z(-1))]
        stored = ["a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero"]
        free = {"a": "bs", "b": "bs"}
        kind = {"result_type": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
        yield case("QLinearAdd", c, a + b + out, stored, free=free, **kind)
        yield case("QLinearAdd", {**c, "row": 1}, a + [("b", q(8))] + b[1:] + out, stored, free={"a": "bs"}, **kind)
        yield case("QLinearMul", c, a + b + [("y_scale", scale(sc * 16)), out[1]], stored, free=free, **kind)
        yield case("QLinearSigmoid", c, a + [("y_scale", scale(1 / 256)), ("y_zero", np.array(low, dtype))], stored,
                   free={"a": "bs"}, **kind)
        for alpha in [None, 0.25]:
            yield case("QLinearLeakyRelu", {**c, "alpha": alpha}, a + out, stored, attributes={"alpha": alpha}, free={"a": "bs"},
                       **kind)
        for axis in [1, -1]:
            yield case("QLinearConcat", {**c, "axis": axis}, out + a + b, stored, attributes={"axis": axis}, **kind)
        yield case("QLinearWhere", c, [("c", v.i(2, 2, 5, 8).astype(bool))] + a + b + out, stored, free={"c": "bs", **free}, **kind)
        for axis in [1, 2]:
            yield case("QLinearSoftmax", {**c, "axis": axis}, a + [("y_scale", scale(1 / 256)), ("y_zero", np.array(low, dtype))],
                       stored, attributes={"axis": axis, "opset": 13}, free={"a": "b"}, **kind)
        for last in [0, 1]:
            picture = [("a", q(2, 7, 9, 6) if last else q(2, 6, 7, 9))] + a[1:]
            d = {**c, "last": last}
            yield case("QLinearGlobalAveragePool", d, picture + out, stored, attributes={"channels_last": last}, free={"a": "n"}, **kind)
            for how in options(include=[0, 1], ceil=[0, 1]):
                yield case("QLinearAveragePool", {**d, **how}, picture + out, stored, free={"a": "n"}, **kind,
                           attributes={"channels_last": last, "kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1],
                                       "count_include_pad": how["include"], "ceil_mode": how["ceil"]})
            for group in [1, 2]:
                w = v.rng.integers(-128, 128, (4, 6 // group, 3, 3)).astype(np.int8)
                operands = picture + [("w", w), ("w_scale", v.rng.uniform(0.01, 0.05, 4).astype(np.float32)),
                                      ("w_zero", np.zeros(4, np.int8)), ("y_scale", scale(2.3)), out[1], ("bias", v.i(999, 4))]
                yield case("QLinearConv", {**d, "group": group}, operands, stored + ["w", "w_scale", "w_zero", "bias"], **kind,
                           attributes={"channels_last": last, "group": group, "kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
                                       "strides": [2, 2]})
        yield case("NhwcMaxPool", c, [("a", q(2, 7, 9, 6))], attributes={"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
                   free={"a": "n"}, **kind)
        yield case("QuantizeLinear", c, [("x", v.f(2, 5, 8, scale=9)), *out], stored, free={"x": "bs"}, **kind)
        yield case("QuantizeLinear", {**c, "axis": 1}, [("x", v.f(2, 5, 8, scale=9)), ("y_scale", np.linspace(0.1, 0.3, 5, dtype=np.float32)),
                                                       ("y_zero", np.full(5, z(2), dtype))], stored, attributes={"axis": 1}, **kind)
        yield case("DequantizeLinear", c, a, stored, free={"a": "bs"}, result_type=TensorProto.FLOAT)
    v = Values("softmax")
    yield case("QLinearSoftmax", {"opset": 12}, [("a", v.i(256, 2, 5, 8, dtype=np.uint8)), ("a_scale", scale(0.1)), ("a_zero", None),
                                                ("y_scale", scale(1 / 256)), ("y_zero", np.array(0, np.uint8))],
               attributes={"axis": 1, "opset": 12}, result_type=TensorProto.UINT8, refused="opset=12")


def integer_products():
    for c in options(a=[np.uint8, np.int8], b=[np.uint8, np.int8], columns=[False, True], bias=[False, True], stored=[False, True], deep=[0, 1]):
        if c["a"] == np.int8 and c["b"] == np.uint8:
            continue  # onnxruntime has no such product
        c = {**c, "a": c["a"].__name__, "b": c["b"].__name__}
        v = Values(label("IntegerProduct", c))
        low = {"uint8": 0, "int8": -128}
        k = 300 if c["deep"] else 40
        q = lambda name, *shape: v.rng.integers(low[c[name]], low[c[name]] + 256, shape).astype(c[name])  # noqa: E731
        zero = lambda name, n: np.array(low[c[name]] + n, c[name])  # noqa: E731
        b_scale = v.rng.uniform(0.01, 0.1, 6).astype(np.float32) if c["columns"] else scale(0.07)
        # One zero point a column: all of a kind, as onnxruntime packs them.
        b_zero = np.full(6, zero("b", 128)) if c["columns"] else zero("b", 130)
        stored = ["b", "b_scale", "b_zero", "bias"] if c["stored"] else []
        bias = v.f(6) if c["bias"] else None
        b = ("b", q("b", k, 6))
        yield case("MatMulIntegerToFloat", c, [("a", q("a", 2, 5, k)), b, ("a_scale", scale(0.05)), ("b_scale", b_scale),
                                               ("a_zero", zero("a", 100)), ("b_zero", b_zero), ("bias", bias)], stored,
                   free={"a": "bs"}, result_type=TensorProto.FLOAT)
        if c["a"] == "uint8":
            yield case("DynamicQuantizeMatMul", c, [("a", v.f(2, 5, k)), b, ("b_scale", b_scale), ("b_zero", b_zero), ("bias", bias)],
                       stored, free={"a": "bs"})
        for how in options(transA=[0, 1], transB=[0, 1], quantised=[0, 1]):
            a = q("a", 5, k)
            operands = [("a", a.T.copy() if how["transA"] else a), ("a_scale", scale(0.05)), ("a_zero", zero("a", 100)),
                        ("b", b[1].T.copy() if how["transB"] else b[1]), ("b_scale", b_scale), ("b_zero", b_zero),
                        ("c", v.i(3000, 6) if c["bias"] else None)]
            operands += [("y_scale", scale(3.1)), ("y_zero", zero("a", 120))] if how["quantised"] else []
            yield case("QGemm", {**c, **how}, operands, stored + ["c"] if c["stored"] else [],
                       attributes={"transA": how["transA"], "transB": how["transB"], "alpha": 0.5 if how["transA"] else None},
                       result_type=helper.np_dtype_to_tensor_dtype(np.dtype(c["a"])) if how["quantised"] else TensorProto.FLOAT)
    # onnxruntime rounds x and the state to 256 levels over their range. Rows that are on such a grid are not changed by that, so a single step
    # is the same; of several the state between them is rounded.
    grid = lambda v, *shape: ((v.i(256, *shape) * (np.arange(np.prod(shape)).reshape(shape) > 1)
                               + 255 * (np.arange(np.prod(shape)).reshape(shape) == 1)) - 100).astype(np.float32) / 128
    for c in options(w=["int8", "uint8"], columns=[False, True], steps=[1, 6], direction=["forward", "bidirectional"], state=[False, True]):
        v = Values(label("DynamicQuantizeLSTM", c))
        dirs, k, h, batch = 2 if c["direction"] == "bidirectional" else 1, 10, 12, 1
        side = lambda name, k: [(name, v.rng.integers(*((-128, 128) if c["w"] == "int8" else (0, 256)), (dirs, k, 4 * h)).astype(c["w"]))]
        groups = (dirs, 4 * h) if c["columns"] else (dirs,)
        scales = lambda: v.rng.uniform(0.001, 0.004, groups).astype(np.float32)
        zeros = lambda: np.full(groups, 131 if c["w"] == "uint8" else 0 if c["columns"] else 5, c["w"])
        operands = [("x", grid(v, c["steps"], batch, k)), *side("w", k), *side("r", h), ("b", v.f(dirs, 8 * h, scale=0.2)), ("lens", None),
                    ("h0", grid(v, dirs, batch, h) if c["state"] else None), ("c0", v.f(dirs, batch, h) if c["state"] else None),
                    ("p", None), ("w_scale", scales()), ("w_zero", zeros()), ("r_scale", scales()), ("r_zero", zeros())]
        yield case("DynamicQuantizeLSTM", c, operands, ["w", "r", "b", "w_scale", "w_zero", "r_scale", "r_zero"], results=["y", "y_h", "y_c"],
                   attributes={"hidden_size": h, "direction": c["direction"]}, free={"x": "s"},
                   tolerance=0.02 if c["steps"] > 1 or dirs > 1 and c["state"] else None)
    b, s, n, d = 2, 5, 3, 8
    h = n * d
    for c in options(mask=[None, "lengths", "keys"], unidirectional=[0, 1], past=[0, 4], columns=[False, True]):
        v = Values(label("QAttention", c))
        w_scale = v.rng.uniform(0.001, 0.01, 3 * h).astype(np.float32) if c["columns"] else scale(0.004)
        operands = [("x", v.i(256, b, s, 10, dtype=np.uint8)), ("w", v.rng.integers(-128, 128, (10, 3 * h)).astype(np.int8)),
                    ("bias", v.f(3 * h)), ("x_scale", scale(0.01)), ("w_scale", w_scale),
                    ("mask", key_mask(v, c["mask"], b, s, s + c["past"])), ("x_zero", np.array(120, np.uint8)),
                    ("w_zero", np.zeros(3 * h, np.int8) if c["columns"] else np.array(3, np.int8)),
                    ("past", v.f(2, b, n, c["past"], d) if c["past"] else None)]
        yield case("QAttention", c, operands, ["w", "bias", "x_scale", "w_scale", "x_zero", "w_zero"],
                   results=["y", "present"] if c["past"] else ["y"], result_type=TensorProto.FLOAT,
                   attributes={"num_heads": n, "unidirectional": c["unidirectional"]})


def blocks():
    for c in options(bits=[2, 4, 8], k=[64, 40, 100], block=[16, 32], zero=[False, True], bias=[False, True], flat=[False, True]):
        v = Values(label("MatMulNBits", c))
        n, count = 7, -(-c["k"] // c["block"])
        scales = v.f(n, count)
        zero = v.i(256, n, -(-count * c["bits"] // 8), dtype=np.uint8) if c["zero"] else None
        operands = [("a", v.f(2, 5, c["k"])), ("b", v.i(256, n, count, c["block"] * c["bits"] // 8, dtype=np.uint8)),
                    ("scales", scales.ravel() if c["flat"] and c["bits"] < 8 else scales),
                    ("zero", zero.ravel() if c["flat"] and zero is not None and c["bits"] < 8 else zero),
                    ("order", None), ("bias", v.f(n) if c["bias"] else None)]
        yield case("MatMulNBits", c, operands, ["b", "scales", "zero", "bias"], free={"a": "bs"},
                   attributes={"K": c["k"], "N": n, "bits": c["bits"], "block_size": c["block"]})
    v = Values("n bits")
    stored = ["b", "scales", "zero", "order"]
    plain = [("a", v.f(5, 32)), ("b", v.i(256, 7, 2, 8, dtype=np.uint8)), ("scales", v.f(7, 2))]
    base = {"K": 32, "N": 7, "bits": 4, "block_size": 16}
    trivial = (np.arange(32) // 16).astype(np.int32)
    half = [(name, value.astype(np.float16) if name in ("a", "scales") else value) for name, value in plain]
    yield case("MatMulNBits", {"half": 1}, half, stored, attributes=base)
    yield case("MatMulNBits", {"order": "trivial"}, plain + [("zero", None), ("order", trivial)], stored, attributes=base)
    yield case("MatMulNBits", {"order": "other"}, plain + [("zero", None), ("order", trivial[::-1].copy())], stored, attributes=base,
               refused="g_idx")
    yield case("MatMulNBits", {"zero": "float"}, plain + [("zero", v.f(7, 2))], stored, attributes=base, refused="zero points of type f32")
    yield case("MatMulNBits", {"computed": 1}, plain, [], attributes=base, refused="operand 1 that a run computes")
    yield case("MatMulNBits", {"bits": 3}, plain, stored, attributes={**base, "bits": 3}, refused="bits=3")
    for c in options(bits=[2, 4, 8], block=[16, 32], zero=[False, True], shape=[(7, 64), (3, 4, 64)]):
        v = Values(label("GatherBlockQuantized", c))
        outer, width, per = c["shape"][:-1], c["shape"][-1], 8 // c["bits"]
        count = width // c["block"]
        operands = [("data", v.i(256, *outer, width // per, dtype=np.uint8)), ("index", v.i(outer[0], 2, 3).astype(np.int64)),
                    ("scales", v.f(*outer, count)),
                    ("zero", v.i(256, *outer, -(-count // per), dtype=np.uint8) if c["zero"] else None)]
        yield case("GatherBlockQuantized", c, operands, ["data", "scales", "zero"], free={"index": "bs"},
                   attributes={"bits": c["bits"], "block_size": c["block"], "gather_axis": 0, "quantize_axis": len(outer)},
                   result_type=TensorProto.FLOAT)


def cases():
    """All of them."""
    families = [products, elementwise, rotary, attention, multi_head, grouped, standard, quantised, kept_integers, few_bits, integer_products,
                blocks]
    for family in families:
        yield from family()
