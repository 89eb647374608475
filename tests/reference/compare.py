#!/usr/bin/env python3
"""Converts real models, runs every rung on real inputs, and compares with onnxruntime.

    compare.py --convert edge-convert --run edge-run [MODEL...] [--out DIR] [--json RESULT.json]

For each model: inputs are made (make_inputs.py, shapes.py), `edge-convert MODEL.onnx -o X.pack --calib DIR` writes a pack,
`edge-run inspect X.pack --json` lists its rungs, and `edge-run X.pack --rung ID --input IN.npz --output OUT.npz` runs
each on the heldout samples and on drawn shapes. Printed for each rung: bytes; the largest error as a share of that output's
range over all cases; SQNR in dB of the worst output; agreement of the task decision (metrics.py), on heldout samples and on
drawn shapes. The top rung of each kind of activations (f32, i8) is held to bounds.json; lower rungs are reported.

A float rung whose error is above its bound still holds where onnxruntime with its optimisations on is as far from itself
with them off: such a case hangs on small differences of large sums, and no engine can be nearer to one that is far off.

Exit: 0 when every bound holds, 1 when one is broken or a command fails, 2 for wrong arguments.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

import make_inputs
import metrics
import shapes
import zoo
from reference import Reference, load_npz, save_npz

HERE = pathlib.Path(__file__).resolve().parent


class CommandFailed(Exception):
    """A converter or runtime command did not succeed; the text has its last words."""


def command(words, timeout):
    """Standard output of a command. Raises CommandFailed."""
    words = [str(w) for w in words]
    try:
        p = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                           timeout=timeout)
    except FileNotFoundError:
        raise CommandFailed(f"{words[0]}: no such program") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(words)}: more than {timeout} s") from None
    if p.returncode:
        raise CommandFailed(f"{' '.join(words)}: exit {p.returncode}: {p.stderr.strip()[-400:]}")
    return p.stdout


# ---- cases ----------------------------------------------------------------------------------------------
class Case:
    """One input: where it lies, its arrays, the reference's outputs."""

    def __init__(self, kind, path, feeds, want):
        self.kind, self.path, self.feeds, self.want = kind, path, feeds, want


def cases(model, args, reference):
    """Heldout samples, then drawn shapes, each with the reference's outputs."""
    heldout = make_inputs.make(model, args.inputs)["heldout"]
    for path in sorted(heldout.glob("*.npz"))[:args.heldout]:
        feeds = load_npz(path)
        yield Case("heldout", path, feeds, reference.run(model.path(), feeds))
    for shape, feeds in shapes.draw(model, args.seed, args.shapes):
        path = args.inputs / model.name / f"shapes-{args.seed}" / f"{shapes.label(shape)}.npz"
        save_npz(path, feeds)
        yield Case("shapes", path, feeds, reference.run(model.path(), feeds))


# ---- one rung -------------------------------------------------------------------------------------------
def fit_names(got, want):
    """The outputs by the reference's names. A missing output is an empty array, which every metric calls wrong."""
    return {k: np.asarray(got.get(k, np.zeros(0, np.float32))) for k in want}


class Tally:
    """What a rung did over all cases."""

    def __init__(self, task, todo):
        # Over all cases: a single probability of 1e-4 has no range of its own to be measured against.
        wanted = [metrics.parts(task, c.want) for c in todo]
        self.spread = {k: metrics.spread([w[k] for w in wanted]) for k in wanted[0]} if wanted else {}
        self.task, self.error, self.energy, self.agreement = task, 0.0, {}, {"heldout": [], "shapes": []}
        self.wrong_shape = []

    def add(self, case, got):
        """Counts one case in."""
        got = fit_names(got, case.want)
        batch = len(next(iter(case.feeds.values())))
        bad = [k for k, w in case.want.items() if got[k].shape != w.shape]
        if bad:
            self.wrong_shape.append(f"{case.path.name}: {bad[0]} is {list(got[bad[0]].shape)}, expected "
                                    f"{list(case.want[bad[0]].shape)}")
            self.error = np.inf
            self.agreement[case.kind] += [0.0] * batch
            return
        got_parts, want_parts = metrics.parts(self.task, got), metrics.parts(self.task, case.want)
        for name, want in want_parts.items():
            self.error = max(self.error, metrics.range_error(got_parts[name], want, self.spread[name]))
            signal, noise = metrics.signal_and_noise(got_parts[name], want)
            old = self.energy.get(name, (0.0, 0.0))
            self.energy[name] = (old[0] + signal, old[1] + noise)
        self.agreement[case.kind] += metrics.DECISIONS[self.task](got, case.want, case.feeds)

    def result(self):
        """The numbers of the table and the JSON. JSON has no infinity: such a number becomes None."""
        sqnr = {k: metrics.sqnr_db(s, n) for k, (s, n) in self.energy.items()}
        mean = {k: float(np.mean(v)) if v else None for k, v in self.agreement.items()}
        return {"error": self.error, "sqnr_db": min(sqnr.values(), default=-np.inf), "sqnr_db_by_output": sqnr,
                "agreement": mean, "agreement_least": min((x for v in self.agreement.values() for x in v), default=None),
                "wrong_shape": self.wrong_shape}


