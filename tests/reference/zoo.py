"""The models that tests run: where each lies, how its inputs are made, what its output decides.

A `Model` turns a shape (a dict such as {"batch": 2, "h": 192, "w": 256}) into real-content inputs of that shape.
"""
import dataclasses
import functools
import typing

import numpy as np

import material
from reference import Reference

PAD_BYTE = 256  # magika: the value that stands for "no byte here"
MAGIKA_BLOCK, MAGIKA_ENDS = 4096, 1024
SILERO_CHUNK = {16000: (64, 512), 8000: (32, 256)}  # rate: (samples of context, new samples) of one step
BASIC_PITCH_WINDOW = 43844  # samples at 22,050 Hz


@dataclasses.dataclass(frozen=True)
class Model:
    """One model under test.

    task: which decision metrics.py reads out of the output. feeds(rng, split, shape) -> {input: array}.
    usual(rng) -> shape of a calibration or heldout sample (batch 1). further(rng) -> a shape of the sweep.
    samples: how many calibration and heldout samples.
    """
    name: str
    entry: str
    file: str
    task: str
    feeds: typing.Callable
    usual: typing.Callable
    further: typing.Callable
    samples: tuple

    def path(self):
        """The ONNX file in the cache."""
        return material.fetch.cached(self.entry, self.file)


def nchw(pictures):
    """float32 [n,3,h,w] of uint8 [h,w,3] pictures."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2), np.float32)


def pick(rng, values):
    """One of the values."""
    return values[int(rng.integers(len(values)))]


# ---- inputs ---------------------------------------------------------------------------------------------
def efficientnet_feeds(rng, split, shape):
    x = nchw([material.picture(rng, split, 224, 224) for _ in range(shape["batch"])])
    return {"input": (x - 127) / 128}


def nudenet_feeds(rng, split, shape):
    x = nchw([material.picture(rng, split, shape["h"], shape["w"], people=0.6) for _ in range(shape["batch"])])
    return {"images": x / 255}


def det_feeds(rng, split, shape):
    x = nchw([material.page(rng, split, shape["h"], shape["w"]) for _ in range(shape["batch"])])
    return {"x": x / 127.5 - 1}


def rec_feeds(rng, split, shape):
    """Lines of height 48, normalised, then padded with zeros on the right: the order that the model was trained with."""
    out = np.zeros((shape["batch"], 3, 48, shape["w"]), np.float32)
    for row in out:
        line = nchw([material.text_line(rng, split, shape["w"])])[0]
        row[:, :, :line.shape[2]] = line / 127.5 - 1
    return {"x": out}


def cls_feeds(rng, split, shape):
    """Text lines, half of them upside down."""
    h, w = shape["h"], shape["w"]
    out = np.zeros((shape["batch"], 3, h, w), np.float32)
    for row in out:
        line = material.text_line(rng, split, w, h)
        if rng.random() < 0.5:
            line = line[::-1, ::-1]
        row[:, :, :line.shape[1]] = nchw([line])[0] / 127.5 - 1
    return {"x": out}


@functools.lru_cache(maxsize=None)
def reference():
    """The engine that carries silero's state along."""
    return Reference()


def silero_feeds(name, with_rate=True):
    """Inputs of one step somewhere inside a sentence, with the state that the reference engine has reached there."""
    def feeds(rng, split, shape):
        rate, batch = shape["rate"], shape["batch"]
        context, chunk = SILERO_CHUNK[rate]
        steps = int(rng.integers(8, 60))
        signals = [material.speech(rng, split, rate) for _ in range(batch)]
        starts = [int(rng.integers(0, len(s) - (steps + 1) * chunk)) for s in signals]
        state = np.zeros((2, batch, 128), np.float32)
        before = np.zeros((batch, context), np.float32)
        for i in range(steps + 1):
            new = np.stack([s[b + i * chunk:b + (i + 1) * chunk] for s, b in zip(signals, starts)])
            step = {"input": np.concatenate([before, new], 1), "state": state}
            if with_rate:
                step["sr"] = np.array(rate, np.int64)
            if i == steps:
                return step
            state = reference().run(MODELS[name].path(), step)["stateN"]
            before = new[:, -context:]
    return feeds


def basic_pitch_feeds(rng, split, shape):
    x = np.stack([material.music(rng, split, BASIC_PITCH_WINDOW) for _ in range(shape["batch"])])
    return {"serving_default_input_2:0": x[:, :, None].astype(np.float32)}


