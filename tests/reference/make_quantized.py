#!/usr/bin/env python3
"""Statically quantised versions of two real models, for importers of QDQ and QLinear graphs (no package has one).

    make_quantized.py [--out DIR]        default: the cache's entry `quantized`

  efficientnet-lite0-qdq.onnx   QuantizeLinear / DequantizeLinear pairs: int8 weights per channel, uint8 activations
  ppocr-cls-qlinear.onnx        operator form: QLinearConv and the com.microsoft QLinear* operators, per tensor

Made by onnxruntime's static quantisation, calibrated on fixed crops of the sample pictures. The bytes depend on the versions
in requirements.txt; expected/ was computed on files with the sha256 that this script checks for and warns about.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

import material
from zoo import nchw

PICTURES = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "retina.jpg", "ihc.png",
            "grass.png", "gravel.png", "brick.png", "page.png", "coins.png"]
CROPS_EACH = 3
SHA256 = {"efficientnet-lite0-qdq.onnx": "4cac1ee77984a05e68410ab4f43b15481186abc4f1dd7456b6ddf8d6fb29345c",
          "ppocr-cls-qlinear.onnx": "baf7a17c60ae9431cf3374e6e6c748a060cb9622a62b04341e133a59d3521035"}


def square_crops(width, height):
    """float32 [1,3,height,width] in 0..255: random square crops, squeezed to the size."""
    rng = np.random.default_rng(0)
    for name in PICTURES:
        image = material.picture_file("images", name)
        for _ in range(CROPS_EACH):
            side = int(min(image.size) * rng.uniform(0.5, 1))
            x, y = (int(rng.integers(0, s - side + 1)) for s in image.size)
            part = image.crop((x, y, x + side, y + side)).resize((width, height), Image.BICUBIC)
            yield nchw([np.asarray(part)])


class Reader(CalibrationDataReader):
    """Hands one array after the other to the calibrator."""

    def __init__(self, name, arrays):
        self.feeds = iter({name: a} for a in arrays)

    def get_next(self):
        return next(self.feeds, None)


def quantise(source, out, name, arrays, **options):
    """Shape inference and folding first, as onnxruntime recommends; then static quantisation."""
    with tempfile.TemporaryDirectory() as tmp:
        prepared = f"{tmp}/prepared.onnx"
        quant_pre_process(str(source), prepared, skip_symbolic_shape=True)
        quantize_static(prepared, f"{tmp}/quantised.onnx", Reader(name, arrays), activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, **options)
        model = onnx.load(f"{tmp}/quantised.onnx")
        del model.metadata_props[:]  # names the folder it was made in
        onnx.save(model, f"{out}.part")
    pathlib.Path(f"{out}.part").rename(out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=pathlib.Path, default=material.fetch.cache_root() / "quantized")
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if all((args.out / f).is_file() for f in SHA256):
        print(*(args.out / f for f in SHA256), sep="\n")
        return 0
    quantise(material.fetch.cached("efficientnet-lite0", "efficientnet-lite0.onnx"),
             args.out / "efficientnet-lite0-qdq.onnx", "input", [(x - 127) / 128 for x in square_crops(224, 224)],
             quant_format=QuantFormat.QDQ, per_channel=True)
    quantise(material.fetch.cached("rapidocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx"), args.out / "ppocr-cls-qlinear.onnx",
             "x", [x / 127.5 - 1 for x in square_crops(192, 48)], quant_format=QuantFormat.QOperator, per_channel=False)
    for file, sha256 in SHA256.items():
        path = args.out / file
        print(path)
        if material.fetch.digest(path) != sha256:
            print(f"make_quantized.py: {file} differs from the one that expected/ was computed on", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
