"""The judge must catch wrong answers as surely as it accepts right ones: python3 -m unittest in this folder."""
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from judge import compare, worse  # noqa: E402

RTOL, ATOL = 1e-3, 1e-7


def verdict(got, want):
    return compare(got, want, RTOL, ATOL)[0]


class Floats(unittest.TestCase):
    def test_equal_and_close(self):
        want = np.array([1.0, -2.0, 0.0], np.float32)
        self.assertEqual(compare(want.copy(), want, RTOL, ATOL), ("pass", ""))
        self.assertEqual(verdict(want * np.float32(1.0005), want), "pass")

    def test_off_by_more_than_the_bound(self):
        want = np.array([1.0, 2.0], np.float32)
        self.assertEqual(verdict(want * np.float32(1.005), want), "near")
        self.assertEqual(verdict(want * np.float32(1.05), want), "wrong")

    def test_sum_near_zero_is_judged_by_the_largest_value(self):
        want = np.array([1000.0, 0.0], np.float32)
        v, note = compare(want + np.float32([0, 5e-4]), want, RTOL, ATOL)
        self.assertEqual(v, "pass")
        self.assertTrue(note.startswith("not strict"))

    def test_nan_and_infinity(self):
        nan, inf = np.float32("nan"), np.float32("inf")
        self.assertEqual(verdict(np.array([nan]), np.array([nan])), "pass")
        self.assertEqual(verdict(np.array([nan]), np.array([0], np.float32)), "wrong")
        self.assertEqual(verdict(np.array([0], np.float32), np.array([nan])), "wrong")
        self.assertEqual(verdict(np.array([-inf]), np.array([inf])), "wrong")

    def test_shape_and_type(self):
        want = np.zeros((2, 3), np.float32)
        self.assertEqual(verdict(np.zeros(6, np.float32), want), "wrong")
        self.assertEqual(verdict(np.zeros((2, 3), np.float64), want), "wrong")

    def test_empty(self):
        self.assertEqual(verdict(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)), "pass")

    def test_half_may_be_a_step_off(self):
        want = np.array([1.0], np.float16)
        self.assertEqual(verdict(want + np.float16(2 ** -9), want), "pass")


class Others(unittest.TestCase):
    def test_integers(self):
        want = np.array([10, 20], np.int8)
        self.assertEqual(verdict(want.copy(), want), "pass")
        self.assertEqual(verdict(want + np.int8(1), want), "near")
        self.assertEqual(verdict(want + np.int8(2), want), "wrong")
        self.assertEqual(verdict(np.array([11, 20], np.int64), want.astype(np.int64)), "wrong")

    def test_bools_are_never_near(self):
        self.assertEqual(verdict(np.array([True]), np.array([False])), "wrong")

    def test_strings(self):
        want = np.array(["a", "b"], object)
        self.assertEqual(verdict(np.array([b"a", b"b"], object), want), "pass")
        self.assertEqual(verdict(np.array(["a", "c"], object), want), "wrong")

    def test_sequences_and_optionals(self):
        one = np.ones(2, np.float32)
        self.assertEqual(verdict([one, one], [one, one]), "pass")
        self.assertEqual(verdict([one], [one, one]), "wrong")
        self.assertEqual(verdict([one, one * 2], [one, one]), "wrong")
        self.assertEqual(verdict(None, None), "pass")
        self.assertEqual(verdict(None, one), "wrong")

    def test_worse(self):
        self.assertEqual(worse(("pass", ""), ("near", "x")), ("near", "x"))
        self.assertEqual(worse(("crash", "y"), ("pass", "")), ("crash", "y"))
        self.assertEqual(worse(("pass", "a"), ("pass", "")), ("pass", "a"))


if __name__ == "__main__":
    unittest.main()
