#!/usr/bin/env python3
"""Runs an inference engine over the ONNX backend tests and a few real models.

    suite.py prepare [--out SUITE] [--offline]
    suite.py run [--suite SUITE] --cmd 'PROGRAM {model} {inputs_dir} {out_dir}' [--scope edge] ...

SUITE is $EDGE_MODELS/onnx-suite, else ~/.cache/edge-models/onnx-suite. Needs numpy and onnx (`run`), and onnxruntime
(`prepare`): the environment that tests/reference/bootstrap.py makes.

What the command must do:
  {model}       path of an ONNX file
  {inputs_dir}  folder with input_<i>.pb, the value of the i-th graph input that has no initializer (TensorProto, or
                SequenceProto / OptionalProto where the input's type says so)
  {out_dir}     an empty folder: write output_<i>.npy or output_<i>.pb for every graph output, in graph order;
                status.json (an object) may be written too and is copied into the results
  exit code     0 outputs written; 3 refused, with the reason on stderr; anything else counts as a crash

Verdicts: pass, near, wrong, refused, crash, timeout (judge.py has the bounds).
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import judge
from layout import GROUPS, data_sets

HERE = pathlib.Path(__file__).resolve().parent
REFUSED = 3


def default_suite():
    """Where the suite lies unless told otherwise: beside the models."""
    root = os.environ.get("EDGE_MODELS") or pathlib.Path.home() / ".cache" / "edge-models"
    return pathlib.Path(root) / "onnx-suite"


# ---- prepare --------------------------------------------------------------------------------------------
def prepare(args):
    """Lays the suite out beside the target, then swaps it in: an interrupted run leaves the old suite whole."""
    import layout
    import real_models
    out = args.out or default_suite()
    if out.exists() and not (out / "suite.json").is_file():
        sys.exit(f"{out} exists and is not a suite")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = pathlib.Path(tempfile.mkdtemp(prefix=out.name + ".part-", dir=out.parent))
    try:
        about = layout.lay_out(part, args.data)
        about["tests"]["models"] = real_models.lay_out(part, args.offline)
        (part / "suite.json").write_text(json.dumps(about, indent=1, sort_keys=True))
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{out}: onnx {about['onnx']}, {about['tests']}, {about['static']} tests with a static variant")
    return 0


# ---- run ------------------------------------------------------------------------------------------------
def run_command(words, timeout):
    """(exit code or None when the time ran out, stderr). The whole process group is killed on a timeout."""
    p = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, err = p.communicate(timeout=timeout)
        code = p.returncode
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        _, err = p.communicate()
        code = None
    return code, err.decode("utf-8", "replace").strip()


def run_case(case, command, timeout):
    """{verdict, note, seconds, status?} of one test: the worst of its data sets."""
    start, verdict, result = time.monotonic(), ("pass", ""), {}
    for inputs in data_sets(case):
        out = pathlib.Path(tempfile.mkdtemp(prefix="onnx-case-"))
        try:
            words = [w.format(model=case / "model.onnx", inputs_dir=inputs, out_dir=out) for w in shlex.split(command)]
            code, err = run_command(words, timeout)
            if code is None:
                v = ("timeout", f"more than {timeout:g} s")
            elif code == 0:
                v = judge.judge(case, inputs, out)
            elif code == REFUSED:
                v = ("refused", err[-300:])
            else:
                v = ("crash", f"exit {code}: {err[-300:]}")
            verdict = judge.worse(verdict, v)
            try:
                result["status"] = json.loads((out / "status.json").read_text())
            except (OSError, ValueError):
                pass
        finally:
            shutil.rmtree(out, ignore_errors=True)
    result.update(verdict=verdict[0], note=verdict[1], seconds=round(time.monotonic() - start, 3))
    return result


def select(args, suite, manifest):
    """[(group/test, folder)] of the tests that the arguments name."""
    only = {line.strip() for line in args.only.read_text().splitlines() if line.strip()} if args.only else None
    chosen = []
    for group in args.group or GROUPS:
        for model in sorted((suite / group).glob("*/model.onnx")):
            key, case = f"{group}/{model.parent.name}", model.parent
            about = manifest.get(key, {})
            if args.scope != "all" and not about.get("edge"):
                continue
            if args.scope not in ("all", "edge") and args.scope not in about.get("families", []):
                continue
            if args.filter and not re.search(args.filter, key) or only is not None and key not in only:
                continue
            if args.variant == "static" and (case / "static" / "model.onnx").is_file():
                case = case / "static"
            chosen.append((key, case))
    return chosen


def print_table(results, list_failures):
    """Failing tests, then counts by group."""
    if list_failures:
        for key, r in sorted(results.items()):
            if r["verdict"] != "pass":
                print(f"{r['verdict']:8} {key}  {' '.join(r['note'].split())[:200]}")
    rows = collections.OrderedDict((g, [r for k, r in results.items() if k.startswith(g + "/")]) for g in GROUPS)
    rows["all"] = list(results.values())
    print(f"{'group':18} {'tests':>6} {'pass %':>8} {'strict':>8}" + "".join(f"{v:>9}" for v in judge.VERDICTS))
    for name, group in rows.items():
        if group:
            counts = collections.Counter(r["verdict"] for r in group)
            strict = sum(r["verdict"] == "pass" and not r["note"] for r in group)
            print(f"{name:18} {len(group):6} {100 * counts['pass'] / len(group):7.2f}% {strict:8}"
                  + "".join(f"{counts[v]:9}" for v in judge.VERDICTS))


def passing(before):
    """Tests that passed, of earlier results (--json) or of a baseline (--write-baseline)."""
    if "passing" in before:
        return set(before["passing"])
    return {key for key, r in before["results"].items() if r["verdict"] == "pass"}


def failed_gates(args, results):
    """Lines that say which of the asked-for bounds is broken."""
    share = 100 * sum(r["verdict"] == "pass" for r in results.values()) / len(results)
    if args.min_pass is not None and share < args.min_pass:
        yield f"pass rate {share:.2f}% is below {args.min_pass:g}%"
    for verdict in args.forbid:
        named = [k for k, r in results.items() if r["verdict"] == verdict]
        if named:
            yield f"{len(named)} tests {verdict}: {', '.join(sorted(named)[:5])}"
    if args.baseline:
        before = passing(json.loads(args.baseline.read_text()))
        for key, r in sorted(results.items()):
            if key in before and r["verdict"] != "pass":
                yield f"{key} passed before, now {r['verdict']}: {' '.join(r['note'].split())[:160]}"


def run(args):
    """Runs the selected tests; 0 when every gate holds, 1 when one is broken, 2 when there is nothing to run."""
    suite = (args.suite or default_suite()).resolve()
    if not (suite / "suite.json").is_file():
        sys.exit(f"{suite} is not a suite; run: suite.py prepare")
    manifest = json.loads(args.manifest.read_text())["tests"]
    cases = select(args, suite, manifest)
    if not cases:
        print("no test selected", file=sys.stderr)
        return 2
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(lambda c: (c[0], run_case(c[1], args.cmd, args.timeout)), cases)
        results = dict(done)
    print_table(results, not args.quiet)
    if args.json:
        args.json.write_text(json.dumps({"variant": args.variant, "scope": args.scope, "results": results}, indent=0,
                                        sort_keys=True))
    if args.write_baseline:
        names = sorted(k for k, r in results.items() if r["verdict"] == "pass")
        args.write_baseline.write_text(json.dumps({"variant": args.variant, "scope": args.scope, "passing": names},
                                                  indent=0) + "\n")
    broken = list(failed_gates(args, results))
    for line in broken:
        print("FAILED: " + line)
    return 1 if broken else 0


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="what", required=True)
    p = sub.add_parser("prepare", help="lay the suite out as files")
    p.add_argument("--out", type=pathlib.Path)
    p.add_argument("--data", type=pathlib.Path, help="an onnx/backend/test/data folder; default: the installed onnx's")
    p.add_argument("--offline", action="store_true", help="take the real models from the cache only")
    p.set_defaults(do=prepare)
    r = sub.add_parser("run", help="run a command over the suite")
    r.add_argument("--suite", type=pathlib.Path)
    r.add_argument("--cmd", required=True)
    r.add_argument("--variant", choices=["static", "asis"], default="static",
                   help="static: operands that exporters write as constants are initializers")
    r.add_argument("--scope", default="all", help="all, edge, or one family of edge: vision audio encoder decoder quant")
    r.add_argument("--manifest", type=pathlib.Path, default=HERE / "manifest.json")
    r.add_argument("--group", action="append", choices=GROUPS)
    r.add_argument("--filter", help="regular expression over group/test")
    r.add_argument("--only", type=pathlib.Path, help="file with one group/test a line")
    r.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    r.add_argument("--timeout", type=float, default=60, help="seconds a data set")
    r.add_argument("--json", type=pathlib.Path, help="write the results here")
    r.add_argument("--baseline", type=pathlib.Path, help="earlier results or a baseline: fail when a test that passed "
                   "no longer does")
    r.add_argument("--write-baseline", type=pathlib.Path, help="write the names of the tests that pass here")
    r.add_argument("--min-pass", type=float, help="fail below this percentage")
    r.add_argument("--forbid", action="append", default=[], choices=judge.VERDICTS[1:], help="fail on any such verdict")
    r.add_argument("-q", "--quiet", action="store_true", help="do not list failing tests")
    r.set_defaults(do=run)
    args = ap.parse_args()
    return args.do(args)


if __name__ == "__main__":
    sys.exit(main())
