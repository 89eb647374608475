#!/usr/bin/env python3
"""Writes the models of tests/conformance's own cases (wider.py, fused_cases.py) into a folder, for `fuzz_seeds`.

    PYTHON tests/fuzz/cases.py FOLDER

Of operators with many cases a few are taken, the smallest and some others; of all, those of at most 12 KB. Supernets (families.py) are written with
their descriptions.
"""
import collections
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "conformance"))
import families
import fused
import fused_cases
import wider

MOST, EACH = 12 << 10, 6


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in wider.all_cases().items():
        with tempfile.TemporaryDirectory() as case:
            try:
                wider.write(pathlib.Path(case), spec)
            except Exception:  # noqa: BLE001: onnxruntime has no such form
                continue
            data = (pathlib.Path(case) / "model.onnx").read_bytes()
        if len(data) <= MOST:
            (folder / f"wider-{name}.onnx").write_bytes(data)
    by_op = collections.defaultdict(list)
    for case in fused_cases.cases():
        for free in [False, True] if case.free else [False]:
            data = fused.model_of(case, free).SerializeToString()
            if len(data) <= MOST:
                by_op[case.domain, case.op].append(data)
    for (_, op), models in by_op.items():
        models.sort(key=len)
        step = max(1, len(models) // EACH)
        for i, data in enumerate(models[::step]):
            (folder / f"fused-{op}-{i}.onnx").write_bytes(data)
    for name, model, description in families.families():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        (folder / f"{name}.toml").write_text(description)


if __name__ == "__main__":
    main()
