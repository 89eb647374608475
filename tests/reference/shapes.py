#!/usr/bin/env python3
"""Draws further valid input shapes for a model, with real content: a plan must hold for shapes nobody tuned for.

    shapes.py MODEL --seed N [--out DIR] [--count 5]

Writes DIR/MODEL/shapes-N/000.npz ... and prints one line a case. Shapes are distinct, and differ from the usual ones
where the model allows it. Content comes from the heldout split.
"""
import argparse
import pathlib
import sys

import zoo
from make_inputs import default_folder, generator
from reference import save_npz


def draw(model, seed, count=5):
    """[(shape, {input: array})]: distinct shapes; fewer than `count` when the model has no more."""
    rng = generator(model.name, "shapes", seed)
    drawn = {}
    for _ in range(50 * count):  # models with few valid shapes repeat themselves
        if len(drawn) == count:
            break
        shape = model.further(rng)
        drawn.setdefault(tuple(sorted(shape.items())), shape)
    return [(s, model.feeds(generator(model.name, "shapes", seed, *sorted(s.items())), "heldout", s))
            for s in drawn.values()]


def label(shape):
    """A shape as a short file name: batch2-h192-w256."""
    return "-".join(f"{k}{v}" for k, v in shape.items())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", choices=zoo.MODELS)
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--out", type=pathlib.Path, default=default_folder())
    ap.add_argument("--count", type=int, default=5)
    args = ap.parse_args()
    folder = args.out / args.model / f"shapes-{args.seed}"
    for i, (shape, feeds) in enumerate(draw(zoo.MODELS[args.model], args.seed, args.count)):
        save_npz(folder / f"{i:03}.npz", feeds)
        print(f"{i:03} {label(shape)} " + ", ".join(f"{k} {list(v.shape)}" for k, v in feeds.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
