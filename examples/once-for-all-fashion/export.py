"""Writes largest.onnx and supernet.toml from a checkpoint, and checks random subnets against JAX.

The ONNX file is the largest network (opset 17): batch normalisation unfolded, the window transforms as initializers that no
node uses. The TOML file says which parts of it are elastic. The check applies the TOML to the ONNX file with NumPy alone
(`tests/reference/supernet.py`), runs the result with onnxruntime and compares it with the JAX network of the same choices.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "reference"))

import data
import export_cnn
import export_vit
import supernet
import train

WRITERS = {"cnn": export_cnn, "vit": export_vit}
STATISTICS_IMAGES = 6000
STATISTICS_BATCH = 500
CHECKED, CHECK_IMAGES, TOLERANCE = 10, 100, 1e-4


def check(network, params, largest, spec, images, seed):
    """The largest difference of logits, onnxruntime on the cut ONNX file against JAX, over random subnets."""
    rng, worst = np.random.default_rng(seed), 0.0
    for turn in range(CHECKED):
        chosen = network.SMALLEST if turn == 0 else supernet.random_choice(spec["choice"], rng)
        made = supernet.normalised_anew(supernet.subnet(largest, spec, chosen), images, len(images))
        ours = supernet.session(made).run(["logits"], {"input": images})[0]
        # On the very batch that the statistics are of, training mode and inference are the same function.
        theirs = np.asarray(network.forward(params, chosen, images))
        worst = max(worst, float(np.abs(ours - theirs).max()))
        if not worst <= TOLERANCE:
            sys.exit(f"subnet {chosen}: logits differ by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=WRITERS, default="cnn")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.npz"))
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("models"))
    args = parser.parse_args()

    network, writer = train.NETWORKS[args.network], WRITERS[args.network]
    params, _, epochs, _ = train.load(args.checkpoint)
    images, _ = data.load("train", args.data)
    chosen = np.random.default_rng(args.seed).permutation(len(images))[:STATISTICS_IMAGES]
    images = data.as_input(images[chosen])
    args.out.mkdir(parents=True, exist_ok=True)
    largest = supernet.normalised_anew(writer.build(params), images, STATISTICS_BATCH)
    # The transforms are in the file though no node uses them: a converter reads them by name.
    largest.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in params.items() if network.is_transform(n)
    )
    onnx.save(largest, args.out / "largest.onnx")
    (args.out / "supernet.toml").write_text(writer.describe())

    spec = supernet.read_toml(args.out / "supernet.toml")
    written = onnx.load(args.out / "largest.onnx")
    worst = check(network, params, written, spec, images[:CHECK_IMAGES], args.seed)
    size = (args.out / "largest.onnx").stat().st_size
    print(f"{epochs} epochs, {size:,} bytes, {supernet.parameters(largest):,} parameters of the largest network")
    print(f"{CHECKED} subnets, onnxruntime against JAX: logits differ by {worst:.1e} at most")


if __name__ == "__main__":
    main()
