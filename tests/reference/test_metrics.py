"""Metrics must tell a wrong answer from a right one: python3 -m unittest in this folder, in the reference environment."""
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402
import metrics  # noqa: E402
import zoo  # noqa: E402

INF = float("inf")


def yolo(*boxes, classes=3):
    """[4 + classes, n] of (cx, cy, w, h, class, score) rows."""
    raw = np.zeros((4 + classes, len(boxes)), np.float32)
    for i, (cx, cy, w, h, kind, score) in enumerate(boxes):
        raw[:4, i] = cx, cy, w, h
        raw[4 + kind, i] = score
    return raw


class Numbers(unittest.TestCase):
    def test_spread(self):
        self.assertEqual(metrics.spread([[1.0, 3.0], [[-2.0]]]), 5)
        self.assertEqual(metrics.spread([[5.0, 5.0]]), 5)
        self.assertEqual(metrics.spread([[0.0]]), 1)
        self.assertEqual(metrics.spread([[np.nan, INF], []]), 1)

    def test_range_error(self):
        want = np.array([-1.0, 3.0])
        self.assertEqual(metrics.range_error(want, want, 4), 0)
        self.assertAlmostEqual(metrics.range_error(want + [0, 0.4], want, 4), 0.1)
        self.assertEqual(metrics.range_error([np.nan, 3.0], want, 4), INF)
        self.assertEqual(metrics.range_error([INF, 3.0], want, 4), INF)
        self.assertEqual(metrics.range_error([1.0], want, 4), INF)
        self.assertEqual(metrics.range_error([], [], 1), 0)

    def test_expected_nan_must_be_nan(self):
        self.assertEqual(metrics.range_error([np.nan, 1.0], [np.nan, 1.0], 1), 0)
        self.assertEqual(metrics.range_error([0.0, 1.0], [np.nan, 1.0], 1), INF)

    def test_sqnr(self):
        self.assertAlmostEqual(metrics.sqnr_db(*metrics.signal_and_noise([1.1, 0], [1.0, 0])), 20, places=5)
        self.assertEqual(metrics.sqnr_db(*metrics.signal_and_noise([1.0], [1.0])), INF)
        self.assertEqual(metrics.sqnr_db(*metrics.signal_and_noise([np.nan], [1.0])), -INF)
        self.assertEqual(metrics.sqnr_db(*metrics.signal_and_noise([1.0, 2.0], [1.0])), -INF)
        self.assertEqual(metrics.sqnr_db(*metrics.signal_and_noise([1.0], [0.0])), -INF)

    def test_f1(self):
        self.assertEqual(metrics.f1(0, 0, 0), 1)
        self.assertEqual(metrics.f1(0, 3, 0), 0)
        self.assertEqual(metrics.f1(2, 2, 2), 1)
        self.assertEqual(metrics.mask_f1(np.array([True, False]), np.array([True, True])), 2 / 3)

    def test_cosine(self):
        self.assertAlmostEqual(metrics.cosine([1, 1], [2, 2]), 1)
        self.assertAlmostEqual(metrics.cosine([1, 0], [0, 1]), 0)
        self.assertEqual(metrics.cosine([np.nan, 0], [0, 1]), 0)


