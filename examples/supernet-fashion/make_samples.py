"""Writes samples/*.png, calibration.npz (training images) and heldout.npz (test images)."""

import argparse
import re
import struct
import zlib
from pathlib import Path

import numpy as np

import data

SEED = 0
PER_CLASS = 20


def png(image):
    """An 8-bit grey PNG of a u8 image [H,W]."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = image.shape
    # 8 bits, colour type 0 (grey), then default compression, filter and interlace methods.
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    args = parser.parse_args()

    images, labels = data.load("train", args.data)
    pick = data.balanced(labels, PER_CLASS, SEED)
    np.savez_compressed("calibration.npz", input=images[pick])

    images, labels = data.load("t10k", args.data)
    pick = data.balanced(labels, PER_CLASS, SEED)
    np.savez_compressed("heldout.npz", input=images[pick], labels=labels[pick])

    names = Path("labels.txt").read_text().split("\n")
    Path("samples").mkdir(exist_ok=True)
    for c in range(10):
        # The first of its class in the test set: nobody chose an easy one.
        first = np.flatnonzero(labels == c)[0]
        slug = re.sub(r"[^a-z]+", "-", names[c].lower())
        Path(f"samples/{c}-{slug}.png").write_bytes(png(images[first, 0]))


if __name__ == "__main__":
    main()
