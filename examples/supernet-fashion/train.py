"""Trains the elastic CNN once on Fashion-MNIST and writes each subnet as an ONNX file.

Every step follows the sandwich rule (Yu and Huang 2019, "Universally Slimmable Networks and
Improved Training Techniques"): the largest subnet learns from the labels; the smallest and one
random middle subnet learn from the largest one's output of the same step (in-place distillation).
The files are rewritten after every epoch, so that an interrupted run leaves usable subnets.
"""

import argparse
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx

import data
import export
import model

BATCH = 128
PEAK_LEARNING_RATE = 0.06
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
WARMUP_STEPS = 200
# Batch statistics are averaged over this many training images for the exported normalisation.
STATISTICS_IMAGES = 6000
STATISTICS_BATCH = 500


def learning_rate(step, steps):
    """Linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return PEAK_LEARNING_RATE * warm * 0.5 * (1 + np.cos(np.pi * step / steps))


def loss(params, middle, x, labels):
    """Sandwich loss, and the largest subnet's cross entropy and accuracy for the log."""
    teacher, _ = model.forward(params, model.LARGEST, x)
    log_p = jax.nn.log_softmax(teacher)
    cross_entropy = -jnp.take_along_axis(log_p, labels[:, None], 1).mean()
    soft = jax.lax.stop_gradient(jnp.exp(log_p))
    total = cross_entropy
    for student in (middle, model.SUBNETS[0]):
        logits, _ = model.forward(params, student, x)
        total += -(soft * jax.nn.log_softmax(logits)).sum(1).mean()
    accuracy = (teacher.argmax(1) == labels).mean()
    return total, (cross_entropy, accuracy)


@functools.partial(jax.jit, static_argnames="middle", donate_argnames=("params", "velocity"))
def train_step(params, velocity, middle, x, labels, rate):
    """One step of SGD with Nesterov momentum; returns the new state and the log values."""
    grads, log = jax.grad(loss, has_aux=True)(params, middle, x, labels)

    def decayed(p, g):
        # Only matrices and kernels: decay of scales and biases costs accuracy and saves nothing.
        return g + WEIGHT_DECAY * p if p.ndim > 1 else g

    grads = jax.tree.map(decayed, params, grads)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
    params = jax.tree.map(lambda p, v, g: p - rate * (MOMENTUM * v + g), params, velocity, grads)
    return params, velocity, log


@functools.partial(jax.jit, static_argnames="subnet")
def batch_statistics(params, subnet, x):
    """Means and variances of every normalised layer on one batch."""
    return model.forward(params, subnet, x)[1]


def write_subnets(params, images, folder):
    """Re-estimates each subnet's statistics on `images` (u8) and writes `folder`/NAME.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    for subnet in model.SUBNETS:
        batches = [
            batch_statistics(params, subnet, as_input(images[i : i + STATISTICS_BATCH]))
            for i in range(0, len(images), STATISTICS_BATCH)
        ]
        stats = jax.tree.map(lambda *values: np.mean(values, 0), *batches)
        onnx.save(export.build(params, subnet, stats), folder / f"{subnet.name}.onnx")


def as_input(images):
    return images.astype(np.float32) / 255.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    parser.add_argument("--out", type=Path, default=Path("models"))
    args = parser.parse_args()

    images, labels = data.load("train", args.data)
    rng = np.random.default_rng(args.seed)
    statistics_images = images[rng.permutation(len(images))[:STATISTICS_IMAGES]]
    params = jax.tree.map(jnp.asarray, model.init(args.seed))
    velocity = jax.tree.map(jnp.zeros_like, params)

    per_epoch = len(images) // BATCH
    steps, step, start = args.epochs * per_epoch, 0, time.time()
    for epoch in range(args.epochs):
        order, log = rng.permutation(len(images)), []
        for i in range(per_epoch):
            pick = order[i * BATCH : (i + 1) * BATCH]
            x = as_input(images[pick])
            mirrored = rng.random(BATCH) < 0.5
            x[mirrored] = x[mirrored, :, :, ::-1]
            middle = model.SUBNETS[1 + rng.integers(len(model.SUBNETS) - 2)]
            rate = learning_rate(step, steps)
            y = labels[pick].astype(np.int32)
            params, velocity, values = train_step(params, velocity, middle, x, y, rate)
            log.append(values)
            step += 1
            if step % 50 == 0:
                cross_entropy, accuracy = np.mean(log[-50:], 0)
                print(
                    f"epoch {epoch + 1}/{args.epochs} step {step}/{steps} "
                    f"{time.time() - start:.0f} s  {model.LARGEST.name}: "
                    f"loss {cross_entropy:.3f} accuracy {accuracy:.3f}",
                    flush=True,
                )
        write_subnets(params, statistics_images, args.out)
        print(f"epoch {epoch + 1}: wrote {args.out}", flush=True)


if __name__ == "__main__":
    main()
