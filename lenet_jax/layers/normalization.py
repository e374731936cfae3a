"""Batch and local response normalization as layers."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, function
from lenet_jax.ops.arguments import to_number
from lenet_jax.ops.windows import to_int
from lenet_jax.types import Key, Variables


def batch_normalization(*, momentum: float = 0.9, epsilon: float = 1e-5, initial_scale: float = 1.0) -> Layer:
    """Normalize each channel over the batch, scale it and add a bias.

    In training, mean and variance are those of the batch. Otherwise they are running averages from the state:
    running = momentum * running + (1 - momentum) * batch, where the variance is the unbiased one, as in PyTorch.
    So at inference an output does not depend on the rest of the batch.

    Args:
        momentum: decay of the running averages, 0 to 1.
        epsilon: added to the variance, above 0.
        initial_scale: initial value of the scale; with 0 in its last normalization a residual block is initially the
            identity (Goyal et al. 2017, section 5.1).

    Raises:
        InputError: if an argument is out of its range; in training, if a batch has one value per channel only.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithms 1 and 2.
    """
    name = "batch_normalization"
    momentum = to_number(name, "momentum", momentum, "from 0 to 1", lambda number: 0 <= number <= 1)
    epsilon = to_number(name, "epsilon", epsilon, "above 0", lambda number: number > 0)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        none, ones = jnp.zeros(shape[-1], jnp.float32), jnp.ones(shape[-1], jnp.float32)
        return Variables(
            {"scale": jnp.asarray(initial_scale, jnp.float32) * ones, "bias": none}, {"mean": none, "variance": ones}
        ), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        params, state = variables
        if not train:
            return ops.batch_norm(x, **state, **params, epsilon=epsilon), state
        count = x.size // x.shape[-1]
        if isinstance(count, int) and count < 2:  # it is symbolic in a program for any number of images
            raise InputError(
                f"batch_normalization: `x` needs at least 2 values per channel in training; got shape {x.shape}; "
                "use larger batches or images."
            )
        y, mean, variance = ops.normalize_batch(x, params["scale"], params["bias"], epsilon)
        batch = {"mean": mean, "variance": variance * (count / (count - 1))}
        running = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, state, batch)
        return y, running

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        positions = math.prod(shape[:-1])
        return Cost(2 * positions * shape[-1], 0)  # no products: after training it can be merged into a convolution

    return Layer(init, apply, cost=cost)


def local_response_normalization(
    *, radius: int = 2, alpha: float = 2e-5, beta: float = 0.75, bias: float = 1.0
) -> Layer:
    """Normalize each value by the squared values of nearby channels; see `lenet_jax.ops.local_response_norm`.

    Args:
        radius: number of channels on each side, 0 or more.
        alpha: factor of the sum of squares, 0 or more.
        beta: exponent, 0 or more.
        bias: added to the sum, above 0.

    Raises:
        InputError: if an argument is out of its range.
    """
    name = "local_response_normalization"
    radius = to_int(name, "radius", radius, least=0)
    bias = to_number(name, "bias", bias, "above 0", lambda number: number > 0)
    alpha = to_number(name, "alpha", alpha, "0 or above", lambda number: number >= 0)
    beta = to_number(name, "beta", beta, "0 or above", lambda number: number >= 0)
    return function(lambda x: ops.local_response_norm(x, depth_radius=radius, alpha=alpha, beta=beta, bias=bias))
