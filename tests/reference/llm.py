#!/usr/bin/env python3
"""Decoder language models in GGUF through edge-convert and edge-run, against llama.cpp.

    llm.py --convert edge-convert --run edge-run [MODEL...] [--live] [--requantize] [--out DIR] [--json RESULT.json]

MODEL: smollm2, gemma3-270m (tests/models/fetch.py brings them); both when none is named. Needs numpy alone for the stored vectors of
expected/ (llama.cpp's logits after a prompt, its 48 greedy tokens, its negative log-likelihoods of 511 tokens of text); `--live` and
`--requantize` need gguf/requirements.txt.

Stored: llama.cpp rounds the rows that it multiplies to 8 bits, ours stay floats, so the two differ by that rounding. Logits are compared
up to the constant that they are defined by: the differences of the first 4,096, less their mean, over the range of all. The greedy
continuation is right when each of its tokens has our greatest logit after those before it; another one counts when its lead is below
twice the bound.

`--live`: every tensor is made f32 by the format's own Python package, and llama.cpp runs that file, rounding nothing: the same weights in
floats. The logits of all positions of prompt and continuation, and of 512 tokens of text, are held against ours.
`--requantize`: the same for files that llama.cpp itself makes of that one, in every type.

Exit: 1 when a bound is broken.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "models"))
import fetch  # noqa: E402

# Largest difference of logits as a share of their range, against activations of 8 bits, and against floats. The second is what
# scales of scales may lose by f16.
STORED, FLOAT = 2e-2, 2e-3
# Where the pack holds every number of the file as it is.
EXACT = 1e-4
# Perplexity over llama.cpp's, in floats.
PERPLEXITY = 1.0005
MODELS = {"smollm2": ("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", True),
          "gemma3-270m": ("gemma3-270m", "gemma-3-270m-q4_k_m.gguf", False)}
# llama.cpp's numbers of file types, and whether their numbers are kept exactly. Rows that are no multiple of 256 get other types.
TYPES = {"F16": (1, True), "BF16": (32, True), "Q4_0": (2, True), "Q4_1": (3, True), "Q5_0": (8, True), "Q5_1": (9, True),
         "Q8_0": (7, True), "IQ4_NL": (25, False), "Q2_K": (10, False), "Q3_K_M": (12, False), "Q4_K_M": (15, False),
         "Q5_K_M": (17, False), "Q6_K": (18, False), "IQ4_XS": (30, False)}


def command(words):
    """Seconds, largest resident bytes and standard output of a command."""
    start, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        p = subprocess.Popen([str(w) for w in words], stdout=out, stderr=errors)
        # Read while it runs: what the kernel says afterwards has this process's own size in it.
        while p.poll() is None:
            status = pathlib.Path(f"/proc/{p.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))])
            time.sleep(0.001)
        took = time.monotonic() - start
        out.seek(0)
        errors.seek(0)
        if p.returncode:
            said = errors.read().decode(errors="replace").strip()
            sys.exit(f"{' '.join(map(str, words))}: exit {p.returncode}: {said[-400:]}")
        return took, peak, out.read().decode()


class Pack:
    """A converted file."""

    def __init__(self, args, source, name):
        self.args, self.path = args, args.out / f"{name}.pack"
        self.seconds, self.peak, _ = command([args.convert, source, "-o", self.path])
        self.bytes, self.source_bytes = self.path.stat().st_size, pathlib.Path(source).stat().st_size

    def logits(self, ids):
        """[tokens, vocabulary]."""
        given, got = self.args.out / "in.npz", self.args.out / "out.npz"
        np.savez(given, input_ids=np.array([ids], np.int64), past=np.zeros(1, np.int64), wanted=np.arange(len(ids)))
        command([self.args.run, self.path, "--input", given, "--output", got])
        return np.load(got)["logits"][0]

    def row(self):
        return {"convert_s": round(self.seconds, 2), "convert_peak": self.peak, "pack_bytes": self.bytes,
                "file_bytes": self.source_bytes}


def losses(logits, ids):
    """Negative log-likelihood of each token after the first."""
    x = logits[:-1].astype(np.float64)
    most = x.max(1, keepdims=True)
    total = np.log(np.exp(x - most).sum(1)) + most[:, 0]
    return total - x[np.arange(len(ids) - 1), ids[1:]]


def leads(logits, tokens):
    """How far below the greatest logit each token's is."""
    return logits.max(1) - logits[np.arange(len(tokens)), tokens]


