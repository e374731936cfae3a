"""Objectives: what to minimize and what to report."""

import jax.numpy as jnp
import lenet_jax as lj
import optax
from lenet_jax.config.checks import Positive


def huber(*, delta: Positive = 0.2) -> lj.Objective:
    """Return the Huber loss; the mean absolute error decides which weights are best.

    Args:
        delta: size of an error in meters from which the loss grows linearly.
    """

    def loss(outputs, targets):
        assert outputs.shape == targets.shape, (outputs.shape, targets.shape)  # (N, 1) - (N,) would be (N, N)
        return optax.huber_loss(outputs, targets, delta=delta).mean(axis=-1)  # one value an example, (N,)

    def error(outputs, targets):
        return jnp.abs(outputs - targets).mean(axis=-1)

    return lj.Objective(loss, {"error": error}, monitor="error", mode="min")
