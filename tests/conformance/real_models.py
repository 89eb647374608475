"""Real models as cases of the group `models`: seeded inputs, expected outputs from onnxruntime.

The models come from the cache that tests/models/fetch.py fills. Needs onnxruntime (the reference environment).
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import onnx

from layout import runtime_inputs, write_value

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
import fetch  # noqa: E402


class Inputs:
    """Seeded inputs with structure: white noise saturates recognition heads and then tests nothing."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def picture(self, h, w, batch=1):
        """[batch,3,h,w] in [-1,1]: gratings, a light and a dark bar, a little noise."""
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        base = np.stack([np.cos(x / (6 + 2 * c)) * np.sin(y / 8 + c) for c in range(3)])
        base[:, h // 5:h // 3, w // 6:w // 2] = 1
        base[:, 2 * h // 3:3 * h // 4, w // 3:5 * w // 6] = -1
        noise = self.rng.normal(0, 0.1, (batch, 3, h, w))
        return np.clip(base + noise, -1, 1).astype(np.float32)

    def tone(self, samples, rate=16000):
        """[samples] in [-1,1]: a tremolo tone with a little noise."""
        t = np.arange(samples) / rate
        return (0.3 * np.sin(2 * np.pi * 220 * t) * (1 + np.sin(2 * np.pi * 3 * t))
                + self.rng.normal(0, 0.02, samples)).astype(np.float32)

    def file_bytes(self):
        """[1,2048] int32 in 0..256; 256 is padding."""
        return self.rng.integers(0, 257, (1, 2048)).astype(np.int32)


def cases(x):
    """(test, entry, file, {input: array}) of every case."""
    det, rec = "ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx"
    yield "ppocrv4_det_320x320", "rapidocr", det, {"x": x.picture(320, 320)}
    yield "ppocrv4_det_192x640", "rapidocr", det, {"x": x.picture(192, 640)}
    yield "ppocrv4_rec_48x320", "rapidocr", rec, {"x": x.picture(48, 320)}
    yield "ppocrv4_rec_48x200_b2", "rapidocr", rec, {"x": x.picture(48, 200, 2)}
    yield "ppocrv2_cls_48x192", "rapidocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": x.picture(48, 192)}
    yield "nudenet_320n", "nudenet", "320n.onnx", {"images": (x.picture(320, 320) + 1) / 2}
    yield "magika", "magika", "model.onnx", {"bytes": x.file_bytes()}
    yield "basic_pitch", "basic-pitch", "nmp.onnx", {
        "serving_default_input_2:0": x.tone(43844, 22050).reshape(1, -1, 1)}
    chunk, state, rate = x.tone(576)[None], np.zeros((2, 1, 128), np.float32), np.array(16000, np.int64)
    full = {"input": chunk, "state": state, "sr": rate}
    yield "silero_vad", "silero-vad", "silero_vad.onnx", full
    yield "silero_vad_8k", "silero-vad", "silero_vad.onnx", {
        "input": chunk[:, :288], "state": state, "sr": np.array(8000, np.int64)}
    yield "silero_vad_16k_op15", "silero-vad", "silero_vad_16k_op15.onnx", full
    yield "silero_vad_half", "silero-vad", "silero_vad_half.onnx", {"input": chunk, "state": state}
    yield "silero_vad_op18_ifless", "silero-vad", "silero_vad_op18_ifless.onnx", full
    yield "silero_vad_openvino_16k", "silero-vad", "silero_vad_openvino_16k.onnx", {"input": chunk, "state": state}
    zero = np.zeros((1, 1, 128), np.float32)
    yield "silero_vad_16k_sequence", "silero-vad", "silero_vad_16k_sequence.onnx", {
        "input": np.stack([x.tone(576) for _ in range(4)]), "h": zero, "c": zero}


def lay_out(out, offline=False, seed=7):
    """Writes SUITE/models/*. Returns how many."""
    import onnxruntime as ort
    catalog = fetch.read_catalog()
    for entry in ("rapidocr", "nudenet", "magika", "basic-pitch", "silero-vad"):
        fetch.fetch_entry(entry, catalog[entry], offline)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # The optimiser replaces DequantizeLinear + MatMul by kernels that quantise activations: expected values
    # come from the graph as it is written.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    count = 0
    for name, entry, file, feeds in cases(Inputs(seed)):
        case = out / "models" / name
        case.mkdir(parents=True)
        shutil.copy(fetch.cached(entry, file), case / "model.onnx")
        session = ort.InferenceSession(str(case / "model.onnx"), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in runtime_inputs(onnx.load(case / "model.onnx").graph)]
        for i, n in enumerate(names):
            write_value(case / "test_data_set_0" / f"input_{i}.pb", feeds[n], n)
        for i, (value, o) in enumerate(zip(session.run(None, feeds), session.get_outputs())):
            write_value(case / "test_data_set_0" / f"output_{i}.pb", value, o.name)
        # Whole networks accumulate rounding: an absolute floor beside a relative bound.
        (case / "data.json").write_text(json.dumps({"rtol": 2e-3, "atol": 1e-4}))
        count += 1
    return count
