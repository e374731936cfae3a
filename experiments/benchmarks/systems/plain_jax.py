"""JAX as most examples write it: lax.conv_general_dilated, lax.reduce_window and Optax, a jitted step a call."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.benchmarks import problem
from experiments.benchmarks.systems.commands import Swept, sweep_with_plain_jax
from experiments.benchmarks.systems.jax_tools import device_name, make_batches, make_optimizer

__all__ = ["device_name", "logits", "sweep", "train"]

Params = dict[str, dict[str, Array]]
State = tuple[Params, optax.OptState]


def logits(network: problem.Network, params: Params, x: Array) -> Array:
    """Return the logits of images (N, H, W, C)."""
    activation = getattr(jax.nn, network.activation)
    pool = (1, problem.POOL_SIZE, problem.POOL_SIZE, 1)
    for name in ("conv1", "conv2"):
        x = lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), network.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = lax.reduce_window(x + params[name]["bias"], -jnp.inf, lax.max, pool, pool, "VALID")
        x = activation(x)
    x = x.reshape(x.shape[0], -1)
    if network.hidden is not None:
        x = activation(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return x @ params["softmax"]["kernel"] + params["softmax"]["bias"]


def train(task: problem.Training, *, scan: bool = False) -> tuple[float, list[float]]:
    """Train by a jitted step a call, or with the same steps inside `lax.scan`, a jitted epoch a call."""
    optimizer = make_optimizer(task)

    def step(state: State, batch: tuple[Array, Array]) -> tuple[State, Array]:
        params, opt_state = state

        def loss_fn(params: Params) -> Array:
            scores = logits(task.network, params, batch[0])
            return optax.softmax_cross_entropy_with_integer_labels(scores, batch[1]).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    params = jax.tree.map(jnp.array, problem.make_weights(task.network))
    state = (params, optimizer.init(params))
    epoch_batches = make_batches(task)
    batches = [jax.tree.map(operator.itemgetter(number), epoch_batches) for number in range(task.steps)]
    jit_step = jax.jit(step, donate_argnums=0)
    jit_epoch = jax.jit(functools.partial(lax.scan, step), donate_argnums=0)

    def run_epoch() -> float:
        nonlocal state
        losses = []
        if scan:
            state, losses = jit_epoch(state, epoch_batches)
        else:
            for batch in batches:
                state, loss = jit_step(state, batch)
                losses.append(loss)
        jax.block_until_ready(state)
        return float(np.mean(jax.device_get(losses)))

    return run_epoch(), problem.time_calls(run_epoch, task.epochs)


def sweep(task: problem.Sweep, *, scan: bool = False, seeds: int | None = None) -> Swept:
    """Run the script `plain_jax_job` by Hydra's basic launcher."""
    return sweep_with_plain_jax(task, scan=scan, seeds=seeds)
