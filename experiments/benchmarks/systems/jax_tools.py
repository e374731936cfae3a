"""What the systems on JAX share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.benchmarks import problem


def device_name() -> str:
    """Return "cpu" or the name of the GPU."""
    return jax.devices()[0].device_kind


def sum_of_magnitudes(*arrays: Array) -> float:
    """Return the sum of the absolute values, in float64."""
    return float(sum(np.abs(np.asarray(array)).sum(dtype=np.float64) for array in arrays))


def make_optimizer(task: problem.Training) -> optax.GradientTransformation:
    """Return the optimizer of a task, straight from Optax."""
    return {"sgd": optax.sgd, "adam": optax.adam}[task.optimizer](task.learning_rate)


def make_batches(task: problem.Training) -> tuple[Array, Array]:
    """Return all batches of an epoch on the device: images (steps, batch, H, W, C) and labels (steps, batch)."""
    images, labels = problem.make_scaled_images(task.images)
    shape = (task.steps, task.batch)
    return jnp.array(images.reshape(*shape, *images.shape[1:])), jnp.array(labels.reshape(shape))
