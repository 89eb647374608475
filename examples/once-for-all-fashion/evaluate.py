"""Measures subnets of largest.onnx on the 10,000 test images; prints the README's tables, writes evaluated.json beside it.

Every subnet is cut from the ONNX file by models/supernet.toml and run with onnxruntime; its batch normalisation is
re-estimated on 2,000 training images. Networks that `train.py --alone` trained are measured in the same way from their
checkpoints, each next to the best subnet of no more parameters: the best of some random ones on 2,000 other training images.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "reference"))

import data
import export_cnn
import export_vit
import model
import supernet
import train
import vit

BUILD = {"cnn": export_cnn.build, "vit": export_vit.build}

BATCH = 500
STATISTICS_IMAGES = 2000
# Candidates next to a network trained alone have between this fraction of its parameters and all of them.
AT_LEAST = 0.85


def accuracy(proto, images, labels):
    """Fraction of f32 `images` whose largest logit is at their label."""
    run, right = supernet.session(proto), 0
    for i in range(0, len(images), BATCH):
        logits = run.run(["logits"], {"input": images[i : i + BATCH]})[0]
        right += int((logits.argmax(1) == labels[i : i + BATCH]).sum())
    return right / len(images)


class Evaluation:
    """The images, and what is measured on them."""

    def __init__(self, folder, seed):
        images, labels = data.load("train", folder)
        order = np.random.default_rng(seed).permutation(len(images))
        self.statistics = data.as_input(images[order[:STATISTICS_IMAGES]])
        chosen = order[STATISTICS_IMAGES : 2 * STATISTICS_IMAGES]
        self.choosing = data.as_input(images[chosen]), labels[chosen]
        images, labels = data.load("t10k", folder)
        self.test = data.as_input(images), labels

    def entry(self, name, largest, spec, chosen):
        """What evaluated.json says of a subnet."""
        made = supernet.subnet(largest, spec, chosen)
        made = supernet.normalised_anew(made, self.statistics, BATCH)
        return {
            "name": name,
            "accuracy": round(accuracy(made, *self.test), 4),
            "parameters": supernet.parameters(made),
            "macs": supernet.macs(made, [1, 1, model.SIZE, model.SIZE]),
            "choices": {n: spec["choice"][n][i] for n, i in chosen.items()},
        }

    def best_random(self, largest, spec, limit, candidates, rng):
        """The best on the choosing images of `candidates` random subnets of at most `limit` parameters."""
        best = (-1.0, None)
        while candidates:
            chosen = supernet.random_choice(spec["choice"], rng)
            # Small networks are rare among uniform draws of every choice: pull half of the choices down.
            if rng.random() < 0.5:
                top = rng.integers(1, 3)
                chosen = {n: min(i, int(rng.integers(top + 1))) for n, i in chosen.items()}
            made = supernet.subnet(largest, spec, chosen)
            if AT_LEAST * limit <= supernet.parameters(made) <= limit:
                candidates -= 1
                made = supernet.normalised_anew(made, self.statistics, BATCH)
                best = max(best, (accuracy(made, *self.choosing), chosen), key=lambda pair: pair[0])
        return best[1]


def rest(entry):
    """The last columns of every table."""
    return f"{entry['parameters']:,} | {entry['macs'] / 1e6:.2f} | {entry['accuracy']:.4f} |"


def vit_row(entry):
    """A line of the transformer's table."""
    c = entry["choices"]
    blocks = vit.BLOCKS[: c["depth"]]
    heads, ratios = ("".join(str(c[f"{b}.{kind}"]) for b in blocks) for kind in ("heads", "ffn"))
    return f"| {entry['name']} | {c['depth']} | {heads} | {ratios} | {rest(entry)}"


def row(entry):
    """A line of the CNN's table."""
    c = entry["choices"]
    depths = "/".join(str(c[f"stage{s}.depth"]) for s in range(1, len(model.STAGES) + 1))
    used = [b for b in model.BLOCKS if b.index <= c[f"stage{b.stage}.depth"]]
    expands, kernels = ("".join(str(c[f"{b.name}.{kind}"]) for b in used) for kind in ("expand", "kernel"))
    return f"| {entry['name']} | {c['resolution']} | {depths} | {expands} | {kernels} | {rest(entry)}"


ROWS = {"cnn": row, "vit": vit_row}
COLUMNS = {"cnn": "pixels | depths | expansions | windows", "vit": "blocks | heads | ratios"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=ROWS, default="cnn")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--alone", nargs="*", type=Path, default=[], help="checkpoints of train.py --alone")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=30, help="random subnets next to each of --alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    args = parser.parse_args()

    network = train.NETWORKS[args.network]
    largest = onnx.load(args.models / "largest.onnx")
    spec = supernet.read_toml(args.models / "supernet.toml")
    evaluation, rng = Evaluation(args.data, args.seed), np.random.default_rng(args.seed)
    chosen = [("smallest", network.SMALLEST), ("largest", network.LARGEST)]
    chosen += [(f"random {i}", supernet.random_choice(spec["choice"], rng)) for i in range(args.subnets)]

    columns = COLUMNS[args.network]
    print(f"| subnet | {columns} | parameters | million MACs | test accuracy |")
    print("|---" * (5 + columns.count("|")) + "|")
    entries, pairs = [], []

    def add(to, *what):
        to.append(evaluation.entry(*what))
        print(ROWS[args.network](to[-1]), flush=True)
        # After every subnet: what an interrupted run has measured is kept.
        report = {
            "seed": args.seed,
            "statistics_images": STATISTICS_IMAGES,
            "test_images": len(evaluation.test[0]),
            "subnets": entries,
            "alone_and_best_random": pairs,
        }
        (args.models / "evaluated.json").write_text(json.dumps(report, indent=1) + "\n")

    for name, subnet in chosen:
        add(entries, name, largest, spec, subnet)
    for path in args.alone:
        params, *_, alone = train.load(path)
        add(pairs, f"alone, {alone}", BUILD[args.network](params), spec, train.parse_alone(network, alone))
        if args.candidates:
            limit = pairs[-1]["parameters"]
            own = np.random.default_rng([args.seed, limit])
            best = evaluation.best_random(largest, spec, limit, args.candidates, own)
            add(pairs, "best random of that size", largest, spec, best)


if __name__ == "__main__":
    main()
