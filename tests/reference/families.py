#!/usr/bin/env python3
"""What each family of weight forms is good for: converts models with it and without it, and compares at equal bytes.

    families.py --convert edge-convert --run edge-run [MODEL...] [--out DIR] [--json RESULT.json]

MODEL: a name of zoo.py, or a kind of examples/structured-fashion (dense, low-rank, nuclear, 2-of-4). Families, as
`edge-convert --without` names them: `low-rank` (two narrower products in place of one), `alone` (two thin matrices in place of the
coarsest planes), `thin` (two beside coarse planes), `corrections` (gains and shifts of rows, and both of these), `sparse` (no bytes for
zeros). A pack is made with all of them; then one without
each family that some rung of it uses. Every rung of both runs on held-out inputs; SQNR is that of the worst output against
onnxruntime. The gain of a family is the SQNR of the best rung of at most so many bytes with it, over what the pack without
it has at the same bytes, between its rungs by straight lines; averaged over the lower, the middle and the upper third of the bytes that
both ladders have (thirds of the logarithm). A finest rung that is smaller than any other that is as good shows in the last two columns.
"""
import argparse
import json
import math
import pathlib
import re
import sys

import numpy as np

import compare
import make_inputs
import zoo
from reference import Reference, save_npz

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
STRUCTURED = ["dense", "low-rank", "nuclear", "2-of-4"]
FAMILIES = ["low-rank", "alone", "thin", "corrections", "sparse"]
PICTURES = 100  # of the example's held-out ones, in one batch


class Structured:
    """A model of examples/structured-fashion, as compare.py takes models."""

    task = "classify"

    def __init__(self, kind):
        self.name, self.kind = f"fashion {kind}", kind

    def path(self):
        """The ONNX file."""
        return EXAMPLES / "structured-fashion" / "models" / f"{self.kind}.onnx"


def material_of(model, args, reference):
    """(calibration, held-out cases) of a model."""
    if not isinstance(model, Structured):
        args.seed, args.shapes = 0, 0  # held-out samples alone
        return make_inputs.make(model, args.inputs)["calib"], list(compare.cases(model, args, reference))
    held = np.load(EXAMPLES / "supernet-fashion" / "heldout.npz")
    feeds = {"input": held["input"][:PICTURES].astype(np.float32) / 255}
    path = args.out / "fashion-heldout.npz"
    save_npz(path, feeds)
    case = compare.Case("heldout", path, feeds, reference.run(model.path(), feeds))
    return EXAMPLES / "supernet-fashion" / "calibration.npz", [case]


