"""flax.nnx with Optax: nnx.Conv and nnx.max_pool, a jitted step a call on the split state.

The split form of the step is used because nnx.jit takes the module apart and together again at each call.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.benchmarks import problem
from experiments.benchmarks.systems.jax_tools import device_name, make_batches, make_optimizer

__all__ = ["device_name", "train"]


class _Network(nnx.Module):
    def __init__(self, network: problem.Network):
        shapes, rngs = problem.weight_shapes(network), nnx.Rngs(0)
        self.activation = getattr(nnx, network.activation)
        for name, shape in shapes.items():
            if name.startswith("conv"):
                layer = nnx.Conv(*shape[2:], shape[:2], padding=network.padding, rngs=rngs)
            else:
                layer = nnx.Linear(*shape, rngs=rngs)
            setattr(self, name, layer)
        for name, weights in problem.make_weights(network).items():
            getattr(self, name).kernel[...] = jnp.array(weights["kernel"])
            getattr(self, name).bias[...] = jnp.array(weights["bias"])

    def __call__(self, x: Array) -> Array:
        window = (problem.POOL_SIZE, problem.POOL_SIZE)
        for convolve in (self.conv1, self.conv2):
            x = self.activation(nnx.max_pool(convolve(x), window, window))
        x = x.reshape(x.shape[0], -1)
        if hasattr(self, "hidden"):
            x = self.activation(self.hidden(x))
        return self.softmax(x)


def train(task: problem.Training) -> tuple[float, list[float]]:
    """Train by a jitted step a call."""
    model = _Network(task.network)
    graph, state = nnx.split((model, nnx.Optimizer(model, make_optimizer(task), wrt=nnx.Param)))

    def step(state: nnx.State, images: Array, labels: Array) -> tuple[nnx.State, Array]:
        model, optimizer = nnx.merge(graph, state)

        def loss_fn(model: _Network) -> Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer)), loss

    jit_step = jax.jit(step, donate_argnums=0)
    batches = list(zip(*make_batches(task), strict=True))

    def run_epoch() -> float:
        nonlocal state
        losses = []
        for images, labels in batches:
            state, loss = jit_step(state, images, labels)
            losses.append(loss)
        jax.block_until_ready(state)
        return float(np.mean(jax.device_get(losses)))

    return run_epoch(), problem.time_calls(run_epoch, task.epochs)
