#!/usr/bin/env python3
"""Draws page.png from page.txt: the page that the example reads. Remake with the interpreter of tests/reference/bootstrap.py.

A line of page.txt that starts with `<` is drawn turned by half a turn, as a scanner sees a label stuck on upside down;
the sign itself is not drawn. An empty line is a gap.
"""
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "models"))
import fetch  # noqa: E402

HEIGHT, WIDTH = 700, 1000
PAPER, INK = 244, 30
HEAD, BODY, NOTE = ("fonts-liberation", "LiberationSans-Bold.ttf", 38), ("fonts-dejavu", "DejaVuSerif.ttf", 27), \
    ("fonts-liberation", "LiberationSans-Regular.ttf", 25)


def main():
    lines = (HERE / "page.txt").read_text(encoding="utf-8").split("\n")
    page = Image.new("L", (WIDTH, HEIGHT), PAPER)
    y, face = 34, HEAD
    for text in lines:
        if not text:
            y, face = y + 20, NOTE if face == BODY else BODY
            continue
        turned, text = text.startswith("<"), text.removeprefix("<")
        entry, file, size = face
        font = ImageFont.truetype(str(fetch.cached(entry, file)), size)
        left, top, right, bottom = font.getbbox(text)
        line = Image.new("L", (right - left + 2, bottom - top + 2), PAPER)
        ImageDraw.Draw(line).text((1 - left, 1 - top), text, fill=INK, font=font)
        page.paste(line.rotate(180) if turned else line, (60, y + top))
        y += int(size * 1.55)
    # 16 greys: what the eye needs of smoothed letters, at half the bytes.
    Image.fromarray((np.asarray(page) // 16 * 17).astype(np.uint8)).save(HERE / "page.png", optimize=True)


if __name__ == "__main__":
    main()
