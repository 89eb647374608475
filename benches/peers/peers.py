#!/usr/bin/env python3
"""Times edge-run and its peers on the same models, shapes and threads, in turns.

    peers.py --run edge-run --packs DIR [--models ppocr-det,...] [--peers onnxruntime,...] [--threads 1,2]
             [--rounds 5] [--runs 15] [--json OUT.json]

DIR holds NAME.pack for each model, as tests/reference/compare.py leaves them (with --convert-arg=--keep-float, so that a float
rung is there). In each round every contender runs once, in a process of its own, the order turning from round to round:
some warm-up runs, then --runs timed ones, of which the median counts. Ours are the best float rung, the best integer rung and the
fastest one of at least 20 dB, each with products of f32 and (`edge-run RUNG bf16`) with --bf16 --bake. Printed for each contender: the median over the rounds
in ms, the least and the greatest round, MB resident at the peak above the empty process, and the ms from a path to the first
result; of ours the last two are of the whole process, its start included.
Under it, the ratios of ours to each peer's: the median over the rounds of the ratio within a round, so that what
disturbs the machine for a while disturbs both.

Peers: onnxruntime, onnxruntime-int8 (its static quantisation, calibrated on noise: for time alone), openvino (f32), openvino-bf16
(what OpenVINO does by itself where the CPU has it), ncnn (where MODEL.ncnn.param and .bin lie in --ncnn DIR, made by pnnx), mnn (where
MODEL.mnn lies in --mnn DIR, made by mnnconvert).
The first call makes a Python environment in target/peers-venv; the models come from tests/models/fetch.py.
"""
import argparse
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements.txt"
# name: (entry of tests/models, file, {input: (type, dims)})
MODELS = {
    "ppocr-det": ("rapidocr", "ch_PP-OCRv4_det_infer.onnx", {"x": ("float32", [1, 3, 640, 640])}),
    "ppocr-rec": ("rapidocr", "ch_PP-OCRv4_rec_infer.onnx", {"x": ("float32", [1, 3, 48, 320])}),
    "ppocr-cls": ("rapidocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": ("float32", [1, 3, 48, 192])}),
    "nudenet": ("nudenet", "320n.onnx", {"images": ("float32", [1, 3, 320, 320])}),
    "magika": ("magika", "model.onnx", {"bytes": ("int32", [1, 2048])}),
    "basic-pitch": ("basic-pitch", "nmp.onnx", {"serving_default_input_2:0": ("float32", [1, 43844, 1])}),
    # Converted by hand: compare.py takes another export of it.
    "silero-vad-openvino": ("silero-vad", "silero_vad_openvino_16k.onnx",
                            {"input": ("float32", [1, 576]), "state": ("float32", [2, 1, 128])}),
    "efficientnet-lite0": ("efficientnet-lite0", "efficientnet-lite0.onnx", {"input": ("float32", [1, 3, 224, 224])}),
}
PEERS = ["onnxruntime", "onnxruntime-int8", "openvino", "openvino-bf16", "ncnn", "mnn"]
WARMUP = 5
QUALITY = 20  # dB, signal to noise of the outputs, of the fastest integer rung that is asked for


class Missing(Exception):
    """A contender cannot run here; the text says why."""


# ---- one peer, in its own process -----------------------------------------------------------------------
def resident(field):
    """MB of this process: VmHWM (most so far) or VmRSS."""
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) / 1000
    return 0.0


def inputs(spec):
    """Seeded noise, the same for every peer."""
    import numpy as np
    rng = np.random.default_rng(1)
    made = {}
    for name, (dtype, dims) in spec.items():
        made[name] = rng.integers(0, 256, dims).astype(dtype) if "int" in dtype else rng.random(dims, dtype) * 2 - 1
    return made


def onnxruntime_peer(model, threads, feeds):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    yield
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    yield lambda: session.run(None, feeds)


def openvino_peer(model, threads, feeds, precision):
    import openvino
    yield
    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape({name: list(x.shape) for name, x in feeds.items()})
    request = core.compile_model(graph, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    yield lambda: [value.copy() for value in request.infer(feeds).values()]


def ncnn_peer(model, threads, feeds, folder):
    stem = pathlib.Path(folder or "") / pathlib.Path(model).name.removesuffix(".onnx")
    if not folder or not pathlib.Path(f"{stem}.ncnn.param").is_file():
        raise Missing(f"no {stem.name}.ncnn.param in --ncnn")
    import ncnn
    import numpy as np
    yield
    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
        raise Missing("the model does not load")
    arrays = [np.ascontiguousarray(x[0]) for x in feeds.values()]

    def run():
        extractor = net.create_extractor()
        for name, x in zip(net.input_names(), arrays):
            extractor.input(name, ncnn.Mat(x))
        found = [extractor.extract(name) for name in net.output_names()]
        if any(code for code, _ in found):
            raise Missing("extraction fails")
        return [np.array(value) for _, value in found]
    yield run


def mnn_peer(model, threads, feeds, folder):
    stored = pathlib.Path(folder or "") / pathlib.Path(model).with_suffix(".mnn").name
    if not folder or not stored.is_file():
        raise Missing(f"no {stored.name} in --mnn")
    import MNN
    import numpy as np
    yield
    net = MNN.Interpreter(str(stored))
    session = net.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
    kinds, layout = {"f": MNN.Halide_Type_Float, "i": MNN.Halide_Type_Int}, MNN.Tensor_DimensionType_Caffe
    there, arrays = net.getSessionInputAll(session), []
    for name, x in feeds.items():
        # Names may have been changed; MNN has no integers of 64 bits.
        to = there.get(name) or there.get(name.replace(":", "_")) or next(iter(there.values()))
        net.resizeTensor(to, x.shape)
        x = x.astype("int32") if x.dtype == np.int64 else x
        arrays.append((to, MNN.Tensor(x.shape, kinds[x.dtype.kind], x, layout)))
    net.resizeSession(session)

    def run():
        for to, x in arrays:
            to.copyFrom(x)
        net.runSession(session)
        results = []
        for found in net.getSessionOutputAll(session).values():
            shape = found.getShape()
            host = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, "float32"), layout)
            found.copyToHostTensor(host)
            results.append(np.array(host.getData()))
        return results
    yield run


