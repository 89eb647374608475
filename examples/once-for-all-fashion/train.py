"""Trains a supernet (`--network`) on Fashion-MNIST, or one subnet alone, and keeps a checkpoint after every epoch.

Schedules:
    deps         the largest network alone for half of the epochs, then all choices at once; the subnets' part of the loss
                 grows from 0 to 1 in the first third of that (delayed shrinking, as in DepS)
    progressive  the largest alone, then windows and resolutions, then depth, then widths (Cai et al. 2020)
    sandwich     all choices at once from the beginning (as in BigNAS, Yu et al. 2020)

While it shrinks, every step follows the sandwich rule (Yu and Huang 2019): the largest network learns from the labels; the
smallest and random subnets learn from the largest one's output of the same step (in-place distillation).
"""

import argparse
import functools
import os
import time
from pathlib import Path

# One thread: these matrices are small, and a second thread costs more than it gives. Read when JAX starts.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np

import data
import model
import vit

NETWORKS = {"cnn": model, "vit": vit}
BATCH = 128
MOMENTUM = 0.9
LION_MIX, LION_DECAY = 0.9, 0.99
WARMUP_STEPS = 300


def learning_rate(peak, step, steps):
    """Linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return peak * warm * 0.5 * (1 + np.cos(np.pi * step / steps))


# The last part of a choice's name, in the order in which the progressive schedule lets them shrink.
KINDS = ("resolution", "kernel"), ("depth",), ("expand", "heads", "ffn")


def phase(schedule, done):
    """What shrinks after a fraction `done` of the training: (kinds of choices, weight of the subnets' loss)."""
    if schedule == "alone" or done < {"deps": 0.5, "progressive": 0.4, "sandwich": 0.0}[schedule]:
        return (), 0.0
    if schedule == "deps":
        return sum(KINDS, ()), min(1.0, (done - 0.5) * 6)
    if schedule == "sandwich":
        return sum(KINDS, ()), 1.0
    return sum(KINDS[: 1 + min(2, int((done - 0.4) * 5))], ()), 1.0


def restricted(network, subnet, kinds):
    """`subnet` with every choice of another kind at its largest option."""
    return {n: i if n.rsplit(".")[-1] in kinds else network.LARGEST[n] for n, i in subnet.items()}


def sample(network, rng):
    """A random subnet, {choice: index}.

    Each kind of choice draws how large it likes to be, evenly from 0 to 1, and every choice of that kind follows. Where all
    choices draw on their own, next to no subnet is small everywhere, and the small ones are what a device with little
    memory picks: of eight widths of three options all are the smallest once in 6,561 draws, here once in 17.
    """
    leaning, out = {}, {}
    for name, options in network.CHOICES.items():
        kind = name.rsplit(".")[-1]
        if kind not in leaning:
            leaning[kind] = rng.uniform()
        out[name] = int(rng.binomial(len(options) - 1, leaning[kind]))
    return out


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def updated(network, params, velocity, grads, rate):
    """One step of SGD with Nesterov momentum, or of Lion (Chen et al. 2023), which a transformer needs and which also
    keeps one value a parameter."""
    new_params, new_velocity = {}, {}
    for name, p in params.items():
        v, g = velocity[name], grads[name]
        # Only weights: decay of scales and biases costs accuracy, and a transform has no reason to be near zero.
        decay = network.WEIGHT_DECAY * p if name.endswith(".weight") else 0.0
        if network.OPTIMIZER == "lion":
            step = jnp.sign(LION_MIX * v + (1 - LION_MIX) * g) + decay
            v = LION_DECAY * v + (1 - LION_DECAY) * g
        else:
            g = g + decay
            v = MOMENTUM * v + g
            step = MOMENTUM * v + g
        new_params[name], new_velocity[name] = p - rate * step, v
    return new_params, new_velocity


@functools.partial(jax.jit, static_argnames=("network", "subnet"), donate_argnames=("params", "velocity"))
def alone_step(params, velocity, network, subnet, x, labels, rate):
    """One subnet, `subnet` as items of {choice: index}, learns from the labels. Window transforms stay as they are."""

    def loss(params):
        logits = network.forward(params, dict(subnet), x)
        return cross_entropy(logits, labels), (logits.argmax(1) == labels).mean()

    (value, accuracy), grads = jax.value_and_grad(loss, has_aux=True)(params)
    grads = {n: jnp.zeros_like(g) if network.is_transform(n) else g for n, g in grads.items()}
    return *updated(network, params, velocity, grads, rate), (value, accuracy, 0.0)


@functools.partial(
    jax.jit, static_argnames=("network", "smallest", "fixed"), donate_argnames=("params", "velocity")
)
def shrinking_step(params, velocity, network, smallest, fixed, subnets, x, labels, rate, weight):
    """The sandwich rule. `subnets`: {choice: traced index} each; `fixed`: items of their choices in network.STATIC."""

    def loss(params):
        teacher = network.forward(params, network.LARGEST, x)
        soft = jax.lax.stop_gradient(jax.nn.softmax(teacher))
        students = [dict(smallest)] + [{**s, **dict(known)} for s, known in zip(subnets, fixed)]
        distilled = 0.0
        for student in students:
            logits = network.forward(params, student, x)
            distilled += -(soft * jax.nn.log_softmax(logits)).sum(1).mean()
        own = cross_entropy(teacher, labels)
        log = (own, (teacher.argmax(1) == labels).mean(), distilled / len(students))
        return own + weight * distilled, log

    grads, log = jax.grad(loss, has_aux=True)(params)
    return *updated(network, params, velocity, grads, rate), log


def parse_alone(network, text):
    """"depth=2,expand=2,kernel=2": the subnet with the second option (1 is the smallest) of every choice of that kind.

    A choice with fewer options takes its last, and a kind that is not named the largest.
    """
    subnet = dict(network.LARGEST)
    for part in text.split(","):
        kind, _, value = part.partition("=")
        names = [n for n in network.CHOICES if n.rsplit(".")[-1] == kind]
        if not names or not value.isdigit() or not 1 <= int(value) <= 3:
            raise SystemExit(f"--alone: `{part}` is no kind of choice (depth, expand, ...) with = 1, 2 or 3")
        subnet.update({n: min(int(value), len(network.CHOICES[n])) - 1 for n in names})
    return subnet


def save(path, params, velocity, epoch, alone):
    part = path.with_suffix(".part.npz")
    np.savez(part, epoch=epoch, alone=alone, **params, **{f"velocity/{n}": v for n, v in velocity.items()})
    part.replace(path)


def load(path):
    """({tensor: array}, {tensor: velocity}, epochs done, the text of --alone)."""
    with np.load(path) as file:
        params = {n: file[n] for n in file.files if n not in ("epoch", "alone") and not n.startswith("velocity/")}
        velocity = {n: file[f"velocity/{n}"] for n in params}
        return params, velocity, int(file["epoch"]), str(file["alone"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="cnn")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--schedule", choices=("deps", "progressive", "sandwich"), default="deps")
    parser.add_argument("--alone", default="", help="one subnet: depth=D,expand=E,kernel=K,resolution=R; 1 is the smallest")
    parser.add_argument("--randoms", type=int, default=1, help="random subnets a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DIR)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.npz"), help="written; goes on from it")
    args = parser.parse_args()

    images, labels = data.load("train", args.data)
    network = NETWORKS[args.network]
    params, start = network.init(args.seed), 0
    velocity = {n: np.zeros_like(p) for n, p in params.items()}
    if args.checkpoint.exists():
        params, velocity, start, of = load(args.checkpoint)
        if of != args.alone:
            raise SystemExit(f"{args.checkpoint} is of --alone `{of}`, not `{args.alone}`: name another --checkpoint")
    params, velocity = jax.tree.map(jnp.asarray, (params, velocity))
    alone = parse_alone(network, args.alone) if args.alone else network.LARGEST
    schedule = "alone" if args.alone else args.schedule

    per_epoch, began, log = len(images) // BATCH, time.time(), []
    steps = args.epochs * per_epoch
    for epoch in range(start, args.epochs):
        # Of the epoch, not of the run: a run that goes on draws what an uninterrupted one would have drawn.
        rng = np.random.default_rng([args.seed, epoch])
        order = rng.permutation(len(images))
        for i in range(per_epoch):
            step = epoch * per_epoch + i
            chosen = order[i * BATCH : (i + 1) * BATCH]
            x = data.as_input(data.augmented(images[chosen], rng))
            y, rate = labels[chosen].astype(np.int32), learning_rate(network.PEAK_LEARNING_RATE, step, steps)
            kinds, weight = phase(schedule, step / steps)
            if kinds:
                drawn = [restricted(network, sample(network, rng), kinds) for _ in range(args.randoms)]
                fixed = tuple(tuple((n, s[n]) for n in network.STATIC) for s in drawn)
                drawn = [{n: np.int32(i) for n, i in s.items() if n not in network.STATIC} for s in drawn]
                smallest = tuple(restricted(network, network.SMALLEST, kinds).items())
                params, velocity, values = shrinking_step(
                    params, velocity, network, smallest, fixed, drawn, x, y, rate, weight
                )
            else:
                subnet = tuple(alone.items())
                params, velocity, values = alone_step(params, velocity, network, subnet, x, y, rate)
            log.append(values)
            if (i + 1) % 50 == 0:
                own, accuracy, distilled = np.mean(log, 0)
                log = []
                print(
                    f"epoch {epoch + 1}/{args.epochs} step {i + 1}/{per_epoch} {time.time() - began:.0f} s "
                    f"({time.process_time():.0f} s CPU)  loss {own:.3f} accuracy {accuracy:.3f} "
                    f"distilled {distilled:.3f}",
                    flush=True,
                )
        save(args.checkpoint, params, velocity, epoch + 1, args.alone)


if __name__ == "__main__":
    main()
