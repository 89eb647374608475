"""compare.py from end to end, with stand-ins for the binaries: `edge-convert` copies the model, `edge-run` is onnxruntime
with a chosen error. Needs the cache (tests/models/fetch.py --set ci)."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import compare  # noqa: E402
import material  # noqa: E402

CONVERT = """
import shutil, sys
model, _, pack, _, calib = sys.argv[1:6]
shutil.copy(model, pack)
"""
RUN = """
import json, os, sys
sys.path.insert(0, {here!r})
import numpy as np
from reference import Reference, load_npz, save_npz
if sys.argv[1] == "inspect":
    rungs = [{{"id": "exact", "bytes": 9, "quality": 1.0, "acts": "f32"}}, {{"id": "coarse", "bytes": 5, "quality": 0.9, "acts": "i8"}}]
    print(json.dumps({{"rungs": rungs}}))
    sys.exit()
pack, _, rung, _, source, _, out = sys.argv[1:]
got = Reference().run(pack, load_npz(source))
if rung == "coarse":
    got = {{k: np.round(v * 64) / 64 for k, v in got.items()}}
mode = os.environ.get("STAND_IN", "")
if mode == "crash":
    sys.exit("no kernel for this")
if mode == "shift":
    got = {{k: np.roll(v, 1, -1) for k, v in got.items()}}
if mode == "transpose":
    got = {{k: v.T for k, v in got.items()}}
save_npz(out, got)
"""


class Conditioning(unittest.TestCase):
    def test_scattering_as_onnxruntime_does_holds_and_more_does_not(self):
        rows = [("heldout 000", 3e-4, 3e-4), ("heldout 001", 9e-5, 1e-7)]
        self.assertEqual(compare.ill_conditioned(rows, 1e-4), [])
        worse = compare.ill_conditioned([*rows, ("shapes batch2", 3e-4, 1.4e-4)], 1e-4)
        self.assertEqual(len(worse), 1)
        self.assertIn("shapes batch2", worse[0])
        self.assertEqual(len(compare.ill_conditioned([("x", float("nan"), 1.0)], 1e-4)), 1)


class EndToEnd(unittest.TestCase):
    def setUp(self):
        try:
            material.fetch.cached("magika", "model.onnx")
        except material.fetch.FetchError as e:
            self.skipTest(str(e))
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        for name, text in (("edge-convert", CONVERT), ("edge-run", RUN)):
            path = self.root / name
            path.write_text(f"#!{sys.executable}\n" + text.format(here=str(HERE)))
            path.chmod(0o755)

    def compare(self, mode):
        """(exit code, output, result JSON) of a short comparison."""
        words = [sys.executable, HERE / "compare.py", "magika", "--convert", self.root / "edge-convert", "--run",
                 self.root / "edge-run", "--out", self.root / "out", "--heldout", "3", "--shapes", "2", "--json",
                 self.root / "result.json"]
        p = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "STAND_IN": mode})
        return p.returncode, p.stdout + p.stderr, json.loads((self.root / "result.json").read_text())

    def test_good_engine(self):
        code, output, result = self.compare("")
        self.assertEqual(code, 0, output)
        exact, coarse = result["magika"]["rungs"]
        self.assertEqual((exact["error"], exact["sqnr_db"]), (0, None))
        self.assertGreater(coarse["error"], 1e-4)
        self.assertEqual(exact["agreement"], {"heldout": 1, "shapes": 1})

    def test_bad_engines(self):
        for mode, word in (("crash", "no kernel for this"), ("shift", "of the range"), ("transpose", "wrong shape")):
            code, output, _ = self.compare(mode)
            self.assertEqual(code, 1, output)
            self.assertIn(word, output)


if __name__ == "__main__":
    unittest.main()
