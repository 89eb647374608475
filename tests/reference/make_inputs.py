#!/usr/bin/env python3
"""Writes real inputs for the models of zoo.py: one .npz a sample, arrays named as the graph's inputs.

    make_inputs.py [--out DIR] [MODEL...]      all models when none is named; DIR: `inputs` in the models' cache

Layout: DIR/MODEL/calib/000.npz ... and DIR/MODEL/heldout/000.npz ...; `edge-convert --calib DIR/MODEL/calib` reads the
former. The two splits share no picture, typeface, half of the text, sentence or file. A sample has batch 1; shapes may
differ between samples. A folder that this version of the scripts made is left alone.
"""
import argparse
import hashlib
import pathlib
import shutil
import sys
import zlib

import numpy as np

import material
import zoo
from reference import save_npz


def generator(*key):
    """A Generator whose stream depends on the key's text alone (hash() differs between runs)."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, key)).encode()))


def default_folder():
    """Where inputs lie unless told otherwise: beside the models."""
    return material.fetch.cache_root() / "inputs"


def version():
    """Changes whenever the code or the catalog that inputs are made from does."""
    here = pathlib.Path(__file__).resolve().parent
    sources = [here / "make_inputs.py", here / "material.py", here / "zoo.py", material.fetch.CATALOG]
    return hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()


def make_split(model, split, count, folder):
    """Writes `count` samples of one split; returns whether anything was written. The folder appears by rename."""
    mark = folder.with_name(folder.name + ".version")  # beside it: the folder holds samples alone
    if mark.is_file() and mark.read_text() == version() and len(list(folder.glob("*.npz"))) == count:
        return False
    mark.unlink(missing_ok=True)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for i in range(count):
        rng = generator(model.name, split, i)
        save_npz(part / f"{i:03}.npz", model.feeds(rng, split, model.usual(rng)))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    mark.write_text(version())
    return True


def make(model, out):
    """Both splits of a model under out/MODEL. Returns {split: folder}."""
    folders = {}
    for split, count in zip(material.SPLITS, model.samples):
        folders[split] = out / model.name / split
        if make_split(model, split, count, folders[split]):
            print(f"{folders[split]}: {count} samples", file=sys.stderr)
    return folders


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(zoo.MODELS))
    ap.add_argument("--out", type=pathlib.Path, default=default_folder())
    args = ap.parse_args()
    unknown = sorted(set(args.models) - set(zoo.MODELS))
    if unknown:
        ap.error(f"unknown model: {', '.join(unknown)}; there are {', '.join(zoo.MODELS)}")
    for name in args.models or zoo.MODELS:
        make(zoo.MODELS[name], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