def run_rung(args, model, pack, rung, todo):
    """Runs one rung on all cases; the result of its Tally, or {"failed": reason}."""
    tally = Tally(model.task, todo)
    out = args.out / "outputs" / model.name / f"{rung['id']}.npz"
    out.parent.mkdir(parents=True, exist_ok=True)
    for case in todo:
        out.unlink(missing_ok=True)
        try:
            command([args.run, pack, "--rung", rung["id"], "--input", case.path, "--output", out], args.timeout)
            tally.add(case, load_npz(out))
        except (CommandFailed, OSError, ValueError) as e:
            return {"failed": f"{case.kind} {case.path.name}: {e}"}
    return tally.result()


# ---- bounds ---------------------------------------------------------------------------------------------
def bound_for(bounds, model, acts):
    """Bounds of a model's top rung with these activations: the default ones, overridden by the model's."""
    return {**bounds["default"].get(acts, {}), **bounds["models"].get(model, {}).get(acts, {})}


def broken(result, bound):
    """What a rung's result breaks, as text. Written as `not (x <= y)`, so that NaN breaks it too."""
    if "failed" in result:
        return [result["failed"]]
    found = [f"wrong shape: {s}" for s in result["wrong_shape"][:3]]
    if "error" in bound and not result["error"] <= bound["error"]:
        found.append(f"error {result['error']:.2e} of the range, allowed {bound['error']:.0e}")
    if "sqnr_db" in bound and not result["sqnr_db"] >= bound["sqnr_db"]:
        found.append(f"SQNR {result['sqnr_db']:.1f} dB, at least {bound['sqnr_db']} wanted")
    for kind, share in result["agreement"].items():
        if "agreement" in bound and share is not None and not share >= bound["agreement"]:
            found.append(f"agreement {share:.3f} on {kind}, at least {bound['agreement']} wanted")
    return found


def top_rungs(rungs):
    """Ids of the rung of each kind of activations whose quality its pack says is best."""
    best = {}
    for r in rungs:
        if r["acts"] not in best or r["quality"]["value"] > best[r["acts"]]["quality"]["value"]:
            best[r["acts"]] = r
    return {r["id"] for r in best.values()}


# ---- conditioning ---------------------------------------------------------------------------------------
SLACK = 2  # each of two engines may be on another side of the truth


def conditioning(args, model, pack, rung, todo):
    """[(case, our error, onnxruntime's)], as shares of the output's range over all cases: our distance from onnxruntime
    with its optimisations off, and its own with them on."""
    optimised = Reference(optimised=True)
    out = args.out / "outputs" / model.name / f"{rung['id']}.npz"
    wanted = [metrics.parts(model.task, case.want) for case in todo]
    spread = {k: metrics.spread([w[k] for w in wanted]) for k in wanted[0]}
    rows = []
    for case, want in zip(todo, wanted):
        command([args.run, pack, "--rung", rung["id"], "--input", case.path, "--output", out], args.timeout)

        def far(outputs):
            parts = metrics.parts(model.task, outputs)
            return max(metrics.range_error(parts[k], want[k], spread[k]) for k in want)
        ours = far(fit_names(load_npz(out), case.want))
        rows.append((f"{case.kind} {case.path.stem}", ours, far(optimised.run(model.path(), case.feeds))))
    return rows


def ill_conditioned(rows, bound):
    """What of `conditioning` is worse than onnxruntime's own scatter, as text; empty when nothing is."""
    return [f"{case}: {ours:.2e} of the range, onnxruntime's own two modes {theirs:.2e} apart"
            for case, ours, theirs in rows if not ours <= max(bound, SLACK * theirs)]


# ---- one model ------------------------------------------------------------------------------------------
def rung_row(name, rung, result):
    """One line of the table."""
    if "failed" in result:
        return f"{name:18} {str(rung['id']):16} {rung['acts']:4} {rung['bytes']:11,}  FAILED {result['failed'][:120]}"
    share = ["     -" if v is None else f"{v:6.3f}" for v in result["agreement"].values()]
    return (f"{name:18} {str(rung['id']):16} {rung['acts']:4} {rung['bytes']:11,} {result['error']:10.2e} "
            f"{result['sqnr_db']:8.1f}  {'   '.join(share)}")