def magika_row(data):
    """int32 [2048] of a file's bytes: the first 1,024 after leading white space and the last 1,024 before trailing
    white space, each looked for in the outer 4,096; short files are padded, at the end and at the front."""
    first = data[:MAGIKA_BLOCK].lstrip()[:MAGIKA_ENDS]
    last = data[-MAGIKA_BLOCK:].rstrip()[-MAGIKA_ENDS:]
    row = np.full(2 * MAGIKA_ENDS, PAD_BYTE, np.int32)
    row[:len(first)] = np.frombuffer(first, np.uint8)
    row[len(row) - len(last):] = np.frombuffer(last, np.uint8)
    return row


def magika_feeds(rng, split, shape):
    return {"bytes": np.stack([magika_row(material.file_content(rng, split)) for _ in range(shape["batch"])])}


def minilm_feeds(rng, split, shape):
    """[CLS] text [SEP]; the first row is full, others may be shorter and padded (mask 0)."""
    batch, length = shape["batch"], shape["length"]
    vocab = material.vocabulary()
    ids, mask = np.zeros((batch, length), np.int64), np.zeros((batch, length), np.int64)
    for i in range(batch):
        n = length if i == 0 else int(rng.integers(4, length + 1))
        body = (material.wordpiece(material.phrase(rng, split, length)) + [vocab["."]] * length)[:n - 2]
        ids[i, :n] = [vocab["[CLS]"], *body, vocab["[SEP]"]]
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


# ---- shapes ---------------------------------------------------------------------------------------------
def batch_only(usual=1, most=6):
    """Shapes of a model whose batch alone is free."""
    return (lambda rng: {"batch": usual}), (lambda rng: {"batch": int(rng.integers(2, most + 1))})


def multiples_of_32(least, most):
    """Sweep of a fully convolutional model: any height and width that its strides divide."""
    def further(rng):
        return {"batch": int(rng.integers(1, 4)), "h": 32 * int(rng.integers(least, most + 1)),
                "w": 32 * int(rng.integers(least, most + 1))}
    return further


def silero_further(rates):
    return lambda rng: {"batch": int(rng.integers(1, 7)), "rate": pick(rng, rates)}


one, up_to_6 = batch_only()
MODELS = {m.name: m for m in [
    Model("efficientnet-lite0", "efficientnet-lite0", "efficientnet-lite0.onnx", "classify", efficientnet_feeds,
          one, up_to_6, (32, 32)),
    Model("nudenet", "nudenet", "320n.onnx", "boxes", nudenet_feeds,
          lambda rng: {"batch": 1, "h": pick(rng, (256, 320)), "w": pick(rng, (256, 320))}, multiples_of_32(4, 12),
          (16, 16)),
    Model("ppocr-det", "rapidocr", "ch_PP-OCRv4_det_infer.onnx", "text_map", det_feeds,
          lambda rng: {"batch": 1, "h": pick(rng, (160, 224, 320)), "w": pick(rng, (320, 384, 480))},
          multiples_of_32(3, 15), (16, 16)),
    Model("ppocr-rec", "rapidocr", "ch_PP-OCRv4_rec_infer.onnx", "ctc", rec_feeds,
          lambda rng: {"batch": 1, "w": pick(rng, (160, 240, 320, 480))},
          lambda rng: {"batch": int(rng.integers(1, 4)), "w": int(rng.integers(64, 641))}, (40, 40)),
    Model("ppocr-cls", "rapidocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx", "classify", cls_feeds,
          lambda rng: {"batch": 1, "h": 48, "w": 192},
          lambda rng: {"batch": int(rng.integers(1, 4)), "h": pick(rng, (32, 48, 64)), "w": 32 * int(rng.integers(3, 11))},
          (32, 40)),
    Model("silero-vad", "silero-vad", "silero_vad.onnx", "speech", silero_feeds("silero-vad"),
          lambda rng: {"batch": 1, "rate": pick(rng, (16000, 16000, 8000))}, silero_further((16000, 8000)), (40, 40)),
    Model("silero-vad-16k", "silero-vad", "silero_vad_16k_op15.onnx", "speech", silero_feeds("silero-vad-16k"),
          lambda rng: {"batch": 1, "rate": 16000}, silero_further((16000,)), (40, 40)),
    Model("basic-pitch", "basic-pitch", "nmp.onnx", "notes", basic_pitch_feeds, one, up_to_6, (12, 12)),
    Model("magika", "magika", "model.onnx", "classify", magika_feeds, one, up_to_6, (40, 40)),
    Model("minilm", "minilm-int8", "model.onnx", "embed", minilm_feeds,
          lambda rng: {"batch": 1, "length": int(rng.integers(12, 65))},
          lambda rng: {"batch": int(rng.integers(1, 4)), "length": int(rng.integers(5, 129))}, (24, 24)),
]}
