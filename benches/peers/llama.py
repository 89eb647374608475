#!/usr/bin/env python3
"""Times edge-run and llama.cpp on the same language models, texts' lengths and threads, in turns.

    llama.py --run edge-run MODEL.gguf=MODEL.pack... [--threads 1,2] [--prompt 256] [--tokens 128] [--rounds 5] [--busy] [--json OUT.json]

Both feed a prompt of so many tokens at once, then give so many tokens one by one after an empty context, in llama-bench's terms pp and tg.
In each round each runs once, in a process of its own, the order turning; printed are medians over the rounds in tokens a second, the
ratios within a round, the share that the steps' weights take of the bandwidth that `edge-run bench --limits` finds, MB resident at the
peak, and ms from a path to the first token after a prompt of 16 (llama.cpp's Python import left out; our whole process).
`--busy`: another process counts on the second CPU all the while; then also the 50th and 95th percentile of the time of a token.

Needs llama-cpp-python (tests/reference/gguf/requirements.txt) in this Python.
"""
import argparse
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys
import time

BATCH = 512


def resident(field):
    """MB of this process: VmHWM (most so far) or VmRSS."""
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) / 1000
    return 0.0


# ---- llama.cpp, in its own process ------------------------------------------------------------------------
def worker(job):
    import llama_cpp as lib
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    before, start = resident("VmRSS"), time.perf_counter()
    model = lib.llama_model_load_from_file(job["model"].encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx = max(job["prompt"], job["tokens"]) + 32
    params.n_batch = params.n_ubatch = BATCH
    params.n_threads = params.n_threads_batch = job["threads"]
    context = lib.llama_init_from_model(model, params)
    words = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def feed(count, seed=0):
        tokens = (lib.llama_token * count)(*(7 + (seed + 31 * i) % (words - 8) for i in range(count)))
        if lib.llama_decode(context, lib.llama_batch_get_one(tokens, count)):
            sys.exit("llama_decode failed")
        return lib.llama_get_logits_ith(context, -1)[0]

    def empty():
        lib.llama_memory_clear(lib.llama_get_memory(context), True)

    feed(16)
    first = (time.perf_counter() - start) * 1e3
    empty()
    feed(job["prompt"])
    empty()
    start = time.perf_counter()
    feed(job["prompt"])
    pp = job["prompt"] / (time.perf_counter() - start)
    empty()
    steps = []
    for i in range(job["tokens"]):
        start = time.perf_counter()
        feed(1, i)
        steps.append(time.perf_counter() - start)
    print(json.dumps({"pp": pp, "tg": len(steps) / sum(steps), "first_ms": first, "mb": resident("VmHWM") - before,
                      "steps": steps}))


def output(words):
    p = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=900)
    if p.returncode:
        sys.exit(f"{words}: {p.stderr.strip()}")
    return p.stdout


def ours(args, pack, threads):
    words = [args.run, "bench", pack, "-t", threads, "-p", args.prompt, "-n", args.tokens, "--repeat", 1, "--json"]
    rows = {row["test"][:2]: row for row in json.loads(output(words))}
    start = time.perf_counter()
    output([args.run, "bench", pack, "-t", threads, "-p", 16, "-n", 0, "--repeat", 1, "--warmup", 0, "--json"])
    first = (time.perf_counter() - start) * 1e3
    return {"pp": rows["pp"]["avg_ts"], "tg": rows["tg"]["avg_ts"], "first_ms": first, "mb": rows["tg"]["peak_rss"] / 1e6,
            "size": rows["tg"]["model_size"]}


def theirs(args, model, threads):
    job = {"model": str(model), "threads": threads, "prompt": args.prompt, "tokens": args.tokens}
    return json.loads(output([sys.executable, __file__, "--worker", json.dumps(job)]).splitlines()[-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("pairs", nargs="*", metavar="MODEL.gguf=MODEL.pack")
    p.add_argument("--run", help="the edge-run program")
    p.add_argument("--threads", default="1")
    p.add_argument("--prompt", type=int, default=256)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--busy", action="store_true")
    p.add_argument("--json", help="write every round here")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker:
        return worker(json.loads(args.worker))
    if not args.run or not args.pairs:
        p.error("--run and at least one MODEL.gguf=MODEL.pack are needed")
    limits = json.loads(output([args.run, "bench", "--limits", "--json"]))
    results = []
    neighbour = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", "while True: pass"]) if args.busy else None
    try:
        print("| model | threads | who | pp tok/s | tg tok/s | GB/s of weights | first token ms | MB |\n|---|---|---|---|---|---|---|---|")
        for pair in args.pairs:
            model, _, pack = pair.partition("=")
            for threads in map(int, args.threads.split(",")):
                rounds = []
                for turn in range(args.rounds):
                    calls = [("ours", lambda: ours(args, pack, threads)), ("theirs", lambda: theirs(args, model, threads))]
                    rounds.append({who: call() for who, call in (calls if turn % 2 else calls[::-1])})
                results.append({"model": pathlib.Path(model).name, "threads": threads, "rounds": rounds})
                middle = lambda who, what: statistics.median(r[who][what] for r in rounds)
                size = rounds[0]["ours"]["size"]
                for who, label, size in (("ours", "edge-run", size), ("theirs", "llama.cpp", pathlib.Path(model).stat().st_size)):
                    print(f"| {pathlib.Path(model).name} | {threads} | {label} | {middle(who, 'pp'):.0f} | {middle(who, 'tg'):.0f} "
                          f"| {middle(who, 'tg') * size / 1e9:.1f} | {middle(who, 'first_ms'):.0f} | {middle(who, 'mb'):.0f} |")
                ratio = lambda what: statistics.median(r["ours"][what] / r["theirs"][what] for r in rounds)
                print(f"| | {threads} | ratio | {ratio('pp'):.2f} | {ratio('tg'):.2f} | | {ratio('first_ms'):.2f} | {ratio('mb'):.2f} |")
                sys.stdout.flush()
    finally:
        if neighbour:
            neighbour.kill()
    print("\nlimits of this machine:", json.dumps(limits))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