def compare_model(args, model, bounds, reference):
    """{rungs: [...], broken: [...]} of one model."""
    calib = make_inputs.make(model, args.inputs)["calib"]
    pack = args.out / "packs" / f"{model.name}.pack"
    pack.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not (args.keep and pack.is_file()):
            command([args.convert, model.path(), "-o", pack, "--calib", calib, *args.convert_arg], args.convert_timeout)
        rungs = json.loads(command([args.run, "inspect", pack, "--json"], args.timeout))["rungs"]
        held = top_rungs(rungs)
    except (CommandFailed, ValueError, KeyError, TypeError) as e:
        print(f"{model.name:18} FAILED {e}", flush=True)
        return {"rungs": [], "broken": [str(e)]}
    todo = list(cases(model, args, reference))
    done, found = [], [] if rungs else ["the pack has no rungs"]
    for rung in rungs:
        if args.rungs == "top" and rung["id"] not in held or args.rung and str(rung["id"]) not in args.rung:
            continue
        result = run_rung(args, model, pack, rung, todo)
        print(rung_row(model.name, rung, result), flush=True)
        bound = bound_for(bounds, model.name, rung["acts"]) if rung["id"] in held else {}
        if rung["acts"] == "f32" and "error" in bound and bound["error"] < result.get("error", 0) < np.inf:
            rows = conditioning(args, model, pack, rung, todo)
            case, ours, theirs = max(rows, key=lambda r: r[1])
            print(f"{'':18} at most {ours:.2e}, where onnxruntime's own two modes are {theirs:.2e} apart ({case})", flush=True)
            worse = ill_conditioned(rows, bound["error"])
            found += [f"rung {rung['id']}: {line}" for line in worse]
            if not worse:
                bound = {k: v for k, v in bound.items() if k != "error"}
        found += [f"rung {rung['id']}: {b}" for b in broken(result, bound)]
        done.append({**{k: rung.get(k) for k in ("id", "bytes", "quality", "acts")}, **result})
    return {"rungs": done, "broken": found}


def no_infinity(x):
    """JSON without infinity or NaN: such numbers become None."""
    if isinstance(x, dict):
        return {k: no_infinity(v) for k, v in x.items()}
    if isinstance(x, list):
        return [no_infinity(v) for v in x]
    return None if isinstance(x, float) and not np.isfinite(x) else x


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(zoo.MODELS) + "; default: all")
    ap.add_argument("--convert", required=True, help="the edge-convert binary")
    ap.add_argument("--run", required=True, help="the edge-run binary")
    ap.add_argument("--out", type=pathlib.Path, default=HERE.parent.parent / "target" / "compare",
                    help="folder for packs and outputs")
    ap.add_argument("--inputs", type=pathlib.Path, default=make_inputs.default_folder(), help="folder for inputs")
    ap.add_argument("--heldout", type=int, help="at most this many heldout samples a model")
    ap.add_argument("--shapes", type=int, default=5, help="how many further shapes")
    ap.add_argument("--seed", type=int, default=1, help="of the further shapes")
    ap.add_argument("--rungs", choices=["all", "top"], default="all")
    ap.add_argument("--rung", action="append", help="only this rung")
    ap.add_argument("--keep", action="store_true", help="do not convert again when the pack is there")
    ap.add_argument("--convert-arg", action="append", default=[], help="passed on to edge-convert")
    ap.add_argument("--bounds", type=pathlib.Path, default=HERE / "bounds.json")
    ap.add_argument("--timeout", type=float, default=120, help="seconds of one run")
    ap.add_argument("--convert-timeout", type=float, default=1800, help="seconds of one conversion")
    ap.add_argument("--json", type=pathlib.Path)
    args = ap.parse_args()
    unknown = sorted(set(args.models) - set(zoo.MODELS))
    if unknown:
        ap.error(f"unknown model: {', '.join(unknown)}")
    bounds, reference = json.loads(args.bounds.read_text()), Reference()
    print(f"{'model':18} {'rung':16} {'acts':4} {'bytes':>11} {'error':>10} {'SQNR dB':>8}  heldout  shapes")
    results = {n: compare_model(args, zoo.MODELS[n], bounds, reference) for n in args.models or zoo.MODELS}
    if args.json:
        args.json.write_text(json.dumps(no_infinity(results), indent=1))
    failures = [f"{n}: {b}" for n, r in results.items() for b in r["broken"]]
    for line in failures:
        print("BROKEN " + line)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
