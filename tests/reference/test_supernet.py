"""supernet.py against results written out with plain loops: python3 -m unittest in this folder, in the reference environment."""
import pathlib
import sys
import tempfile
import unittest

import numpy as np
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import supernet  # noqa: E402

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def model(nodes, tensors, shape, rank):
    """`nodes`: (op, inputs, output, attributes); input x of `shape`, output y of a rank."""
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), [o], **a) for op, i, o, a in nodes],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{i}" for i in range(rank)])],
        [numpy_helper.from_array(v, k) for k, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def spec(text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "supernet.toml"
        path.write_text(text)
        return supernet.read_toml(path)


def run(proto, description, choose, x):
    chosen = supernet.parse_choice(description["choice"], choose)
    return supernet.session(supernet.subnet(proto, description, chosen)).run(["y"], {"x": x})[0]


def conv(x, w):
    """[N,C,H,W] with depthwise [C,1,k,k], stride 1, same size: six loops."""
    k, out = w.shape[-1], np.zeros_like(x)
    for n, c, i, j in np.ndindex(*x.shape):
        for a in range(k):
            for b in range(k):
                v, u = i + a - k // 2, j + b - k // 2
                if 0 <= v < x.shape[2] and 0 <= u < x.shape[3]:
                    out[n, c, i, j] += x[n, c, v, u] * w[c, 0, a, b]
    return out


KERNEL = """
choice = [{ name = "k", options = [3, 5, 7] }, { name = "e", options = [2, 3] }]
kernel = [{ choice = "k", sizes = [3, 5, 7], weight = "w", transforms = ["a", "b"] }]
cut = [{ choice = "e", sizes = [2, 3], of = ["w:0", "expand:0", "project:1"] }]
"""


class Supernet(unittest.TestCase):
    def test_windows_go_through_the_transforms_and_groups_follow(self):
        t = {"expand": normal(3, 2, 1, 1), "w": normal(3, 1, 7, 7), "project": normal(2, 3, 1, 1)}
        t |= {"a": normal(25, 25), "b": normal(9, 9)}
        nodes = [
            ("Conv", "x expand", "m", {}),
            ("Conv", "m w", "d", {"group": 3, "kernel_shape": [7, 7], "pads": [3] * 4}),
            ("Conv", "d project", "y", {}),
        ]
        proto, x = model(nodes, t, ["N", 2, 6, 6], 4), normal(1, 2, 6, 6)
        w5 = np.stack([(t["a"] @ w[0, 1:-1, 1:-1].ravel()).reshape(1, 5, 5) for w in t["w"]])
        w3 = np.stack([(t["b"] @ w[0, 1:-1, 1:-1].ravel()).reshape(1, 3, 3) for w in w5])
        for k, w in ((7, t["w"]), (5, w5), (3, w3)):
            for e in (2, 3):
                m = np.einsum("oc,nchw->nohw", t["expand"][:e, :, 0, 0], x)
                want = np.einsum("oc,nchw->nohw", t["project"][:, :e, 0, 0], conv(m, w[:e]))
                got = run(proto, spec(KERNEL), f"k={k},e={e}", x)
                # Sums of at most 147 products of normal numbers, in another order.
                np.testing.assert_allclose(got, want, atol=2e-3 * np.abs(want).max())

    def test_parts_are_each_cut(self):
        w, x = normal(4, 12), normal(2, 4)
        proto = model([("MatMul", "x w", "y", {})], {"w": w}, ["N", 4], 2)
        description = spec(
            'choice = [{ name = "c", options = [1, 2] }]\n'
            'cut = [{ choice = "c", sizes = [6, 12], of = ["w:1"], parts = 3 }]'
        )
        got = run(proto, description, "c=1", x)
        np.testing.assert_allclose(got, (x @ w)[:, [0, 1, 4, 5, 8, 9]], atol=1e-5)

    def test_skipped_repeated_and_constant(self):
        t = {"two": np.float32([2]), "three": np.float32([3]), "one": np.float32([1])}
        nodes = [
            ("Mul", "x two", "a", {}),
            ("Mul", "a three", "b", {}),
            ("Add", "b one", "c", {}),
            ("Mul", "c two", "y", {}),
        ]
        proto, x = model(nodes, t, ["N", 1], 2), np.float32([[5]])
        description = spec(
            'choice = [{ name = "d", options = [1, 2, 3] }, { name = "r", options = [1, 2] }, { name = "v", options = ["x", "y"] }]\n'
            'skip = [{ choice = "d", options = [1, 2], from = "c", to = "y" }, '
            '{ choice = "d", options = [1], from = "a", to = "c" }]\n'
            'repeat = [{ choice = "r", from = "a", to = "b", times = [1, 2] }]\n'
            'constant = [{ choice = "v", tensor = "one", values = [[7], [1]] }]'
        )
        cases = {"d=3,r=1": 62, "d=2,r=1": 31, "d=1,r=1": 10, "d=3,r=2": 182, "d=2,r=1,v=x": 37}
        for choose, want in cases.items():
            self.assertEqual(run(proto, description, choose, x).item(), want, choose)

    def test_resolution_is_linear_at_half_pixels(self):
        proto, x = model([("Identity", "x", "y", {})], {}, ["N", 1, 28, 28], 4), normal(1, 1, 28, 28)
        description = spec(
            'choice = [{ name = "r", options = [20, 24, 28] }]\n'
            'resolution = [{ choice = "r", input = "x", sizes = [20, 24, 28] }]'
        )
        for size in (20, 24, 28):
            want = np.zeros((size, size), np.float32)
            at = np.clip((np.arange(size) + 0.5) * 28 / size - 0.5, 0, 27)
            low, part = np.minimum(at.astype(int), 26), at - np.minimum(at.astype(int), 26)
            for i, j in np.ndindex(size, size):
                rows = [x[0, 0, low[i] + a] * (part[i] if a else 1 - part[i]) for a in (0, 1)]
                row = rows[0] + rows[1]
                want[i, j] = row[low[j]] * (1 - part[j]) + row[low[j] + 1] * part[j]
            got = run(proto, description, f"r={size}", x)
            # The scale is rounded to f32: coordinates up to 28 move by 2e-6, times slopes of noise up to 6.
            np.testing.assert_allclose(got[0, 0], want, atol=5e-5)

    def test_statistics_are_those_of_the_batch(self):
        t = {"s": np.float32([2, 3]), "h": np.float32([1, -1]), "m": normal(2), "v": np.float32([4, 5])}
        proto = model([("BatchNormalization", "x s h m v", "y", {})], t, ["N", 2, 6, 6], 4)
        x = normal(8, 2, 6, 6) * 3 + 1
        y = supernet.session(supernet.normalised_anew(proto, x)).run(["y"], {"x": x})[0]
        np.testing.assert_allclose(y.mean((0, 2, 3)), t["h"], atol=1e-4)
        np.testing.assert_allclose(y.std((0, 2, 3)), t["s"], rtol=1e-4)

    def test_refusals_name_what_is_wrong(self):
        proto = model([("MatMul", "x w", "y", {})], {"w": normal(4, 4)}, ["N", 4], 2)
        choice = 'choice = [{ name = "c", options = [1, 2] }]\n'
        for text, word in (
            ('choice = [{ name = "c", options = [] }]', "no options"),
            ("cute = []", "cute"),
            (choice + 'cut = [{ choice = "d", sizes = [2, 4], of = ["w:1"] }]', "`d`"),
            (choice + 'cut = [{ choice = "c", sizes = [2], of = ["w:1"] }]', "1 entries"),
            (choice + 'cut = [{ choice = "c", sizes = [2, 5], of = ["w:1"] }]', "largest size 5"),
            (choice + 'cut = [{ choice = "c", sizes = [2, 4], of = ["v*:1"] }]', "`v*`"),
            (choice + 'cut = [{ choice = "c", sizes = [2, 4], of = ["w:1"], parts = 3 }]', "3 equal parts"),
            (choice + 'skip = [{ choice = "c", options = [1], from = "q", to = "y" }]', "`q`"),
            (choice + 'resolution = [{ choice = "c", input = "w", sizes = [2, 4] }]', "no input `w`"),
            (choice + 'constant = [{ choice = "c", tensor = "u", values = [[1], [2]] }]', "`u`"),
        ):
            with self.assertRaises(supernet.Bad, msg=text) as caught:
                run(proto, spec(text), "c=1", normal(1, 4))
            self.assertIn(word, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