def quantised(model, feeds):
    """The model statically quantised to QDQ, kept beside the environment."""
    import logging
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    folder = ROOT / "target" / "peers-int8"
    digest = hashlib.sha256(pathlib.Path(model).read_bytes()).hexdigest()[:16]
    target = folder / f"{digest}.onnx"
    if target.is_file():
        return str(target)
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)

    class Noise(CalibrationDataReader):
        left = [feeds] * 2

        def get_next(self):
            return self.left.pop() if self.left else None
    prepared, partial = folder / f"{digest}.prepared.onnx", folder / f"{digest}.partial.onnx"
    graph = onnx.load(model)
    if max(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx")) < 13:  # scales per channel came with it
        graph = version_converter.convert_version(graph, 13)
    onnx.save(graph, str(prepared))
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(partial), Noise(), quant_format=QuantFormat.QDQ, per_channel=True,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)
    partial.rename(target)
    prepared.unlink()
    return str(target)


def worker(job):
    """Runs one peer and prints one line of JSON."""
    feeds, peer, model = inputs(job["inputs"]), job["peer"], job["model"]
    if peer == "onnxruntime-int8":
        model = quantised(model, feeds)
    if job["prepare"]:
        return
    steps = {"onnxruntime": lambda: onnxruntime_peer(model, job["threads"], feeds),
             "onnxruntime-int8": lambda: onnxruntime_peer(model, job["threads"], feeds),
             "openvino": lambda: openvino_peer(model, job["threads"], feeds, "f32"),
             "openvino-bf16": lambda: openvino_peer(model, job["threads"], feeds, "bf16"),
             "ncnn": lambda: ncnn_peer(model, job["threads"], feeds, job["ncnn"]),
             "mnn": lambda: mnn_peer(model, job["threads"], feeds, job["mnn"])}[peer]()
    next(steps)  # imports are not part of loading
    before, start = resident("VmRSS"), time.perf_counter()
    run = next(steps)
    run()
    load = (time.perf_counter() - start) * 1e3
    for _ in range(WARMUP):
        run()
    samples = []
    for _ in range(job["runs"]):
        start = time.perf_counter()
        run()
        samples.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"ms": statistics.median(samples), "load_ms": load, "mb": resident("VmHWM") - before}))


# ---- the table ------------------------------------------------------------------------------------------
def environment():
    """The Python of the peers' environment; made when it is missing or of other requirements."""
    root = ROOT / "target" / "peers-venv"
    python, mark = root / "bin" / "python", root / "made-from"
    if not (mark.is_file() and mark.read_text() == REQUIREMENTS.read_text()):
        venv.create(root, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS],
                       check=True)
        mark.write_text(REQUIREMENTS.read_text())
    return str(python)


def output(words):
    p = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=900)
    if p.returncode:
        raise Missing((p.stderr.strip() or "no message").splitlines()[-1][:200])
    return p.stdout


def time_peer(python, job):
    return json.loads(output([python, __file__, "--worker", json.dumps(job)]).splitlines()[-1])


def time_ours(args, pack, flags, shapes, threads):
    words = [args.run, "bench", pack, *flags, *shapes, "-t", threads]
    start = time.perf_counter()
    output([*words, "--warmup", 0, "--repeat", 1, "--json"])
    load = (time.perf_counter() - start) * 1e3
    found = json.loads(output([*words, "--warmup", WARMUP, "--repeat", args.runs, "--json"]))
    # Our whole process is what it costs; the peers' interpreter is left out of theirs.
    return {"ms": found["ms"]["p50"], "load_ms": load, "mb": found["peak_rss"] / 1e6}