def stored(pack, name):
    """Against the stored vectors."""
    want = np.load(HERE / "expected" / f"{name}.npz")
    about = json.loads((HERE / "expected" / f"{name}.json").read_text())
    prompt, greedy = about["prompt_ids"], about["greedy_ids"]
    logits = pack.logits(prompt + greedy[:-1])[len(prompt) - 1:]
    first, stat = want["out:logits_after_prompt"], want["stat:logits_after_prompt"]
    span = stat[4] - stat[3]
    apart = logits[0][:first.size].astype(np.float64) - first
    error, shift = np.abs(apart - apart.mean()).max() / span, apart.mean() / span
    behind = leads(logits, greedy) / (logits.max(1) - logits.min(1))
    ids = want["in:ppl_ids"].tolist()
    nll, theirs = losses(pack.logits(ids), ids), want["out:ppl_nll"]
    row = {"error": float(error), "shift": float(shift), "greedy": int((behind == 0).sum()), "of": len(greedy),
           "perplexity": float(np.exp(nll.mean())), "llama_cpp": float(np.exp(theirs.mean())),
           "nll_error": float(np.abs(nll - theirs).max())}
    broken = [text for text, bad in [
        (f"logits {error:.2e} of their range apart", not error <= STORED),
        (f"a greedy token {behind.max():.2e} of the range behind", not behind.max() <= 2 * STORED)] if bad]
    return row, broken


# ---- llama.cpp, live ------------------------------------------------------------------------------------
def in_floats(source, to):
    """The file with every tensor in f32."""
    import gguf
    file = gguf.GGUFReader(source)
    out = gguf.GGUFWriter(to, arch=file.fields["general.architecture"].contents())
    for key, field in file.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        out.add_key_value(key, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    out.add_file_type(0)
    for tensor in file.tensors:
        out.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def llama_cpp(path, cases):
    """Its logits of each case, keys and values kept in f32."""
    from llama_cpp import Llama
    llm = Llama(str(path), n_ctx=1024, n_batch=1024, n_ubatch=1024, logits_all=True, n_threads=2, n_threads_batch=2, type_k=0,
                type_v=0, flash_attn=False, verbose=False)
    out = []
    for ids in cases:
        llm.reset()
        llm.eval(ids)
        out.append(np.array(llm.scores[:len(ids)], np.float32))
    llm.close()
    return out


def live(pack, source, exact, cases, out):
    """Against the same weights in floats."""
    floats = out / "floats.gguf"
    in_floats(source, floats)
    wants = llama_cpp(floats, cases)
    row, broken, bound = {"float_error": 0.0}, [], EXACT if exact else FLOAT
    for ids, want in zip(cases, wants):
        got = pack.logits(ids)
        span = want.max(1) - want.min(1)
        error = float((np.abs(got - want).max(1) / span).max())
        behind = leads(want, got.argmax(1)) / span
        row["float_error"] = max(row["float_error"], error)
        row["float_top1"] = min(row.get("float_top1", 1.0), float((behind == 0).mean()))
        if not error <= bound:
            broken.append(f"logits {error:.2e} of their range from llama.cpp's in floats; {bound} is the bound")
        if not behind.max() <= 2 * bound:
            broken.append(f"another token leads where llama.cpp has it {behind.max():.2e} of the range behind")
    # The last case is the text.
    ours, theirs = (float(np.exp(losses(x, cases[-1]).mean())) for x in (got, want))
    row |= {"text_perplexity": ours, "float_perplexity": theirs}
    if not ours <= PERPLEXITY * theirs:
        broken.append(f"perplexity {ours:.4f}; in floats it is {theirs:.4f}")
    return row, broken


def requantized(floats, kind, out):
    """A file of another type that llama.cpp makes."""
    import llama_cpp as lib
    to = out / f"{kind}.gguf"
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = TYPES[kind][0], 2, True
    if lib.llama_model_quantize(str(floats).encode(), str(to).encode(), params):
        sys.exit(f"llama.cpp does not make {kind} of {floats}")
    return to


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--convert", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--requantize", nargs="*", metavar="TYPE", choices=list(TYPES))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"no model {', '.join(sorted(unknown))}; there is {', '.join(MODELS)}")
    with tempfile.TemporaryDirectory() as folder:
        args.out = args.out or pathlib.Path(folder)
        args.out.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in args.models or MODELS:
            entry, file, exact = MODELS[name]
            source = fetch.cached(entry, file)
            pack = Pack(args, source, name)
            row, broken = stored(pack, name)
            about = json.loads((HERE / "expected" / f"{name}.json").read_text())
            text = np.load(HERE / "expected" / f"{name}.npz")["in:ppl_ids"].tolist()
            cases = [about["prompt_ids"] + about["greedy_ids"], text]
            if args.live or args.requantize is not None:
                more, worse = live(pack, source, exact, cases, args.out)
                row, broken = row | more, broken + worse
            rows.append({"model": name, **pack.row(), **row, "broken": broken})
            print(json.dumps(rows[-1]), flush=True)
            for kind in (args.requantize or TYPES) if args.requantize is not None else []:
                floats = args.out / f"{name}-floats.gguf"
                if not floats.exists():
                    in_floats(source, floats)
                made = requantized(floats, kind, args.out)
                pack = Pack(args, made, kind)
                row, broken = live(pack, made, TYPES[kind][1], cases, args.out)
                rows.append({"model": f"{name}:{kind}", **pack.row(), **row, "broken": broken})
                print(json.dumps(rows[-1]), flush=True)
                made.unlink()
                pack.path.unlink()
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["broken"] for row in rows))


if __name__ == "__main__":
    main()