class Decisions(unittest.TestCase):
    def test_ctc(self):
        steps = [0, 5, 5, 0, 5, 7, 7, 0]
        scores = np.eye(9)[steps]
        self.assertEqual(metrics.ctc_ids(scores), [5, 5, 7])
        other = np.eye(9)[[0, 5, 5, 0, 6, 7, 7, 0]]
        got = metrics.ctc({"y": np.stack([scores, other])}, {"y": np.stack([scores, scores])}, {})
        self.assertEqual(got[0], 1)
        self.assertAlmostEqual(got[1], 2 / 3)
        empty = np.eye(9)[[0] * 8]
        self.assertEqual(metrics.ctc({"y": empty[None]}, {"y": empty[None]}, {}), [1.0])
        self.assertEqual(metrics.ctc({"y": scores[None]}, {"y": empty[None]}, {}), [0.0])

    def test_edit_distance(self):
        self.assertEqual(metrics.edit_distance("kitten", "sitting"), 3)
        self.assertEqual(metrics.edit_distance("", "ab"), 2)
        self.assertEqual(metrics.edit_distance("ab", "ab"), 0)

    def test_iou(self):
        box = np.array([0.0, 0, 2, 2])
        self.assertAlmostEqual(metrics.iou(box, np.array([[1.0, 0, 3, 2]]))[0], 1 / 3)
        self.assertEqual(metrics.iou(box, np.array([[5.0, 5, 6, 6]]))[0], 0)
        self.assertEqual(metrics.iou(np.zeros(4), np.zeros((1, 4)))[0], 0)

    def test_suppression_keeps_the_best_of_each_class(self):
        boxes, classes, scores = metrics.yolo_boxes(yolo(
            (10, 10, 8, 8, 0, 0.9), (10.5, 10, 8, 8, 0, 0.8), (10, 10, 8, 8, 1, 0.7), (40, 40, 8, 8, 0, 0.1)))
        self.assertEqual(classes.tolist(), [0, 1])
        np.testing.assert_allclose(scores, [0.9, 0.7], rtol=1e-6)
        np.testing.assert_allclose(boxes[0], [6, 6, 14, 14])

    def test_boxes(self):
        want = yolo((10, 10, 8, 8, 0, 0.9), (40, 40, 8, 8, 2, 0.8))
        near = yolo((10.3, 10, 8, 8, 0, 0.7), (40, 40, 8, 8, 2, 0.6))
        off = yolo((11, 10, 8, 8, 0, 0.9), (40, 40, 8, 8, 2, 0.8))
        moved = yolo((10, 10, 8, 8, 0, 0.9), (60, 40, 8, 8, 2, 0.8))
        other_class = yolo((10, 10, 8, 8, 1, 0.9), (40, 40, 8, 8, 2, 0.8))
        none = yolo((10, 10, 8, 8, 0, 0.1), (40, 40, 8, 8, 2, 0.1))
        for raw, f1 in ((want, 1), (near, 1), (off, 0.5), (moved, 0.5), (other_class, 0.5), (none, 0)):
            self.assertEqual(metrics.boxes({"y": raw[None]}, {"y": want[None]}, {}), [f1])
        self.assertEqual(metrics.boxes({"y": none[None]}, {"y": none[None]}, {}), [1])

    def test_classify_text_map_speech_notes_embed(self):
        a, b = np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.2, 0.8], [0.4, 0.6]])
        self.assertEqual(metrics.classify({"y": a}, {"y": b}, {}), [1, 0])
        self.assertEqual(metrics.text_map({"y": a > 1}, {"y": a > 1}, {}), [1, 1])
        self.assertEqual(metrics.text_map({"y": a}, {"y": b}, {}), [1, 2 / 3])
        self.assertEqual(metrics.speech({"output": a[:, :1]}, {"output": b[:, :1]}, {}), [1, 0])
        self.assertEqual(metrics.notes({"p": a, "q": a}, {"p": b, "q": a}, {}), [1, 0.5])
        hidden = np.arange(12.0).reshape(1, 3, 4)
        wrong_padding = hidden.copy()
        wrong_padding[:, 2] = -99  # masked out: must not count
        feeds = {"attention_mask": np.array([[1, 1, 0]])}
        self.assertAlmostEqual(metrics.embed({"y": wrong_padding}, {"y": hidden}, feeds)[0], 1)


class Bounds(unittest.TestCase):
    GOOD = {"error": 1e-5, "sqnr_db": 60.0, "agreement": {"heldout": 1.0, "shapes": None}, "wrong_shape": []}

    def test_broken(self):
        bound = {"error": 1e-4, "sqnr_db": 50, "agreement": 0.9}
        self.assertEqual(compare.broken(self.GOOD, bound), [])
        for change in ({"error": 2e-4}, {"error": float("nan")}, {"sqnr_db": 40.0}, {"sqnr_db": float("nan")},
                       {"agreement": {"heldout": 0.8, "shapes": 1.0}}, {"wrong_shape": ["000.npz"]}):
            self.assertEqual(len(compare.broken({**self.GOOD, **change}, bound)), 1, change)
        self.assertEqual(compare.broken({"failed": "crash"}, {}), ["crash"])

    def test_tally_of_wrong_shape_and_missing_output(self):
        want = {"y": np.ones((2, 3), np.float32)}
        case = compare.Case("heldout", pathlib.Path("000.npz"), {"x": np.zeros((2, 1))}, want)
        for got in ({"y": np.ones((2, 4))}, {}):
            tally = compare.Tally("classify", [case])
            tally.add(case, got)
            result = tally.result()
            self.assertEqual((result["error"], result["agreement"]["heldout"]), (INF, 0.0))
            self.assertEqual(len(compare.broken(result, {})), 1)

    def test_top_rungs(self):
        rung = lambda name, acts, value: {"id": name, "acts": acts, "quality": {"value": value}}
        rungs = [rung("a", "f32", 60.0), rung("b", "f32", 50.0), rung("c", "i8", 20.0), rung("d", "i8", 30.0)]
        self.assertEqual(compare.top_rungs(rungs), {"a", "d"})


class Inputs(unittest.TestCase):
    def test_magika_row(self):
        row = zoo.magika_row(b"\n\nabc \n")
        self.assertEqual(bytes(row[:5].astype(np.uint8)), b"abc \n")
        self.assertEqual(bytes(row[-5:].astype(np.uint8)), b"\n\nabc"[-5:])
        self.assertEqual(int((row == zoo.PAD_BYTE).sum()), 2048 - 5 - 5)
        long = zoo.magika_row(bytes(range(1, 251)) * 40)
        self.assertFalse((long == zoo.PAD_BYTE).any())


if __name__ == "__main__":
    unittest.main()