# ---- what a pack uses -----------------------------------------------------------------------------------
def thin_bytes(dims, rank):
    """Bytes of two thin matrices of 4 bits: V with a scale of 2 bytes for 32 columns, U with one a row."""
    n, k = (-(-d // 16) * 16 for d in dims)
    return rank * k // 2 + rank * -(-dims[1] // 32) * 2 + n * rank // 2 + 2 * n


def used(page):
    """{family: (matrices, most bytes in a rung)} of a pack's page (`edge-convert report --json`)."""
    found = {f: {} for f in FAMILIES}
    most = dict.fromkeys(FAMILIES, 0)
    for rung in page["rungs"]:
        sums = dict.fromkeys(FAMILIES, 0)
        for layer in filter(None, rung["layers"]):
            text = layer["format"]
            rank = re.search(r"\+ rank (\d+)", text)
            split = re.search(r"^(.*) [UV] \(rank \d+\)$", layer["name"])
            each = {
                "alone": layer["bytes"] if text.startswith("two thin") else 0,
                "thin": thin_bytes(layer["dims"], int(rank[1])) if rank else 0,
                "corrections": 4 * layer["dims"][0] if "corrected" in text else 0,
                "sparse": layer["bytes"] if "sparse" in text else 0,
                "low-rank": layer["bytes"] if split else 0,
            }
            for family, size in each.items():
                if size:
                    found[family][split[1] if split else layer["name"]] = True
                    sums[family] += size
        most = {f: max(most[f], sums[f]) for f in FAMILIES}
    # What is a part of corrections; not all of it in one rung.
    most["corrections"] = max(most[f] for f in ("corrections", "thin", "alone"))
    return {f: (len(found[f]), most[f]) for f in FAMILIES if found[f]}


# ---- one pack -------------------------------------------------------------------------------------------
def ladder(args, model, calib, todo, label, without):
    """[{id, acts, bytes, sqnr_db}] of a pack made without some families, and the page's figures."""
    pack = args.out / "packs" / f"{model.name.replace(' ', '-')}-{label}.pack"
    pack.parent.mkdir(parents=True, exist_ok=True)
    if not (args.keep and pack.is_file()):
        wanted = ["--without", ",".join(without)] if without else []
        compare.command([args.convert, model.path(), "-o", pack, "--calib", calib, *wanted, *args.convert_arg],
                        args.convert_timeout)
    page = json.loads(compare.command([args.convert, "report", pack, "-o", args.out / "page.html", "--no-latency",
                                       "--json"], args.timeout))
    rungs = json.loads(compare.command([args.run, "inspect", pack, "--json"], args.timeout))["rungs"]
    done = []
    for rung in rungs:
        result = compare.run_rung(args, model, pack, rung, todo)
        if "failed" in result:
            raise compare.CommandFailed(result["failed"])
        done.append({k: rung[k] for k in ("id", "acts", "bytes")} | {"sqnr_db": result["sqnr_db"]})
    return done, page


# ---- gains ----------------------------------------------------------------------------------------------
def staircase(rungs, acts):
    """(log bytes, dB) of the rungs with such activations that are better than all smaller ones."""
    steps = []
    for rung in sorted((r for r in rungs if r["acts"] == acts), key=lambda r: r["bytes"]):
        if not steps or rung["sqnr_db"] > steps[-1][1]:
            steps.append((math.log(rung["bytes"]), rung["sqnr_db"]))
    return np.array(steps)


def gains(with_it, without, acts):
    """Mean dB gained in each third of the bytes that both have; None where they have none in common."""
    a, b = staircase(with_it, acts), staircase(without, acts)
    if len(a) < 2 or len(b) < 2:
        return None
    low, high = max(a[0, 0], b[0, 0]), min(a[-1, 0], b[-1, 0])
    if high <= low:
        return None
    at = np.linspace(low, high, 301)
    difference = np.interp(at, *a.T) - np.interp(at, *b.T)
    return [float(part.mean()) for part in np.array_split(difference, 3)]


def finest(rungs, acts):
    """Bytes and dB of the best rung."""
    best = max((r for r in rungs if r["acts"] == acts), key=lambda r: r["sqnr_db"])
    return f"{best['bytes'] / 1e3:.0f} kB, {best['sqnr_db']:.1f} dB"


def family_rows(args, model, reference):
    """Table rows of a model, and its figures."""
    calib, todo = material_of(model, args, reference)
    all_of_them, page = ladder(args, model, calib, todo, "all", [])
    families = used(page)
    figures = {"all": all_of_them, "families": families, "without": {}}
    rows = []
    for family in args.family or FAMILIES:
        if family not in families:
            rows.append(f"| {model.name} | {family} | nothing | | | | | |")
            continue
        count, most = families[family]
        rungs, _ = ladder(args, model, calib, todo, f"without-{family}", [family])
        figures["without"][family] = rungs
        for acts in ("f32", "i8"):
            gained = gains(all_of_them, rungs, acts)
            text = " / ".join(f"{g:+.1f}" for g in gained) if gained else "no bytes in common"
            rows.append(f"| {model.name} | {family} | {count} | {most / 1e3:.1f} | {acts} | {text} | "
                        f"{finest(all_of_them, acts)} | {finest(rungs, acts)} |")
    return rows, figures


def main():
    known = [*zoo.MODELS, *STRUCTURED]
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(known))
    ap.add_argument("--convert", required=True, help="the edge-convert binary")
    ap.add_argument("--run", required=True, help="the edge-run binary")
    ap.add_argument("--out", type=pathlib.Path, default=HERE.parent.parent / "target" / "families")
    ap.add_argument("--inputs", type=pathlib.Path, default=make_inputs.default_folder(), help="folder for inputs")
    ap.add_argument("--heldout", type=int, default=4, help="at most this many heldout samples a model")
    ap.add_argument("--family", action="append", choices=FAMILIES, help="only this family")
    ap.add_argument("--keep", action="store_true", help="do not convert again when a pack is there")
    ap.add_argument("--convert-arg", action="append", default=[], help="passed on to edge-convert")
    ap.add_argument("--timeout", type=float, default=300, help="seconds of one run")
    ap.add_argument("--convert-timeout", type=float, default=1800, help="seconds of one conversion")
    ap.add_argument("--json", type=pathlib.Path)
    args = ap.parse_args()
    unknown = sorted(set(args.models) - set(known))
    if unknown:
        ap.error(f"unknown model: {', '.join(unknown)}")
    reference, results, failed = Reference(), {}, 0
    print("| model | family | matrices | kB at most | acts | dB gained at equal bytes: few / middle / many | best with | best without |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.models or known:
        model = Structured(name) if name in STRUCTURED else zoo.MODELS[name]
        try:
            rows, results[name] = family_rows(args, model, reference)
        except (compare.CommandFailed, OSError, ValueError, KeyError) as e:
            rows, failed = [f"| {name} | FAILED {e} | | | | | | |"], failed + 1
        print("\n".join(rows), flush=True)
    if args.json:
        args.json.write_text(json.dumps(compare.no_infinity(results), indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
