"""Normalization over neighbouring channels, and over a batch."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.cpu.channel_sums import along_channels, mean_and_variance, moments, spread


def local_response_norm(
    x: Float[ArrayLike, "... C"], *, radius: int = 2, alpha: float = 2e-5, beta: float = 0.75, bias: float = 1.0
) -> Float[Array, "... C"]:
    """Divide each number by what its neighbours among the channels, and it itself, amount to.

    y[c] = x[c] / (bias + alpha * sum over d from c - radius to c + radius of x[d]**2)**beta

    The defaults are those of AlexNet as it is trained today: PyTorch's size 5 and alpha 1e-4, which is divided by 5.

    Args:
        x: the last axis is that of the channels.
        radius: neighbours on either side, 0 or above.
        alpha: of the squares, 0 or above.
        beta: the power, 0 or above.
        bias: above 0, so that nothing is divided by 0.

    Returns:
        An array of the same shape and dtype.

    Raises:
        InputError: if an argument is out of its range.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.3.
    """
    for name, value, ok in (
        ("radius", radius, isinstance(radius, int) and radius >= 0),
        ("alpha", alpha, alpha >= 0),
        ("beta", beta, beta >= 0),
    ):
        if not ok:
            raise InputError(f"local_response_norm: `{name}` must be 0 or above; got {value!r}.")
    if not bias > 0:
        raise InputError(f"local_response_norm: `bias` must be above 0; got {bias!r}.")
    x = jnp.asarray(x)
    squares = jnp.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(radius, radius)])
    channels = x.shape[-1]
    near = (lax.slice_in_dim(squares, d, d + channels, axis=-1) for d in range(2 * radius + 1))
    total = bias + alpha * functools.reduce(jnp.add, near)
    if beta == 0.75:  # roots take a quarter of the time of a power
        root = lax.rsqrt(total)
        return x * root * jnp.sqrt(root)
    return x * total**-beta


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def normalize_batch(
    x: Float[Array, "... C"], scale: Float[Array, " C"], bias: Float[Array, " C"], epsilon: float = 1e-5
) -> tuple[Float[Array, "... C"], Float[Array, " C"], Float[Array, " C"]]:
    """Normalize each channel by its own mean and variance over all other axes, scale it and add a bias.

    Args:
        x: the last axis is that of the channels.
        scale: gamma of the paper.
        bias: beta of the paper.
        epsilon: added to the variance, above 0.

    Returns:
        `batch_norm` of x with these statistics, the mean, and the (biased) variance, both in float32 at least.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithm 1.
    """
    mean, variance = mean_and_variance(x)
    return batch_norm(x, mean, variance, scale, bias, epsilon=epsilon), mean, variance


# A rule of its own needs two sums over the batch for the whole gradient, where JAX would derive one for each place
# where mean and variance are used; and it keeps x alone for the backward pass.


@normalize_batch.defjvp
def _(epsilon: float, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[tuple, tuple]:
    x, scale, bias = primals
    dx, dscale, dbias = tangents
    y, mean, variance = normalize_batch(x, scale, bias, epsilon)
    root = lax.rsqrt(variance + epsilon)
    dmean, covariance = moments(dx, x, mean) / (x.size // x.shape[-1])
    factor = root * scale
    slope = root * (dscale - covariance * scale * root**2)
    dy = dx * along_channels(factor, x).astype(x.dtype) + spread(jnp.stack([dbias - dmean * factor, slope]), x, mean)
    return (y, mean, variance), (dy, dmean, 2 * covariance)


def batch_norm(
    x: Float[Array, "... C"],
    mean: Float[Array, " C"],
    variance: Float[Array, " C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "... C"]:
    """Normalize each channel: y = (x - mean) / sqrt(variance + epsilon) * scale + bias.

    Args:
        x: the last axis is that of the channels.
        mean: of each channel: of the batch, as `normalize_batch` returns it, or a running one.
        variance: of each channel.
        scale: gamma of the paper.
        bias: beta of the paper.
        epsilon: above 0.

    Returns:
        An array of the same shape and dtype.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithm 1.
    """
    factor = lax.rsqrt(variance + epsilon) * scale.astype(variance.dtype)
    shift = bias.astype(mean.dtype) - mean * factor
    return x * along_channels(factor, x).astype(x.dtype) + along_channels(shift, x).astype(x.dtype)