def our_rungs(args, card, pack, shapes, threads):
    """{label: flags} of the best float rung, the best integer rung and the fastest one of at least QUALITY, each also with its products of
    floats by bf16."""
    value = lambda rung: rung["quality"]["value"]
    floats, integers = ([r for r in card["rungs"] if r["acts"] == acts] for acts in ("f32", "i8"))
    rungs = [max(kind, key=value)["id"] for kind in (floats, integers) if kind]
    enough = [r["id"] for r in integers if value(r) >= QUALITY]
    if enough:
        took = {rung: time_ours(args, pack, ["--rung", rung], shapes, threads)["ms"] for rung in enough}
        rungs.append(min(enough, key=took.get))
    rungs = list(dict.fromkeys(rungs))
    plain = {f"edge-run {rung}": ["--rung", rung] for rung in rungs}
    return plain | {f"edge-run {rung} bf16": ["--rung", rung, "--bf16", "--bake"] for rung in rungs}


def our_shapes(card, spec):
    """The flags that give an input with free dimensions its shape; none for a pack whose shapes are fixed."""
    free = {i["name"] for i in card["inputs"] if any(not isinstance(d, int) for d in i["dims"])}
    return [f"--shape={name}={','.join(map(str, dims))}" for name, (_, dims) in spec.items() if name in free]


def measure(args, python, name, threads):
    """{contender: [a result a round]} and {contender: why it is missing}."""
    entry, file, spec = MODELS[name]
    model = output([sys.executable, ROOT / "tests" / "models" / "fetch.py", entry]).splitlines()
    model = next(path for path in model if path.endswith(file))
    pack = pathlib.Path(args.packs) / f"{name}.pack"
    card = json.loads(output([args.run, "inspect", pack, "--json"]))
    shapes, contenders, missing = our_shapes(card, spec), {}, {}
    for label, flags in our_rungs(args, card, pack, shapes, threads).items():
        contenders[label] = lambda flags=flags: time_ours(args, pack, flags, shapes, threads)
    for peer in args.peers:
        job = {"peer": peer, "model": model, "inputs": spec, "threads": threads, "runs": args.runs, "ncnn": args.ncnn,
               "mnn": args.mnn}
        try:
            output([python, __file__, "--worker", json.dumps({**job, "prepare": True})])
            contenders[peer] = lambda job=job: time_peer(python, {**job, "prepare": False})
        except Missing as why:
            missing[peer] = str(why)
    rounds = {label: [] for label in contenders}
    order = list(contenders)
    for turn in range(args.rounds):
        for label in order[turn % len(order):] + order[:turn % len(order)]:
            if label in missing:
                continue
            try:
                rounds[label].append(contenders[label]())
            except Missing as why:
                missing[label] = str(why)
    return {label: found for label, found in rounds.items() if label not in missing}, missing


def report(name, threads, rounds, missing):
    print(f"\n{name}, {threads} thread{'s' if threads > 1 else ''}\n")
    print("| contender | ms | least .. greatest round | MB | path to first result, ms |\n|---|---|---|---|---|")
    for label, found in rounds.items():
        ms = [f["ms"] for f in found]
        print(f"| {label} | {statistics.median(ms):.3f} | {min(ms):.3f} .. {max(ms):.3f} "
              f"| {statistics.median(f['mb'] for f in found):.0f} | {statistics.median(f['load_ms'] for f in found):.0f} |")
    for label, why in missing.items():
        print(f"| {label} | - | {why} | | |")
    ratios = {}
    for ours in (label for label in rounds if label.startswith("edge-run ")):
        for peer in (label for label in rounds if not label.startswith("edge-run ")):
            pairs = zip(rounds[ours], rounds[peer])
            ratios.setdefault(ours, {})[peer] = statistics.median(a["ms"] / b["ms"] for a, b in pairs)
    for ours, found in ratios.items():
        print(f"{ours} takes " + ", ".join(f"{ratio:.2f} x {peer}" for peer, ratio in found.items()))
    sys.stdout.flush()
    return ratios


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", help="the edge-run program")
    p.add_argument("--packs", help="folder of NAME.pack")
    split = lambda text: [part for part in text.split(",") if part]
    p.add_argument("--models", type=split, default=list(MODELS))
    p.add_argument("--peers", type=split, default=PEERS)
    p.add_argument("--threads", type=split, default=["1"])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--runs", type=int, default=15)
    p.add_argument("--ncnn", help="folder of the models that pnnx made")
    p.add_argument("--mnn", help="folder of the models that mnnconvert made")
    p.add_argument("--json", help="write every round here")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker:
        try:
            return worker(json.loads(args.worker))
        except Missing as why:
            sys.exit(str(why))
    if not args.run or not args.packs:
        p.error("--run and --packs are needed")
    unknown = [m for m in args.models if m not in MODELS] + [x for x in args.peers if x not in PEERS]
    if unknown:
        p.error(f"unknown: {', '.join(unknown)}; models are {', '.join(MODELS)}; peers are {', '.join(PEERS)}")
    os.environ.pop("EDGE_THREADS", None)
    python, results = environment(), []
    for threads in map(int, args.threads):
        for name in args.models:
            if not (pathlib.Path(args.packs) / f"{name}.pack").is_file():
                print(f"\n{name}: no {name}.pack in {args.packs}")
                continue
            rounds, missing = measure(args, python, name, threads)
            ratios = report(name, threads, rounds, missing)
            results.append({"model": name, "threads": threads, "rounds": rounds, "missing": missing, "ratios": ratios})
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
