"""Layers that keep numbers at one scale, and dropout."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape, Work, function
from lenet_jax.ops.normalization import batch_norm, local_response_norm, normalize_batch
from lenet_jax.types import Key, Variables


def local_response_normalization(
    *, radius: int = 2, alpha: float = 2e-5, beta: float = 0.75, bias: float = 1.0
) -> Layer:
    """Divide each number by what its neighbours among the channels amount to; see `local_response_norm`."""
    return function(lambda x: local_response_norm(x, radius=radius, alpha=alpha, beta=beta, bias=bias))


def batch_normalization(*, momentum: float = 0.9, epsilon: float = 1e-5, initial_scale: float = 1.0) -> Layer:
    """Normalize each channel over the batch, scale it and add a bias.

    While it trains, mean and variance are those of the batch; otherwise those in the state, which are running means of
    them: running = momentum * running + (1 - momentum) * batch, where the variance is the unbiased one, as in PyTorch.
    So what a trained network says of an example does not depend on the others in its batch.

    Args:
        momentum: of the running means, 0 to 1.
        epsilon: added to the variance, above 0.
        initial_scale: what the scale starts at; 0 in the last one of a residual block makes it the identity at first
            (Goyal et al. 2017, section 5.1).

    Raises:
        InputError: if an argument is out of its range, or, in training, there is one number a channel in a batch.

    Source: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """
    if not 0 <= momentum <= 1 or not epsilon > 0:
        raise InputError(
            f"batch_normalization: `momentum` must be 0 to 1 and `epsilon` above 0; got {momentum!r} and {epsilon!r}."
        )

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        zeros, ones = jnp.zeros(shape[-1], jnp.float32), jnp.ones(shape[-1], jnp.float32)
        return Variables({"scale": initial_scale * ones, "bias": zeros}, {"mean": zeros, "variance": ones}), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        params, state = variables
        if not train:
            return batch_norm(x, **state, **params, epsilon=epsilon), state
        count = x.size // x.shape[-1]
        if count < 2:
            raise InputError(
                f"batch_normalization: a batch needs two numbers a channel while it trains; got shape {x.shape}; "
                "use larger batches or images."
            )
        y, mean, variance = normalize_batch(x, params["scale"], params["bias"], epsilon)
        batch = {"mean": mean, "variance": variance * (count / (count - 1))}
        running = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, state, batch)
        return y, running

    def work(params: dict[str, Array], shape: Shape) -> Work:
        positions = math.prod(shape[:-1])
        return Work(2 * positions * shape[-1], 0)  # joins the convolution before it, once it is trained

    return Layer(init, apply, work=work)


def dropout(rate: float) -> Layer:
    """Set each number to 0 with probability `rate` while it trains, and divide the others by 1 - rate.

    Raises:
        InputError: if the rate is not from 0 to below 1, or there is no key while it trains.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 10.
    """
    if not 0 <= rate < 1:
        raise InputError(f"dropout: `rate` must be from 0 to below 1; got {rate!r}.")

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        return Variables({}, {}), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train or rate == 0:
            return x, {}
        if key is None:
            raise InputError("dropout: `key` must be given while the model trains; pass a jax.random.key.")
        kept = jax.random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x)), {}

    return Layer(init, apply)
