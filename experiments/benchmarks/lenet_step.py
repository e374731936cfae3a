"""Time a training step of LeNet inside our epoch program against PyTorch: python experiments/benchmarks/lenet_step.py.

LeNet 20-50-500, batch 500, float32, plain SGD on the same 5,000 random images in the same order. Each system runs in a
process of its own with the same number of threads; the processes alternate for several rounds. The loss of the first
epoch is compared before any time is reported.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

BATCH, NUM_IMAGES, LEARNING_RATE, EPOCHS = 500, 5000, 0.1, 4
STEPS = NUM_IMAGES // BATCH


def make_arrays():
    """Return the images, the labels and the same initial weights for both."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = {"conv1": (5, 5, 1, 20), "conv2": (5, 5, 20, 50), "hidden": (800, 500), "softmax": (500, 10)}
    params = {
        name: {
            "kernel": rng.uniform(-0.08, 0.08, shape).astype(np.float32),
            "bias": np.zeros(shape[-1], np.float32),
        }
        for name, shape in shapes.items()
    }
    images = rng.integers(0, 256, (NUM_IMAGES, 28, 28, 1)).astype(np.uint8)
    return images, rng.integers(0, 10, NUM_IMAGES).astype(np.int32), params


def time_ours():
    """Return the mean loss of the first epoch and the seconds a step of each later one."""
    import functools

    import jax

    import lenet_jax as lj
    from lenet_jax import training
    from lenet_jax.config import SgdConfig, TrainerConfig
    from lenet_jax.types import Variables

    images, labels, params = make_arrays()
    few = lj.Split(images[:1], labels[:1])  # the validation is a part of the program: one image of it
    data = jax.device_put(lj.Dataset(lj.Split(images, labels), few, few))
    model = lj.create_model("lenet")
    optimizer = lj.make_optimizer(SgdConfig(learning_rate=LEARNING_RATE))
    config = TrainerConfig(batch_size=BATCH, max_epochs=EPOCHS + 1, shuffle=False)
    state = training.init_train_state(model, optimizer, config, jax.random.key(0), {})
    state = state._replace(variables=Variables(jax.tree.map(jax.numpy.asarray, params), {}))
    advance = jax.jit(functools.partial(training.train_interval, model, optimizer, config), donate_argnums=0)
    state, evaluation = jax.block_until_ready(advance(state, data))
    loss, seconds = float(evaluation.train_loss), []
    for _ in range(EPOCHS):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(advance(state, data))
        seconds.append((time.perf_counter() - begin) / STEPS)
    return loss, seconds


def time_torch():
    """The same in PyTorch: eager, channels_last."""
    import numpy as np
    import torch
    from torch.nn import functional

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    images, labels, params = make_arrays()
    pixels = (
        torch.tensor(images.astype(np.float32) / 256).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    )
    labels = torch.tensor(labels).long()
    weights = {}
    for name, layer in params.items():
        kernel = torch.tensor(layer["kernel"])
        if kernel.ndim == 4:
            kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        weights[name] = (kernel.requires_grad_(), torch.tensor(layer["bias"]).requires_grad_())
    optimizer = torch.optim.SGD([w for pair in weights.values() for w in pair], lr=LEARNING_RATE)

    def step(x, y):
        for name in ("conv1", "conv2"):
            x = torch.tanh(functional.max_pool2d(functional.conv2d(x, *weights[name]), 2))
        x = x.permute(0, 2, 3, 1).flatten(1)
        for name in ("hidden", "softmax"):
            x = x @ weights[name][0] + weights[name][1]
            x = torch.tanh(x) if name == "hidden" else x
        loss = functional.cross_entropy(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    losses, seconds = [], []
    for epoch in range(EPOCHS + 1):
        begin = time.perf_counter()
        for start in range(0, NUM_IMAGES, BATCH):
            loss = step(pixels[start : start + BATCH], labels[start : start + BATCH])
            if epoch == 0:
                losses.append(float(loss))
        if epoch > 0:
            seconds.append((time.perf_counter() - begin) / STEPS)
    return sum(losses) / len(losses), seconds


SYSTEMS = {"ours": time_ours, "torch": time_torch}


def main():
    """Alternate the systems and print medians and the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system:
        print(json.dumps(SYSTEMS[arguments.system]()))
        return
    medians = {name: [] for name in SYSTEMS}
    for number in range(arguments.rounds):
        losses = {}
        for name in SYSTEMS:
            done = subprocess.run(
                [sys.executable, __file__, "--system", name], capture_output=True, text=True, check=True
            )
            losses[name], seconds = json.loads(done.stdout.splitlines()[-1])
            medians[name].append(1000 * statistics.median(seconds))
        if abs(losses["ours"] - losses["torch"]) > 1e-4:
            sys.exit(f"the systems do not compute the same: mean loss of the first epoch {losses}")
        row = ", ".join(f"{name} {values[-1]:.1f} ms" for name, values in medians.items())
        print(f"round {number + 1}: {row}, ratio {medians['ours'][-1] / medians['torch'][-1]:.2f}", flush=True)
    ratios = [a / b for a, b in zip(medians["ours"], medians["torch"], strict=True)]
    summary = ", ".join(f"{name} {statistics.median(values):.1f} ms" for name, values in medians.items())
    print(f"median of {arguments.rounds} rounds: {summary}, ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
